//! One receiver and how it is doing: what was told about it, and when it wants to be left alone.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Bounds, Delivery, Report,
    announce::Announcer,
    answer::Answer,
    explain::{self, Facts},
    instruments::Instruments,
    retry::{self, Delivered},
    send::Receiver,
    source::{Load, Source},
};
use crate::{config, http_client::Pool, telemetry::Snapshot};

/// Age at which the baseline is given up: Prometheus refuses points that are an hour old.
const BASELINE_AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// A receiver with the state of the exports to it.
#[derive(Debug)]
pub(super) struct Destination {
    receiver: Receiver,
    instruments: Instruments,
    announcer: Announcer,
    /// Of one request.
    timeout: Option<Duration>,
    /// A `Retry-After` that reaches beyond the export it answered.
    not_before: Option<Instant>,
    baseline: Option<Baseline>,
    url: Arc<str>,
}

/// The registry as it was before the first request, until the receiver has it.
///
/// Prometheus takes no account of start times: a counter that it first sees at 3 has not increased
/// by 3. So it has to see the zeros, also if it was started after us.
#[derive(Debug)]
struct Baseline {
    load: Load,
    taken: Instant,
}

impl Destination {
    pub(super) fn new(source: &mut Source, settings: &config::Destination) -> Result<Self, String> {
        let receiver = Receiver::new(settings)?;
        let instruments = Instruments::bind(source.registry(), &settings.endpoint);
        instruments.observe();
        Ok(Self {
            receiver,
            instruments,
            baseline: Some(Baseline { load: source.read().load, taken: Instant::now() }),
            announcer: Announcer::default(),
            timeout: settings.timeout,
            not_before: None,
            url: explain::url(&settings.endpoint).into(),
        })
    }

    /// A pool for this receiver. It belongs to one thread.
    pub(super) fn pool(&self) -> Pool {
        self.receiver.pool()
    }

    /// Forgets the pause that the receiver asked for.
    pub(super) fn hold_no_longer(&mut self) {
        self.not_before = None;
    }

    /// Sends what `source` reads, again if need be, and logs what is news.
    pub(super) async fn export(
        &mut self,
        number: u64,
        source: &mut Source,
        pool: &Pool,
        bounds: Bounds<'_>,
    ) -> (Snapshot, Report) {
        let hold = self.not_before.map(|moment| moment.saturating_duration_since(Instant::now()));
        if let Some(hold) = hold.filter(|hold| !hold.is_zero()) {
            self.instruments.observe();
            let reading = source.read();
            let url = Some(Arc::clone(&self.url));
            return (reading.snapshot, Report::new(number, &reading.load, url, Delivery::Held(hold)));
        }
        if let Some(baseline) = self.baseline.take()
            && baseline.taken.elapsed() < BASELINE_AGE_MAX
        {
            let report = self.send_baseline(baseline, number, pool, bounds).await;
            if bounds.is_first || !report.delivery.arrived() {
                return (source.read().snapshot, report);
            }
        }
        // A retry is a new snapshot: old points after newer ones are refused, and it has all they had.
        let fresh = |instruments: &Instruments| {
            instruments.observe();
            let reading = source.read();
            (reading.snapshot, reading.load)
        };
        let (snapshot, report, _) = self.deliver(number, pool, bounds, fresh).await;
        (snapshot, report)
    }

    /// Sends the baseline and keeps it if it may be taken another time. As nothing newer has been
    /// taken, it may be sent again as it is.
    async fn send_baseline(&mut self, baseline: Baseline, number: u64, pool: &Pool, bounds: Bounds<'_>) -> Report {
        let load = baseline.load.clone();
        let ((), report, is_open) = self.deliver(number, pool, bounds, |_| ((), load.clone())).await;
        self.baseline = is_open.then_some(baseline);
        report
    }

    async fn deliver<T>(
        &mut self,
        number: u64,
        pool: &Pool,
        bounds: Bounds<'_>,
        mut next: impl FnMut(&Instruments) -> (T, Load),
    ) -> (T, Report, bool) {
        let started = Instant::now();
        let (receiver, instruments, timeout) = (&self.receiver, &self.instruments, self.timeout);
        let ((sent, load), delivered) = retry::deliver(bounds.retry_until, bounds.hurry, async || {
            let (sent, load) = next(instruments);
            instruments.sending(load.points);
            let left = bounds.end.saturating_duration_since(Instant::now());
            let limit = timeout.map_or(left, |timeout| timeout.min(left));
            let answer = receiver.send(pool, load.body.clone(), limit).await;
            ((sent, load), answer)
        })
        .await;
        let Delivered { answer, attempts, not_before, is_open } = delivered;
        self.not_before = not_before;
        self.instruments.sent(load.points, &answer, started.elapsed());
        let report = Report {
            attempts,
            elapsed: started.elapsed(),
            ..Report::new(number, &load, Some(Arc::clone(&self.url)), self.judge(&answer))
        };
        self.announcer.hear(&report);
        (sent, report, is_open)
    }

    fn judge(&self, answer: &Answer) -> Delivery {
        let facts = Facts {
            endpoint: &self.receiver.endpoint,
            has_credentials: self.receiver.has_credentials,
            gzip: self.receiver.gzip,
            answer,
        };
        match (answer, answer.error_type()) {
            (Answer::Partial { rejected, .. }, _) => {
                let (case, sentence) = explain::explain(&facts);
                Delivery::Partial { rejected: *rejected, case, sentence }
            }
            (_, Some(error)) => {
                let (case, sentence) = explain::explain(&facts);
                Delivery::Failed { error, case, sentence }
            }
            (_, None) => Delivery::Accepted,
        }
    }
}

impl Report {
    pub(super) fn new(number: u64, load: &Load, url: Option<Arc<str>>, delivery: Delivery) -> Self {
        Self {
            number,
            points: load.points,
            bytes: load.body.len(),
            attempts: 0,
            elapsed: Duration::ZERO,
            url,
            delivery,
        }
    }
}
