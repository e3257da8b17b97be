//! One try at one deployment: its clock and its end, exactly once.
//!
//! Dropping an attempt that has not ended means that the client left; dropping what it waits for
//! is what cancels the provider's work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    api::{
        cost::Price,
        error::{Error, ErrorKind},
        operation::Operation,
        rate_limit,
        usage::Usage,
    },
    gateway::Deployment,
    message::Headers,
    telemetry::{ActiveGuard, dimensions::Outcome, instruments::DeploymentInstruments},
};

/// An attempt in flight.
#[derive(Debug)]
pub(super) struct Attempt {
    instruments: Arc<DeploymentInstruments>,
    operation: Operation,
    price: Option<Price>,
    _active: ActiveGuard,
    pub(super) started: Instant,
    pub(super) idle_timeout: Duration,
    answer_timeout: Duration,
    stream_timeout: Duration,
    ended: bool,
}

impl Attempt {
    pub(super) fn start(deployment: &Deployment, operation: Operation, at: Instant) -> Self {
        let instruments = &deployment.instruments;
        Self {
            _active: instruments.active.enter(()),
            instruments: Arc::clone(instruments),
            operation,
            price: deployment.price,
            started: at,
            idle_timeout: deployment.provider.idle_timeout,
            answer_timeout: deployment.provider.answer_timeout,
            stream_timeout: deployment.provider.stream_timeout,
            ended: false,
        }
    }

    /// When the answer has to be complete.
    pub(super) fn deadline(&self, is_stream: bool) -> Instant {
        self.started + if is_stream { self.stream_timeout } else { self.answer_timeout }
    }

    /// The head of an answer has come, whatever becomes of it.
    pub(super) fn head(&self, headers: &Headers) {
        self.instruments.set_remaining(&rate_limit::remaining(headers));
    }

    /// What an answer of that usage costs in nano-USD: by the configured price, else as the provider
    /// says.
    pub(super) fn cost(&self, usage: &Usage) -> Option<u64> {
        self.price.map_or(usage.cost_nanos, |price| Some(price.of(usage)))
    }

    /// Ends without an answer for the client.
    pub(super) fn failed(&mut self, error: Error) -> Error {
        self.end(Instant::now(), Outcome::Failed, Some(error.kind));
        error
    }

    /// Ends with an answer that was read to its end, or broke off for the reason given.
    pub(super) fn answered(&mut self, at: Instant, kind: Option<ErrorKind>, usage: Option<&Usage>) {
        if matches!(
            kind,
            Some(ErrorKind::ProviderStreamBroken | ErrorKind::ProviderStreamIdle | ErrorKind::ProviderAnswerTimeout)
        ) {
            self.instruments.streams_broken.add((), 1);
        }
        match usage {
            Some(usage) => self.instruments.record_usage(self.operation, usage),
            None if kind.is_none() => self.instruments.usage_missing.add((), 1),
            None => {}
        }
        self.end(at, if kind.is_some() { Outcome::Failed } else { Outcome::Completed }, kind);
    }

    /// The first bytes of a streamed answer have come.
    pub(super) fn first_chunk(&self, at: Instant) {
        self.instruments.first_chunk.record_duration(self.operation, at.saturating_duration_since(self.started));
    }

    /// Further bytes of a streamed answer have come.
    pub(super) fn output_chunk(&self, since_last: Duration) {
        self.instruments.output_chunk.record_duration(self.operation, since_last);
    }

    fn end(&mut self, at: Instant, outcome: Outcome, kind: Option<ErrorKind>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.instruments.duration.record_duration((self.operation, kind), at.saturating_duration_since(self.started));
        self.instruments.attempts.add(outcome, 1);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Instant::now(), Outcome::Cancelled, Some(ErrorKind::ClientCancelled));
        }
    }
}
