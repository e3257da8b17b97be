//! Series as atomics: bind once, record by index, read at any time.
//!
//! Binding and the first use of a series may lock and allocate; recording into a series that
//! exists is an array index and one or two `fetch_add`s. Knows no metric by name and no protobuf.

use std::{
    collections::{BTreeMap, VecDeque},
    marker::PhantomData,
    sync::{Arc as StdArc, PoisonError, atomic::Ordering::Relaxed},
};

use super::{
    aggregation::{Aggregations, Buckets},
    attribute::{Attribute, Dimension, Value},
    catalog::{Descriptor, Kind},
    cell::{Cell, Identity, Series},
    clock::Clock,
    handle::{Counter, Gauge, Histogram, UpDownCounter},
    snapshot::{MetricSnapshot, Snapshot},
    sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, OnceLock},
};

/// Series of one metric beyond which further attribute sets share the overflow series
/// (the OpenTelemetry metrics SDK specification's default cardinality limit).
pub const SERIES_MAX: usize = 2_000;

/// Series that have ended and are kept for readers that have not seen their end. A reader that is
/// further behind misses the oldest.
const ENDED_MAX: usize = 5 * SERIES_MAX;

/// The attribute set that the SDK specification gives to everything above the cap.
const OVERFLOW: Attribute = Attribute { key: "otel.metric.overflow", value: Value::Bool(true) };

/// Every series of the process.
pub struct Registry {
    clock: Clock,
    series_max: usize,
    aggregations: Aggregations,
    next_id: Arc<AtomicU64>,
    metrics: Mutex<Vec<Arc<Bound>>>,
    ended: Mutex<Ended>,
}

/// The families bound to one metric.
#[derive(Debug)]
struct Bound {
    metric: Arc<Metric>,
    /// In order, so that two snapshots of the same series are in the same order.
    families: Mutex<BTreeMap<Vec<Attribute>, Arc<Family>>>,
}

/// One metric: its declaration, and what its families share.
#[derive(Debug)]
pub(super) struct Metric {
    descriptor: &'static Descriptor,
    position: usize,
    buckets: StdArc<Buckets>,
    /// Series that exist, the overflow series not counted.
    series: AtomicUsize,
    series_max: usize,
    next_id: Arc<AtomicU64>,
    overflow: Series,
    is_overflowing: AtomicBool,
}

/// The series of one metric that share their fixed attributes.
#[derive(Debug)]
pub(super) struct Family {
    metric: Arc<Metric>,
    fixed: StdArc<Vec<Attribute>>,
    varying: fn(usize, &mut Vec<Attribute>),
    start_nanos: u64,
    /// `None` inside marks an attribute set that came after the cap.
    cells: Box<[OnceLock<Option<Series>>]>,
}

/// A series that nobody records into any more.
#[derive(Debug, Clone)]
pub struct EndedSeries {
    pub(super) descriptor: &'static Descriptor,
    pub(super) buckets: StdArc<Buckets>,
    pub(super) series: Series,
}

/// Those that ended lately, numbered in the order in which they did.
#[derive(Debug, Default)]
struct Ended {
    /// The number of the first in the queue.
    first: u64,
    queue: VecDeque<EndedSeries>,
}

/// How much of what ended a reader has seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    next: u64,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its cells would fill a terminal.
        f.debug_struct("Registry").field("series_max", &self.series_max).finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry whose clock starts now.
    pub fn new() -> StdArc<Self> {
        Self::with(SERIES_MAX, Aggregations::default())
    }

    /// How many series a metric may have.
    pub const fn series_max(&self) -> usize {
        self.series_max
    }

    /// As [`Self::new`], with a cap and histograms as wished.
    pub fn with(series_max: usize, aggregations: Aggregations) -> StdArc<Self> {
        StdArc::new(Self {
            clock: Clock::start(),
            series_max,
            aggregations,
            next_id: Arc::new(AtomicU64::new(0)),
            metrics: Mutex::new(Vec::new()),
            ended: Mutex::new(Ended::default()),
        })
    }

    /// The clock that stamps this registry's points.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Binds a counter; the same attributes give the same series again.
    pub fn counter<D: Dimension>(&self, of: &'static Descriptor, fixed: &[Attribute]) -> Counter<D> {
        debug_assert!(of.kind.is_monotonic(), "{} is not a counter", of.name);
        Counter { family: self.bind::<D>(of, fixed), dimension: PhantomData }
    }

    /// Binds an up-down counter.
    pub fn up_down_counter<D: Dimension>(&self, of: &'static Descriptor, fixed: &[Attribute]) -> UpDownCounter<D> {
        debug_assert!(matches!(of.kind, Kind::UpDownCounter), "{} is not an up-down counter", of.name);
        UpDownCounter { family: self.bind::<D>(of, fixed), dimension: PhantomData }
    }

    /// Binds a gauge.
    pub fn gauge<D: Dimension>(&self, of: &'static Descriptor, fixed: &[Attribute]) -> Gauge<D> {
        debug_assert!(matches!(of.kind, Kind::Gauge), "{} is not a gauge", of.name);
        Gauge { family: self.bind::<D>(of, fixed), dimension: PhantomData }
    }

    /// Binds a histogram.
    pub fn histogram<D: Dimension>(&self, of: &'static Descriptor, fixed: &[Attribute]) -> Histogram<D> {
        debug_assert!(matches!(of.kind, Kind::Histogram(_)), "{} is not a histogram", of.name);
        Histogram { family: self.bind::<D>(of, fixed), dimension: PhantomData }
    }

    fn bind<D: Dimension>(&self, descriptor: &'static Descriptor, fixed: &[Attribute]) -> Arc<Family> {
        let bound = self.metric(descriptor);
        let mut families = bound.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(fixed.to_vec()).or_insert_with(|| {
            Arc::new(Family {
                metric: Arc::clone(&bound.metric),
                fixed: StdArc::new(fixed.to_vec()),
                varying: D::attributes,
                start_nanos: self.clock.now_nanos(),
                cells: (0..D::COUNT).map(|_| OnceLock::new()).collect(),
            })
        });
        Arc::clone(family)
    }

    fn metric(&self, descriptor: &'static Descriptor) -> Arc<Bound> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bound) = metrics.iter().find(|bound| std::ptr::eq(bound.metric.descriptor, descriptor)) {
            return Arc::clone(bound);
        }
        let buckets = self.aggregations.of(descriptor);
        let overflow = Identity {
            id: self.next_id.fetch_add(1, Relaxed),
            start_nanos: self.clock.now_nanos(),
            fixed: StdArc::new(vec![OVERFLOW]),
            varying: <()>::attributes,
            index: 0,
        };
        let metric = Arc::new(Metric {
            descriptor,
            position: descriptor.position(),
            overflow: Series(Arc::new(Cell::new(descriptor, &buckets, overflow))),
            is_overflowing: AtomicBool::new(false),
            buckets: StdArc::new(buckets),
            series: AtomicUsize::new(0),
            series_max: self.series_max,
            next_id: Arc::clone(&self.next_id),
        });
        let bound = Arc::new(Bound { metric, families: Mutex::new(BTreeMap::new()) });
        metrics.push(Arc::clone(&bound));
        metrics.sort_by_key(|bound| bound.metric.position);
        bound
    }

    /// Reads every series that exists, metrics in the order of the catalog.
    pub fn snapshot(&self) -> Snapshot {
        self.read(&mut Cursor::default()).0
    }

    /// Reads every series that exists, and those that have ended since `cursor` was here last.
    ///
    /// A series ends when its last handle is gone. It is not part of the snapshot any more; its
    /// final values are its own to give.
    pub fn read(&self, cursor: &mut Cursor) -> (Snapshot, Vec<EndedSeries>) {
        let metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut snapshot = Snapshot::default();
        let mut over = Vec::new();
        for metric in metrics {
            metric.collect(&mut snapshot, &mut over);
        }
        let seen = self.ended.lock().unwrap_or_else(PoisonError::into_inner).add(over).since(cursor);
        // Read last, so that no recorded event is newer than its point.
        snapshot.time_nanos = self.clock.stamp_nanos();
        (snapshot, seen)
    }

    /// A cursor for which nothing has ended so far.
    pub fn cursor(&self) -> Cursor {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        Cursor { next: ended.first + ended.queue.len() as u64 }
    }
}

impl EndedSeries {
    /// As [`Series::id`].
    pub fn id(&self) -> u64 {
        self.series.id()
    }
}

impl Ended {
    fn add(&mut self, over: Vec<EndedSeries>) -> &Self {
        self.queue.extend(over);
        let surplus = self.queue.len().saturating_sub(ENDED_MAX);
        self.queue.drain(..surplus);
        self.first += surplus as u64;
        self
    }

    fn since(&self, cursor: &mut Cursor) -> Vec<EndedSeries> {
        let seen = usize::try_from(cursor.next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        cursor.next = self.first + self.queue.len() as u64;
        self.queue.iter().skip(seen).cloned().collect()
    }
}

impl Bound {
    fn collect(&self, snapshot: &mut Snapshot, over: &mut Vec<EndedSeries>) {
        let metric = &self.metric;
        let mut points = Vec::with_capacity(metric.series.load(Relaxed) + 1);
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.retain(|_, family| {
            // Handles come from `bind`, under this lock, or from other handles: with none left,
            // nobody records any more, and everything that was recorded is visible.
            if Arc::get_mut(family).is_some() {
                metric.end(family, over);
                return false;
            }
            for series in family.series() {
                points.push(series.point(&mut snapshot.buckets));
            }
            true
        });
        drop(families);
        if metric.is_overflowing.load(Relaxed) {
            points.push(metric.overflow.point(&mut snapshot.buckets));
        }
        if !points.is_empty() {
            let buckets = StdArc::clone(&metric.buckets);
            snapshot.metrics.push(MetricSnapshot { descriptor: metric.descriptor, buckets, is_delta: false, points });
        }
    }
}

impl Metric {
    fn end(&self, family: &Family, over: &mut Vec<EndedSeries>) {
        let before = over.len();
        over.extend(family.series().map(|series| EndedSeries {
            descriptor: self.descriptor,
            buckets: StdArc::clone(&self.buckets),
            series: series.clone(),
        }));
        // Their places under the cap are free again.
        self.series.fetch_sub(over.len() - before, Relaxed);
    }
}

impl Family {
    #[inline]
    pub(super) fn cell(&self, index: usize) -> &Cell {
        match self.cells.get(index).and_then(OnceLock::get) {
            Some(Some(series)) => &series.0,
            Some(None) => &self.metric.overflow.0,
            None => self.create(index),
        }
    }

    /// The place of a value among a histogram's counts.
    #[inline]
    pub(super) fn bucket_of(&self, value: u64) -> usize {
        self.metric.buckets.index(value)
    }

    /// The values of the series that there are.
    pub(super) fn values(&self) -> impl Iterator<Item = u64> {
        self.series().map(|series| series.0.value())
    }

    fn series(&self) -> impl Iterator<Item = &Series> {
        self.cells.iter().filter_map(|cell| cell.get()?.as_ref())
    }

    /// The first use of a series: the only moment when recording allocates.
    #[cold]
    fn create(&self, index: usize) -> &Cell {
        let metric = &self.metric;
        let Some(slot) = self.cells.get(index) else { return &metric.overflow.0 };
        let created = slot.get_or_init(|| {
            if metric.series.fetch_add(1, Relaxed) >= metric.series_max {
                metric.series.fetch_sub(1, Relaxed);
                metric.is_overflowing.store(true, Relaxed);
                return None;
            }
            let identity = Identity {
                id: metric.next_id.fetch_add(1, Relaxed),
                start_nanos: self.start_nanos,
                fixed: StdArc::clone(&self.fixed),
                varying: self.varying,
                index,
            };
            Some(Series(Arc::new(Cell::new(metric.descriptor, &metric.buckets, identity))))
        });
        created.as_ref().map_or(&metric.overflow.0, |series| &series.0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        sync::atomic::AtomicBool,
        thread,
    };

    use super::*;
    use crate::telemetry::{catalog as metric, dimensions::TokenType, snapshot::Point};

    /// The value or count of each series of a metric, by its attributes.
    fn read(registry: &Registry, of: &'static Descriptor) -> HashMap<Vec<Attribute>, u64> {
        let snapshot = registry.snapshot();
        let points = snapshot.metrics.iter().filter(|metric| std::ptr::eq(metric.descriptor, of));
        let points = points.flat_map(|metric| &metric.points);
        let amount = |point: &Point| if point.buckets.is_empty() { point.value } else { snapshot.count(point) };
        points.map(|point| (point.attributes(), amount(point))).collect()
    }

    #[test]
    fn nothing_is_lost_between_threads_and_every_snapshot_is_consistent() {
        const THREADS: u64 = 4;
        const RECORDS: u64 = 20_000;
        let registry = Registry::new();
        let tokens: Counter<TokenType> = registry.counter(&metric::TOKENS, &[]);
        let overhead: Histogram = registry.histogram(&metric::OVERHEAD, &[]);
        let active: UpDownCounter = registry.up_down_counter(&metric::CONNECTIONS_ACTIVE, &[]);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let snapshots = scope.spawn(|| {
                let (mut last, mut taken) = (0, 0);
                while !done.load(Relaxed) || taken < 10 {
                    let snapshot = registry.snapshot();
                    for metric in &snapshot.metrics {
                        for point in &metric.points {
                            let count = snapshot.count(point);
                            assert_eq!(count, snapshot.buckets(point).iter().sum::<u64>());
                            if matches!(metric.descriptor.kind, Kind::Histogram(_)) {
                                assert!(count >= last, "a count went from {last} to {count}");
                                last = count;
                            }
                        }
                    }
                    taken += 1;
                }
            });
            let writers: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        for value in 0..RECORDS {
                            let _guard = active.enter(());
                            // The first uses race to create the series.
                            tokens.add(TokenType::Input, 2);
                            overhead.record((), value * 1_000);
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            done.store(true, Relaxed);
            snapshots.join().unwrap();
        });
        let total = THREADS * RECORDS;
        assert_eq!(read(&registry, &metric::TOKENS).values().copied().collect::<Vec<_>>(), [2 * total]);
        assert_eq!(read(&registry, &metric::OVERHEAD).values().copied().collect::<Vec<_>>(), [total]);
        assert_eq!(read(&registry, &metric::CONNECTIONS_ACTIVE).values().copied().collect::<Vec<_>>(), [0]);
        let snapshot = registry.snapshot();
        let sum = snapshot.metrics.iter().find(|metric| std::ptr::eq(metric.descriptor, &metric::OVERHEAD)).unwrap();
        assert_eq!(sum.points[0].value, THREADS * 1_000 * RECORDS * (RECORDS - 1) / 2);
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_the_bucket_below() {
        let registry = Registry::new();
        let usage: Histogram = registry.histogram(&metric::GEN_AI_TOKEN_USAGE, &[]);
        let Kind::Histogram(bounds) = metric::GEN_AI_TOKEN_USAGE.kind else { unreachable!() };
        let mut expected = vec![0; bounds.len() + 1];
        for (bucket, bound) in bounds.iter().enumerate() {
            let bound = *bound as u64;
            usage.record((), bound);
            usage.record((), bound + 1);
            expected[bucket] += 1;
            expected[bucket + 1] += 1;
        }
        usage.record((), 0);
        usage.record((), u64::from(u32::MAX));
        expected[0] += 1;
        expected[bounds.len()] += 1;
        let snapshot = registry.snapshot();
        assert_eq!(snapshot.buckets(&snapshot.metrics[0].points[0]), expected);
    }

    #[test]
    fn beyond_the_cap_everything_is_counted_in_one_series() {
        let registry = Registry::with(3, Aggregations::default());
        let counters: Vec<Counter> = (0..5)
            .map(|model| {
                let fixed = [Attribute::owned("gen_ai.request.model", format!("model-{model}"))];
                registry.counter(&metric::RETRIES, &fixed)
            })
            .collect();
        counters[..3].iter().for_each(|counter| counter.add((), 1));
        let at_the_cap = read(&registry, &metric::RETRIES);
        assert_eq!(at_the_cap.len(), 3, "no overflow series as long as there is room: {at_the_cap:?}");
        for _ in 0..2 {
            counters.iter().for_each(|counter| counter.add((), 10));
        }
        let over = read(&registry, &metric::RETRIES);
        assert_eq!(over.len(), 4);
        assert_eq!(over.get([OVERFLOW].as_slice()), Some(&40));
        assert_eq!(over.values().sum::<u64>(), 103, "totals are kept");
        // Another metric has a cap of its own.
        let other: Counter = registry.counter(&metric::FALLBACKS, &[]);
        other.add((), 1);
        assert_eq!(read(&registry, &metric::FALLBACKS).get([].as_slice()), Some(&1));
    }

    #[test]
    fn series_exist_from_their_first_use_and_binding_again_finds_them() {
        let registry = Registry::new();
        let fixed = [Attribute::text("tollgate.key", "a")];
        let tokens: Counter<TokenType> = registry.counter(&metric::TOKENS, &fixed);
        assert_eq!(registry.snapshot().points(), 0, "no metric without points");
        tokens.create(TokenType::Input);
        tokens.add(TokenType::Output, 5);
        let again: Counter<TokenType> = registry.counter(&metric::TOKENS, &fixed);
        again.add(TokenType::Output, 1);
        let values: HashSet<u64> = read(&registry, &metric::TOKENS).into_values().collect();
        assert_eq!(values, HashSet::from([0, 6]));
    }

    #[test]
    fn snapshots_are_in_the_order_of_the_catalog() {
        let registry = Registry::new();
        let create = |of: &'static Descriptor| {
            let counter: Counter = registry.counter(of, &[]);
            counter.create(());
            counter
        };
        let _held = [&metric::FALLBACKS, &metric::TOKENS, &metric::RETRIES].map(create);
        let names: Vec<&str> = registry.snapshot().metrics.iter().map(|metric| metric.descriptor.name).collect();
        assert_eq!(names, ["tollgate.tokens", "tollgate.retries", "tollgate.fallbacks"]);
    }
}
