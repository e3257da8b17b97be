//! Cases 11 to 17: requests as they are on the wire. Case 13 needs OpenTelemetry's Python and stands
//! with the real peers.

use std::{io::Read, sync::Arc};

use flate2::read::GzDecoder;
use prost::Message;
use serde_json::Value;
use tollgate::{
    config::Protocol,
    export::{Delivery, ErrorType},
    proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceRequest,
    telemetry::{Aggregations, Attribute, Counter, Registry, catalog, json, otlp},
};

use super::shared::{Capture, Fault, Running, failed, registry, start};

const AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

#[test]
fn case_11_the_content_type_is_exact_and_the_encoding_is_named_only_where_there_is_one() {
    for gzip in [false, true] {
        let (receiver, registry, _counter, mut telemetry) = start();
        telemetry.destinations[0].gzip = gzip;
        let running = Running::start(&registry, &telemetry);
        let requests = receiver.wait_for_stored(2);
        running.stop();
        for request in requests {
            assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
            assert_eq!(request.header("content-encoding"), gzip.then_some("gzip"));
            assert_eq!((request.method.as_str(), request.header("transfer-encoding")), ("POST", None));
            let mut body = Vec::new();
            if gzip {
                GzDecoder::new(&*request.body).read_to_end(&mut body).unwrap();
            } else {
                body.clone_from(&request.body);
            }
            assert_eq!(ExportMetricsServiceRequest::decode(&*body).ok(), request.message);
        }
    }
}

#[test]
fn case_12_the_user_agent_names_the_exporter_and_its_version() {
    let (receiver, registry, _counter, mut telemetry) = start();
    let running = Running::start(&registry, &telemetry);
    let requests = receiver.wait_for_stored(1);
    running.stop();
    assert_eq!(requests[0].header("user-agent"), Some(&*format!("{AGENT} (otlp-http-protobuf)")));

    let capture = Capture::start(None, Vec::new());
    telemetry.destinations[0].endpoint.port = capture.address().port();
    telemetry.destinations[0].protocol = Protocol::HttpJson;
    let running = Running::start(&registry, &telemetry);
    let head = capture.request().head;
    running.stop();
    assert!(head.lines().any(|line| line == format!("user-agent: {AGENT} (otlp-http-json)")), "{head}");
}

/// What both encodings of one snapshot say, in the words of JSON.
fn compare(json: &Value, message: &ExportMetricsServiceRequest) -> usize {
    let mut points = 0;
    let resources = json["resourceMetrics"].as_array().unwrap();
    assert_eq!(resources.len(), message.resource_metrics.len());
    for (json, message) in resources.iter().zip(&message.resource_metrics) {
        assert_eq!(json["schemaUrl"].as_str().unwrap_or_default(), message.schema_url);
        for (json, message) in json["scopeMetrics"].as_array().unwrap().iter().zip(&message.scope_metrics) {
            assert_eq!(json["scope"]["name"], message.scope.as_ref().unwrap().name);
            let metrics = json["metrics"].as_array().unwrap();
            assert_eq!(metrics.len(), message.metrics.len());
            for (json, message) in metrics.iter().zip(&message.metrics) {
                assert_eq!(
                    (&json["name"], &json["unit"]),
                    (&message.name.clone().into(), &message.unit.clone().into())
                );
                points += compare_points(json, message);
            }
        }
    }
    points
}

fn compare_points(json: &Value, message: &tollgate::proto::opentelemetry::proto::metrics::v1::Metric) -> usize {
    use tollgate::proto::opentelemetry::proto::metrics::v1::{metric::Data, number_data_point::Value as Number};
    let text = |number: u64| Value::from(number.to_string());
    let list = |kind: &str| json[kind]["dataPoints"].as_array().unwrap().clone();
    match message.data.as_ref().unwrap() {
        Data::Histogram(of) => {
            // Enums are numbers, 64-bit integers are strings, doubles are numbers.
            assert_eq!(json["histogram"]["aggregationTemporality"], of.aggregation_temporality);
            for (json, point) in list("histogram").iter().zip(&of.data_points) {
                assert_eq!((&json["count"], &json["timeUnixNano"]), (&text(point.count), &text(point.time_unix_nano)));
                assert_eq!(json["startTimeUnixNano"], text(point.start_time_unix_nano));
                // The parser of the test is a bit off in the last digit.
                assert!((json["sum"].as_f64().unwrap() / point.sum.unwrap() - 1.0).abs() < 1e-15);
                let counts: Vec<Value> = point.bucket_counts.iter().map(|count| text(*count)).collect();
                assert_eq!(json["bucketCounts"], Value::from(counts));
                assert_eq!(json["explicitBounds"], Value::from(point.explicit_bounds.clone()));
            }
            of.data_points.len()
        }
        Data::Sum(_) | Data::Gauge(_) => {
            let (kind, points) = match message.data.as_ref().unwrap() {
                Data::Sum(sum) => ("sum", &sum.data_points),
                Data::Gauge(gauge) => ("gauge", &gauge.data_points),
                other => panic!("{other:?}"),
            };
            for (json, point) in list(kind).iter().zip(points) {
                assert_eq!(json["timeUnixNano"], text(point.time_unix_nano));
                assert_eq!(json["attributes"].as_array().map_or(0, Vec::len), point.attributes.len());
                match point.value.unwrap() {
                    Number::AsInt(value) => assert_eq!(json["asInt"], value.to_string()),
                    Number::AsDouble(value) => assert_eq!(json["asDouble"].as_f64(), Some(value)),
                }
            }
            points.len()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_14_json_says_the_same_as_protobuf() {
    let (registry, counter) = registry();
    counter.add((), 9_007_199_254_740_993);
    let overhead: tollgate::telemetry::Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
    overhead.record((), 12_345);
    let info: tollgate::telemetry::Gauge =
        registry.gauge(&catalog::BUILD_INFO, &[Attribute::text("service.version", "a \"quoted\" \\ é \u{1}")]);
    info.set((), -7);
    let snapshot = registry.snapshot();
    let [part] = &snapshot.parts(usize::MAX)[..] else { panic!("more than one part") };
    let resource = [("service.name".to_owned(), "tollgate".to_owned())];
    let message = ExportMetricsServiceRequest::decode(&*otlp::encode(&snapshot, part, &resource)).unwrap();
    let json: Value = serde_json::from_slice(&json::encode(&snapshot, part, &resource)).unwrap();
    assert_eq!(compare(&json, &message), 3);
    assert!(json.to_string().contains("9007199254740993"), "no integer becomes a double");
}

#[test]
fn case_15_the_connection_is_kept_and_replaced_without_a_word_when_it_was_closed() {
    let (receiver, registry, _counter, telemetry) = start();
    let running = Running::start(&registry, &telemetry);
    for _ in 0..3 {
        assert_eq!(running.report().attempts, 1);
    }
    assert_eq!(receiver.connections(), 1);
    for _ in 0..3 {
        receiver.close_connections();
        let report = running.report();
        assert_eq!((report.attempts, report.delivery), (1, Delivery::Accepted));
    }
    assert!(receiver.connections() > 1);
    assert_eq!(running.stop().2.len(), 1, "one line, at the beginning");
}

#[test]
fn case_16_large_exports_are_split_in_order_and_one_over_the_limit_is_never_sent() {
    let (receiver, registry, _counter, telemetry) = start();
    // About 6 MiB in 2,000 series.
    let counters: Vec<Counter> = (0..2_000)
        .map(|number| {
            let model = format!("{number:04}{}", "m".repeat(3_000));
            registry.counter(&catalog::FALLBACKS, &[Attribute::owned("gen_ai.request.model", model)])
        })
        .collect();
    for counter in &counters {
        counter.add((), 1);
    }
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    running.stop();
    assert_eq!(report.delivery, Delivery::Accepted);
    let requests = receiver.requests();
    let first = requests[0].message.as_ref().unwrap().resource_metrics[0].scope_metrics[0].metrics[0].data.clone();
    let same_time: Vec<usize> = requests
        .iter()
        .filter(|request| {
            let data = &request.message.as_ref().unwrap().resource_metrics[0].scope_metrics[0].metrics[0].data;
            time(data.as_ref().unwrap()) == time(first.as_ref().unwrap())
        })
        .map(|request| request.body.len())
        .collect();
    assert!(same_time.len() >= 2, "{same_time:?}");
    assert!(requests.iter().all(|request| request.body.len() <= 4 << 20 && request.is_stored()));
    assert_eq!(receiver.value("tollgate_fallbacks_total", &[]), 2_000.0);

    // One point alone is over OTLP's limit of 64 MiB: nothing is sent, and it is counted.
    let registry = Registry::with(2_000, Aggregations::default());
    let large = Attribute::owned("gen_ai.request.model", "m".repeat(65 << 20));
    let counter: Counter = registry.counter(&catalog::RETRIES, &[large]);
    counter.create(());
    let before = receiver.requests().len();
    let running = Running::start(&Arc::clone(&registry), &telemetry);
    let report = running.report();
    assert!(failed(&report).1.contains("64 MiB"), "{}", failed(&report).1);
    running.report();
    running.stop();
    // What else there is arrives all the same.
    let sent = receiver.requests().split_off(before);
    assert!(sent.len() >= 2 && sent.iter().all(|request| request.is_stored() && request.body.len() < 1 << 20));
    let exported = "otel_sdk_exporter_metric_data_point_exported_total";
    assert!(receiver.value(exported, &[("error_type", "request_too_large")]) >= 1.0);
}

fn time(data: &tollgate::proto::opentelemetry::proto::metrics::v1::metric::Data) -> u64 {
    use tollgate::proto::opentelemetry::proto::metrics::v1::metric::Data;
    match data {
        Data::Sum(sum) => sum.data_points[0].time_unix_nano,
        Data::Gauge(gauge) => gauge.data_points[0].time_unix_nano,
        Data::Histogram(histogram) => histogram.data_points[0].time_unix_nano,
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_17_a_large_answer_is_not_read() {
    // The specification allows 4 MiB; what an answer has to say fits into 64 KiB.
    let (receiver, registry, _counter, telemetry) = start();
    receiver.script([Fault::Endless]);
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    assert_eq!((report.attempts, failed(&report).0), (1, &ErrorType::Other));
    assert!(failed(&report).1.contains("more than 64 KiB"), "{}", failed(&report).1);
    assert!(receiver.endless_bytes() < 32 << 20, "what is beyond sits in socket buffers");
    assert_eq!(running.report().delivery, Delivery::Accepted);
    running.stop();

    let with = |length: usize| Fault::StoreAndAnswer { status: 200, headers: Vec::new(), body: vec![0; length] };
    let (receiver, registry, _counter, telemetry) = start();
    receiver.script([with(64 * 1024), with(64 * 1024 + 1)]);
    let running = Running::start(&registry, &telemetry);
    assert!(!format!("{:?}", running.report()).contains("more than 64 KiB"));
    assert!(format!("{:?}", running.report()).contains("more than 64 KiB"));
    running.stop();
}
