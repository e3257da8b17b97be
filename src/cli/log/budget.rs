//! How many lines a second are written: all up to a limit, and a sample of what is beyond it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// Of the lines beyond the limit one in so many is written.
const SAMPLE: u64 = 100;
/// The part of the limit that is kept for warnings and errors, so that a flood of other lines leaves
/// room for them.
const RESERVED: u64 = 10;

/// Bits of each of the two counts below.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// The limit, and what of it the second under way has used.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u64,
    started: Instant,
    /// One number, so that no lock is needed: the second, the lines written in it, and those beyond.
    window: AtomicU64,
}

impl Budget {
    /// Of at most `COUNT_MAX` lines a second.
    pub(super) fn new(per_second: usize, now: Instant) -> Self {
        Self { per_second: (per_second as u64).min(COUNT_MAX), started: now, window: AtomicU64::new(0) }
    }

    /// Whether a line is written that comes now.
    pub(super) fn takes(&self, now: Instant, is_warning: bool) -> bool {
        // That it begins anew after half a year does no harm.
        let second = now.saturating_duration_since(self.started).as_secs() & ((1 << 24) - 1);
        let limit = if is_warning { self.per_second } else { self.per_second - self.per_second / RESERVED };
        let mut window = self.window.load(Relaxed);
        loop {
            let (mut written, mut beyond) = match window >> (2 * COUNT_BITS) == second {
                true => (window >> COUNT_BITS & COUNT_MAX, window & COUNT_MAX),
                false => (0, 0),
            };
            let takes = if written < limit {
                written += 1;
                true
            } else {
                beyond = (beyond + 1) & COUNT_MAX;
                beyond % SAMPLE == 0
            };
            let next = second << (2 * COUNT_BITS) | written << COUNT_BITS | beyond;
            match self.window.compare_exchange_weak(window, next, Relaxed, Relaxed) {
                Ok(_) => return takes,
                Err(other) => window = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn taken(budget: &Budget, at: Instant, is_warning: bool, lines: usize) -> usize {
        (0..lines).filter(|_| budget.takes(at, is_warning)).count()
    }

    #[test]
    fn lines_beyond_the_limit_are_sampled_until_the_next_second() {
        let start = Instant::now();
        let budget = Budget::new(1000, start);
        assert_eq!(taken(&budget, start, false, 899), 899);
        assert_eq!(taken(&budget, start + Duration::from_millis(999), false, 1), 1);
        assert_eq!(taken(&budget, start + Duration::from_millis(999), false, 1000), 10);
        // Nothing of the reserve is gone.
        assert_eq!(taken(&budget, start + Duration::from_millis(999), true, 100), 100);
        assert_eq!(taken(&budget, start + Duration::from_millis(999), true, 99), 0);
        assert_eq!(taken(&budget, start + Duration::from_millis(999), true, 1), 1);
        assert_eq!(taken(&budget, start + Duration::from_secs(1), true, 2000), 1010);
        assert_eq!(taken(&budget, start + Duration::from_secs(1), false, 100), 1);
    }

    #[test]
    fn threads_together_have_one_limit() {
        let start = Instant::now();
        let budget = Budget::new(50_000, start);
        let sum: usize = std::thread::scope(|scope| {
            let threads = [0; 4].map(|_| scope.spawn(|| taken(&budget, start, true, 20_000)));
            threads.map(|thread| thread.join().unwrap_or_default()).into_iter().sum()
        });
        assert_eq!(sum, 50_000 + 30_000 / 100);
    }
}
