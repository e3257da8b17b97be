//! How the values of a histogram are kept: explicit bounds, or base-2 exponential buckets.
//!
//! Both are a list of inclusive upper bounds in recorded units (nanoseconds, bytes, tokens), so that
//! recording is one and the same search; they differ in how the buckets are described to a receiver.

use std::f64::consts::SQRT_2;

use super::catalog::{Descriptor, Kind};

/// Buckets of an exponential histogram, the specification's `MaxSize`.
pub const EXPONENTIAL_BUCKETS: usize = 160;

/// Four buckets to a power of two: neighbouring bounds are 19 % apart, and 160 of them reach from
/// 0.8 µs to 10 days, or from one token to 930 billion. The specification's own histogram changes
/// its scale as values come, which no histogram without a lock can do; this range needs no change.
pub const EXPONENTIAL_SCALE: i32 = 2;

/// What the operator prefers for histograms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Aggregations {
    /// Base-2 exponential buckets instead of explicit bounds.
    pub exponential: bool,
    /// Bounds by metric, in its unit, ascending; they also win over `exponential`.
    pub bounds: Vec<(&'static str, Vec<f64>)>,
}

/// The buckets of one metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Buckets {
    /// Inclusive upper bounds in recorded units; one less than there are counts.
    pub(super) recorded: Box<[u64]>,
    pub(super) layout: Layout,
}

/// How a receiver is told what the counts stand for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Layout {
    /// The metric is no histogram.
    None,
    /// Upper bounds in the metric's unit.
    Explicit(Box<[f64]>),
    /// The first count is of values up to `zero_threshold`; the others have consecutive indexes that
    /// begin at `first`.
    Exponential { first: i32, zero_threshold: f64 },
}

impl Aggregations {
    /// The buckets of a metric.
    pub(super) fn of(&self, descriptor: &Descriptor) -> Buckets {
        let Kind::Histogram(advised) = descriptor.kind else {
            return Buckets { recorded: Box::default(), layout: Layout::None };
        };
        let chosen = self.bounds.iter().find(|(name, _)| *name == descriptor.name).map(|(_, bounds)| bounds.as_slice());
        match (chosen, self.exponential) {
            (Some(bounds), _) => Buckets::explicit(descriptor, bounds),
            (None, false) => Buckets::explicit(descriptor, advised),
            (None, true) => Buckets::exponential(descriptor),
        }
    }
}

impl Buckets {
    fn explicit(descriptor: &Descriptor, bounds: &[f64]) -> Self {
        let scale = descriptor.scale.unwrap_or(1.0);
        // Rounded, because 0.005 s / 1e-9 is a hair off five million nanoseconds.
        let recorded = bounds.iter().map(|bound| to_recorded((bound / scale).round())).collect();
        Self { recorded, layout: Layout::Explicit(bounds.into()) }
    }

    fn exponential(descriptor: &Descriptor) -> Self {
        let scale = descriptor.scale.unwrap_or(1.0);
        // What is counted begins at one, which the bucket below index 0 ends with; what is timed
        // begins below a microsecond.
        let first = if descriptor.scale.is_some() { -81 } else { -1 };
        let last = first + EXPONENTIAL_BUCKETS as i32 - 1;
        // A recorded value is whole, so it is within a bound if it is within its whole part. The
        // last bucket has no bound: it takes what is larger as well.
        let recorded = (first..=last).map(|index| to_recorded((lower_bound(index) / scale).floor())).collect();
        let zero_threshold = if descriptor.scale.is_some() { lower_bound(first) } else { 0.0 };
        Self { recorded, layout: Layout::Exponential { first, zero_threshold } }
    }

    /// How many counts there are; 0 for what is no histogram.
    pub(super) fn counts(&self) -> usize {
        if self.layout == Layout::None { 0 } else { self.recorded.len() + 1 }
    }

    /// The count that a value belongs to. Upper bounds are inclusive (OTLP data model, histogram).
    #[inline]
    pub(super) fn index(&self, value: u64) -> usize {
        self.recorded.partition_point(|bound| *bound < value)
    }

    /// The bounds that a receiver sees; empty unless they are explicit.
    pub fn explicit_bounds(&self) -> &[f64] {
        match &self.layout {
            Layout::Explicit(bounds) => bounds,
            Layout::None | Layout::Exponential { .. } => &[],
        }
    }

    /// Upper bounds in the metric's unit, whatever the layout.
    pub fn upper_bounds(&self, of: &Descriptor) -> Vec<f64> {
        match &self.layout {
            Layout::Explicit(bounds) => bounds.to_vec(),
            Layout::None | Layout::Exponential { .. } => {
                self.recorded.iter().map(|bound| *bound as f64 * of.scale.unwrap_or(1.0)).collect()
            }
        }
    }

    /// The index of the first bucket and the threshold of the zero bucket, if it is exponential.
    pub fn exponential_layout(&self) -> Option<(i32, f64)> {
        match self.layout {
            Layout::Exponential { first, zero_threshold } => Some((first, zero_threshold)),
            Layout::None | Layout::Explicit(_) => None,
        }
    }
}

/// 2^0, 2^(1/4), 2^(1/2) and 2^(3/4): a table is all that is needed of a library of mathematics.
const ROOTS: [f64; 1 << EXPONENTIAL_SCALE] = [1.0, 1.189_207_115_002_721, SQRT_2, 1.681_792_830_507_429];

/// `base^index`, the exclusive lower bound of a bucket (OTLP data model, exponential histogram).
/// Exact at powers of two.
pub fn lower_bound(index: i32) -> f64 {
    let steps = ROOTS.len() as i32;
    let root = usize::try_from(index.rem_euclid(steps)).ok().and_then(|part| ROOTS.get(part));
    2.0_f64.powi(index.div_euclid(steps)) * root.unwrap_or(&1.0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds are positive; `as` saturates")]
fn to_recorded(bound: f64) -> u64 {
    bound as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::catalog::{self, CATALOG};

    fn exponential(of: &Descriptor) -> Buckets {
        Aggregations { exponential: true, bounds: Vec::new() }.of(of)
    }

    /// The definition: the index of the bucket `(base^index, base^(index+1)]` that holds `value`.
    fn index_by_definition(value: f64) -> i32 {
        let index = (value.log2() * f64::from(1 << EXPONENTIAL_SCALE)).ceil() as i32 - 1;
        // The logarithm is a hair off at the bounds.
        (index - 1..=index + 1).find(|at| lower_bound(*at) < value && value <= lower_bound(at + 1)).unwrap()
    }

    #[test]
    fn an_exponential_index_is_what_the_data_model_defines() {
        for of in [&catalog::GEN_AI_DURATION, &catalog::GEN_AI_TOKEN_USAGE] {
            let buckets = exponential(of);
            let (first, zero_threshold) = buckets.exponential_layout().unwrap();
            assert_eq!(buckets.counts(), EXPONENTIAL_BUCKETS + 1);
            let mut values: Vec<u64> = (0..200_000).map(|step| step * 7).collect();
            values.extend((0..63).flat_map(|power| [(1_u64 << power) - 1, 1 << power, (1 << power) + 1]));
            for value in values {
                let exported = value as f64 * of.scale.unwrap_or(1.0);
                let count = buckets.index(value);
                if exported <= zero_threshold || value == 0 {
                    assert_eq!(count, 0, "{value}");
                    continue;
                }
                let last = first + EXPONENTIAL_BUCKETS as i32 - 1;
                let expected = index_by_definition(exported).min(last);
                assert_eq!(first + count as i32 - 1, expected, "{value} of {}", of.name);
            }
        }
    }

    #[test]
    fn a_power_of_two_ends_the_bucket_below() {
        let buckets = exponential(&catalog::GEN_AI_TOKEN_USAGE);
        for power in 0..39 {
            let count = buckets.index(1 << power);
            let (first, _) = buckets.exponential_layout().unwrap();
            assert_eq!(first + count as i32 - 1, (power << EXPONENTIAL_SCALE) - 1, "2^{power}");
        }
    }

    #[test]
    fn bounds_of_the_operator_win() {
        let name = catalog::GEN_AI_DURATION.name;
        let both = Aggregations { exponential: true, bounds: vec![(name, vec![0.5, 2.0])] };
        assert_eq!(both.of(&catalog::GEN_AI_DURATION).explicit_bounds(), [0.5, 2.0]);
        assert_eq!(*both.of(&catalog::GEN_AI_DURATION).recorded, [500_000_000, 2_000_000_000]);
        assert!(both.of(&catalog::OVERHEAD).exponential_layout().is_some());
        assert_eq!(both.of(&catalog::TOKENS).counts(), 0);
    }

    #[test]
    fn every_bound_survives_the_way_to_recorded_units() {
        for descriptor in CATALOG {
            for exponential in [false, true] {
                let buckets = Aggregations { exponential, bounds: Vec::new() }.of(descriptor);
                let bounds = buckets.explicit_bounds();
                for (bound, recorded) in bounds.iter().zip(&buckets.recorded) {
                    let back = *recorded as f64 * descriptor.scale.unwrap_or(1.0);
                    assert!((back - bound).abs() <= bound * 1e-12, "{}: {bound} became {recorded}", descriptor.name);
                }
                assert!(exponential || buckets.recorded.windows(2).all(|pair| pair[0] < pair[1]));
                assert!(buckets.recorded.windows(2).all(|pair| pair[0] <= pair[1]), "{}", descriptor.name);
            }
        }
    }
}
