//! The load client: keeps a number of connections busy, checks every answer and measures the gateway while doing so.
//!
//! It takes a [`Job`] as its argument and prints [`Figures`]. The gateway's CPU time is read here, not in the parent, because only
//! this process knows when the load begins: every connection is opened and has had one answer before the clock starts.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use memchr::{memchr_iter, memmem};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::process::{self, CoreTime, CpuTime};
use crate::upstream::{self, now_us};
use crate::wire::Connection;

/// Longer than any answer takes, slow streams included. It makes the client stop by itself, whatever the gateway does.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Stands where a prompt is made longer.
const PADDING: &str = "<padding>";

/// What to send, how often and for how long.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) address: SocketAddr,
    /// Header lines that every request has, each with its end.
    pub(crate) headers: String,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    /// The streams to ask for, or `None` for plain requests.
    pub(crate) stream: Option<Stream>,
    /// How long a body is made by a longer prompt, if it is not as long anyway.
    pub(crate) body_bytes: usize,
    /// The process whose tree is measured.
    pub(crate) watch: Option<u32>,
    pub(crate) gateway_core: usize,
    pub(crate) load_core: usize,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// Content events; the mock adds its frame around them.
    pub(crate) events: usize,
    pub(crate) gap_us: u64,
    /// One stream per connection, until it ends; otherwise stream after stream, cut at the end of the time when they are paced.
    pub(crate) once: bool,
}

/// What one run of the load client saw.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    /// Whole answers: requests, or streams that ended as they should.
    pub(crate) answers: u64,
    pub(crate) events: u64,
    pub(crate) reads: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// Microseconds, p50 and p99, each.
    pub(crate) latency: [f64; 2],
    pub(crate) first_event: [f64; 2],
    /// From the mock's write of an event to its arrival here.
    pub(crate) transit: [f64; 2],
    pub(crate) cpu: CpuTime,
    pub(crate) gateway_core: CoreTime,
    pub(crate) load_core: CoreTime,
    /// RSS of the watched tree in KiB, once a second.
    pub(crate) memory: Vec<u64>,
}

impl Figures {
    pub(crate) fn failed(error: &io::Error) -> Self {
        Self { errors: 1, first_error: Some(error.to_string()), ..Self::default() }
    }
}

pub(crate) fn run(argument: &str) -> io::Result<ExitCode> {
    let job: Job = serde_json::from_str(argument)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(job)).unwrap_or_else(|error| Figures::failed(&error));
    writeln!(io::stdout(), "{}", serde_json::to_string(&figures)?)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(job: Job) -> io::Result<Figures> {
    let mut connections = timeout(ANSWER_WITHIN, warm(&job)).await??;
    let (watch, once) = (job.watch, job.stream.as_ref().is_some_and(|stream| stream.once));
    let cpu = watch.map(process::cpu_time).unwrap_or_default();
    let cores = (process::core_time(job.gateway_core), process::core_time(job.load_core));
    let start = Instant::now();

    let plan = Arc::new(Plan::new(&job, start));
    let mut drivers = JoinSet::new();
    for (index, connection) in connections.drain(..).enumerate() {
        drivers.spawn(drive(connection, index, plan.clone()));
    }
    let mut total = Tally::default();
    let mut memory = Vec::new();
    loop {
        tokio::select! {
            finished = drivers.join_next() => match finished {
                Some(tally) => total.add(tally.map_err(io::Error::other)?),
                None => break,
            },
            () = sleep(Duration::from_secs(1)), if once => memory.extend(watch.and_then(process::memory)),
        }
    }

    let seconds = start.elapsed().as_secs_f64();
    Ok(Figures {
        seconds,
        answers: total.answers,
        events: total.events,
        reads: total.reads,
        errors: total.errors,
        first_error: total.first_error,
        latency: percentiles(total.latency_ns),
        first_event: percentiles(total.first_event_ns),
        transit: percentiles(total.transit_ns),
        cpu: watch.map(process::cpu_time).unwrap_or_default().since(&cpu),
        gateway_core: process::core_time(job.gateway_core).since(&cores.0),
        load_core: process::core_time(job.load_core).since(&cores.1),
        memory,
    })
}

/// Opens every connection and gets one plain answer on it, so that accepting and connecting upstream cost nothing later.
async fn warm(job: &Job) -> io::Result<Vec<Connection>> {
    let plain = Job { stream: None, ..job.clone() };
    let plan = Arc::new(Plan::new(&plain, Instant::now()));
    let mut opening = JoinSet::new();
    for _ in 0..job.connections {
        let (address, plan) = (job.address, plan.clone());
        opening.spawn(async move {
            let mut connection = Connection::open(address).await?;
            exchange(&mut connection, &plan, &mut Tally::default()).await?;
            connection.reads = 0;
            Ok::<_, io::Error>(connection)
        });
    }
    let mut connections = Vec::new();
    while let Some(opened) = opening.join_next().await {
        connections.push(opened.map_err(io::Error::other)??);
    }
    Ok(connections)
}

/// A [`Job`] made ready for use by every connection.
struct Plan {
    job: Job,
    request: Vec<u8>,
    end: Instant,
    hard_end: Instant,
    /// Streams that follow each other at a pace are still running at the end; that is no error.
    cut: bool,
}

impl Plan {
    fn new(job: &Job, start: Instant) -> Self {
        let end = start + Duration::from_secs_f64(job.seconds);
        let cut = job.stream.as_ref().is_some_and(|stream| stream.gap_us > 0 && !stream.once);
        let grace = if cut { Duration::ZERO } else { ANSWER_WITHIN };
        let options = job.stream.as_ref().map_or(String::new(), |stream| {
            format!(
                r#""stream":true,"stream_options":{{"include_usage":true}},"metadata":{{"events":"{}","gap_us":"{}"}},"#,
                stream.events, stream.gap_us
            )
        });
        let body = format!(
            r#"{{"model":"gpt-4o-mini",{options}"messages":[{{"role":"system","content":"You are a helpful assistant.{PADDING}"}},{{"role":"user","content":"What is a tollgate? Answer in one short sentence."}}],"temperature":0.7,"max_tokens":256}}"#
        );
        let missing = job.body_bytes.saturating_sub(body.len() - PADDING.len());
        let body = body.replace(PADDING, &" The road is long and has many gates.\\n".repeat(missing.div_ceil(39)));
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{}Content-Length: {}\r\n\r\n{body}",
            job.address,
            job.headers,
            body.len()
        );
        Self { job: job.clone(), request: request.into_bytes(), end, hard_end: end + grace, cut }
    }

    /// Paced streams begin evenly spread over one gap: begun together, their events would arrive as one batch for ever.
    fn begin(&self, index: usize) -> Duration {
        let gap_us = self.job.stream.as_ref().map_or(0, |stream| stream.gap_us);
        Duration::from_micros(gap_us * index as u64 / self.job.connections as u64)
    }
}

async fn drive(mut connection: Connection, index: usize, plan: Arc<Plan>) -> Tally {
    let mut tally = Tally::default();
    let begin = plan.begin(index);
    if !begin.is_zero() {
        sleep(begin).await;
    }
    let in_time = timeout_at(plan.hard_end, repeat(&mut connection, &plan, &mut tally)).await;
    if in_time.is_err() && !plan.cut {
        tally.fail("an answer did not come in time");
    }
    tally.reads += connection.reads;
    tally
}

async fn repeat(connection: &mut Connection, plan: &Plan, tally: &mut Tally) {
    let once = plan.job.stream.as_ref().is_some_and(|stream| stream.once);
    while Instant::now() < plan.end {
        if let Err(error) = exchange(connection, plan, tally).await {
            tally.fail(&error.to_string());
            // A gateway that refuses everything must not be hammered.
            sleep(Duration::from_millis(10)).await;
            match Connection::open(plan.job.address).await {
                Ok(new) => *connection = new,
                Err(error) => return tally.fail(&error.to_string()),
            }
        }
        if once {
            return;
        }
    }
}

/// One request and its whole answer.
async fn exchange(connection: &mut Connection, plan: &Plan, tally: &mut Tally) -> io::Result<()> {
    let sent = Instant::now();
    connection.write(&plan.request).await?;
    let head = connection.head().await?.ok_or_else(|| io::Error::other("closed before the answer"))?;
    if !connection.line(&head).starts_with(b"HTTP/1.1 200 ") {
        let mut text = connection.line(&head).to_vec();
        text.extend_from_slice(b": ");
        connection.body(head.body, |piece| text.extend_from_slice(piece)).await?;
        return Err(io::Error::other(String::from_utf8_lossy(&text).into_owned()));
    }
    let with_transit = plan.cut;
    let mut first_event_ns = None;
    let mut answer = Answer::default();
    connection
        .body(head.body, |piece| {
            first_event_ns.get_or_insert_with(|| sent.elapsed().as_nanos() as u64);
            tally.events += answer.take(piece);
            if with_transit {
                tally.note_transit(piece);
            }
        })
        .await?;
    let as_expected = match &plan.job.stream {
        Some(stream) => answer.events == (stream.events + upstream::EVENTS_AROUND) as u64,
        None => answer.bytes == upstream::ANSWER.len(),
    };
    if !as_expected || !connection.is_between_messages() {
        return Err(io::Error::other(format!("the answer changed: {} bytes, {} events", answer.bytes, answer.events)));
    }
    tally.answers += 1;
    tally.latency_ns.push(sent.elapsed().as_nanos() as u64);
    tally.first_event_ns.extend(first_event_ns);
    Ok(())
}

/// What has arrived of one answer.
#[derive(Default)]
struct Answer {
    bytes: usize,
    events: u64,
    after_newline: bool,
}

impl Answer {
    /// Counts the blank lines that end events, wherever the pieces are cut.
    fn take(&mut self, piece: &[u8]) -> u64 {
        let before = self.events;
        let mut next_expected = if self.after_newline { 0 } else { usize::MAX };
        for at in memchr_iter(b'\n', piece) {
            if at == next_expected {
                self.events += 1;
                next_expected = usize::MAX;
            } else {
                next_expected = at + 1;
            }
        }
        self.after_newline = next_expected == piece.len();
        self.bytes += piece.len();
        self.events - before
    }
}

/// What one connection saw.
#[derive(Default)]
struct Tally {
    answers: u64,
    events: u64,
    reads: u64,
    errors: u64,
    first_error: Option<String>,
    latency_ns: Vec<u64>,
    first_event_ns: Vec<u64>,
    transit_ns: Vec<u64>,
}

impl Tally {
    fn fail(&mut self, error: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_owned());
    }

    /// A stamp that is cut in two by the end of a piece is left out.
    fn note_transit(&mut self, piece: &[u8]) {
        let now = now_us();
        for at in memmem::find_iter(piece, b" @") {
            let digits = piece.get(at + 2..at + 18).and_then(|digits| std::str::from_utf8(digits).ok());
            if let Some(then) = digits.and_then(|digits| digits.parse::<u64>().ok()) {
                self.transit_ns.push(now.saturating_sub(then) * 1000);
            }
        }
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.events += other.events;
        self.reads += other.reads;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.latency_ns.extend(other.latency_ns);
        self.first_event_ns.extend(other.first_event_ns);
        self.transit_ns.extend(other.transit_ns);
    }
}

/// p50 and p99 in microseconds.
fn percentiles(mut nanoseconds: Vec<u64>) -> [f64; 2] {
    nanoseconds.sort_unstable();
    [50, 99]
        .map(|percent| nanoseconds.get(nanoseconds.len() * percent / 100).map_or(0.0, |value| *value as f64 / 1000.0))
}
