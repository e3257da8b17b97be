//! Series as atomics: bind once, record by index, read at any time.
//!
//! Binding and the first use of a series may lock and allocate; recording into a series that
//! exists is an array index and one or two `fetch_add`s. Knows no metric by name and no protobuf.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    attribute::{Attribute, Dimension, Value},
    catalog::{Descriptor, Kind},
    clock::{Clock, saturating_nanos},
    otlp,
    snapshot::{MetricSnapshot, Point, Snapshot},
};

/// Series of one metric beyond which further attribute sets share the overflow series
/// (the OpenTelemetry metrics SDK specification's default cardinality limit).
pub const SERIES_MAX: usize = 2_000;

/// The attribute set that the SDK specification gives to everything above the cap.
const OVERFLOW: Attribute = Attribute { key: "otel.metric.overflow", value: Value::Bool(true) };

/// Every series of the process.
pub struct Registry {
    clock: Clock,
    series_max: usize,
    metrics: Mutex<Vec<Arc<Metric>>>,
}

/// One metric: its declaration and the families bound to it.
#[derive(Debug)]
pub(super) struct Metric {
    descriptor: &'static Descriptor,
    /// Upper bounds in recorded units (nanoseconds, bytes, tokens), inclusive.
    bounds: Box<[u64]>,
    /// Series that exist, the overflow series not counted.
    series: AtomicUsize,
    series_max: usize,
    families: Mutex<HashMap<Vec<Attribute>, Arc<Family>>>,
    overflow: Cell,
    start_nanos: u64,
}

/// The series of one metric that share their fixed attributes.
#[derive(Debug)]
pub(super) struct Family {
    metric: Arc<Metric>,
    fixed: Vec<Attribute>,
    varying: fn(usize, &mut Vec<Attribute>),
    start_nanos: u64,
    /// `None` inside marks an attribute set that came after the cap.
    cells: Box<[OnceLock<Option<Box<Cell>>>]>,
}

/// The numbers of one series. Aligned to two cache lines, so that neighbours on other cores
/// do not slow each other down (adjacent-line prefetch, see tokio's `util/cacheline.rs`).
#[derive(Debug)]
#[repr(align(128))]
struct Cell {
    /// A counter's value, a gauge's value as `i64`, or a histogram's sum in recorded units.
    value: AtomicU64,
    /// Empty unless the metric is a histogram; one more than there are bounds.
    buckets: Box<[AtomicU64]>,
    /// The attributes in protobuf, written once.
    encoded: Box<[u8]>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its cells would fill a terminal.
        f.debug_struct("Registry").field("series_max", &self.series_max).finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry whose clock starts now.
    pub fn new() -> Arc<Self> {
        Self::with_series_max(SERIES_MAX)
    }

    /// As [`Self::new`], with a cap of its own.
    pub fn with_series_max(series_max: usize) -> Arc<Self> {
        Arc::new(Self { clock: Clock::start(), series_max, metrics: Mutex::default() })
    }

    /// The clock that stamps this registry's points.
    pub fn clock(&self) -> Clock {
        self.clock
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
        let metric = self.metric(descriptor);
        let mut families = metric.families.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(fixed.to_vec()).or_insert_with(|| {
            Arc::new(Family {
                metric: Arc::clone(&metric),
                fixed: fixed.to_vec(),
                varying: D::attributes,
                start_nanos: self.clock.now_nanos(),
                cells: (0..D::COUNT).map(|_| OnceLock::new()).collect(),
            })
        });
        Arc::clone(family)
    }

    fn metric(&self, descriptor: &'static Descriptor) -> Arc<Metric> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = metrics.iter().find(|metric| std::ptr::eq(metric.descriptor, descriptor)) {
            return Arc::clone(metric);
        }
        let bounds = super::Aggregations::default().of(descriptor).recorded;
        let metric = Arc::new(Metric {
            descriptor,
            overflow: Cell::new(descriptor, &bounds, &[OVERFLOW]),
            bounds,
            series: AtomicUsize::new(0),
            series_max: self.series_max,
            families: Mutex::default(),
            start_nanos: self.clock.now_nanos(),
        });
        metrics.push(Arc::clone(&metric));
        metric
    }

    /// Reads every series that exists, metrics in the order of the catalog.
    pub fn snapshot(&self) -> Snapshot {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        metrics.sort_by_key(|metric| metric.descriptor.position());
        let mut snapshot = Snapshot::default();
        for metric in metrics {
            metric.collect(&mut snapshot);
        }
        // Read last, so that no recorded event is newer than its point.
        snapshot.time_nanos = self.clock.now_nanos();
        snapshot
    }
}

impl Metric {
    fn collect(self: &Arc<Self>, snapshot: &mut Snapshot) {
        let mut points = Vec::new();
        let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        for family in families.values() {
            for (index, cell) in family.cells.iter().enumerate() {
                if let Some(Some(cell)) = cell.get() {
                    let series = Series::Of(Arc::clone(family), index);
                    points.push(cell.point(family.start_nanos, series, &mut snapshot.buckets));
                }
            }
        }
        if self.series.load(Relaxed) > self.series_max {
            let series = Series::Overflow(Arc::clone(self));
            points.push(self.overflow.point(self.start_nanos, series, &mut snapshot.buckets));
        }
        if !points.is_empty() {
            snapshot.metrics.push(MetricSnapshot { descriptor: self.descriptor, points });
        }
    }
}

impl Family {
    #[inline]
    fn cell(&self, index: usize) -> &Cell {
        match self.cells.get(index).and_then(OnceLock::get) {
            Some(Some(cell)) => cell,
            Some(None) => &self.metric.overflow,
            None => self.create(index),
        }
    }

    /// The first use of a series: the only moment when recording allocates.
    #[cold]
    fn create(&self, index: usize) -> &Cell {
        let Some(slot) = self.cells.get(index) else { return &self.metric.overflow };
        let created = slot.get_or_init(|| {
            if self.metric.series.fetch_add(1, Relaxed) >= self.metric.series_max {
                return None;
            }
            Some(Box::new(Cell::new(self.metric.descriptor, &self.metric.bounds, &self.attributes(index))))
        });
        created.as_deref().unwrap_or(&self.metric.overflow)
    }

    fn attributes(&self, index: usize) -> Vec<Attribute> {
        let mut attributes = self.fixed.clone();
        (self.varying)(index, &mut attributes);
        attributes
    }
}

impl Cell {
    fn new(descriptor: &Descriptor, bounds: &[u64], attributes: &[Attribute]) -> Self {
        let buckets = match descriptor.kind {
            Kind::Histogram(_) => bounds.len() + 1,
            _ => 0,
        };
        Self {
            value: AtomicU64::new(0),
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
            encoded: otlp::encode_attributes(descriptor, attributes).into(),
        }
    }

    fn point(&self, start_nanos: u64, series: Series, arena: &mut Vec<u64>) -> Point {
        let first = arena.len();
        arena.extend(self.buckets.iter().map(|bucket| bucket.load(Relaxed)));
        let value = self.value.load(Relaxed);
        Point { start_nanos, value, buckets: first..arena.len(), series }
    }
}

/// Names one series without copying its attributes.
#[derive(Debug)]
pub(super) enum Series {
    Of(Arc<Family>, usize),
    Overflow(Arc<Metric>),
}

impl Series {
    pub(super) fn attributes(&self) -> Vec<Attribute> {
        match self {
            Self::Of(family, index) => family.attributes(*index),
            Self::Overflow(_) => vec![OVERFLOW],
        }
    }

    /// The attributes in protobuf, as written when the series was created.
    pub(super) fn encoded(&self) -> &[u8] {
        match self {
            Self::Of(family, index) => &family.cell(*index).encoded,
            Self::Overflow(metric) => &metric.overflow.encoded,
        }
    }
}

/// A sum that only grows.
#[derive(Debug, Clone)]
pub struct Counter<D = ()> {
    family: Arc<Family>,
    dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> Counter<D> {
    /// Adds `amount` to the series of `of`.
    #[inline]
    pub fn add(&self, of: D, amount: u64) {
        self.family.cell(of.index()).value.fetch_add(amount, Relaxed);
    }

    /// Raises the series to `total`, for sums that the kernel keeps.
    pub fn observe(&self, of: D, total: u64) {
        self.family.cell(of.index()).value.fetch_max(total, Relaxed);
    }

    /// Makes the series exist at 0, so that a receiver sees its first increment.
    pub fn create(&self, of: D) {
        self.family.cell(of.index());
    }
}

/// A sum that goes up and down, such as requests in flight.
#[derive(Debug, Clone)]
pub struct UpDownCounter<D = ()> {
    family: Arc<Family>,
    dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> UpDownCounter<D> {
    /// Counts one until the guard is dropped.
    #[inline]
    pub fn enter(&self, of: D) -> ActiveGuard {
        let index = of.index();
        self.family.cell(index).value.fetch_add(1, Relaxed);
        ActiveGuard { family: Arc::clone(&self.family), index }
    }

    /// Sets an observed value.
    pub fn observe(&self, of: D, value: i64) {
        self.family.cell(of.index()).value.store(value.cast_unsigned(), Relaxed);
    }

    /// Makes the series exist at 0.
    pub fn create(&self, of: D) {
        self.family.cell(of.index());
    }
}

/// One unit of an up-down counter; dropping it takes the unit back with the same attributes.
#[derive(Debug)]
pub struct ActiveGuard {
    family: Arc<Family>,
    index: usize,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.family.cell(self.index).value.fetch_sub(1, Relaxed);
    }
}

/// A value as it is at the moment.
#[derive(Debug, Clone)]
pub struct Gauge<D = ()> {
    family: Arc<Family>,
    dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> Gauge<D> {
    /// Sets the present value, in recorded units.
    pub fn set(&self, of: D, value: i64) {
        self.family.cell(of.index()).value.store(value.cast_unsigned(), Relaxed);
    }
}

/// A distribution over the bounds its metric declares.
#[derive(Debug, Clone)]
pub struct Histogram<D = ()> {
    family: Arc<Family>,
    dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> Histogram<D> {
    /// Records one value in recorded units.
    #[inline]
    pub fn record(&self, of: D, value: u64) {
        let cell = self.family.cell(of.index());
        // Upper bounds are inclusive (OTLP data model, histogram).
        let bucket = self.family.metric.bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = cell.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
            cell.value.fetch_add(value, Relaxed);
        }
    }

    /// Records a duration of a metric that is declared in seconds.
    #[inline]
    pub fn record_duration(&self, of: D, duration: Duration) {
        self.record(of, saturating_nanos(duration));
    }

    /// Makes the series exist with no values.
    pub fn create(&self, of: D) {
        self.family.cell(of.index());
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::atomic::AtomicBool, thread};

    use super::*;
    use crate::telemetry::{catalog as metric, dimensions::TokenType};

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
        let registry = Registry::with_series_max(3);
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
        let create = |of: &'static Descriptor| registry.counter::<()>(of, &[]).create(());
        [&metric::FALLBACKS, &metric::TOKENS, &metric::RETRIES].into_iter().for_each(create);
        let names: Vec<&str> = registry.snapshot().metrics.iter().map(|metric| metric.descriptor.name).collect();
        assert_eq!(names, ["tollgate.tokens", "tollgate.retries", "tollgate.fallbacks"]);
    }
}
