//! What arrived at the receiver, beside what the client has counted.

use std::collections::BTreeMap;

use tollgate::proto::opentelemetry::proto::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value},
    metrics::v1::{metric::Data, number_data_point},
};

use crate::load::Counts;

/// The newest value of every series that was ever stored.
#[derive(Default)]
pub(crate) struct Arrived {
    series: BTreeMap<Key, Number>,
}

/// The metric's name, and attributes as text.
type Key = (String, Vec<(String, String)>);

/// A sum, and the number of values of a histogram.
#[derive(Clone, Copy)]
struct Number {
    sum: f64,
    count: f64,
}

/// One number that two sides have to agree on.
pub(crate) struct Line {
    pub(crate) what: &'static str,
    pub(crate) client: u64,
    pub(crate) receiver: f64,
}

impl Line {
    /// To the last one.
    pub(crate) fn agrees(&self) -> bool {
        (self.receiver - self.client as f64).abs() < 0.5
    }
}

impl Arrived {
    /// From exports in the order they were stored.
    pub(crate) fn from<'a>(messages: impl IntoIterator<Item = &'a ExportMetricsServiceRequest>) -> Self {
        let mut arrived = Self::default();
        for message in messages {
            let scopes = message.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
            for metric in scopes.flat_map(|scope| &scope.metrics) {
                match &metric.data {
                    Some(Data::Sum(sum)) => {
                        for point in &sum.data_points {
                            let sum = match point.value {
                                Some(number_data_point::Value::AsInt(value)) => value as f64,
                                Some(number_data_point::Value::AsDouble(value)) => value,
                                None => f64::NAN,
                            };
                            arrived.store(&metric.name, &point.attributes, Number { sum, count: 0.0 });
                        }
                    }
                    Some(Data::Histogram(histogram)) => {
                        for point in &histogram.data_points {
                            let number = Number { sum: point.sum.unwrap_or(f64::NAN), count: point.count as f64 };
                            arrived.store(&metric.name, &point.attributes, number);
                        }
                    }
                    _ => {}
                }
            }
        }
        arrived
    }

    fn store(&mut self, name: &str, attributes: &[KeyValue], number: Number) {
        let attributes = attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute)));
        self.series.insert((name.to_owned(), attributes.collect()), number);
    }

    fn matching<'a>(&'a self, name: &'a str, key: &'a str, value: &'a str) -> impl Iterator<Item = Number> {
        let has = move |attributes: &[(String, String)]| {
            key.is_empty() || attributes.iter().any(|(other, found)| other == key && found == value)
        };
        self.series
            .iter()
            .filter(move |((other, attributes), _)| other == name && has(attributes))
            .map(|(_, number)| *number)
    }

    fn sum(&self, name: &str, key: &str, value: &str) -> f64 {
        self.matching(name, key, value).map(|number| number.sum).sum()
    }

    fn count(&self, name: &str, key: &str, value: &str) -> f64 {
        self.matching(name, key, value).map(|number| number.count).sum()
    }

    /// The ways in which exports ended, and how many did.
    pub(crate) fn exports_by_error(&self) -> Vec<(String, f64)> {
        let of = |((name, attributes), number): (&Key, &Number)| {
            let error = attributes.iter().find(|(key, _)| key == "error.type").map_or("none", |(_, value)| value);
            (name == "otel.sdk.exporter.operation.duration").then(|| (error.to_owned(), number.count))
        };
        self.series.iter().filter_map(of).collect()
    }

    /// Everything that the client knows as well.
    pub(crate) fn compare(&self, client: &Counts) -> Vec<Line> {
        const TOKEN: &str = "gen_ai.token.type";
        let tokens = |of: &str| self.sum("tollgate.tokens", TOKEN, of);
        let used = |of: &str| self.sum("gen_ai.client.token.usage", TOKEN, of);
        let lines = [
            ("requests completed", client.requests, self.sum("tollgate.requests", "tollgate.outcome", "completed")),
            ("requests failed", client.errors, self.sum("tollgate.requests", "tollgate.outcome", "failed")),
            ("requests cancelled", 0, self.sum("tollgate.requests", "tollgate.outcome", "cancelled")),
            ("tokens, input", client.input_tokens, tokens("input")),
            ("tokens, output", client.output_tokens, tokens("output")),
            ("tokens, cache_read", 0, tokens("cache_read")),
            ("tokens, cache_write", 0, tokens("cache_write")),
            ("tokens, reasoning", 0, tokens("reasoning")),
            ("token histogram, input, sum", client.input_tokens, used("input")),
            ("token histogram, output, sum", client.output_tokens, used("output")),
            ("attempts completed", client.requests, self.sum("tollgate.attempts", "tollgate.outcome", "completed")),
            ("attempts timed", client.requests, self.count("gen_ai.client.operation.duration", "", "")),
            ("first chunks timed", client.streams, self.count("gen_ai.client.operation.time_to_first_chunk", "", "")),
            ("requests timed", client.requests, self.count("http.server.request.duration", "", "")),
            ("errors", client.errors, self.sum("tollgate.errors", "", "")),
        ];
        lines.into_iter().map(|(what, client, receiver)| Line { what, client, receiver }).collect()
    }
}

fn text(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        _ => String::new(),
    }
}
