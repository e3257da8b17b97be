//! The record of one request: started with its head, ended exactly once.
//!
//! Dropping a record that has not ended means that the client left.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;

use super::{
    Body,
    access::{Access, Ended},
    local::Local,
};
use crate::{
    api::{
        error::{Error, ErrorKind},
        openai,
        operation::{Operation, Route},
        usage::Usage,
    },
    gateway::{ClientKey, Deployment, Gateway, Model, Turn},
    message::{self, Headers, Response},
    telemetry::{
        ActiveGuard,
        dimensions::{CancelPhase, Ending, Method, Outcome, Scheme, Status, Target},
        instruments::{KeyModelInstruments, ServerInstruments},
    },
};

/// What is known of a request so far.
#[derive(Debug)]
pub(super) struct Record {
    server: Arc<ServerInstruments>,
    _active: ActiveGuard,
    started: Instant,
    scheme: Scheme,
    target: Target,
    request_id: u64,
    operation: Option<Operation>,
    key_model: Option<Arc<KeyModelInstruments>>,
    phase: CancelPhase,
    body_wait: Duration,
    overhead: Option<Duration>,
    response_bytes: u64,
    turn: Option<Turn>,
    /// For the access log, if there is one.
    access: Option<Box<Access>>,
    ended: bool,
}

impl Record {
    /// Of a request with this method and path, or of something that has neither.
    pub(super) fn start(gateway: &Gateway, scheme: Scheme, method: &str, path: &str, request_id: u64) -> Self {
        let method = Method::of(method);
        let server = &gateway.instruments;
        Self {
            _active: server.requests(scheme).active.enter(method),
            server: Arc::clone(server),
            started: Instant::now(),
            scheme,
            target: Target { method, route: Route::of(path) },
            request_id,
            operation: None,
            key_model: None,
            phase: CancelPhase::RequestBody,
            body_wait: Duration::ZERO,
            overhead: None,
            response_bytes: 0,
            turn: None,
            access: gateway.logs_access.then(Box::default),
            ended: false,
        }
    }

    /// Whether it will have a line in the access log.
    pub(super) fn is_logged(&self) -> bool {
        self.access.is_some()
    }

    /// It comes from that address.
    pub(super) fn client(&mut self, address: Option<IpAddr>) {
        if let Some(access) = &mut self.access {
            access.client = address;
        }
    }

    /// The request is a model request of an authenticated key.
    pub(super) fn operation(&mut self, operation: Operation, key: &ClientKey) {
        self.operation = Some(operation);
        self.key_model = Some(Arc::clone(key.instruments(None)));
        if let Some(access) = &mut self.access {
            access.key = Some(key.name.clone());
        }
    }

    /// It is counted among those under way.
    pub(super) fn turn(&mut self, turn: Turn) {
        self.turn = Some(turn);
    }

    /// Its model is one the key may use.
    pub(super) fn model(&mut self, model: &Model, key_model: &Arc<KeyModelInstruments>) {
        self.key_model = Some(Arc::clone(key_model));
        if let Some(access) = &mut self.access {
            access.model = Some(model.name.clone());
        }
    }

    /// Its body has been read; `wait` is not the gateway's time.
    pub(super) fn body_read(&mut self, bytes: usize, wait: Duration) {
        self.server.requests(self.scheme).request_body.record(self.target, bytes as u64);
        self.body_wait = wait;
        self.phase = CancelPhase::BeforeResponse;
        if let Some(access) = &mut self.access {
            access.request_bytes = bytes;
        }
    }

    /// It is about to be sent to a deployment; the first time ends the gateway's own share.
    pub(super) fn sent(&mut self, deployment: &Deployment, at: Instant) {
        if self.overhead.is_none() {
            let overhead = at.saturating_duration_since(self.started).saturating_sub(self.body_wait);
            if let Some(operation) = self.operation {
                self.server.overhead.record_duration(operation, overhead);
            }
            self.overhead = Some(overhead);
        }
        if let Some(access) = &mut self.access {
            access.sent(deployment.label.to_str().unwrap_or_default());
        }
    }

    /// Its answer is on the way, under the id that its provider gave it.
    pub(super) fn responding(&mut self, status: StatusCode, provider_request_id: Option<&[u8]>) {
        self.phase = CancelPhase::ResponseBody;
        if let Some(access) = &mut self.access {
            access.responding(status.as_u16(), provider_request_id);
        }
    }

    /// The first bytes of its answer have come.
    pub(super) fn first_byte(&mut self) {
        if let Some(access) = &mut self.access {
            access.first_byte = Some(Instant::now());
        }
    }

    pub(super) fn overhead(&self) -> Duration {
        self.overhead.unwrap_or_default()
    }

    /// Counts bytes of the answer.
    pub(super) fn response_bytes(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// Ends with an answer that is not a model's.
    pub(super) fn answered(mut self, answer: Local) -> Response<Body> {
        self.response_bytes(answer.body.len());
        self.status(answer.status.as_u16());
        self.end(Instant::now(), Ending::Status(Status::of(answer.status.as_u16())), Outcome::Completed, None);
        let mut headers = Headers::default();
        headers.push("content-type", answer.content_type.as_bytes());
        headers.push("x-request-id", &self.request_id());
        Response { status: answer.status, headers, body: Body::full(answer.body) }
    }

    /// Ends with an error and makes its answer.
    pub(super) fn failed(mut self, error: &Error) -> Response<Body> {
        let face = error.kind.face();
        let body = Bytes::from(openai::error_body(error));
        self.response_bytes(body.len());
        self.status(face.status);
        self.end(Instant::now(), Ending::Error(error.kind), Outcome::Failed, Some(error.kind));
        tracing::debug!(
            request_id = str::from_utf8(&self.request_id()).unwrap_or_default(),
            error.type = face.error_type,
            error.message = %error.message,
            detail = error.internal.as_deref(),
            "request failed"
        );
        let mut headers = Headers::default();
        headers.push("content-type", b"application/json");
        headers.push("x-request-id", &self.request_id());
        let should_retry = if face.retryable { "true" } else { "false" };
        headers.push("x-should-retry", should_retry.as_bytes());
        if matches!(error.kind, ErrorKind::MethodNotAllowed | ErrorKind::MethodRefused)
            && let Some(allow) = self.target.route.map(Route::allow)
        {
            headers.push("allow", allow.as_bytes());
        }
        if matches!(error.kind, ErrorKind::MissingKey | ErrorKind::InvalidKey) {
            headers.push("www-authenticate", b"Bearer");
        }
        if matches!(error.kind, ErrorKind::KeyBusy | ErrorKind::GatewayBusy | ErrorKind::Overloaded) {
            headers.push("retry-after", b"1");
        }
        if let Some(seconds) = error.retry_after {
            headers.push("retry-after", message::decimal(&mut [0; 20], u64::from(seconds), 1));
        }
        if matches!(error.kind, ErrorKind::BodyTimeout | ErrorKind::BodyIncomplete) {
            // What is left of the body is not worth reading.
            headers.push("connection", b"close");
        }
        let status = StatusCode::from_u16(face.status).unwrap_or_default();
        Response { status, headers, body: Body::full(body) }
    }

    /// Ends with a provider's answer, read to its end.
    pub(super) fn provider_answered(
        &mut self,
        at: Instant,
        status: u16,
        kind: Option<ErrorKind>,
        usage: Option<&Usage>,
        cost_nanos: Option<u64>,
    ) {
        if let (Some(usage), Some(key_model)) = (usage, &self.key_model) {
            key_model.add_usage(usage);
        }
        if let (Some(nanos), Some(key_model)) = (cost_nanos, &self.key_model) {
            key_model.cost.add((), nanos);
        }
        if let Some(access) = &mut self.access {
            access.usage = usage.copied();
            access.cost_nanos = cost_nanos;
        }
        let outcome = if kind.is_some() { Outcome::Failed } else { Outcome::Completed };
        let ending = match kind {
            Some(kind) if status < 400 => Ending::Broken(kind),
            _ => Ending::Status(Status::of(status)),
        };
        self.end(at, ending, outcome, kind);
    }

    pub(super) fn request_id(&self) -> [u8; 20] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"req_0000000000000000";
        for (place, digit) in text.iter_mut().skip(4).enumerate() {
            *digit = DIGITS[(self.request_id >> (60 - 4 * place) & 0xf) as usize];
        }
        text
    }

    /// The status of an answer that is not a provider's.
    fn status(&mut self, status: u16) {
        if let Some(access) = &mut self.access {
            access.status = Some(status);
        }
    }

    fn end(&mut self, at: Instant, ending: Ending, outcome: Outcome, kind: Option<ErrorKind>) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.turn = None;
        let requests = self.server.requests(self.scheme);
        requests.duration.record_duration((self.target, ending), at.saturating_duration_since(self.started));
        requests.response_body.record(self.target, self.response_bytes);
        if let Some(kind) = kind {
            self.server.errors.add(kind, 1);
        }
        if let Some(key_model) = &self.key_model {
            key_model.requests.add(outcome, 1);
        }
        if let Some(access) = &self.access {
            access.log(&Ended {
                request_id: &self.request_id(),
                target: self.target,
                operation: self.operation,
                outcome,
                kind,
                started: self.started,
                at,
                overhead: self.overhead,
                response_bytes: self.response_bytes,
            });
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.server.cancelled.add(self.phase, 1);
            let cancelled = ErrorKind::ClientCancelled;
            self.end(Instant::now(), Ending::Error(cancelled), Outcome::Cancelled, Some(cancelled));
        }
    }
}
