//! The `OTEL_*` variables, by the rules of the OpenTelemetry specification.
//!
//! An empty variable is unset. A signal's own variable replaces the general one whole. A value
//! that cannot be used is warned about with the value (never for headers) and counts as unset.

use std::time::Duration;

use super::{Environment, OtlpEndpoint, Protocol, Secret, endpoint, value};
use crate::telemetry::Temporality;

/// Largest number of milliseconds, as the specification asks integers to reach.
const MILLISECONDS_MAX: u64 = i32::MAX as u64;

/// Reads variables and remembers what was wrong with them.
#[derive(Debug)]
pub(super) struct OtelEnv<'a> {
    environment: &'a Environment,
    pub(super) warnings: Vec<String>,
    /// Warnings that have yet to say what is used instead.
    open: Vec<usize>,
}

/// A value, and the variable it came from.
pub(super) type Found<T> = Option<(T, &'static str)>;

/// What metrics go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Exporters {
    pub(super) otlp: bool,
    pub(super) console: bool,
    pub(super) prometheus: bool,
}

impl Exporters {
    /// The specification's default.
    pub(super) const OTLP: Self = Self { otlp: true, console: false, prometheus: false };

    /// Adds the one of that name; false if there is none.
    pub(super) fn add(&mut self, name: &str) -> bool {
        match name.to_ascii_lowercase().as_str() {
            "otlp" => self.otlp = true,
            "console" => self.console = true,
            "prometheus" => self.prometheus = true,
            "none" => {}
            _ => return false,
        }
        true
    }

    pub(super) fn show(self) -> String {
        let all = [(self.otlp, "otlp"), (self.console, "console"), (self.prometheus, "prometheus")];
        let names: Vec<&str> = all.into_iter().filter(|(is_on, _)| *is_on).map(|(_, name)| name).collect();
        if names.is_empty() { "none".into() } else { names.join(", ") }
    }
}

impl<'a> OtelEnv<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        let mut env = Self { environment, warnings: Vec::new(), open: Vec::new() };
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
        if environment
            .get("OTEL_METRICS_EXEMPLAR_FILTER")
            .is_some_and(|filter| filter.eq_ignore_ascii_case("always_on"))
        {
            env.warnings
                .push("OTEL_METRICS_EXEMPLAR_FILTER=\"always_on\" is ignored: no exemplars are exported".into());
        }
        env
    }

    /// The first of these variables that is set.
    fn first(&self, names: &[&'static str]) -> Found<&'a str> {
        names.iter().find_map(|name| Some((self.environment.get(name)?, *name)))
    }

    /// The first of these variables that `parse` can use; the others are warned about.
    fn choice<T>(&mut self, names: &[&'static str], expected: &str, parse: impl Fn(&str) -> Option<T>) -> Found<T> {
        for name in names {
            let Some(text) = self.environment.get(name) else { continue };
            match parse(text.trim()) {
                Some(value) => return Some((value, name)),
                None => {
                    self.open.push(self.warnings.len());
                    self.warnings.push(format!("{name}={text:?} is ignored: expected {expected}"));
                }
            }
        }
        None
    }

    /// Says in what was ignored since the last time which value is used instead.
    pub(super) fn settle(&mut self, used: &str) {
        for place in self.open.drain(..) {
            if let Some(warning) = self.warnings.get_mut(place) {
                warning.push_str(&format!("; {used} is used"));
            }
        }
    }

    /// Whether everything is switched off.
    pub(super) fn is_disabled(&mut self) -> bool {
        let truth = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        let is_disabled = self.choice(&["OTEL_SDK_DISABLED"], "true or false", truth).is_some_and(|(truth, _)| truth);
        self.settle("false");
        is_disabled
    }

    /// `OTEL_METRICS_EXPORTER`, a list.
    pub(super) fn exporters(&mut self) -> Found<Exporters> {
        let name = "OTEL_METRICS_EXPORTER";
        let Some(text) = self.environment.get(name) else {
            // LiteLLM has the protocol and the exporter in one variable.
            let legacy = self.environment.get("OTEL_EXPORTER").is_some_and(|text| text.eq_ignore_ascii_case("console"));
            return legacy.then_some((Exporters { console: true, ..Exporters::default() }, "OTEL_EXPORTER"));
        };
        let mut exporters = Exporters::default();
        let (mut has_none, mut known) = (false, 0);
        for exporter in text.split(',').map(str::trim).filter(|exporter| !exporter.is_empty()) {
            if exporter.eq_ignore_ascii_case("logging") {
                self.warnings.push(format!("{name}: \"logging\" is the old name of \"console\""));
                exporters.console = true;
                known += 1;
            } else if exporters.add(exporter) {
                has_none |= exporter.eq_ignore_ascii_case("none");
                known += 1;
            } else {
                self.warnings.push(format!(
                    "{name}={text:?}: {exporter:?} is ignored: expected otlp, prometheus, console or none"
                ));
            }
        }
        if has_none && known > 1 {
            self.warnings.push(format!("{name}={text:?}: none is ignored beside others"));
        }
        (known > 0).then_some((exporters, name))
    }

    /// How metrics are put on the wire.
    pub(super) fn protocol(&mut self) -> Found<Protocol> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let expected = "http/protobuf, http/json or grpc";
        self.choice(&names, expected, value::protocol).or_else(|| {
            let legacy = |text: &str| match text.to_ascii_lowercase().as_str() {
                "otlp_http" | "http" | "otlp" | "console" => Some(Protocol::HttpProtobuf),
                "otlp_grpc" => Some(Protocol::Grpc),
                _ => value::protocol(text),
            };
            self.choice(&["OTEL_EXPORTER"], "otlp_http, otlp_grpc or console", legacy)
        })
    }

    /// Where metrics go.
    pub(super) fn endpoint(&mut self, protocol: Protocol) -> Option<OtlpEndpoint> {
        let is_insecure = self.is_insecure();
        for name in ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_ENDPOINT"] {
            let Some(text) = self.environment.get(name) else { continue };
            let is_base = name != "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
            match endpoint::of(text, protocol, is_base, is_insecure, name) {
                Ok(endpoint) => return Some(endpoint),
                Err(why) => {
                    self.open.push(self.warnings.len());
                    self.warnings.push(format!("{name} is ignored: {why}"));
                }
            }
        }
        None
    }

    /// Whether an endpoint without a scheme is one without TLS.
    fn is_insecure(&mut self) -> bool {
        let truth = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        let names = [
            "OTEL_EXPORTER_OTLP_METRICS_INSECURE",
            "OTEL_EXPORTER_OTLP_INSECURE",
            "OTEL_EXPORTER_OTLP_METRIC_INSECURE",
        ];
        let is_insecure = self.choice(&names, "true or false", truth).is_some_and(|(truth, _)| truth);
        self.settle(if is_insecure { "true" } else { "false" });
        is_insecure
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

    /// A time in milliseconds that is not 0.
    pub(super) fn interval(&mut self) -> Found<Duration> {
        let parse = |text: &str| milliseconds(text).filter(|interval| !interval.is_zero());
        self.choice(&["OTEL_METRIC_EXPORT_INTERVAL"], "a whole number of milliseconds above 0", parse)
    }

    /// A time in milliseconds; 0 is without limit.
    pub(super) fn timeout(&mut self, names: &[&'static str]) -> Found<Duration> {
        self.choice(names, "a whole number of milliseconds, 0 for no limit", milliseconds)
    }

    /// Whether exports are compressed.
    pub(super) fn gzip(&mut self) -> Found<bool> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        self.choice(&names, "gzip or none", value::compression)
    }

    /// The certificate file that replaces the built-in roots.
    pub(super) fn certificate(&self) -> Found<&'a str> {
        self.first(&["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"])
    }

    /// A client certificate and its key: both or neither.
    pub(super) fn client_certificate(&mut self) -> Found<(&'a str, &'a str)> {
        let certificate =
            self.first(&["OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"]);
        let key = self.first(&["OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"]);
        match (certificate, key) {
            (Some((certificate, name)), Some((key, _))) => Some(((certificate, key), name)),
            (None, None) => None,
            (Some((_, name)), None) => {
                self.warnings.push(format!("{name} is ignored: OTEL_EXPORTER_OTLP_CLIENT_KEY is not set"));
                None
            }
            (None, Some((_, name))) => {
                self.warnings.push(format!("{name} is ignored: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is not set"));
                None
            }
        }
    }

    /// Sums since the start or since the last export.
    pub(super) fn temporality(&mut self) -> Found<Temporality> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"];
        self.choice(&names, "cumulative, delta or lowmemory", Temporality::of)
    }

    /// Whether histograms are exponential.
    pub(super) fn exponential(&mut self) -> Found<bool> {
        let names = ["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"];
        let expected = "explicit_bucket_histogram or base2_exponential_bucket_histogram";
        self.choice(&names, expected, |text| match text.to_ascii_lowercase().as_str() {
            "explicit_bucket_histogram" => Some(false),
            "base2_exponential_bucket_histogram" => Some(true),
            _ => None,
        })
    }

    /// Where `/metrics` is served, if the environment says anything of it.
    pub(super) fn prometheus(&mut self) -> Found<std::net::SocketAddr> {
        let (host, port) = ("OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT");
        let address = self.choice(&[host], "localhost or an IP address", |text| match text {
            "localhost" => Some(std::net::IpAddr::from([127, 0, 0, 1])),
            _ => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
        });
        let number = self.choice(&[port], "a port from 1 to 65535", |text| text.parse().ok().filter(|port| *port != 0));
        let name = address.map(|(_, name)| name).or(number.map(|(_, name)| name))?;
        let address = address.map_or([127, 0, 0, 1].into(), |(address, _)| address);
        Some(((address, number.map_or(super::admin::PORT, |(number, _)| number)).into(), name))
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

fn milliseconds(text: &str) -> Option<Duration> {
    // `parse` would take a plus, which is no digit.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = text.parse().ok().filter(|number| digits && *number <= MILLISECONDS_MAX)?;
    Some(Duration::from_millis(number))
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
