//! Sends the registry's numbers to an OTLP receiver, at an interval, for as long as the process lives.
//!
//! Owns the background task: when an export starts, what is in it, that it ends, and what the
//! operator is told. Counts nothing of the gateway's (`telemetry` does) and touches no request: a
//! receiver in trouble costs a log line and this task's time.
//!
//! An export is a fresh snapshot under one timestamp that is later than any before it. At most one
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

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

pub use answer::ErrorType;

use self::{destination::Destination, source::Source};
use crate::{
    config::Telemetry,
    http_client::Pool,
    telemetry::{Registry, Snapshot},
};

/// The first export comes this early: whoever starts a gateway learns within a second whether its
/// metrics arrive, and receivers see the series at 0 before the first requests count, which
/// `increase()` needs.
const FIRST_EXPORT: Duration = Duration::from_secs(1);

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

/// How long an export may take.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// No retry starts at or after it.
    retry_until: Instant,
    /// The export is over at this time, whatever happens.
    end: Instant,
}

impl Exporter {
    /// Prepares the exports that `telemetry` describes, or says what cannot work.
    pub fn new(registry: Arc<Registry>, telemetry: &Telemetry) -> Result<Self, String> {
        let source = Source::new(registry, telemetry);
        let destination = match &telemetry.endpoint {
            Some(endpoint) => Some(Destination::new(&source, telemetry, endpoint)?),
            None => None,
        };
        // An interval of zero would be a busy loop.
        let interval = telemetry.interval.max(Duration::from_millis(1));
        let timeout = telemetry.export_timeout.unwrap_or(interval);
        Ok(Self { source, destination, interval, timeout, exports: 0 })
    }

    /// Exports at every interval, from start to start, until `shutdown`, and then once more.
    ///
    /// Every snapshot is shown to `observe`, also when there is nowhere to send it. Needs a
    /// `LocalSet`. Returns at most 5 s after `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>, mut observe: impl FnMut(&Snapshot, &Report)) {
        let pool = self.pool();
        let last_export = LAST_EXPORT_MAX.min(self.timeout);
        let mut shutdown = pin!(shutdown);
        let mut ticks = interval_at(Instant::now() + self.interval.min(FIRST_EXPORT), self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = loop {
            let due = tokio::select! {
                biased;
                () = &mut shutdown => break Instant::now() + last_export,
                due = ticks.tick() => due,
            };
            let bounds = Bounds { retry_until: due + self.interval, end: Instant::now() + self.timeout };
            let mut export = pin!(self.export(&pool, bounds));
            let (done, end) = tokio::select! {
                biased;
                done = &mut export => (Some(done), None),
                () = &mut shutdown => {
                    // What is under way gets half of the time that is left: sent beside it, the
                    // last export could overtake it.
                    let end = Instant::now() + last_export;
                    (timeout_at(end - last_export / 2, export).await.ok(), Some(end))
                }
            };
            if let Some((snapshot, report)) = done {
                observe(&snapshot, &report);
            }
            if let Some(end) = end {
                break end;
            }
        };
        if let Some(destination) = &mut self.destination {
            // A pause that the receiver asked for ends here: there is no later.
            destination.hold_no_longer();
        }
        let (snapshot, report) = self.export(&pool, Bounds { retry_until: end, end }).await;
        observe(&snapshot, &report);
    }

    /// Exports once, in a single request, as `tollgate check --otlp` does. Needs a `LocalSet`.
    pub async fn once(mut self) -> (Snapshot, Report) {
        let pool = self.pool();
        let now = Instant::now();
        self.export(&pool, Bounds { retry_until: now, end: now + self.timeout }).await
    }

    fn pool(&self) -> Pool {
        self.destination.as_ref().map_or_else(|| Pool::new(None), Destination::pool)
    }

    async fn export(&mut self, pool: &Pool, bounds: Bounds) -> (Snapshot, Report) {
        self.exports += 1;
        if let Some(destination) = &mut self.destination {
            return destination.export(self.exports, &mut self.source, pool, bounds).await;
        }
        let reading = self.source.read();
        let report = Report::new(self.exports, &reading, None, Delivery::Off);
        (reading.snapshot, report)
    }
}
