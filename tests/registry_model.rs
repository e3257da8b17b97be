//! The registry under every interleaving of a few threads, as loom explores them:
//! `cargo test --features loom --test registry_model`.

#![cfg(feature = "loom")]
#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::sync::Arc;

use loom::thread;
use tollgate::telemetry::{
    Aggregations, Attribute, Counter, Histogram, Registry, Snapshot, UpDownCounter, catalog,
    dimensions::{CancelPhase, TokenType},
    registry::Cursor,
};

/// Explores with at most this many involuntary switches: bugs that need more are not known to exist
/// (Musuvathi and Qadeer, "Iterative context bounding"), and the state space stays small.
fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn registry(series_max: usize) -> Arc<Registry> {
    Registry::with(series_max, Aggregations { exponential: false, bounds: Vec::new() })
}

/// The values of a metric, added up.
fn total(snapshot: &Snapshot, name: &str) -> u64 {
    let metrics = snapshot.metrics.iter().filter(|metric| metric.descriptor.name == name);
    metrics.flat_map(|metric| &metric.points).map(|point| point.value).sum()
}

fn points(snapshot: &Snapshot, name: &str) -> usize {
    let metrics = snapshot.metrics.iter().filter(|metric| metric.descriptor.name == name);
    metrics.map(|metric| metric.points.len()).sum()
}

#[test]
fn no_increment_is_lost_when_two_threads_create_one_series() {
    model(|| {
        let registry = registry(10);
        let tokens: Counter<TokenType> = registry.counter(&catalog::TOKENS, &[]);
        let others = tokens.clone();
        let other = thread::spawn(move || others.add(TokenType::Input, 2));
        tokens.add(TokenType::Input, 3);
        let meanwhile = registry.snapshot();
        assert!(matches!(total(&meanwhile, "tollgate.tokens"), 3 | 5));
        other.join().unwrap();
        let after = registry.snapshot();
        assert_eq!((total(&after, "tollgate.tokens"), points(&after, "tollgate.tokens")), (5, 1));
    });
}

#[test]
fn a_histogram_never_goes_back_and_ends_exact() {
    model(|| {
        let registry = registry(10);
        let overhead: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
        overhead.create(());
        let others = overhead.clone();
        let other = thread::spawn(move || {
            others.record((), 1);
            others.record((), 20_000);
        });
        let mut last = 0;
        for _ in 0..2 {
            let snapshot = registry.snapshot();
            let point = &snapshot.metrics[0].points[0];
            let count = snapshot.count(point);
            assert_eq!(count, snapshot.buckets(point).iter().sum::<u64>());
            assert!(count >= last);
            last = count;
        }
        other.join().unwrap();
        let snapshot = registry.snapshot();
        let point = &snapshot.metrics[0].points[0];
        assert_eq!((snapshot.count(point), point.value), (2, 20_001));
    });
}

#[test]
fn at_the_cap_one_series_is_kept_and_the_other_overflows_with_nothing_lost() {
    model(|| {
        let registry = registry(1);
        let cancelled: Counter<CancelPhase> = registry.counter(&catalog::CLIENT_CANCELLED, &[]);
        let others = cancelled.clone();
        let other = thread::spawn(move || others.add(CancelPhase::RequestBody, 2));
        cancelled.add(CancelPhase::ResponseBody, 3);
        other.join().unwrap();
        cancelled.add(CancelPhase::RequestBody, 10);
        cancelled.add(CancelPhase::ResponseBody, 20);
        let after = registry.snapshot();
        let of = &after.metrics[0];
        assert_eq!((of.points.len(), total(&after, of.descriptor.name)), (2, 35));
        let overflow = |attributes: Vec<Attribute>| attributes.iter().any(|one| one.key == "otel.metric.overflow");
        assert_eq!(of.points.iter().filter(|point| overflow(point.attributes())).count(), 1);
        let values: Vec<u64> = of.points.iter().map(|point| point.value).collect();
        assert!(matches!(values.as_slice(), [12, 23] | [23, 12]), "each set is in one series: {values:?}");
    });
}

#[test]
fn what_was_recorded_before_the_last_handle_went_is_in_the_final_values() {
    model(|| {
        let registry = registry(10);
        let retries: Counter = registry.counter(&catalog::RETRIES, &[]);
        retries.add((), 1);
        let old = thread::spawn(move || {
            retries.add((), 2);
            drop(retries);
        });
        let mut cursor = Cursor::default();
        let (meanwhile, early) = registry.read(&mut cursor);
        old.join().unwrap();
        let (after, late) = registry.read(&mut cursor);
        assert_eq!(points(&after, "tollgate.retries"), 0, "it is over");
        assert_eq!(early.len() + late.len(), 1, "its end is told once");
        assert_eq!(points(&meanwhile, "tollgate.retries"), 1 - early.len(), "and not while it is live");
        let mut last = Snapshot::default();
        early.iter().chain(&late).for_each(|ended| assert!(last.add_ended(ended, false)));
        assert_eq!(total(&last, "tollgate.retries"), 3);
    });
}

#[test]
fn a_reload_that_binds_again_keeps_or_restarts_a_series_but_loses_nothing() {
    model(|| {
        let registry = registry(10);
        let before: Counter = registry.counter(&catalog::RETRIES, &[]);
        before.add((), 1);
        let reloaded = Arc::clone(&registry);
        let reload = thread::spawn(move || {
            drop(before);
            let after: Counter = reloaded.counter(&catalog::RETRIES, &[]);
            after.add((), 2);
            after
        });
        let mut cursor = Cursor::default();
        let (_, early) = registry.read(&mut cursor);
        let _held = reload.join().unwrap();
        let (after, late) = registry.read(&mut cursor);
        let live = total(&after, "tollgate.retries");
        let ended = early.len() + late.len();
        assert!(matches!((live, ended), (3, 0) | (2, 1)), "{live} with {ended} ended");
    });
}

#[test]
fn what_is_in_flight_is_given_back() {
    model(|| {
        let registry = registry(10);
        let active: UpDownCounter = registry.up_down_counter(&catalog::CONNECTIONS_ACTIVE, &[]);
        active.create(());
        let others = active.clone();
        let other = thread::spawn(move || drop(others.enter(())));
        {
            let _guard = active.enter(());
            assert!(matches!(total(&registry.snapshot(), "tollgate.connections.active"), 1 | 2));
        }
        other.join().unwrap();
        assert_eq!(total(&registry.snapshot(), "tollgate.connections.active"), 0);
    });
}
