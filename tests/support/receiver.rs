//! A strict OTLP receiver: judges every request as Prometheus 3.5 or 3.14 does, stores what they
//! would store, and fails the test for what they would lose without a word.
//!
//! Runs on threads of its own, so that it serves any runtime. Can be told to misbehave.

#![allow(dead_code, reason = "each test binary uses a part of it")]

mod door;
mod faults;
mod head;
mod http;
pub(crate) mod naming;
mod rules;
mod strict;
mod translate;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tollgate::proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceRequest;

use self::{
    door::Door,
    head::Head,
    rules::{Submitted, Verdict},
};
pub(crate) use self::{faults::Fault, head::Labels, rules::Version};

/// Where Prometheus receives OTLP.
const PATH: &str = "/api/v1/otlp/v1/metrics";

/// Adds a line for everything in a message that no correct exporter sends.
pub(crate) fn check_message(message: &ExportMetricsServiceRequest, violations: &mut Vec<String>) {
    strict::check(message, violations);
}

/// How long a test waits for something to arrive before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running receiver. Dropping it stops it and panics if something was wrong with what it stored.
pub(crate) struct Receiver {
    door: Arc<Door>,
    shared: Arc<Shared>,
}

struct Shared {
    version: Version,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    head: Head,
    requests: Vec<Request>,
    violations: Vec<String>,
    script: VecDeque<Fault>,
    always: Option<Fault>,
    connections: Vec<TcpStream>,
    in_flight: usize,
    in_flight_max: usize,
    endless_bytes: u64,
}

/// A request that came, whatever became of it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub method: String,
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// As sent, before decompression.
    pub body: Vec<u8>,
    /// What it said, if it was stored.
    pub message: Option<ExportMetricsServiceRequest>,
    /// The status it was answered with; 0 if it was not.
    pub status: u16,
    /// The text of a refusal.
    pub text: String,
    /// Counts connections from 0.
    pub connection: usize,
    pub at: Instant,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether its points were stored.
    pub(crate) fn is_stored(&self) -> bool {
        self.message.is_some()
    }
}

impl Receiver {
    /// Starts on a free port of 127.0.0.1.
    pub(crate) fn start(version: Version) -> Self {
        let (door, listener) = Door::new();
        let door = Arc::new(door);
        let shared = Arc::new(Shared { version, state: Mutex::default(), changed: Condvar::new() });
        let (opened, served) = (Arc::clone(&door), Arc::clone(&shared));
        std::thread::spawn(move || {
            opened.serve(listener, |stream| {
                let mut state = served.state();
                let connection = state.connections.len();
                state.connections.push(stream.try_clone().unwrap());
                drop(state);
                let served = Arc::clone(&served);
                std::thread::spawn(move || served.serve(&stream, connection));
            });
        });
        Self { door, shared }
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.door.address
    }

    /// The full URL of its OTLP path.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.door.address)
    }

    /// Lets these happen to the next requests, one each, before it behaves again.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().script.extend(faults);
    }

    /// Lets this happen to every request that the script does not cover, or to none any more.
    pub(crate) fn always(&self, fault: impl Into<Option<Fault>>) {
        self.shared.state().always = fault.into();
    }

    /// Closes every connection, as a server does with idle ones.
    pub(crate) fn close_connections(&self) {
        for stream in &self.shared.state().connections {
            // One that is closed already is as good.
            let _closed = stream.shutdown(Shutdown::Both).is_err();
        }
    }

    /// Refuses connections, and closes those there are, until [`Self::listen`].
    pub(crate) fn refuse_connections(&self) {
        self.door.close();
        self.close_connections();
    }

    /// Takes connections again.
    pub(crate) fn listen(&self) {
        self.door.open();
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Waits until so many requests have come and been dealt with, and returns all there are.
    pub(crate) fn wait_for_requests(&self, count: usize) -> Vec<Request> {
        self.wait(&format!("{count} requests"), |state| (state.requests.len() >= count).then(|| state.requests.clone()))
    }

    /// Waits until so many requests were stored, and returns all requests.
    pub(crate) fn wait_for_stored(&self, count: usize) -> Vec<Request> {
        self.wait(&format!("{count} stored requests"), |state| {
            let stored = state.requests.iter().filter(|request| request.is_stored()).count();
            (stored >= count).then(|| state.requests.clone())
        })
    }

    /// Waits until a request has come that is being kept waiting.
    pub(crate) fn wait_for_request_in_flight(&self) {
        self.wait("a request in flight", |state| (state.in_flight > 0).then_some(()));
    }

    /// The newest values of the series that have this name and these labels, added up.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.shared.state().head.value(name, labels)
    }

    /// Time in milliseconds and value of everything stored for the series that match.
    pub(crate) fn samples(&self, name: &str, labels: &[(&str, &str)]) -> Vec<(i64, f64)> {
        self.shared.state().head.matching(name, labels).flat_map(|series| series.samples.clone()).collect()
    }

    /// The labels of every series, with the metric's name under `__name__`.
    pub(crate) fn series(&self) -> Vec<Labels> {
        self.shared.state().head.series.keys().cloned().collect()
    }

    /// The newest value of every series, unless it has ended.
    pub(crate) fn values(&self) -> BTreeMap<Labels, f64> {
        let state = self.shared.state();
        let newest = state.head.series.iter().filter_map(|(labels, series)| {
            let (_, value) = series.samples.last().filter(|(_, value)| !value.is_nan())?;
            Some((labels.clone(), *value))
        });
        newest.collect()
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }

    /// The most requests that were in flight at once.
    pub(crate) fn in_flight_max(&self) -> usize {
        self.shared.state().in_flight_max
    }

    /// How much of [`Fault::Endless`] was sent before the client hung up; waits for it.
    pub(crate) fn endless_bytes(&self) -> u64 {
        self.wait("the end of an endless answer", |state| (state.endless_bytes > 0).then_some(state.endless_bytes))
    }

    /// What was wrong with stored requests; dropping the receiver then no longer panics.
    pub(crate) fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().violations)
    }

    fn wait<T>(&self, what: &str, ready: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        loop {
            if let Some(found) = ready(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; there are {} requests", state.requests.len());
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.door.remove();
        self.close_connections();
        let violations = self.take_violations();
        if !violations.is_empty() && !std::thread::panicking() {
            panic!("the receiver stored what no exporter should send:\n{}", violations.join("\n"));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream, connection: usize) {
        let mut reader = http::Reader::new(stream.try_clone().unwrap());
        loop {
            let (head, body) = match reader.next() {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(error) => {
                    let text = format!("400 Bad Request: {error}");
                    let _gone = http::answer(stream, 400, &[], text.as_bytes()).is_err();
                    break;
                }
            };
            let at = Instant::now();
            let fault = {
                let mut state = self.state();
                state.in_flight += 1;
                state.in_flight_max = state.in_flight_max.max(state.in_flight);
                state.script.pop_front().or_else(|| state.always.clone())
            };
            self.changed.notify_all();
            let request = Request {
                method: head.method.clone(),
                target: head.target.clone(),
                headers: head.headers.clone(),
                message: None,
                status: 0,
                text: String::new(),
                body,
                connection,
                at,
            };
            let goes_on = self.treat(stream, request, fault);
            if !goes_on {
                break;
            }
        }
        let _closed = stream.shutdown(Shutdown::Both).is_err();
    }

    /// Deals with one request; says whether the connection goes on.
    fn treat(&self, stream: &TcpStream, mut request: Request, fault: Option<Fault>) -> bool {
        match fault {
            Some(Fault::Answer { status, headers, body }) => {
                request.status = status;
                self.done(request);
                faults::answer(stream, status, &headers, &body)
            }
            Some(Fault::StoreAndAnswer { status, headers, body }) => match self.judge(&mut request) {
                Ok(()) => {
                    request.status = status;
                    self.done(request);
                    faults::answer(stream, status, &headers, &body)
                }
                Err(verdict) => self.refuse(stream, request, verdict),
            },
            Some(Fault::StoreAndClose) => {
                let _refused = self.judge(&mut request).is_err();
                self.done(request);
                false
            }
            Some(Fault::Hang) => {
                faults::hang(stream);
                self.done(request);
                false
            }
            Some(Fault::Close) => {
                self.done(request);
                false
            }
            Some(Fault::Endless) => {
                let sent = faults::endless(stream);
                self.state().endless_bytes = sent.max(1);
                request.status = 200;
                self.done(request);
                false
            }
            Some(Fault::Garbage(bytes)) => {
                faults::garbage(stream, bytes);
                self.done(request);
                false
            }
            Some(Fault::Slow(time)) => {
                std::thread::sleep(time);
                self.answer(stream, request)
            }
            None => self.answer(stream, request),
        }
    }

    fn answer(&self, stream: &TcpStream, mut request: Request) -> bool {
        if let Some((status, location, text)) = route(&request) {
            let location = location.map(|location| ("Location", location.to_owned()));
            request.status = status;
            self.done(request);
            return http::answer(stream, status, location.as_slice(), text.as_bytes()).is_ok();
        }
        match self.judge(&mut request) {
            Ok(()) => {
                request.status = 200;
                self.done(request);
                http::answer(stream, 200, &[], b"").is_ok()
            }
            Err(verdict) => self.refuse(stream, request, verdict),
        }
    }

    fn judge(&self, request: &mut Request) -> Result<(), Verdict> {
        let mut state = self.state();
        let State { head, violations, .. } = &mut *state;
        let submitted = Submitted {
            content_type: request.header("content-type"),
            content_encoding: request.header("content-encoding"),
            body: &request.body,
        };
        request.message = Some(rules::store(self.version, &submitted, head, violations)?);
        Ok(())
    }

    fn refuse(&self, stream: &TcpStream, mut request: Request, verdict: Verdict) -> bool {
        let Verdict::Refuse(status, text) = verdict else {
            self.done(request);
            return false;
        };
        request.status = status;
        request.text.clone_from(&text);
        self.done(request);
        let headers = [("Content-Type", "text/plain; charset=utf-8".to_owned())];
        http::answer(stream, status, &headers, format!("{text}\n").as_bytes()).is_ok()
    }

    /// Records a request before it is answered, so that a client that has its answer finds it here.
    fn done(&self, request: Request) {
        let mut state = self.state();
        state.in_flight -= 1;
        state.requests.push(request);
        drop(state);
        self.changed.notify_all();
    }
}

/// Prometheus's router: status, location and text of what does not reach the receiver.
fn route(request: &Request) -> Option<(u16, Option<&str>, &'static str)> {
    let path = request.target.split('?').next().unwrap_or_default();
    match path.strip_prefix("/api/v1") {
        Some(_) if path == PATH && request.method == "POST" => None,
        Some(_) if path == PATH => Some((405, None, "Method Not Allowed\n")),
        // The router knows only the part behind /api/v1, and that is all it redirects to.
        Some(rest) if path.trim_end_matches('/') == PATH => Some((307, Some(rest.trim_end_matches('/')), "")),
        _ => Some((404, None, "404 page not found\n")),
    }
}
