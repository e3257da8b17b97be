//! Points of metrics, the same from every source: OTLP JSON as the Collector and OpenTelemetry's
//! Python write it, and the messages that tollgate itself is built with.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tollgate::proto::opentelemetry::proto::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{HistogramDataPoint, NumberDataPoint, metric::Data, number_data_point::Value},
};

/// `AGGREGATION_TEMPORALITY_DELTA`.
pub const DELTA: u64 = 1;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
pub const CUMULATIVE: u64 = 2;

/// One point and what it belongs to. Attributes that are no text are the text of their JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Point {
    pub resource: BTreeMap<String, String>,
    /// Name and version.
    pub scope: (String, String),
    pub metric: String,
    pub unit: String,
    pub description: String,
    /// 0 for a gauge, which has none.
    pub temporality: u64,
    pub is_monotonic: bool,
    pub attributes: BTreeMap<String, String>,
    pub start: u64,
    pub time: u64,
    pub flags: u64,
    /// A histogram's count.
    pub value: f64,
    /// `None` for numbers.
    pub histogram: Option<Histogram>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    pub sum: Option<f64>,
    pub buckets: Vec<u64>,
    pub bounds: Vec<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

impl Point {
    pub fn is_of_same_series(&self, other: &Self) -> bool {
        (&self.metric, &self.attributes, &self.resource) == (&other.metric, &other.attributes, &other.resource)
    }
}

/// The points of a request in OTLP JSON.
pub fn from_json(request: &Json) -> Vec<Point> {
    let mut points = Vec::new();
    for resource in list(&request["resourceMetrics"]) {
        for scope in list(&resource["scopeMetrics"]) {
            for metric in list(&scope["metrics"]) {
                let kind = ["sum", "gauge", "histogram"].into_iter().find(|kind| metric.get(kind).is_some());
                let data = &metric[kind.unwrap_or_else(|| panic!("a metric of another kind: {metric}"))];
                points.extend(list(&data["dataPoints"]).iter().map(|point| Point {
                    resource: attributes(&resource["resource"]["attributes"]),
                    scope: (text(&scope["scope"]["name"]), text(&scope["scope"]["version"])),
                    metric: text(&metric["name"]),
                    unit: text(&metric["unit"]),
                    description: text(&metric["description"]),
                    temporality: whole(&data["aggregationTemporality"]),
                    is_monotonic: data["isMonotonic"].as_bool().unwrap_or_default(),
                    attributes: attributes(&point["attributes"]),
                    start: whole(&point["startTimeUnixNano"]),
                    time: whole(&point["timeUnixNano"]),
                    flags: whole(&point["flags"]),
                    value: ["asInt", "asDouble", "count"].iter().find_map(|field| number(&point[field])).unwrap_or(0.0),
                    histogram: (kind == Some("histogram")).then(|| histogram(point)),
                }));
            }
        }
    }
    points
}

fn histogram(point: &Json) -> Histogram {
    Histogram {
        sum: number(&point["sum"]),
        buckets: list(&point["bucketCounts"]).iter().map(whole).collect(),
        bounds: list(&point["explicitBounds"]).iter().filter_map(number).collect(),
        min: number(&point["min"]),
        max: number(&point["max"]),
    }
}

/// What is not there is empty, as in every protobuf.
fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

/// 64-bit integers are strings, doubles are numbers.
fn number(json: &Json) -> Option<f64> {
    json.as_str().map(|digits| digits.parse().unwrap()).or(json.as_f64())
}

fn whole(json: &Json) -> u64 {
    json.as_str().map(|digits| digits.parse().unwrap()).or(json.as_u64()).unwrap_or_default()
}

fn attributes(json: &Json) -> BTreeMap<String, String> {
    let pairs = list(json).iter().map(|pair| {
        let value = &pair["value"];
        (text(&pair["key"]), value["stringValue"].as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    pairs.collect()
}

/// The points of a request as tollgate's own messages decode it.
pub fn from_message(request: &ExportMetricsServiceRequest) -> Vec<Point> {
    let mut points = Vec::new();
    for resource in &request.resource_metrics {
        for scope in &resource.scope_metrics {
            for metric in &scope.metrics {
                let base = Point {
                    resource: resource.resource.as_ref().map_or_else(BTreeMap::new, |of| of_message(&of.attributes)),
                    scope: scope.scope.as_ref().map(|of| (of.name.clone(), of.version.clone())).unwrap_or_default(),
                    metric: metric.name.clone(),
                    unit: metric.unit.clone(),
                    description: metric.description.clone(),
                    ..Point::default()
                };
                match metric.data.as_ref().unwrap() {
                    Data::Gauge(gauge) => points.extend(gauge.data_points.iter().map(|of| number_point(&base, of))),
                    Data::Sum(sum) => points.extend(sum.data_points.iter().map(|of| Point {
                        temporality: u64::try_from(sum.aggregation_temporality).unwrap(),
                        is_monotonic: sum.is_monotonic,
                        ..number_point(&base, of)
                    })),
                    Data::Histogram(histogram) => points.extend(histogram.data_points.iter().map(|of| Point {
                        temporality: u64::try_from(histogram.aggregation_temporality).unwrap(),
                        ..histogram_point(&base, of)
                    })),
                    other => panic!("a metric of another kind: {other:?}"),
                }
            }
        }
    }
    points
}

fn number_point(base: &Point, of: &NumberDataPoint) -> Point {
    Point {
        attributes: of_message(&of.attributes),
        start: of.start_time_unix_nano,
        time: of.time_unix_nano,
        flags: of.flags.into(),
        value: match of.value.unwrap() {
            // Counts stay far below what a double holds exactly.
            Value::AsInt(value) => value as f64,
            Value::AsDouble(value) => value,
        },
        ..base.clone()
    }
}

fn histogram_point(base: &Point, of: &HistogramDataPoint) -> Point {
    let (buckets, bounds) = (of.bucket_counts.clone(), of.explicit_bounds.clone());
    Point {
        attributes: of_message(&of.attributes),
        start: of.start_time_unix_nano,
        time: of.time_unix_nano,
        flags: of.flags.into(),
        value: of.count as f64,
        histogram: Some(Histogram { sum: of.sum, buckets, bounds, min: of.min, max: of.max }),
        ..base.clone()
    }
}

fn of_message(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = attributes.iter().map(|pair| {
        let value = match &pair.value {
            Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => text.clone(),
            Some(AnyValue { value: Some(any_value::Value::IntValue(number)) }) => {
                format!("{{\"intValue\":\"{number}\"}}")
            }
            Some(AnyValue { value: Some(any_value::Value::BoolValue(yes)) }) => format!("{{\"boolValue\":{yes}}}"),
            other => panic!("an attribute of another kind: {other:?}"),
        };
        (pair.key.clone(), value)
    });
    pairs.collect()
}
