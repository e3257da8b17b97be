//! OTLP points as Prometheus samples, with the errors that the translation itself raises.

use std::collections::HashMap;

use tollgate::proto::opentelemetry::proto::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, metric::Data,
        number_data_point,
    },
};

use super::{
    head::{Labels, Sample},
    naming::{Kind, label_name, metric_name},
    rules::{Verdict, Version},
};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;

/// A value, or the staleness marker where the point's flags say that there is none any more.
fn unless_ended(flags: u32, value: f64) -> f64 {
    if flags & 1 == 1 { f64::NAN } else { value }
}

/// Every sample of a request, in the order in which Prometheus appends them.
pub(crate) fn translate(
    version: Version,
    request: &ExportMetricsServiceRequest,
    violations: &mut Vec<String>,
) -> Result<Vec<Sample>, Verdict> {
    let mut translation = Translation { version, samples: Vec::new(), violations, families: HashMap::new() };
    for resource_metrics in &request.resource_metrics {
        let resource = Resource::of(resource_metrics);
        for scope in &resource_metrics.scope_metrics {
            for metric in &scope.metrics {
                translation.metric(&resource, metric)?;
            }
        }
        translation.target_info(&resource, resource_metrics);
    }
    Ok(translation.samples)
}

struct Translation<'a> {
    version: Version,
    samples: Vec<Sample>,
    violations: &'a mut Vec<String>,
    /// Which metric a family name stands for.
    families: HashMap<String, (String, String, Kind)>,
}

/// Resource attributes by their role.
struct Resource {
    identity: Vec<(&'static str, String)>,
    others: Vec<KeyValue>,
}

impl Resource {
    fn of(metrics: &ResourceMetrics) -> Self {
        let attributes = metrics.resource.as_ref().map(|resource| resource.attributes.clone()).unwrap_or_default();
        let find = |key: &str| attributes.iter().find(|attribute| attribute.key == key).map(|found| text(&found.value));
        let mut identity = Vec::new();
        if let Some(name) = find("service.name") {
            let job = find("service.namespace").map_or_else(|| name.clone(), |space| format!("{space}/{name}"));
            identity.push(("job", job));
        }
        if let Some(instance) = find("service.instance.id") {
            identity.push(("instance", instance));
        }
        let identifying = ["service.name", "service.namespace", "service.instance.id"];
        let others = attributes.into_iter().filter(|attribute| !identifying.contains(&attribute.key.as_str()));
        Self { identity, others: others.collect() }
    }
}

impl Translation<'_> {
    /// 3.5 leaves the metric out and says so in its log only; 3.14 refuses the whole request.
    fn leave_out(&mut self, text: String) -> Result<(), Verdict> {
        if self.version == Version::V3_14 {
            return Err(Verdict::Refuse(500, text));
        }
        self.violations.push(format!("silently left out: {text}"));
        Ok(())
    }

    fn metric(&mut self, resource: &Resource, metric: &Metric) -> Result<(), Verdict> {
        let name = &metric.name;
        let (kind, temporality, empty) = match &metric.data {
            None => return self.leave_out(format!("could not get aggregation temporality for {name}")),
            Some(Data::Gauge(gauge)) => (Kind::Gauge, CUMULATIVE, gauge.data_points.is_empty()),
            Some(Data::Sum(sum)) => {
                let kind = if sum.is_monotonic { Kind::Counter } else { Kind::UpDownCounter };
                (kind, sum.aggregation_temporality, sum.data_points.is_empty())
            }
            Some(Data::Histogram(of)) => (Kind::Histogram, of.aggregation_temporality, of.data_points.is_empty()),
            Some(Data::ExponentialHistogram(of)) => {
                (Kind::Histogram, of.aggregation_temporality, of.data_points.is_empty())
            }
            Some(Data::Summary(of)) => (Kind::Histogram, CUMULATIVE, of.data_points.is_empty()),
        };
        if temporality != CUMULATIVE {
            return self.leave_out(format!("invalid temporality and type combination for metric {name:?}"));
        }
        let Some(family) = metric_name(name, &metric.unit, kind) else {
            return Err(match self.version {
                Version::V3_5 => Verdict::Cut,
                Version::V3_14 => {
                    Verdict::Refuse(500, format!("normalization for metric {name:?} resulted in empty name"))
                }
            });
        };
        if empty {
            return self.leave_out(format!("empty data points. {name} is dropped"));
        }
        self.claim(&family, metric, kind);
        match &metric.data {
            Some(Data::Gauge(gauge)) => self.numbers(resource, &family, &gauge.data_points, false),
            Some(Data::Sum(sum)) => self.numbers(resource, &family, &sum.data_points, sum.is_monotonic),
            Some(Data::Histogram(of)) => {
                of.data_points.iter().try_for_each(|point| self.histogram(resource, &family, point))
            }
            Some(Data::ExponentialHistogram(of)) => {
                of.data_points.iter().try_for_each(|point| self.exponential(resource, &family, point))
            }
            Some(Data::Summary(_)) | None => {
                self.violations.push(format!("{name} is a summary"));
                Ok(())
            }
        }
    }

    /// Two metrics under one name are one metric to Prometheus, and half of it is lost.
    fn claim(&mut self, family: &str, metric: &Metric, kind: Kind) {
        let claim = (metric.name.clone(), metric.unit.clone(), kind);
        let first = self.families.entry(family.to_owned()).or_insert_with(|| claim.clone());
        if *first != claim {
            self.violations.push(format!("{first:?} and {claim:?} are both stored as {family}"));
        }
    }

    fn numbers(
        &mut self,
        resource: &Resource,
        family: &str,
        points: &[NumberDataPoint],
        monotonic: bool,
    ) -> Result<(), Verdict> {
        for point in points {
            let value = match point.value {
                Some(number_data_point::Value::AsDouble(value)) => value,
                Some(number_data_point::Value::AsInt(value)) => value as f64,
                None => 0.0,
            };
            let labels = self.labels(resource, &point.attributes)?;
            let mut sample = sample(family, &labels, point.time_unix_nano, unless_ended(point.flags, value));
            sample.monotonic_since = monotonic.then_some(point.start_time_unix_nano);
            self.samples.push(sample);
        }
        Ok(())
    }

    fn histogram(&mut self, resource: &Resource, family: &str, point: &HistogramDataPoint) -> Result<(), Verdict> {
        let labels = self.histogram_labels(resource, &point.attributes)?;
        let mut push = |name: String, le: Option<String>, value: f64, monotonic: bool| {
            let mut labels = labels.clone();
            labels.extend(le.map(|le| ("le".to_owned(), le)));
            let mut sample = sample(&name, &labels, point.time_unix_nano, unless_ended(point.flags, value));
            sample.monotonic_since = monotonic.then_some(point.start_time_unix_nano);
            self.samples.push(sample);
        };
        if let Some(sum) = point.sum {
            push(format!("{family}_sum"), None, sum, false);
        }
        push(format!("{family}_count"), None, point.count as f64, true);
        let mut cumulative = 0;
        for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
            cumulative += count;
            push(format!("{family}_bucket"), Some(bound.to_string()), cumulative as f64, true);
        }
        push(format!("{family}_bucket"), Some("+Inf".to_owned()), point.count as f64, true);
        Ok(())
    }

    fn exponential(
        &mut self,
        resource: &Resource,
        family: &str,
        point: &ExponentialHistogramDataPoint,
    ) -> Result<(), Verdict> {
        if self.version == Version::V3_5 {
            return Err(Verdict::Refuse(500, "native histograms are disabled".to_owned()));
        }
        if point.scale < -4 {
            let text =
                format!("cannot convert exponential to native histogram. Scale must be >= -4, was {}", point.scale);
            return Err(Verdict::Refuse(500, text));
        }
        let counts = [&point.positive, &point.negative].into_iter().flatten().flat_map(|side| &side.bucket_counts);
        if counts.sum::<u64>() + point.zero_count != point.count {
            let text = "histogram's observation count should equal the number of observations found in the buckets";
            return Err(Verdict::Refuse(500, text.to_owned()));
        }
        let labels = self.histogram_labels(resource, &point.attributes)?;
        self.samples.push(sample(family, &labels, point.time_unix_nano, point.count as f64));
        Ok(())
    }

    fn histogram_labels(&mut self, resource: &Resource, attributes: &[KeyValue]) -> Result<Labels, Verdict> {
        if attributes.iter().any(|attribute| label_name(&attribute.key) == "le") {
            if self.version == Version::V3_5 {
                return Err(Verdict::Cut);
            }
            self.violations.push("the attribute `le` of a histogram is overwritten".to_owned());
        }
        self.labels(resource, attributes)
    }

    fn labels(&mut self, resource: &Resource, attributes: &[KeyValue]) -> Result<Labels, Verdict> {
        let mut sorted: Vec<&KeyValue> = attributes.iter().collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        let mut labels = Labels::new();
        for KeyValue { key, value, .. } in sorted {
            let name = if key.is_empty() { String::new() } else { label_name(key) };
            self.judge_label(key, &name)?;
            let value = text(value);
            labels.entry(name).and_modify(|existing| *existing = format!("{existing};{value}")).or_insert(value);
        }
        labels.retain(|_, value| !value.is_empty());
        labels.extend(resource.identity.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        Ok(labels)
    }

    fn judge_label(&mut self, key: &str, name: &str) -> Result<(), Verdict> {
        let refuse = |text: String| Err(Verdict::Refuse(500, text));
        match (self.version, name) {
            (Version::V3_5, "") => Err(Verdict::Cut),
            (Version::V3_14, "") => refuse("label name is empty".to_owned()),
            (Version::V3_14, name) if name.chars().all(|character| character == '_') => {
                refuse(format!("normalization for label name {key:?} resulted in invalid name {name:?}"))
            }
            (_, "job" | "instance") => {
                self.violations.push(format!("the attribute {key:?} is overwritten by the resource's"));
                Ok(())
            }
            (_, name) if name.starts_with("__") => {
                self.violations.push(format!("the attribute {key:?} has a name that Prometheus keeps for itself"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The resource as a series of its own. Its time goes forward with the newest point, so points
    /// older than an earlier request's are refused for its sake.
    fn target_info(&mut self, resource: &Resource, metrics: &ResourceMetrics) {
        let times: Vec<i64> =
            metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics).flat_map(times).map(milliseconds).collect();
        let (Some(oldest), Some(newest)) = (times.iter().min(), times.iter().max()) else { return };
        if resource.identity.is_empty() || resource.others.is_empty() {
            return;
        }
        let mut labels: Labels =
            resource.identity.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        labels.extend(resource.others.iter().map(|attribute| (label_name(&attribute.key), text(&attribute.value))));
        // Newer versions also repeat it between the two, which changes nothing for the rules.
        if self.version == Version::V3_14 && oldest < newest {
            self.samples.push(at("target_info", &labels, *oldest, 1.0));
        }
        self.samples.push(at("target_info", &labels, *newest, 1.0));
    }
}

fn times(metric: &Metric) -> Vec<u64> {
    match &metric.data {
        Some(Data::Gauge(of)) => of.data_points.iter().map(|point| point.time_unix_nano).collect(),
        Some(Data::Sum(of)) => of.data_points.iter().map(|point| point.time_unix_nano).collect(),
        Some(Data::Histogram(of)) => of.data_points.iter().map(|point| point.time_unix_nano).collect(),
        Some(Data::ExponentialHistogram(of)) => of.data_points.iter().map(|point| point.time_unix_nano).collect(),
        Some(Data::Summary(of)) => of.data_points.iter().map(|point| point.time_unix_nano).collect(),
        None => Vec::new(),
    }
}

fn sample(name: &str, labels: &Labels, time_unix_nano: u64, value: f64) -> Sample {
    at(name, labels, milliseconds(time_unix_nano), value)
}

fn at(name: &str, labels: &Labels, time: i64, value: f64) -> Sample {
    let mut labels = labels.clone();
    labels.insert("__name__".to_owned(), name.to_owned());
    Sample { labels, time, value, monotonic_since: None }
}

fn milliseconds(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000).unwrap()
}

/// An attribute's value as a label has it.
fn text(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}
