//! The time that exported points carry.
//!
//! Prometheus refuses a whole request when one timestamp is older than the last one it stored, so
//! wall-clock steps must never show: time is the wall clock at start plus a monotonic duration.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A wall clock that only goes forward.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_nanos: u64,
    anchor: Instant,
}

impl Clock {
    /// Anchors the monotonic clock at the present wall time.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_nanos: saturating_nanos(since_epoch), anchor: Instant::now() }
    }

    /// Nanoseconds since the Unix epoch; never smaller than an earlier answer.
    pub fn now_nanos(&self) -> u64 {
        self.wall_nanos.saturating_add(saturating_nanos(self.anchor.elapsed()))
    }
}

/// Whole nanoseconds of a duration; `u64` holds 584 years of them.
pub fn saturating_nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
