//! What is measured of the gateway's process over the time of a soak, and what it amounts to.

use std::time::Duration;

/// One look.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) memory: u64,
    pub(crate) descriptors: usize,
}

pub(crate) struct Judgement {
    /// Growth of resident memory by a straight line through the samples.
    pub(crate) mib_per_hour: f64,
    /// The same over the time that was looked at.
    pub(crate) growth_mib: f64,
    /// Medians of the first and the last third.
    pub(crate) descriptors: (usize, usize),
}

/// Looks at the samples after the warm-up.
pub(crate) fn judge(samples: &[Sample], warm_up: Duration) -> Judgement {
    let samples: Vec<Sample> = samples.iter().copied().filter(|sample| sample.at >= warm_up).collect();
    let count = samples.len().max(1) as f64;
    let x = |sample: &Sample| sample.at.as_secs_f64() / 3600.0;
    let y = |sample: &Sample| sample.memory as f64 / f64::from(1 << 20);
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(&x), mean(&y));
    let spread = samples.iter().map(|sample| (x(sample) - mean_x).powi(2)).sum::<f64>();
    let along = samples.iter().map(|sample| (x(sample) - mean_x) * (y(sample) - mean_y)).sum::<f64>();
    let mib_per_hour = if spread > 0.0 { along / spread } else { 0.0 };
    let hours = samples.last().map_or(0.0, x) - samples.first().map_or(0.0, x);
    let third = samples.len() / 3;
    let median = |part: &[Sample]| {
        let mut counts: Vec<usize> = part.iter().map(|sample| sample.descriptors).collect();
        counts.sort_unstable();
        counts.get(counts.len() / 2).copied().unwrap_or_default()
    };
    let descriptors = (
        median(samples.get(..third).unwrap_or_default()),
        median(samples.get(samples.len() - third..).unwrap_or_default()),
    );
    Judgement { mib_per_hour, growth_mib: mib_per_hour * hours, descriptors }
}
