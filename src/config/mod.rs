//! What the operator wrote, resolved to values: file, environment and defaults in one [`Config`].
//!
//! Owns parsing, validation and secrets. Opens no socket and knows nothing of requests.

mod admin;
mod changes;
mod destination;
mod endpoint;
mod environment;
mod file;
mod listen;
mod log;
mod otel_env;
mod problem;
mod provider;
mod reference;
mod resolve;
mod resource;
mod routing;
mod secret;
pub mod secret_file;
mod server;
mod source;
mod table;
mod telemetry;
#[cfg(test)]
mod tests;
mod value;

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use self::{
    changes::{Changes, Inventory, Waiting},
    environment::Environment,
    listen::Listen,
    log::{Log, LogFormat, LogLevel},
    problem::ConfigError,
    provider::{BaseUrl, Provider, ProviderKind},
    routing::{Cooldown, Repeats, Retries, Routing},
    secret::Secret,
    server::{ClientAuth, Http2, Network, Server, ServerTls, TlsVersion},
    source::{Files, Look, Source},
    telemetry::Setting,
};
use self::{
    file::File,
    otel_env::OtelEnv,
    problem::Problems,
    reference::{Resolver, read_at_most},
    resolve::Resolve,
    source::Seen,
    table::Read as _,
};
use crate::{
    api::cost::Price,
    telemetry::{Aggregations, Temporality},
};

/// Largest configuration file, where `TOLLGATE_MAX_CONFIG_BYTES` names no other size. An option in the
/// file would come too late.
const FILE_BYTES_MAX: usize = 4 << 20;

/// Where a configuration is looked for when none is named, in this order.
const PLACES: [&str; 2] = ["tollgate.toml", "/etc/tollgate/tollgate.toml"];

/// Everything the program is told, validated: every reference inside it resolves.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: Server,
    pub routing: Routing,
    pub providers: Vec<Provider>,
    pub models: Vec<Model>,
    pub keys: Vec<Key>,
    pub telemetry: Telemetry,
    pub admin: Admin,
    pub reload: Reload,
    pub log: Log,
}

/// `[reload]`: when the configuration is read again without being told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// From one look at the files to the next; `None`: they are not looked at.
    pub watch: Option<Duration>,
}

/// `[models.NAME]`.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: String,
    /// Longest wait for the first content of a stream while another deployment remains.
    pub first_content_timeout: Duration,
    pub deployments: Vec<Deployment>,
}

/// One entry of a model's `deployments`.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Index into [`Config::providers`].
    pub provider: usize,
    /// The model's name at the provider.
    pub model: String,
    /// What its tokens cost, if that is known here.
    pub price: Option<Price>,
}

/// `[[keys]]`.
#[derive(Debug, Clone)]
pub struct Key {
    pub name: String,
    pub sha256: [u8; 32],
    /// Indexes into [`Config::models`], ascending; `None` for all.
    pub models: Option<Vec<usize>>,
    /// How often a stream that is silent is given a comment; `None`: never.
    pub comment_interval: Option<Duration>,
}

/// `[telemetry]` and the `OTEL_*` variables, which win.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Receivers; empty when nothing is pushed (`OTEL_SDK_DISABLED`, `OTEL_METRICS_EXPORTER=none`).
    pub destinations: Vec<Destination>,
    /// Every export is shown on standard output.
    pub console: bool,
    /// The admin listener serves `/metrics`.
    pub prometheus: bool,
    /// From the start of one export to the start of the next, where there is no destination to say so.
    pub interval: Duration,
    /// How histograms are kept, the same for every destination.
    pub aggregations: Aggregations,
    /// Series of one metric; further ones share one.
    pub max_series: usize,
    /// In order; `service.name`, `service.instance.id` and `service.version` are always among them.
    pub resource: Vec<(String, String)>,
}

/// One receiver of metrics: `[telemetry]` itself, or an entry of `[[telemetry.export]]`.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Tells receivers apart in the log: `otlp` for the one of `[telemetry]`.
    pub name: String,
    pub endpoint: OtlpEndpoint,
    pub protocol: Protocol,
    pub headers: Vec<(String, Secret)>,
    pub gzip: bool,
    pub temporality: Temporality,
    /// One request; `None` waits without limit.
    pub timeout: Option<Duration>,
    /// From the start of one export to the start of the next.
    pub interval: Duration,
    /// One export with its retries; `None` is bounded by the interval alone.
    pub export_timeout: Option<Duration>,
    /// Of one request, before compression.
    pub max_request_bytes: usize,
    /// Of the answer to one that are read.
    pub max_response_bytes: usize,
    /// PEM file that replaces the built-in roots.
    pub certificate: Option<PathBuf>,
    /// PEM files of a client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// How metrics are put on the wire (`OTEL_EXPORTER_OTLP_PROTOCOL`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    HttpProtobuf,
    HttpJson,
    Grpc,
}

impl Protocol {
    /// Its name in the configuration and in the specification's variable.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
            Self::Grpc => "grpc",
        }
    }
}

/// Where metrics go, exactly as it will be requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Path and query; starts with `/`. gRPC has a path of its own and takes no account of it.
    pub target: String,
    /// Which setting it came from, for messages: a variable, `telemetry.endpoint` or
    /// `telemetry.export.NAME.endpoint`.
    pub source: String,
}

/// `[admin]`: what is not for clients.
#[derive(Debug, Clone, Default)]
pub struct Admin {
    /// `None`: there is no admin listener.
    pub listen: Option<Listen>,
    /// Required as `Authorization: Bearer`, always so when the address is not loopback.
    pub token: Option<Secret>,
}

/// A configuration, and what the operator should know about it.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Where it came from.
    pub source: Source,
    pub warnings: Vec<String>,
    /// The effective telemetry settings and their sources.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads the file at `path`, or at the first of `$TOLLGATE_CONFIG`, `./tollgate.toml` and
    /// `/etc/tollgate/tollgate.toml`, and resolves it.
    pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Loaded, ConfigError> {
        let path = match path.or(environment.get("TOLLGATE_CONFIG").map(Path::new)) {
            Some(path) => path,
            None => PLACES.iter().map(Path::new).find(|place| place.exists()).ok_or_else(|| {
                ConfigError::plain(
                    "no configuration: looked for $TOLLGATE_CONFIG, ./tollgate.toml and /etc/tollgate/tollgate.toml.\n\
                     `tollgate init` writes one to start from; -c FILE names another; `tollgate demo` needs none",
                )
            })?,
        };
        let seen = Seen::at(path);
        let unreadable = |error| ConfigError::plain(format!("cannot read {}: {error}", path.display()));
        let most = match environment.get("TOLLGATE_MAX_CONFIG_BYTES").map(value::size) {
            None => FILE_BYTES_MAX,
            Some(Ok(size)) => size,
            Some(Err(wrong)) => return Err(ConfigError::plain(format!("TOLLGATE_MAX_CONFIG_BYTES: {wrong}"))),
        };
        let Some(text) = read_at_most(path, most as u64).map_err(unreadable)? else {
            return Err(ConfigError::plain(format!(
                "{} is larger than {most} bytes: is it a configuration? Models and keys by the ten thousand fit in \
                 4 MiB; the environment variable TOLLGATE_MAX_CONFIG_BYTES, such as \"16MiB\", allows more",
                path.display()
            )));
        };
        Self::resolve(path, seen.read(text.as_bytes()), &text, environment)
    }

    /// Resolves the text of a file; `path` is for messages and relative paths.
    pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Loaded, ConfigError> {
        Self::resolve(path, Seen::at(path).read(text.as_bytes()), text, environment)
    }

    fn resolve(path: &Path, seen: Seen, text: &str, environment: &Environment) -> Result<Loaded, ConfigError> {
        let mut problems = Problems::of(path, text);
        let file = match DeTable::parse(text) {
            Ok(table) => {
                let whole = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
                File::read(&whole, &mut problems)
            }
            Err(error) => {
                problems.add(error.span().unwrap_or(0..0), error.message().trim_end());
                None
            }
        };
        let Some(file) = file.filter(|_| !problems.is_any()) else {
            return Err(match problems.unless_any(()) {
                Err(error) => error,
                Ok(()) => ConfigError::plain("the file cannot be read"),
            });
        };
        let mut warnings = Vec::new();
        let folder = path.parent().unwrap_or(Path::new("."));
        let resolver = Resolver { environment, folder, files: RefCell::new(vec![seen]) };
        let mut resolve = Resolve { problems: &mut problems, warnings: &mut warnings, resolver };
        let server = server::resolve(&file.server, &mut resolve);
        let providers = provider::resolve(&file.providers, &mut resolve);
        let routing = routing::resolve(&file.routing, &mut resolve);
        let models = resolve.models(&file.models, &providers, &routing);
        let keys = resolve.keys(&file.keys, &models);
        let reload = resolve.reload(&file.reload);
        let log = log::resolve(&file.log, &mut resolve);
        let mut env = OtelEnv::new(environment);
        let mut settings = Vec::new();
        let telemetry = telemetry::resolve(&file.telemetry, &mut env, &mut resolve, &mut settings);
        let admin = admin::resolve(&file.admin, &mut env, &mut resolve, telemetry.prometheus, &mut settings)?;
        let mut files = resolve.resolver.files.take();
        if let Some(tls) = &server.tls {
            files.extend(
                [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|path| Seen::and_read(path)),
            );
        }
        for destination in &telemetry.destinations {
            let own = destination.client_certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
            files.extend(destination.certificate.iter().chain(own).map(|path| Seen::and_read(path)));
        }
        warnings.append(&mut env.warnings);
        let source = Source { file: path.to_owned(), environment: environment.clone(), text: text.to_owned(), files };
        let config = Self { server, routing, providers, models, keys, telemetry, admin, reload, log };
        let files = source.files.clone();
        let loaded = problems.unless_any(Loaded { config, source, warnings, settings });
        loaded.map_err(|error| error.about(files))
    }

    /// The configuration of `tollgate demo`: the built-in provider, and `key` as the client key.
    pub fn demo(environment: &Environment, key: &str) -> Result<Loaded, ConfigError> {
        let text = format!(
            "[providers.echo]\nkind = \"echo\"\ndelay = \"30ms\"\n\
             [models.echo]\ndeployments = [{{ provider = \"echo\" }}]\n\
             [[keys]]\nname = \"demo\"\nkey = \"{key}\"\n[telemetry]\ninterval = \"2s\"\n"
        );
        let mut loaded = Self::parse(Path::new("demo"), &text, environment)?;
        // The specification's default endpoint is for programs that were told to export; the demo
        // pushes when it is.
        if loaded.settings.iter().any(|setting| setting.name == "endpoint" && setting.source == "default") {
            loaded.config.telemetry.destinations.clear();
        }
        Ok(loaded)
    }
}
