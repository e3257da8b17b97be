//! A snapshot in Prometheus' text format (0.0.4), for those who scrape.
//!
//! Names and labels are those that Prometheus gives to the same points when they are pushed (its
//! default translation, `UnderscoreEscapingWithSuffixes`), so that a dashboard works either way.
//! Without timestamps: a sample is of the time of its scrape. Takes cumulative snapshots only.

use std::{
    collections::BTreeMap,
    fmt::{self, Display, Write as _},
};

use super::{
    aggregation::{EXPONENTIAL_SCALE, Layout, lower_bound},
    catalog::{Descriptor, Kind},
    otlp::sum,
    snapshot::{MetricSnapshot, Point, Snapshot},
};

/// What the format calls itself.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Buckets of an exponential histogram that make one classic bucket: those of a power of two.
const MERGED: i32 = 1 << EXPONENTIAL_SCALE;

/// Encodes every series that has a value, metrics in the order of the catalog and series in that of
/// their labels, and `resource` as `target_info`.
pub fn encode(snapshot: &Snapshot, resource: &[(String, String)]) -> String {
    let mut out = Text { text: String::with_capacity(128 * snapshot.points() + 1024) };
    target_info(&mut out, resource);
    for metric in &snapshot.metrics {
        family(&mut out, metric, snapshot);
    }
    out.text
}

/// The name under which Prometheus stores a metric: words joined by underscores, then the unit, then
/// `total` or `ratio`, none of them twice.
pub fn family_name(of: &Descriptor) -> String {
    let words = of.name.split(|character: char| !character.is_ascii_alphanumeric());
    let mut words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let (main, per) = of.unit.split_once('/').unwrap_or((of.unit, ""));
    let (main, per) = (main_unit(main), per_unit(per));
    if !main.is_empty() && !words.contains(&main) {
        words.push(main);
    }
    if !per.is_empty() && !words.contains(&per) {
        words.extend(["per", per]);
    }
    let last = match of.kind {
        Kind::Counter | Kind::ObservableCounter => Some("total"),
        Kind::Gauge if of.unit == "1" => Some("ratio"),
        Kind::Gauge | Kind::UpDownCounter | Kind::Histogram(_) => None,
    };
    if let Some(last) = last {
        words.retain(|word| *word != last);
        words.push(last);
    }
    words.join("_")
}

/// A unit in words; one that is not known stays as it is.
fn main_unit(unit: &str) -> &str {
    match unit {
        "s" => "seconds",
        "ms" => "milliseconds",
        "By" => "bytes",
        "%" => "percent",
        // Annotations in braces are comments.
        unit if unit == "1" || unit.contains(['{', '}']) => "",
        unit => unit,
    }
}

fn per_unit(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        unit if unit.contains(['{', '}']) => "",
        unit => unit,
    }
}

/// The resource as a series of its own, as the OpenTelemetry exporters for Prometheus have it. What
/// identifies the process is part of it: `job` and `instance` are the scraper's to say.
fn target_info(out: &mut Text, resource: &[(String, String)]) {
    let labels = labels(resource.iter().map(|(key, value)| (key.as_str(), value.clone())).collect());
    if !labels.is_empty() {
        out.head("target_info", "Target metadata", "gauge");
        out.sample("target_info", "", &labels, None, 1);
    }
}

fn family(out: &mut Text, metric: &MetricSnapshot, snapshot: &Snapshot) {
    let of = metric.descriptor;
    let valued = metric.points.iter().filter(|point| !point.is_ended);
    let mut series: Vec<(String, &Point)> = valued
        .map(|point| {
            let attributes = point.attributes();
            (labels(attributes.iter().map(|found| (found.key, found.value.to_string())).collect()), point)
        })
        .collect();
    if series.is_empty() {
        return;
    }
    // The registry has them in no order, and people compare two scrapes.
    series.sort_by(|a, b| a.0.cmp(&b.0));
    let name = family_name(of);
    let kind = match of.kind {
        Kind::Counter | Kind::ObservableCounter => "counter",
        Kind::UpDownCounter | Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    out.head(&name, of.description, kind);
    for (labels, point) in &series {
        match (&metric.buckets.layout, of.scale) {
            (Layout::None, None) => out.sample(&name, "", labels, None, point.value.cast_signed()),
            (Layout::None, Some(scale)) => {
                out.sample(&name, "", labels, None, point.value.cast_signed() as f64 * scale);
            }
            (layout, _) => histogram(out, (&name, labels), of, layout, point, snapshot),
        }
    }
}

fn histogram(
    out: &mut Text,
    (name, labels): (&str, &str),
    of: &Descriptor,
    layout: &Layout,
    point: &Point,
    snapshot: &Snapshot,
) {
    let counts = snapshot.buckets(point);
    let last = counts.len().saturating_sub(1);
    let mut cumulative = 0_u64;
    for (place, count) in counts.iter().enumerate().take(last) {
        cumulative += count;
        if let Some(bound) = upper_bound(layout, place) {
            out.sample(name, "_bucket", labels, Some(Le(bound)), cumulative);
        }
    }
    let count = cumulative + counts.last().copied().unwrap_or(0);
    out.sample(name, "_bucket", labels, Some(Le(f64::INFINITY)), count);
    out.sample(name, "_sum", labels, None, sum(of, count, point));
    out.sample(name, "_count", labels, None, count);
}

/// The bound that the count at `place`, which is not the last one, ends with, if it is shown.
///
/// Of an exponential histogram these are the threshold of the zero bucket and the powers of two, and
/// always all of them, also below and above what is in use: a sum over series that have different
/// bounds is too low at those that some of them lack, and `increase()` sees nothing of a bucket's
/// first value.
fn upper_bound(layout: &Layout, place: usize) -> Option<f64> {
    match layout {
        Layout::None => None,
        Layout::Explicit(bounds) => bounds.get(place).copied(),
        Layout::Exponential { zero_threshold, .. } if place == 0 => Some(*zero_threshold),
        Layout::Exponential { first, .. } => {
            // A bucket ends where the next one begins.
            let next = first + i32::try_from(place).ok()?;
            (next.rem_euclid(MERGED) == 0).then(|| lower_bound(next))
        }
    }
}

/// `name="value",…` in the order of names. As in a push, an empty value is no label, and keys that
/// become one name share it: a name that is there twice would make Prometheus drop the whole scrape.
fn labels(mut attributes: Vec<(&str, String)>) -> String {
    attributes.sort();
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in attributes.into_iter().filter(|(key, _)| !key.is_empty()) {
        let shared = labels.entry(label_name(key));
        shared.and_modify(|first| *first = format!("{first};{value}")).or_insert(value);
    }
    let mut out = Text { text: String::new() };
    for (name, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        let comma = if out.text.is_empty() { "" } else { "," };
        out.write(format_args!("{comma}{name}=\""));
        out.escaped(value, true);
        out.text.push('"');
    }
    out.text
}

/// The label that Prometheus makes of an attribute's key.
fn label_name(key: &str) -> String {
    let plain = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let name: String = key.chars().map(plain).collect();
    match name.as_bytes() {
        [b'0'..=b'9', ..] => format!("key_{name}"),
        [b'_', b'_', ..] => name,
        [b'_', ..] => format!("key{name}"),
        _ => name,
    }
}

/// The upper bound of a bucket.
struct Le(f64);

impl Display for Le {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == f64::INFINITY { f.write_str("+Inf") } else { self.0.fmt(f) }
    }
}

/// Text that grows.
struct Text {
    text: String,
}

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.write(format_args!("# HELP {name} "));
        self.escaped(help, false);
        self.write(format_args!("\n# TYPE {name} {kind}\n"));
    }

    /// One line. Every number here comes from integers, so that it is finite.
    fn sample(&mut self, name: &str, suffix: &str, labels: &str, le: Option<Le>, value: impl Display) {
        self.write(format_args!("{name}{suffix}"));
        match (le, labels) {
            (None, "") => {}
            (None, labels) => self.write(format_args!("{{{labels}}}")),
            (Some(le), "") => self.write(format_args!("{{le=\"{le}\"}}")),
            (Some(le), labels) => self.write(format_args!("{{{labels},le=\"{le}\"}}")),
        }
        self.write(format_args!(" {value}\n"));
    }

    /// The format's escapes: backslash and line feed, and within a label the quotation mark.
    fn escaped(&mut self, text: &str, in_label: bool) {
        for character in text.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '"' if in_label => self.text.push_str("\\\""),
                character => self.text.push(character),
            }
        }
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _infallible = self.text.write_fmt(text).is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{
        Aggregations, Attribute, Counter, Gauge, Histogram, Registry, UpDownCounter, catalog, dimensions::TokenType,
    };

    fn resource() -> Vec<(String, String)> {
        let pairs = [("service.name", "a \"b\" \\c\nd"), ("host-name", "h"), ("host.name", "g"), ("empty", "")];
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn every_kind_of_metric_is_what_the_format_says() {
        let registry = Registry::with(
            10,
            Aggregations {
                bounds: vec![(catalog::GEN_AI_DURATION.name, vec![0.01, 0.5, 10.0])],
                ..Aggregations::default()
            },
        );
        let fixed = [Attribute::text("tollgate.key", "team-a"), Attribute::owned("gen_ai.request.model", "m\"\\")];
        let tokens: Counter<TokenType> = registry.counter(&catalog::TOKENS, &fixed);
        tokens.add(TokenType::Output, 7);
        tokens.add(TokenType::Input, 12);
        let duration: Histogram = registry.histogram(&catalog::GEN_AI_DURATION, &[Attribute::int("server.port", 443)]);
        [10_000_000, 10_000_001, 90_000_000_000].into_iter().for_each(|nanos| duration.record((), nanos));
        // It has no value yet, so it is not shown.
        let _overhead: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
        let active: UpDownCounter = registry.up_down_counter(&catalog::CONNECTIONS_ACTIVE, &[]);
        active.observe((), -3);
        let uptime: Gauge = registry.gauge(&catalog::PROCESS_UPTIME, &[]);
        uptime.set((), 250_000_000);
        let expected = r#"# HELP target_info Target metadata
# TYPE target_info gauge
target_info{host_name="h;g",service_name="a \"b\" \\c\nd"} 1
# HELP gen_ai_client_operation_duration_seconds Duration of one attempt at a deployment, to its last byte.
# TYPE gen_ai_client_operation_duration_seconds histogram
gen_ai_client_operation_duration_seconds_bucket{server_port="443",le="0.01"} 1
gen_ai_client_operation_duration_seconds_bucket{server_port="443",le="0.5"} 2
gen_ai_client_operation_duration_seconds_bucket{server_port="443",le="10"} 2
gen_ai_client_operation_duration_seconds_bucket{server_port="443",le="+Inf"} 3
gen_ai_client_operation_duration_seconds_sum{server_port="443"} 90.020000001
gen_ai_client_operation_duration_seconds_count{server_port="443"} 3
# HELP tollgate_tokens_total Tokens by client key, requested model and type; cache and reasoning tokens are part of input and output.
# TYPE tollgate_tokens_total counter
tollgate_tokens_total{gen_ai_request_model="m\"\\",gen_ai_token_type="input",tollgate_key="team-a"} 12
tollgate_tokens_total{gen_ai_request_model="m\"\\",gen_ai_token_type="output",tollgate_key="team-a"} 7
# HELP tollgate_connections_active Client connections that are open.
# TYPE tollgate_connections_active gauge
tollgate_connections_active -3
# HELP process_uptime_seconds Time since the process started.
# TYPE process_uptime_seconds gauge
process_uptime_seconds 0.25
"#;
        assert_eq!(encode(&registry.snapshot(), &resource()), expected);
    }

    #[test]
    fn nothing_to_say_is_an_empty_text() {
        assert_eq!(encode(&Snapshot::default(), &[]), "");
        let registry = Registry::new();
        let mut cursor = registry.cursor();
        registry.counter::<()>(&catalog::CONNECTIONS_ACCEPTED, &[]).create(());
        // Its last handle is gone.
        let (mut snapshot, ended) = registry.read(&mut cursor);
        assert!(snapshot.add_ended(&ended[0], true));
        assert_eq!(encode(&snapshot, &[]), "");
    }

    /// Bounds and cumulative counts of the only histogram, and its count.
    fn buckets(text: &str) -> (Vec<(f64, u64)>, u64) {
        let mut bounds = Vec::new();
        let mut count = 0;
        for line in text.lines() {
            let (series, value) = line.rsplit_once(' ').unwrap();
            if let Some((_, le)) = series.split_once("_bucket{le=\"") {
                let le = le.strip_suffix("\"}").unwrap();
                bounds.push((le.parse().unwrap(), value.parse().unwrap()));
            } else if series.ends_with("_count") {
                count = value.parse().unwrap();
            }
        }
        (bounds, count)
    }

    #[test]
    fn exponential_buckets_become_powers_of_two_and_lose_no_value() {
        for of in [&catalog::GEN_AI_TOKEN_USAGE, &catalog::GEN_AI_DURATION] {
            let registry = Registry::with(10, Aggregations { exponential: true, bounds: Vec::new() });
            let handle: Histogram = registry.histogram(of, &[]);
            let mut values: Vec<u64> = (0..200).map(|step| step * step * step * 31).collect();
            values.extend((0..64).flat_map(|power| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1]));
            values.iter().for_each(|value| handle.record((), *value));
            let text = encode(&registry.snapshot(), &[]);
            let (bounds, count) = buckets(&text);
            assert_eq!(bounds.len(), 42, "{text}");
            assert_eq!((count, bounds[41]), (values.len() as u64, (f64::INFINITY, count)));
            assert!(bounds.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{text}");
            for (bound, cumulative) in bounds {
                let below = values.iter().filter(|value| **value as f64 * of.scale.unwrap_or(1.0) <= bound).count();
                assert_eq!(cumulative, below as u64, "{} up to {bound}", of.name);
            }
        }
        let tokens: Vec<Option<f64>> =
            (0..6).map(|place| upper_bound(&Layout::Exponential { first: -1, zero_threshold: 0.0 }, place)).collect();
        assert_eq!(tokens, [Some(0.0), Some(1.0), None, None, None, Some(2.0)]);
    }

    #[test]
    fn labels_are_named_as_prometheus_does() {
        let table =
            [("http.route", "http_route"), ("a-b", "a_b"), ("_x", "key_x"), ("9dig", "key_9dig"), ("__x", "__x")];
        for (key, name) in table {
            assert_eq!(label_name(key), name);
        }
    }
}
