//! What Prometheus takes without looking, and a correct exporter never sends.
//!
//! From the OpenTelemetry data model and from what is known to go wrong downstream.

use std::collections::HashSet;

use tollgate::proto::opentelemetry::proto::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, metric::Data, number_data_point},
};

/// Adds a line for everything that is wrong with `request`.
pub(crate) fn check(request: &ExportMetricsServiceRequest, violations: &mut Vec<String>) {
    if request.resource_metrics.is_empty() {
        violations.push("the request is empty".to_owned());
    }
    for resource in &request.resource_metrics {
        check_resource(resource, violations);
        let mut names = HashSet::new();
        let mut times = HashSet::new();
        if resource.scope_metrics.iter().all(|scope| scope.metrics.is_empty()) {
            violations.push("a resource without metrics".to_owned());
        }
        for metric in resource.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            // Scopes do not count: Prometheus ignores them.
            if !names.insert(&metric.name) {
                violations.push(format!("{} is there twice", metric.name));
            }
            check_metric(metric, &mut times, violations);
        }
        if times.len() > 1 {
            violations.push(format!("{} different timestamps in one request", times.len()));
        }
    }
}

fn check_resource(resource: &ResourceMetrics, violations: &mut Vec<String>) {
    let attributes = resource.resource.as_ref().map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    for key in ["service.name", "service.instance.id"] {
        if !attributes.iter().any(|attribute| attribute.key == key) {
            violations.push(format!("the resource has no {key}"));
        }
    }
    check_keys("the resource", attributes, violations);
}

fn check_metric<'a>(metric: &'a Metric, times: &mut HashSet<u64>, violations: &mut Vec<String>) {
    let name = metric.name.as_str();
    let mut sets = HashSet::new();
    let mut check_point = |attributes: &'a [KeyValue], time: u64, start: Option<u64>, violations: &mut Vec<String>| {
        check_keys(name, attributes, violations);
        times.insert(time);
        if start.is_some_and(|start| start == 0 || start >= time) {
            violations.push(format!("{name}: a point that does not start before its own time"));
        }
        let mut set: Vec<String> = attributes.iter().map(|attribute| format!("{attribute:?}")).collect();
        set.sort();
        if !sets.insert(set) {
            violations.push(format!("{name}: two points with the same attributes"));
        }
    };
    match &metric.data {
        Some(Data::Gauge(gauge)) => {
            for point in &gauge.data_points {
                check_point(&point.attributes, point.time_unix_nano, None, violations);
                check_number(name, point, false, violations);
            }
        }
        Some(Data::Sum(sum)) => {
            for point in &sum.data_points {
                check_point(&point.attributes, point.time_unix_nano, Some(point.start_time_unix_nano), violations);
                check_number(name, point, sum.is_monotonic, violations);
            }
        }
        Some(Data::Histogram(histogram)) => {
            for point in &histogram.data_points {
                check_point(&point.attributes, point.time_unix_nano, Some(point.start_time_unix_nano), violations);
                check_histogram(name, point, violations);
            }
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            for point in &histogram.data_points {
                check_point(&point.attributes, point.time_unix_nano, Some(point.start_time_unix_nano), violations);
            }
        }
        Some(Data::Summary(_)) | None => {}
    }
}

fn check_keys(of: &str, attributes: &[KeyValue], violations: &mut Vec<String>) {
    let mut keys = HashSet::new();
    for attribute in attributes {
        if !keys.insert(&attribute.key) {
            violations.push(format!("{of}: the attribute {:?} is there twice", attribute.key));
        }
        if attribute.value.as_ref().is_none_or(|value| value.value.is_none()) {
            violations.push(format!("{of}: the attribute {:?} has no value", attribute.key));
        }
        if matches!(attribute.key.as_str(), "le" | "quantile") {
            violations.push(format!("{of}: the attribute {:?} means something else to Prometheus", attribute.key));
        }
    }
}

/// A point that says it has no value must not have one.
fn check_number(name: &str, point: &NumberDataPoint, monotonic: bool, violations: &mut Vec<String>) {
    if point.value.is_some() && point.flags & 1 == 1 {
        violations.push(format!("{name}: a value where the flags say that there is none"));
    }
    let value = match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        None if point.flags & 1 == 1 => return,
        None => return violations.push(format!("{name}: a point without a value")),
    };
    if !value.is_finite() {
        violations.push(format!("{name}: {value}"));
    }
    if monotonic && value < 0.0 {
        violations.push(format!("{name}: a monotonic sum of {value}"));
    }
}

fn check_histogram(name: &str, point: &HistogramDataPoint, violations: &mut Vec<String>) {
    let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
    let mut complain = |what: &str| violations.push(format!("{name}: {what}"));
    if counts.len() != bounds.len() + 1 && !(counts.is_empty() && bounds.is_empty()) {
        complain("there is not one bucket more than bounds");
    }
    if bounds.iter().any(|bound| !bound.is_finite()) {
        complain("a bound that is not finite");
    }
    if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
        complain("bounds that do not ascend");
    }
    if counts.iter().sum::<u64>() != point.count {
        complain("the count is not the sum of the buckets");
    }
    match point.sum {
        Some(sum) if !sum.is_finite() || (point.count == 0 && sum != 0.0) => complain("a sum that cannot be"),
        _ => {}
    }
}
