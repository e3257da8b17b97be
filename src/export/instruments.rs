//! What the exporter counts about itself (`otel.sdk.exporter.*` of the OpenTelemetry conventions).
//!
//! An export counts once, however many requests it took.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    answer::{Answer, ErrorType},
    destination::Tally,
};
use crate::{
    config::{Destination, Protocol},
    telemetry::{
        Attribute, Counter, Gauge, Histogram, Registry, UpDownCounter, catalog as metric, clock::saturating_nanos,
    },
};

/// The conventions' name for what we are.
fn component_type(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::HttpProtobuf => "otlp_http_metric_exporter",
        Protocol::HttpJson => "otlp_http_json_metric_exporter",
        Protocol::Grpc => "otlp_grpc_metric_exporter",
    }
}

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
    /// Binds them to one receiver; `number` tells those of one type apart.
    pub(super) fn bind(registry: &Registry, settings: &Destination, number: usize) -> Self {
        let (endpoint, component_type) = (&settings.endpoint, component_type(settings.protocol));
        let fixed = [
            Attribute::owned("otel.component.name", format!("{component_type}/{number}")),
            Attribute::text("otel.component.type", component_type),
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
        let possible = ErrorType::ALL.iter().filter(|error| error.is_of(settings.protocol));
        possible.for_each(|error| bound.exported.create(Some(*error)));
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
    pub(super) fn sent(&mut self, tally: Tally, answer: &Answer, elapsed: Duration) {
        let error = answer.error_type();
        self.inflight.observe((), 0);
        self.duration.record_duration(error, elapsed);
        if error.is_none() {
            self.last_success = Instant::now();
        }
        let taken = tally.taken as u64;
        let rejected = tally.rejected.min(taken);
        self.exported.add(None, taken - rejected);
        self.exported.add(Some(ErrorType::Rejected), rejected);
        self.exported.add(error, tally.points.saturating_sub(tally.taken) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::OtlpEndpoint, export::answer::Failure, telemetry::Temporality};

    fn destination() -> Destination {
        let endpoint = OtlpEndpoint {
            tls: false,
            host: "prometheus".into(),
            port: 9090,
            target: "/".into(),
            source: "test".into(),
        };
        Destination {
            name: "otlp".into(),
            endpoint,
            protocol: Protocol::HttpProtobuf,
            headers: Vec::new(),
            gzip: false,
            temporality: Temporality::Cumulative,
            timeout: None,
            interval: Duration::from_secs(60),
            export_timeout: None,
            max_request_bytes: 4 << 20,
            max_response_bytes: 64 << 10,
            certificate: None,
            client_certificate: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_export_counts_once_and_points_add_up() {
        let registry = Registry::new();
        let mut own = Instruments::bind(&registry, &destination(), 0);
        let all = |taken, rejected| Tally { points: 10, taken, rejected, ..Tally::default() };
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        own.sent(all(0, 0), &Answer::Failed(Failure::ConnectionRefused), second);
        own.observe();
        let age = |registry: &Registry| {
            let snapshot = registry.snapshot();
            let metric = snapshot.metrics.iter().find(|metric| metric.descriptor.name.ends_with("last_success.age"));
            metric.unwrap().points.first().unwrap().value
        };
        assert_eq!(age(&registry), 1_000_000_000, "before the first success it counts from the start");
        own.sent(all(10, 0), &Answer::Accepted, second);
        own.observe();
        assert_eq!(age(&registry), 0);
        own.sent(all(10, 4), &Answer::Partial { rejected: 4, message: String::new() }, second);
        own.sent(all(10, 99), &Answer::Partial { rejected: 99, message: String::new() }, second);
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
