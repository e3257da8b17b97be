//! The numbers of one series.
//!
//! A cell outlives the family it belongs to: whoever reads it last, after its series has ended,
//! still finds its final values.

use std::sync::{Arc as StdArc, atomic::Ordering::Relaxed};

use super::{
    aggregation::Buckets,
    attribute::Attribute,
    catalog::Descriptor,
    otlp,
    snapshot::Point,
    sync::{Arc, AtomicU64},
};

/// Aligned to two cache lines, so that neighbours on other cores do not slow each other down
/// (adjacent-line prefetch, see tokio's `util/cacheline.rs`).
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Cell {
    /// A counter's value, a gauge's value as `i64`, or a histogram's sum in recorded units.
    pub(super) value: AtomicU64,
    /// Empty unless the metric is a histogram; one more than there are bounds.
    pub(super) buckets: Box<[AtomicU64]>,
    /// Tells series apart for as long as the process lives.
    id: u64,
    start_nanos: u64,
    fixed: StdArc<Vec<Attribute>>,
    varying: fn(usize, &mut Vec<Attribute>),
    index: usize,
    /// The attributes in protobuf, written once.
    encoded: Box<[u8]>,
}

/// One series, for as long as somebody reads it.
#[derive(Debug, Clone)]
pub struct Series(pub(super) Arc<Cell>);

/// What a cell is made from.
pub(super) struct Identity {
    pub(super) id: u64,
    pub(super) start_nanos: u64,
    pub(super) fixed: StdArc<Vec<Attribute>>,
    pub(super) varying: fn(usize, &mut Vec<Attribute>),
    pub(super) index: usize,
}

impl Cell {
    pub(super) fn new(of: &Descriptor, buckets: &Buckets, identity: Identity) -> Self {
        let Identity { id, start_nanos, fixed, varying, index } = identity;
        let mut attributes = fixed.as_ref().clone();
        varying(index, &mut attributes);
        Self {
            value: AtomicU64::new(0),
            buckets: (0..buckets.counts()).map(|_| AtomicU64::new(0)).collect(),
            id,
            start_nanos,
            encoded: otlp::encode_attributes(of, buckets, &attributes).into(),
            fixed,
            varying,
            index,
        }
    }
}

impl Series {
    /// Its present numbers; those of a histogram go into `arena`.
    pub(super) fn point(&self, arena: &mut Vec<u64>) -> Point {
        let first = arena.len();
        arena.extend(self.0.buckets.iter().map(|bucket| bucket.load(Relaxed)));
        Point {
            start_nanos: self.0.start_nanos,
            value: self.0.value.load(Relaxed),
            is_ended: false,
            buckets: first..arena.len(),
            series: self.clone(),
        }
    }

    /// A number that no other series of the process has or had.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Its attributes, fixed ones first.
    pub fn attributes(&self) -> Vec<Attribute> {
        let mut attributes = self.0.fixed.as_ref().clone();
        (self.0.varying)(self.0.index, &mut attributes);
        attributes
    }

    /// The attributes in protobuf, as written when the series was created.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.0.encoded
    }
}
