//! How often a client takes requests back as soon as it has made them, which costs it nothing.

use std::time::Duration;

use tokio::time::Instant;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(30);

/// Fewer than these say nothing: half of a hundred requests, acted on as soon as they are certain, so that no
/// hundred requests go to a provider first.
const TAKEN_BACK_MIN: u32 = 50;

/// Until when it counts as at once.
pub(super) const AT_ONCE: Duration = Duration::from_secs(1);

/// The requests of a window.
#[derive(Debug)]
pub(super) struct Resets {
    since: Instant,
    begun: u32,
    taken_back: u32,
}

impl Resets {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, begun: 0, taken_back: 0 }
    }

    /// A request has come.
    pub(super) fn begun(&mut self, now: Instant) {
        if now.duration_since(self.since) > WINDOW {
            *self = Self::new(now);
        }
        self.begun += 1;
    }

    /// One was taken back at once; says whether it is too often: half of all, and half of a hundred.
    pub(super) fn taken_back(&mut self) -> bool {
        self.taken_back += 1;
        self.taken_back >= TAKEN_BACK_MIN && self.taken_back >= self.begun.div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn half_of_a_hundred_is_too_often_and_a_new_window_begins_anew() {
        let mut resets = Resets::new(Instant::now());
        (0..50).for_each(|_| resets.begun(Instant::now()));
        assert!((0..49).all(|_| !resets.taken_back()), "too few to say");
        assert!(resets.taken_back());
        tokio::time::advance(WINDOW + AT_ONCE).await;
        (0..200).for_each(|_| resets.begun(Instant::now()));
        assert!((0..99).all(|_| !resets.taken_back()), "under a half");
        assert!(resets.taken_back());
    }
}
