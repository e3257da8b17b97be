//! A snapshot as OTLP in JSON: the proto3 mapping with OTLP's exceptions.
//!
//! Keys are lowerCamelCase, enums are numbers, 64-bit integers are decimal strings (OTLP
//! specification, "JSON Protobuf Encoding"). Same content as `otlp`, for receivers that want it so.

use std::fmt::Write as _;

use super::{
    aggregation::{EXPONENTIAL_SCALE, Layout},
    attribute::{Attribute, Value},
    catalog::{Descriptor, Kind, Scope},
    otlp::{CUMULATIVE, DELTA, NO_RECORDED_VALUE, exponential_counts, start, sum},
    snapshot::{MetricSnapshot, Part, Point, Snapshot},
};

/// Encodes what [`super::otlp::encode`] does.
pub fn encode(snapshot: &Snapshot, part: &Part, resource: &[(String, String)]) -> Vec<u8> {
    let mut out = Json { text: String::with_capacity(1024 * part.points() + 512) };
    out.push(r#"{"resourceMetrics":[{"resource":{"attributes":"#);
    out.list(resource, |out, (key, value)| out.attribute(key, |out| out.field_text("stringValue", value)));
    out.push(r#"},"scopeMetrics":"#);
    let scopes = Scope::ALL.iter().filter(|scope| snapshot.metrics_of(part, **scope).next().is_some());
    out.list(scopes, |out, scope| {
        out.push(r#"{"scope":{"#);
        out.field_text("name", scope.name());
        out.push(",");
        out.field_text("version", env!("CARGO_PKG_VERSION"));
        out.push(r#"},"metrics":"#);
        out.list(snapshot.metrics_of(part, *scope), |out, (of, points)| metric(out, of, points, snapshot));
        out.push(",");
        out.field_text("schemaUrl", scope.schema_url());
        out.push("}");
    });
    out.push("}]}");
    out.text.into_bytes()
}

fn metric(out: &mut Json, metric: &MetricSnapshot, points: &[Point], snapshot: &Snapshot) {
    let of = metric.descriptor;
    out.push("{");
    for (key, value) in [("name", of.name), ("description", of.description), ("unit", of.unit)] {
        out.field_text(key, value);
        out.push(",");
    }
    let layout = &metric.buckets.layout;
    out.push(match (of.kind, layout) {
        (Kind::Gauge, _) => r#""gauge":{"dataPoints":"#,
        (_, Layout::None) => r#""sum":{"dataPoints":"#,
        (_, Layout::Explicit(_)) => r#""histogram":{"dataPoints":"#,
        (_, Layout::Exponential { .. }) => r#""exponentialHistogram":{"dataPoints":"#,
    });
    out.list(points, |out, of_point| point(out, of, layout, of_point, snapshot));
    if !matches!(of.kind, Kind::Gauge) {
        let temporality = if metric.is_delta { DELTA } else { CUMULATIVE };
        out.field("aggregationTemporality", temporality);
    }
    if of.kind.is_monotonic() {
        out.push(r#","isMonotonic":true"#);
    }
    out.push("}}");
}

fn point(out: &mut Json, of: &Descriptor, layout: &Layout, point: &Point, snapshot: &Snapshot) {
    out.push(r#"{"attributes":"#);
    out.list(&point.attributes(), |out, Attribute { key, value }| {
        out.attribute(key, |out| match value {
            Value::Text(text) => out.field_text("stringValue", text),
            Value::Int(number) => out.write(format_args!(r#""intValue":"{number}""#)),
            Value::Bool(truth) => out.write(format_args!(r#""boolValue":{truth}"#)),
        });
    });
    let time = snapshot.time_nanos;
    if !matches!(of.kind, Kind::Gauge) {
        out.field_long("startTimeUnixNano", start(point, time));
    }
    out.field_long("timeUnixNano", time);
    match layout {
        Layout::None if point.is_ended => {}
        Layout::None => match of.scale {
            Some(scale) => out.field_double("asDouble", point.value.cast_signed() as f64 * scale),
            None => out.write(format_args!(r#","asInt":"{}""#, point.value.cast_signed())),
        },
        Layout::Explicit(bounds) => explicit(out, of, bounds, point, snapshot),
        Layout::Exponential { first, zero_threshold } => {
            exponential(out, of, (*first, *zero_threshold), point, snapshot)
        }
    }
    if point.is_ended {
        out.field("flags", NO_RECORDED_VALUE);
    }
    out.push("}");
}

fn explicit(out: &mut Json, of: &Descriptor, bounds: &[f64], point: &Point, snapshot: &Snapshot) {
    let buckets = snapshot.buckets(point);
    let seen = |count: &u64| if point.is_ended { 0 } else { *count };
    let count: u64 = buckets.iter().map(seen).sum();
    out.field_long("count", count);
    out.field_double("sum", sum(of, count, point));
    out.push(r#","bucketCounts":"#);
    out.list(buckets.iter().map(seen), |out, count| out.write(format_args!(r#""{count}""#)));
    out.push(r#","explicitBounds":"#);
    out.list(bounds, |out, bound| out.write(format_args!("{bound}")));
}

fn exponential(out: &mut Json, of: &Descriptor, (first, threshold): (i32, f64), point: &Point, snapshot: &Snapshot) {
    let (zero, (offset, counts)) = exponential_counts(first, point, snapshot);
    let count = zero + counts.iter().sum::<u64>();
    out.field_long("count", count);
    out.field_double("sum", sum(of, count, point));
    out.write(format_args!(r#","scale":{EXPONENTIAL_SCALE}"#));
    out.field_long("zeroCount", zero);
    out.write(format_args!(r#","positive":{{"offset":{offset},"bucketCounts":"#));
    out.list(counts, |out, count| out.write(format_args!(r#""{count}""#)));
    out.push("}");
    out.field_double("zeroThreshold", threshold);
}

/// Text that grows.
struct Json {
    text: String,
}

impl Json {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _infallible = self.text.write_fmt(text).is_err();
    }

    fn list<T>(&mut self, items: impl IntoIterator<Item = T>, mut item: impl FnMut(&mut Self, T)) {
        self.push("[");
        for (place, one) in items.into_iter().enumerate() {
            if place > 0 {
                self.push(",");
            }
            item(self, one);
        }
        self.push("]");
    }

    fn attribute(&mut self, key: &str, value: impl FnOnce(&mut Self)) {
        self.push("{");
        self.field_text("key", key);
        self.push(r#","value":{"#);
        value(self);
        self.push("}}");
    }

    fn field_text(&mut self, key: &str, value: &str) {
        // Keys are ours and plain.
        self.write(format_args!(r#""{key}":"#));
        self.string(value);
    }

    fn field(&mut self, key: &str, value: u64) {
        self.write(format_args!(r#","{key}":{value}"#));
    }

    fn field_long(&mut self, key: &str, value: u64) {
        self.write(format_args!(r#","{key}":"{value}""#));
    }

    /// Every number here comes from integers and is finite.
    fn field_double(&mut self, key: &str, value: f64) {
        self.write(format_args!(r#","{key}":{value}"#));
    }

    /// A string by RFC 8259 §7.
    fn string(&mut self, text: &str) {
        self.push("\"");
        for character in text.chars() {
            match character {
                '"' => self.push("\\\""),
                '\\' => self.push("\\\\"),
                character if character < ' ' => self.write(format_args!("\\u{:04x}", u32::from(character))),
                character => self.text.push(character),
            }
        }
        self.push("\"");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Tree, json};

    use super::*;
    use crate::telemetry::{Aggregations, Counter, Gauge, Histogram, Registry, UpDownCounter, catalog};

    fn tree(snapshot: &Snapshot) -> Tree {
        let resource = [("service.name".to_owned(), "a\"b\\c\u{1}π".to_owned())];
        let parts = snapshot.parts(usize::MAX);
        serde_json::from_slice(&encode(snapshot, &parts[0], &resource)).unwrap()
    }

    #[test]
    fn every_kind_of_point_is_what_the_mapping_says() {
        let registry = Registry::new();
        let fixed = [Attribute::owned("server.address", "h"), Attribute::int("server.port", 443)];
        let duration: Histogram = registry.histogram(&catalog::GEN_AI_DURATION, &fixed);
        duration.record((), 20_000_000);
        let active: UpDownCounter = registry.up_down_counter(&catalog::CONNECTIONS_ACTIVE, &[]);
        active.observe((), -3);
        let accepted: Counter = registry.counter(&catalog::CONNECTIONS_ACCEPTED, &[]);
        accepted.add((), 1 << 60);
        let uptime: Gauge = registry.gauge(&catalog::PROCESS_UPTIME, &[]);
        uptime.set((), 250_000_000);
        let mut snapshot = registry.snapshot();
        snapshot.time_nanos = 1_700_000_000_000_000_001;
        let tree = tree(&snapshot);
        assert_eq!(
            tree["resourceMetrics"][0]["resource"],
            json!({"attributes": [{"key": "service.name", "value": {"stringValue": "a\"b\\c\u{1}π"}}]})
        );
        let scopes = tree["resourceMetrics"][0]["scopeMetrics"].as_array().unwrap();
        assert_eq!(scopes.len(), 2);
        let metrics = scopes[0]["metrics"].as_array().unwrap();
        let point = |metric: &Tree, kind: &str| metric[kind]["dataPoints"][0].clone();
        assert_eq!(point(&metrics[0], "sum")["asInt"], "-3");
        assert_eq!(metrics[0]["sum"]["aggregationTemporality"], 2);
        assert_eq!(metrics[0]["sum"]["isMonotonic"], Tree::Null);
        assert_eq!(point(&metrics[1], "sum")["asInt"], (1_u64 << 60).to_string());
        assert_eq!(metrics[1]["sum"]["isMonotonic"], true);
        assert_eq!(point(&metrics[2], "gauge")["asDouble"], 0.25);
        assert_eq!(point(&metrics[2], "gauge")["startTimeUnixNano"], Tree::Null);
        let histogram = point(&scopes[1]["metrics"][0], "histogram");
        assert_eq!(histogram["timeUnixNano"], "1700000000000000001");
        assert_eq!((&histogram["count"], &histogram["sum"]), (&json!("1"), &json!(0.02)));
        assert_eq!(histogram["bucketCounts"][1], "1");
        assert_eq!(histogram["explicitBounds"][0], 0.01);
        assert_eq!(histogram["attributes"][1], json!({"key": "server.port", "value": {"intValue": "443"}}));
    }

    #[test]
    fn an_exponential_histogram_has_its_parts() {
        let registry = Registry::with(10, Aggregations { exponential: true, bounds: Vec::new() });
        let usage: Histogram = registry.histogram(&catalog::GEN_AI_TOKEN_USAGE, &[]);
        [0, 1, 2, 2, 4].into_iter().for_each(|tokens| usage.record((), tokens));
        let tree = tree(&registry.snapshot());
        let point =
            &tree["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]["exponentialHistogram"]["dataPoints"][0];
        assert_eq!((&point["count"], &point["zeroCount"], &point["scale"]), (&json!("5"), &json!("1"), &json!(2)));
        assert_eq!(
            point["positive"],
            json!({"offset": -1, "bucketCounts": ["1", "0", "0", "0", "2", "0", "0", "0", "1"]})
        );
    }
}
