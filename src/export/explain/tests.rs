//! Every case of the table by an answer that means it.

use std::{collections::HashSet, time::Duration};

use super::*;
use crate::export::answer::TlsFailure;

const METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const NOT_FOUND: &str = "404 page not found";

/// An answer, where it came from, and what is said about it.
struct Row {
    case: &'static str,
    url: &'static str,
    source: &'static str,
    answer: Answer,
    protocol: Protocol,
    credentials: bool,
    client_certificate: bool,
    gzip: bool,
    /// The sentence ends so.
    advice: &'static str,
}

fn row(case: &'static str, url: &'static str, answer: Answer, advice: &'static str) -> Row {
    let protocol = Protocol::HttpProtobuf;
    Row {
        case,
        url,
        source: METRICS,
        answer,
        protocol,
        credentials: false,
        client_certificate: false,
        gzip: false,
        advice,
    }
}

fn grpc(case: &'static str, url: &'static str, answer: Answer, advice: &'static str) -> Row {
    Row { protocol: Protocol::Grpc, ..row(case, url, answer, advice) }
}

fn json(case: &'static str, url: &'static str, answer: Answer, advice: &'static str) -> Row {
    Row { protocol: Protocol::HttpJson, ..row(case, url, answer, advice) }
}

impl Row {
    fn source(self, source: &'static str) -> Self {
        Self { source, ..self }
    }

    fn credentials(self) -> Self {
        Self { credentials: true, ..self }
    }

    fn client_certificate(self) -> Self {
        Self { client_certificate: true, ..self }
    }

    fn gzip(self) -> Self {
        Self { gzip: true, ..self }
    }
}

fn refused(status: u16, text: &str) -> Answer {
    Answer::Refused { status, location: None, retry_after: None, text: text.into() }
}

fn code(code: Code, text: &str) -> Answer {
    Answer::RefusedGrpc { code, retry_after: None, text: text.into() }
}

fn redirect(status: u16, location: &str) -> Answer {
    Answer::Refused { status, location: Some(location.into()), retry_after: None, text: String::new() }
}

fn tls(failure: TlsFailure) -> Answer {
    Answer::Failed(Failure::Tls(failure, "why".into()))
}

fn endpoint(url: &str, source: &str) -> OtlpEndpoint {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (authority, path) = rest.split_once('/').unwrap();
    let tls = scheme == "https";
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap()),
        None => (authority, if tls { 443 } else { 80 }),
    };
    OtlpEndpoint { tls, host: host.into(), port, target: format!("/{path}"), source: source.into() }
}

fn facts<'a>(endpoint: &'a OtlpEndpoint, answer: &'a Answer) -> Facts<'a> {
    let protocol = Protocol::HttpProtobuf;
    Facts { endpoint, protocol, has_credentials: false, has_client_certificate: false, gzip: false, answer }
}

#[rustfmt::skip]
fn paths() -> Vec<Row> {
    vec![
        row("redirect_trailing_slash", "http://p:9090/api/v1/otlp/v1/metrics/", redirect(307, "/otlp/v1/metrics"),
            "remove the trailing slash: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://p:9090/api/v1/otlp/v1/metrics"),
        row("redirect_to_https", "http://p/v1/metrics", redirect(301, "https://p/v1/metrics"),
            "the receiver wants https: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT to that address"),
        row("redirect", "https://p/v1/metrics", redirect(302, "https://login/"),
            "redirects are not followed; set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT to the address of the receiver itself"),
        // The report that this project was born from.
        row("path_api_v2", "http://prometheus:9090/api/v2/otlp/v1/metrics", refused(404, NOT_FOUND),
            "use /api/v1/otlp/v1/metrics: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://prometheus:9090/api/v1/otlp/v1/metrics"),
        row("path_api_v2", "http://p:9090/api/v2/otlp/v1/metrics", refused(404, NOT_FOUND),
            ": set OTEL_EXPORTER_OTLP_ENDPOINT=http://p:9090/api/v1/otlp").source(BASE),
        row("path_api_v2", "https://p/api/v2/otlp/v1/metrics", refused(404, NOT_FOUND),
            r#": set telemetry.endpoint = "https://p/api/v1/otlp/v1/metrics""#).source("telemetry.endpoint"),
        row("path_twice", "http://p:9090/api/v1/otlp/v1/metrics/v1/metrics", refused(404, NOT_FOUND),
            "as OTEL_EXPORTER_OTLP_ENDPOINT is a base to which it is appended: set OTEL_EXPORTER_OTLP_ENDPOINT=http://p:9090/api/v1/otlp").source(BASE),
        row("receiver_off", "http://p:9090/api/v1/otlp/v1/metrics",
            refused(404, "otlp write receiver needs to be enabled with --web.enable-otlp-receiver"),
            "start it with --web.enable-otlp-receiver"),
        row("receiver_missing", "http://p:9090/api/v1/otlp/v1/metrics", refused(404, NOT_FOUND),
            "the prometheus package of Debian and Ubuntu is built without it, use an upstream release or the image prom/prometheus"),
        row("path_trailing_slash", "http://p:9090/api/v1/otlp/v1/metrics/", refused(404, NOT_FOUND),
            "remove the trailing slash: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://p:9090/api/v1/otlp/v1/metrics"),
        row("path_victoria_metrics", "http://vm:8428/v1/metrics", refused(400, "unsupported path requested: \"/v1/metrics\""),
            "at /opentelemetry/v1/metrics: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://vm:8428/opentelemetry/v1/metrics"),
        row("path_prometheus", "http://p:9090/v1/metrics", refused(404, NOT_FOUND),
            "set OTEL_EXPORTER_OTLP_ENDPOINT=http://p:9090/api/v1/otlp").source(BASE),
        row("path_prometheus", "http://p:9090/", refused(405, "Method Not Allowed"),
            "set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://p:9090/api/v1/otlp/v1/metrics"),
        row("path_prometheus", "http://proxy/api/v1/otlp", refused(404, ""),
            "set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://proxy/api/v1/otlp/v1/metrics"),
        row("path", "http://c:4318/otlp", refused(404, NOT_FOUND),
            "the OpenTelemetry Collector at /v1/metrics, VictoriaMetrics at /opentelemetry/v1/metrics: correct OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
    ]
}

#[rustfmt::skip]
fn refusals() -> Vec<Row> {
    let url = "http://p:9090/api/v1/otlp/v1/metrics";
    vec![
        row("plain_on_tls_port", "http://p:4318/v1/metrics", refused(400, "Client sent an HTTP request to an HTTPS server."),
            "this port speaks TLS: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://p:4318/v1/metrics"),
        row("plain_on_tls_port", "http://p:443/v1/metrics", refused(400, "<title>400 The plain HTTP request was sent to HTTPS port</title>"),
            "set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://p:443/v1/metrics"),
        row("too_far_in_the_future", url, refused(400, "out of bounds: timestamp is too far in the future"), "set the clock"),
        row("out_of_order", url, refused(400, "out of order sample"), "storage.tsdb.out_of_order_time_window in Prometheus"),
        row("out_of_order", url, refused(400, "duplicate sample for timestamp"), "storage.tsdb.out_of_order_time_window in Prometheus"),
        row("out_of_order", url, refused(500, "too old sample"), "storage.tsdb.out_of_order_time_window in Prometheus"),
        row("out_of_bounds", url, refused(400, "out of bounds"), "behind by an hour or more, set it"),
        row("content_type", url, refused(400, "unsupported content type: text/plain, supported: […]"), "changes the header"),
        row("compression", url, refused(400, "unsupported compression: x. Only \"gzip\" or no compression supported"),
            "set OTEL_EXPORTER_OTLP_COMPRESSION=none (or telemetry.compression)").gzip(),
        row("compression", url, refused(415, ""), "set OTEL_EXPORTER_OTLP_COMPRESSION=none (or telemetry.compression)").gzip(),
        row("truncated", url, refused(400, "unexpected EOF"), "or was cut on the way"),
        json("json_unsupported", "http://vm:8428/opentelemetry/v1/metrics",
            refused(400, "json encoding isn't supported for opentelemetry format. Use protobuf encoding"),
            "protobuf only: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol)"),
        json("content_type_json", url, refused(400, "unsupported content type: application/json"),
            "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol)"),
        json("media_type_json", url, refused(415, ""), "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol)"),
        row("bad_request", url, refused(400, "proto: wrong wireType"), "the next export goes out as usual"),
        row("credentials_missing", url, refused(401, "no token"),
            "set OTEL_EXPORTER_OTLP_HEADERS (or telemetry.headers), for example Authorization=Bearer%20TOKEN"),
        row("credentials_missing", url, refused(403, ""), "for example Authorization=Bearer%20TOKEN"),
        row("credentials_wrong", url, refused(401, ""), "correct OTEL_EXPORTER_OTLP_HEADERS (or telemetry.headers)").credentials(),
        row("forbidden", url, refused(403, ""), "or the rights they have at the receiver").credentials(),
        row("proxy_credentials", url, refused(407, ""), "which are not supported"),
        row("too_large", url, refused(413, ""), "set OTEL_EXPORTER_OTLP_COMPRESSION=gzip (or telemetry.compression), or raise the limit there"),
        row("too_large_gzip", url, refused(413, ""), "or of the proxy in front of it").gzip(),
        row("media_type", url, refused(415, ""), "point to one that does"),
        row("rate_limited", url, refused(429, ""), "raise OTEL_METRIC_EXPORT_INTERVAL (or telemetry.interval) if it lasts"),
        row("native_histograms", url, refused(500, "native histograms are disabled"), "or export explicit buckets, the default"),
        row("proxy_without_receiver", url, refused(502, ""), "the next export carries everything"),
        row("proxy_without_receiver", url, refused(504, ""), "the next export carries everything"),
        row("unavailable", url, refused(503, "Service Unavailable"), "the next export carries everything"),
        row("server_error", url, refused(500, "boom"), "such requests are not repeated, the next export carries everything"),
        row("server_error", url, refused(599, ""), "the next export carries everything"),
        row("refused", url, refused(418, ""), "check that OTEL_EXPORTER_OTLP_METRICS_ENDPOINT points to one"),
    ]
}

#[rustfmt::skip]
fn failures() -> Vec<Row> {
    let url = "http://p:9090/api/v1/otlp/v1/metrics";
    let not_http = || Answer::Failed(Failure::NotHttp("invalid HTTP version parsed".into()));
    let closed = || Answer::Failed(Failure::Closed("connection reset".into()));
    vec![
        row("grpc_port", "http://c:4317/v1/metrics", not_http(),
            "or, as OTLP over HTTP has port 4318, set OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318").source(BASE),
        row("grpc_port", "http://c:4317/", closed(), "set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4318/v1/metrics"),
        row("not_http", "http://c:4320/v1/metrics", not_http(), "a port that speaks TLS: correct OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        row("plain_port", "https://c:4318/v1/metrics", tls(TlsFailure::Plain),
            "this port does not speak TLS: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4318/v1/metrics"),
        row("plain_port", "https://c/v1/metrics", tls(TlsFailure::Plain), "=http://c:443/v1/metrics"),
        row("untrusted", "https://c/v1/metrics", tls(TlsFailure::Untrusted), "to the PEM file of the one that signed it"),
        row("wrong_name", "https://c/v1/metrics", tls(TlsFailure::WrongName), "use that name in OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        row("expired", "https://c/v1/metrics", tls(TlsFailure::Expired), "or check the clock of this host"),
        row("client_certificate_missing", "https://c/v1/metrics", tls(TlsFailure::ClientCertificate),
            "none is configured: set OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY (or telemetry.client_certificate and telemetry.client_key)"),
        row("client_certificate_refused", "https://c/v1/metrics", tls(TlsFailure::ClientCertificate),
            "correct OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY (or telemetry.client_certificate and telemetry.client_key)").client_certificate(),
        row("tls", "https://c/v1/metrics", tls(TlsFailure::Other), "when they miss a client certificate"),
        row("too_large_to_send", url, Answer::Failed(Failure::TooLarge(70_000_000)), "as requests are cut long before"),
        row("connection_refused_default", "http://localhost:4318/v1/metrics", Answer::Failed(Failure::ConnectionRefused),
            "set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT (or telemetry.endpoint) to yours, or OTEL_METRICS_EXPORTER=none").source("default"),
        row("path_prometheus", "http://localhost:9090/v1/metrics", refused(404, NOT_FOUND),
            "set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://localhost:9090/api/v1/otlp/v1/metrics").source("default"),
        row("connection_refused", url, Answer::Failed(Failure::ConnectionRefused),
            "start the receiver, or correct OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        row("unresolved", url, Answer::Failed(Failure::Resolve("Name or service not known".into())), "and this host's DNS"),
        row("unreachable_tls", "https://c/v1/metrics", Answer::Failed(Failure::ConnectTimeout), "does not speak TLS: check OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        row("unreachable", url, Answer::Failed(Failure::ConnectTimeout), "check OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        row("unreachable", url, Answer::Failed(Failure::Unreachable("No route to host".into())), "check OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
        row("timeout", url, Answer::Failed(Failure::Timeout(Duration::from_secs(10))), "sets how long to wait"),
        row("closed", url, closed(), "if the port speaks TLS, set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://p:9090/api/v1/otlp/v1/metrics"),
        row("closed_tls", "https://c/v1/metrics", closed(), "the receiver's log may say why"),
        row("not_otlp", "http://p/", Answer::Failed(Failure::NotOtlp("an HTML page")), "so OTEL_EXPORTER_OTLP_METRICS_ENDPOINT points to something else"),
        row("rejected", url, Answer::Partial { rejected: 3, message: "limit".into() }, "are counted with error.type=rejected"),
        row("remark", url, Answer::Partial { rejected: 0, message: "use v2".into() }, "nothing was left out"),
    ]
}

#[rustfmt::skip]
fn grpc_answers() -> Vec<Row> {
    let url = "http://c:4317/";
    let not_http = || Answer::Failed(Failure::NotHttp("frame with invalid size".into()));
    let closed = || Answer::Failed(Failure::Closed("broken pipe".into()));
    let not_grpc = || Answer::Failed(Failure::NotOtlp("something that is not gRPC"));
    vec![
        grpc("grpc_prometheus", "http://p:9090/", not_http(),
            "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol) and set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://p:9090/api/v1/otlp/v1/metrics"),
        grpc("grpc_prometheus", "http://p:9090/", code(Code::Unimplemented, "HTTP 404: 404 page not found"),
            "and set OTEL_EXPORTER_OTLP_ENDPOINT=http://p:9090/api/v1/otlp").source(BASE),
        grpc("grpc_http_port", "http://c:4318/", not_http(),
            "4318 is the port for OTLP over HTTP: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol), or, for gRPC, set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c:4317"),
        grpc("grpc_http_port", "http://c:4318/", closed(), "set OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317").source(BASE),
        grpc("grpc_http_port", "http://c:4318/", not_grpc(), r#"set telemetry.endpoint = "http://c:4317""#).source("telemetry.endpoint"),
        grpc("grpc_http_port", "https://c:4318/", tls(TlsFailure::NoHttp2), "set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://c:4317"),
        grpc("grpc_unimplemented", url, code(Code::Unimplemented, "unknown service"),
            "correct OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol) if the port is for HTTP"),
        grpc("grpc_not_http2", url, not_http(),
            "correct OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol)"),
        grpc("grpc_no_alpn", "https://c/", tls(TlsFailure::NoHttp2),
            "correct OTEL_EXPORTER_OTLP_METRICS_ENDPOINT, or set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol)"),
        grpc("grpc_closed", url, closed(), "if it speaks TLS, set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=https://c:4317"),
        grpc("closed_tls", "https://c:4317/", closed(), "the receiver's log may say why"),
        grpc("plain_port", "https://c:4317/", tls(TlsFailure::Plain),
            "this port does not speak TLS: set OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4317").source(BASE),
        grpc("not_otlp", url, Answer::Failed(Failure::NotOtlp("no gRPC status")), "points to something else"),
        grpc("bad_request", url, code(Code::InvalidArgument, "bad"), "the next export goes out as usual"),
        grpc("credentials_missing", url, code(Code::Unauthenticated, "no token"), "for example Authorization=Bearer%20TOKEN"),
        grpc("credentials_missing", url, code(Code::PermissionDenied, ""), "for example Authorization=Bearer%20TOKEN"),
        grpc("credentials_wrong", url, code(Code::Unauthenticated, ""), "correct OTEL_EXPORTER_OTLP_HEADERS (or telemetry.headers)").credentials(),
        grpc("forbidden", url, code(Code::PermissionDenied, ""), "or the rights they have at the receiver").credentials(),
        grpc("grpc_too_large", url, code(Code::ResourceExhausted, "grpc: received message larger than max (4194305 vs. 4194304)"),
            "(max_recv_msg_size_mib of a Collector's gRPC receiver)"),
        grpc("grpc_exhausted", url, code(Code::ResourceExhausted, "quota"), "raise OTEL_METRIC_EXPORT_INTERVAL (or telemetry.interval) if it lasts"),
        grpc("grpc_unavailable", url, code(Code::Unavailable, "HTTP 502"), "the next export carries everything"),
        grpc("grpc_timeout", url, code(Code::DeadlineExceeded, ""), "sets how long to wait"),
        grpc("grpc_timeout", url, code(Code::Cancelled, ""), "sets how long to wait"),
        grpc("grpc_error", url, code(Code::Internal, "boom"), "the receiver's own log says more; the next export carries everything"),
    ]
}

#[test]
fn every_grpc_code_is_explained() {
    for code_ in Code::ALL {
        for port in ["4317", "4318", "9090"] {
            let endpoint = endpoint(&format!("http://h:{port}/"), BASE);
            let answer = code(code_, "");
            let facts = Facts { protocol: Protocol::Grpc, ..facts(&endpoint, &answer) };
            let (case, sentence) = explain(&facts);
            assert_ne!(case, "unknown", "{sentence}");
            assert!(sentence.starts_with(&format!("http://h:{port} answered {}: ", code_.as_str())), "{sentence}");
        }
    }
}

fn rows() -> impl Iterator<Item = Row> {
    paths().into_iter().chain(refusals()).chain(failures()).chain(grpc_answers())
}

impl Row {
    fn explain(&self, endpoint: &OtlpEndpoint) -> (&'static str, String) {
        explain(&Facts {
            endpoint,
            protocol: self.protocol,
            has_credentials: self.credentials,
            has_client_certificate: self.client_certificate,
            gzip: self.gzip,
            answer: &self.answer,
        })
    }
}

/// Writes the table of the documentation anew if it has changed, and fails, so that the fix is to
/// commit it.
#[test]
fn the_documentation_has_every_case() {
    let mut table = String::from("| case | what is said |\n|---|---|\n");
    let mut shown = HashSet::new();
    for row in rows() {
        let (case, sentence) = row.explain(&endpoint(row.url, row.source));
        if shown.insert(case) {
            table += &format!("| `{case}` | {} |\n", sentence.replace('|', "\\|").replace('<', "&lt;"));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/telemetry.md");
    let (begin, end) = ("<!-- answers: begin, generated -->\n", "<!-- answers: end -->");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let expected = format!("{before}{begin}\n{table}\n{end}{after}");
    if expected != text {
        std::fs::write(path, expected).unwrap();
        panic!("docs/telemetry.md was out of date and has been written anew: commit it");
    }
}

#[test]
fn every_answer_has_its_advice_and_every_case_an_answer() {
    let mut seen = HashSet::new();
    for row in rows() {
        let endpoint = endpoint(row.url, row.source);
        let (case, sentence) = row.explain(&endpoint);
        assert_eq!(case, row.case, "{sentence}");
        assert!(sentence.ends_with(row.advice), "{case}: {sentence:?} does not end with {:?}", row.advice);
        assert!(!sentence.contains('\n') && !sentence.contains("  "), "{case}: {sentence:?}");
        assert!(sentence.contains(&endpoint.host), "{case}: {sentence:?}");
        seen.insert(case);
    }
    for case in cases::CASES {
        assert!(seen.contains(case.name), "no answer leads to the case {}", case.name);
    }
}

#[test]
fn every_possible_answer_is_explained() {
    for status in 100..1_000 {
        for path in ["/", "/v1/metrics", "/api/v1/otlp/v1/metrics", "/api/v2/otlp/v1/metrics/"] {
            let endpoint = endpoint(&format!("http://h{path}"), "OTEL_EXPORTER_OTLP_ENDPOINT");
            let answer = refused(status, "");
            let facts = Facts { has_credentials: true, ..facts(&endpoint, &answer) };
            let (case, sentence) = explain(&facts);
            assert_ne!(case, "unknown", "{sentence}");
            assert!(sentence.contains(&status.to_string()), "{sentence}");
        }
    }
}

#[test]
fn what_came_back_is_quoted() {
    let sentence = |answer: Answer| {
        let endpoint = endpoint("http://p:9090/otlp?token=s3cr3t", METRICS);
        explain(&facts(&endpoint, &answer)).1
    };
    let not_found = sentence(refused(404, NOT_FOUND));
    assert!(not_found.starts_with(r#"http://p:9090/otlp?… answered 404 "404 page not found": "#), "{not_found}");
    assert!(!not_found.contains("s3cr3t"));
    let redirected = sentence(redirect(307, "/graph"));
    assert!(redirected.starts_with("http://p:9090/otlp?… answered 307 to /graph: "), "{redirected}");
    let timeout = sentence(Answer::Failed(Failure::Timeout(Duration::from_secs(10))));
    assert!(timeout.starts_with("http://p:9090/otlp?… did not answer within 10s: "), "{timeout}");
}

#[test]
fn urls_leave_out_the_scheme_s_own_port_and_the_query() {
    let shown = |text| url(&endpoint(text, "test"), Protocol::HttpProtobuf);
    assert_eq!(url(&endpoint("http://h:4317/any?key=1", "test"), Protocol::Grpc), "http://h:4317");
    assert_eq!(shown("http://h/v1/metrics"), "http://h/v1/metrics");
    assert_eq!(shown("https://h/?key=1"), "https://h/?…");
    assert_eq!(shown("https://[::1]:4318/v1/metrics"), "https://[::1]:4318/v1/metrics");
}
