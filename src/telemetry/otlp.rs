//! A snapshot as an `ExportMetricsServiceRequest` (opentelemetry-proto v1.11.0), written by hand.
//!
//! Field numbers are those of `proto/`; the tests decode with the types generated from it. Writes
//! no metric without points and no bucket list that does not match its bounds.

use super::{
    attribute::{Attribute, Value},
    catalog::{Descriptor, Kind, Scope},
    protobuf,
    snapshot::{MetricSnapshot, Point, Snapshot},
};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;

/// Encodes every point of `snapshot`, stamped `time_nanos`, under `resource`.
///
/// `time_nanos` must be later than that of any earlier export; the caller keeps that promise.
pub fn encode(snapshot: &Snapshot, resource: &[(String, String)], time_nanos: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 * snapshot.points() + 512);
    // ExportMetricsServiceRequest.resource_metrics = 1
    protobuf::message(&mut out, 1, |out| {
        // ResourceMetrics.resource = 1, Resource.attributes = 1
        protobuf::message(out, 1, |out| {
            for (key, value) in resource {
                protobuf::message(out, 1, |out| key_value(out, key, |out| protobuf::bytes(out, 1, value.as_bytes())));
            }
        });
        for scope in Scope::ALL {
            let mut metrics = snapshot.metrics.iter().filter(|metric| metric.descriptor.scope() == *scope).peekable();
            if metrics.peek().is_some() {
                // ResourceMetrics.scope_metrics = 2
                protobuf::message(out, 2, |out| scope_metrics(out, *scope, metrics, snapshot, time_nanos));
            }
        }
    });
    out
}

fn scope_metrics<'a>(
    out: &mut Vec<u8>,
    scope: Scope,
    metrics: impl Iterator<Item = &'a MetricSnapshot>,
    snapshot: &Snapshot,
    time_nanos: u64,
) {
    // ScopeMetrics.scope = 1: InstrumentationScope { name = 1, version = 2 }
    protobuf::message(out, 1, |out| {
        protobuf::bytes(out, 1, scope.name().as_bytes());
        protobuf::bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    for metric in metrics {
        // ScopeMetrics.metrics = 2
        protobuf::message(out, 2, |out| encode_metric(out, metric, snapshot, time_nanos));
    }
    // ScopeMetrics.schema_url = 3
    protobuf::bytes(out, 3, scope.schema_url().as_bytes());
}

fn encode_metric(out: &mut Vec<u8>, metric: &MetricSnapshot, snapshot: &Snapshot, time_nanos: u64) {
    let of = metric.descriptor;
    protobuf::bytes(out, 1, of.name.as_bytes());
    protobuf::bytes(out, 2, of.description.as_bytes());
    protobuf::bytes(out, 3, of.unit.as_bytes());
    // Metric.data: gauge = 5, sum = 7, histogram = 9; data_points = 1 in each of them.
    let data = match of.kind {
        Kind::Gauge => 5,
        Kind::Counter | Kind::UpDownCounter => 7,
        Kind::Histogram(_) => 9,
    };
    protobuf::message(out, data, |out| {
        for point in &metric.points {
            protobuf::message(out, 1, |out| match of.kind {
                Kind::Histogram(bounds) => histogram_point(out, of, bounds, point, snapshot, time_nanos),
                Kind::Counter | Kind::UpDownCounter | Kind::Gauge => number_point(out, of, point, time_nanos),
            });
        }
        if !matches!(of.kind, Kind::Gauge) {
            protobuf::integer(out, 2, CUMULATIVE);
        }
        // Sum.is_monotonic = 3
        protobuf::integer(out, 3, u64::from(matches!(of.kind, Kind::Counter)));
    });
}

/// NumberDataPoint { start = 2, time = 3, as_double = 4, as_int = 6, attributes = 7 }
fn number_point(out: &mut Vec<u8>, of: &Descriptor, point: &Point, time_nanos: u64) {
    if !matches!(of.kind, Kind::Gauge) {
        protobuf::fixed64(out, 2, point.start_nanos.min(time_nanos.saturating_sub(1)));
    }
    protobuf::fixed64(out, 3, time_nanos);
    match of.scale {
        Some(scale) => protobuf::fixed64(out, 4, (point.value.cast_signed() as f64 * scale).to_bits()),
        None => protobuf::fixed64(out, 6, point.value),
    }
    out.extend_from_slice(point.series.encoded());
}

/// HistogramDataPoint { start = 2, time = 3, count = 4, sum = 5, bucket_counts = 6,
/// explicit_bounds = 7, attributes = 9 }
fn histogram_point(
    out: &mut Vec<u8>,
    of: &Descriptor,
    bounds: &[f64],
    point: &Point,
    snapshot: &Snapshot,
    time_nanos: u64,
) {
    let buckets = snapshot.buckets(point);
    let count: u64 = buckets.iter().sum();
    // A sum may run ahead of the buckets by a record in flight; with no values it has to be 0.
    let sum = if count == 0 { 0.0 } else { point.value as f64 * of.scale.unwrap_or(1.0) };
    protobuf::fixed64(out, 2, point.start_nanos.min(time_nanos.saturating_sub(1)));
    protobuf::fixed64(out, 3, time_nanos);
    protobuf::fixed64(out, 4, count);
    protobuf::fixed64(out, 5, sum.to_bits());
    protobuf::packed_fixed64(out, 6, buckets.iter().copied());
    protobuf::packed_fixed64(out, 7, bounds.iter().map(|bound| bound.to_bits()));
    out.extend_from_slice(point.series.encoded());
}

/// The `attributes` field of a point of `of`, ready to be appended to one.
pub(super) fn encode_attributes(of: &Descriptor, attributes: &[Attribute]) -> Vec<u8> {
    let field = match of.kind {
        Kind::Histogram(_) => 9,
        Kind::Counter | Kind::UpDownCounter | Kind::Gauge => 7,
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
