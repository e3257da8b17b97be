//! What the program lost that must never be lost in silence: panics, and log lines.
//!
//! They happen where no registry is at hand, as in a panic hook or before anything has started, so
//! they are counted here for the whole process; an export reads them before each snapshot.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Counter, Registry, attribute::Dimension as _, catalog as metric, dimensions::LineDropped};

static PANICS: AtomicU64 = AtomicU64::new(0);
static LINES_DROPPED: [AtomicU64; LineDropped::COUNT] = [const { AtomicU64::new(0) }; LineDropped::COUNT];

/// Counts a panic.
pub fn panicked() {
    PANICS.fetch_add(1, Relaxed);
}

/// Counts log lines that were not written.
pub fn lines_dropped(reason: LineDropped, lines: u64) {
    if let Some(count) = LINES_DROPPED.get(reason.index()) {
        count.fetch_add(lines, Relaxed);
    }
}

/// Handles of the counts in a registry.
#[derive(Debug)]
pub struct Losses {
    panics: Counter,
    lines_dropped: Counter<LineDropped>,
}

impl Losses {
    /// Binds them.
    pub fn bind(registry: &Registry) -> Self {
        Self {
            panics: registry.counter(&metric::PANICS, &[]),
            lines_dropped: registry.counter(&metric::LOG_LINES_DROPPED, &[]),
        }
    }

    /// Copies the counts into the registry.
    pub fn observe(&self) {
        self.panics.observe((), PANICS.load(Relaxed));
        for (reason, count) in LineDropped::ALL.iter().zip(&LINES_DROPPED) {
            self.lines_dropped.observe(*reason, count.load(Relaxed));
        }
    }
}
