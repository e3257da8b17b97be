//! The client beside every row: 20 requests a second, half of them streamed, each with words of its own that have to come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use crate::http1::{Connection, chat};

const PERIOD: Duration = Duration::from_millis(50);

/// What it saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) asked: usize,
    pub(crate) wrong: Vec<String>,
    /// No connection, or one that was closed before a byte of an answer.
    pub(crate) refused: usize,
    pub(crate) first_refusal: Option<String>,
    latencies: Vec<Duration>,
}

impl Seen {
    pub(crate) fn p99(&mut self) -> Duration {
        self.latencies.sort();
        let at = (self.latencies.len() * 99 / 100).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or_default()
    }
}

pub(crate) struct Canary {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Seen>>,
}

impl Canary {
    pub(crate) fn start(address: SocketAddr, is_connecting: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || run(address, is_connecting, &stopped));
        Self { stop, thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) -> Seen {
        self.stop.store(true, Relaxed);
        let seen = self.thread.take().and_then(|thread| thread.join().ok());
        seen.unwrap_or_else(|| Seen { wrong: vec!["the canary itself failed".to_owned()], ..Seen::default() })
    }
}

fn run(address: SocketAddr, is_connecting: bool, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let (mut kept, mut kept_stream) = (None, None);
    let mut next = Instant::now();
    while !stop.load(Relaxed) {
        sleep(next.saturating_duration_since(Instant::now()));
        let is_stream = seen.asked % 2 == 1;
        // Streams come on connections of their own, so that who connects while a row goes on is seen to.
        let connection = if is_stream { &mut kept_stream } else { &mut kept };
        if is_stream && is_connecting {
            *connection = None;
        }
        let began = Instant::now();
        let nonce = format!("{}x{}", seen.asked, std::process::id());
        match ask(address, connection, is_stream, &nonce) {
            Ok(None) => {}
            Ok(Some(wrong)) => {
                *connection = None;
                seen.wrong.push(wrong);
            }
            Err(refusal) => {
                *connection = None;
                seen.refused += 1;
                seen.first_refusal.get_or_insert(refusal);
            }
        }
        seen.latencies.push(began.elapsed());
        seen.asked += 1;
        // After a long answer it does not catch up: that would be another load.
        next = (next + PERIOD).max(Instant::now());
    }
    seen
}

/// What was wrong with an answer, if something was; an error when there was none.
fn ask(
    address: SocketAddr,
    kept: &mut Option<Connection>,
    is_stream: bool,
    nonce: &str,
) -> Result<Option<String>, String> {
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(address)?),
    };
    connection.send(&chat("canary", is_stream, nonce)).map_err(|error| format!("not sent: {error}"))?;
    let answer = connection.answer()?;
    let text = answer.text();
    let is_right = answer.status == 200
        && answer.is_whole
        && if is_stream { text.matches(nonce).count() == 5 && text.contains("[DONE]") } else { text.contains(nonce) };
    if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *kept = None;
    }
    Ok((!is_right).then(|| format!("{} {text:?}, whole: {}", answer.status, answer.is_whole)))
}
