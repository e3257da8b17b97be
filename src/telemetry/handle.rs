//! Bound series: what everything above records with.
//!
//! A handle keeps its series alive; when the last one is dropped, as after a reload, they end.

use std::{marker::PhantomData, time::Duration};

use super::{attribute::Dimension, clock::saturating_nanos, registry::Family, sync::Arc};

/// A sum that only grows.
#[derive(Debug, Clone)]
pub struct Counter<D = ()> {
    pub(super) family: Arc<Family>,
    pub(super) dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> Counter<D> {
    /// Adds `amount` to the series of `of`.
    #[inline]
    pub fn add(&self, of: D, amount: u64) {
        self.family.cell(of.index()).add(amount);
    }

    /// Raises the series to `total`, for sums that the kernel keeps; such a series is never added to.
    pub fn observe(&self, of: D, total: u64) {
        self.family.cell(of.index()).raise(total);
    }

    /// Makes the series exist at 0, so that a receiver sees its first increment.
    pub fn create(&self, of: D) {
        self.family.cell(of.index());
    }
}

/// A sum that goes up and down, such as requests in flight.
#[derive(Debug, Clone)]
pub struct UpDownCounter<D = ()> {
    pub(super) family: Arc<Family>,
    pub(super) dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> UpDownCounter<D> {
    /// Counts one until the guard is dropped.
    #[inline]
    pub fn enter(&self, of: D) -> ActiveGuard {
        let index = of.index();
        self.family.cell(index).add(1);
        ActiveGuard { family: Arc::clone(&self.family), index }
    }

    /// How many there are.
    pub fn value(&self, of: D) -> i64 {
        self.family.cell(of.index()).value().cast_signed()
    }

    /// How many there are of all that have ever been counted.
    pub fn sum(&self) -> i64 {
        self.family.values().map(u64::cast_signed).sum()
    }

    /// Sets an observed value; such a series is never entered.
    pub fn observe(&self, of: D, value: i64) {
        self.family.cell(of.index()).set(value.cast_unsigned());
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
        self.family.cell(self.index).add(1_u64.wrapping_neg());
    }
}

/// A value as it is at the moment.
#[derive(Debug, Clone)]
pub struct Gauge<D = ()> {
    pub(super) family: Arc<Family>,
    pub(super) dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> Gauge<D> {
    /// Makes the series exist at 0.
    pub fn create(&self, of: D) {
        self.family.cell(of.index());
    }

    /// Sets the present value, in recorded units.
    pub fn set(&self, of: D, value: i64) {
        self.family.cell(of.index()).set(value.cast_unsigned());
    }
}

/// A distribution over the bounds its metric declares.
#[derive(Debug, Clone)]
pub struct Histogram<D = ()> {
    pub(super) family: Arc<Family>,
    pub(super) dimension: PhantomData<fn(D)>,
}

impl<D: Dimension> Histogram<D> {
    /// Records one value in recorded units.
    #[inline]
    pub fn record(&self, of: D, value: u64) {
        self.family.cell(of.index()).record(self.family.bucket_of(value), value);
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
