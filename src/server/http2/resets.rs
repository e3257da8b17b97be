//! How often a client takes requests back as soon as it has made them, which costs it nothing, and what it may
//! have under way for that.

use std::{cell::Cell, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::config;

/// As many turns as there may be streams, and no fewer than leave some for requests that are not taken back.
const TURNS_MIN: usize = 64;

/// Until when it counts as at once.
pub(super) const AT_ONCE: Duration = Duration::from_secs(1);

/// The requests of a window, and whose turn it is. A request that is taken back leaves its work behind it: its turn
/// is spent for the rest of the window, so that requests under way and those that were taken back are no more
/// than this together.
#[derive(Debug)]
pub(super) struct Resets {
    /// What is counted together.
    window: Duration,
    /// Fewer than these say nothing.
    taken_back_min: usize,
    since: Cell<Instant>,
    free: Semaphore,
    begun: Cell<usize>,
    taken_back: Cell<usize>,
    spent: Cell<usize>,
}

impl Resets {
    pub(super) fn new(settings: &config::Http2, now: Instant) -> Self {
        Self {
            window: settings.reset_window,
            taken_back_min: settings.max_resets,
            since: Cell::new(now),
            free: Semaphore::new(TURNS_MIN.max(settings.max_streams as usize)),
            begun: Cell::new(0),
            taken_back: Cell::new(0),
            spent: Cell::new(0),
        }
    }

    /// Begins a new window when it is time.
    pub(super) fn renew(&self, now: Instant) {
        if now.duration_since(self.since.get()) >= self.window {
            self.since.set(now);
            self.begun.set(0);
            self.taken_back.set(0);
            self.free.add_permits(self.spent.take());
        }
    }

    /// When somebody may have waited for a new window.
    pub(super) fn awaited_at(&self) -> Option<Instant> {
        (self.spent.get() > 0).then(|| self.since.get() + self.window)
    }

    /// Waits for a request's turn, which is at once unless many were spent.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.free.acquire().await.ok();
        self.begun.set(self.begun.get() + 1);
        turn
    }

    /// Not all of them: who takes back less than half of its requests has the others served.
    pub(super) fn spend(&self, turn: Option<SemaphorePermit<'_>>) {
        if let Some(turn) = turn
            && self.spent.get() + 1 < self.taken_back_min
        {
            turn.forget();
            self.spent.set(self.spent.get() + 1);
        }
    }

    /// One was taken back at once; says whether it is too often: half of all that had their turn, and half of a
    /// hundred.
    pub(super) fn taken_back(&self) -> bool {
        let taken_back = self.taken_back.get() + 1;
        self.taken_back.set(taken_back);
        taken_back >= self.taken_back_min && taken_back >= self.begun.get().div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    fn resets(max_streams: u32) -> Resets {
        let toml = format!(
            "[server.http2]\nmax_streams = {max_streams}\n[providers.p]\nkind = \"echo\"\n\
                    [models.m]\ndeployments = [{{ provider = \"p\" }}]\n[[keys]]\nname = \"k\"\nkey = \"tg-0123456789abcdefghij\"\n"
        );
        let loaded = config::Config::parse(std::path::Path::new("t.toml"), &toml, &config::Environment::default());
        Resets::new(&loaded.unwrap().config.server.http2, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_a_hundred_is_too_often_and_a_new_window_begins_anew() {
        let resets = resets(64);
        for _ in 0..50 {
            resets.turn().await;
        }
        assert!((0..49).all(|_| !resets.taken_back()), "too few to say");
        assert!(resets.taken_back());
        tokio::time::advance(WINDOW).await;
        resets.renew(Instant::now());
        for _ in 0..200 {
            resets.turn().await;
        }
        assert!((0..99).all(|_| !resets.taken_back()), "under a half");
        assert!(resets.taken_back());
    }

    #[tokio::test(start_paused = true)]
    async fn turns_that_are_spent_are_there_again_in_the_next_window_and_some_always_are() {
        let resets = resets(2);
        assert_eq!(resets.awaited_at(), None);
        for _ in 0..2 * TURNS_MIN {
            resets.spend(resets.turn().await);
        }
        let mut taken = Vec::new();
        for _ in 0..TURNS_MIN - 49 {
            taken.push(resets.turn().await);
        }
        assert!(tokio::time::timeout(WINDOW, resets.turn()).await.is_err());
        assert_eq!(resets.awaited_at(), Some(Instant::now()));
        resets.renew(Instant::now());
        assert_eq!(resets.awaited_at(), None);
        for _ in 0..49 {
            taken.push(resets.turn().await);
        }
        assert!(tokio::time::timeout(WINDOW, resets.turn()).await.is_err());
    }
}
