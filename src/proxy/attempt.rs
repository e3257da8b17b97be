//! One try at one deployment: its clock and its end, exactly once.
//!
//! Dropping an attempt that has not ended means that the client left; dropping what it waits for
//! is what cancels the provider's work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;

use crate::{
    api::{
        error::{Error, ErrorKind},
        operation::Operation,
        rate_limit, retry_after,
        usage::Usage,
    },
    gateway::{Deployment, Provider},
    message::Headers,
    telemetry::{ActiveGuard, dimensions::Outcome},
};

/// An attempt in flight.
#[derive(Debug)]
pub(super) struct Attempt {
    deployment: Arc<Deployment>,
    operation: Operation,
    _active: ActiveGuard,
    pub(super) started: Instant,
    /// When the provider wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    ended: bool,
}

impl Attempt {
    pub(super) fn start(deployment: &Arc<Deployment>, operation: Operation, at: Instant) -> Self {
        Self {
            _active: deployment.instruments.active.enter(()),
            deployment: Arc::clone(deployment),
            operation,
            started: at,
            retry_after: None,
            ended: false,
        }
    }

    /// Whom it is at.
    pub(super) fn provider(&self) -> &Provider {
        &self.deployment.provider
    }

    /// When the answer has to be complete.
    pub(super) fn deadline(&self, is_stream: bool) -> Instant {
        let provider = self.provider();
        self.started + if is_stream { provider.stream_timeout } else { provider.answer_timeout }
    }

    /// The head of an answer has come, whatever becomes of it.
    pub(super) fn head(&mut self, status: StatusCode, headers: &Headers) {
        self.deployment.instruments.set_remaining(&rate_limit::remaining(headers));
        // What is too many, or too much for now (529: Anthropic).
        if matches!(status.as_u16(), 429 | 503 | 529) {
            self.retry_after = retry_after::of(headers);
        }
        if status == StatusCode::PAYMENT_REQUIRED {
            // The client's answer, and no deployment for the next requests either.
            self.cool_down(Instant::now(), ErrorKind::ProviderCredentials);
        }
    }

    /// The answer is the client's.
    pub(super) fn answers(&self, status: StatusCode) {
        if status.is_success() {
            self.deployment.cooldown.answers(&self.deployment.instruments);
        }
    }

    /// What an answer of that usage costs in nano-USD: by the configured price, else as the provider
    /// says.
    pub(super) fn cost(&self, usage: &Usage) -> Option<u64> {
        self.deployment.price.map_or(usage.cost_nanos, |price| Some(price.of(usage)))
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
            self.deployment.instruments.streams_broken.add((), 1);
        }
        match usage {
            Some(usage) => self.deployment.instruments.record_usage(self.operation, usage),
            None if kind.is_none() => self.deployment.instruments.usage_missing.add((), 1),
            None => {}
        }
        self.end(at, if kind.is_some() { Outcome::Failed } else { Outcome::Completed }, kind);
    }

    /// The first bytes of a streamed answer have come.
    pub(super) fn first_chunk(&self, at: Instant) {
        self.deployment
            .instruments
            .first_chunk
            .record_duration(self.operation, at.saturating_duration_since(self.started));
    }

    /// Further bytes of a streamed answer have come.
    pub(super) fn output_chunk(&self, since_last: Duration) {
        self.deployment.instruments.output_chunk.record_duration(self.operation, since_last);
    }

    /// Leaves the deployment out for a while, if that is one failure too many.
    fn cool_down(&self, at: Instant, kind: ErrorKind) {
        let Deployment { cooldown, instruments, label, .. } = &*self.deployment;
        if let Some((reason, length)) = cooldown.failed(at, kind, self.retry_after, instruments) {
            tracing::warn!(
                deployment = label.to_str().unwrap_or_default(),
                reason = reason.as_str(),
                seconds = length.as_secs_f64(),
                "a deployment is left out"
            );
        }
    }

    fn end(&mut self, at: Instant, outcome: Outcome, kind: Option<ErrorKind>) {
        if self.ended {
            return;
        }
        self.ended = true;
        match kind {
            None => self.deployment.cooldown.succeeded(),
            Some(kind) => self.cool_down(at, kind),
        }
        self.deployment
            .instruments
            .duration
            .record_duration((self.operation, kind), at.saturating_duration_since(self.started));
        self.deployment.instruments.attempts.add(outcome, 1);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Instant::now(), Outcome::Cancelled, Some(ErrorKind::ClientCancelled));
        }
    }
}
