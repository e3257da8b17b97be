//! A fake provider that records what it is sent, byte for byte, and answers as a row wants it to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is kept of a body; the rest is counted.
const KEPT: usize = 64 << 10;

/// A request as it arrived.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    /// Its first 64 KiB.
    pub(crate) body: Vec<u8>,
    /// Which of the wall's connections it came on.
    pub(crate) connection: usize,
    /// How many came before it.
    pub(crate) number: usize,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.text().contains("\"stream\":true")
    }
}

/// What becomes of the connection after an answer.
pub(crate) enum End {
    Keep,
    Close,
    Reset,
}

type Plan = Arc<dyn Fn(&Seen, &mut TcpStream) -> io::Result<End> + Send + Sync>;

#[derive(Default)]
struct State {
    plan: Mutex<Option<Plan>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// When a connection was found closed by the other side.
    closed: Mutex<Vec<Instant>>,
}

#[derive(Clone)]
pub(crate) struct Wall {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Wall {
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let wall = Self { address: listener.local_addr()?, state: Arc::default() };
        let state = Arc::clone(&wall.state);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // Without a thread for it the connection is closed, which a row sees.
                std::thread::Builder::new().stack_size(256 << 10).spawn(move || serve(socket, &state)).ok();
            }
        });
        Ok(wall)
    }

    /// From now on, requests other than the canary's are answered so.
    pub(crate) fn plan(&self, plan: impl Fn(&Seen, &mut TcpStream) -> io::Result<End> + Send + Sync + 'static) {
        *self.state.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(plan));
    }

    /// Answers as a provider should, and has seen nothing.
    pub(crate) fn reset(&self) {
        *self.state.plan.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.state.closed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The requests since [`Self::reset`], without the canary's.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When the gateway closed connections in the middle of an answer.
    pub(crate) fn closed(&self) -> Vec<Instant> {
        self.state.closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A plan found the connection closed.
    pub(crate) fn note_closed(&self) {
        self.state.closed.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    }
}

fn serve(mut socket: TcpStream, state: &State) {
    let connection = state.connections.fetch_add(1, Relaxed);
    // However it ends: a row looks at what was seen.
    let end = exchange(&mut socket, state, connection);
    if matches!(end, Ok(End::Reset)) {
        let reset = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        debug_assert!(reset.is_ok());
    }
}

fn exchange(socket: &mut TcpStream, state: &State, connection: usize) -> io::Result<End> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let Some(mut seen) = read_request(socket, &mut buffer, connection)? else { return Ok(End::Close) };
        let is_canary = seen.text().contains("\"canary\"");
        let plan = state.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !is_canary {
            let mut all = state.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.number = all.len();
            all.push(seen.clone());
        }
        let end = match plan.filter(|_| !is_canary) {
            Some(plan) => plan(&seen, socket)?,
            None => answer(&seen, socket)?,
        };
        if !matches!(end, End::Keep) {
            return Ok(end);
        }
    }
}

fn read_request(socket: &mut TcpStream, buffer: &mut Vec<u8>, connection: usize) -> io::Result<Option<Seen>> {
    let mut piece = vec![0; 64 << 10];
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let read = socket.read(&mut piece)?;
        if read == 0 {
            return Ok(None);
        }
        buffer.extend_from_slice(&piece[..read]);
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    buffer.drain(..head_end);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut left = length.unwrap_or(0);
    let mut body = Vec::new();
    while left > 0 {
        if buffer.is_empty() {
            let read = socket.read(&mut piece)?;
            if read == 0 {
                return Ok(None);
            }
            buffer.extend_from_slice(&piece[..read]);
        }
        let taken = left.min(buffer.len());
        body.extend_from_slice(&buffer[..taken.min(KEPT - body.len())]);
        buffer.drain(..taken);
        left -= taken;
    }
    Ok(Some(Seen { head, body, connection, number: 0 }))
}

/// The words of an answer: what was asked, so that nobody can be given another's.
pub(crate) fn words(seen: &Seen) -> String {
    let text = seen.text();
    let nonce = text.split("nonce-").nth(1).unwrap_or("none");
    nonce.chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// What a provider that is well answers.
pub(crate) fn answer(seen: &Seen, socket: &mut TcpStream) -> io::Result<End> {
    if seen.is_stream() {
        stream_head(socket)?;
        for _ in 0..5 {
            event(socket, &delta(&words(seen)))?;
        }
        finish(socket)?;
    } else {
        json(socket, 200, "", &chat(&words(seen)))?;
    }
    Ok(End::Keep)
}

pub(crate) fn chat(content: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","model":"up","choices":[{{"index":0,"message":{{"role":"assistant","content":"{content}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}}}"#
    )
}

pub(crate) fn json(socket: &mut TcpStream, status: u16, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} S\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n");
    socket.write_all((head + body).as_bytes())
}

pub(crate) fn stream_head(socket: &mut TcpStream) -> io::Result<()> {
    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
}

pub(crate) fn event(socket: &mut TcpStream, data: &str) -> io::Result<()> {
    let text = format!("data: {data}\n\n");
    socket.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

pub(crate) fn delta(content: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{{"content":"{content} "}}}}]}}"#
    )
}

/// The last event with content, the usage if it was asked for or not, and the mark.
pub(crate) fn finish(socket: &mut TcpStream) -> io::Result<()> {
    event(socket, r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#)?;
    event(socket, "[DONE]")?;
    socket.write_all(b"0\r\n\r\n")
}

/// Waits until the other side closes, at most so long; says whether it did.
pub(crate) fn wait_for_close(socket: &mut TcpStream, patience: Duration) -> bool {
    let mut byte = [0];
    socket.set_read_timeout(Some(patience)).is_ok()
        && match socket.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
}
