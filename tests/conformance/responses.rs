//! Cases 18 to 24: what is made of answers. Case 21, the pauses between tries, stands in
//! `src/export/retry.rs`, where time can be paused.

use std::time::{Duration, SystemTime};

use prost::Message;
use tollgate::{
    export::{Delivery, ErrorType},
    proto::opentelemetry::proto::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
};

use super::shared::{Fault, Running, answered, failed, start};

const EXPORTED: &str = "otel_sdk_exporter_metric_data_point_exported_total";

fn partial(rejected_data_points: i64, message: &str) -> Fault {
    let error_message = message.to_owned();
    let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points, error_message });
    let body = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    Fault::StoreAndAnswer { status: 200, headers: vec![("Content-Type", "application/x-protobuf".to_owned())], body }
}

#[test]
fn case_18_success_and_partial_success() {
    let empty = Fault::StoreAndAnswer { status: 200, headers: Vec::new(), body: Vec::new() };
    assert_eq!(answered(empty).0.delivery, Delivery::Accepted);

    let (receiver, registry, _counter, telemetry) = start();
    receiver.script([partial(2, "too many series"), partial(0, "please use delta")]);
    let running = Running::start(&registry, &telemetry);
    let (rejected, warned) = (running.report(), running.report());
    receiver.wait_for_stored(4);
    let (_, _, log) = running.stop();
    assert!(matches!(rejected.delivery, Delivery::Partial { rejected: 2, .. }), "{rejected:?}");
    assert!(matches!(warned.delivery, Delivery::Partial { rejected: 0, .. }), "{warned:?}");
    assert_eq!((rejected.attempts, warned.attempts), (1, 1), "never again");
    assert_eq!(receiver.value(EXPORTED, &[("error_type", "rejected")]), 2.0);
    assert!(log[0].contains("WARN") && log[0].contains("too many series"), "{log:#?}");
    assert!(log[1].contains("WARN") && log[1].contains("please use delta"), "{log:#?}");
}

#[test]
fn case_19_only_these_answers_are_tried_again() {
    let again = [429, 502, 503, 504];
    let never = [400, 401, 403, 404, 408, 413, 500, 501];
    for status in again.into_iter().chain(never) {
        let (receiver, registry, _counter, mut telemetry) = start();
        telemetry.destinations[0].interval = Duration::from_secs(5);
        receiver.script([Fault::status(status, "no").header("Retry-After", "0")]);
        let running = Running::start(&registry, &telemetry);
        let report = running.report();
        running.stop();
        let expected = if again.contains(&status) { (2, true) } else { (1, false) };
        assert_eq!((report.attempts, report.delivery == Delivery::Accepted), expected, "{status}");
    }
    // A connection that is refused, and one that ends without an answer.
    for refused in [true, false] {
        let (receiver, registry, _counter, mut telemetry) = start();
        telemetry.destinations[0].interval = Duration::from_secs(20);
        if refused {
            receiver.refuse_connections();
        } else {
            receiver.script([Fault::Close]);
        }
        let running = Running::start(&registry, &telemetry);
        if refused {
            std::thread::sleep(Duration::from_millis(50));
            receiver.listen();
        }
        let report = running.report();
        running.stop();
        assert!(report.attempts > 1 && report.delivery == Delivery::Accepted, "{report:?}");
    }
}

#[test]
fn case_20_retry_after_is_honoured_within_limits() {
    /// How long the second try waited, at least and at most, in milliseconds.
    const ROWS: [(&str, u64, u64); 5] =
        // Without a meaning, the pause is the exporter's own: up to a second.
        [
            ("1", 1_000, 1_900),
            ("0", 0, 900),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 900),
            ("soon", 0, 1_900),
            ("in 3 s", 1_000, 3_900),
        ];
    for (value, least, most) in ROWS {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
        let value = if value == "in 3 s" { &*date } else { value };
        let (receiver, registry, _counter, mut telemetry) = start();
        telemetry.destinations[0].interval = Duration::from_secs(20);
        receiver.script([Fault::status(503, "").header("Retry-After", value)]);
        let running = Running::start(&registry, &telemetry);
        let requests = receiver.wait_for_stored(1);
        running.stop();
        let waited = requests[1].at - requests[0].at;
        assert!(waited >= Duration::from_millis(least) && waited < Duration::from_millis(most), "{value}: {waited:?}");
    }
    let (receiver, registry, _counter, telemetry) = start();
    receiver.script([Fault::status(429, "").header("Retry-After", "999999999999999999999")]);
    let running = Running::start(&registry, &telemetry);
    running.report();
    let Delivery::Held(pause) = running.report().delivery else { panic!("not held back") };
    running.stop();
    assert!(pause <= Duration::from_secs(300), "{pause:?}");
}

#[test]
fn case_22_a_redirect_is_reported_and_not_followed() {
    for status in [301, 307] {
        let (receiver, registry, _counter, telemetry) = start();
        receiver.script([Fault::redirect(status, "/elsewhere")]);
        let running = Running::start(&registry, &telemetry);
        let report = running.report();
        running.stop();
        let (error, sentence) = failed(&report);
        assert_eq!((report.attempts, error), (1, &ErrorType::Redirect));
        assert!(sentence.contains(&format!("answered {status} to /elsewhere")), "{sentence}");
        assert!(receiver.requests().iter().all(|request| request.target == "/api/v1/otlp/v1/metrics"));
    }
}

/// A `google.rpc.Status` of code 3 with this message, byte by byte.
fn rpc_status(message: &str) -> Vec<u8> {
    let length = u8::try_from(message.len()).unwrap();
    [&[0x08, 3, 0x12, length], message.as_bytes()].concat()
}

#[test]
fn case_23_what_an_error_says_is_shown_safely() {
    let text = answered(Fault::status(400, "out of order sample"));
    assert!(failed(&text.0).1.contains("\"out of order sample\""), "{}", failed(&text.0).1);

    let headers = vec![("Content-Type", "application/x-protobuf".to_owned())];
    let body = rpc_status("label name le is reserved");
    let status = answered(Fault::Answer { status: 400, headers, body });
    assert!(failed(&status.0).1.contains("\"label name le is reserved\""), "{}", failed(&status.0).1);

    let hostile = format!("\u{1b}[31m\r\nFAKE line\u{0}{}", "x".repeat(10_000));
    let (report, log) = answered(Fault::status(500, &hostile));
    let sentence = failed(&report).1;
    assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
    assert!(sentence.len() < 1_000, "{}", sentence.len());
    assert!(log.iter().all(|line| !line.starts_with("FAKE") && !line.contains('\u{1b}')), "{log:#?}");

    // The same trouble again is no news.
    let (receiver, registry, _counter, telemetry) = start();
    receiver.always(Fault::status(500, "boom"));
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_requests(8);
    assert_eq!(running.stop().2.len(), 1);
}

#[test]
fn case_24_a_404_names_the_path_and_the_flag_of_prometheus() {
    let (_receiver, registry, _counter, mut telemetry) = start();
    "/v1/metrics".clone_into(&mut telemetry.destinations[0].endpoint.target);
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    running.stop();
    assert!(failed(&report).1.contains("Prometheus has it at /api/v1/otlp/v1/metrics"), "{}", failed(&report).1);
    // Prometheus's answer where the receiver is switched off.
    let off = answered(Fault::status(404, "otlp write receiver needs to be enabled with --web.enable-otlp-receiver"));
    assert!(failed(&off.0).1.contains("--web.enable-otlp-receiver"), "{}", failed(&off.0).1);
}
