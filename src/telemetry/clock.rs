//! The time that exported points carry.
//!
//! Prometheus refuses a whole request when one timestamp is older than the last one it stored, or
//! more than ten minutes ahead of its own clock. A wall clock may be stepped either way: a machine
//! without a battery starts in 1970, one that slept wakes up hours later. So time runs with the
//! monotonic clock and keeps an eye on the wall clock.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How far the wall clock may be ahead before it is followed. Less is what daemons for time slew.
const BEHIND_MAX: u64 = 1_000_000_000;

/// How far time may be ahead of the wall clock and still go on: half of what Prometheus accepts.
const AHEAD_MAX: u64 = 300_000_000_000;

/// What time loses of each second while it is ahead: rates are off by a tenth for that long.
const SLEW: u64 = 10;

/// Two stamps differ by a millisecond at least, which is as fine as Prometheus stores.
const STEP_MIN: u64 = 1_000_000;

/// A wall clock that only goes forward.
#[derive(Debug)]
pub struct Clock {
    anchor: Instant,
    timeline: Mutex<Timeline>,
}

impl Clock {
    /// Begins at the present wall time.
    pub fn start() -> Self {
        Self { anchor: Instant::now(), timeline: Mutex::new(Timeline::new(wall_nanos())) }
    }

    /// Nanoseconds since the Unix epoch; never less than an earlier answer.
    pub fn now_nanos(&self) -> u64 {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        timeline.at(self.anchor.elapsed(), wall_nanos())
    }

    /// As [`Self::now_nanos`], but always later than the stamp before.
    pub fn stamp_nanos(&self) -> u64 {
        let mut timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        timeline.stamp(self.anchor.elapsed(), wall_nanos())
    }
}

/// The rule by which time follows two clocks.
#[derive(Debug)]
pub struct Timeline {
    /// Of the last reading, since the beginning.
    elapsed: u64,
    last: u64,
    last_stamp: u64,
}

impl Timeline {
    /// Begins at this wall time.
    pub fn new(wall_nanos: u64) -> Self {
        Self { elapsed: 0, last: wall_nanos, last_stamp: 0 }
    }

    /// The time when so much has passed since the beginning by the monotonic clock, and the wall
    /// clock shows `wall_nanos`.
    pub fn at(&mut self, elapsed: Duration, wall_nanos: u64) -> u64 {
        let elapsed = saturating_nanos(elapsed).max(self.elapsed);
        let passed = elapsed - self.elapsed;
        let steady = self.last.saturating_add(passed);
        let ahead = steady.saturating_sub(wall_nanos);
        let time = if wall_nanos.saturating_sub(steady) > BEHIND_MAX {
            wall_nanos
        } else if ahead > AHEAD_MAX {
            wall_nanos.saturating_add(AHEAD_MAX)
        } else if ahead > BEHIND_MAX {
            steady - (passed / SLEW).min(ahead)
        } else {
            steady
        };
        self.elapsed = elapsed;
        self.last = time.max(self.last);
        self.last
    }

    /// As [`Self::at`], but always later than the stamp before.
    pub fn stamp(&mut self, elapsed: Duration, wall_nanos: u64) -> u64 {
        let time = self.at(elapsed, wall_nanos);
        self.last = time.max(self.last_stamp.saturating_add(STEP_MIN));
        self.last_stamp = self.last;
        self.last
    }
}

fn wall_nanos() -> u64 {
    saturating_nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Whole nanoseconds of a duration; `u64` holds 584 years of them.
pub fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn time_only_goes_forward_and_never_far_from_the_wall_clock_once_that_goes_on(
            steps in prop::collection::vec((0..100_u64, -4_000..4_000_i64), 1..50),
        ) {
            const SECOND: u64 = 1_000_000_000;
            let (mut elapsed, mut wall) = (0, 1_800_000_000 * SECOND);
            let mut timeline = Timeline::new(wall);
            let mut last = wall - 1;
            for (seconds, step) in steps {
                elapsed += seconds;
                wall = (wall + seconds * SECOND).saturating_add_signed(step * SECOND as i64);
                let time = timeline.stamp(Duration::from_secs(elapsed), wall);
                prop_assert!(time > last && time + BEHIND_MAX >= wall);
                last = time;
            }
            // Whatever happened, a thousand hours later it is right again.
            for _ in 0..3_600 {
                elapsed += 1_000;
                wall += 1_000 * SECOND;
                last = timeline.stamp(Duration::from_secs(elapsed), wall);
            }
            prop_assert!(last.abs_diff(wall) <= BEHIND_MAX);
        }
    }
}
