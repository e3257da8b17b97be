//! One reading of every series, detached from the atomics.
//!
//! A histogram's count is the sum of its buckets here and nowhere else, so the two cannot disagree.

use std::ops::Range;

use super::{attribute::Attribute, catalog::Descriptor, registry::Series};

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
    pub points: Vec<Point>,
}

/// One series.
#[derive(Debug)]
pub struct Point {
    pub start_nanos: u64,
    /// Value or histogram sum, in recorded units; gauges and up-down counters are `i64`.
    pub value: u64,
    pub(super) buckets: Range<usize>,
    pub(super) series: Series,
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
}
