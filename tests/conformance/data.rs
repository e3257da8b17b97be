//! Cases 25 to 31: times, sums and identities.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use proptest::prelude::*;
use tollgate::{
    proto::opentelemetry::proto::metrics::v1::{Metric, metric::Data},
    telemetry::{
        Aggregations, Attribute, Counter, Histogram, Registry, Snapshot,
        catalog::{self, CATALOG, Kind},
        clock::Timeline,
    },
};

use super::shared::{RETRIES, Running, metrics, start};
use crate::support::receiver::naming;

/// Start and time of every point of a metric.
fn times(metric: &Metric) -> Vec<(u64, u64)> {
    match metric.data.as_ref().unwrap() {
        Data::Sum(sum) => sum.data_points.iter().map(|of| (of.start_time_unix_nano, of.time_unix_nano)).collect(),
        Data::Gauge(of) => of.data_points.iter().map(|of| (of.start_time_unix_nano, of.time_unix_nano)).collect(),
        Data::Histogram(of) => of.data_points.iter().map(|of| (of.start_time_unix_nano, of.time_unix_nano)).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_25_starts_stay_and_times_only_grow() {
    let (receiver, registry, counter, telemetry) = start();
    let running = Running::start(&registry, &telemetry);
    counter.add((), 1);
    let requests = receiver.wait_for_stored(4);
    running.stop();
    let mut seen: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for metric in metrics(&requests).filter(|metric| metric.name == catalog::RETRIES.name) {
        seen.entry(metric.name.clone()).or_default().extend(times(metric));
    }
    let points = &seen[catalog::RETRIES.name];
    assert!(points.len() >= 4);
    assert!(points.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1), "{points:?}");
    for metric in metrics(&requests) {
        let of_gauge = matches!(metric.data, Some(Data::Gauge(_)));
        assert!(times(metric).iter().all(|(start, time)| start < time && (*start > 0 || of_gauge)), "{metric:?}");
    }
}

#[test]
fn case_26_a_stepped_wall_clock_is_followed_forward_and_never_back() {
    const SECOND: u64 = 1_000_000_000;
    const BEGIN: u64 = 1_700_000_000 * SECOND;
    const MINUTE: u64 = 60 * SECOND;
    // An export a minute for three hours; from the tenth on the wall clock is off by so much.
    for step in [-3_600, 300, -60, 86_400_i64] {
        let mut timeline = Timeline::new(BEGIN);
        let mut last = 0;
        for minute in 1..180 {
            let step = if minute < 10 { 0 } else { step };
            let wall = (BEGIN + minute * MINUTE).saturating_add_signed(step * 1_000_000_000);
            let time = timeline.stamp(Duration::from_secs(minute * 60), wall);
            assert!(time > last, "{step}: minute {minute}");
            last = time;
            // Prometheus refuses what is ten minutes ahead; an hour back cannot be made good at once.
            if step > -3_600 || minute > 65 {
                assert!(time.abs_diff(wall) <= 5 * MINUTE, "{step}: minute {minute}");
            }
            if minute > 120 {
                assert!(time.abs_diff(wall) <= SECOND, "{step}: minute {minute}: {}", time.abs_diff(wall));
            }
        }
    }
}

/// The value of the only counter, and count, sum and buckets of the only histogram.
fn read(snapshot: &Snapshot) -> (u64, u64, u64, Vec<u64>) {
    let point = |kind: fn(&Kind) -> bool| {
        let metric = snapshot.metrics.iter().find(|metric| kind(&metric.descriptor.kind)).unwrap();
        &metric.points[0]
    };
    let (counter, histogram) =
        (point(|kind| matches!(kind, Kind::Counter)), point(|kind| matches!(kind, Kind::Histogram(_))));
    (counter.value, snapshot.count(histogram), histogram.value, snapshot.buckets(histogram).to_vec())
}

/// Records from four threads while snapshots are taken; hands each of them and its predecessor on.
fn under_load(check: impl Fn(&(u64, u64, u64, Vec<u64>), &(u64, u64, u64, Vec<u64>))) {
    const EACH: u64 = 50_000;
    const THREADS: u64 = 4;
    let registry = Registry::new();
    let counter: Counter = registry.counter(&catalog::RETRIES, &[]);
    let histogram: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
    counter.create(());
    histogram.create(());
    let over = Arc::new(AtomicBool::new(false));
    let mut before = read(&registry.snapshot());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    for value in 0..EACH {
                        counter.add((), 1);
                        histogram.record((), value);
                    }
                })
            })
            .collect();
        scope.spawn({
            let over = Arc::clone(&over);
            move || {
                for thread in threads {
                    thread.join().unwrap();
                }
                over.store(true, Relaxed);
            }
        });
        while !over.load(Relaxed) {
            let now = read(&registry.snapshot());
            check(&before, &now);
            before = now;
        }
    });
    let (sum, count, total, _) = read(&registry.snapshot());
    assert_eq!((sum, count, total), (EACH * THREADS, EACH * THREADS, THREADS * (EACH - 1) * EACH / 2));
}

#[test]
fn case_27_sums_never_decrease_and_lose_nothing() {
    under_load(|before, now| {
        assert!(before.0 <= now.0 && before.1 <= now.1 && before.2 <= now.2);
        assert!(before.3.iter().zip(&now.3).all(|(before, now)| before <= now));
    });
}

#[test]
fn case_28_a_count_is_the_sum_of_its_buckets() {
    under_load(|_, (_, count, _, buckets)| assert_eq!(*count, buckets.iter().sum::<u64>()));
    // What is recorded is a whole number of nanoseconds, bytes or tokens: no NaN, nothing negative.
    for descriptor in CATALOG.iter().filter(|of| matches!(of.kind, Kind::Histogram(_))) {
        let registry = Registry::new();
        let histogram: Histogram = registry.histogram(descriptor, &[]);
        let Kind::Histogram(bounds) = descriptor.kind else { unreachable!() };
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|bound| bound.is_finite()));
        for bound in bounds {
            // At the bound: the lower bucket. One more: the next.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bounds are small and positive"
            )]
            let at = (bound / descriptor.scale.unwrap_or(1.0)).round() as u64;
            histogram.record((), at);
            histogram.record((), at + 1);
        }
        histogram.record((), u64::MAX);
        let snapshot = registry.snapshot();
        let buckets = snapshot.buckets(&snapshot.metrics[0].points[0]);
        assert_eq!(buckets.len(), bounds.len() + 1);
        assert!(buckets.iter().skip(1).all(|count| *count == 2) && buckets[0] == 1, "{}: {buckets:?}", descriptor.name);
    }
}

#[test]
fn case_29_nothing_is_sent_where_there_is_nothing_to_send() {
    let registry = Registry::new();
    let _bound: Counter = registry.counter(&catalog::RETRIES, &[]);
    let snapshot = registry.snapshot();
    assert_eq!((snapshot.points(), snapshot.parts(4 << 20).len()), (0, 0), "no part, so no request");

    let (receiver, registry, _counter, telemetry) = start();
    let _unused: Counter = registry.counter(&catalog::FALLBACKS, &[]);
    let running = Running::start(&registry, &telemetry);
    let requests = receiver.wait_for_stored(3);
    running.stop();
    assert!(metrics(&requests).all(|metric| !times(metric).is_empty()));
    assert!(metrics(&requests).all(|metric| metric.name != catalog::FALLBACKS.name));
}

#[test]
fn case_30_no_two_series_are_one_for_prometheus() {
    let mut names = BTreeSet::new();
    for of in CATALOG {
        let kind = match of.kind {
            Kind::Counter | Kind::ObservableCounter => naming::Kind::Counter,
            Kind::UpDownCounter => naming::Kind::UpDownCounter,
            Kind::Gauge => naming::Kind::Gauge,
            Kind::Histogram(_) => naming::Kind::Histogram,
        };
        let name = naming::metric_name(of.name, of.unit, kind).unwrap();
        let suffixes: &[&str] =
            if matches!(of.kind, Kind::Histogram(_)) { &["_bucket", "_sum", "_count"] } else { &[""] };
        for suffix in suffixes {
            assert!(names.insert(format!("{name}{suffix}")), "{name}{suffix} is there twice");
        }
        let labels: BTreeSet<String> = of.attributes.iter().map(|key| naming::label_name(key)).collect();
        assert_eq!(labels.len(), of.attributes.len(), "{}", of.name);
        for reserved in ["le", "job", "instance", "quantile", "__name__"] {
            assert!(!labels.contains(reserved), "{}: {reserved}", of.name);
        }
    }
    // Within one request, of everything at once. The receiver notes what it sees twice.
    let (receiver, registry, _counter, telemetry) = start();
    let again: Counter = registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]);
    again.add((), 2);
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_stored(2);
    running.stop();
    assert_eq!(receiver.value(RETRIES, &[]), 2.0);
    assert!(receiver.take_violations().is_empty());
}

#[test]
fn case_31_above_the_cap_series_share_one_and_totals_stay() {
    const CAP: usize = 2_000;
    let registry = Registry::new();
    let counters: Vec<Counter> = (0..CAP + 100)
        .map(|number| {
            registry.counter(&catalog::RETRIES, &[Attribute::owned("gen_ai.request.model", number.to_string())])
        })
        .collect();
    let overflow = |snapshot: &Snapshot| {
        let points = &snapshot.metrics[0].points;
        let is_overflow = |of: &Attribute| of.key == "otel.metric.overflow" && of.value.to_string() == "true";
        let shared: Vec<u64> =
            points.iter().filter(|point| point.attributes().iter().any(is_overflow)).map(|point| point.value).collect();
        (points.len(), shared, points.iter().map(|point| point.value).sum::<u64>())
    };
    counters[..CAP].iter().for_each(|counter| counter.add((), 1));
    assert_eq!(overflow(&registry.snapshot()), (CAP, vec![], CAP as u64));
    counters[CAP..].iter().for_each(|counter| counter.add((), 1));
    counters[0].add((), 1);
    assert_eq!(overflow(&registry.snapshot()), (CAP + 1, vec![100], CAP as u64 + 101));
}

proptest! {
    #[test]
    fn totals_stay_whatever_the_cap(cap in 1..8_usize, adds in prop::collection::vec((0..16_usize, 0..9_u64), 0..60)) {
        let registry = Registry::with(cap, Aggregations::default());
        let mut counters: BTreeMap<usize, Counter> = BTreeMap::new();
        for (series, amount) in &adds {
            let name = || Attribute::owned("gen_ai.request.model", series.to_string());
            counters.entry(*series).or_insert_with(|| registry.counter(&catalog::RETRIES, &[name()])).add((), *amount);
        }
        let snapshot = registry.snapshot();
        let points = snapshot.metrics.first().map_or(&[][..], |metric| &metric.points);
        prop_assert_eq!(points.iter().map(|point| point.value).sum::<u64>(), adds.iter().map(|(_, amount)| amount).sum::<u64>());
        prop_assert!(points.len() <= cap + 1);
    }
}
