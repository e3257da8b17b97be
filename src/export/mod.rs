//! Sends the registry's numbers to OTLP receivers, at an interval, for as long as the process lives.
//!
//! Owns the background task: when an export starts, what is in it, that it ends, and what the
//! operator is told. Counts nothing of the gateway's (`telemetry` does) and touches no request: a
//! receiver in trouble costs a log line and this task's time.
//!
//! An export is a fresh snapshot under one timestamp that is later than any before it; the very first
//! one is of the time before the first request, so that receivers see every series at 0. At most one
//! per receiver is under way; one that takes longer than the interval skips ticks instead of queueing
//! them.

mod announce;
mod answer;
mod batch;
mod destination;
mod driver;
mod explain;
mod grpc;
mod headers;
mod instruments;
mod process;
mod progress;
mod redact;
mod retry;
mod scrape;
mod send;
mod source;
mod state;
pub mod table;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub use answer::ErrorType;
pub use scrape::Scrape;
pub use state::{Receiver, State};

use self::{destination::Destination, driver::Driver, source::Source};
use crate::{config::Telemetry, telemetry::Registry};

/// The background task and what it needs.
#[derive(Debug)]
pub struct Exporter {
    registry: Arc<Registry>,
    drivers: Vec<Driver>,
    state: State,
}

/// How one export went.
#[derive(Debug, Clone)]
pub struct Report {
    /// Counts exports from 1.
    pub number: u64,
    pub points: usize,
    /// Size of what was sent, before compression.
    pub bytes: usize,
    /// Requests that were sent.
    pub attempts: u32,
    pub elapsed: Duration,
    /// Where it went, without a query; `None` for the pace of what is not sent.
    pub url: Option<Arc<str>>,
    pub delivery: Delivery,
}

/// What became of the points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// There is nowhere to send it, or it is the console's.
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
        let resource: Arc<[(String, String)]> = telemetry.resource.as_slice().into();
        let state = State::of(&telemetry.destinations);
        let mut drivers = Vec::with_capacity(telemetry.destinations.len() + 1);
        for (number, settings) in telemetry.destinations.iter().enumerate() {
            let mut source = Source::new(Arc::clone(&registry));
            let destination = Destination::new(&mut source, settings, &resource, number)?;
            let mut driver = Driver::new(source, Some(destination), settings.interval, settings.export_timeout);
            driver.receiver = state.receivers().get(number).cloned();
            drivers.push(driver);
        }
        if telemetry.console || drivers.is_empty() {
            drivers.push(Driver::new(Source::new(Arc::clone(&registry)), None, telemetry.interval, None));
        }
        Ok(Self { registry, drivers, state })
    }

    /// How the exports go, while they do.
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Exports at once, then at every interval, from start to start, until `shutdown`, and then once
    /// more.
    ///
    /// The first export carries the registry as [`Self::new`] found it: whoever starts a gateway
    /// learns at once whether its metrics arrive, and `increase()` sees the first request.
    /// Every export is shown to `observe`, also at the pace of one that goes nowhere. Needs a
    /// `LocalSet`. Returns at most 5 s after `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>, observe: impl FnMut(&Registry, &Report)) {
        let Self { registry, drivers, .. } = self;
        let observe = RefCell::new(observe);
        let (stop, stopped) = watch::channel(false);
        let drivers = drivers.into_iter().map(|driver| {
            let (observe, registry, stopped) = (&observe, &registry, stopped.clone());
            driver.run(stopped, move |report| (observe.borrow_mut())(registry, report))
        });
        let mut exports = pin!(all(drivers));
        let mut shutdown = pin!(shutdown);
        tokio::select! {
            biased;
            () = &mut shutdown => {}
            _ = &mut exports => return,
        }
        stop.send_replace(true);
        exports.await;
    }

    /// Exports once to each receiver, in a single try, as `tollgate check --otlp` does. Needs a
    /// `LocalSet`.
    pub async fn once(self) -> Vec<Report> {
        all(self.drivers.into_iter().map(Driver::once)).await
    }
}

/// What all of these come to, side by side, in their order.
async fn all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<(Pin<Box<_>>, Option<T>)> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        let mut is_done = true;
        for (future, output) in waiting.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(cx) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Aggregations;

    fn telemetry(interval: Duration) -> Telemetry {
        Telemetry {
            destinations: Vec::new(),
            console: false,
            prometheus: false,
            interval,
            aggregations: Aggregations::default(),
            max_series: 2_000,
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
}
