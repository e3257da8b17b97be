//! When exports start and that they end: the life of one receiver's exports.
//!
//! Each receiver has a driver of its own, so that one in trouble never delays another.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Bounds, Delivery, Receiver, Report, destination::Destination, source::Source};
use crate::http_client::{Pool, TlsFiles};

/// The longest that the last export may hold up the end of the process.
const LAST_EXPORT_MAX: Duration = Duration::from_secs(5);

/// Exports to one receiver, or to nobody at the same pace.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) source: Source,
    pub(super) destination: Option<Destination>,
    /// Hears what came of every export.
    pub(super) receiver: Option<Arc<Receiver>>,
    /// From the start of one export to the start of the next.
    interval: Duration,
    /// One export with its retries.
    timeout: Duration,
    exports: u64,
}

impl Driver {
    pub(super) fn new(
        source: Source,
        destination: Option<Destination>,
        interval: Duration,
        timeout: Option<Duration>,
    ) -> Self {
        // An interval of zero would be a busy loop.
        let interval = interval.max(Duration::from_millis(1));
        Self { source, destination, receiver: None, interval, timeout: timeout.unwrap_or(interval), exports: 0 }
    }

    /// Exports at once, then at every interval, from start to start, until `stop`, and then once
    /// more.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>, mut observe: impl FnMut(&Report)) {
        let pool = self.pool();
        let (interval, last_export) = (self.interval, LAST_EXPORT_MAX.min(self.timeout));
        // A sender that is gone stops it as well.
        let mut stop = pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        let mut due = Instant::now();
        let receiver = self.receiver.clone();
        let mut arrived = true;
        let hurry = Notify::new();
        let end = loop {
            tokio::select! {
                biased;
                () = &mut stop => break Instant::now() + last_export,
                () = sleep_until(due) => {}
            }
            let is_first = self.exports == 0;
            let bounds =
                Bounds { is_first, retry_until: due + interval, end: Instant::now() + self.timeout, hurry: &hurry };
            let mut export = pin!(self.export(&pool, bounds));
            let (done, end) = tokio::select! {
                biased;
                done = &mut export => (Some(done), None),
                () = &mut stop => {
                    // What is under way gets half of the time that is left: sent beside it, the
                    // last export could overtake it.
                    let end = Instant::now() + last_export;
                    hurry.notify_one();
                    (timeout_at(end - last_export / 2, export).await.ok(), Some(end))
                }
            };
            arrived = done.as_ref().is_some_and(|report| report.delivery.arrived());
            if let Some(receiver) = &receiver {
                receiver.hear(arrived);
            }
            if let Some(report) = done {
                observe(&report);
            }
            if let Some(end) = end {
                break end;
            }
            due = next_tick(due, interval, Instant::now());
        };
        if let Some(destination) = &mut self.destination {
            // A pause that the receiver asked for ends here: there is no later.
            destination.hold_no_longer();
        }
        // A receiver that was dead before gets one chance: nobody waits for a process to end in vain.
        let retry_until = if arrived { end } else { Instant::now() };
        let bounds = Bounds { is_first: false, retry_until, end, hurry: &Notify::new() };
        let report = self.export(&pool, bounds).await;
        observe(&report);
    }

    /// Exports once, in a single try.
    pub(super) async fn once(mut self) -> Report {
        let pool = self.pool();
        let now = Instant::now();
        let bounds = Bounds { is_first: true, retry_until: now, end: now + self.timeout, hurry: &Notify::new() };
        self.export(&pool, bounds).await
    }

    fn pool(&self) -> Pool {
        self.destination.as_ref().map_or_else(|| Pool::new(TlsFiles::default()), Destination::pool)
    }

    async fn export(&mut self, pool: &Pool, bounds: Bounds<'_>) -> Report {
        self.exports += 1;
        match &mut self.destination {
            Some(destination) => destination.export(self.exports, &mut self.source, pool, bounds).await,
            None => {
                // Read all the same: process numbers are for those who look at the registry now.
                let (snapshot, _) = self.source.read();
                Report { points: snapshot.points(), ..Report::new(self.exports, None, Delivery::Off) }
            }
        }
    }
}

/// The first tick after `now`. Ticks that passed meanwhile are skipped: an export that was late
/// has what they would have had. (tokio's `Interval` would catch up with one of them at once.)
fn next_tick(due: Instant, interval: Duration, now: Instant) -> Instant {
    let passed = now.saturating_duration_since(due).as_nanos() / interval.as_nanos().max(1);
    due + interval.saturating_mul(u32::try_from(passed + 1).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_export_skips_the_ticks_it_missed() {
        let due = Instant::now();
        let interval = Duration::from_secs(15);
        let next = |late: u64| (next_tick(due, interval, due + Duration::from_secs(late)) - due).as_secs();
        assert_eq!([next(0), next(14), next(15), next(44), next(46)], [15, 15, 30, 45, 60]);
    }
}
