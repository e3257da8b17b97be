//! A strict OTLP receiver over gRPC: notes everything that is wrong with a call by gRPC's
//! PROTOCOL-HTTP2.md, and fails the test for it. Can be told to misbehave.
//!
//! Runs on a thread of its own, so that it serves any runtime.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::Read,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::{HeaderMap, HeaderName, Request, Response, request::Parts};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    task::LocalSet,
};
use tokio_rustls::TlsAcceptor;
use tollgate::proto::opentelemetry::proto::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};

use super::receiver::check_message;

const PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// How long a test waits for something to arrive before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

type Pairs = Vec<(&'static str, String)>;

/// What happens to a call instead of being answered with success.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This answer: a head, pieces of a body, trailers. Without trailers the body ends the stream.
    Answer { status: u16, head: Pairs, body: Vec<u8>, trailers: Option<Pairs> },
    /// A success, after which no more calls are taken on the connection.
    GoAway,
    /// The call is answered with RST_STREAM.
    Reset(Reason),
    /// The connection ends with GOAWAY and this reason, without an answer.
    Abort(Reason),
    /// No answer, for as long as the client waits.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// A success whose body goes on for as long as the client reads.
    Endless,
}

impl Fault {
    /// A gRPC status after a head, as most servers send it.
    pub(crate) fn status(code: u8, message: &str) -> Self {
        let trailers = vec![("grpc-status", code.to_string()), ("grpc-message", message.to_owned())];
        Self::Answer { status: 200, head: content_type("application/grpc"), body: Vec::new(), trailers: Some(trailers) }
    }

    /// A gRPC status in the head and nothing after it.
    pub(crate) fn trailers_only(code: u8, message: &str) -> Self {
        let mut head = content_type("application/grpc");
        head.extend([("grpc-status", code.to_string()), ("grpc-message", message.to_owned())]);
        Self::Answer { status: 200, head, body: Vec::new(), trailers: None }
    }

    /// A gRPC status with a `RetryInfo` of so many seconds.
    pub(crate) fn retry(code: u8, seconds: u8) -> Self {
        let mut fault = Self::status(code, "later");
        if let Self::Answer { trailers: Some(trailers), .. } = &mut fault {
            trailers.push(("grpc-status-details-bin", retry_info(seconds)));
        }
        fault
    }

    /// An answer of something that is not gRPC.
    pub(crate) fn http(status: u16, kind: &str, body: &str) -> Self {
        Self::Answer { status, head: content_type(kind), body: body.into(), trailers: None }
    }

    /// These bytes as the body of a success.
    pub(crate) fn body(body: &[u8]) -> Self {
        let trailers = Some(vec![("grpc-status", "0".to_owned())]);
        Self::Answer { status: 200, head: content_type("application/grpc"), body: body.to_vec(), trailers }
    }

    /// A partial success.
    pub(crate) fn partial(rejected: i64, message: &str) -> Self {
        let partial_success =
            Some(ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: message.to_owned() });
        Self::body(&frame(&ExportMetricsServiceResponse { partial_success }.encode_to_vec()))
    }
}

fn content_type(kind: &str) -> Pairs {
    vec![("content-type", kind.to_owned())]
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), message].concat()
}

/// A `google.rpc.Status` with a `RetryInfo`, byte by byte and in base64 without padding.
fn retry_info(seconds: u8) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const TYPE: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";
    let info = [0x0a, 2, 0x08, seconds];
    let any = [&[0x0a, TYPE.len() as u8], TYPE, &[0x12, info.len() as u8], &info].concat();
    let status = [&[0x08, 14, 0x1a, any.len() as u8], any.as_slice()].concat();
    let mut text = String::new();
    for group in status.chunks(3) {
        let bits = group.iter().chain(&[0; 2]).take(3).fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        (0..=group.len()).for_each(|place| text.push(char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize])));
    }
    text
}

/// A call that came, whatever became of it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Names in lower case, as HTTP/2 has them.
    pub headers: Vec<(String, String)>,
    pub message: ExportMetricsServiceRequest,
    pub is_compressed: bool,
    /// Bytes on the wire, with the prefix.
    pub bytes: usize,
    /// Counts connections from 0.
    pub connection: usize,
    pub at: Instant,
}

impl Call {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    violations: Vec<String>,
    script: VecDeque<Fault>,
    connections: usize,
    endless_bytes: u64,
}

struct Shared {
    address: SocketAddr,
    scheme: &'static str,
    state: Mutex<State>,
    changed: Condvar,
}

/// A running receiver. Dropping it stops it and panics if something was wrong with a call.
pub(crate) struct GrpcReceiver {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
}

impl GrpcReceiver {
    /// Starts on a free port of 127.0.0.1, without TLS.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts with TLS.
    pub(crate) fn start_with(tls: Option<rustls::ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let serving = async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
                tokio::select! {
                    () = accept(listener, tls, served) => {}
                    _ = stopped => {}
                }
            };
            LocalSet::new().block_on(&runtime, serving);
        });
        Self { shared, stop: Some(stop) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Lets these happen to the next calls, one each, before it behaves again.
    pub(crate) fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().script.extend(faults);
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Waits until so many calls have come, and returns all there are.
    pub(crate) fn wait_for_calls(&self, count: usize) -> Vec<Call> {
        self.wait(&format!("{count} calls"), |state| (state.calls.len() >= count).then(|| state.calls.clone()))
    }

    /// Waits until a call has come on so many connections.
    pub(crate) fn wait_for_connections(&self, count: usize) {
        let connections = |state: &State| state.calls.last().map_or(0, |call| call.connection + 1);
        self.wait(&format!("{count} connections"), |state| (connections(state) >= count).then_some(()));
    }

    /// How much of [`Fault::Endless`] was sent before the client had enough; waits for it.
    pub(crate) fn endless_bytes(&self) -> u64 {
        self.wait("the end of an endless answer", |state| (state.endless_bytes > 0).then_some(state.endless_bytes))
    }

    fn wait<T>(&self, what: &str, ready: impl Fn(&State) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        loop {
            if let Some(found) = ready(&state) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}; there are {} calls", state.calls.len());
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for GrpcReceiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        let violations = std::mem::take(&mut self.shared.state().violations);
        if !violations.is_empty() && !std::thread::panicking() {
            panic!("the receiver was called as no exporter should:\n{}", violations.join("\n"));
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call does to its connection. The call is held until then, as it would be reset otherwise.
enum Command {
    GoAway,
    Abort(Reason, SendResponse<Bytes>),
    Close(SendResponse<Bytes>),
}

async fn accept(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((socket, _)) = listener.accept().await {
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        tokio::task::spawn_local(async move {
            match tls {
                None => serve(socket, &shared).await,
                Some(tls) => {
                    // A client that we, or that does not, trust ends here.
                    let Ok(stream) = tls.accept(socket).await else { return };
                    serve(stream, &shared).await;
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Arc<Shared>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let number = {
        let mut state = shared.state();
        state.connections += 1;
        state.connections - 1
    };
    let (send, mut commands) = mpsc::channel(8);
    loop {
        tokio::select! {
            call = connection.accept() => {
                let Some(Ok((request, respond))) = call else { return };
                tokio::task::spawn_local(treat(request, respond, Arc::clone(shared), number, send.clone()));
            }
            Some(command) = commands.recv() => match command {
                Command::GoAway => connection.graceful_shutdown(),
                Command::Abort(reason, _respond) => return abort(connection, reason).await,
                Command::Close(respond) => {
                    drop(connection);
                    return drop(respond);
                }
            },
        }
    }
}

async fn abort(mut connection: Connection<impl AsyncRead + AsyncWrite + Unpin, Bytes>, reason: Reason) {
    connection.abrupt_shutdown(reason);
    let _ended = poll_fn(|cx| connection.poll_closed(cx)).await.is_err();
}

async fn treat(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
    connection: usize,
    commands: mpsc::Sender<Command>,
) {
    let at = Instant::now();
    let (head, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(data)) = stream.data().await {
        // A window that is never opened again would stop larger requests.
        stream.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    let fault = {
        let mut state = shared.state();
        let call = judge(&head, &body, &shared, &mut state.violations);
        state.calls.extend(call.map(|(message, is_compressed)| {
            Call {
                headers: head
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                    .collect(),
                message,
                is_compressed,
                bytes: body.len(),
                connection,
                at,
            }
        }));
        state.script.pop_front()
    };
    match fault {
        None => success(&mut respond),
        Some(Fault::GoAway) => {
            success(&mut respond);
            let _gone = commands.try_send(Command::GoAway).is_err();
        }
        Some(Fault::Answer { status, head, body, trailers }) => answer(&mut respond, status, head, body, trailers),
        Some(Fault::Reset(reason)) => respond.send_reset(reason),
        Some(Fault::Abort(reason)) => drop(commands.try_send(Command::Abort(reason, respond))),
        Some(Fault::Close) => drop(commands.try_send(Command::Close(respond))),
        Some(Fault::Hang) => {
            shared.changed.notify_all();
            let _gone = poll_fn(|cx| respond.poll_reset(cx)).await.is_err();
        }
        Some(Fault::Endless) => {
            let sent = endless(&mut respond).await;
            shared.state().endless_bytes = sent.max(1);
        }
    }
    shared.changed.notify_all();
}

fn success(respond: &mut SendResponse<Bytes>) {
    let trailers = Some(vec![("grpc-status", "0".to_owned())]);
    answer(respond, 200, content_type("application/grpc"), frame(b""), trailers);
}

fn head_of(status: u16, pairs: Pairs) -> Response<()> {
    let mut response = Response::builder().status(status).body(()).unwrap();
    *response.headers_mut() = header_map(pairs);
    response
}

fn header_map(pairs: Pairs) -> HeaderMap {
    pairs.into_iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn answer(respond: &mut SendResponse<Bytes>, status: u16, head: Pairs, body: Vec<u8>, trailers: Option<Pairs>) {
    let is_head_only = body.is_empty() && trailers.is_none();
    // The client may have given up.
    let Ok(mut stream) = respond.send_response(head_of(status, head), is_head_only) else { return };
    if !body.is_empty() {
        let _gone = stream.send_data(body.into(), trailers.is_none()).is_err();
    }
    if let Some(trailers) = trailers {
        let _gone = stream.send_trailers(header_map(trailers)).is_err();
    }
}

async fn endless(respond: &mut SendResponse<Bytes>) -> u64 {
    let Ok(mut stream) = respond.send_response(head_of(200, content_type("application/grpc")), false) else { return 0 };
    let mut sent = 0;
    loop {
        stream.reserve_capacity(16 * 1024);
        let Some(Ok(capacity)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return sent };
        if stream.send_data(Bytes::from(vec![0; capacity]), false).is_err() {
            return sent;
        }
        sent += capacity as u64;
    }
}

/// Notes what is wrong with a call, and reads its message.
fn judge(
    head: &Parts,
    body: &[u8],
    shared: &Shared,
    violations: &mut Vec<String>,
) -> Option<(ExportMetricsServiceRequest, bool)> {
    let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap());
    let mut expect = |what: &str, found: Option<&str>, expected: Option<&str>| {
        if found != expected {
            violations.push(format!("{what} is {found:?}, not {expected:?}"));
        }
    };
    expect("the method", Some(head.method.as_str()), Some("POST"));
    expect("the scheme", head.uri.scheme_str(), Some(shared.scheme));
    expect("the path", head.uri.path_and_query().map(|path| path.as_str()), Some(PATH));
    let port = head.uri.authority().and_then(|authority| authority.port_u16()).map(|port| port.to_string());
    expect("the port of the authority", port.as_deref(), Some(shared.address.port().to_string().as_str()));
    expect("content-type", header("content-type"), Some("application/grpc"));
    expect("te", header("te"), Some("trailers"));
    expect("grpc-accept-encoding", header("grpc-accept-encoding"), Some("identity"));
    expect("user-agent", header("user-agent"), Some(concat!("tollgate/", env!("CARGO_PKG_VERSION"), " (otlp-grpc)")));
    for absent in ["host", "connection", "transfer-encoding", "content-encoding", "accept-encoding"] {
        expect(absent, header(absent), None);
    }
    if let Some(length) = header("content-length") {
        expect("content-length", Some(length), Some(body.len().to_string().as_str()));
    }
    let timeout = header("grpc-timeout").unwrap_or_default();
    let (digits, unit) = timeout.split_at(timeout.len().saturating_sub(1));
    if !(1..=8).contains(&digits.len()) || digits.parse().unwrap_or(0) == 0 || !"HMSmun".contains(unit) {
        violations.push(format!("grpc-timeout is {timeout:?}"));
    }
    let framed = body
        .split_first_chunk::<5>()
        .filter(|([_, length @ ..], message)| u32::from_be_bytes(*length) as usize == message.len());
    let Some(([flag, ..], message)) = framed else {
        violations.push(format!("the body is not one message: {:?}…", &body[..body.len().min(20)]));
        return None;
    };
    let message = match (flag, header("grpc-encoding")) {
        (0, None | Some("gzip")) => message.to_vec(),
        (1, Some("gzip")) => {
            let mut plain = Vec::new();
            GzDecoder::new(message).read_to_end(&mut plain).unwrap();
            plain
        }
        (flag, encoding) => {
            violations.push(format!("the flag {flag} does not go with grpc-encoding {encoding:?}"));
            return None;
        }
    };
    match ExportMetricsServiceRequest::decode(message.as_slice()) {
        Ok(message) => {
            check_message(&message, violations);
            Some((message, *flag == 1))
        }
        Err(error) => {
            violations.push(format!("the message cannot be decoded: {error}"));
            None
        }
    }
}
