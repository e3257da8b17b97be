//! The client: sends at a fixed rate, reads every answer to its end, and counts what the answers say.
//!
//! One thread for each connection. A request that has to wait because the one before it took too long is as late as
//! it is: its time counts from when it was due.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gateway::KEY;
use crate::wire::{self, Body};

/// Far longer than any answer takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const SYSTEM: &str = "answer with these words";

/// Open connections and the counts of all that was ever sent over them.
pub(crate) struct Client {
    connections: Vec<Connection>,
    pub(crate) counts: Counts,
}

/// What the client has seen, to be compared with what the gateway reports.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    /// Answers that were whole and right.
    pub(crate) requests: u64,
    /// Those of them that were streams.
    pub(crate) streams: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
}

/// How long answers took, in microseconds.
#[derive(Default)]
pub(crate) struct Latencies {
    pub(crate) whole: Vec<f64>,
    pub(crate) streamed: Vec<f64>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, connections: usize) -> io::Result<Self> {
        let connections = (0..connections).map(|index| Connection::open(address, index)).collect::<io::Result<_>>()?;
        Ok(Self { connections, counts: Counts::default() })
    }

    /// Sends `rate` requests a second, over all connections, until `end`.
    pub(crate) fn run(&mut self, rate: f64, end: Instant) -> Latencies {
        let start = Instant::now();
        let share = Duration::from_secs_f64(1.0 / rate);
        let gap = share * u32::try_from(self.connections.len()).unwrap_or(1);
        let mut latencies = Latencies::default();
        let Self { connections, counts } = self;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0_u32..)
                .zip(connections)
                .map(|(index, connection)| scope.spawn(move || connection.repeat(start + share * index, gap, end)))
                .collect();
            for thread in threads {
                match thread.join() {
                    Ok((seen, took)) => {
                        counts.add(seen);
                        latencies.whole.extend(took.whole);
                        latencies.streamed.extend(took.streamed);
                    }
                    Err(_) => counts.fail("a thread of the client panicked".to_owned()),
                }
            }
        });
        latencies
    }
}

impl Counts {
    fn fail(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.streams += other.streams;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// What is asked: how many words, and how they are to come back.
#[derive(Clone, Copy)]
struct Question {
    words: usize,
    stream: bool,
    include_usage: bool,
}

impl Question {
    /// Half of them stream, half of those ask for usage: the gateway has to ask for the other half itself.
    fn number(number: usize) -> Self {
        Self { words: 3 + number * 7 % 23, stream: number % 2 == 1, include_usage: number % 4 == 1 }
    }

    fn request(self) -> Vec<u8> {
        let options = match (self.stream, self.include_usage) {
            (false, _) => "",
            (true, false) => r#""stream":true,"#,
            (true, true) => r#""stream":true,"stream_options":{"include_usage":true},"#,
        };
        let words = vec!["word"; self.words].join(" ");
        let body = format!(
            r#"{{"model":"echo",{options}"messages":[{{"role":"system","content":"{SYSTEM}"}},{{"role":"user","content":"{words}"}}]}}"#
        );
        let length = body.len();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Input and output tokens as the answer tells them.
    fn tokens(self, answer: &str) -> Result<(u64, u64), String> {
        let usage = if self.stream { self.usage_of_stream(answer)? } else { usage(answer) };
        let expected = ((SYSTEM.split(' ').count() + self.words) as u64, self.words as u64);
        match usage {
            Some(tokens) if tokens == expected => Ok(tokens),
            Some(tokens) => Err(format!("usage {tokens:?} instead of {expected:?}")),
            None if self.stream && !self.include_usage => Ok(expected),
            None => Err(format!("no usage in {answer}")),
        }
    }

    fn usage_of_stream(self, answer: &str) -> Result<Option<(u64, u64)>, String> {
        let words = answer.matches("word").count();
        if words != self.words || !answer.ends_with("data: [DONE]\n\n") {
            return Err(format!("{words} of {} words in {answer}", self.words));
        }
        let usages: Vec<_> = answer.split("\n\n").filter_map(|event| usage(event.strip_prefix("data: ")?)).collect();
        if usages.len() != usize::from(self.include_usage) {
            return Err(format!("{} usages in {answer}", usages.len()));
        }
        Ok(usages.first().copied())
    }
}

fn usage(json: &str) -> Option<(u64, u64)> {
    let value: Value = serde_json::from_str(json).ok()?;
    let usage = value.get("usage")?;
    Some((usage.get("prompt_tokens")?.as_u64()?, usage.get("completion_tokens")?.as_u64()?))
}

struct Connection {
    address: SocketAddr,
    socket: TcpStream,
    buffer: Vec<u8>,
    /// Counts questions, so that runs do not begin with the same ones.
    number: usize,
}

impl Connection {
    fn open(address: SocketAddr, index: usize) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { address, socket, buffer: Vec::new(), number: index })
    }

    fn repeat(&mut self, mut due: Instant, gap: Duration, end: Instant) -> (Counts, Latencies) {
        let (mut counts, mut latencies) = (Counts::default(), Latencies::default());
        while due < end && Instant::now() < end {
            let question = Question::number(self.number);
            self.number += 1;
            let request = question.request();
            let early = due.saturating_duration_since(Instant::now());
            sleep(early);
            let asked = if early.is_zero() { due } else { Instant::now() };
            match self.exchange(&request).and_then(|answer| question.tokens(&answer).map_err(io::Error::other)) {
                Ok((input, output)) => {
                    let took = asked.elapsed().as_secs_f64() * 1e6;
                    if question.stream { &mut latencies.streamed } else { &mut latencies.whole }.push(took);
                    counts.requests += 1;
                    counts.streams += u64::from(question.stream);
                    counts.input_tokens += input;
                    counts.output_tokens += output;
                }
                Err(error) => {
                    counts.fail(error.to_string());
                    match Self::open(self.address, self.number) {
                        Ok(new) => *self = new,
                        Err(error) => {
                            counts.fail(error.to_string());
                            return (counts, latencies);
                        }
                    }
                }
            }
            due += gap;
        }
        (counts, latencies)
    }

    /// One request and the body of its answer.
    fn exchange(&mut self, request: &[u8]) -> io::Result<String> {
        self.socket.write_all(request)?;
        self.buffer.clear();
        let head = loop {
            if let Some(head) = wire::parse_head(&self.buffer)? {
                break head;
            }
            self.fill()?;
        };
        let is_success = self.buffer.starts_with(b"HTTP/1.1 200 ");
        let (mut body, mut at, mut text) = (head.body, head.length, Vec::new());
        loop {
            at += Body::feed(&mut body, &self.buffer[at..], |piece| text.extend_from_slice(piece))?;
            if body.is_done() {
                break;
            }
            self.fill()?;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        if !is_success || at != self.buffer.len() {
            return Err(io::Error::other(text));
        }
        Ok(text)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        let read = self.socket.read(&mut piece)?;
        if read == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "closed before the answer was complete"));
        }
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(())
    }
}
