//! The `OTEL_*` variables, by the rules of the OpenTelemetry specification.
//!
//! An empty variable is unset. A signal's own variable replaces the general one whole. A value
//! that cannot be used is warned about with the value (never for headers) and counts as unset.

use std::time::Duration;

use super::{Environment, OtlpEndpoint, Secret, problem::ConfigError, value};

/// Reads variables and remembers what was wrong with them.
#[derive(Debug)]
pub(super) struct OtelEnv<'a> {
    environment: &'a Environment,
    pub(super) warnings: Vec<String>,
}

/// A value, and the variable it came from.
pub(super) type Found<T> = Option<(T, &'static str)>;

impl<'a> OtelEnv<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        let mut env = Self { environment, warnings: Vec::new() };
        if environment.get("OTEL_CONFIG_FILE").is_some() {
            env.warnings.push("OTEL_CONFIG_FILE is ignored: use tollgate.toml and the other OTEL_* variables".into());
        }
        for (legacy, instead) in [
            ("OTEL_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ("OTEL_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
            ("OTEL_EXPORTER", "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ] {
            if environment.get(legacy).is_some() {
                env.warnings
                    .push(format!("{legacy} is LiteLLM's spelling: it is read, but {instead} is the standard's"));
            }
        }
        env
    }

    /// The first of these variables that is set.
    fn first(&self, names: &[&'static str]) -> Found<&'a str> {
        names.iter().find_map(|name| Some((self.environment.get(name)?, *name)))
    }

    /// Whether nothing is to be exported, and why.
    pub(super) fn is_off(&mut self) -> Result<Option<&'static str>, ConfigError> {
        if let Some(value) = self.environment.get("OTEL_SDK_DISABLED") {
            if value.eq_ignore_ascii_case("true") {
                return Ok(Some("OTEL_SDK_DISABLED"));
            }
            if !value.eq_ignore_ascii_case("false") {
                self.warnings.push(format!("OTEL_SDK_DISABLED={value:?} is neither true nor false; false is assumed"));
            }
        }
        let Some(exporters) = self.environment.get("OTEL_METRICS_EXPORTER") else { return Ok(None) };
        let mut off = None;
        for exporter in exporters.split(',').map(str::trim) {
            match exporter.to_ascii_lowercase().as_str() {
                "otlp" => return Ok(None),
                "none" => off = Some("OTEL_METRICS_EXPORTER"),
                "console" | "prometheus" => {
                    return Err(ConfigError::plain(format!(
                        "OTEL_METRICS_EXPORTER={exporters:?}: {exporter:?} is not supported yet; use \"otlp\" or \"none\""
                    )));
                }
                _ => {
                    self.warnings.push(format!("OTEL_METRICS_EXPORTER={exporters:?} is not known; \"otlp\" is assumed"))
                }
            }
        }
        Ok(off)
    }

    /// The protocol has to be the one that is spoken.
    pub(super) fn check_protocol(&mut self) -> Result<(), ConfigError> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER"];
        let Some((protocol, name)) = self.first(&names) else { return Ok(()) };
        match protocol.to_ascii_lowercase().as_str() {
            "http/protobuf" | "otlp_http" | "http" => Ok(()),
            "grpc" | "otlp_grpc" => Err(ConfigError::plain(format!(
                "{name}={protocol}: gRPC is not supported yet. Set {name}=http/protobuf and use the receiver's HTTP port \
                 (4318 on a Collector, not 4317)"
            ))),
            "http/json" => Err(ConfigError::plain(format!(
                "{name}={protocol}: JSON is not supported yet. Set {name}=http/protobuf"
            ))),
            _ => {
                self.warnings.push(format!("{name}={protocol:?} is not known; http/protobuf is used"));
                Ok(())
            }
        }
    }

    /// Where metrics go.
    pub(super) fn endpoint(&mut self) -> Option<OtlpEndpoint> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_ENDPOINT"];
        for name in names {
            let Some(text) = self.environment.get(name) else { continue };
            let is_base = name != "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
            match endpoint(text, is_base, name) {
                Ok(endpoint) => return Some(endpoint),
                Err(why) => self.warnings.push(format!("{name} is ignored: {why}")),
            }
        }
        None
    }

    /// Request headers; what cannot be one is left out without showing it.
    pub(super) fn headers(&mut self) -> Found<Vec<(String, Secret)>> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_HEADERS"];
        let (text, name) = self.first(&names)?;
        let mut headers: Vec<(String, Secret)> = Vec::new();
        for (place, pair) in text.split(',').enumerate() {
            if pair.trim().is_empty() {
                continue;
            }
            let header =
                pair.split_once('=').map(|(key, value)| (percent_decode(key.trim()), percent_decode(value.trim())));
            match header {
                Some((Ok(key), Ok(value))) if is_header_allowed(&key, &value) => {
                    headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&key));
                    headers.push((key.to_ascii_lowercase(), Secret::new(value)));
                }
                _ => self.warnings.push(format!(
                    "{name}: entry {} is left out: it is not `key=value` with a header name that may be set",
                    place + 1
                )),
            }
        }
        Some((headers, name))
    }

    /// A time in milliseconds.
    pub(super) fn milliseconds(&mut self, names: &[&'static str], default: &str) -> Found<Duration> {
        let (text, name) = self.first(names)?;
        match text.trim().parse::<u32>() {
            Ok(milliseconds) => Some((Duration::from_millis(milliseconds.into()), name)),
            Err(_) => {
                self.warnings.push(format!("{name}={text:?} is not a number of milliseconds; {default} is used"));
                None
            }
        }
    }

    /// Whether exports are compressed.
    pub(super) fn gzip(&mut self) -> Found<bool> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        let (text, name) = self.first(&names)?;
        match text.to_ascii_lowercase().as_str() {
            "gzip" => Some((true, name)),
            "none" => Some((false, name)),
            _ => {
                self.warnings.push(format!("{name}={text:?} is neither gzip nor none; none is used"));
                None
            }
        }
    }

    /// The certificate file that replaces the built-in roots.
    pub(super) fn certificate(&self) -> Found<&'a str> {
        self.first(&["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"])
    }

    /// Preferences that only have their default so far.
    pub(super) fn check_preferences(&mut self) {
        for (name, only) in [
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative"),
            ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "explicit_bucket_histogram"),
        ] {
            if let Some(value) = self.environment.get(name)
                && !value.eq_ignore_ascii_case(only)
            {
                self.warnings.push(format!("{name}={value:?} is not supported yet; {only} is used"));
            }
        }
    }

    /// `OTEL_SERVICE_NAME`.
    pub(super) fn service_name(&self) -> Found<&'a str> {
        self.first(&["OTEL_SERVICE_NAME"])
    }

    /// `OTEL_RESOURCE_ATTRIBUTES`; any error discards all of it, as the specification demands.
    pub(super) fn resource(&mut self) -> Vec<(String, String)> {
        let name = "OTEL_RESOURCE_ATTRIBUTES";
        let Some(text) = self.environment.get(name) else { return Vec::new() };
        let pairs = text.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} has no `=`"))?;
            Ok((percent_decode(key.trim())?, percent_decode(value.trim())?))
        });
        match pairs.collect::<Result<Vec<_>, String>>() {
            Ok(pairs) => pairs,
            Err(why) => {
                self.warnings.push(format!("{name}={text:?} is ignored as a whole: {why}"));
                Vec::new()
            }
        }
    }
}

/// An endpoint URL: a base gets `v1/metrics` appended, a signal's own is used as it is.
pub(super) fn endpoint(text: &str, is_base: bool, source: &str) -> Result<OtlpEndpoint, String> {
    let (url, query) = value::url(text)?;
    let mut target = if url.path.is_empty() { "/".to_owned() } else { url.path };
    if is_base {
        if !target.ends_with('/') {
            target.push('/');
        }
        target.push_str("v1/metrics");
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    Ok(OtlpEndpoint { tls: url.tls, host: url.host, port: url.port, target, source: source.to_owned() })
}

/// Whether a header may be set from outside: not those that describe the body or the connection.
pub(super) fn is_header_allowed(name: &str, value: &str) -> bool {
    let ours = ["content-type", "content-encoding", "content-length", "host", "transfer-encoding", "connection"];
    http::HeaderName::from_bytes(name.as_bytes()).is_ok()
        && http::HeaderValue::from_str(value).is_ok()
        && !ours.iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Decodes `%41`; a plus is a plus.
fn percent_decode(text: &str) -> Result<String, String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => decoded.extend(u8::try_from(high << 4 | low)),
            _ => return Err("a `%` is not followed by two hexadecimal digits".to_owned()),
        }
    }
    String::from_utf8(decoded).map_err(|_| "what is percent-encoded is not UTF-8".to_owned())
}
