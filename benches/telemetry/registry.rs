//! All that this bench knows of the gateway's registry: the handles, the recording of a request, the export.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::{Compression, write::GzEncoder};
use tollgate::api::operation::{Operation, Route};
use tollgate::api::usage::Usage;
use tollgate::telemetry::catalog::{CATALOG, Descriptor, Kind};
use tollgate::telemetry::dimensions::{AuthDecision, Ending, Method, Outcome, Scheme, Status, Target, TokenType};
use tollgate::telemetry::instruments::{
    DeploymentInstruments, KeyModelInstruments, ModelInstruments, ServerInstruments,
};
use tollgate::telemetry::snapshot::Point;
use tollgate::telemetry::{Aggregations, Attribute, Registry, Snapshot, Value, otlp};

use crate::workload::{self, Metric, Series, Workload};

/// Every type, so that none of the additions is one of nothing.
const USAGE: Usage = Usage { input: 24, output: 29, cache_read: 16, cache_write: 4, reasoning: 8, cost_nanos: None };
/// A request that streams, as `request.stream` names it: how often bytes come after the first.
const FURTHER_DELIVERIES: usize = 1;

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Whole,
    Streamed,
}

/// The handles of one server, one deployment and one key, bound as the gateway binds them.
pub(crate) struct Handles {
    registry: Arc<Registry>,
    server: Arc<ServerInstruments>,
    deployment: Arc<DeploymentInstruments>,
    key_model: Arc<KeyModelInstruments>,
    durations: Vec<u64>,
    origin: Instant,
}

impl Handles {
    pub(crate) fn bind() -> Self {
        let registry = Registry::new();
        let handles = Self {
            server: ServerInstruments::bind(&registry, false),
            deployment: Arc::new(bind_deployment(&registry, 0)),
            key_model: Arc::new(KeyModelInstruments::bind(&registry, "team-0", "model-0", true)),
            durations: workload::durations(),
            origin: Instant::now(),
            registry,
        };
        ModelInstruments::bind(&handles.registry, "model-0");
        handles
    }

    /// One of the durations.
    pub(crate) fn nanos(&self, turn: usize) -> u64 {
        self.durations.get(turn % workload::DURATIONS).copied().unwrap_or_default()
    }

    /// Adds one to a counter of three attributes; the places are different series.
    pub(crate) fn count(&self, place: usize) {
        let outcome = if place == 0 { Outcome::Completed } else { Outcome::Failed };
        black_box(&self.key_model.requests).add(black_box(outcome), black_box(1));
    }

    /// Records into a histogram of six attributes and fourteen bounds; the places are different series.
    pub(crate) fn observe(&self, place: usize, nanos: u64) {
        let operation = if place == 0 { Operation::Chat } else { Operation::TextCompletion };
        black_box(&self.deployment.duration).record(black_box((operation, None)), black_box(nanos));
    }

    /// Everything that one request records, in the order of `proxy`, with its clock read where the proxy reads its own.
    pub(crate) fn request(&self, answer: Answer, clock: impl FnMut() -> Instant) {
        self.request_and(answer, clock, || ());
    }

    /// The same with a clock that costs nothing but shows other durations every time.
    pub(crate) fn request_without_clock(&self, answer: Answer, turn: usize) {
        let mut reads = turn;
        self.request(answer, || {
            reads += 1;
            self.origin + Duration::from_nanos(self.nanos(reads))
        });
    }

    fn request_and(&self, answer: Answer, mut clock: impl FnMut() -> Instant, before_it_ends: impl FnOnce()) {
        let operation = black_box(Operation::Chat);
        // Record::start
        let target = black_box(Target { method: Method::Post, route: Some(Route::Operation(Operation::Chat)) });
        let _active = self.server.requests(Scheme::Http).active.enter(target.method);
        let server = Arc::clone(&self.server);
        let started = clock();
        // authenticate, Record::operation, body_read, model, sent
        self.server.auth.add(AuthDecision::Allowed, 1);
        let other = Arc::clone(&self.key_model);
        server.requests(Scheme::Http).request_body.record(target, black_box(280));
        let key_model = Arc::clone(&self.key_model);
        drop(other);
        server.overhead.record_duration(operation, clock().saturating_duration_since(started));
        // Attempt::start
        let _attempt_active = self.deployment.active.enter(());
        let deployment = Arc::clone(&self.deployment);
        let attempt_started = clock();
        // Relay::new, data
        let mut last = clock();
        let deliveries = if answer == Answer::Streamed { FURTHER_DELIVERIES } else { 0 };
        let now = clock();
        if answer == Answer::Streamed {
            deployment.first_chunk.record_duration(operation, now.saturating_duration_since(attempt_started));
        }
        for _ in 0..deliveries {
            let now = clock();
            deployment.output_chunk.record_duration(operation, now.saturating_duration_since(last));
            last = now;
        }
        // Attempt::answered
        deployment.record_usage(operation, black_box(&USAGE));
        deployment.duration.record_duration((operation, None), clock().saturating_duration_since(attempt_started));
        deployment.attempts.add(Outcome::Completed, 1);
        // Record::provider_answered
        key_model.add_usage(black_box(&USAGE));
        let ending = Ending::Status(Status::of(black_box(200)));
        server
            .requests(Scheme::Http)
            .duration
            .record_duration((target, ending), clock().saturating_duration_since(started));
        server.requests(Scheme::Http).response_body.record(target, black_box(842));
        key_model.requests.add(Outcome::Completed, 1);
        before_it_ends();
    }
}

/// A deployment of five attributes, as one behind HTTP has.
fn bind_deployment(registry: &Registry, number: usize) -> DeploymentInstruments {
    let fixed = [
        Attribute::text("gen_ai.provider.name", "openai"),
        Attribute::owned("gen_ai.request.model", format!("model-{number}")),
        Attribute::owned("tollgate.model", format!("model-{number}")),
        Attribute::text("server.address", "api.openai.com"),
        Attribute::int("server.port", 443),
    ];
    DeploymentInstruments::bind(registry, &fixed)
}

/// Deployments and pairs of key and model in an export of so many series.
const fn parts(series: usize) -> (usize, usize) {
    // A deployment has 11 series, five of them histograms; a pair has 8.
    (series / 25, series * 7 / 100)
}

/// A registry whose series live for as long as somebody holds their handles.
pub(crate) struct Filled {
    pub(crate) registry: Arc<Registry>,
    _deployments: Vec<DeploymentInstruments>,
    _pairs: Vec<KeyModelInstruments>,
}

/// A registry with that many series, all of which have numbers.
pub(crate) fn filled(series: usize) -> Filled {
    let registry = Registry::with(usize::MAX, Aggregations::default());
    let (deployments, pairs) = parts(series);
    let durations = workload::durations();
    let (mut held, mut pairs_held) = (Vec::new(), Vec::new());
    for (number, nanos) in (0..deployments).zip(durations.iter().cycle()) {
        let deployment = bind_deployment(&registry, number);
        for value in 1..=20 {
            deployment.duration.record((Operation::Chat, None), nanos / value);
            deployment.first_chunk.record(Operation::Chat, nanos / value / 8);
            deployment.output_chunk.record(Operation::Chat, nanos / value / 64);
            deployment.record_usage(Operation::Chat, &Usage { input: nanos % 4_096 * value, output: value, ..USAGE });
        }
        Outcome::ALL.iter().for_each(|outcome| deployment.attempts.add(*outcome, nanos % 100_000 + 1));
        deployment.streams_broken.add((), nanos % 100 + 1);
        deployment.usage_missing.add((), nanos % 10 + 1);
        deployment.active.observe((), (nanos % 64).cast_signed() + 1);
        held.push(deployment);
    }
    for (number, nanos) in (0..pairs).zip(durations.iter().cycle()) {
        let (key, model) = (format!("team-{}", number / 10), format!("model-{}", number % 10));
        let pair = KeyModelInstruments::bind(&registry, &key, &model, true);
        Outcome::ALL.iter().for_each(|outcome| pair.requests.add(*outcome, nanos % 100_000 + 1));
        TokenType::ALL.iter().for_each(|token_type| pair.tokens.add(*token_type, nanos % 100_000_000 + 1));
        pairs_held.push(pair);
    }
    Filled { registry, _deployments: held, _pairs: pairs_held }
}

/// The points of everything in a registry.
pub(crate) fn snapshot(registry: &Registry) -> Snapshot {
    registry.snapshot()
}

/// What would be posted of a snapshot, uncompressed.
pub(crate) fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let resource = [("service.name", "tollgate"), ("service.instance.id", "7f1c1a0e"), ("service.version", "0.1.0")];
    let resource = resource.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let parts = snapshot.parts(4 << 20);
    // An export of 2,000 series is one request; what is larger is several.
    let mut requests = parts.iter().map(|part| otlp::encode(snapshot, part, &resource));
    let mut sent = requests.next().unwrap_or_default();
    requests.for_each(|request| sent.extend_from_slice(&request));
    sent
}

/// As the exporter compresses.
pub(crate) fn compress(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::default());
    encoder.write_all(body)?;
    encoder.finish()
}

/// Everything that is measured here, for a program without this registry.
pub(crate) fn workload(exports: &[usize]) -> Workload {
    let metrics = CATALOG.iter().map(|of| Metric {
        name: of.name.to_owned(),
        description: of.description.to_owned(),
        unit: of.unit.to_owned(),
        kind: match of.kind {
            Kind::Counter | Kind::ObservableCounter => workload::Kind::Counter,
            Kind::UpDownCounter | Kind::Gauge => workload::Kind::UpDownCounter,
            Kind::Histogram(bounds) => workload::Kind::Histogram(bounds.to_vec()),
        },
        is_float: of.scale.is_some(),
    });
    let request = |answer| {
        let handles = Handles::bind();
        let mut recorded = Vec::new();
        handles.request_and(answer, Instant::now, || recorded = changed(&handles.registry));
        for series in &mut recorded {
            if matches!(CATALOG[series.metric].kind, Kind::UpDownCounter) {
                // It was seen while it was one; the end takes it back.
                series.values.push(-1.0);
            }
        }
        recorded
    };
    let one = |record: fn(&Handles, usize), place| {
        let handles = Handles::bind();
        record(&handles, place);
        changed(&handles.registry).remove(0)
    };
    let observe = |handles: &Handles, place: usize| handles.observe(place, 1_000_000);
    Workload {
        metrics: metrics.collect(),
        counters: [0, 1].map(|place| one(Handles::count, place)),
        histograms: [0, 1].map(|place| one(observe, place)),
        requests: BTreeMap::from([
            ("request.whole".to_owned(), request(Answer::Whole)),
            ("request.stream".to_owned(), request(Answer::Streamed)),
        ]),
        exports: exports.iter().map(|series| (*series, changed(&filled(*series).registry))).collect(),
    }
}

/// The series that are not at zero, with values that would bring them there. Gauges are states and no records.
fn changed(registry: &Registry) -> Vec<Series> {
    let snapshot = registry.snapshot();
    let mut found = Vec::new();
    for metric in snapshot.metrics.iter().filter(|metric| !matches!(metric.descriptor.kind, Kind::Gauge)) {
        for point in &metric.points {
            let values = values(metric.descriptor, &snapshot, point);
            if !values.is_empty() {
                let attributes = point.attributes().into_iter().map(|attribute| {
                    let value = match attribute.value {
                        Value::Text(text) => workload::Value::Text(text.into_owned()),
                        Value::Int(number) => workload::Value::Int(number),
                        Value::Bool(truth) => workload::Value::Bool(truth),
                    };
                    (attribute.key.to_owned(), value)
                });
                let attributes = attributes.collect();
                found.push(Series { metric: metric.descriptor.position(), attributes, values });
            }
        }
    }
    found
}

fn values(of: &Descriptor, snapshot: &Snapshot, point: &Point) -> Vec<f64> {
    let Kind::Histogram(bounds) = of.kind else {
        let value = point.value.cast_signed() as f64;
        return if value == 0.0 { Vec::new() } else { vec![value] };
    };
    let beyond = bounds.last().map(|last| last * 2.0);
    let bounds = bounds.iter().copied().chain(beyond);
    let counts = snapshot.buckets(point).iter().zip(bounds);
    counts.flat_map(|(count, bound)| std::iter::repeat_n(bound, usize::try_from(*count).unwrap_or_default())).collect()
}
