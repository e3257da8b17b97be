//! Cases 32 to 37: what metrics are called, what they belong to, and the kinds of points.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use tollgate::{
    export::Delivery,
    proto::opentelemetry::proto::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        metrics::v1::{Metric, metric::Data, number_data_point::Value as Number},
    },
    telemetry::{
        ActiveGuard, Aggregations, Counter, Histogram, Registry, Temporality, UpDownCounter,
        aggregation::lower_bound,
        catalog::{self, CATALOG, Kind},
    },
};

use super::shared::{Capture, Program, RETRIES, Receiver, Running, Version, metrics, start, telemetry};
use crate::support::capture;

const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const GEN_AI_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const TOKENS: &[f64] = &[
    1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
    67108864.0,
];

/// Name, instrument, unit and advised bounds as the conventions have them (HTTP and process: 1.44,
/// GenAI: 1.42, SDK: 1.44). No bounds where none are advised.
#[rustfmt::skip]
const CONVENTIONS: &[(&str, &str, &str, &[f64])] = &[
    ("http.server.request.duration", "histogram", "s", SECONDS),
    ("http.server.active_requests", "up-down counter", "{request}", &[]),
    ("http.server.request.body.size", "histogram", "By", &[]),
    ("http.server.response.body.size", "histogram", "By", &[]),
    ("http.client.active_requests", "up-down counter", "{request}", &[]),
    ("gen_ai.client.operation.duration", "histogram", "s", GEN_AI_SECONDS),
    ("gen_ai.client.token.usage", "histogram", "{token}", TOKENS),
    ("gen_ai.client.operation.time_to_first_chunk", "histogram", "s", GEN_AI_SECONDS),
    ("gen_ai.client.operation.time_per_output_chunk", "histogram", "s", GEN_AI_SECONDS),
    ("otel.sdk.exporter.metric_data_point.exported", "counter", "{data_point}", &[]),
    ("otel.sdk.exporter.metric_data_point.inflight", "up-down counter", "{data_point}", &[]),
    ("otel.sdk.exporter.operation.duration", "histogram", "s", &[]),
    ("process.cpu.time", "counter", "s", &[]),
    ("process.memory.usage", "up-down counter", "By", &[]),
    ("process.thread.count", "up-down counter", "{thread}", &[]),
    ("process.unix.file_descriptor.count", "up-down counter", "{file_descriptor}", &[]),
    ("process.uptime", "gauge", "s", &[]),
];

#[test]
fn case_32_names_units_and_bounds_are_those_of_the_conventions() {
    for (name, instrument, unit, advised) in CONVENTIONS {
        let of = CATALOG.iter().find(|of| of.name == *name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((of.kind.as_str(), of.unit), (*instrument, *unit), "{name}");
        if let (Kind::Histogram(bounds), false) = (of.kind, advised.is_empty()) {
            assert_eq!(bounds, *advised, "{name}");
        }
    }
    for of in CATALOG {
        let is_known = CONVENTIONS.iter().any(|(name, ..)| *name == of.name);
        assert!(is_known || of.name.starts_with("tollgate."), "{} is of no convention and not our own", of.name);
    }
}

#[test]
fn case_33_the_resource_names_the_service_and_the_process() {
    let attributes = || {
        let receiver = Receiver::start(Version::V3_14);
        let mut program = Program::start(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &receiver.url())]);
        let requests = receiver.wait_for_stored(1);
        program.signal();
        program.end();
        let resource = requests[0].message.as_ref().unwrap().resource_metrics[0].resource.clone().unwrap();
        let pairs = resource.attributes.into_iter().map(|pair| (pair.key, format!("{:?}", pair.value)));
        pairs.collect::<BTreeMap<String, String>>()
    };
    let (one, other) = (attributes(), attributes());
    assert!(one["service.name"].contains("\"tollgate\""));
    assert!(one["service.version"].contains(env!("CARGO_PKG_VERSION")));
    assert_ne!(one["service.instance.id"], other["service.instance.id"]);
    assert!(one.get("telemetry.sdk.name").is_none_or(|name| !name.contains("\"opentelemetry\"")));
}

/// The points of the counter in a request: start, time and value; and the temporality.
fn sums(of: &[Metric], name: &str) -> Vec<(u64, u64, i64, i32)> {
    let mut points = Vec::new();
    for metric in of.iter().filter(|metric| metric.name == name) {
        let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
        for point in &sum.data_points {
            let Some(Number::AsInt(value)) = point.value else { panic!("{point:?}") };
            let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
            points.push((start, time, value, sum.aggregation_temporality));
        }
    }
    points
}

fn decode(body: &[u8]) -> Vec<Metric> {
    let message = ExportMetricsServiceRequest::decode(body).unwrap();
    message.resource_metrics.into_iter().flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics).collect()
}

#[test]
fn case_34_deltas_add_up_across_failures_and_follow_one_another() {
    const DELTA: i32 = 1;
    const CUMULATIVE: i32 = 2;
    let refused = || capture::answer("500 Internal Server Error", "text/plain", "boom");
    let empty = || "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
    let receiver = Capture::start(None, vec![empty(), empty(), refused(), refused(), empty(), refused(), empty()]);
    let registry = Registry::new();
    let counter: Counter = registry.counter(&catalog::RETRIES, &[]);
    counter.create(());
    let open: UpDownCounter = registry.up_down_counter(&catalog::CONNECTIONS_ACTIVE, &[]);
    let _guards: [ActiveGuard; 3] = [open.enter(()), open.enter(()), open.enter(())];
    let mut telemetry = telemetry(receiver.address());
    telemetry.destinations[0].temporality = Temporality::Delta;
    telemetry.destinations[0].interval = Duration::from_millis(100);
    let running = Running::start(&registry, &telemetry);
    let mut taken = Vec::new();
    for _ in 0..10 {
        counter.add((), 7);
        let report = running.report();
        let metrics = decode(&receiver.request().body);
        assert!(sums(&metrics, "tollgate.retries").iter().all(|point| point.3 == DELTA));
        let connections = sums(&metrics, "tollgate.connections.active");
        assert!(connections.iter().all(|point| (point.2, point.3) == (3, CUMULATIVE)), "{connections:?}");
        if report.delivery == Delivery::Accepted {
            taken.extend(sums(&metrics, "tollgate.retries"));
        }
    }
    running.stop();
    while receiver.has_more() {}
    assert!(taken.len() >= 6, "{taken:?}");
    assert!(taken.windows(2).all(|pair| pair[0].1 == pair[1].0), "each begins where the one before ended: {taken:?}");
    // The last adds may have come after the last export that was looked at.
    let sum: i64 = taken.iter().map(|point| point.2).sum();
    assert!((56..=70).contains(&sum) && sum % 7 == 0, "{sum}: {taken:?}");

    let row = |preference: Temporality| {
        [Kind::Counter, Kind::ObservableCounter, Kind::UpDownCounter, Kind::Histogram(&[])]
            .map(|kind| preference.is_delta(kind))
    };
    assert_eq!(row(Temporality::Cumulative), [false; 4]);
    assert_eq!(row(Temporality::Delta), [true, true, false, true]);
    assert_eq!(row(Temporality::LowMemory), [true, false, false, true]);
}

#[test]
fn case_35_there_are_no_exemplars() {
    // They belong to sampled traces, of which the gateway makes none.
    let (receiver, registry, counter, telemetry) = start();
    let overhead: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
    overhead.record((), 1);
    counter.add((), 1);
    let running = Running::start(&registry, &telemetry);
    let requests = receiver.wait_for_stored(3);
    running.stop();
    for metric in metrics(&requests) {
        let is_free = match metric.data.as_ref().unwrap() {
            Data::Sum(sum) => sum.data_points.iter().all(|point| point.exemplars.is_empty()),
            Data::Gauge(gauge) => gauge.data_points.iter().all(|point| point.exemplars.is_empty()),
            Data::Histogram(of) => of.data_points.iter().all(|point| point.exemplars.is_empty()),
            other => panic!("{other:?}"),
        };
        assert!(is_free, "{}", metric.name);
    }
}

#[test]
fn case_36_a_series_that_goes_is_ended_once() {
    let (receiver, registry, counter, telemetry) = start();
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_stored(2);
    counter.add((), 5);
    drop(counter);
    let before = receiver.requests().len();
    receiver.wait_for_stored(before + 4);
    running.stop();
    let values: Vec<f64> = receiver.samples(RETRIES, &[]).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values.iter().filter(|value| value.is_nan()).count(), 1, "{values:?}");
    assert!(values[values.len() - 1].is_nan() && values[values.len() - 2] == 5.0, "{values:?}");
}

#[test]
fn case_37_exponential_histograms() {
    // An index holds what is above base^index, up to and with base^(index + 1).
    assert_eq!([-8, -4, 0, 4, 40].map(lower_bound), [0.25, 0.5, 1.0, 2.0, 1024.0]);
    let registry = Registry::with(2_000, Aggregations { exponential: true, bounds: Vec::new() });
    let sizes: Histogram = registry.histogram(&catalog::HTTP_SERVER_REQUEST_BODY_SIZE, &[]);
    let values = [1, 2, 3, 4, 1_023, 1_024, 1_025, 1 << 30, u64::MAX];
    for value in values {
        sizes.record((), value);
    }
    let receiver = Receiver::start(Version::V3_14);
    let running = Running::start(&registry, &telemetry(receiver.address()));
    let requests = receiver.wait_for_stored(1);
    running.stop();
    let metric = metrics(&requests).find(|metric| metric.name == "http.server.request.body.size").unwrap().clone();
    let Some(Data::ExponentialHistogram(histogram)) = metric.data else { panic!("{metric:?}") };
    let point = &histogram.data_points[0];
    let positive = point.positive.as_ref().unwrap();
    assert!(positive.bucket_counts.len() <= 160 && point.negative.is_none());
    assert_eq!(point.count, point.zero_count + positive.bucket_counts.iter().sum::<u64>());
    assert_eq!((point.count, point.scale), (values.len() as u64, 2));
    // What is below an index's bound, counted from the buckets and from the values.
    for power in [1, 2, 10, 30] {
        let until = usize::try_from(power * 4 - positive.offset).unwrap();
        let below: u64 = positive.bucket_counts.iter().take(until).sum::<u64>() + point.zero_count;
        let expected = values.iter().filter(|value| **value <= 1 << power).count() as u64;
        assert_eq!(below, expected, "up to 2^{power}");
    }
}
