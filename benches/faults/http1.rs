//! HTTP/1.1 as bytes: what is sent is exactly what a row writes, what comes back is taken apart by hand.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::process::KEY;

const PATIENCE: Duration = Duration::from_secs(20);

/// Connects from an address of loopback, `127.0.0.LAST`.
pub(crate) fn connect_from(address: SocketAddr, last: u8) -> io::Result<TcpStream> {
    connect_with(address, last, None)
}

/// As [`connect_from`], with small buffers in the kernel if wanted.
pub(crate) fn connect_with(address: SocketAddr, last: u8, buffers: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if let Some(bytes) = buffers {
        socket.set_recv_buffer_size(bytes)?;
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let socket = TcpStream::from(socket);
    socket.set_nodelay(true)?;
    Ok(socket)
}

pub(crate) struct Connection {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// As its head promised; without this it was cut off.
    pub(crate) is_whole: bool,
    pub(crate) had_continue: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self, String> {
        connect_from(address, 1).map(Self::over).map_err(|error| format!("no connection: {error}"))
    }

    pub(crate) fn over(socket: TcpStream) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next answer, or what came instead.
    pub(crate) fn answer(&mut self) -> Result<Answer, String> {
        self.answer_within(PATIENCE)
    }

    pub(crate) fn answer_within(&mut self, patience: Duration) -> Result<Answer, String> {
        let end = Instant::now() + patience;
        let mut had_continue = false;
        loop {
            let head = self.head(end)?;
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            if status == 100 {
                had_continue = true;
                continue;
            }
            let (body, is_whole) = self.body(&head, end);
            return Ok(Answer { status, head, body, is_whole, had_continue });
        }
    }

    fn head(&mut self, end: Instant) -> Result<String, String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            match self.more(end) {
                Ok(true) => {}
                Ok(false) => return Err("closed without an answer".to_owned()),
                Err(error) => return Err(format!("no answer: {error}")),
            }
        }
    }

    fn body(&mut self, head: &str, end: Instant) -> (Vec<u8>, bool) {
        if header(head, "transfer-encoding").is_some() {
            return self.chunks(end);
        }
        let length = header(head, "content-length").and_then(|value| value.parse::<usize>().ok());
        let mut is_open = true;
        while is_open && length.is_none_or(|length| self.buffer.len() < length) {
            is_open = matches!(self.more(end), Ok(true));
        }
        let taken = length.unwrap_or(usize::MAX).min(self.buffer.len());
        let rest = self.buffer.split_off(taken);
        (std::mem::replace(&mut self.buffer, rest), length.is_none_or(|length| taken == length))
    }

    fn chunks(&mut self, end: Instant) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(line) = self.line(end) else { return (body, false) };
            let Ok(size) = usize::from_str_radix(line.trim(), 16) else { return (body, false) };
            while self.buffer.len() < size + 2 {
                if !matches!(self.more(end), Ok(true)) {
                    body.extend_from_slice(&self.buffer[..size.min(self.buffer.len())]);
                    return (body, false);
                }
            }
            body.extend_from_slice(&self.buffer[..size]);
            self.buffer.drain(..size + 2);
            if size == 0 {
                return (body, true);
            }
        }
    }

    fn line(&mut self, end: Instant) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.drain(..=at).collect::<Vec<_>>();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if !matches!(self.more(end), Ok(true)) {
                return None;
            }
        }
    }

    /// Reads on; false at the end.
    fn more(&mut self, end: Instant) -> io::Result<bool> {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left))?;
        let mut piece = [0; 16 << 10];
        let read = self.socket.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }

    /// Whether the other side closes it within this time, nothing more coming first.
    pub(crate) fn is_closed_within(&mut self, patience: Duration) -> bool {
        match self.more(Instant::now() + patience) {
            Ok(more) => !more,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// An answer that came some other way.
pub(crate) fn parse(bytes: &[u8]) -> Result<Answer, String> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("closed without an answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let length = header(head, "content-length").and_then(|value| value.parse().ok());
    let is_whole = length.is_none_or(|length: usize| length == body.len());
    Ok(Answer { status, head: head.to_owned(), body: body.as_bytes().to_vec(), is_whole, had_continue: false })
}

/// The head of a chat with the right key.
pub(crate) fn chat_head(length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
}

pub(crate) fn chat_body(model: &str, is_stream: bool, nonce: &str) -> String {
    format!(
        r#"{{"model":"{model}","stream":{is_stream},"messages":[{{"role":"user","content":"nonce-{nonce} please"}}]}}"#
    )
}

pub(crate) fn chat(model: &str, is_stream: bool, nonce: &str) -> Vec<u8> {
    let body = chat_body(model, is_stream, nonce);
    (chat_head(body.len()) + &body).into_bytes()
}

/// One request on a connection of its own.
pub(crate) fn ask(address: SocketAddr, request: &[u8]) -> Result<Answer, String> {
    let mut connection = Connection::open(address)?;
    // What is refused while it is being sent has an answer all the same.
    connection.send(request).ok();
    connection.answer()
}

/// How long each connection stays open, looked at every 20 ms; `None` for those that are at the end.
///
/// `turn` is called between looks, to go on with whatever keeps them open.
pub(crate) fn watch(
    sockets: &mut [TcpStream],
    start: Instant,
    patience: Duration,
    mut turn: impl FnMut(&mut TcpStream, usize),
) -> Vec<Option<Duration>> {
    let mut closed = vec![None; sockets.len()];
    while start.elapsed() < patience && closed.iter().any(Option::is_none) {
        for (number, (socket, closed)) in sockets.iter_mut().zip(&mut closed).enumerate() {
            if closed.is_some() {
                continue;
            }
            turn(socket, number);
            let mut piece = [0; 4096];
            let is_closed = socket.set_nonblocking(true).is_err()
                || match socket.read(&mut piece) {
                    Ok(read) => read == 0,
                    Err(error) => error.kind() != io::ErrorKind::WouldBlock,
                };
            if is_closed {
                *closed = Some(start.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    closed
}
