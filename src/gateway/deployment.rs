//! A deployment: one provider's model, with everything a request to it needs prepared.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{
    HeaderValue, Uri,
    header::{ACCEPT_ENCODING, AUTHORIZATION, USER_AGENT},
};

use super::{Cooldown, Model};
use crate::{
    api::{cost::Price, operation::Operation},
    config::{self, BaseUrl, Config, ProviderKind},
    http_client::{Limits, Origin, RequestHead},
    telemetry::{Attribute, Counter, Registry, catalog, instruments::DeploymentInstruments},
};

/// One `[providers.NAME]`.
#[derive(Debug)]
pub struct Provider {
    pub name: String,
    pub transport: Transport,
    pub include_usage: bool,
    pub first_byte_timeout: Duration,
    pub idle_timeout: Duration,
    pub answer_timeout: Duration,
    pub stream_timeout: Duration,
    pub max_event_bytes: usize,
    pub max_usage_bytes: usize,
    pub connections_opened: Counter,
}

/// How a provider is reached.
#[derive(Debug)]
pub enum Transport {
    Http(Box<HttpTransport>),
    /// Answers inside the gateway, one event per `delay`.
    Echo {
        delay: Duration,
    },
}

/// A provider behind HTTP.
#[derive(Debug)]
pub struct HttpTransport {
    pub origin: Origin,
    pub limits: Limits,
    /// What every request begins with, by operation, the provider key included.
    heads: Vec<RequestHead>,
}

/// One place that serves a model.
#[derive(Debug)]
pub struct Deployment {
    pub cooldown: Arc<Cooldown>,
    pub provider: Arc<Provider>,
    /// The model's name at the provider.
    pub model: String,
    pub price: Option<Price>,
    /// `provider/model`, for `x-tollgate-deployment`.
    pub label: HeaderValue,
    pub instruments: DeploymentInstruments,
}

pub(super) fn providers(config: &Config, registry: &Registry) -> Result<Vec<Arc<Provider>>, String> {
    let mut providers = Vec::with_capacity(config.providers.len());
    for provider in &config.providers {
        let transport = match (provider.kind, &provider.base_url) {
            (ProviderKind::Echo, _) => Transport::Echo { delay: provider.echo_delay },
            (ProviderKind::Openai, Some(base_url)) => {
                Transport::Http(Box::new(HttpTransport::new(provider, base_url)?))
            }
            (ProviderKind::Openai, None) => return Err(format!("providers.{}: base_url is missing", provider.name)),
        };
        let attributes = [Attribute::owned("tollgate.provider", &*provider.name)];
        let connections_opened: Counter = registry.counter(&catalog::UPSTREAM_CONNECTIONS, &attributes);
        connections_opened.create(());
        providers.push(Arc::new(Provider {
            name: provider.name.clone(),
            transport,
            include_usage: provider.include_usage,
            first_byte_timeout: provider.first_byte_timeout,
            idle_timeout: provider.idle_timeout,
            answer_timeout: provider.answer_timeout,
            stream_timeout: provider.stream_timeout,
            max_event_bytes: provider.max_event_bytes,
            max_usage_bytes: provider.max_usage_bytes,
            connections_opened,
        }));
    }
    Ok(providers)
}

impl HttpTransport {
    fn new(provider: &config::Provider, url: &BaseUrl) -> Result<Self, String> {
        let wrong = |why: String| format!("providers.{}: {why}", provider.name);
        let origin = Origin::new(url.tls, &url.host, url.port).map_err(wrong)?;
        let authorization = match &provider.api_key {
            None => None,
            Some(key) => {
                let header = HeaderValue::from_str(&format!("Bearer {}", key.expose()));
                Some(header.map_err(|_| wrong("api_key has characters that no header can carry".into()))?)
            }
        };
        let heads = Operation::ALL.iter().map(|operation| {
            let target = format!("{}{}", url.path, operation.upstream_path());
            let target = target.parse::<Uri>().map_err(|error| wrong(format!("base_url: {error}")))?;
            let mut head = RequestHead::post(&target, &origin);
            // Usage has to be read from the answer, so it must not be compressed.
            head.push(&ACCEPT_ENCODING, &HeaderValue::from_static("identity"));
            head.push(&USER_AGENT, &HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))));
            if let Some(authorization) = &authorization {
                head.push(&AUTHORIZATION, authorization);
            }
            Ok(head)
        });
        let heads = heads.collect::<Result<_, String>>()?;
        let limits = Limits {
            connect: provider.connect_timeout,
            lookup: provider.dns_timeout,
            addresses: provider.addresses,
            head_bytes: provider.max_head_bytes,
            head_lines: provider.max_headers,
        };
        Ok(Self { origin, limits, heads })
    }

    /// What every request for an operation begins with.
    pub fn head(&self, operation: Operation) -> &RequestHead {
        // Made from the same list.
        &self.heads[operation as usize]
    }
}

impl Deployment {
    pub(super) fn new(
        model: &str,
        deployment: &config::Deployment,
        provider: &Arc<Provider>,
        cooldown: config::Cooldown,
        previous: Option<&Model>,
        registry: &Registry,
    ) -> Result<Self, String> {
        let upstream_model = &*deployment.model;
        let label = format!("{}/{upstream_model}", provider.name);
        let label = HeaderValue::from_str(&label).map_err(|_| format!("{label:?} cannot stand in a header"))?;
        let mut fixed = vec![
            Attribute::owned("gen_ai.provider.name", &*provider.name),
            Attribute::owned("gen_ai.request.model", upstream_model),
            Attribute::owned("tollgate.model", model),
        ];
        if let Transport::Http(http) = &provider.transport {
            fixed.push(Attribute::owned("server.address", &*http.origin.host));
            fixed.push(Attribute::int("server.port", i64::from(http.origin.port)));
        }
        let instruments = DeploymentInstruments::bind(registry, &fixed);
        let same = previous.and_then(|model| model.deployments.iter().find(|deployment| deployment.label == label));
        let cooldown = match same.filter(|deployment| deployment.cooldown.has(cooldown)) {
            Some(same) => {
                same.cooldown.has_new_credentials(&instruments);
                Arc::clone(&same.cooldown)
            }
            None => {
                instruments.cooling.set((), 0);
                Arc::new(Cooldown::new(cooldown, Instant::now()))
            }
        };
        Ok(Self {
            cooldown,
            provider: Arc::clone(provider),
            model: upstream_model.to_owned(),
            price: deployment.price,
            label,
            instruments,
        })
    }
}
