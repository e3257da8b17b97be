//! Sends the registry's numbers to an OTLP receiver, at an interval, for as long as the process lives.
//!
//! Owns the background task: when an export starts, what is in it, that it ends, and what the
//! operator is told. Counts nothing of the gateway's (`telemetry` does) and touches no request: a
//! receiver in trouble costs a log line and this task's time.
//!
//! An export is a fresh snapshot under one timestamp that is later than any before it; the very first
//! one is of the time before the first request, so that receivers see every series at 0. At most one
//! is under way; an export that takes longer than the interval skips ticks instead of queueing them.

mod announce;
mod answer;
mod destination;
mod explain;
mod instruments;
mod process;
mod redact;
mod retry;
mod send;
mod source;
pub mod table;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

pub use answer::ErrorType;

use self::{destination::Destination, source::Source};
use crate::{
    config::Telemetry,
    http_client::Pool,
    telemetry::{Registry, Snapshot},
};

/// The longest that the last export may hold up the end of the process.
const LAST_EXPORT_MAX: Duration = Duration::from_secs(5);

/// The background task and what it needs.
#[derive(Debug)]
pub struct Exporter {
    source: Source,
    destination: Option<Destination>,
    interval: Duration,
    /// One export with its retries.
    timeout: Duration,
    exports: u64,
}

/// How one export went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Counts exports from 1.
    pub number: u64,
    pub points: usize,
    /// Size of the snapshot in protobuf, before compression.
    pub bytes: usize,
    /// Requests that were sent.
    pub attempts: u32,
    pub elapsed: Duration,
    /// Where it went, without a query; `None` when no receiver is configured.
    pub url: Option<Arc<str>>,
    pub delivery: Delivery,
}

/// What became of the points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// No receiver is configured.
    Off,
    /// Not sent: the receiver asked for a pause that has this long to go.
    Held(Duration),
    Accepted,
    /// Accepted with a remark, or without `rejected` of the points.
    Partial {
        rejected: u64,
        case: &'static str,
        sentence: String,
    },
    /// `sentence` says what came back and what to change; `case` names the row it is from.
    Failed {
        error: ErrorType,
        case: &'static str,
        sentence: String,
    },
}

impl Delivery {
    /// Whether the receiver took the export, or there is none.
    fn arrived(&self) -> bool {
        match self {
            Self::Off | Self::Accepted | Self::Partial { .. } => true,
            Self::Held(_) | Self::Failed { .. } => false,
        }
    }
}

/// How long an export may take.
#[derive(Debug, Clone, Copy)]
struct Bounds<'a> {
    /// It is the first of the process, and over when the baseline is there.
    is_first: bool,
    /// No retry starts at or after it.
    retry_until: Instant,
    /// The export is over at this time, whatever happens.
    end: Instant,
    /// Ends a pause before a retry, and with it the export.
    hurry: &'a Notify,
}

impl Exporter {
    /// Prepares the exports that `telemetry` describes, or says what cannot work.
    ///
    /// What is in the registry now is what receivers see first: this is called when every handle is
    /// bound and no request has been served.
    pub fn new(registry: Arc<Registry>, telemetry: &Telemetry) -> Result<Self, String> {
        let mut source = Source::new(registry, telemetry);
        let settings = telemetry.destinations.first();
        let destination = match settings {
            Some(settings) => Some(Destination::new(&mut source, settings)?),
            None => None,
        };
        // An interval of zero would be a busy loop.
        let interval = settings.map_or(telemetry.interval, |settings| settings.interval).max(Duration::from_millis(1));
        let timeout = settings.and_then(|settings| settings.export_timeout).unwrap_or(interval);
        Ok(Self { source, destination, interval, timeout, exports: 0 })
    }

    /// Exports at once, then at every interval, from start to start, until `shutdown`, and then once
    /// more.
    ///
    /// The first export carries the registry as [`Self::new`] found it: whoever starts a gateway
    /// learns at once whether its metrics arrive, and `increase()` sees the first request.
    /// Every snapshot is shown to `observe`, also when there is nowhere to send it. Needs a
    /// `LocalSet`. Returns at most 5 s after `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>, mut observe: impl FnMut(&Snapshot, &Report)) {
        let pool = self.pool();
        let (interval, last_export) = (self.interval, LAST_EXPORT_MAX.min(self.timeout));
        let mut shutdown = pin!(shutdown);
        let mut due = Instant::now();
        let mut arrived = true;
        let hurry = Notify::new();
        let end = loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break Instant::now() + last_export,
                () = sleep_until(due) => {}
            }
            let is_first = self.exports == 0;
            let bounds =
                Bounds { is_first, retry_until: due + interval, end: Instant::now() + self.timeout, hurry: &hurry };
            let mut export = pin!(self.export(&pool, bounds));
            let (done, end) = tokio::select! {
                biased;
                done = &mut export => (Some(done), None),
                () = &mut shutdown => {
                    // What is under way gets half of the time that is left: sent beside it, the
                    // last export could overtake it.
                    let end = Instant::now() + last_export;
                    hurry.notify_one();
                    (timeout_at(end - last_export / 2, export).await.ok(), Some(end))
                }
            };
            arrived = done.as_ref().is_some_and(|(_, report)| report.delivery.arrived());
            if let Some((snapshot, report)) = done {
                observe(&snapshot, &report);
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
        let (snapshot, report) =
            self.export(&pool, Bounds { is_first: false, retry_until, end, hurry: &Notify::new() }).await;
        observe(&snapshot, &report);
    }

    /// Exports once, in a single request, as `tollgate check --otlp` does. Needs a `LocalSet`.
    pub async fn once(mut self) -> (Snapshot, Report) {
        let pool = self.pool();
        let now = Instant::now();
        let bounds = Bounds { is_first: true, retry_until: now, end: now + self.timeout, hurry: &Notify::new() };
        self.export(&pool, bounds).await
    }

    fn pool(&self) -> Pool {
        self.destination.as_ref().map_or_else(|| Pool::new(None), Destination::pool)
    }

    async fn export(&mut self, pool: &Pool, bounds: Bounds<'_>) -> (Snapshot, Report) {
        self.exports += 1;
        if let Some(destination) = &mut self.destination {
            return destination.export(self.exports, &mut self.source, pool, bounds).await;
        }
        let reading = self.source.read();
        let report = Report::new(self.exports, &reading.load, None, Delivery::Off);
        (reading.snapshot, report)
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
    use std::cell::RefCell;

    use super::*;
    use crate::telemetry::Aggregations;

    fn telemetry(interval: Duration) -> Telemetry {
        Telemetry {
            destinations: Vec::new(),
            console: false,
            prometheus: false,
            interval,
            aggregations: Aggregations::default(),
            resource: Vec::new(),
        }
    }

    /// When each export started, for a process that lives this long.
    async fn starts(interval: Duration, lifetime: Duration) -> Vec<Duration> {
        let exporter = Exporter::new(Registry::new(), &telemetry(interval)).unwrap();
        let start = Instant::now();
        let starts = RefCell::default();
        let observe = |_: &_, _: &_| Vec::push(&mut starts.borrow_mut(), start.elapsed());
        exporter.run(tokio::time::sleep(lifetime), observe).await;
        starts.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn exports_start_at_once_then_at_every_interval_and_at_the_end() {
        let seconds =
            |starts: Vec<Duration>| starts.iter().map(|start| start.as_secs_f64().round()).collect::<Vec<_>>();
        let long = starts(Duration::from_secs(15), Duration::from_secs(40)).await;
        assert_eq!(seconds(long), [0.0, 15.0, 30.0, 40.0]);
        let at_once = starts(Duration::from_secs(15), Duration::ZERO).await;
        assert_eq!(seconds(at_once), [0.0]);
        let short = starts(Duration::from_millis(250), Duration::from_millis(1_100)).await;
        assert_eq!(short.len(), 6);
    }

    #[test]
    fn a_late_export_skips_the_ticks_it_missed() {
        let due = Instant::now();
        let interval = Duration::from_secs(15);
        let next = |late: u64| (next_tick(due, interval, due + Duration::from_secs(late)) - due).as_secs();
        assert_eq!([next(0), next(14), next(15), next(44), next(46)], [15, 15, 30, 45, 60]);
    }

    #[test]
    fn timestamps_are_a_millisecond_apart_at_least() {
        let mut source = Source::new(Registry::new(), &telemetry(Duration::from_secs(15)));
        let mut last = 0;
        for _ in 0..100 {
            let time = source.read().snapshot.time_nanos;
            assert!(time >= last + 1_000_000, "{time} after {last}");
            last = time;
        }
    }
}
