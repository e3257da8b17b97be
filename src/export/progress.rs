//! What one receiver has been told so far: the state that differences are computed against, and the
//! series whose end it has yet to learn.
//!
//! Nothing here changes before a receiver has taken what it was sent. So an outage loses nothing and
//! repeats nothing: the next difference is to the last one that arrived.

use std::collections::HashMap;

use crate::telemetry::{
    Snapshot, Temporality,
    registry::EndedSeries,
    snapshot::{Part, Point},
};

/// Series whose end waits for the receiver; beyond it the oldest are given up.
const ENDING_MAX: usize = 10_000;

/// How far a receiver is.
#[derive(Debug)]
pub(super) struct Progress {
    temporality: Temporality,
    ending: Vec<Ending>,
    /// By series; empty for a receiver of cumulative points.
    taken: HashMap<u64, Taken>,
}

/// A series that is over.
#[derive(Debug)]
struct Ending {
    series: EndedSeries,
    /// The receiver has its final values; what is left is the mark that there are no more.
    is_final_taken: bool,
}

/// The sum of the differences that a receiver took.
#[derive(Debug, Default)]
struct Taken {
    value: u64,
    counts: Box<[u64]>,
    time_nanos: u64,
}

impl Progress {
    pub(super) fn new(temporality: Temporality) -> Self {
        Self { temporality, ending: Vec::new(), taken: HashMap::new() }
    }

    /// Makes of a reading what this receiver is to be sent.
    pub(super) fn prepare(&mut self, snapshot: &mut Snapshot, ended: Vec<EndedSeries>) {
        self.ending.extend(ended.into_iter().map(|series| Ending { series, is_final_taken: false }));
        let surplus = self.ending.len().saturating_sub(ENDING_MAX);
        self.ending.drain(..surplus);
        // A set of attributes that is back needs no end.
        self.ending.retain(|ending| snapshot.add_ended(&ending.series, ending.is_final_taken));
        if self.temporality != Temporality::Cumulative {
            self.subtract(snapshot);
        }
    }

    fn subtract(&self, snapshot: &mut Snapshot) {
        for metric in 0..snapshot.metrics.len() {
            let Some(of) = snapshot.metrics.get_mut(metric) else { continue };
            if !self.temporality.is_delta(of.descriptor.kind) {
                continue;
            }
            of.is_delta = true;
            for point in 0..of.points.len() {
                let Some(of) = snapshot.metrics.get_mut(metric).and_then(|of| of.points.get_mut(point)) else {
                    continue;
                };
                if let Some(taken) = self.taken.get(&of.series.id()) {
                    of.start_nanos = taken.time_nanos;
                    snapshot.subtract((metric, point), taken.value, &taken.counts);
                }
            }
        }
    }

    /// Notes that the receiver took `part` of what [`Self::prepare`] had made.
    pub(super) fn acknowledge(&mut self, snapshot: &Snapshot, part: &Part) {
        for (metric, point) in part.places() {
            let Some(of) = snapshot.metrics.get(metric) else { continue };
            let Some(point) = of.points.get(point) else { continue };
            if of.is_delta {
                self.taken.entry(point.series.id()).or_default().add(snapshot, point);
            }
            if !self.ending.is_empty() {
                self.acknowledge_end(point, of.is_delta);
            }
        }
    }

    /// A difference needs no mark of the end: there just are no more.
    fn acknowledge_end(&mut self, point: &Point, is_delta: bool) {
        let id = point.series.id();
        let Some(place) = self.ending.iter().position(|ending| ending.series.id() == id) else { return };
        if is_delta || point.is_ended {
            self.ending.swap_remove(place);
            self.taken.remove(&id);
        } else if let Some(ending) = self.ending.get_mut(place) {
            ending.is_final_taken = true;
        }
    }
}

impl Taken {
    fn add(&mut self, snapshot: &Snapshot, point: &Point) {
        self.time_nanos = snapshot.time_nanos;
        self.value = self.value.saturating_add(point.value);
        let counts = snapshot.buckets(point);
        if self.counts.is_empty() {
            self.counts = counts.into();
        } else {
            self.counts.iter_mut().zip(counts).for_each(|(taken, count)| *taken += count);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::{Attribute, Counter, Histogram, Registry, UpDownCounter, catalog, registry::Cursor};

    /// Reads the registry as this receiver is to see it.
    fn reading(registry: &Registry, cursor: &mut Cursor, progress: &mut Progress) -> Snapshot {
        let (mut snapshot, ended) = registry.read(cursor);
        progress.prepare(&mut snapshot, ended);
        snapshot
    }

    fn whole(snapshot: &Snapshot) -> Part {
        snapshot.parts(usize::MAX).remove(0)
    }

    /// Every point by metric: value, count and whether it is the mark of an end.
    fn points(snapshot: &Snapshot) -> Vec<(&'static str, u64, u64, bool)> {
        let points = snapshot.metrics.iter().flat_map(|metric| metric.points.iter().map(move |point| (metric, point)));
        points
            .map(|(metric, point)| (metric.descriptor.name, point.value, snapshot.count(point), point.is_ended))
            .collect()
    }

    #[test]
    fn a_series_that_ends_is_sent_once_more_and_then_marked() {
        for temporality in [Temporality::Cumulative, Temporality::Delta] {
            let registry = Registry::new();
            let (mut cursor, mut progress) = (registry.cursor(), Progress::new(temporality));
            let retries: Counter = registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]);
            let active: UpDownCounter = registry.up_down_counter(&catalog::CONNECTIONS_ACTIVE, &[]);
            retries.add((), 2);
            active.create(());
            let first = reading(&registry, &mut cursor, &mut progress);
            progress.acknowledge(&first, &whole(&first));
            retries.add((), 3);
            drop(retries);
            // Not before the receiver has the final values, however often it fails to take them.
            for _ in 0..3 {
                let last = reading(&registry, &mut cursor, &mut progress);
                let value = if temporality == Temporality::Delta { 3 } else { 5 };
                assert_eq!(points(&last)[0], ("tollgate.retries", value, 0, false));
                assert_eq!(last.points(), 2);
            }
            let last = reading(&registry, &mut cursor, &mut progress);
            progress.acknowledge(&last, &whole(&last));
            let mark = reading(&registry, &mut cursor, &mut progress);
            if temporality == Temporality::Cumulative {
                assert_eq!(points(&mark)[0], ("tollgate.retries", 5, 0, true));
                progress.acknowledge(&mark, &whole(&mark));
            }
            let after = reading(&registry, &mut cursor, &mut progress);
            assert_eq!(points(&after), [("tollgate.connections.active", 0, 0, false)]);
        }
    }

    #[test]
    fn a_series_that_is_back_is_not_ended() {
        let registry = Registry::new();
        let (mut cursor, mut progress) = (registry.cursor(), Progress::new(Temporality::Cumulative));
        let bind = || registry.counter::<()>(&catalog::RETRIES, &[]);
        bind().add((), 1);
        let ended = reading(&registry, &mut cursor, &mut progress);
        assert_eq!(points(&ended), [("tollgate.retries", 1, 0, false)]);
        let back = bind();
        back.add((), 7);
        for _ in 0..2 {
            let snapshot = reading(&registry, &mut cursor, &mut progress);
            assert_eq!(points(&snapshot), [("tollgate.retries", 7, 0, false)]);
            progress.acknowledge(&snapshot, &whole(&snapshot));
        }
    }

    /// What is left of a receiver's own sums when it adds up what it takes.
    #[derive(Default)]
    struct Sums {
        value: u64,
        histogram: (u64, Vec<u64>),
        last_nanos: u64,
    }

    impl Sums {
        fn take(&mut self, snapshot: &Snapshot) {
            for metric in &snapshot.metrics {
                let point = &metric.points[0];
                assert!(metric.is_delta);
                if self.last_nanos > 0 {
                    assert_eq!(point.start_nanos, self.last_nanos, "it starts where the last one ended");
                }
                if snapshot.buckets(point).is_empty() {
                    self.value += point.value;
                } else {
                    self.histogram.0 += point.value;
                    self.histogram.1.resize(snapshot.buckets(point).len(), 0);
                    self.histogram.1.iter_mut().zip(snapshot.buckets(point)).for_each(|(sum, count)| *sum += count);
                }
            }
            self.last_nanos = snapshot.time_nanos;
        }
    }

    proptest! {
        /// Whatever fails in between, the differences that arrive add up to the totals.
        #[test]
        fn differences_add_up(steps in proptest::collection::vec((0_u64..1_000, any::<bool>(), any::<bool>()), 1..40)) {
            let registry = Registry::new();
            let (mut cursor, mut progress) = (registry.cursor(), Progress::new(Temporality::Delta));
            let retries: Counter = registry.counter(&catalog::RETRIES, &[]);
            let overhead: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
            let mut sums = Sums::default();
            let mut total = (0, 0, 0);
            for (amount, again, arrives) in steps.into_iter().chain([(1, true, true)]) {
                retries.add((), amount);
                overhead.record((), amount * 1_000);
                total = (total.0 + amount, total.1 + amount * 1_000, total.2 + 1);
                if again {
                    let unsent = reading(&registry, &mut cursor, &mut progress);
                    drop(unsent);
                }
                let snapshot = reading(&registry, &mut cursor, &mut progress);
                if arrives {
                    sums.take(&snapshot);
                    for part in snapshot.parts(1) {
                        progress.acknowledge(&snapshot, &part);
                    }
                }
            }
            prop_assert_eq!(sums.value, total.0);
            prop_assert_eq!(sums.histogram.0, total.1);
            prop_assert_eq!(sums.histogram.1.iter().sum::<u64>(), total.2);
        }
    }
}
