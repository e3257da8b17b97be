//! Handles by the object that holds them: the server, a deployment, a key's share of a model.
//!
//! Binding happens when the configuration is resolved; recording is a field access.

use std::sync::Arc;

use super::{
    attribute::Attribute,
    catalog as metric,
    dimensions::{
        AuthDecision, CancelPhase, ConnectionTimeout, CooldownReason, Ending, Method, Outcome, Rejection, Reload,
        Scheme, Target, TokenType,
    },
    handle::{Counter, Gauge, Histogram, UpDownCounter},
    registry::Registry,
};
use crate::api::{error::ErrorKind, operation::Operation, rate_limit::Remaining, usage::Usage};

/// The gateway as an HTTP server.
#[derive(Debug)]
pub struct ServerInstruments {
    http: RequestInstruments,
    /// Only where there is TLS: they have a place for every status of every route.
    https: Option<RequestInstruments>,
    pub overhead: Histogram<Operation>,
    pub errors: Counter<ErrorKind>,
    pub cancelled: Counter<CancelPhase>,
    pub auth: Counter<AuthDecision>,
    pub connections: UpDownCounter,
    pub accepted: Counter,
    pub accept_errors: Counter,
    pub reloads: Counter<Reload>,
    pub rejected: Counter<Rejection>,
    pub timeouts: Counter<ConnectionTimeout>,
    pub memory_pressure: Gauge,
    /// Held, for a series ends with its last handle.
    _build_info: Gauge,
}

/// Requests of clients by the scheme of their connection.
#[derive(Debug)]
pub struct RequestInstruments {
    pub duration: Histogram<(Target, Ending)>,
    pub active: UpDownCounter<Method>,
    pub request_body: Histogram<Target>,
    pub response_body: Histogram<Target>,
}

impl RequestInstruments {
    fn bind(registry: &Registry, scheme: Scheme) -> Self {
        let scheme = [Attribute::text("url.scheme", scheme.as_str())];
        let requests = Self {
            duration: registry.histogram(&metric::HTTP_SERVER_REQUEST_DURATION, &scheme),
            active: registry.up_down_counter(&metric::HTTP_SERVER_ACTIVE_REQUESTS, &scheme),
            request_body: registry.histogram(&metric::HTTP_SERVER_REQUEST_BODY_SIZE, &scheme),
            response_body: registry.histogram(&metric::HTTP_SERVER_RESPONSE_BODY_SIZE, &scheme),
        };
        requests.active.create(Method::Post);
        requests
    }
}

impl ServerInstruments {
    /// Those of requests on a connection with this scheme.
    pub fn requests(&self, scheme: Scheme) -> &RequestInstruments {
        match (scheme, &self.https) {
            (Scheme::Https, Some(https)) => https,
            (Scheme::Http | Scheme::Https, _) => &self.http,
        }
    }

    /// How many requests are under way.
    pub fn under_way(&self) -> i64 {
        self.http.active.sum() + self.https.as_ref().map_or(0, |https| https.active.sum())
    }

    /// Binds them, with `has_tls` those of encrypted connections; everything whose attributes are known exists from now on, at 0.
    pub fn bind(registry: &Registry, has_tls: bool) -> Arc<Self> {
        let version = [Attribute::text("service.version", env!("CARGO_PKG_VERSION"))];
        let build_info: Gauge = registry.gauge(&metric::BUILD_INFO, &version);
        build_info.set((), 1);
        let server = Self {
            http: RequestInstruments::bind(registry, Scheme::Http),
            https: has_tls.then(|| RequestInstruments::bind(registry, Scheme::Https)),
            overhead: registry.histogram(&metric::OVERHEAD, &[]),
            errors: registry.counter(&metric::ERRORS, &[]),
            cancelled: registry.counter(&metric::CLIENT_CANCELLED, &[]),
            auth: registry.counter(&metric::AUTH_DECISIONS, &[]),
            connections: registry.up_down_counter(&metric::CONNECTIONS_ACTIVE, &[]),
            accepted: registry.counter(&metric::CONNECTIONS_ACCEPTED, &[]),
            accept_errors: registry.counter(&metric::ACCEPT_ERRORS, &[]),
            reloads: registry.counter(&metric::CONFIG_RELOADS, &[]),
            rejected: registry.counter(&metric::CONNECTIONS_REJECTED, &[]),
            memory_pressure: registry.gauge(&metric::MEMORY_PRESSURE, &[]),
            timeouts: registry.counter(&metric::CONNECTION_TIMEOUTS, &[]),
            _build_info: build_info,
        };
        ErrorKind::ALL.iter().for_each(|kind| server.errors.create(*kind));
        CancelPhase::ALL.iter().for_each(|phase| server.cancelled.create(*phase));
        Reload::ALL.iter().for_each(|outcome| server.reloads.create(*outcome));
        AuthDecision::ALL.iter().for_each(|decision| server.auth.create(*decision));
        server.connections.create(());
        server.memory_pressure.create(());
        server.accepted.create(());
        server.accept_errors.create(());
        Rejection::ALL.iter().for_each(|reason| server.rejected.create(*reason));
        ConnectionTimeout::ALL.iter().for_each(|reason| server.timeouts.create(*reason));
        Arc::new(server)
    }
}

/// One deployment, for which the gateway is the client.
#[derive(Debug)]
pub struct DeploymentInstruments {
    pub duration: Histogram<(Operation, Option<ErrorKind>)>,
    pub token_usage: Histogram<(Operation, TokenType)>,
    pub first_chunk: Histogram<Operation>,
    pub output_chunk: Histogram<Operation>,
    pub active: UpDownCounter,
    pub attempts: Counter<Outcome>,
    pub streams_broken: Counter,
    pub usage_missing: Counter,
    pub cooldowns: Counter<CooldownReason>,
    /// 1 while it is left out.
    pub cooling: Gauge,
    /// What is left of a rate limit: a series from the first answer on that says so.
    pub requests_left: Gauge,
    pub tokens_left: Gauge,
}

impl DeploymentInstruments {
    /// Binds them to the attributes of one deployment.
    pub fn bind(registry: &Registry, fixed: &[Attribute]) -> Self {
        let deployment = Self {
            duration: registry.histogram(&metric::GEN_AI_DURATION, fixed),
            token_usage: registry.histogram(&metric::GEN_AI_TOKEN_USAGE, fixed),
            first_chunk: registry.histogram(&metric::GEN_AI_TIME_TO_FIRST_CHUNK, fixed),
            output_chunk: registry.histogram(&metric::GEN_AI_TIME_PER_OUTPUT_CHUNK, fixed),
            active: registry.up_down_counter(&metric::HTTP_CLIENT_ACTIVE_REQUESTS, fixed),
            attempts: registry.counter(&metric::ATTEMPTS, fixed),
            streams_broken: registry.counter(&metric::STREAMS_BROKEN, fixed),
            usage_missing: registry.counter(&metric::USAGE_MISSING, fixed),
            cooldowns: registry.counter(&metric::COOLDOWNS, fixed),
            cooling: registry.gauge(&metric::DEPLOYMENT_STATE, fixed),
            requests_left: registry.gauge(&metric::RATE_LIMIT_REQUESTS, fixed),
            tokens_left: registry.gauge(&metric::RATE_LIMIT_TOKENS, fixed),
        };
        deployment.active.create(());
        Outcome::ALL.iter().for_each(|outcome| deployment.attempts.create(*outcome));
        deployment.streams_broken.create(());
        deployment.usage_missing.create(());
        CooldownReason::ALL.iter().for_each(|reason| deployment.cooldowns.create(*reason));
        deployment.cooling.create(());
        deployment
    }

    /// Records the token histograms of one answer.
    pub fn record_usage(&self, operation: Operation, usage: &Usage) {
        self.token_usage.record((operation, TokenType::Input), usage.input);
        // Embeddings have no output to report.
        if operation != Operation::Embeddings {
            self.token_usage.record((operation, TokenType::Output), usage.output);
        }
    }

    /// Sets what is left of the provider's rate limit, where an answer says so.
    pub fn set_remaining(&self, remaining: &Remaining) {
        if let Some(requests) = remaining.requests {
            self.requests_left.set((), requests.cast_signed());
        }
        if let Some(tokens) = remaining.tokens {
            self.tokens_left.set((), tokens.cast_signed());
        }
    }
}

/// One client key's share of one model.
#[derive(Debug)]
pub struct KeyModelInstruments {
    pub requests: Counter<Outcome>,
    pub tokens: Counter<TokenType>,
    /// In nano-USD; a series from the start where a price is configured, else from the first cost on.
    pub cost: Counter,
}

impl KeyModelInstruments {
    /// Binds them; with `create`, every series exists from now on, at 0.
    pub fn bind(registry: &Registry, key: &str, model: &str, create: bool) -> Self {
        let fixed = [Attribute::owned("tollgate.key", key), Attribute::owned("gen_ai.request.model", model)];
        let bound = Self {
            requests: registry.counter(&metric::REQUESTS, &fixed),
            tokens: registry.counter(&metric::TOKENS, &fixed),
            cost: registry.counter(&metric::COST, &fixed),
        };
        if create {
            Outcome::ALL.iter().for_each(|outcome| bound.requests.create(*outcome));
            TokenType::ALL.iter().for_each(|token_type| bound.tokens.create(*token_type));
        }
        bound
    }

    /// Adds the tokens of one answer.
    pub fn add_usage(&self, usage: &Usage) {
        self.tokens.add(TokenType::Input, usage.input);
        self.tokens.add(TokenType::Output, usage.output);
        self.tokens.add(TokenType::CacheRead, usage.cache_read);
        self.tokens.add(TokenType::CacheWrite, usage.cache_write);
        self.tokens.add(TokenType::Reasoning, usage.reasoning);
    }
}

/// One model, over all of its deployments.
#[derive(Debug)]
pub struct ModelInstruments {
    pub retries: Counter,
    pub fallbacks: Counter,
    pub refused: Counter,
}

impl ModelInstruments {
    /// Binds them to one model.
    pub fn bind(registry: &Registry, model: &str) -> Self {
        let fixed = [Attribute::owned("gen_ai.request.model", model)];
        let bound = Self {
            retries: registry.counter(&metric::RETRIES, &fixed),
            fallbacks: registry.counter(&metric::FALLBACKS, &fixed),
            refused: registry.counter(&metric::RETRIES_REFUSED, &fixed),
        };
        bound.retries.create(());
        bound.fallbacks.create(());
        bound.refused.create(());
        bound
    }
}
