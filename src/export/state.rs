//! How the exports to each receiver go, for whoever asks while they do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::explain;
use crate::config;

/// The receivers of this process, in the order of the configuration.
#[derive(Debug, Clone, Default)]
pub struct State {
    receivers: Vec<Arc<Receiver>>,
}

/// One receiver, and what came of the last export to it.
#[derive(Debug)]
pub struct Receiver {
    pub name: String,
    /// Without a query, which may be a secret.
    pub url: Arc<str>,
    /// When it last took an export, in seconds since 1970; 0: not yet.
    taken_at: AtomicU64,
    /// Since when it has taken none; 0: it took the last one.
    failing_since: AtomicU64,
}

impl State {
    pub(super) fn of(destinations: &[config::Destination]) -> Self {
        let receivers = destinations.iter().map(|destination| {
            Arc::new(Receiver {
                name: destination.name.clone(),
                url: explain::url(&destination.endpoint, destination.protocol).into(),
                taken_at: AtomicU64::new(0),
                failing_since: AtomicU64::new(0),
            })
        });
        Self { receivers: receivers.collect() }
    }

    /// Every receiver.
    pub fn receivers(&self) -> &[Arc<Receiver>] {
        &self.receivers
    }
}

impl Receiver {
    /// An export is over, and was taken or not.
    pub(super) fn hear(&self, was_taken: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        if was_taken {
            self.taken_at.store(now, Relaxed);
            self.failing_since.store(0, Relaxed);
        } else if self.failing_since.load(Relaxed) == 0 {
            self.failing_since.store(now, Relaxed);
        }
    }

    /// When it last took an export.
    pub fn taken_at(&self) -> Option<SystemTime> {
        time(&self.taken_at)
    }

    /// Since when it has taken none, if it did not take the last one.
    pub fn failing_since(&self) -> Option<SystemTime> {
        time(&self.failing_since)
    }
}

fn time(seconds: &AtomicU64) -> Option<SystemTime> {
    let seconds = seconds.load(Relaxed);
    (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_dated_from_the_first_of_its_row() {
        let receiver = Receiver {
            name: "otlp".into(),
            url: "http://p".into(),
            taken_at: AtomicU64::new(0),
            failing_since: AtomicU64::new(7),
        };
        receiver.hear(false);
        assert_eq!((receiver.taken_at(), receiver.failing_since()), (None, Some(UNIX_EPOCH + Duration::from_secs(7))));
        receiver.hear(true);
        assert_eq!((receiver.taken_at().is_some(), receiver.failing_since()), (true, None));
        receiver.hear(false);
        assert!(receiver.failing_since() >= receiver.taken_at());
    }
}
