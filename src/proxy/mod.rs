//! The path of one request, top to bottom.
//!
//! Every step is one call into the module that owns it, and every failure is an
//! [`Error`] from the one table. Nothing here knows about sockets, TLS, SSE or OTLP.

mod access;
mod attempt;
mod batches;
mod body;
mod comments;
mod echo;
mod head;
mod load;
mod local;
mod opening;
mod record;
mod request;
mod response;
mod upstream;
mod watch;

use std::{
    cell::Cell,
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use ring::rand::{SecureRandom as _, SystemRandom};

use self::{attempt::Attempt, record::Record, request::ModelRequest};
pub use self::{
    batches::Batches,
    body::{Body, BrokenOff},
    load::{Freed, Load},
};
use crate::{
    api::{
        error::{Error, ErrorKind},
        operation::Route,
    },
    gateway::{Gateway, Model},
    http_client::Pool,
    message::{Head, Headers, Response},
    routing::{self, Candidate, Candidates},
    telemetry::dimensions::{AuthDecision, Scheme},
};

/// The target of the lines of the access log.
pub const ACCESS_LOG: &str = "tollgate::access";

/// What one worker thread serves requests with.
#[derive(Debug)]
pub struct Worker {
    /// Tells it from the others, from 0.
    pub number: usize,
    pub gateway: Arc<ArcSwap<Gateway>>,
    pub load: Arc<Load>,
    pub pool: Pool,
    /// Whether `/readyz` says yes; no from the moment of the shutdown signal.
    pub ready: Arc<AtomicBool>,
    pub request_ids: RequestIds,
    pub batches: Batches,
}

/// The body of a client's request, whatever brings it.
pub trait RequestBody: http_body::Body<Data = Bytes, Error: fmt::Display> + Unpin {
    /// Appends what there is, as much as there is room for; says whether there was anything before the
    /// end. Large bodies are read with it, without a copy in between where that can be had.
    fn poll_append(&mut self, cx: &mut Context<'_>, to: &mut BytesMut) -> Poll<Result<bool, Self::Error>>;

    /// Whether what is not read of it stands in nobody's way, as on a stream of its own.
    fn is_apart(&self) -> bool {
        false
    }
}

/// The connection that a request came on.
pub trait Client {
    /// Whether it is encrypted.
    fn scheme(&self) -> Scheme;

    /// Whose it is, or for whom a trusted proxy says with these headers that it speaks.
    fn address(&self, headers: Option<&Headers>) -> Option<IpAddr>;

    /// A valid key has been shown on it.
    fn authenticated(&self);
}

/// Errors whose request is not read to its end, so that nothing can follow on its connection.
const CLOSING: [ErrorKind; 4] =
    [ErrorKind::InvalidHead, ErrorKind::MethodRefused, ErrorKind::BodyTooLarge, ErrorKind::Overloaded];

/// Serves one request. A client always gets an answer, if only an error's.
pub async fn serve(worker: &Worker, client: &impl Client, head: Head, body: impl RequestBody) -> Response<Body> {
    // The one load: a reload in the middle of a request does not concern it.
    let gateway = worker.gateway.load_full();
    let mut body = Some(body);
    let request_id = worker.request_ids.next();
    let mut record = Record::start(&gateway, client.scheme(), head.method.as_str(), head.path(), request_id);
    if record.is_logged() {
        record.client(client.address(Some(&head.headers)));
    }
    let begun = worker.batches.begin().await;
    let answer = answer(worker, &gateway, client, &head, &mut body, &mut record).await;
    drop(begun);
    // An answer given without reading the body leaves the connection in the middle of a request.
    let reuse = match &answer {
        Err(error) if CLOSING.contains(&error.kind) => false,
        _ => request::discard(&head, body).await,
    };
    let mut response = match answer {
        Ok(Answer::Provider(answered)) => return response::relay(answered, record),
        Ok(Answer::Local(answer)) => record.answered(answer),
        Err(error) => record.failed(&error),
    };
    if !reuse && !response.headers.has("connection") {
        response.headers.push("connection", b"close");
    }
    response
}

/// Answers what is not a request at all.
pub fn refuse(worker: &Worker, client: &impl Client, error: &Error) -> Response<Body> {
    let gateway = worker.gateway.load();
    let mut record = Record::start(&gateway, client.scheme(), "", "", worker.request_ids.next());
    if record.is_logged() {
        record.client(client.address(None));
    }
    record.failed(error)
}

/// Where the bytes of an answer come from.
#[expect(clippy::large_enum_variant, reason = "nearly every answer is of the large kind")]
enum Answer {
    Local(local::Local),
    Provider(Answered),
}

/// A provider's response, and the attempt that got it.
struct Answered {
    response: Response<body::Source>,
    attempt: Attempt,
    deployment_label: HeaderValue,
    attempts: u32,
    /// The gateway asked for the usage event, so it takes it out again.
    strip_usage: bool,
    /// What of a stream has come while it was held back.
    held: Bytes,
    /// How often its client wants a comment in a stream that is silent.
    comment_interval: Option<Duration>,
}

async fn answer(
    worker: &Worker,
    gateway: &Gateway,
    client: &impl Client,
    head: &Head,
    body: &mut Option<impl RequestBody>,
    record: &mut Record,
) -> Result<Answer, Error> {
    head::check(head)?; // 400
    let route = head::route(head)?; // 404, 405
    let operation = match route {
        Route::Operation(operation) => operation,
        Route::Models => {
            let models = models(gateway, head)?;
            client.authenticated();
            return Ok(Answer::Local(models));
        }
        Route::Root | Route::Healthz | Route::Readyz | Route::LitellmLiveness | Route::LitellmReadiness => {
            return Ok(Answer::Local(local::probe(route, worker.ready.load(Relaxed))));
        }
    };
    let key = authenticate(gateway, head)?; // 400, 401
    client.authenticated();
    record.operation(operation, key);
    worker.load.check()?; // 503
    record.turn(gateway.in_flight.enter(worker.number, key.number)?); // 429
    let body = request::read(head, body, gateway.limits, &worker.load, record).await?; // 400, 408, 413, 415, 503
    let request = ModelRequest::new(operation, head, body)?; // 400
    let (index, model) = gateway.model(request.model()).ok_or_else(|| request.unknown_model())?; // 404
    if !key.allows(index) {
        gateway.instruments.auth.add(AuthDecision::ModelNotAllowed, 1);
        return Err(request.model_not_allowed(&key.name)); // 403
    }
    record.model(model, key.instruments(Some(index)));
    gateway.retry_budget.request(worker.number);
    let mut answered = attempts(worker, gateway, model, &request, record).await?; // 429, 502, 503, 504
    answered.comment_interval = key.comment_interval;
    Ok(Answer::Provider(answered))
}

/// Tries the model's deployments in order until one answers with something other than a reason to
/// try the next, or there is none that may be tried. The last one's answer is the client's, whatever it is.
async fn attempts(
    worker: &Worker,
    gateway: &Gateway,
    model: &Model,
    request: &ModelRequest<'_>,
    record: &mut Record,
) -> Result<Answered, Error> {
    let mut candidates = Candidates::new(&model.deployments, &gateway.limits);
    let mut now = Instant::now();
    let none_left = |now| routing::none_left(&model.deployments, now);
    let mut candidate = candidates.next(now).ok_or_else(|| none_left(now))?;
    let mut attempts = 1;
    loop {
        record.sent(candidate.deployment, now);
        let attempt = Attempt::start(candidate.deployment, request.operation, now);
        let Failure { error, pause } =
            match one_attempt(worker, gateway, model, &mut candidates, candidate, request, attempt).await {
                Ok(mut answered) => {
                    answered.attempts = attempts;
                    if !model.deployments.first().is_some_and(|first| Arc::ptr_eq(first, candidate.deployment)) {
                        model.instruments.fallbacks.add((), 1);
                    }
                    return Ok(answered);
                }
                Err(failure) => failure,
            };
        candidates.failed(error.kind);
        upstream::log_failure(candidate.deployment, &error, candidate.is_last, pause);
        candidate = if let Some(pause) = pause {
            // Seldom needed, and every request would carry it.
            Box::pin(tokio::time::sleep(pause)).await;
            now = Instant::now();
            candidates.begin_again();
            candidates.next(now).ok_or_else(|| none_left(now))?
        } else {
            now = Instant::now();
            let may_go_on = !candidate.is_last && error.kind.face().retryable && withdraw(gateway, model, now);
            let Some(next) = may_go_on.then(|| candidates.next(now)).flatten() else { return Err(error) };
            next
        };
        attempts += 1;
        model.instruments.retries.add((), 1);
    }
}

/// Whether there is budget for one attempt more.
fn withdraw(gateway: &Gateway, model: &Model, now: Instant) -> bool {
    let is_there = gateway.retry_budget.withdraw(now);
    if !is_there {
        model.instruments.refused.add((), 1);
    }
    is_there
}

/// An attempt whose answer, if there was one, is not the client's.
struct Failure {
    error: Error,
    /// All deployments are gone through once more after it.
    pause: Option<Duration>,
}

async fn one_attempt(
    worker: &Worker,
    gateway: &Gateway,
    model: &Model,
    candidates: &mut Candidates<'_>,
    Candidate { deployment, is_last }: Candidate<'_>,
    request: &ModelRequest<'_>,
    mut attempt: Attempt,
) -> Result<Answered, Failure> {
    let strip_usage = request.asks_usage_for(deployment);
    let patience = upstream::Patience::of(deployment, request, (!is_last).then_some(model.first_content_timeout));
    let mut pause = |kind, asked| {
        let now = Instant::now();
        let pause = if is_last { candidates.pause(deployment, kind, asked, now) } else { None };
        pause.filter(|_| withdraw(gateway, model, now))
    };
    let mut response = match upstream::send(worker, deployment, request, strip_usage, attempt.started, patience).await {
        Ok(response) => response,
        Err(error) => {
            let error = attempt.failed(error);
            return Err(Failure { pause: pause(error.kind, None), error });
        }
    };
    attempt.head(response.status, &response.headers);
    let pause = upstream::kind_of(response.status).and_then(|kind| pause(kind, attempt.retry_after));
    if let Some(kind) = upstream::verdict(response.status, is_last && pause.is_none()) {
        return Err(Failure { error: attempt.failed(upstream::refused(deployment, kind, response.status)), pause });
    }
    let held = match response::may_be_held(&response, is_last) {
        // Large, and seldom needed.
        true => {
            Box::pin(opening::opening(
                &mut response.body,
                attempt.started,
                patience,
                deployment.provider.max_event_bytes,
            ))
            .await
        }
        false => Ok(Bytes::new()),
    };
    let held = held.map_err(|error| Failure { error: attempt.failed(error), pause: None })?;
    attempt.answers(response.status);
    let deployment_label = deployment.label.clone();
    Ok(Answered { response, attempt, deployment_label, attempts: 1, strip_usage, held, comment_interval: None })
}

fn authenticate<'a>(gateway: &'a Gateway, head: &Head) -> Result<&'a crate::gateway::ClientKey, Error> {
    match gateway.keys().authenticate(&head.headers) {
        Ok(key) => {
            gateway.instruments.auth.add(AuthDecision::Allowed, 1);
            Ok(key)
        }
        Err((decision, error)) => {
            gateway.instruments.auth.add(decision, 1);
            Err(error)
        }
    }
}

fn models(gateway: &Gateway, head: &Head) -> Result<local::Local, Error> {
    let key = authenticate(gateway, head)?;
    Ok(local::models(gateway.models_of(key)))
}

/// Request ids of one thread: a random prefix and a count, so that no two processes share any.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u32,
    next: Cell<u32>,
}

impl RequestIds {
    /// Draws a prefix.
    pub fn new() -> Self {
        let mut random = [0; 8];
        // Without randomness the ids are still unique within the thread.
        let _unseeded = SystemRandom::new().fill(&mut random).is_err();
        let [a, b, c, d, e, f, g, h] = random;
        Self { prefix: u32::from_be_bytes([a, b, c, d]), next: Cell::new(u32::from_be_bytes([e, f, g, h])) }
    }

    fn next(&self) -> u64 {
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        u64::from(self.prefix) << 32 | u64::from(count)
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}
