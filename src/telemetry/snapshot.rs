//! One reading of every series, detached from the atomics.
//!
//! A histogram's count is the sum of its buckets here and nowhere else, so the two cannot disagree.

use std::{ops::Range, sync::Arc};

use super::{
    aggregation::{Buckets, Layout},
    attribute::Attribute,
    catalog::{Descriptor, Scope},
    cell::Series,
    registry::EndedSeries,
};

/// Every series that existed when it was taken, under one timestamp.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub time_nanos: u64,
    pub metrics: Vec<MetricSnapshot>,
    pub(super) buckets: Vec<u64>,
}

/// The series of one metric; never empty.
#[derive(Debug)]
pub struct MetricSnapshot {
    pub descriptor: &'static Descriptor,
    pub buckets: Arc<Buckets>,
    /// Whether its points are differences to an earlier export.
    pub is_delta: bool,
    pub points: Vec<Point>,
}

/// One series.
#[derive(Debug)]
pub struct Point {
    pub start_nanos: u64,
    /// Value or histogram sum, in recorded units; gauges and up-down counters are `i64`.
    pub value: u64,
    /// Says that the series is over and has no value any more.
    pub is_ended: bool,
    pub(super) buckets: Range<usize>,
    pub series: Series,
}

/// Some of a snapshot's points: what goes into one request.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Metrics by their place in the snapshot, with some of their points.
    pub(super) pieces: Vec<(usize, Range<usize>)>,
}

impl Point {
    /// The attributes of the series, fixed ones first.
    pub fn attributes(&self) -> Vec<Attribute> {
        self.series.attributes()
    }
}

impl Snapshot {
    /// How many points it holds.
    pub fn points(&self) -> usize {
        self.metrics.iter().map(|metric| metric.points.len()).sum()
    }

    /// The bucket counts of a histogram's point; empty for other kinds.
    pub fn buckets(&self, point: &Point) -> &[u64] {
        self.buckets.get(point.buckets.clone()).unwrap_or_default()
    }

    /// The number of values a histogram's point holds.
    pub fn count(&self, point: &Point) -> u64 {
        self.buckets(point).iter().sum()
    }

    /// Adds a series that has ended: with the values it had, or as a mark that there are no more.
    ///
    /// Not if the same attributes are there again: two points of one set are one too many.
    pub fn add_ended(&mut self, ended: &EndedSeries, is_mark: bool) -> bool {
        let place = self.metrics.iter().position(|metric| std::ptr::eq(metric.descriptor, ended.descriptor));
        let place = place.unwrap_or_else(|| {
            let (descriptor, buckets) = (ended.descriptor, Arc::clone(&ended.buckets));
            let position = descriptor.position();
            let place = self.metrics.partition_point(|metric| metric.descriptor.position() < position);
            self.metrics.insert(place, MetricSnapshot { descriptor, buckets, is_delta: false, points: Vec::new() });
            place
        });
        let Self { metrics, buckets, .. } = self;
        let Some(metric) = metrics.get_mut(place) else { return false };
        if metric.points.iter().any(|point| point.series.encoded() == ended.series.encoded()) {
            return false;
        }
        let mut point = ended.series.point(buckets);
        point.is_ended = is_mark;
        metric.points.push(point);
        true
    }

    /// Turns a point into the difference to what was there before; says nothing about its start.
    pub fn subtract(&mut self, place: (usize, usize), value: u64, counts: &[u64]) {
        let Self { metrics, buckets, .. } = self;
        let point = metrics.get_mut(place.0).and_then(|metric| metric.points.get_mut(place.1));
        let Some(point) = point else { return };
        point.value = point.value.saturating_sub(value);
        let now = buckets.get_mut(point.buckets.clone()).unwrap_or_default();
        for (now, before) in now.iter_mut().zip(counts) {
            *now = now.saturating_sub(*before);
        }
    }

    /// Everything, in parts of at most `bytes_max` in protobuf where single points allow it, in the
    /// order of the catalog; no part is empty.
    pub fn parts(&self, bytes_max: usize) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut part = Part::default();
        let mut bytes = 0;
        for (place, metric) in self.metrics.iter().enumerate() {
            let head = metric.head_bytes();
            let mut first = 0;
            for (at, point) in metric.points.iter().enumerate() {
                let more = point.bytes(&metric.buckets) + if at == first { head } else { 0 };
                if bytes + more > bytes_max && bytes > 0 {
                    part.take(place, first..at);
                    parts.push(std::mem::take(&mut part));
                    first = at;
                    bytes = head + point.bytes(&metric.buckets);
                } else {
                    bytes += more;
                }
            }
            part.take(place, first..metric.points.len());
        }
        if !part.pieces.is_empty() {
            parts.push(part);
        }
        parts
    }

    /// The metrics of a scope in `part`, with their points in it.
    pub(super) fn metrics_of<'a>(
        &'a self,
        part: &'a Part,
        scope: Scope,
    ) -> impl Iterator<Item = (&'a MetricSnapshot, &'a [Point])> {
        let pieces = part.pieces.iter().filter_map(|(place, points)| {
            let metric = self.metrics.get(*place)?;
            Some((metric, metric.points.get(points.clone())?))
        });
        pieces.filter(move |(metric, _)| metric.descriptor.scope() == scope)
    }
}

impl MetricSnapshot {
    /// At least what it takes in protobuf without points.
    fn head_bytes(&self) -> usize {
        let Descriptor { name, description, unit, .. } = self.descriptor;
        name.len() + description.len() + unit.len() + 64
    }
}

impl Point {
    /// At least what it takes in protobuf: numbers are fixed64 at most, with a tag each, and each
    /// bucket has a count and a bound.
    fn bytes(&self, buckets: &Buckets) -> usize {
        let per_count = match buckets.layout {
            Layout::None => 0,
            Layout::Explicit(_) => 16,
            // Varints; more than five bytes would be 34 billion values.
            Layout::Exponential { .. } => 5,
        };
        self.series.encoded().len() + 80 + buckets.counts() * per_count
    }
}

impl Part {
    fn take(&mut self, place: usize, points: Range<usize>) {
        if !points.is_empty() {
            self.pieces.push((place, points));
        }
    }

    /// How many points it holds.
    pub fn points(&self) -> usize {
        self.pieces.iter().map(|(_, points)| points.len()).sum()
    }

    /// The places of its points: metric, then point.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        self.pieces.iter().flat_map(|(metric, points)| points.clone().map(|point| (*metric, point)))
    }
}
