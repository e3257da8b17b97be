//! The exporter against the strict gRPC receiver: what it sends, what it makes of every answer.

#![cfg(test)]

mod support {
    pub(crate) mod exporter;
    pub(crate) mod grpc;
    pub(crate) mod receiver;
}

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use h2::Reason;
use support::{
    exporter::{Running, telemetry},
    grpc::{Fault, GrpcReceiver},
    receiver::{Receiver, Version},
};
use tollgate::{
    config::{Protocol, Secret, Telemetry},
    export::{Delivery, ErrorType, Report},
    telemetry::{Attribute, Registry, catalog},
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";

fn registry() -> Arc<Registry> {
    let registry = Registry::new();
    registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]).create(());
    registry
}

fn over_grpc(to: std::net::SocketAddr) -> Telemetry {
    let mut telemetry = telemetry(to);
    let destination = &mut telemetry.destinations[0];
    destination.protocol = Protocol::Grpc;
    destination.endpoint.target = "/".to_owned();
    telemetry
}

fn start() -> (GrpcReceiver, Arc<Registry>, Telemetry) {
    let receiver = GrpcReceiver::start();
    let telemetry = over_grpc(receiver.address());
    (receiver, registry(), telemetry)
}

fn failure(report: &Report) -> (ErrorType, &str) {
    let Delivery::Failed { error, sentence, .. } = &report.delivery else { panic!("{report:?}") };
    (*error, sentence)
}

#[test]
fn calls_are_as_grpc_wants_them_and_share_a_connection() {
    let (receiver, registry, mut telemetry) = start();
    let headers = &mut telemetry.destinations[0].headers;
    headers.push(("Authorization".to_owned(), Secret::new("Bearer s3cr3t")));
    headers.push(("grpc-timeout".to_owned(), Secret::new("1H")));
    headers.push(("te".to_owned(), Secret::new("gzip")));
    let running = Running::start(&registry, &telemetry);
    let calls = receiver.wait_for_calls(3);
    let report = running.report();
    assert_eq!((report.attempts, &report.delivery), (1, &Delivery::Accepted));
    assert_eq!(report.url.as_deref(), Some(format!("http://{}", receiver.address()).as_str()));
    running.stop();
    assert_eq!(report.bytes + 5, calls[0].bytes);
    for call in &calls {
        assert_eq!(call.header("authorization"), Some("Bearer s3cr3t"));
        assert_eq!(call.header("grpc-encoding"), None);
        let timeout = call.header("grpc-timeout").unwrap();
        let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
        assert!((1..=10_000_000).contains(&micros), "{timeout}");
    }
    assert_eq!(receiver.connections(), 1, "the connection is kept");
}

#[test]
fn gzip_is_sent_when_asked_for() {
    let (receiver, registry, mut telemetry) = start();
    telemetry.destinations[0].gzip = true;
    let running = Running::start(&registry, &telemetry);
    let calls = receiver.wait_for_calls(2);
    let report = [running.report(), running.report()][1].clone();
    running.stop();
    assert_eq!(calls[1].header("grpc-encoding"), Some("gzip"));
    assert!(calls[1].is_compressed && calls[1].bytes * 3 < report.bytes, "{} of {}", calls[1].bytes, report.bytes);
}

/// A fault, the requests it takes, and what is reported.
struct Row {
    fault: Fault,
    attempts: u32,
    /// `None` is success, with the retry.
    error: Option<ErrorType>,
    /// Parts of the sentence.
    says: &'static [&'static str],
}

fn fails(fault: Fault, error: ErrorType, says: &'static [&'static str]) -> Row {
    Row { fault, attempts: 1, error: Some(error), says }
}

fn is_retried(fault: Fault) -> Row {
    Row { fault, attempts: 2, error: None, says: &[] }
}

fn codes() -> Vec<Row> {
    vec![
        is_retried(Fault::retry(1, 0)),
        fails(Fault::status(2, "boom"), ErrorType::Unknown, &["answered UNKNOWN \"boom\": ", "own log"]),
        fails(Fault::status(3, "bad%20sum"), ErrorType::InvalidArgument, &["answered INVALID_ARGUMENT \"bad sum\": "]),
        is_retried(Fault::retry(4, 0)),
        fails(Fault::status(5, ""), ErrorType::GrpcNotFound, &["answered NOT_FOUND: "]),
        fails(Fault::status(6, ""), ErrorType::AlreadyExists, &["ALREADY_EXISTS"]),
        fails(
            Fault::status(7, ""),
            ErrorType::PermissionDenied,
            &["PERMISSION_DENIED", "Authorization=Bearer%20TOKEN"],
        ),
        fails(Fault::status(8, "quota"), ErrorType::ResourceExhausted, &["answered RESOURCE_EXHAUSTED \"quota\": "]),
        is_retried(Fault::retry(8, 0)),
        fails(Fault::retry(9, 0), ErrorType::FailedPrecondition, &["answered FAILED_PRECONDITION \"later\": "]),
        is_retried(Fault::retry(10, 0)),
        is_retried(Fault::retry(11, 0)),
        fails(
            Fault::trailers_only(12, "unknown service"),
            ErrorType::Unimplemented,
            &["answered UNIMPLEMENTED \"unknown service\": ", "set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"],
        ),
        fails(Fault::status(13, ""), ErrorType::Internal, &["answered INTERNAL: "]),
        is_retried(Fault::retry(14, 0)),
        is_retried(Fault::retry(15, 0)),
        fails(Fault::retry(16, 0), ErrorType::Unauthenticated, &["UNAUTHENTICATED", "Authorization=Bearer%20TOKEN"]),
        fails(Fault::status(99, ""), ErrorType::Unknown, &["answered UNKNOWN: "]),
    ]
}

fn oddities() -> Vec<Row> {
    let head = || vec![("content-type", "application/grpc".to_owned())];
    let no_status = Fault::Answer { status: 200, head: head(), body: vec![0; 5], trailers: Some(Vec::new()) };
    let cut_off = Fault::Answer { status: 200, head: head(), body: vec![0; 5], trailers: None };
    let two = Fault::body(&[0; 10]);
    vec![
        fails(no_status, ErrorType::Other, &["answered with no gRPC status: "]),
        fails(cut_off, ErrorType::Other, &["answered with no gRPC status: "]),
        fails(Fault::body(b""), ErrorType::Other, &["answered with no message: "]),
        fails(two, ErrorType::Other, &["answered with more than one message: "]),
        fails(Fault::body(b"\0\0\0\0\x09abc"), ErrorType::Other, &["answered with half a message: "]),
        fails(
            Fault::body(b"\x01\0\0\0\x01a"),
            ErrorType::Other,
            &["a compressed message, which it was not asked for: "],
        ),
        fails(Fault::Endless, ErrorType::Other, &["answered with more than 64 KiB: "]),
        fails(Fault::http(200, "text/html", "<html>"), ErrorType::Other, &["answered with an HTML page: "]),
        fails(Fault::http(200, "text/plain", "ok"), ErrorType::Other, &["answered with something that is not gRPC: "]),
        fails(
            Fault::http(404, "text/plain", "404 page not found\n"),
            ErrorType::Unimplemented,
            &["answered UNIMPLEMENTED \"HTTP 404: 404 page not found\": "],
        ),
        fails(Fault::http(401, "text/plain", ""), ErrorType::Unauthenticated, &["UNAUTHENTICATED \"HTTP 401\": "]),
        fails(Fault::http(302, "text/html", "moved"), ErrorType::Unknown, &["answered UNKNOWN \"HTTP 302: moved\": "]),
        fails(Fault::Reset(Reason::INTERNAL_ERROR), ErrorType::Internal, &["INTERNAL \"the server reset the stream"]),
        fails(Fault::Reset(Reason::ENHANCE_YOUR_CALM), ErrorType::ResourceExhausted, &["RESOURCE_EXHAUSTED"]),
        fails(Fault::Reset(Reason::INADEQUATE_SECURITY), ErrorType::PermissionDenied, &["PERMISSION_DENIED"]),
    ]
}

#[test]
fn every_answer_has_its_delivery_its_retries_and_its_sentence() {
    for row in codes().into_iter().chain(oddities()) {
        let (receiver, registry, mut telemetry) = start();
        telemetry.destinations[0].interval = Duration::from_secs(20);
        receiver.script([row.fault.clone()]);
        let running = Running::start(&registry, &telemetry);
        let report = running.report();
        running.stop();
        let Some(expected) = row.error else {
            assert_eq!((report.attempts, &report.delivery), (row.attempts, &Delivery::Accepted), "{:?}", row.fault);
            continue;
        };
        let (error, sentence) = failure(&report);
        assert_eq!((report.attempts, error), (row.attempts, expected), "{:?}: {sentence}", row.fault);
        let url = format!("http://{} ", receiver.address());
        assert!(sentence.starts_with(&url), "{:?}: {sentence}", row.fault);
        for part in row.says {
            assert!(sentence.contains(part), "{:?}: {sentence:?} does not say {part:?}", row.fault);
        }
    }
}

fn connection_faults() -> [Fault; 4] {
    [
        Fault::Close,
        Fault::Reset(Reason::REFUSED_STREAM),
        Fault::Abort(Reason::NO_ERROR),
        Fault::Abort(Reason::ENHANCE_YOUR_CALM),
    ]
}

#[test]
fn a_fresh_connection_that_fails_is_tried_again_after_a_pause() {
    let answers =
        [Fault::http(503, "text/plain", "no upstream"), Fault::status(14, "starting"), Fault::Reset(Reason::CANCEL)];
    for fault in connection_faults().into_iter().chain(answers) {
        let (receiver, registry, mut telemetry) = start();
        telemetry.destinations[0].interval = Duration::from_secs(20);
        receiver.script([fault.clone()]);
        let running = Running::start(&registry, &telemetry);
        let report = running.report();
        running.stop();
        assert_eq!((report.attempts, &report.delivery), (2, &Delivery::Accepted), "{fault:?}");
    }
}

#[test]
fn a_used_connection_that_fails_is_replaced_at_once() {
    for fault in connection_faults() {
        let (receiver, registry, mut telemetry) = start();
        telemetry.destinations[0].interval = Duration::from_millis(200);
        let running = Running::start(&registry, &telemetry);
        receiver.wait_for_calls(1);
        receiver.script([fault.clone()]);
        receiver.wait_for_connections(2);
        let (_, reports, _) = running.stop();
        let one_attempt = |report: &Report| report.attempts == 1 && report.delivery == Delivery::Accepted;
        assert!(reports.len() >= 2 && reports.iter().all(one_attempt), "{fault:?}: {reports:#?}");
        // The call that failed, and the same again, are one export.
        assert_eq!(receiver.calls().len(), reports.len() + 1, "{fault:?}");
    }
}

#[test]
fn a_connection_that_goes_away_costs_nothing() {
    let (receiver, registry, telemetry) = start();
    receiver.script([Fault::GoAway, Fault::GoAway, Fault::GoAway]);
    let running = Running::start(&registry, &telemetry);
    for _ in 0..5 {
        let report = running.report();
        assert_eq!((report.attempts, &report.delivery), (1, &Delivery::Accepted));
    }
    let (_, _, log) = running.stop();
    assert_eq!(log.len(), 1, "{log:#?}");
    // A call may come between the answer and the GOAWAY.
    assert!((2..=4).contains(&receiver.connections()));
}

#[test]
fn a_partial_success_is_counted_and_not_repeated() {
    let (receiver, registry, telemetry) = start();
    receiver.script([Fault::partial(2, "too many series"), Fault::partial(0, "use v2")]);
    let running = Running::start(&registry, &telemetry);
    let (first, second) = (running.report(), running.report());
    running.stop();
    assert_eq!((first.attempts, second.attempts), (1, 1));
    let Delivery::Partial { rejected: 2, sentence, .. } = first.delivery else { panic!("{first:?}") };
    assert!(sentence.contains("left out 2 points and says \"too many series\": "), "{sentence}");
    let Delivery::Partial { rejected: 0, sentence, .. } = second.delivery else { panic!("{second:?}") };
    assert!(sentence.contains("took all points and remarks \"use v2\": "), "{sentence}");
}

#[test]
fn the_pause_of_a_retry_info_is_kept() {
    let (receiver, registry, mut telemetry) = start();
    telemetry.destinations[0].interval = Duration::from_secs(20);
    receiver.script([Fault::retry(8, 1)]);
    let running = Running::start(&registry, &telemetry);
    let calls = receiver.wait_for_calls(2);
    running.stop();
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1));
}

#[test]
fn a_receiver_that_hangs_is_given_up_and_its_connection_too() {
    let (receiver, registry, mut telemetry) = start();
    telemetry.destinations[0].timeout = Some(Duration::from_millis(100));
    receiver.script([Fault::Hang]);
    let running = Running::start(&registry, &telemetry);
    let (first, second) = (running.report(), running.report());
    running.stop();
    assert_eq!((first.attempts, failure(&first).0), (1, ErrorType::Timeout));
    assert_eq!(second.delivery, Delivery::Accepted);
    let calls = receiver.calls();
    assert_eq!((calls[0].header("grpc-timeout"), calls[0].connection), (Some("100000u"), 0));
    assert_eq!(calls[1].connection, 1);
}

#[test]
fn an_answer_without_end_is_given_up() {
    let (receiver, registry, telemetry) = start();
    receiver.script([Fault::Endless]);
    let start = Instant::now();
    let running = Running::start(&registry, &telemetry);
    let (first, second) = (running.report(), running.report());
    running.stop();
    assert_eq!(failure(&first).0, ErrorType::Other);
    assert_eq!(second.delivery, Delivery::Accepted);
    let sent = receiver.endless_bytes();
    assert!(sent < 512 * 1024, "{sent} bytes");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_a_receiver_says_is_shown_without_our_credentials() {
    let (receiver, registry, mut telemetry) = start();
    telemetry.destinations[0].headers.push(("authorization".to_owned(), Secret::new("Bearer s3cr3t-token")));
    receiver.script([Fault::status(16, "unknown token s3cr3t%2dtoken%0a")]);
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    let (_, _, log) = running.stop();
    let (error, sentence) = failure(&report);
    assert_eq!(error, ErrorType::Unauthenticated);
    assert!(sentence.contains("UNAUTHENTICATED \"unknown token ***\": "), "{sentence}");
    assert!(!log.join("\n").contains("s3cr3t"), "{log:#?}");
}

#[test]
fn a_port_that_speaks_http_1_is_explained() {
    let receiver = Receiver::start(Version::V3_14);
    let running = Running::start(&registry(), &over_grpc(receiver.address()));
    let report = running.report();
    running.stop();
    let (_, sentence) = failure(&report);
    assert!(sentence.contains("HTTP/1.1") && sentence.contains("PROTOCOL=http/protobuf"), "{sentence}");
    assert!(sentence.contains(ENDPOINT), "{sentence}");
}

#[test]
fn tls_to_a_plain_port_is_explained() {
    let (receiver, registry, mut telemetry) = start();
    telemetry.destinations[0].endpoint.tls = true;
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    running.stop();
    let (error, sentence) = failure(&report);
    assert_eq!(error, ErrorType::Connect);
    assert!(sentence.contains("TLS"), "{sentence}");
    assert!(sentence.ends_with(&format!("set {ENDPOINT}=http://{}", receiver.address())), "{sentence}");
}
