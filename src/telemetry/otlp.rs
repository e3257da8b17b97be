//! A snapshot as an `ExportMetricsServiceRequest` (opentelemetry-proto v1.11.0), written by hand.
//!
//! Field numbers are those of `proto/`; the tests decode with the types generated from it. Writes
//! no metric without points and no bucket list that does not match its bounds.

use super::{
    aggregation::{Buckets, EXPONENTIAL_SCALE, Layout},
    attribute::{Attribute, Value},
    catalog::{Descriptor, Kind, Scope},
    protobuf,
    snapshot::{MetricSnapshot, Part, Point, Snapshot},
};

/// `AGGREGATION_TEMPORALITY_DELTA` and `…_CUMULATIVE`.
pub(super) const DELTA: u64 = 1;
pub(super) const CUMULATIVE: u64 = 2;

/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`: the series is over.
pub(super) const NO_RECORDED_VALUE: u64 = 1;

/// Encodes the points of `part`, stamped with the snapshot's time, under `resource`.
///
/// The time must be later than that of any earlier export; the caller keeps that promise.
pub fn encode(snapshot: &Snapshot, part: &Part, resource: &[(String, String)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 * part.points() + 512);
    // ExportMetricsServiceRequest.resource_metrics = 1
    protobuf::message(&mut out, 1, |out| {
        // ResourceMetrics.resource = 1, Resource.attributes = 1
        protobuf::message(out, 1, |out| {
            for (key, value) in resource {
                protobuf::message(out, 1, |out| key_value(out, key, |out| protobuf::bytes(out, 1, value.as_bytes())));
            }
        });
        for scope in Scope::ALL {
            let mut metrics = snapshot.metrics_of(part, *scope).peekable();
            if metrics.peek().is_some() {
                // ResourceMetrics.scope_metrics = 2
                protobuf::message(out, 2, |out| scope_metrics(out, *scope, metrics, snapshot));
            }
        }
    });
    out
}

fn scope_metrics<'a>(
    out: &mut Vec<u8>,
    scope: Scope,
    metrics: impl Iterator<Item = (&'a MetricSnapshot, &'a [Point])>,
    snapshot: &Snapshot,
) {
    // ScopeMetrics.scope = 1: InstrumentationScope { name = 1, version = 2 }
    protobuf::message(out, 1, |out| {
        protobuf::bytes(out, 1, scope.name().as_bytes());
        protobuf::bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    for (metric, points) in metrics {
        // ScopeMetrics.metrics = 2
        protobuf::message(out, 2, |out| encode_metric(out, metric, points, snapshot));
    }
    // ScopeMetrics.schema_url = 3
    protobuf::bytes(out, 3, scope.schema_url().as_bytes());
}

fn encode_metric(out: &mut Vec<u8>, metric: &MetricSnapshot, points: &[Point], snapshot: &Snapshot) {
    let of = metric.descriptor;
    protobuf::bytes(out, 1, of.name.as_bytes());
    protobuf::bytes(out, 2, of.description.as_bytes());
    protobuf::bytes(out, 3, of.unit.as_bytes());
    // Metric.data: gauge = 5, sum = 7, histogram = 9, exponential_histogram = 10; data_points = 1 in
    // each of them.
    let data = match (of.kind, &metric.buckets.layout) {
        (Kind::Gauge, _) => 5,
        (_, Layout::None) => 7,
        (_, Layout::Explicit(_)) => 9,
        (_, Layout::Exponential { .. }) => 10,
    };
    protobuf::message(out, data, |out| {
        for point in points {
            protobuf::message(out, 1, |out| match &metric.buckets.layout {
                Layout::None => number_point(out, of, point, snapshot.time_nanos),
                Layout::Explicit(bounds) => histogram_point(out, of, bounds, point, snapshot),
                Layout::Exponential { first, zero_threshold } => {
                    exponential_point(out, of, *first, *zero_threshold, point, snapshot);
                }
            });
        }
        if !matches!(of.kind, Kind::Gauge) {
            protobuf::integer(out, 2, if metric.is_delta { DELTA } else { CUMULATIVE });
        }
        // Sum.is_monotonic = 3
        protobuf::integer(out, 3, u64::from(of.kind.is_monotonic()));
    });
}

/// NumberDataPoint { start = 2, time = 3, as_double = 4, as_int = 6, attributes = 7, flags = 8 }
fn number_point(out: &mut Vec<u8>, of: &Descriptor, point: &Point, time_nanos: u64) {
    if !matches!(of.kind, Kind::Gauge) {
        protobuf::fixed64(out, 2, start(point, time_nanos));
    }
    protobuf::fixed64(out, 3, time_nanos);
    match of.scale {
        _ if point.is_ended => protobuf::integer(out, 8, NO_RECORDED_VALUE),
        Some(scale) => protobuf::fixed64(out, 4, (point.value.cast_signed() as f64 * scale).to_bits()),
        None => protobuf::fixed64(out, 6, point.value),
    }
    out.extend_from_slice(point.series.encoded());
}

/// HistogramDataPoint { start = 2, time = 3, count = 4, sum = 5, bucket_counts = 6,
/// explicit_bounds = 7, attributes = 9, flags = 10 }
///
/// The mark of an end has bounds and a sum as well: receivers derive from them which series it ends.
fn histogram_point(out: &mut Vec<u8>, of: &Descriptor, bounds: &[f64], point: &Point, snapshot: &Snapshot) {
    let buckets = snapshot.buckets(point);
    let seen = |count: &u64| if point.is_ended { 0 } else { *count };
    let count: u64 = buckets.iter().map(seen).sum();
    protobuf::fixed64(out, 2, start(point, snapshot.time_nanos));
    protobuf::fixed64(out, 3, snapshot.time_nanos);
    protobuf::fixed64(out, 4, count);
    protobuf::fixed64(out, 5, sum(of, count, point).to_bits());
    protobuf::packed_fixed64(out, 6, buckets.iter().map(seen));
    protobuf::packed_fixed64(out, 7, bounds.iter().map(|bound| bound.to_bits()));
    out.extend_from_slice(point.series.encoded());
    protobuf::integer(out, 10, u64::from(point.is_ended) * NO_RECORDED_VALUE);
}

/// ExponentialHistogramDataPoint { attributes = 1, start = 2, time = 3, count = 4, sum = 5,
/// scale = 6, zero_count = 7, positive = 8: Buckets { offset = 1, bucket_counts = 2 }, flags = 10,
/// zero_threshold = 14 }
fn exponential_point(
    out: &mut Vec<u8>,
    of: &Descriptor,
    first: i32,
    zero_threshold: f64,
    point: &Point,
    snapshot: &Snapshot,
) {
    let (zero, positive) = exponential_counts(first, point, snapshot);
    let count = zero + positive.1.iter().sum::<u64>();
    protobuf::fixed64(out, 2, start(point, snapshot.time_nanos));
    protobuf::fixed64(out, 3, snapshot.time_nanos);
    protobuf::fixed64(out, 4, count);
    protobuf::fixed64(out, 5, sum(of, count, point).to_bits());
    protobuf::integer(out, 6, protobuf::zigzag(EXPONENTIAL_SCALE));
    protobuf::fixed64(out, 7, zero);
    protobuf::message(out, 8, |out| {
        protobuf::integer(out, 1, protobuf::zigzag(positive.0));
        protobuf::packed_varint(out, 2, positive.1);
    });
    protobuf::integer(out, 10, u64::from(point.is_ended) * NO_RECORDED_VALUE);
    protobuf::fixed64(out, 14, zero_threshold.to_bits());
    out.extend_from_slice(point.series.encoded());
}

/// The count of the zero bucket, and the index of the first other bucket in use with the counts from
/// there to the last one in use.
pub(super) fn exponential_counts<'a>(first: i32, point: &Point, snapshot: &'a Snapshot) -> (u64, (i32, &'a [u64])) {
    let Some((zero, positive)) = snapshot.buckets(point).split_first().filter(|_| !point.is_ended) else {
        return (0, (0, &[]));
    };
    let used = |count: &u64| *count > 0;
    let Some(begin) = positive.iter().position(used) else { return (*zero, (0, &[])) };
    let end = positive.iter().rposition(used).map_or(begin, |last| last + 1);
    let offset = i32::try_from(begin).map_or(first, |begin| first + begin);
    (*zero, (offset, positive.get(begin..end).unwrap_or_default()))
}

/// A point has to start before its time; at the same time it would say that its start is unknown.
pub(super) fn start(point: &Point, time_nanos: u64) -> u64 {
    point.start_nanos.min(time_nanos.saturating_sub(1))
}

/// A sum may run ahead of the buckets by a record in flight; with no values it has to be 0.
pub(super) fn sum(of: &Descriptor, count: u64, point: &Point) -> f64 {
    if count == 0 { 0.0 } else { point.value as f64 * of.scale.unwrap_or(1.0) }
}

/// The `attributes` field of a point of `of`, ready to be appended to one.
pub(super) fn encode_attributes(of: &Descriptor, buckets: &Buckets, attributes: &[Attribute]) -> Vec<u8> {
    debug_assert!(matches!(of.kind, Kind::Histogram(_)) != (buckets.layout == Layout::None));
    let field = match buckets.layout {
        Layout::None => 7,
        Layout::Explicit(_) => 9,
        Layout::Exponential { .. } => 1,
    };
    let mut out = Vec::new();
    for attribute in attributes {
        protobuf::message(&mut out, field, |out| {
            key_value(out, attribute.key, |out| match &attribute.value {
                Value::Text(text) => protobuf::bytes(out, 1, text.as_bytes()),
                Value::Bool(truth) => protobuf::integer_always(out, 2, u64::from(*truth)),
                Value::Int(number) => protobuf::integer_always(out, 3, number.cast_unsigned()),
            });
        });
    }
    out
}

/// KeyValue { key = 1, value = 2: AnyValue }
fn key_value(out: &mut Vec<u8>, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
    protobuf::bytes(out, 1, key.as_bytes());
    protobuf::message(out, 2, value);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::{
        proto::opentelemetry::proto::{
            collector::metrics::v1::ExportMetricsServiceRequest,
            common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
            metrics::v1::{
                AggregationTemporality, Gauge as GaugeData, Histogram as HistogramData, HistogramDataPoint, Metric,
                NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
            },
            resource::v1::Resource,
        },
        telemetry::{Counter, Gauge, Histogram, Registry, UpDownCounter, catalog, catalog::CATALOG},
    };

    fn decoded(snapshot: &mut Snapshot, time_nanos: u64) -> ExportMetricsServiceRequest {
        snapshot.time_nanos = time_nanos;
        let resource = [("service.name".to_owned(), "tollgate".to_owned()), ("empty".to_owned(), String::new())];
        let parts = snapshot.parts(usize::MAX);
        assert_eq!(parts.len(), 1);
        ExportMetricsServiceRequest::decode(encode(snapshot, &parts[0], &resource).as_slice()).unwrap()
    }

    fn attribute(key: &str, value: any_value::Value) -> KeyValue {
        KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
    }

    fn text(key: &str, value: &str) -> KeyValue {
        attribute(key, any_value::Value::StringValue(value.into()))
    }

    fn metric(of: &Descriptor, data: Data) -> Metric {
        let (name, unit, description) = (of.name.into(), of.unit.into(), of.description.into());
        Metric { name, unit, description, data: Some(data), ..Metric::default() }
    }

    const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;
    const TIME: u64 = u64::MAX / 2;

    /// The start of each point, in the order of the snapshot.
    fn starts(snapshot: &Snapshot) -> Vec<u64> {
        snapshot.metrics.iter().flat_map(|metric| &metric.points).map(|point| point.start_nanos).collect()
    }

    /// The metrics of [`every_kind_of_point_is_what_the_schema_says`] that have numbers.
    fn numbers(starts: &[u64]) -> Vec<Metric> {
        let number = |start_time_unix_nano, value| NumberDataPoint {
            start_time_unix_nano,
            time_unix_nano: TIME,
            value: Some(value),
            ..NumberDataPoint::default()
        };
        let sum = |is_monotonic, point| {
            Data::Sum(Sum { data_points: vec![point], aggregation_temporality: CUMULATIVE, is_monotonic })
        };
        vec![
            metric(&catalog::CONNECTIONS_ACTIVE, sum(false, number(starts[1], number_data_point::Value::AsInt(-3)))),
            metric(&catalog::CONNECTIONS_ACCEPTED, sum(true, number(starts[2], number_data_point::Value::AsInt(0)))),
            metric(&catalog::PROCESS_CPU_TIME, sum(true, number(starts[3], number_data_point::Value::AsDouble(1.5)))),
            metric(
                &catalog::PROCESS_UPTIME,
                Data::Gauge(GaugeData { data_points: vec![number(0, number_data_point::Value::AsDouble(0.25))] }),
            ),
        ]
    }

    #[test]
    fn every_kind_of_point_is_what_the_schema_says() {
        let registry = Registry::new();
        let fixed = [
            Attribute::owned("server.address", "π"),
            Attribute::int("server.port", 443),
            Attribute { key: "otel.metric.overflow", value: Value::Bool(true) },
        ];
        let duration: Histogram = registry.histogram(&catalog::GEN_AI_DURATION, &fixed);
        duration.record((), 20_000_000);
        duration.record((), 90_000_000_000);
        let active: UpDownCounter = registry.up_down_counter(&catalog::CONNECTIONS_ACTIVE, &[]);
        active.observe((), -3);
        let accepted: Counter = registry.counter(&catalog::CONNECTIONS_ACCEPTED, &[]);
        accepted.create(());
        let cpu: Counter = registry.counter(&catalog::PROCESS_CPU_TIME, &[]);
        cpu.observe((), 1_500_000_000);
        let uptime: Gauge = registry.gauge(&catalog::PROCESS_UPTIME, &[]);
        uptime.set((), 250_000_000);
        let mut snapshot = registry.snapshot();
        let starts = starts(&snapshot);
        let mut bucket_counts = vec![0; 15];
        (bucket_counts[1], bucket_counts[14]) = (1, 1);
        let Kind::Histogram(bounds) = catalog::GEN_AI_DURATION.kind else { unreachable!() };
        let point = HistogramDataPoint {
            attributes: vec![
                text("server.address", "π"),
                attribute("server.port", any_value::Value::IntValue(443)),
                attribute("otel.metric.overflow", any_value::Value::BoolValue(true)),
            ],
            start_time_unix_nano: starts[0],
            time_unix_nano: TIME,
            count: 2,
            sum: Some(90_020_000_000_f64 * 1e-9),
            bucket_counts,
            explicit_bounds: bounds.to_vec(),
            ..HistogramDataPoint::default()
        };
        let histogram =
            Data::Histogram(HistogramData { data_points: vec![point], aggregation_temporality: CUMULATIVE });
        let scope = |of: Scope, metrics| ScopeMetrics {
            scope: Some(InstrumentationScope {
                name: of.name().into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..InstrumentationScope::default()
            }),
            metrics,
            schema_url: of.schema_url().into(),
        };
        let resource_metrics = ResourceMetrics {
            resource: Some(Resource {
                attributes: vec![text("service.name", "tollgate"), text("empty", "")],
                ..Resource::default()
            }),
            scope_metrics: vec![
                scope(Scope::General, numbers(&starts)),
                scope(Scope::GenAi, vec![metric(&catalog::GEN_AI_DURATION, histogram)]),
            ],
            ..ResourceMetrics::default()
        };
        assert_eq!(
            decoded(&mut snapshot, TIME),
            ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
        );
    }

    #[test]
    fn the_whole_catalog_is_encoded_as_it_is_declared() {
        let registry = Registry::new();
        let mut handles: Vec<Box<dyn std::any::Any>> = Vec::new();
        for of in CATALOG {
            handles.push(match of.kind {
                Kind::Counter | Kind::ObservableCounter => {
                    let counter: Counter = registry.counter(of, &[]);
                    counter.add((), 7);
                    Box::new(counter)
                }
                Kind::UpDownCounter => {
                    let counter: UpDownCounter = registry.up_down_counter(of, &[]);
                    counter.observe((), 7);
                    Box::new(counter)
                }
                Kind::Gauge => {
                    let gauge: Gauge = registry.gauge(of, &[]);
                    gauge.set((), 7);
                    Box::new(gauge)
                }
                Kind::Histogram(_) => {
                    let histogram: Histogram = registry.histogram(of, &[]);
                    histogram.record((), 7);
                    Box::new(histogram)
                }
            });
        }
        let message = decoded(&mut registry.snapshot(), TIME);
        let metrics = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let metrics: Vec<&Metric> = metrics.flat_map(|scope| &scope.metrics).collect();
        assert_eq!(metrics.len(), CATALOG.len());
        for of in CATALOG {
            let found = metrics.iter().find(|metric| metric.name == of.name).unwrap();
            assert_eq!((found.unit.as_str(), found.description.as_str()), (of.unit, of.description));
            match (of.kind, found.data.as_ref().unwrap()) {
                (Kind::Counter | Kind::ObservableCounter, Data::Sum(sum)) => assert!(sum.is_monotonic),
                (Kind::UpDownCounter, Data::Sum(sum)) => assert!(!sum.is_monotonic),
                (Kind::Gauge, Data::Gauge(gauge)) => assert_eq!(gauge.data_points.len(), 1),
                (Kind::Histogram(bounds), Data::Histogram(histogram)) => {
                    let point = &histogram.data_points[0];
                    assert_eq!(point.explicit_bounds, bounds);
                    assert_eq!(point.bucket_counts.len(), bounds.len() + 1);
                    assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (1, 1));
                    assert_eq!(point.sum, Some(7.0 * of.scale.unwrap_or(1.0)));
                }
                (kind, data) => panic!("{}: {kind:?} became {data:?}", of.name),
            }
        }
    }

    #[test]
    fn a_point_starts_before_its_time_even_if_the_clock_stands_still() {
        let registry = Registry::new();
        let retries: Counter = registry.counter(&catalog::RETRIES, &[]);
        retries.create(());
        let overhead: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
        overhead.create(());
        for time in [1, 2, registry.clock().now_nanos()] {
            for scope in &decoded(&mut registry.snapshot(), time).resource_metrics[0].scope_metrics {
                for metric in &scope.metrics {
                    let start = match metric.data.as_ref().unwrap() {
                        Data::Sum(sum) => sum.data_points[0].start_time_unix_nano,
                        Data::Histogram(histogram) => histogram.data_points[0].start_time_unix_nano,
                        data => panic!("{data:?}"),
                    };
                    assert!(start < time);
                }
            }
        }
    }

    #[test]
    fn a_histogram_without_values_has_a_sum_of_zero() {
        let registry = Registry::new();
        let overhead: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
        overhead.create(());
        let message = decoded(&mut registry.snapshot(), TIME);
        let Some(Data::Histogram(histogram)) = &message.resource_metrics[0].scope_metrics[0].metrics[0].data else {
            panic!("{message:?}")
        };
        assert_eq!((histogram.data_points[0].count, histogram.data_points[0].sum), (0, Some(0.0)));
    }
}
