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
    source::{Reading, Source},
};
use crate::{
    config::{OtlpEndpoint, Telemetry},
    http_client::Pool,
    telemetry::Snapshot,
};

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
    url: Arc<str>,
}

impl Destination {
    pub(super) fn new(source: &Source, telemetry: &Telemetry, endpoint: &OtlpEndpoint) -> Result<Self, String> {
        Ok(Self {
            receiver: Receiver::new(telemetry, endpoint)?,
            instruments: Instruments::bind(source.registry(), endpoint),
            announcer: Announcer::default(),
            timeout: telemetry.timeout,
            not_before: None,
            url: explain::url(endpoint).into(),
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
        let started = Instant::now();
        let hold = self.not_before.map(|moment| moment.saturating_duration_since(started));
        if let Some(hold) = hold.filter(|hold| !hold.is_zero()) {
            self.instruments.observe();
            let reading = source.read();
            let report = Report::new(number, &reading, Some(Arc::clone(&self.url)), Delivery::Held(hold));
            return (reading.snapshot, report);
        }
        let (receiver, instruments, timeout) = (&self.receiver, &self.instruments, self.timeout);
        let (reading, delivered) = retry::deliver(bounds.retry_until, bounds.hurry, async || {
            instruments.observe();
            let reading = source.read();
            instruments.sending(reading.snapshot.points());
            let left = bounds.end.saturating_duration_since(Instant::now());
            let limit = timeout.map_or(left, |timeout| timeout.min(left));
            let answer = receiver.send(pool, &reading.body, limit).await;
            (reading, answer)
        })
        .await;
        let Delivered { answer, attempts, not_before } = delivered;
        self.not_before = not_before;
        self.instruments.sent(reading.snapshot.points(), &answer, started.elapsed());
        let delivery = self.judge(&answer);
        let report = Report {
            attempts,
            elapsed: started.elapsed(),
            ..Report::new(number, &reading, Some(Arc::clone(&self.url)), delivery)
        };
        self.announcer.hear(&report);
        (reading.snapshot, report)
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
    pub(super) fn new(number: u64, reading: &Reading, url: Option<Arc<str>>, delivery: Delivery) -> Self {
        Self {
            number,
            points: reading.snapshot.points(),
            bytes: reading.body.len(),
            attempts: 0,
            elapsed: Duration::ZERO,
            url,
            delivery,
        }
    }
}
