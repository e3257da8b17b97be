//! The table of answers. The first case that applies gives the advice.
//!
//! Texts are matched by the words that the receivers' source codes use: Prometheus 3.5 to 3.14,
//! VictoriaMetrics 1.145, Go's `net/http`, nginx.

use super::Facts;
use crate::export::{
    answer::{Answer, Failure, TlsFailure},
    grpc::Code,
};

/// One row: when it applies and what to do then.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) applies: fn(&Facts<'_>) -> bool,
    pub(super) advice: fn(&Facts<'_>) -> String,
}

const PROMETHEUS: &str = "/api/v1/otlp/v1/metrics";
const VICTORIA_METRICS: &str = "/opentelemetry/v1/metrics";
const COLLECTOR: &str = "/v1/metrics";

const SET_PROTOBUF: &str = "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf (or telemetry.protocol)";
const CLIENT_CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY (or \
                                  telemetry.client_certificate and telemetry.client_key)";

const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS (or telemetry.headers)";

macro_rules! cases {
    ($($name:literal: |$facts:ident| $applies:expr => $advice:expr;)+) => {
        pub(super) static CASES: &[Case] = &[$(Case {
            name: $name,
            applies: |$facts: &Facts<'_>| $applies,
            advice: |$facts: &Facts<'_>| {
                // Advice that is the same for everybody does not look at the facts.
                let _ = $facts;
                $advice.into()
            },
        }),+];
    };
}

cases! {
    // Redirects: a POST that follows one mostly becomes a GET, or goes to a host nobody configured.
    "redirect_trailing_slash": |f| f.is_redirect() && f.path().len() > 1 && f.path().ends_with('/') =>
        format!("redirects are not followed; remove the trailing slash: {}", f.set_path(f.path_without_slash()));
    "redirect_to_https": |f| f.is_redirect() && !f.endpoint.tls && f.location().starts_with("https://") =>
        format!("redirects are not followed; the receiver wants https: set {} to that address", f.setting());
    "redirect": |f| f.is_redirect() =>
        format!("redirects are not followed; set {} to the address of the receiver itself", f.setting());

    // Wrong paths.
    "path_api_v2": |f| is_wrong_path(f) && f.path().starts_with("/api/v2/otlp") =>
        format!("Prometheus has no /api/v2 for OTLP, use {PROMETHEUS}: {}", f.set_path(PROMETHEUS));
    "path_twice": |f| is_wrong_path(f) && f.path().ends_with("/v1/metrics/v1/metrics") => format!(
        "/v1/metrics is there twice, as {} is a base to which it is appended: {}",
        f.setting(), f.set_path(f.path().strip_suffix(COLLECTOR).unwrap_or_default())
    );
    "receiver_off": |f| f.status() == 404 && f.says("otlp") && f.says("needs to be enabled") =>
        "Prometheus runs without its OTLP receiver: start it with --web.enable-otlp-receiver";
    "receiver_missing": |f| f.status() == 404 && f.path() == PROMETHEUS =>
        "this is the path of Prometheus's OTLP receiver, so the receiver is not there: start Prometheus 3 with \
         --web.enable-otlp-receiver; the prometheus package of Debian and Ubuntu is built without it, use an upstream \
         release or the image prom/prometheus";
    "path_trailing_slash": |f| is_wrong_path(f) && f.path().len() > 1 && f.path().ends_with('/') =>
        format!("remove the trailing slash: {}", f.set_path(f.path_without_slash()));
    "path_victoria_metrics": |f| f.status() == 400 && f.says("unsupported path") =>
        format!("VictoriaMetrics receives OTLP at {VICTORIA_METRICS}: {}", f.set_path(VICTORIA_METRICS));
    "path_prometheus": |f| is_wrong_path(f) && (f.endpoint.port == 9090 || f.path().starts_with("/api/v1")) =>
        format!("Prometheus receives OTLP at {PROMETHEUS}: {}", f.set_path(PROMETHEUS));
    "path": |f| is_wrong_path(f) => format!(
        "no OTLP receiver at this path; Prometheus has it at {PROMETHEUS}, the OpenTelemetry Collector at {COLLECTOR}, \
         VictoriaMetrics at {VICTORIA_METRICS}: correct {}", f.setting()
    );

    // gRPC at a port that has something else.
    "grpc_prometheus": |f| f.is_grpc() && f.endpoint.port == 9090 && (is_no_grpc(f) || f.is_code(Code::Unimplemented)) =>
        format!("Prometheus has no gRPC for OTLP: {SET_PROTOBUF} and {}", f.set_path(PROMETHEUS));
    "grpc_http_port": |f| f.is_grpc() && f.endpoint.port == 4318 && (is_no_grpc(f) || f.is_code(Code::Unimplemented)) =>
        format!("4318 is the port for OTLP over HTTP: {SET_PROTOBUF}, or, for gRPC, {}", f.set_port(4317, ""));
    "grpc_unimplemented": |f| f.is_code(Code::Unimplemented) => format!(
        "no OTLP receiver for metrics answers gRPC at this port; a Collector has it at 4317: correct {}, or \
         {SET_PROTOBUF} if the port is for HTTP", f.setting()
    );
    "grpc_not_http2": |f| f.is_grpc() && matches!(f.failed(), Some(Failure::NotHttp(_))) => format!(
        "this may be a port for HTTP/1.1 (gRPC mostly has 4317) or, with http://, a port that speaks TLS: correct {}, \
         or {SET_PROTOBUF}", f.setting()
    );
    "grpc_no_alpn": |f| is_tls(f, TlsFailure::NoHttp2) => format!(
        "the server does not agree to HTTP/2 (ALPN h2), which gRPC needs, so it, or a proxy in front of it, speaks \
         HTTP/1.1: correct {}, or {SET_PROTOBUF}", f.setting()
    );
    "grpc_closed": |f| f.is_grpc() && !f.endpoint.tls && matches!(f.failed(), Some(Failure::Closed(_))) => format!(
        "the receiver's log may say why; if the port is for HTTP/1.1, {SET_PROTOBUF}; if it speaks TLS, {}",
        f.set_scheme(true)
    );

    // 400 by what it says.
    "json_unsupported": |f| f.is_json() && f.status() == 400 && f.says("json encoding isn't supported") =>
        format!("VictoriaMetrics takes OTLP as protobuf only: {SET_PROTOBUF}");
    "plain_on_tls_port": |f| f.status() == 400 && f.says_any(&["HTTP request to an HTTPS server", "sent to HTTPS port"]) =>
        format!("this port speaks TLS: {}", f.set_scheme(true));
    "too_far_in_the_future": |f| f.status() == 400 && f.says("too far in the future") =>
        "the clock of this host is ahead of the receiver's by more than 10 minutes: set the clock";
    "out_of_order": |f| is_data_error(f) && f.says_any(&["out of order", "duplicate sample", "too old sample"]) =>
        "newer points of the same series are there already, so another process exports under the same \
         service.instance.id, or a clock was set back: give each gateway its own service.instance.id (the default), or \
         set storage.tsdb.out_of_order_time_window in Prometheus";
    "out_of_bounds": |f| f.status() == 400 && f.says("out of bounds") =>
        "the points are too old for the receiver: the clock of this host is behind by an hour or more, set it";
    "content_type_json": |f| f.is_json() && f.status() == 400 && f.says("unsupported content type") =>
        format!("the receiver does not take application/json: {SET_PROTOBUF}");
    "content_type": |f| f.status() == 400 && f.says("unsupported content type") =>
        "we send application/x-protobuf, so a proxy on the way changes the header";
    "compression": |f| (f.status() == 415 || f.says("unsupported compression")) && f.gzip =>
        "the receiver takes no gzip: set OTEL_EXPORTER_OTLP_COMPRESSION=none (or telemetry.compression)";
    "truncated": |f| f.status() == 400 && f.says("unexpected EOF") =>
        "the request is over the receiver's size limit, or was cut on the way";
    "bad_request": |f| f.status() == 400 || f.is_code(Code::InvalidArgument) =>
        "the receiver refused these points; they are counted as failed and the next export goes out as usual";

    // Access.
    "credentials_missing": |f| (is_unknown(f) || is_forbidden(f)) && !f.has_credentials => format!(
        "the receiver wants credentials and none are configured: set {HEADERS}, for example \
         Authorization=Bearer%20TOKEN"
    );
    "credentials_wrong": |f| is_unknown(f) =>
        format!("the receiver does not know the credentials it was sent: correct {HEADERS}");
    "forbidden": |f| is_forbidden(f) =>
        format!("the credentials may not write here: correct {HEADERS} or the rights they have at the receiver");
    "proxy_credentials": |f| f.status() == 407 =>
        "a proxy on the way wants credentials of its own, which are not supported";

    // Size and type.
    "too_large": |f| f.status() == 413 && !f.gzip =>
        "the request is too large: set OTEL_EXPORTER_OTLP_COMPRESSION=gzip (or telemetry.compression), or raise the \
         limit there";
    "too_large_gzip": |f| f.status() == 413 =>
        "the request is too large even with gzip: raise the limit of the receiver, or of the proxy in front of it";
    "grpc_too_large": |f| f.is_code(Code::ResourceExhausted) && f.says("larger than max") =>
        "the request is over the receiver's limit for a message, compressed or not: raise the limit there \
         (max_recv_msg_size_mib of a Collector's gRPC receiver)";
    "too_large_to_send": |f| matches!(f.failed(), Some(Failure::TooLarge(_))) =>
        "there are more series, or longer names, than one request can hold: report this, as requests are cut long before";
    "media_type_json": |f| f.is_json() && f.status() == 415 =>
        format!("the receiver does not take OTLP as JSON: {SET_PROTOBUF}");
    "media_type": |f| f.status() == 415 =>
        "the receiver does not take OTLP as protobuf over HTTP: point to one that does";

    // Trouble of the receiver's own; everything comes with the next export.
    "rate_limited": |f| f.status() == 429 =>
        "the receiver limits how much it takes; nothing is lost, raise OTEL_METRIC_EXPORT_INTERVAL (or \
         telemetry.interval) if it lasts";
    "grpc_exhausted": |f| f.is_code(Code::ResourceExhausted) =>
        "the receiver limits how much it takes; nothing is lost, raise OTEL_METRIC_EXPORT_INTERVAL (or \
         telemetry.interval) if it lasts";
    "native_histograms": |f| f.status() == 500 && f.says("native histograms are disabled") =>
        "start Prometheus with --enable-feature=native-histograms, or export explicit buckets, the default";
    "proxy_without_receiver": |f| matches!(f.status(), 502 | 504) =>
        "a proxy answered that it cannot reach the receiver; nothing is lost, the next export carries everything";
    "grpc_unavailable": |f| f.is_code(Code::Unavailable) =>
        "the receiver is starting or overloaded, or a proxy cannot reach it; nothing is lost, the next export carries \
         everything";
    "unavailable": |f| f.status() == 503 =>
        "the receiver is starting or overloaded; nothing is lost, the next export carries everything";
    "server_error": |f| f.status() >= 500 =>
        "an error inside the receiver: its own log says more; such requests are not repeated, the next export \
         carries everything";
    "grpc_timeout": |f| f.is_code(Code::DeadlineExceeded) || f.is_code(Code::Cancelled) =>
        "the receiver, or a proxy in front of it, gave up waiting; OTEL_EXPORTER_OTLP_TIMEOUT (or telemetry.timeout) \
         sets how long to wait";
    "grpc_error": |f| f.code().is_some() =>
        "the receiver's own log says more; the next export carries everything";
    "refused": |f| f.status() != 0 =>
        format!("no OTLP receiver answers so; check that {} points to one", f.setting());

    // No answer.
    "grpc_port": |f| !f.is_grpc() && f.endpoint.port == 4317 && matches!(f.failed(), Some(Failure::NotHttp(_) | Failure::Closed(_))) =>
        format!(
            "4317 is the port for gRPC: set OTEL_EXPORTER_OTLP_PROTOCOL=grpc (or telemetry.protocol), or, as OTLP over \
             HTTP has port 4318, {}", f.set_port(4318, COLLECTOR)
        );
    "not_http": |f| matches!(f.failed(), Some(Failure::NotHttp(_))) => format!(
        "this may be a gRPC port (OTLP over HTTP has 4318) or, with http://, a port that speaks TLS: correct {}",
        f.setting()
    );
    "plain_port": |f| is_tls(f, TlsFailure::Plain) =>
        format!("this port does not speak TLS: {}", f.set_scheme(false));
    "untrusted": |f| is_tls(f, TlsFailure::Untrusted) =>
        "its certificate is not signed by a known authority: set OTEL_EXPORTER_OTLP_CERTIFICATE (or \
         telemetry.certificate) \
         to the PEM file of the one that signed it";
    "wrong_name": |f| is_tls(f, TlsFailure::WrongName) =>
        format!("its certificate is for another name: use that name in {}", f.setting());
    "expired": |f| is_tls(f, TlsFailure::Expired) =>
        "its certificate has expired: renew it, or check the clock of this host";
    "client_certificate_missing": |f| is_tls(f, TlsFailure::ClientCertificate) && !f.has_client_certificate =>
        format!("the receiver asks for a client certificate and none is configured: set {CLIENT_CERTIFICATE}");
    "client_certificate_refused": |f| is_tls(f, TlsFailure::ClientCertificate) => format!(
        "the receiver does not accept our client certificate; it has to be valid and signed by an authority that the \
         receiver trusts: correct {CLIENT_CERTIFICATE}"
    );
    "tls": |f| is_tls(f, TlsFailure::Other) =>
        "the two sides found no common ground; some receivers also say so when they miss a client certificate";
    "connection_refused_default": |f| f.failed() == Some(&Failure::ConnectionRefused) && f.is_default() => format!(
        "no receiver is configured, so metrics go to the default address: set {} to yours, or \
         OTEL_METRICS_EXPORTER=none",
        f.setting()
    );
    "connection_refused": |f| f.failed() == Some(&Failure::ConnectionRefused) =>
        format!("nothing listens there: start the receiver, or correct {}", f.setting());
    "unresolved": |f| matches!(f.failed(), Some(Failure::Resolve(_))) =>
        format!("check the spelling in {} and this host's DNS", f.setting());
    "unreachable_tls": |f| f.endpoint.tls && f.failed() == Some(&Failure::ConnectTimeout) =>
        format!("a firewall, the wrong address, or a port that does not speak TLS: check {}", f.setting());
    "unreachable": |f| matches!(f.failed(), Some(Failure::ConnectTimeout | Failure::Unreachable(_))) =>
        format!("a firewall, or the wrong address: check {}", f.setting());
    "timeout": |f| matches!(f.failed(), Some(Failure::Timeout(_))) =>
        "the receiver is overloaded or hangs; OTEL_EXPORTER_OTLP_TIMEOUT (or telemetry.timeout) sets how long to wait";
    "closed": |f| matches!(f.failed(), Some(Failure::Closed(_))) && !f.endpoint.tls =>
        format!("the receiver's log may say why; if the port speaks TLS, {}", f.set_scheme(true));
    "closed_tls": |f| matches!(f.failed(), Some(Failure::Closed(_))) =>
        "the receiver's log may say why";
    "not_otlp": |f| matches!(f.failed(), Some(Failure::NotOtlp(_))) =>
        format!("no OTLP receiver sends that, so {} points to something else", f.setting());

    // Successes.
    "rejected": |f| matches!(f.answer, Answer::Partial { rejected: 1.., .. }) =>
        "the receiver's limits or its log say why; points left out are counted with error.type=rejected";
    "remark": |f| f.status() == 0 && f.code().is_none() => "nothing was left out";
}

fn is_wrong_path(facts: &Facts<'_>) -> bool {
    matches!(facts.status(), 404 | 405)
}

/// Prometheus 3.5 answers 500 for points older than its out-of-order window, later ones 400.
fn is_data_error(facts: &Facts<'_>) -> bool {
    matches!(facts.status(), 400 | 500)
}

/// Whether what is there does not look like gRPC at all.
fn is_no_grpc(facts: &Facts<'_>) -> bool {
    matches!(facts.failed(), Some(Failure::NotHttp(_) | Failure::NotOtlp(_) | Failure::Closed(_)))
        || is_tls(facts, TlsFailure::NoHttp2)
}

fn is_tls(facts: &Facts<'_>, failure: TlsFailure) -> bool {
    matches!(facts.failed(), Some(Failure::Tls(failed, _)) if *failed == failure)
}

fn is_unknown(facts: &Facts<'_>) -> bool {
    facts.status() == 401 || facts.is_code(Code::Unauthenticated)
}

fn is_forbidden(facts: &Facts<'_>) -> bool {
    facts.status() == 403 || facts.is_code(Code::PermissionDenied)
}
