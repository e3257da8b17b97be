//! THE METRIC TABLE: every metric the gateway emits, one line each.
//!
//! To add one: a line here, a handle in `instruments.rs`, and a record where it happens. Names,
//! units and buckets follow the OpenTelemetry HTTP and GenAI conventions; ours start with
//! `tollgate.`. The README's table and `tollgate metrics` are made from this one.

use super::attribute::attribute_enum;

/// How a metric's points behave.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A monotonic sum.
    Counter,
    /// A monotonic sum that somebody else keeps, such as the kernel; it is read, never added to.
    ObservableCounter,
    /// A sum that goes up and down.
    UpDownCounter,
    /// A present value.
    Gauge,
    /// A distribution over these upper bounds, in the metric's unit.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The instrument's name in the documentation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter | Self::ObservableCounter => "counter",
            Self::UpDownCounter => "up-down counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }

    /// Whether it only grows.
    pub const fn is_monotonic(self) -> bool {
        matches!(self, Self::Counter | Self::ObservableCounter)
    }
}

/// The instrumentation scope: GenAI conventions have a schema of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    General,
    GenAi,
}

impl Scope {
    pub const ALL: &'static [Self] = &[Self::General, Self::GenAi];

    pub const fn name(self) -> &'static str {
        match self {
            Self::General => "tollgate",
            Self::GenAi => "tollgate.gen_ai",
        }
    }

    pub const fn schema_url(self) -> &'static str {
        match self {
            Self::General => "https://opentelemetry.io/schemas/1.44.0",
            Self::GenAi => "https://opentelemetry.io/schemas/gen-ai/1.42.0",
        }
    }
}

attribute_enum! {
    /// The part of the gateway a metric belongs to; the headings of the documentation.
    pub enum Group: "group" {
        FrontDoor = "Front door",
        Deployments = "Deployments",
        Tokens = "Tokens and cost, by key and model",
        Gateway = "Gateway",
        Exporter = "Exporter",
        Process = "Process",
    }
}

/// One metric.
#[derive(Debug)]
pub struct Descriptor {
    pub name: &'static str,
    pub kind: Kind,
    /// UCUM, as OpenTelemetry writes it.
    pub unit: &'static str,
    /// What one recorded unit is in `unit`; `None` exports integers as they are.
    pub scale: Option<f64>,
    pub group: Group,
    pub attributes: &'static [&'static str],
    pub description: &'static str,
}

impl Descriptor {
    /// The scope it is exported under.
    pub fn scope(&self) -> Scope {
        if self.name.starts_with("gen_ai.") { Scope::GenAi } else { Scope::General }
    }

    /// Its place in the table.
    pub fn position(&'static self) -> usize {
        CATALOG.iter().position(|other| std::ptr::eq(*other, self)).unwrap_or(usize::MAX)
    }
}

macro_rules! catalog {
    ($($id:ident: $group:ident, $name:literal, $kind:expr, $unit:literal, $scale:expr, [$($attribute:literal),*], $description:literal;)+) => {
        $(
            #[doc = $description]
            pub static $id: Descriptor = Descriptor {
                name: $name,
                kind: $kind,
                unit: $unit,
                scale: $scale,
                group: Group::$group,
                attributes: &[$($attribute),*],
                description: $description,
            };
        )+

        /// Every metric, in the order it is documented and exported.
        pub static CATALOG: &[&Descriptor] = &[$(&$id),+];
    };
}

/// Recorded in nanoseconds, exported in seconds.
const NANOS: Option<f64> = Some(1e-9);
/// Recorded in nano-USD, exported in USD.
const NANO_USD: Option<f64> = Some(1e-9);
/// Recorded as the integer it is.
const WHOLE: Option<f64> = None;

/// HTTP conventions, `http.server.request.duration`.
const HTTP_SECONDS: Kind =
    Kind::Histogram(&[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]);
/// GenAI conventions, `gen_ai.client.operation.duration`.
const GEN_AI_SECONDS: Kind =
    Kind::Histogram(&[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]);
/// GenAI conventions, `gen_ai.client.token.usage`.
const GEN_AI_TOKENS: Kind = Kind::Histogram(&[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
]);
/// The HTTP conventions advise none for sizes; these reach the default body limit of 32 MiB.
const BODY_BYTES: Kind = Kind::Histogram(&[
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    33_554_432.0,
]);
/// The gateway's own share of a request is some ten microseconds, so the range starts there.
const OVERHEAD_SECONDS: Kind = Kind::Histogram(&[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1,
]);

#[rustfmt::skip]
catalog! {
    HTTP_SERVER_REQUEST_DURATION: FrontDoor, "http.server.request.duration", HTTP_SECONDS, "s", NANOS, ["http.request.method", "http.route", "http.response.status_code", "error.type", "url.scheme"], "Duration of requests to the gateway, from head to last byte.";
    HTTP_SERVER_ACTIVE_REQUESTS: FrontDoor, "http.server.active_requests", Kind::UpDownCounter, "{request}", WHOLE, ["http.request.method", "url.scheme"], "Requests being served.";
    HTTP_SERVER_REQUEST_BODY_SIZE: FrontDoor, "http.server.request.body.size", BODY_BYTES, "By", WHOLE, ["http.request.method", "http.route", "url.scheme"], "Size of request bodies as read.";
    HTTP_SERVER_RESPONSE_BODY_SIZE: FrontDoor, "http.server.response.body.size", BODY_BYTES, "By", WHOLE, ["http.request.method", "http.route", "url.scheme"], "Size of response bodies as sent.";

    GEN_AI_DURATION: Deployments, "gen_ai.client.operation.duration", GEN_AI_SECONDS, "s", NANOS, ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port", "error.type"], "Duration of one attempt at a deployment, to its last byte.";
    GEN_AI_TOKEN_USAGE: Deployments, "gen_ai.client.token.usage", GEN_AI_TOKENS, "{token}", WHOLE, ["gen_ai.operation.name", "gen_ai.token.type", "gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Input and output tokens of one attempt, as the provider reports them.";
    GEN_AI_TIME_TO_FIRST_CHUNK: Deployments, "gen_ai.client.operation.time_to_first_chunk", GEN_AI_SECONDS, "s", NANOS, ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Time from sending a streaming request to the first bytes of its answer's body.";
    GEN_AI_TIME_PER_OUTPUT_CHUNK: Deployments, "gen_ai.client.operation.time_per_output_chunk", GEN_AI_SECONDS, "s", NANOS, ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Time between two deliveries of a streamed answer, after the first.";
    HTTP_CLIENT_ACTIVE_REQUESTS: Deployments, "http.client.active_requests", Kind::UpDownCounter, "{request}", WHOLE, ["gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Attempts in flight at a deployment.";
    ATTEMPTS: Deployments, "tollgate.attempts", Kind::Counter, "{attempt}", WHOLE, ["tollgate.outcome", "gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Attempts at a deployment by how they ended.";
    STREAMS_BROKEN: Deployments, "tollgate.streams.broken", Kind::Counter, "{stream}", WHOLE, ["gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Answers that broke off before their end.";
    USAGE_MISSING: Deployments, "tollgate.usage.missing", Kind::Counter, "{request}", WHOLE, ["gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Completed answers whose token usage could not be read.";
    COOLDOWNS: Deployments, "tollgate.cooldowns", Kind::Counter, "{cooldown}", WHOLE, ["tollgate.reason", "gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Times that a deployment began to be left out, by why.";
    DEPLOYMENT_STATE: Deployments, "tollgate.deployment.state", Kind::Gauge, "{state}", WHOLE, ["gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "0 while a deployment is in use, 1 while it is left out until an attempt succeeds.";
    RATE_LIMIT_REQUESTS: Deployments, "tollgate.upstream.rate_limit.remaining_requests", Kind::Gauge, "{request}", WHOLE, ["gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Requests left of the provider's rate limit, as the last answer that said so had it.";
    RATE_LIMIT_TOKENS: Deployments, "tollgate.upstream.rate_limit.remaining_tokens", Kind::Gauge, "{token}", WHOLE, ["gen_ai.provider.name", "gen_ai.request.model", "tollgate.model", "server.address", "server.port"], "Tokens left of the provider's rate limit, as the last answer that said so had it.";

    TOKENS: Tokens, "tollgate.tokens", Kind::Counter, "{token}", WHOLE, ["tollgate.key", "gen_ai.request.model", "gen_ai.token.type"], "Tokens by client key, requested model and type; cache and reasoning tokens are part of input and output.";
    COST: Tokens, "tollgate.cost.usd", Kind::Counter, "{USD}", NANO_USD, ["tollgate.key", "gen_ai.request.model"], "Cost in USD by client key and requested model, recorded in whole nano-USD: by the deployment's price, else as the provider reports it.";
    REQUESTS: Tokens, "tollgate.requests", Kind::Counter, "{request}", WHOLE, ["tollgate.key", "gen_ai.request.model", "tollgate.outcome"], "Model requests by client key, requested model and outcome.";

    OVERHEAD: Gateway, "tollgate.overhead.duration", OVERHEAD_SECONDS, "s", NANOS, ["gen_ai.operation.name"], "Time a request spent in the gateway before it was sent on, without waiting for the client's body.";
    ERRORS: Gateway, "tollgate.errors", Kind::Counter, "{error}", WHOLE, ["error.type"], "Requests that ended in an error or were cancelled, by cause.";
    RETRIES: Gateway, "tollgate.retries", Kind::Counter, "{attempt}", WHOLE, ["gen_ai.request.model"], "Attempts after the first of a request.";
    FALLBACKS: Gateway, "tollgate.fallbacks", Kind::Counter, "{request}", WHOLE, ["gen_ai.request.model"], "Requests answered by another deployment than the first.";
    RETRIES_REFUSED: Gateway, "tollgate.retries.refused", Kind::Counter, "{attempt}", WHOLE, ["gen_ai.request.model"], "Further attempts that there was no budget for (routing.retry_percent, routing.retries_per_second).";
    CLIENT_CANCELLED: Gateway, "tollgate.client.cancelled", Kind::Counter, "{request}", WHOLE, ["tollgate.phase"], "Requests whose client left before the answer was complete.";
    AUTH_DECISIONS: Gateway, "tollgate.auth.decisions", Kind::Counter, "{request}", WHOLE, ["tollgate.decision"], "Authentication and authorisation decisions.";
    CONNECTIONS_ACTIVE: Gateway, "tollgate.connections.active", Kind::UpDownCounter, "{connection}", WHOLE, [], "Client connections that are open.";
    CONNECTIONS_ACCEPTED: Gateway, "tollgate.connections.accepted", Kind::Counter, "{connection}", WHOLE, [], "Client connections accepted.";
    ACCEPT_ERRORS: Gateway, "tollgate.connections.accept_errors", Kind::Counter, "{error}", WHOLE, [], "Failures to accept a connection, such as too few file descriptors.";
    CONNECTIONS_REJECTED: Gateway, "tollgate.connections.rejected", Kind::Counter, "{connection}", WHOLE, ["tollgate.reason"], "Client connections closed at once because of a limit or a failed TLS handshake, or idle ones closed to make room (evicted).";
    MEMORY_PRESSURE: Gateway, "tollgate.memory.pressure", Kind::Gauge, "1", NANOS, [], "Resident memory as a part of server.memory_limit; from 0.85 on new requests are refused, from 0.95 on connections.";
    CONNECTION_TIMEOUTS: Gateway, "tollgate.connections.timeouts", Kind::Counter, "{connection}", WHOLE, ["tollgate.reason"], "Client connections closed because nothing came (first_byte, head, idle) or nothing was taken (write) for too long, or a TLS handshake was not done (handshake).";
    UPSTREAM_CONNECTIONS: Gateway, "tollgate.upstream.connections.opened", Kind::Counter, "{connection}", WHOLE, ["tollgate.provider"], "Connections opened to a provider.";
    CONFIG_RELOADS: Gateway, "tollgate.config.reloads", Kind::Counter, "{reload}", WHOLE, ["tollgate.outcome"], "Configurations read while running, by what came of it.";
    BUILD_INFO: Gateway, "tollgate.build.info", Kind::Gauge, "{build}", WHOLE, ["service.version"], "Always 1; the version is an attribute.";

    SDK_EXPORTED: Exporter, "otel.sdk.exporter.metric_data_point.exported", Kind::Counter, "{data_point}", WHOLE, ["otel.component.name", "otel.component.type", "server.address", "server.port", "error.type"], "Points whose export ended, by how; counted once per export, not per retry.";
    SDK_INFLIGHT: Exporter, "otel.sdk.exporter.metric_data_point.inflight", Kind::UpDownCounter, "{data_point}", WHOLE, ["otel.component.name", "otel.component.type", "server.address", "server.port"], "Points handed to an export that has not ended.";
    SDK_DURATION: Exporter, "otel.sdk.exporter.operation.duration", HTTP_SECONDS, "s", NANOS, ["otel.component.name", "otel.component.type", "server.address", "server.port", "error.type"], "Duration of one export, retries included.";
    EXPORT_LAST_SUCCESS_AGE: Exporter, "tollgate.export.last_success.age", Kind::Gauge, "s", NANOS, ["otel.component.name", "otel.component.type", "server.address", "server.port"], "Time since an export last succeeded; before the first one, time since start.";

    PROCESS_CPU_TIME: Process, "process.cpu.time", Kind::ObservableCounter, "s", NANOS, ["cpu.mode"], "CPU time of the process.";
    PROCESS_MEMORY_USAGE: Process, "process.memory.usage", Kind::UpDownCounter, "By", WHOLE, [], "Resident memory of the process.";
    PROCESS_THREAD_COUNT: Process, "process.thread.count", Kind::UpDownCounter, "{thread}", WHOLE, [], "Threads of the process.";
    PROCESS_FD_COUNT: Process, "process.unix.file_descriptor.count", Kind::UpDownCounter, "{file_descriptor}", WHOLE, [], "File descriptors the process has open.";
    PROCESS_UPTIME: Process, "process.uptime", Kind::Gauge, "s", NANOS, [], "Time since the process started.";
    PANICS: Process, "tollgate.panics", Kind::ObservableCounter, "{panic}", WHOLE, [], "Panics of the gateway: each is a bug, is logged, and ends one connection at most.";
    LOG_LINES_DROPPED: Process, "tollgate.log.lines.dropped", Kind::ObservableCounter, "{line}", WHOLE, ["tollgate.reason"], "Log lines that were not written: because they are not read fast enough (queue_full), of log.max_lines_per_second, or of an error (write_failed).";
}

/// The catalog as a Markdown document, as `tollgate metrics` prints it.
pub fn markdown() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        out.push_str(&format!(
            "### {}\n\n| metric | instrument | unit | attributes | meaning |\n|---|---|---|---|---|\n",
            group.as_str()
        ));
        for metric in CATALOG.iter().filter(|metric| metric.group == *group) {
            let attributes: Vec<String> = metric.attributes.iter().map(|key| format!("`{key}`")).collect();
            out.push_str(&format!(
                "| `{}` | {} | `{}` | {} | {} |\n",
                metric.name,
                metric.kind.as_str(),
                metric.unit,
                if attributes.is_empty() { "–".into() } else { attributes.join(", ") },
                metric.description
            ));
        }
        out.push('\n');
    }
    out
}
