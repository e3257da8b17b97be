//! The exporter against the strict receiver: what it sends, what it survives, what it says.

#![cfg(test)]

mod support {
    pub(crate) mod exporter;
    pub(crate) mod receiver;
}

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use support::{
    exporter::{Running, telemetry},
    receiver::{Fault, Receiver, Request, Version},
};
use tollgate::{
    api::rate_limit::Remaining,
    config::{Secret, Telemetry},
    export::{Delivery, ErrorType},
    proto::opentelemetry::proto::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
    telemetry::{
        Attribute, Counter, Registry,
        catalog::{self, CATALOG},
        dimensions::Outcome,
        instruments::{DeploymentInstruments, KeyModelInstruments, ModelInstruments, ServerInstruments},
    },
};

const EXPORTED: &str = "otel_sdk_exporter_metric_data_point_exported_total";
const RETRIES: &str = "tollgate_retries_total";

/// A registry with one counter to watch.
fn registry() -> (Arc<Registry>, Counter) {
    let registry = Registry::new();
    let counter = registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]);
    counter.create(());
    (registry, counter)
}

fn start() -> (Receiver, Arc<Registry>, Counter, Telemetry) {
    let receiver = Receiver::start(Version::V3_14);
    let telemetry = telemetry(receiver.address());
    let (registry, counter) = registry();
    (receiver, registry, counter, telemetry)
}

fn target(telemetry: &mut Telemetry, path: &str) {
    path.clone_into(&mut telemetry.destinations[0].endpoint.target);
}

/// The sentence of the next failure.
fn failure(running: &Running) -> (ErrorType, String) {
    let report = running.report_where(|report| matches!(report.delivery, Delivery::Failed { .. }));
    let Delivery::Failed { error, sentence, .. } = report.delivery else { unreachable!() };
    (error, sentence)
}

fn stored(requests: &[Request]) -> Vec<&Request> {
    requests.iter().filter(|request| request.is_stored()).collect()
}

#[test]
fn everything_the_catalog_promises_arrives_in_both_versions() {
    for version in [Version::V3_5, Version::V3_14] {
        let receiver = Receiver::start(version);
        let registry = Registry::new();
        let fixed = [Attribute::text("gen_ai.provider.name", "openai"), Attribute::text("gen_ai.request.model", "m")];
        let _server = ServerInstruments::bind(&registry, false);
        let deployment = DeploymentInstruments::bind(&registry, &fixed);
        deployment.set_remaining(&Remaining { requests: Some(1), tokens: Some(2) });
        let key = KeyModelInstruments::bind(&registry, "team-a", "m", true);
        let _model = ModelInstruments::bind(&registry, "m");
        key.requests.add(Outcome::Completed, 3);
        key.cost.create(());
        let running = Running::start(&registry, &telemetry(receiver.address()));
        let requests = receiver.wait_for_stored(3);
        let report = running.report();
        assert_eq!((report.number, report.attempts, &report.delivery), (1, 1, &Delivery::Accepted));
        let (_, _, log) = running.stop();

        assert_eq!(receiver.value("tollgate_requests_total", &[("tollgate_outcome", "completed")]), 3.0);
        assert_eq!(receiver.value("target_info", &[("service_version", "0.1.0")]), 1.0);
        assert!(receiver.value("process_memory_usage_bytes", &[]) > 1e5);
        assert!(receiver.value(EXPORTED, &[("otel_component_name", "otlp_http_metric_exporter/0")]) > 0.0);
        assert!(receiver.value("tollgate_export_last_success_age_seconds", &[]) < 20.0);
        let names: Vec<String> = receiver.series().into_iter().map(|labels| labels["__name__"].clone()).collect();
        for metric in CATALOG {
            // Histograms and per-status series begin with their first record.
            let at_start = !matches!(metric.kind, catalog::Kind::Histogram(_));
            let flat = metric.name.replace('.', "_");
            let found = names.iter().any(|name| name.starts_with(&flat));
            let unbound = metric.name == "tollgate.upstream.connections.opened";
            assert!(found || !at_start || unbound, "{} did not arrive", metric.name);
        }
        for request in &requests {
            assert_eq!((request.method.as_str(), request.status), ("POST", 200), "{}", request.text);
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            assert_eq!(request.header("content-encoding"), None);
            assert_eq!(request.header("accept-encoding"), None);
            let agent = format!("tollgate/{} (otlp-http-protobuf)", env!("CARGO_PKG_VERSION"));
            assert_eq!(request.header("user-agent"), Some(agent.as_str()));
            assert_eq!(request.header("host"), Some(receiver.address().to_string().as_str()));
        }
        assert_eq!(report.bytes, requests[0].body.len());
        assert_eq!(receiver.connections(), 1, "the connection is kept");
        assert_eq!(receiver.in_flight_max(), 1);
        assert_eq!(log.len(), 1, "{log:#?}");
        let line = format!(
            "INFO metrics are being exported endpoint=\"{}\" points={} bytes={}",
            receiver.url(),
            report.points,
            report.bytes
        );
        assert_eq!(log[0].trim(), line);
    }
}

#[test]
fn timestamps_only_go_forward_and_starts_stay() {
    let (receiver, registry, _counter, telemetry) = start();
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_stored(5);
    running.stop();
    let samples = receiver.samples(RETRIES, &[]);
    assert!(samples.len() >= 5);
    assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0), "{samples:?}");
}

#[test]
fn gzip_is_sent_when_asked_for() {
    let (receiver, registry, _, mut telemetry) = start();
    telemetry.destinations[0].gzip = true;
    let running = Running::start(&registry, &telemetry);
    let requests = receiver.wait_for_stored(2);
    // The first export has little in it that could be compressed.
    let report = [running.report(), running.report()][1].clone();
    running.stop();
    assert_eq!(requests[1].header("content-encoding"), Some("gzip"));
    assert!(requests[1].body.len() * 3 < report.bytes, "{} of {}", requests[1].body.len(), report.bytes);
}

#[test]
fn headers_are_sent_and_never_shown() {
    let (receiver, registry, _, mut telemetry) = start();
    telemetry.destinations[0].headers.push(("authorization".to_owned(), Secret::new("Bearer s3cr3t-token")));
    telemetry.destinations[0].headers.push(("content-type".to_owned(), Secret::new("text/plain")));
    receiver.script([Fault::status(401, "unknown token s3cr3t-token in Bearer s3cr3t-token")]);
    let running = Running::start(&registry, &telemetry);
    let (error, sentence) = failure(&running);
    assert_eq!(error, ErrorType::Unauthorized);
    assert!(sentence.contains("unknown token *** in ***"), "{sentence}");
    let requests = receiver.wait_for_stored(1);
    assert_eq!(requests[0].header("authorization"), Some("Bearer s3cr3t-token"));
    assert_eq!(requests[1].header("content-type"), Some("application/x-protobuf"));
    let (_, _, log) = running.stop();
    assert!(!log.join("\n").contains("s3cr3t"), "{log:#?}");
}

#[test]
fn the_path_of_the_original_report_is_explained_once() {
    let (receiver, registry, _, mut telemetry) = start();
    target(&mut telemetry, "/api/v2/otlp/v1/metrics");
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_requests(4);
    let (_, _, log) = running.stop();
    assert_eq!(log.len(), 1, "{log:#?}");
    assert!(log[0].contains("WARN metrics were not exported: "), "{}", log[0]);
    assert!(log[0].contains("answered 404 \"404 page not found\""), "{}", log[0]);
    let right = format!("set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT={}", receiver.url());
    assert!(log[0].contains(&right), "{}", log[0]);
    assert!(log[0].contains("error.type=\"404\""), "{}", log[0]);
}

#[test]
fn a_trailing_slash_is_explained_and_the_redirect_not_followed() {
    let (receiver, registry, _, mut telemetry) = start();
    target(&mut telemetry, "/api/v1/otlp/v1/metrics/");
    let running = Running::start(&registry, &telemetry);
    let (error, sentence) = failure(&running);
    assert_eq!(error, ErrorType::Redirect);
    assert!(sentence.contains("answered 307 to /otlp/v1/metrics: "), "{sentence}");
    assert!(sentence.ends_with(&format!("=http://{}/api/v1/otlp/v1/metrics", receiver.address())), "{sentence}");
    running.stop();
    assert!(receiver.requests().iter().all(|request| request.target == "/api/v1/otlp/v1/metrics/"));
}

#[test]
fn the_log_tells_changes_and_recovery_only() {
    let (receiver, registry, _, telemetry) = start();
    let wrong = || Fault::status(400, "out of order sample");
    receiver.script([wrong(), wrong(), wrong(), Fault::status(413, ""), Fault::status(413, "")]);
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_stored(3);
    let (_, _, log) = running.stop();
    assert_eq!(log.len(), 3, "{log:#?}");
    assert!(log[0].contains("WARN") && log[0].contains("service.instance.id"), "{}", log[0]);
    assert!(log[1].contains("WARN") && log[1].contains("OTEL_EXPORTER_OTLP_COMPRESSION=gzip"), "{}", log[1]);
    assert!(log[2].contains("INFO metrics are exported again"), "{}", log[2]);
    assert!(log[2].contains("troubled_exports=5"), "{}", log[2]);
}

#[test]
fn retryable_answers_are_retried_with_a_fresh_snapshot() {
    for status in [429, 502, 503, 504] {
        let (receiver, registry, _, mut telemetry) = start();
        telemetry.destinations[0].interval = Duration::from_millis(300);
        let running = Running::start(&registry, &telemetry);
        let first = running.report();
        receiver.script([Fault::status(status, "later").header("Retry-After", "0")]);
        let report = running.report();
        assert_eq!((report.attempts, &report.delivery), (2, &Delivery::Accepted), "{status}");
        running.stop();
        let requests = receiver.requests();
        assert_ne!(requests[1].body, requests[2].body, "{status}: the retry is a new snapshot");
        let counted = receiver.value(EXPORTED, &[]);
        let points = (first.points + report.points) as f64;
        assert_eq!(counted, points, "{status}: counted once, not per retry");
    }
}

/// What a receiver needs for `increase()` to see the first request.
#[test]
fn the_zeros_arrive_first_even_at_a_receiver_that_starts_late() {
    for fault in [Fault::status(503, "starting"), Fault::Close, Fault::Hang] {
        let (receiver, registry, counter, mut telemetry) = start();
        telemetry.destinations[0].timeout = Some(Duration::from_millis(100));
        receiver.always(fault);
        let running = Running::start(&registry, &telemetry);
        counter.add((), 3);
        for _ in 0..2 {
            failure(&running);
        }
        receiver.always(None);
        receiver.wait_for_stored(2);
        running.stop();
        let values: Vec<f64> = receiver.samples(RETRIES, &[]).into_iter().map(|(_, value)| value).collect();
        assert_eq!(values[..2], [0.0, 3.0]);
        assert!(receiver.requests().iter().all(|request| request.text.is_empty()), "no export was refused");
    }
}

#[test]
fn zeros_that_are_refused_do_not_stand_in_the_way() {
    let (receiver, registry, counter, telemetry) = start();
    receiver.script([Fault::status(400, "out of bounds")]);
    let running = Running::start(&registry, &telemetry);
    counter.add((), 3);
    receiver.wait_for_stored(1);
    running.stop();
    let values: Vec<f64> = receiver.samples(RETRIES, &[]).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values[0], 3.0);
}

#[test]
fn a_shutdown_before_the_first_export_still_sends_zeros_and_values() {
    let (receiver, registry, counter, mut telemetry) = start();
    telemetry.destinations[0].interval = Duration::from_secs(3_600);
    receiver.script([Fault::Slow(Duration::from_millis(200))]);
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_request_in_flight();
    counter.add((), 1);
    running.stop();
    let values: Vec<f64> = receiver.samples(RETRIES, &[]).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [0.0, 1.0]);
}

#[test]
fn other_answers_are_not_retried() {
    let statuses = [400, 401, 403, 404, 408, 413, 500, 501, 307];
    let (receiver, registry, _, telemetry) = start();
    receiver.script(statuses.map(|status| Fault::status(status, "no")));
    let running = Running::start(&registry, &telemetry);
    for status in statuses {
        let report = running.report();
        assert_eq!(report.attempts, 1, "{status}");
        assert!(matches!(report.delivery, Delivery::Failed { .. }), "{status}: {report:?}");
    }
    assert_eq!(running.report().delivery, Delivery::Accepted);
    running.stop();
}

#[test]
fn a_connection_that_ends_without_an_answer_is_retried() {
    let (receiver, registry, counter, mut telemetry) = start();
    telemetry.destinations[0].interval = Duration::from_secs(4);
    let running = Running::start(&registry, &telemetry);
    running.report();
    receiver.close_connections();
    // Whether the first was stored is unknown to the exporter; the second has to be fine either way.
    receiver.script([Fault::StoreAndClose, Fault::Close]);
    counter.add((), 7);
    let report = running.report();
    assert_eq!((report.attempts, report.delivery), (3, Delivery::Accepted));
    running.stop();
    assert_eq!(receiver.value(RETRIES, &[]), 7.0);
    assert!(receiver.requests().iter().all(|request| request.text.is_empty()));
}

#[test]
fn a_closed_idle_connection_costs_nothing() {
    let (receiver, registry, _, telemetry) = start();
    let running = Running::start(&registry, &telemetry);
    for _ in 0..4 {
        assert_eq!(running.report().delivery, Delivery::Accepted);
        receiver.close_connections();
    }
    let (_, reports, log) = running.stop();
    assert!(reports.iter().all(|report| report.delivery == Delivery::Accepted), "{reports:#?}");
    assert_eq!(log.len(), 1, "{log:#?}");
    assert!(receiver.connections() > 1);
}

#[test]
fn retry_after_is_waited_for() {
    let (receiver, registry, _, mut telemetry) = start();
    telemetry.destinations[0].interval = Duration::from_secs(20);
    receiver.script([Fault::status(429, "slow down").header("Retry-After", "1")]);
    let running = Running::start(&registry, &telemetry);
    let requests = receiver.wait_for_stored(1);
    running.stop();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
}

#[test]
fn a_long_retry_after_holds_later_exports_back_but_not_the_last() {
    let (receiver, registry, counter, telemetry) = start();
    receiver.script([Fault::status(503, "").header("Retry-After", "3600")]);
    let running = Running::start(&registry, &telemetry);
    let first = running.report();
    assert!(matches!(first.delivery, Delivery::Failed { error: ErrorType::ServiceUnavailable, .. }), "{first:?}");
    for _ in 0..5 {
        let held = running.report();
        assert_eq!(held.attempts, 0);
        let Delivery::Held(pause) = held.delivery else { panic!("{held:?}") };
        assert!(pause <= Duration::from_secs(300), "capped at five minutes");
    }
    assert_eq!(receiver.requests().len(), 1);
    counter.add((), 1);
    running.stop();
    assert_eq!(receiver.requests().len(), 3, "the zeros and the last values");
    assert_eq!(receiver.value(RETRIES, &[]), 1.0);
}

#[test]
fn a_receiver_that_hangs_is_a_timeout_and_the_next_export_works() {
    let (receiver, registry, _, mut telemetry) = start();
    telemetry.destinations[0].timeout = Some(Duration::from_millis(200));
    receiver.script([Fault::Hang]);
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    assert_eq!(report.attempts, 1);
    let Delivery::Failed { error, sentence, .. } = report.delivery else { panic!("{report:?}") };
    assert_eq!(error, ErrorType::Timeout);
    assert!(sentence.contains("did not answer within 200ms"), "{sentence}");
    assert_eq!(running.report().delivery, Delivery::Accepted);
    running.stop();
    assert!(receiver.value(EXPORTED, &[("error_type", "timeout")]) > 0.0);
}

#[test]
fn the_export_timeout_bounds_a_request_without_one() {
    let (receiver, registry, _, mut telemetry) = start();
    (telemetry.destinations[0].timeout, telemetry.destinations[0].export_timeout) = (None, None);
    telemetry.destinations[0].interval = Duration::from_millis(200);
    receiver.script([Fault::Hang]);
    let running = Running::start(&registry, &telemetry);
    assert_eq!(failure(&running).0, ErrorType::Timeout);
    running.stop();
}

#[test]
fn an_endless_answer_is_not_read() {
    let (receiver, registry, _, telemetry) = start();
    receiver.script([Fault::Endless]);
    let running = Running::start(&registry, &telemetry);
    let (error, sentence) = failure(&running);
    assert_eq!(error, ErrorType::Other);
    assert!(sentence.contains("answered with more than 64 KiB"), "{sentence}");
    // What is beyond 64 KiB sits in socket buffers.
    assert!(receiver.endless_bytes() < 32 * 1024 * 1024, "{}", receiver.endless_bytes());
    assert_eq!(running.report().delivery, Delivery::Accepted);
    running.stop();
}

#[test]
fn rejected_points_are_counted_and_not_sent_again() {
    let (receiver, registry, _, telemetry) = start();
    let partial_success =
        Some(ExportMetricsPartialSuccess { rejected_data_points: 2, error_message: "too many series".to_owned() });
    let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    let headers = vec![("Content-Type", "application/x-protobuf".to_owned())];
    receiver.script([Fault::StoreAndAnswer { status: 200, headers, body }]);
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    assert_eq!(report.attempts, 1);
    assert!(matches!(report.delivery, Delivery::Partial { rejected: 2, .. }), "{report:?}");
    receiver.wait_for_stored(2);
    let (_, _, log) = running.stop();
    assert_eq!(receiver.value(EXPORTED, &[("error_type", "rejected")]), 2.0);
    assert!(log[0].contains("left out 2 points and says \"too many series\""), "{log:#?}");
    assert!(log[1].contains("INFO metrics are exported again"), "{log:#?}");
}

#[test]
fn what_speaks_no_http_is_explained() {
    // The settings frame with which an HTTP/2 server greets, gRPC servers among them.
    const SETTINGS: &[u8] = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00";
    let (receiver, registry, _, telemetry) = start();
    receiver.always(Fault::Garbage(SETTINGS));
    let running = Running::start(&registry, &telemetry);
    let (_, sentence) = failure(&running);
    assert!(sentence.contains("gRPC port (OTLP over HTTP has 4318)"), "{sentence}");
    running.stop();
}

#[test]
fn tls_to_a_plain_port_is_explained() {
    let (receiver, registry, _, mut telemetry) = start();
    telemetry.destinations[0].endpoint.tls = true;
    let running = Running::start(&registry, &telemetry);
    let (error, sentence) = failure(&running);
    running.stop();
    assert_eq!(error, ErrorType::Connect);
    assert!(sentence.ends_with(&format!("METRICS_ENDPOINT={}", receiver.url())), "{sentence}");
}

#[test]
fn a_port_where_nobody_listens_and_a_name_nobody_has_are_explained() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (registry, _) = registry();
    let mut telemetry = telemetry(port);
    let running = Running::start(&registry, &telemetry);
    let (error, sentence) = failure(&running);
    assert_eq!(error, ErrorType::Connect);
    assert!(
        sentence.contains(&format!("refused the connection to port {}: nothing listens", port.port())),
        "{sentence}"
    );
    running.stop();

    "no-such-host.invalid".clone_into(&mut telemetry.destinations[0].endpoint.host);
    let running = Running::start(&registry, &telemetry);
    let (error, sentence) = failure(&running);
    assert_eq!(error, ErrorType::Connect);
    assert!(sentence.starts_with("the name no-such-host.invalid has no address"), "{sentence}");
    let (elapsed, _, _) = running.stop();
    assert!(elapsed < Duration::from_secs(2), "a receiver that was dead before is not waited for: {elapsed:?}");
}

#[test]
fn the_last_increments_arrive() {
    let (receiver, registry, counter, mut telemetry) = start();
    telemetry.destinations[0].interval = Duration::from_secs(60);
    let running = Running::start(&registry, &telemetry);
    counter.add((), 41);
    receiver.wait_for_stored(1);
    counter.add((), 1);
    let (elapsed, _, _) = running.stop();
    assert_eq!(receiver.value(RETRIES, &[]), 42.0);
    assert_eq!(receiver.requests().len(), 2);
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
}

#[test]
fn a_receiver_that_hangs_holds_the_end_up_for_five_seconds_at_most() {
    let (receiver, registry, _, mut telemetry) = start();
    telemetry.destinations[0].timeout = None;
    receiver.always(Fault::Hang);
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_request_in_flight();
    let (elapsed, reports, _) = running.stop();
    assert!(elapsed < Duration::from_millis(5_500), "{elapsed:?}");
    let last = reports.last().unwrap();
    assert!(matches!(last.delivery, Delivery::Failed { error: ErrorType::Timeout, .. }), "{last:?}");

    telemetry.destinations[0].export_timeout = Some(Duration::from_millis(300));
    let running = Running::start(&registry, &telemetry);
    running.report();
    let (elapsed, _, _) = running.stop();
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
}

#[test]
fn a_slow_receiver_gets_one_export_at_a_time_and_none_is_queued() {
    let (receiver, registry, _, telemetry) = start();
    receiver.always(Fault::Slow(Duration::from_millis(180)));
    let running = Running::start(&registry, &telemetry);
    let begun = Instant::now();
    let requests = receiver.wait_for_stored(4);
    let elapsed = begun.elapsed();
    receiver.always(None);
    running.stop();
    assert_eq!(receiver.in_flight_max(), 1);
    assert!(elapsed >= Duration::from_millis(4 * 180), "{elapsed:?}");
    for pair in requests.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_millis(180), "{:?}", pair[1].at - pair[0].at);
    }
}

#[test]
fn an_outage_loses_nothing() {
    let (receiver, registry, counter, telemetry) = start();
    let running = Running::start(&registry, &telemetry);
    let mut total = 0;
    let outages = [
        Fault::status(500, "boom"),
        Fault::status(400, "bad"),
        Fault::status(413, "large"),
        Fault::redirect(302, "/elsewhere"),
        Fault::Endless,
    ];
    for fault in outages {
        receiver.always(fault);
        for _ in 0..3 {
            counter.add((), 5);
            total += 5;
            failure(&running);
        }
        receiver.always(None);
        running.report_where(|report| report.delivery == Delivery::Accepted);
    }
    running.stop();
    let requests = receiver.requests();
    assert_eq!(receiver.value(RETRIES, &[]), f64::from(total));
    assert!(stored(&requests).len() >= 6);
    assert!(requests.iter().all(|request| request.text.is_empty()), "no export was refused by the rules");
}

#[test]
fn without_a_receiver_snapshots_are_observed_all_the_same() {
    let (registry, _) = registry();
    let mut telemetry = telemetry("127.0.0.1:1".parse().unwrap());
    telemetry.destinations.clear();
    let running = Running::start(&registry, &telemetry);
    for number in 1..=3 {
        let report = running.report();
        assert_eq!((report.number, report.attempts, &report.delivery), (number, 0, &Delivery::Off));
    }
    let (_, reports, log) = running.stop();
    assert!(reports.iter().all(|report| report.delivery == Delivery::Off));
    assert!(log.is_empty(), "{log:?}");
}

#[test]
fn what_cannot_work_is_said_at_the_start() {
    let (registry, _) = registry();
    let with = |change: fn(&mut Telemetry)| {
        let mut telemetry = telemetry("127.0.0.1:1".parse().unwrap());
        change(&mut telemetry);
        tollgate::export::Exporter::new(Arc::clone(&registry), &telemetry).unwrap_err()
    };
    assert!(
        with(|telemetry| telemetry.destinations[0].headers.push(("a b".to_owned(), Secret::new("x"))))
            .contains("\"a b\"")
    );
    let unreadable = with(|telemetry| {
        telemetry.destinations[0].certificate = Some("/no/such/file.pem".into());
        telemetry.destinations[0].endpoint.tls = true;
    });
    assert!(unreadable.contains("/no/such/file.pem"), "{unreadable}");
}
