//! The numbers of one series.
//!
//! A cell outlives the family it belongs to: whoever reads it last, after its series has ended,
//! still finds its final values.

use std::{
    cell::Cell as ThreadCell,
    sync::{
        Arc as StdArc, OnceLock as StdOnceLock,
        atomic::{AtomicUsize as StdAtomicUsize, Ordering::Relaxed},
    },
};

use super::{
    aggregation::Buckets,
    attribute::Attribute,
    catalog::{Descriptor, Kind},
    otlp,
    snapshot::Point,
    sync::{Arc, AtomicU64},
};

/// Most shares of a series: beyond it, threads begin to share.
const SHARES_MAX: usize = 8;

/// Numbers in a line.
const LINE: usize = 16;

/// Numbers that are written together: two cache lines, so that neighbours on other cores do not slow
/// each other down (adjacent-line prefetch, see tokio's `util/cacheline.rs`). A histogram of up to 15
/// buckets has its sum and its counts in one.
#[derive(Debug)]
#[repr(align(128))]
struct Line([AtomicU64; LINE]);

/// What is recorded of one series. Every thread has a share of its own to write to: two cores that
/// add to one number pass its cache line back and forth for ten times the price of the addition.
#[derive(Debug)]
pub(super) struct Cell {
    /// Share by share: a counter's value, a gauge's value as `i64` or a histogram's sum in recorded
    /// units, then the counts of a histogram.
    lines: Box<[Line]>,
    lines_per_share: usize,
    /// A power of two, less one.
    share_mask: usize,
    /// None unless the metric is a histogram; one more than there are bounds.
    counts: usize,
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

/// How many shares a series has that many threads add to.
fn shares() -> usize {
    static SHARES: StdOnceLock<usize> = StdOnceLock::new();
    *SHARES.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        threads.next_power_of_two().min(SHARES_MAX)
    })
}

/// The number of this thread, in the order in which threads record for the first time.
#[inline]
fn thread_number() -> usize {
    static NEXT: StdAtomicUsize = StdAtomicUsize::new(0);
    thread_local! {
        static NUMBER: ThreadCell<usize> = const { ThreadCell::new(usize::MAX) };
    }
    let number = NUMBER.get();
    if number != usize::MAX {
        return number;
    }
    let number = NEXT.fetch_add(1, Relaxed);
    NUMBER.set(number);
    number
}

impl Cell {
    pub(super) fn new(of: &Descriptor, buckets: &Buckets, identity: Identity) -> Self {
        let Identity { id, start_nanos, fixed, varying, index } = identity;
        let mut attributes = fixed.as_ref().clone();
        varying(index, &mut attributes);
        // What is set rather than added to has one number that is right.
        let shares = if matches!(of.kind, Kind::Gauge | Kind::ObservableCounter) { 1 } else { shares() };
        let counts = buckets.counts();
        let lines_per_share = (1 + counts).div_ceil(LINE);
        let line = |_| Line(std::array::from_fn(|_| AtomicU64::new(0)));
        Self {
            lines: (0..shares * lines_per_share).map(line).collect(),
            lines_per_share,
            share_mask: shares - 1,
            counts,
            id,
            start_nanos,
            encoded: otlp::encode_attributes(of, buckets, &attributes).into(),
            fixed,
            varying,
            index,
        }
    }

    /// Adds to the value, wrapping around: a negative amount is a large one.
    #[inline]
    pub(super) fn add(&self, amount: u64) {
        if let Some(Line([value, ..])) = self.share().first() {
            value.fetch_add(amount, Relaxed);
        }
    }

    /// Counts a value in its bucket and adds it to the sum.
    #[inline]
    pub(super) fn record(&self, bucket: usize, value: u64) {
        let share = self.share();
        let place = bucket + 1;
        if let Some(count) = share.get(place / LINE).and_then(|line| line.0.get(place % LINE)) {
            count.fetch_add(1, Relaxed);
        }
        if let Some(Line([sum, ..])) = share.first() {
            sum.fetch_add(value, Relaxed);
        }
    }

    /// Sets the value, which nobody adds to.
    pub(super) fn set(&self, value: u64) {
        if let Some(Line([number, ..])) = self.lines.first() {
            number.store(value, Relaxed);
        }
    }

    /// Raises the value, which nobody adds to.
    pub(super) fn raise(&self, value: u64) {
        if let Some(Line([number, ..])) = self.lines.first() {
            number.fetch_max(value, Relaxed);
        }
    }

    #[inline]
    /// A sum or a gauge as it is now.
    pub(super) fn value(&self) -> u64 {
        self.read(0)
    }

    fn share(&self) -> &[Line] {
        let start = (thread_number() & self.share_mask) * self.lines_per_share;
        self.lines.get(start..start + self.lines_per_share).unwrap_or_default()
    }

    /// The number at a place, over all shares.
    fn read(&self, place: usize) -> u64 {
        let shares = self.lines.chunks(self.lines_per_share);
        let numbers = shares.filter_map(|share| share.get(place / LINE)?.0.get(place % LINE));
        numbers.fold(0, |sum, number| sum.wrapping_add(number.load(Relaxed)))
    }
}

impl Series {
    /// Its present numbers; those of a histogram go into `arena`.
    pub(super) fn point(&self, arena: &mut Vec<u64>) -> Point {
        let first = arena.len();
        arena.extend((1..=self.0.counts).map(|place| self.0.read(place)));
        Point {
            start_nanos: self.0.start_nanos,
            value: self.0.read(0),
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
