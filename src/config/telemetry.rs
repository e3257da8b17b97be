//! Where metrics go and what they carry: the environment first, then the file, then the defaults
//! of the specification. Every setting knows where it came from.

use std::{fs, path::PathBuf, time::Duration};

use super::{
    Destination, OtlpEndpoint, Protocol, Secret, Telemetry, file,
    otel_env::{self, Found, OtelEnv},
    problem::ConfigError,
    resolve::Resolve,
    value,
};
use crate::telemetry::{Aggregations, Temporality};

/// One effective setting, for `tollgate check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    /// Safe to show.
    pub value: String,
    pub source: String,
}

const DEFAULT: &str = "default";
/// The specification's default for OTLP over HTTP.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";

/// Resolves `[telemetry]` under the environment.
pub(super) fn resolve(
    file: &file::Telemetry,
    env: &mut OtelEnv<'_>,
    resolve: &mut Resolve<'_, '_>,
) -> Result<(Telemetry, Vec<Setting>), ConfigError> {
    let off = env.is_off()?;
    if off.is_none() {
        env.check_protocol()?;
    }
    env.check_preferences();
    let mut settings = Vec::new();
    let endpoint = endpoint(file, env, resolve, off, &mut settings);
    let from_file = |text: &Option<_>| if text.is_some() { "telemetry" } else { DEFAULT };

    let interval = env.milliseconds(&["OTEL_METRIC_EXPORT_INTERVAL"], "the file's or 60000");
    let interval = interval.filter(|(interval, name)| {
        if interval.is_zero() {
            env.warnings.push(format!("{name}=0 is no interval; the file's or 60000 is used"));
        }
        !interval.is_zero()
    });
    let in_file = resolve.duration(file.interval.as_ref(), "60s");
    let interval = pick(&mut settings, "interval", interval, in_file, from_file(&file.interval), |interval| {
        format!("{interval:?}")
    });

    let names = ["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let timeout = env.milliseconds(&names, "the file's or 10000");
    let in_file = resolve.parse(file.timeout.as_ref(), "10s", value::duration).unwrap_or_default();
    let timeout = pick(&mut settings, "timeout", timeout, in_file, from_file(&file.timeout), show_limit);

    let export_timeout = env.milliseconds(&["OTEL_METRIC_EXPORT_TIMEOUT"], "30000");
    let export_timeout =
        pick(&mut settings, "export_timeout", export_timeout, Duration::from_secs(30), DEFAULT, show_limit);

    let in_file = resolve.parse(file.compression.as_ref(), "none", |text| match text {
        "none" => Ok(false),
        "gzip" => Ok(true),
        _ => Err(format!("compression {text:?} is not known: expected \"gzip\" or \"none\"")),
    });
    let show = |gzip: &bool| if *gzip { "gzip".to_owned() } else { "none".to_owned() };
    let gzip =
        pick(&mut settings, "compression", env.gzip(), in_file.unwrap_or_default(), from_file(&file.compression), show);

    let certificate = env.certificate().map(|(path, name)| (Some(PathBuf::from(path)), name));
    let in_file = file.certificate.as_ref().map(|path| resolve.resolver.folder.join(path.get_ref()));
    let show = |path: &Option<PathBuf>| {
        path.as_ref().map_or("built-in and system roots".into(), |path| path.display().to_string())
    };
    let certificate = pick(&mut settings, "certificate", certificate, in_file, from_file(&file.certificate), show);

    let in_file = headers(file, resolve);
    let source = if in_file.is_empty() { DEFAULT } else { "telemetry" };
    let show = |headers: &Vec<(String, Secret)>| {
        let names: Vec<String> = headers.iter().map(|(name, _)| format!("{name}=***")).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    };
    let headers = pick(&mut settings, "headers", env.headers(), in_file, source, show);

    let resource = resource(file, env, &mut settings);
    let limit = |duration: Duration| (!duration.is_zero()).then_some(duration);
    let destination = endpoint.map(|endpoint| Destination {
        name: "otlp".into(),
        endpoint,
        protocol: Protocol::HttpProtobuf,
        headers,
        gzip,
        temporality: Temporality::Cumulative,
        timeout: limit(timeout),
        interval,
        export_timeout: limit(export_timeout),
        certificate,
        client_certificate: None,
    });
    let telemetry = Telemetry {
        destinations: destination.into_iter().collect(),
        console: false,
        prometheus: false,
        interval,
        aggregations: Aggregations::default(),
        resource,
    };
    Ok((telemetry, settings))
}

/// The environment's value or the one given, noted with its source.
fn pick<T>(
    settings: &mut Vec<Setting>,
    name: &'static str,
    env: Found<T>,
    otherwise: T,
    otherwise_from: &str,
    show: impl FnOnce(&T) -> String,
) -> T {
    let (value, source) = match env {
        Some((value, variable)) => (value, variable.to_owned()),
        None if otherwise_from == "telemetry" => (otherwise, format!("telemetry.{name}")),
        None => (otherwise, otherwise_from.to_owned()),
    };
    settings.push(Setting { name, value: show(&value), source });
    value
}

fn show_limit(limit: &Duration) -> String {
    if limit.is_zero() { "no limit".to_owned() } else { format!("{limit:?}") }
}

fn endpoint(
    file: &file::Telemetry,
    env: &mut OtelEnv<'_>,
    resolve: &mut Resolve<'_, '_>,
    off: Option<&'static str>,
    settings: &mut Vec<Setting>,
) -> Option<OtlpEndpoint> {
    let in_file = file
        .endpoint
        .as_ref()
        .and_then(|text| resolve.parse(Some(text), "", |text| otel_env::endpoint(text, false, "telemetry.endpoint")));
    if let Some(variable) = off {
        settings.push(Setting { name: "endpoint", value: "off".into(), source: variable.into() });
        return None;
    }
    let default = || otel_env::endpoint(DEFAULT_ENDPOINT, true, DEFAULT).ok();
    let endpoint = env.endpoint().or(in_file).or_else(default)?;
    let scheme = if endpoint.tls { "https" } else { "http" };
    // A query may hold a credential, so it is not shown.
    let path = endpoint.target.split('?').next().unwrap_or_default();
    let value = format!("{scheme}://{}:{}{path}", endpoint.host, endpoint.port);
    settings.push(Setting { name: "endpoint", value, source: endpoint.source.clone() });
    Some(endpoint)
}

fn headers(file: &file::Telemetry, resolve: &mut Resolve<'_, '_>) -> Vec<(String, Secret)> {
    let mut headers = Vec::with_capacity(file.headers.len());
    for (name, reference) in &file.headers {
        match resolve.resolver.resolve(reference.get_ref()) {
            Err(message) => resolve.problems.add(reference.span(), message),
            Ok(resolved) if otel_env::is_header_allowed(name.get_ref(), resolved.secret.expose()) => {
                headers.push((name.get_ref().to_ascii_lowercase(), resolved.secret));
            }
            Ok(_) => {
                let message = format!("{:?} is not a header that may be set here", name.get_ref());
                resolve.problems.add(name.span(), message);
            }
        }
    }
    headers
}

/// Resource attributes; a later one of the same name wins.
fn resource(file: &file::Telemetry, env: &mut OtelEnv<'_>, settings: &mut Vec<Setting>) -> Vec<(String, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let mut resource: Vec<(String, String)> = [
        ("service.name", "tollgate"),
        ("service.version", version),
        ("telemetry.sdk.name", "tollgate"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", version),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    resource.push(("service.instance.id".into(), instance_id()));
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        resource.push(("host.name".into(), host.trim().to_owned()));
    }
    let in_file = file.resource.iter().map(|(key, value)| (key.get_ref().clone(), value.get_ref().clone()));
    let service_name = file.service_name.as_ref().map(|name| ("service.name".to_owned(), name.get_ref().clone()));
    let from_env = env.resource();
    let env_name = env.service_name().map(|(name, _)| ("service.name".to_owned(), name.to_owned()));
    for (key, value) in in_file.chain(service_name).chain(from_env).chain(env_name) {
        if !is_attribute_key(&key) {
            env.warnings.push(format!(
                "resource attribute {key:?} is left out: a key begins with a letter and has letters, digits and . _ - only"
            ));
            continue;
        }
        resource.retain(|(other, _)| *other != key);
        resource.push((key, value));
    }
    resource.retain(|(_, value)| !value.is_empty());
    let shown: Vec<String> = resource.iter().map(|(key, value)| format!("{key}={value}")).collect();
    settings.push(Setting { name: "resource", value: shown.join(", "), source: "OTEL_*, telemetry, default".into() });
    resource
}

/// Keys that no receiver chokes on (Prometheus panics on an empty one and drops others).
fn is_attribute_key(key: &str) -> bool {
    key.starts_with(|first: char| first.is_ascii_alphabetic())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A random UUID (RFC 9562, version 4): receivers need to tell processes apart.
fn instance_id() -> String {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut bytes = [0_u8; 16];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        // Without randomness the process id and the time have to do.
        bytes = (u128::from(std::process::id()) << 64 | u128::from(crate::telemetry::Clock::start().now_nanos()))
            .to_be_bytes();
    }
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    let mut id = String::with_capacity(36);
    for (place, digit) in hex.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}
