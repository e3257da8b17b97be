//! What the exporter counts about itself (`otel.sdk.exporter.*` of the OpenTelemetry conventions).
//!
//! An export counts once, however many requests it took.

use std::time::Duration;

use tokio::time::Instant;

use super::answer::{Answer, ErrorType};
use crate::{
    config::OtlpEndpoint,
    telemetry::{
        Attribute, Counter, Gauge, Histogram, Registry, UpDownCounter, catalog as metric, clock::saturating_nanos,
    },
};

/// The conventions' name for what we are.
const COMPONENT_TYPE: &str = "otlp_http_metric_exporter";

/// Handles of the exporter group.
#[derive(Debug)]
pub(super) struct Instruments {
    exported: Counter<Option<ErrorType>>,
    inflight: UpDownCounter,
    duration: Histogram<Option<ErrorType>>,
    last_success_age: Gauge,
    /// The last success, or the start while there is none.
    last_success: Instant,
}

impl Instruments {
    /// Binds them to one receiver.
    pub(super) fn bind(registry: &Registry, endpoint: &OtlpEndpoint) -> Self {
        let fixed = [
            Attribute::owned("otel.component.name", format!("{COMPONENT_TYPE}/0")),
            Attribute::text("otel.component.type", COMPONENT_TYPE),
            Attribute::owned("server.address", endpoint.host.as_str()),
            Attribute::int("server.port", i64::from(endpoint.port)),
        ];
        let bound = Self {
            exported: registry.counter(&metric::SDK_EXPORTED, &fixed),
            inflight: registry.up_down_counter(&metric::SDK_INFLIGHT, &fixed),
            duration: registry.histogram(&metric::SDK_DURATION, &fixed),
            last_success_age: registry.gauge(&metric::EXPORT_LAST_SUCCESS_AGE, &fixed),
            last_success: Instant::now(),
        };
        // Failures are at 0 from the start, or `increase()` would miss the first of each kind.
        bound.exported.create(None);
        ErrorType::ALL.iter().for_each(|error| bound.exported.create(Some(*error)));
        bound.inflight.create(());
        bound.duration.create(None);
        bound
    }

    /// Brings up to date what changes by itself.
    pub(super) fn observe(&self) {
        let age = saturating_nanos(self.last_success.elapsed());
        self.last_success_age.set((), i64::try_from(age).unwrap_or(i64::MAX));
    }

    /// A request with so many points is about to be sent.
    pub(super) fn sending(&self, points: usize) {
        self.inflight.observe((), i64::try_from(points).unwrap_or(i64::MAX));
    }

    /// An export is over.
    pub(super) fn sent(&mut self, points: usize, answer: &Answer, elapsed: Duration) {
        let points = points as u64;
        let error = answer.error_type();
        self.inflight.observe((), 0);
        self.duration.record_duration(error, elapsed);
        if error.is_some() {
            self.exported.add(error, points);
            return;
        }
        self.last_success = Instant::now();
        let rejected = match answer {
            Answer::Partial { rejected, .. } => (*rejected).min(points),
            Answer::Accepted | Answer::Refused { .. } | Answer::Failed(_) => 0,
        };
        self.exported.add(None, points - rejected);
        self.exported.add(Some(ErrorType::Rejected), rejected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::answer::Failure;

    #[tokio::test(start_paused = true)]
    async fn every_export_counts_once_and_points_add_up() {
        let registry = Registry::new();
        let endpoint = OtlpEndpoint {
            tls: false,
            host: "prometheus".into(),
            port: 9090,
            target: "/".into(),
            source: "test".into(),
        };
        let mut own = Instruments::bind(&registry, &endpoint);
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        own.sent(10, &Answer::Failed(Failure::ConnectionRefused), second);
        own.observe();
        let age = |registry: &Registry| {
            let snapshot = registry.snapshot();
            let metric = snapshot.metrics.iter().find(|metric| metric.descriptor.name.ends_with("last_success.age"));
            metric.unwrap().points.first().unwrap().value
        };
        assert_eq!(age(&registry), 1_000_000_000, "before the first success it counts from the start");
        own.sent(10, &Answer::Accepted, second);
        own.observe();
        assert_eq!(age(&registry), 0);
        own.sent(10, &Answer::Partial { rejected: 4, message: String::new() }, second);
        own.sent(10, &Answer::Partial { rejected: 99, message: String::new() }, second);
        own.sending(10);

        let snapshot = registry.snapshot();
        let mut counted = Vec::new();
        for metric in &snapshot.metrics {
            for point in &metric.points {
                let error = point.attributes().into_iter().find(|attribute| attribute.key == "error.type");
                let error = error.map_or(String::new(), |attribute| attribute.value.to_string());
                let value = if snapshot.buckets(point).is_empty() { point.value } else { snapshot.count(point) };
                if value > 0 {
                    counted.push((metric.descriptor.name, error, value));
                }
            }
        }
        counted.sort();
        let (exported, inflight) =
            ("otel.sdk.exporter.metric_data_point.exported", "otel.sdk.exporter.metric_data_point.inflight");
        let duration = "otel.sdk.exporter.operation.duration";
        let expected = [
            (exported, String::new(), 16),
            (exported, "connect".into(), 10),
            (exported, "rejected".into(), 14),
            (inflight, String::new(), 10),
            (duration, String::new(), 3),
            (duration, "connect".into(), 1),
        ];
        assert_eq!(counted, expected);
    }
}
