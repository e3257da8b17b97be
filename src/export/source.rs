//! Where an export's content comes from: a fresh snapshot under a time of its own.
//!
//! Owns the promise that timestamps only go forward.

use std::sync::Arc;

use super::process::Process;
use crate::telemetry::{
    Registry, Snapshot,
    registry::{Cursor, EndedSeries},
};

/// Prometheus keeps milliseconds and refuses two values under one timestamp, so exports are at
/// least this far apart.
const STEP_NANOS: u64 = 1_000_000;

/// Takes readings of a registry, for one receiver.
#[derive(Debug)]
pub(super) struct Source {
    registry: Arc<Registry>,
    process: Process,
    cursor: Cursor,
    last_nanos: u64,
}

impl Source {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        let process = Process::bind(&registry);
        let cursor = registry.cursor();
        Self { registry, process, cursor, last_nanos: 0 }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Reads everything as it is now, under a timestamp later than any before, and what has ended
    /// since the last reading.
    pub(super) fn read(&mut self) -> (Snapshot, Vec<EndedSeries>) {
        self.process.observe();
        let (mut snapshot, ended) = self.registry.read(&mut self.cursor);
        snapshot.time_nanos = snapshot.time_nanos.max(self.last_nanos.saturating_add(STEP_NANOS));
        self.last_nanos = snapshot.time_nanos;
        (snapshot, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_a_millisecond_apart_at_least() {
        let mut source = Source::new(Registry::new());
        let mut last = 0;
        for _ in 0..100 {
            let time = source.read().0.time_nanos;
            assert!(time >= last + STEP_NANOS, "{time} after {last}");
            last = time;
        }
    }
}
