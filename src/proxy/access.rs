//! The access log: one line for a request that has ended, with what its record knows.
//!
//! Off by default; then nothing of this is kept. A line has names from the configuration, numbers and
//! times, and the client's address: never a path, a prompt, an answer or a key.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use super::ACCESS_LOG;
use crate::{
    api::{
        error::ErrorKind,
        operation::{Operation, Route},
        usage::Usage,
    },
    telemetry::dimensions::{Outcome, Target},
};

/// Longest id of a provider's that is written, in bytes.
const PROVIDER_REQUEST_ID_MAX: usize = 64;

/// What a line has besides what is counted.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) client: Option<IpAddr>,
    pub(super) status: Option<u16>,
    pub(super) key: Option<String>,
    pub(super) model: Option<String>,
    deployment: Option<String>,
    attempts: u32,
    provider_request_id: Option<String>,
    pub(super) first_byte: Option<Instant>,
    pub(super) request_bytes: usize,
    pub(super) usage: Option<Usage>,
    pub(super) cost_nanos: Option<u64>,
}

/// What the record knows of a request that has ended.
pub(super) struct Ended<'a> {
    pub(super) request_id: &'a [u8],
    pub(super) target: Target,
    pub(super) operation: Option<Operation>,
    pub(super) outcome: Outcome,
    pub(super) kind: Option<ErrorKind>,
    pub(super) started: Instant,
    pub(super) at: Instant,
    pub(super) overhead: Option<Duration>,
    pub(super) response_bytes: u64,
}

impl Access {
    /// It is sent to the deployment of that label.
    pub(super) fn sent(&mut self, deployment: &str) {
        self.attempts += 1;
        self.deployment = Some(deployment.to_owned());
    }

    /// A deployment has answered with that id, which is its client's too.
    pub(super) fn responding(&mut self, status: u16, provider_request_id: Option<&[u8]>) {
        self.status = Some(status);
        self.provider_request_id = provider_request_id.map(|id| {
            let shown = id.iter().take(PROVIDER_REQUEST_ID_MAX).filter(|byte| byte.is_ascii_graphic());
            shown.map(|byte| char::from(*byte)).collect()
        });
    }

    /// Writes the line.
    pub(super) fn log(&self, ended: &Ended<'_>) {
        let usage = self.usage.as_ref();
        tracing::info!(
            target: ACCESS_LOG,
            request_id = str::from_utf8(ended.request_id).unwrap_or_default(),
            client = self.client.map(tracing::field::display),
            method = ended.target.method.as_str(),
            route = ended.target.route.map(Route::as_str),
            status = self.status,
            outcome = ended.outcome.as_str(),
            error.type = ended.kind.map(|kind| kind.face().error_type),
            operation = ended.operation.map(Operation::as_str),
            key = self.key,
            model = self.model,
            deployment = self.deployment,
            attempts = (self.attempts > 0).then_some(self.attempts),
            provider_request_id = self.provider_request_id,
            input_tokens = usage.map(|usage| usage.input),
            cache_read_tokens = usage.map(|usage| usage.cache_read).filter(|tokens| *tokens > 0),
            cache_write_tokens = usage.map(|usage| usage.cache_write).filter(|tokens| *tokens > 0),
            output_tokens = usage.map(|usage| usage.output),
            reasoning_tokens = usage.map(|usage| usage.reasoning).filter(|tokens| *tokens > 0),
            cost_usd = self.cost_nanos.map(|nanos| nanos as f64 / 1e9),
            duration_ms = milliseconds(ended.at.saturating_duration_since(ended.started)),
            first_byte_ms = self.first_byte.map(|at| milliseconds(at.saturating_duration_since(ended.started))),
            overhead_ms = ended.overhead.map(milliseconds),
            request_bytes = self.request_bytes,
            response_bytes = ended.response_bytes,
            "request"
        );
    }
}

/// With three places.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
