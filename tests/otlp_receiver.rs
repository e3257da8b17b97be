//! Shows that every rule of the strict receiver bites, and that a good request passes.

#![cfg(test)]

mod support {
    pub(crate) mod messages;
    pub(crate) mod receiver;
}

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use prost::Message;
use support::{
    messages::{
        Answer, MILLISECOND, MINUTE, attribute, attributes, counter, exponential, exponential_point, gauge, histogram,
        histogram_point, metrics, now, number, post, push, request, send, sum,
    },
    receiver::{
        Receiver,
        Version::{self, V3_5, V3_14},
    },
};
use tollgate::proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceRequest;

const BOTH: [Version; 2] = [V3_5, V3_14];
const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");

fn good(time: u64) -> ExportMetricsServiceRequest {
    let counter = counter("tollgate.requests", time, 3.0);
    let histogram = histogram("tollgate.overhead.duration", time);
    request(vec![counter, histogram, gauge("process.uptime", time, 1.5)])
}

/// A good request with one thing changed.
fn bad(change: impl FnOnce(&mut ExportMetricsServiceRequest)) -> ExportMetricsServiceRequest {
    let mut message = good(now());
    change(&mut message);
    message
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// What a version does with a request.
#[derive(Debug)]
enum Expected {
    /// This status and a text with this in it; nothing is stored.
    Refused(u16, &'static str),
    /// The connection is cut; nothing is stored.
    Cut,
    /// Status 200, and a violation with this in it.
    Violation(&'static str),
    /// Status 200 and nothing to complain about.
    Fine,
}

#[track_caller]
fn assert_answer(receiver: &Receiver, answer: Answer, expected: &Expected, what: &str) {
    let violations = receiver.take_violations();
    let stored = !receiver.series().is_empty();
    match (expected, answer) {
        (Expected::Refused(status, text), Some((got, said))) => {
            assert_eq!((got, stored), (*status, false), "{what}: {said}");
            assert!(said.contains(text), "{what}: {said:?} has no {text:?}");
            assert!(violations.is_empty(), "{what}: {violations:?}");
        }
        (Expected::Cut, None) => assert!(!stored, "{what}"),
        (Expected::Violation(text), Some((200, _))) => {
            assert!(violations.iter().any(|violation| violation.contains(text)), "{what}: {violations:?}");
        }
        (Expected::Fine, Some((200, _))) => assert!(violations.is_empty(), "{what}: {violations:?}"),
        (expected, answer) => panic!("{what}: expected {expected:?}, got {answer:?} and {violations:?}"),
    }
}

#[test]
fn a_good_request_is_stored_under_the_names_that_prometheus_gives() {
    for version in BOTH {
        let receiver = Receiver::start(version);
        let time = now();
        assert_eq!(push(receiver.address(), &good(time)), Some((200, String::new())));
        assert_eq!(receiver.value("tollgate_requests_total", &[("tollgate_key", "a"), ("job", "tollgate")]), 3.0);
        assert_eq!(receiver.value("tollgate_requests_total", &[("instance", "two")]), 0.0);
        let bucket = |le| receiver.value("tollgate_overhead_duration_seconds_bucket", &[("le", le)]);
        assert_eq!([bucket("0.005"), bucket("1"), bucket("+Inf")], [1.0, 3.0, 6.0]);
        assert_eq!(receiver.value("tollgate_overhead_duration_seconds_sum", &[]), 2.5);
        assert_eq!(receiver.value("process_uptime_seconds", &[]), 1.5);
        assert_eq!(receiver.value("target_info", &[("service_version", "0.1.0"), ("instance", "one")]), 1.0);
        assert_eq!(receiver.series().len(), 8);
        let milliseconds = i64::try_from(time / MILLISECOND).unwrap();
        assert_eq!(receiver.samples("process_uptime_seconds", &[]), [(milliseconds, 1.5)]);

        let compressed = gzip(&good(time + MINUTE).encode_to_vec());
        let answer = post(receiver.address(), &[PROTOBUF, ("Content-Encoding", "gzip")], &compressed);
        assert_eq!(answer, Some((200, String::new())));
        assert_eq!(receiver.samples("process_uptime_seconds", &[]).len(), 2);
        assert_eq!(receiver.requests().iter().filter(|request| request.is_stored()).count(), 2);
    }
}

#[test]
fn what_is_no_otlp_request_is_refused() {
    let good = good(now()).encode_to_vec();
    let compressed = gzip(&good);
    let half = &compressed[..compressed.len() / 2];
    let type_text = "unsupported content type";
    let encoding_text = r#"Only "gzip" or no compression supported"#;
    #[rustfmt::skip]
    let cases = [
        (vec![], good.as_slice(), type_text),
        (vec![("Content-Type", "application/x-protobuf; charset=utf-8")], &good, type_text),
        (vec![("Content-Type", "Application/X-Protobuf")], &good, type_text),
        (vec![("Content-Type", "application/protobuf")], &good, type_text),
        (vec![PROTOBUF, ("Content-Encoding", "identity")], &good, encoding_text),
        (vec![PROTOBUF, ("Content-Encoding", "none")], &good, encoding_text),
        (vec![PROTOBUF, ("Content-Encoding", "deflate")], &good, encoding_text),
        (vec![PROTOBUF, ("Content-Encoding", "zstd")], &good, encoding_text),
        (vec![PROTOBUF, ("Content-Encoding", "gzip")], &good, ""),
        (vec![PROTOBUF, ("Content-Encoding", "gzip")], half, ""),
        (vec![PROTOBUF], &compressed, ""),
        (vec![PROTOBUF], &good[..good.len() - 7], ""),
        (vec![PROTOBUF], b"\xff\xff\xff\xff garbage", ""),
    ];
    for version in BOTH {
        for (headers, body, text) in &cases {
            let receiver = Receiver::start(version);
            let answer = post(receiver.address(), headers, body);
            assert_answer(&receiver, answer, &Expected::Refused(400, text), &format!("{version:?} {headers:?}"));
        }
    }
}

#[test]
fn only_the_right_path_and_method_reach_the_receiver() {
    let receiver = Receiver::start(V3_14);
    let body = good(now()).encode_to_vec();
    let to = |method: &str, target: &str| send(receiver.address(), method, target, &[PROTOBUF], &body).unwrap();
    assert_eq!(to("POST", "/api/v2/otlp/v1/metrics"), (404, "404 page not found".to_owned()));
    assert_eq!(to("POST", "/v1/metrics").0, 404);
    assert_eq!(to("POST", "/").0, 404);
    assert_eq!(to("GET", "/api/v1/otlp/v1/metrics").0, 405);
    assert_eq!(to("POST", "/api/v1/otlp/v1/metrics/"), (307, "/otlp/v1/metrics".to_owned()));
    assert_eq!(to("POST", "/api/v1/otlp/v1/metrics?x=1").0, 200);
}

#[test]
fn a_body_over_32_mebibytes_is_refused_by_3_14_only() {
    let large = |message: &mut ExportMetricsServiceRequest| {
        metrics(message)[0].description = "x".repeat(33 * 1024 * 1024);
    };
    let message = bad(large);
    for (version, expected) in [(V3_5, Expected::Fine), (V3_14, Expected::Refused(400, "unexpected EOF"))] {
        let receiver = Receiver::start(version);
        let answer = push(receiver.address(), &message);
        assert_answer(&receiver, answer, &expected, &format!("{version:?}"));
    }
}

#[test]
#[rustfmt::skip]
fn rules_on_metrics_and_times() {
    use Expected::{Cut, Fine, Refused, Violation};
    let empty = || bad(|message| sum(message).data_points.clear());
    let no_data = || bad(|message| metrics(message)[0].data = None);
    let temporality = |value: i32| bad(|message| sum(message).aggregation_temporality = value);
    let delta_histogram = || bad(|message| {
        use tollgate::proto::opentelemetry::proto::metrics::v1::metric::Data;
        let Some(Data::Histogram(histogram)) = &mut metrics(message)[1].data else { unreachable!() };
        histogram.aggregation_temporality = 1;
    });
    let exponential_with = |change: fn(&mut ExportMetricsServiceRequest)| {
        let mut message = request(vec![exponential("tollgate.wait", now())]);
        change(&mut message);
        message
    };
    let at = |time: u64| bad(|message| sum(message).data_points[0] = number(time.max(6 * MINUTE), 1.0));
    let time_0 = bad(|message| sum(message).data_points[0].time_unix_nano = 0);
    let cases = [
        ("no points", empty(), Violation("empty data points"), Refused(500, "empty data points")),
        ("no data", no_data(), Violation("silently left out"), Refused(500, "")),
        ("delta", temporality(1), Violation("invalid temporality"), Refused(500, "invalid temporality and type combination")),
        ("unspecified", temporality(0), Violation("invalid temporality"), Refused(500, "invalid temporality")),
        ("delta histogram", delta_histogram(), Violation("invalid temporality"), Refused(500, "invalid temporality")),
        ("exponential", exponential_with(|_| ()), Refused(500, "native histograms are disabled"), Fine),
        ("exponential count", exponential_with(|message| exponential_point(message).count = 5),
            Refused(500, ""), Refused(500, "should equal the number of observations")),
        ("exponential scale", exponential_with(|message| exponential_point(message).scale = -5),
            Refused(500, ""), Refused(500, "Scale must be >= -4")),
        ("name without a letter", bad(|message| (metrics(message)[2].name, metrics(message)[2].unit) = ("π".into(), String::new())), Cut, Refused(500, "empty name")),
        ("time 0", time_0, Refused(400, "out of bounds"), Refused(400, "out of bounds")),
        ("2 h old", at(now() - 120 * MINUTE), Refused(400, "out of bounds"), Refused(400, "out of bounds")),
        ("11 min ahead", at(now() + 11 * MINUTE), Refused(400, "too far in the future"), Refused(400, "too far in the future")),
        ("times apart", at(now() - MINUTE), Violation("different timestamps"), Violation("different timestamps")),
        ("nothing", ExportMetricsServiceRequest::default(), Violation("the request is empty"), Violation("is empty")),
        ("no metrics", request(vec![]), Violation("without metrics"), Violation("without metrics")),
    ];
    for (what, message, on_3_5, on_3_14) in cases {
        for (version, expected) in [(V3_5, on_3_5), (V3_14, on_3_14)] {
            let receiver = Receiver::start(version);
            let answer = push(receiver.address(), &message);
            assert_answer(&receiver, answer, &expected, &format!("{version:?} {what}"));
        }
    }
}

#[test]
#[rustfmt::skip]
fn rules_on_attributes() {
    use Expected::{Cut, Refused, Violation};
    let key = |key: &str| bad(|message| attributes(message).push(attribute(key, "value")));
    let le = bad(|message| {
        metrics(message).remove(0);
        histogram_point(message).attributes.push(attribute("le", "1"));
    });
    let quantile = bad(|message| {
        metrics(message).remove(0);
        histogram_point(message).attributes.push(attribute("quantile", "1"));
    });
    let twice = bad(|message| attributes(message).push(attribute("tollgate.key", "b")));
    let identity = |missing: &str| bad(|message| {
        message.resource_metrics[0].resource.as_mut().unwrap().attributes.retain(|attribute| attribute.key != missing);
    });
    let cases = [
        ("empty key", key(""), Cut, Refused(500, "label name is empty")),
        ("__", key("__"), Violation("Prometheus keeps for itself"), Refused(500, "resulted in invalid name")),
        ("---", key("---"), Violation("Prometheus keeps for itself"), Refused(500, "resulted in invalid name")),
        ("__x", key("__x"), Violation("Prometheus keeps for itself"), Violation("Prometheus keeps for itself")),
        ("job", key("job"), Violation("overwritten by the resource's"), Violation("overwritten by the resource's")),
        ("instance", key("instance"), Violation("overwritten by the resource's"), Violation("overwritten")),
        ("le", le, Cut, Violation("`le` of a histogram is overwritten")),
        ("quantile", quantile, Violation("means something else"), Violation("means something else")),
        ("a key twice", twice, Violation("is there twice"), Violation("is there twice")),
        ("no instance", identity("service.instance.id"), Violation("no service.instance.id"), Violation("no service.instance.id")),
        ("no name", identity("service.name"), Violation("no service.name"), Violation("no service.name")),
    ];
    for (what, message, on_3_5, on_3_14) in cases {
        for (version, expected) in [(V3_5, on_3_5), (V3_14, on_3_14)] {
            let receiver = Receiver::start(version);
            let answer = push(receiver.address(), &message);
            assert_answer(&receiver, answer, &expected, &format!("{version:?} {what}"));
        }
    }
}

#[test]
fn a_value_that_is_no_utf_8_panics_3_5() {
    let mut body = good(now()).encode_to_vec();
    let at = body.windows(12).position(|window| window == b"tollgate.key").unwrap();
    body[at] = 0xff;
    for (version, expected) in [(V3_5, Expected::Cut), (V3_14, Expected::Refused(400, "UTF-8"))] {
        let receiver = Receiver::start(version);
        let answer = post(receiver.address(), &[PROTOBUF], &body);
        assert_answer(&receiver, answer, &expected, &format!("{version:?}"));
    }
}

#[test]
#[rustfmt::skip]
fn rules_on_points() {
    let histogram = |change: fn(&mut ExportMetricsServiceRequest)| bad(|message| {
        metrics(message).remove(0);
        change(message);
    });
    let cases = [
        ("count", histogram(|message| histogram_point(message).count = 99), "not the sum of the buckets"),
        ("lengths", histogram(|message| histogram_point(message).bucket_counts = vec![6]), "one bucket more than bounds"),
        ("order", histogram(|message| histogram_point(message).explicit_bounds = vec![1.0, 0.5]), "do not ascend"),
        ("equal bounds", histogram(|message| histogram_point(message).explicit_bounds = vec![1.0, 1.0]), "do not ascend"),
        ("+Inf", histogram(|message| histogram_point(message).explicit_bounds[1] = f64::INFINITY), "not finite"),
        ("sum of nothing", histogram(|message| {
            let point = histogram_point(message);
            (point.count, point.bucket_counts) = (0, vec![0; 3]);
        }), "a sum that cannot be"),
        ("start", bad(|message| {
            let point = &mut sum(message).data_points[0];
            point.start_time_unix_nano = point.time_unix_nano;
        }), "does not start before"),
        ("no start", bad(|message| sum(message).data_points[0].start_time_unix_nano = 0), "does not start before"),
        ("no value", bad(|message| sum(message).data_points[0].value = None), "without a value"),
        ("negative", bad(|message| sum(message).data_points[0].value = number(now(), -1.0).value), "a monotonic sum of -1"),
        ("NaN", bad(|message| sum(message).data_points[0].value = number(now(), f64::NAN).value), "NaN"),
        ("a set twice", bad(|message| {
            let point = sum(message).data_points[0].clone();
            sum(message).data_points.push(point);
        }), "is lost"),
        ("a set twice, in two scopes", bad(|message| {
            let mut scope = message.resource_metrics[0].scope_metrics[0].clone();
            scope.scope.as_mut().unwrap().name = "other".into();
            scope.metrics.truncate(1);
            message.resource_metrics[0].scope_metrics.push(scope);
        }), "is lost"),
        ("one name for two metrics", bad(|message| {
            let time = sum(message).data_points[0].time_unix_nano;
            metrics(message).push(counter("tollgate_requests_total", time, 1.0));
        }), "are both stored as tollgate_requests_total"),
    ];
    for (what, message, violation) in cases {
        for version in BOTH {
            let receiver = Receiver::start(version);
            let answer = push(receiver.address(), &message);
            assert_answer(&receiver, answer, &Expected::Violation(violation), &format!("{version:?} {what}"));
        }
    }
}

/// What a second request may be after a first at `time`.
fn second(
    version: Version,
    first: &ExportMetricsServiceRequest,
    next: &ExportMetricsServiceRequest,
) -> (Answer, Receiver) {
    let receiver = Receiver::start(version);
    assert_eq!(push(receiver.address(), first), Some((200, String::new())));
    let answer = push(receiver.address(), next);
    (answer, receiver)
}

#[test]
fn rules_on_the_order_of_requests() {
    let time = now();
    for version in BOTH {
        let (answer, receiver) = second(version, &good(time), &good(time));
        assert_eq!(answer.unwrap().0, 200, "an identical resend is harmless");
        assert_eq!(receiver.samples("process_uptime_seconds", &[]).len(), 1);

        let mut other_value = good(time);
        sum(&mut other_value).data_points[0].value = number(time, 4.0).value;
        let (answer, receiver) = second(version, &good(time), &other_value);
        assert_eq!(answer, Some((400, "duplicate sample for timestamp".to_owned())));
        assert_eq!(receiver.value("tollgate_requests_total", &[]), 3.0);

        // Finer than a millisecond is the same time.
        let mut finer = good(time / MILLISECOND * MILLISECOND);
        let first = finer.clone();
        sum(&mut finer).data_points[0] = number(time / MILLISECOND * MILLISECOND + 10, 4.0);
        let (answer, receiver) = second(version, &first, &finer);
        assert_eq!(answer, Some((400, "duplicate sample for timestamp".to_owned())));
        drop(receiver);

        let (answer, receiver) = second(version, &good(time), &good(time - MILLISECOND));
        assert_eq!(answer, Some((400, "out of order sample".to_owned())));
        assert_eq!(receiver.samples("process_uptime_seconds", &[]).len(), 1);
    }
}

#[test]
fn a_refused_request_stores_nothing_of_its_good_points() {
    let time = now();
    for version in BOTH {
        let mut later = good(time + 2 * MILLISECOND);
        sum(&mut later).data_points[0].time_unix_nano = time - MILLISECOND;
        let (answer, receiver) = second(version, &good(time), &later);
        assert_eq!(answer, Some((400, "out of order sample".to_owned())));
        assert_eq!(receiver.samples("process_uptime_seconds", &[]).len(), 1);
        assert_eq!(receiver.samples("tollgate_overhead_duration_seconds_sum", &[]).len(), 1);
    }
}

#[test]
fn target_info_gets_ahead_of_the_other_series() {
    let time = now();
    let other_series = |time: u64| request(vec![counter("tollgate.errors", time, 1.0)]);
    for version in BOTH {
        // A push from a clock that is ahead is taken, and the next one is refused for it.
        let (answer, _receiver) = second(version, &good(time + 9 * MINUTE), &other_series(time));
        assert_eq!(answer, Some((400, "out of order sample".to_owned())));
    }
}

#[test]
fn a_monotonic_sum_that_decreases_is_a_violation() {
    let time = now();
    for version in BOTH {
        let mut less = good(time + MINUTE);
        sum(&mut less).data_points[0] = number(time + MINUTE, 2.0);
        let (answer, receiver) = second(version, &good(time), &less);
        assert_eq!(answer.unwrap().0, 200);
        assert!(receiver.take_violations().iter().any(|violation| violation.contains("went from 3 to 2")));

        let mut reset = good(time + MINUTE);
        sum(&mut reset).data_points[0] = number(time + MINUTE, 2.0);
        sum(&mut reset).data_points[0].start_time_unix_nano = time + MILLISECOND;
        metrics(&mut reset).truncate(1);
        let (_, receiver) = second(version, &good(time), &reset);
        assert!(receiver.take_violations().is_empty(), "a new start is a reset");

        let mut overlap = good(time + MINUTE);
        sum(&mut overlap).data_points[0].start_time_unix_nano = time - MINUTE;
        metrics(&mut overlap).truncate(1);
        let (_, receiver) = second(version, &good(time), &overlap);
        assert!(receiver.take_violations().iter().any(|violation| violation.contains("earlier self")));
    }
}

#[test]
#[should_panic(expected = "stored what no exporter should send")]
fn a_violation_that_nobody_takes_fails_the_test() {
    let receiver = Receiver::start(V3_5);
    push(receiver.address(), &bad(|message| sum(message).data_points.clear()));
}
