//! The mock upstream: answers like a provider, at the pace that the request asks for, and receives the OTLP exports.
//!
//! The pace travels in the request body (`metadata.events`, `metadata.gap_us`), which a gateway passes on untouched; so one
//! process serves all tests and nothing has to be switched between them. It does not check keys and parses no JSON.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::wire::{self, Connection};

/// The one non-streaming answer; the load client checks that it arrives whole.
pub(crate) const ANSWER: &str = r#"{"id":"chatcmpl-B7xQmT2vNc81KdLrZpWfY0uHsEaG","object":"chat.completion","created":1767225600,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"A tollgate is a gate across a road where travellers pay before they may go on; the keeper counts the carts and writes them down.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":29,"total_tokens":53,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0}},"service_tier":"default","system_fingerprint":"fp_62a4c1d09b"}"#;

/// Every stream has this many events around its content: role, finish, usage and `[DONE]`.
pub(crate) const EVENTS_AROUND: usize = 4;

const HEAD: &str = "HTTP/1.1 200 OK\r\nx-request-id: req_5f0c2e77a1b94d3386\r\nopenai-processing-ms: 312\r\n";
const CHUNK_HEAD: &str = r#"data: {"id":"chatcmpl-B7xQmT2vNc81KdLrZpWfY0uHsEaG","object":"chat.completion.chunk","created":1767225600,"model":"gpt-4o-mini-2024-07-18","#;
/// Stands where the sending time goes; a client on the same machine takes the difference.
const STAMP: &str = "@0000000000000000";
/// A stuck run must not leave a listener behind for ever.
const LIFETIME: Duration = Duration::from_secs(1800);

/// Prints its port, then serves until its standard input closes: it cannot outlive the bench.
pub(crate) fn run() -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Nobody writes to it: this returns when the parent is gone.
        io::stdin().read_exact(&mut [0]).ok();
        stop.send(()).ok();
    });
    runtime.block_on(async {
        tokio::select! {
            result = serve() => result?,
            _ = stopped => {}
            () = tokio::time::sleep(LIFETIME) => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn serve() -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    // The slow test opens a thousand connections at once.
    let listener = socket.listen(4096)?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;

    let mock = Arc::new(Mock::new());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let connection = Connection::new(accepted?.0)?;
                // A connection that breaks shows up as an error at the load client, where errors are counted.
                connections.spawn(answer_all(connection, mock.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Mock {
    plain: Vec<u8>,
    stream_start: Vec<u8>,
    event: Vec<u8>,
    stamp_at: usize,
    stream_end: Vec<u8>,
    exports: AtomicU64,
    export_bytes: AtomicU64,
}

impl Mock {
    fn new() -> Self {
        let plain = format!("{HEAD}content-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len());
        let start = event(
            r#""choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null"#,
        );
        let content = event(&format!(
            r#""choices":[{{"index":0,"delta":{{"content":" {STAMP}"}},"finish_reason":null}}],"usage":null"#
        ));
        let finish = event(r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null"#);
        let usage = event(r#""choices":[],"usage":{"prompt_tokens":24,"completion_tokens":32,"total_tokens":56}"#);
        Self {
            plain: plain.into_bytes(),
            stream_start: format!(
                "{HEAD}content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n{start}"
            )
            .into_bytes(),
            stamp_at: content.find(STAMP).map_or(0, |at| at + 1),
            event: content.into_bytes(),
            stream_end: format!("{finish}{usage}e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").into_bytes(),
            exports: AtomicU64::new(0),
            export_bytes: AtomicU64::new(0),
        }
    }

    fn count_export(&self, bytes: usize) -> Vec<u8> {
        self.exports.fetch_add(1, Relaxed);
        self.export_bytes.fetch_add(bytes as u64, Relaxed);
        // An empty ExportMetricsServiceResponse: everything was accepted.
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n".to_vec()
    }

    fn counts(&self) -> Vec<u8> {
        let body = format!("{} {}", self.exports.load(Relaxed), self.export_bytes.load(Relaxed));
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    /// One write per event, as a provider that flushes every token.
    async fn stream(&self, connection: &mut Connection, request: &[u8]) -> io::Result<()> {
        let events = field(request, b"\"events\":\"").unwrap_or(32);
        let gap = Duration::from_micros(field(request, b"\"gap_us\":\"").unwrap_or(0) as u64);
        let mut event = self.event.clone();
        let mut due = Instant::now();
        connection.write(&self.stream_start).await?;
        for _ in 0..events {
            if gap.is_zero() {
                // Other streams take their turn between two events, so that a gateway sees the streams interleaved.
                tokio::task::yield_now().await;
            } else {
                due += gap;
                sleep_until(due).await;
            }
            stamp(&mut event[self.stamp_at..]);
            connection.write(&event).await?;
        }
        connection.write(&self.stream_end).await
    }
}

async fn answer_all(mut connection: Connection, mock: Arc<Mock>) -> io::Result<()> {
    let mut body = Vec::new();
    while let Some(head) = connection.head().await? {
        let line = connection.line(&head);
        let is_export = memmem::find(line, b"/v1/metrics ").is_some();
        let is_question = line.starts_with(b"GET /counts ");
        body.clear();
        connection.body(head.body, |piece| body.extend_from_slice(piece)).await?;
        if is_export {
            connection.write(&mock.count_export(body.len())).await?;
        } else if is_question {
            connection.write(&mock.counts()).await?;
        } else if memmem::find(&body, b"\"stream\":true").is_some() {
            mock.stream(&mut connection, &body).await?;
        } else {
            connection.write(&mock.plain).await?;
        }
    }
    Ok(())
}

/// One SSE event as one HTTP chunk.
fn event(rest: &str) -> String {
    let data = format!("{CHUNK_HEAD}{rest}}}\n\n");
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn field(request: &[u8], name: &[u8]) -> Option<usize> {
    let start = memmem::find(request, name)? + name.len();
    wire::number(&request[start..])
}

pub(crate) fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Writes the time in sixteen digits.
fn stamp(place: &mut [u8]) {
    let mut now = now_us();
    for digit in place[..16].iter_mut().rev() {
        *digit = b'0' + (now % 10) as u8;
        now /= 10;
    }
}
