//! One receiver and how it is doing: what it has taken, and when it wants to be left alone.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Bounds, Delivery, Report,
    announce::Announcer,
    answer::{Answer, ErrorType, Failure},
    batch::Batch,
    explain,
    grpc::Code,
    instruments::Instruments,
    progress::Progress,
    retry::{self, Delivered},
    send::Receiver,
    source::Source,
};
use crate::{
    config::{self, Protocol},
    http_client::Pool,
    telemetry::Temporality,
};

/// Age at which a batch is given up: Prometheus refuses points that are an hour old.
const BATCH_AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// How long a batch that may have been taken is offered to a receiver that refuses what is in it.
const REFUSED_AGE_MAX: Duration = Duration::from_secs(5 * 60);

/// Requests do not get smaller than this, however often a receiver says they are too large.
const REQUEST_BYTES_MIN: usize = 64 * 1024;

/// A receiver with the state of the exports to it.
#[derive(Debug)]
pub(super) struct Destination {
    receiver: Receiver,
    protocol: Protocol,
    is_cumulative: bool,
    resource: Arc<[(String, String)]>,
    instruments: Instruments,
    announcer: Announcer,
    progress: Progress,
    /// Of one request.
    timeout: Option<Duration>,
    request_bytes_max: usize,
    /// However much the receiver would take.
    request_bytes_most: usize,
    /// A `Retry-After` that reaches beyond the export it answered.
    not_before: Option<Instant>,
    pending: Option<Batch>,
    url: Arc<str>,
}

/// What became of the points of one export.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) points: usize,
    /// Those in requests that were taken; some of them may have been rejected.
    pub(super) taken: usize,
    pub(super) rejected: u64,
    pub(super) bytes: usize,
}

impl Destination {
    /// Prepares a receiver. What the registry holds now is what it will see first.
    ///
    /// Prometheus takes no account of start times: a counter that it first sees at 3 has not
    /// increased by 3. So it has to see the zeros, also if it was started after us: the first batch
    /// is of now, and is sent until it is taken.
    pub(super) fn new(
        source: &mut Source,
        settings: &config::Destination,
        resource: &Arc<[(String, String)]>,
        number: usize,
    ) -> Result<Self, String> {
        let receiver = Receiver::new(settings)?;
        let instruments = Instruments::bind(source.registry(), settings, number);
        instruments.observe();
        let mut destination = Self {
            receiver,
            protocol: settings.protocol,
            is_cumulative: settings.temporality == Temporality::Cumulative,
            resource: Arc::clone(resource),
            instruments,
            announcer: Announcer::default(),
            progress: Progress::new(settings.temporality),
            timeout: settings.timeout,
            request_bytes_max: settings.max_request_bytes,
            request_bytes_most: settings.max_request_bytes,
            not_before: None,
            pending: None,
            url: explain::url(&settings.endpoint, settings.protocol).into(),
        };
        destination.pending = Some(destination.read(source));
        Ok(destination)
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
    pub(super) async fn export(&mut self, number: u64, source: &mut Source, pool: &Pool, bounds: Bounds<'_>) -> Report {
        let url = Some(Arc::clone(&self.url));
        let hold = self.not_before.map(|moment| moment.saturating_duration_since(Instant::now()));
        if let Some(hold) = hold.filter(|hold| !hold.is_zero()) {
            return Report::new(number, url, Delivery::Held(hold));
        }
        let started = Instant::now();
        let (tally, delivered) =
            retry::deliver(bounds.retry_until, bounds.hurry, async || self.attempt(source, pool, bounds).await).await;
        let Delivered { answer, attempts, not_before, .. } = delivered;
        self.not_before = not_before;
        let elapsed = started.elapsed();
        self.instruments.sent(tally, &answer, elapsed);
        let (points, bytes) = (tally.points, tally.bytes);
        let report = Report { attempts, elapsed, points, bytes, ..Report::new(number, url, self.judge(&answer)) };
        self.announcer.hear(&report);
        report
    }

    /// One try: first what is still to be taken as it was, then everything as it is now.
    ///
    /// A retry reads anew: old points after newer ones are refused, and the new ones have all that
    /// the old ones had.
    async fn attempt(&mut self, source: &mut Source, pool: &Pool, bounds: Bounds<'_>) -> (Tally, Answer) {
        let mut tally = Tally::default();
        if let Some(mut pending) = self.pending.take()
            && pending.read.elapsed() < BATCH_AGE_MAX
        {
            let answer = self.send(&mut pending, pool, bounds, &mut tally).await;
            if !answer.is_success() {
                // As nothing newer has been taken, it may be sent again as it is. Once a receiver may
                // have taken it, no later refusal says that it has not.
                let is_open = retry::retryable(&answer).is_some() || pending.may_be_taken;
                self.pending = is_open.then_some(pending);
                return (tally, answer);
            }
            if bounds.is_first {
                return (tally, answer);
            }
        }
        let mut batch = self.read(source);
        let answer = self.send(&mut batch, pool, bounds, &mut tally).await;
        if !self.is_cumulative && batch.may_be_taken && !answer.is_success() {
            // If the receiver has it after all, it must not get the same differences under another
            // time: what is repeated to the bit can be told apart from what is new.
            self.pending = Some(batch);
        }
        (tally, answer)
    }

    fn read(&mut self, source: &mut Source) -> Batch {
        self.instruments.observe();
        let (mut snapshot, ended) = source.read();
        self.progress.prepare(&mut snapshot, ended);
        Batch::new(snapshot, self.protocol, self.request_bytes_max)
    }

    /// Sends a batch, request by request in order, until one is not taken for a reason that concerns
    /// the next as well.
    async fn send(&mut self, batch: &mut Batch, pool: &Pool, bounds: Bounds<'_>, tally: &mut Tally) -> Answer {
        let (mut result, mut refused) = (Answer::Accepted, None);
        tally.points += batch.points();
        self.instruments.sending(batch.points());
        while let Some((_, body)) = batch.next(self.protocol, &self.resource) {
            let left = bounds.end.saturating_duration_since(Instant::now());
            let limit = self.timeout.map_or(left, |timeout| timeout.min(left));
            let bytes = body.len();
            tally.bytes += bytes;
            let (answer, again) = self.receiver.send(pool, body, limit).await;
            batch.may_be_taken |= is_ambiguous(&answer) || (again && !answer.is_success());
            match &answer {
                Answer::Accepted => {}
                Answer::Partial { rejected, .. } => {
                    tally.rejected += rejected;
                    result = answer;
                }
                _ => {
                    if is_too_large(&answer) {
                        self.request_bytes_max = (bytes / 2).clamp(REQUEST_BYTES_MIN, self.request_bytes_most);
                    }
                    let is_kept = !self.is_cumulative && batch.may_be_taken && batch.read.elapsed() < REFUSED_AGE_MAX;
                    if is_kept || !is_of_this_request(&answer) {
                        return answer;
                    }
                    refused = Some(answer);
                    batch.done();
                    continue;
                }
            }
            if let Some(part) = batch.done() {
                tally.taken += part.points();
                self.progress.acknowledge(&batch.snapshot, &part);
            }
        }
        if let Some(answer) = refused {
            return answer;
        }
        // Several requests may have left out points; the last one speaks for all.
        if let Answer::Partial { rejected, .. } = &mut result {
            *rejected = tally.rejected;
        }
        result
    }

    fn judge(&self, answer: &Answer) -> Delivery {
        let facts = self.receiver.facts(answer);
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

/// Whether smaller requests may be taken.
fn is_too_large(answer: &Answer) -> bool {
    match answer {
        // What gRPC's implementations say of a message over their limit; the code is that of quotas too.
        Answer::RefusedGrpc { code: Code::ResourceExhausted, text, .. } => text.contains("larger than max"),
        _ => answer.error_type() == Some(ErrorType::PayloadTooLarge),
    }
}

/// Whether an answer is about what was in this request: others may fare better.
fn is_of_this_request(answer: &Answer) -> bool {
    match answer {
        Answer::Refused { status, .. } => matches!(status, 400 | 413 | 422),
        Answer::RefusedGrpc { code, retry_after: None, .. } => {
            matches!(code, Code::InvalidArgument | Code::ResourceExhausted)
        }
        Answer::Failed(failure) => matches!(failure, Failure::TooLarge(_)),
        _ => false,
    }
}

/// Whether the receiver may have taken what it gave no answer to.
fn is_ambiguous(answer: &Answer) -> bool {
    match answer {
        Answer::Failed(failure) => matches!(failure, Failure::Timeout(_) | Failure::Closed(_)),
        Answer::RefusedGrpc { code, .. } => matches!(code, Code::Cancelled | Code::DeadlineExceeded),
        _ => false,
    }
}

impl Report {
    pub(super) fn new(number: u64, url: Option<Arc<str>>, delivery: Delivery) -> Self {
        Self { number, points: 0, bytes: 0, attempts: 0, elapsed: Duration::ZERO, url, delivery }
    }
}
