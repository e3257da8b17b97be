//! What the operator wrote, resolved to values: file, environment and defaults in one [`Config`].
//!
//! Owns parsing, validation and secrets. Opens no socket and knows nothing of requests.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use self::secret::Secret;

mod secret;

/// Everything the program is told, validated: every reference inside it resolves.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: Server,
    pub providers: Vec<Provider>,
    pub models: Vec<Model>,
    pub keys: Vec<Key>,
    pub telemetry: Telemetry,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    pub listen: SocketAddr,
    /// Worker threads, each with a runtime, a listener and a connection pool of its own.
    pub threads: usize,
    pub body_bytes_max: usize,
    /// Longest wait between two reads of a request body.
    pub body_timeout: Duration,
    /// Longest wait for a whole request head.
    pub head_timeout: Duration,
    /// How long streams may go on after SIGTERM.
    pub drain_timeout: Duration,
}

/// `[providers.NAME]`.
#[derive(Debug, Clone)]
pub struct Provider {
    pub name: String,
    pub kind: ProviderKind,
    /// `None` for the built-in provider.
    pub base_url: Option<BaseUrl>,
    pub api_key: Option<Secret>,
    /// Ask for usage in streams whose client did not, and take the extra event out again.
    pub include_usage: bool,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
    /// Longest silence within an answer.
    pub idle_timeout: Duration,
    /// Pause between the events of the built-in provider.
    pub echo_delay: Duration,
}

/// `kind` of a provider: the wire it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    Openai,
    Echo,
}

/// An `http` or `https` URL taken apart: no user, no query, no fragment, no trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Empty or `/like/this`.
    pub path: String,
}

/// `[models.NAME]`.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: String,
    pub deployments: Vec<Deployment>,
}

/// One entry of a model's `deployments`.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Index into [`Config::providers`].
    pub provider: usize,
    /// The model's name at the provider.
    pub model: String,
}

/// `[[keys]]`.
#[derive(Debug, Clone)]
pub struct Key {
    pub name: String,
    pub sha256: [u8; 32],
    /// Indexes into [`Config::models`], ascending; `None` for all.
    pub models: Option<Vec<usize>>,
}

/// `[telemetry]` and the `OTEL_*` variables, which win.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `None`: nothing is exported (`OTEL_SDK_DISABLED`, `OTEL_METRICS_EXPORTER=none`).
    pub endpoint: Option<OtlpEndpoint>,
    pub headers: Vec<(String, Secret)>,
    pub gzip: bool,
    /// One request; `None` waits without limit.
    pub timeout: Option<Duration>,
    /// From the start of one export to the start of the next.
    pub interval: Duration,
    /// One export with its retries; `None` is bounded by the interval alone.
    pub export_timeout: Option<Duration>,
    /// PEM file that replaces the built-in roots.
    pub certificate: Option<PathBuf>,
    /// In order; `service.name`, `service.instance.id` and `service.version` are always among them.
    pub resource: Vec<(String, String)>,
}

/// Where metrics go, exactly as it will be requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Path and query; starts with `/`.
    pub target: String,
    /// Which setting it came from, for messages: a variable or `telemetry.endpoint`.
    pub source: String,
}
