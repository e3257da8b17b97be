//! What a receiver's answer means and what to change, in one sentence.
//!
//! Owns the wording. The cases are a table, most specific first, in `cases.rs`; each has a name and
//! a test.

mod cases;

use super::{
    answer::{Answer, Failure},
    grpc::Code,
};
use crate::config::{OtlpEndpoint, Protocol};

/// Everything a sentence may draw on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) endpoint: &'a OtlpEndpoint,
    pub(super) protocol: Protocol,
    /// Whether a header that looks like a credential was sent.
    pub(super) has_credentials: bool,
    /// Whether there is a certificate to show when asked for one.
    pub(super) has_client_certificate: bool,
    pub(super) gzip: bool,
    pub(super) answer: &'a Answer,
}

/// The name of the case and the sentence: what came back, then what to do.
pub(super) fn explain(facts: &Facts<'_>) -> (&'static str, String) {
    let case = cases::CASES.iter().find(|case| (case.applies)(facts));
    let what = what(facts);
    match case {
        Some(case) => (case.name, format!("{what}: {}", (case.advice)(facts))),
        // The last case applies to everything; this arm is for the compiler.
        None => ("unknown", what),
    }
}

/// Where metrics go, without a query: that may carry a credential.
pub(super) fn url(endpoint: &OtlpEndpoint, protocol: Protocol) -> String {
    if protocol == Protocol::Grpc {
        // The path is gRPC's own and was not configured.
        return origin(endpoint);
    }
    let (path, query) = match endpoint.target.split_once('?') {
        Some((path, _)) => (path, "?…"),
        None => (endpoint.target.as_str(), ""),
    };
    format!("{}{path}{query}", origin(endpoint))
}

fn origin(endpoint: &OtlpEndpoint) -> String {
    let OtlpEndpoint { tls, host, port, .. } = endpoint;
    match (tls, port) {
        (false, 80) => format!("http://{host}"),
        (true, 443) => format!("https://{host}"),
        (false, _) => format!("http://{host}:{port}"),
        (true, _) => format!("https://{host}:{port}"),
    }
}

/// What came back, as a clause.
fn what(facts: &Facts<'_>) -> String {
    let url = url(facts.endpoint, facts.protocol);
    let http = if facts.is_grpc() { "HTTP/2" } else { "HTTP/1.1" };
    let OtlpEndpoint { host, port, .. } = facts.endpoint;
    match facts.answer {
        Answer::Accepted => format!("{url} took all points"),
        Answer::Partial { rejected: 0, message } => format!("{url} took all points and remarks {message:?}"),
        Answer::Partial { rejected, message } => format!("{url} left out {rejected} points and says {message:?}"),
        Answer::Refused { status, location: Some(location), .. } if facts.is_redirect() => {
            format!("{url} answered {status} to {location}")
        }
        Answer::Refused { status, text, .. } if text.is_empty() => format!("{url} answered {status}"),
        Answer::Refused { status, text, .. } => format!("{url} answered {status} {text:?}"),
        Answer::RefusedGrpc { code, text, .. } if text.is_empty() => format!("{url} answered {}", code.as_str()),
        Answer::RefusedGrpc { code, text, .. } => format!("{url} answered {} {text:?}", code.as_str()),
        Answer::Failed(failure) => match failure {
            Failure::Resolve(why) => format!("the name {host} has no address ({why})"),
            Failure::ConnectionRefused => format!("{host} refused the connection to port {port}"),
            Failure::ConnectTimeout => format!("{host} did not answer on port {port}"),
            Failure::Unreachable(why) => format!("{host} cannot be reached on port {port} ({why})"),
            Failure::Tls(_, why) => format!("no TLS connection to {host}:{port} ({why})"),
            Failure::Timeout(limit) => format!("{url} did not answer within {limit:?}"),
            Failure::Closed(why) => format!("{url} closed the connection without an answer ({why})"),
            Failure::NotHttp(why) => format!("what {host}:{port} sent is not {http} ({why})"),
            Failure::NotOtlp(what) => format!("{url} answered with {what}"),
            Failure::TooLarge(bytes) => {
                format!("a request of {bytes} bytes was not sent to {url}, as OTLP allows 64 MiB")
            }
        },
    }
}

impl Facts<'_> {
    fn status(&self) -> u16 {
        if let Answer::Refused { status, .. } = self.answer { *status } else { 0 }
    }

    fn is_grpc(&self) -> bool {
        self.protocol == Protocol::Grpc
    }

    fn is_json(&self) -> bool {
        self.protocol == Protocol::HttpJson
    }

    fn code(&self) -> Option<Code> {
        if let Answer::RefusedGrpc { code, .. } = self.answer { Some(*code) } else { None }
    }

    fn is_code(&self, code: Code) -> bool {
        self.code() == Some(code)
    }

    fn is_redirect(&self) -> bool {
        (300..400).contains(&self.status())
    }

    fn location(&self) -> &str {
        if let Answer::Refused { location: Some(location), .. } = self.answer { location } else { "" }
    }

    /// Whether the error text has `part` in it.
    fn says(&self, part: &str) -> bool {
        matches!(self.answer, Answer::Refused { text, .. } | Answer::RefusedGrpc { text, .. } if text.contains(part))
    }

    fn says_any(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.says(part))
    }

    fn path_without_slash(&self) -> &str {
        self.path().trim_end_matches('/')
    }

    fn path(&self) -> &str {
        self.endpoint.target.split('?').next().unwrap_or_default()
    }

    fn failed(&self) -> Option<&Failure> {
        if let Answer::Failed(failure) = self.answer { Some(failure) } else { None }
    }

    /// Whether nobody said where metrics should go.
    fn is_default(&self) -> bool {
        let source = self.endpoint.source.as_str();
        !(source.starts_with("OTEL_") || source.starts_with("telemetry."))
    }

    /// The setting to change.
    fn setting(&self) -> &str {
        if self.is_default() {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT (or telemetry.endpoint)"
        } else {
            &self.endpoint.source
        }
    }

    /// "set NAME=…" for the setting that the endpoint came from.
    ///
    /// The generic variable is a base to which `v1/metrics` is appended, so it gets the part in front.
    fn set_path(&self, path: &str) -> String {
        self.set(&format!("{}{path}", origin(self.endpoint)))
    }

    fn set_scheme(&self, tls: bool) -> String {
        // A default port left out would silently become that of the other scheme, so it is written.
        let scheme = if tls { "https" } else { "http" };
        let OtlpEndpoint { host, port, .. } = self.endpoint;
        let path = if self.is_grpc() { "" } else { self.path() };
        self.set(&format!("{scheme}://{host}:{port}{path}"))
    }

    /// "set NAME=…" with another port, and the path that goes with it.
    fn set_port(&self, port: u16, path: &str) -> String {
        let scheme = if self.endpoint.tls { "https" } else { "http" };
        self.set(&format!("{scheme}://{}:{port}{path}", self.endpoint.host))
    }

    fn set(&self, url: &str) -> String {
        let source = self.endpoint.source.as_str();
        if source == "OTEL_EXPORTER_OTLP_ENDPOINT"
            && let Some(base) = url.strip_suffix("/v1/metrics")
        {
            return format!("set {source}={base}");
        }
        match source {
            // Without a path, as gRPC has it, a base is the whole address.
            "OTEL_EXPORTER_OTLP_ENDPOINT" if has_no_path(url) => format!("set {source}={url}"),
            // A base cannot name a path that does not end in `/v1/metrics`.
            "OTEL_EXPORTER_OTLP_ENDPOINT" => format!("set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={url}"),
            _ if self.is_default() => format!("set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={url}"),
            _ if source.starts_with("telemetry.") => format!("set {source} = {url:?}"),
            _ => format!("set {source}={url}"),
        }
    }
}

fn has_no_path(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'))
}

#[cfg(test)]
mod tests;
