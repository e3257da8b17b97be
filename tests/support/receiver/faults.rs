//! What a receiver can do wrong, one request at a time.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::http;

/// What happens to a request instead of being stored and answered.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// An answer of this kind; nothing is stored.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// Stored by the rules, then answered like this if they allow it.
    StoreAndAnswer { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// Stored by the rules, then the connection is closed without an answer.
    StoreAndClose,
    /// No answer, for as long as the client waits.
    Hang,
    /// The connection is closed without an answer.
    Close,
    /// Stored and answered by the rules, but not before this time.
    Slow(Duration),
    /// A status 200 whose body of 10 GiB goes on for as long as the client reads.
    Endless,
    /// These bytes instead of an answer, then nothing more.
    Garbage(&'static [u8]),
}

impl Fault {
    /// A plain answer with a text.
    pub(crate) fn status(status: u16, text: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type", "text/plain; charset=utf-8".to_owned())],
            body: text.as_bytes().to_vec(),
        }
    }

    /// An answer with one more header.
    #[must_use]
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if let Self::Answer { headers, .. } | Self::StoreAndAnswer { headers, .. } = &mut self {
            headers.push((name, value.into()));
        }
        self
    }

    /// A redirect to `location`.
    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::status(status, "").header("Location", location)
    }
}

const TEN_GIBIBYTES: u64 = 10 * 1024 * 1024 * 1024;

/// Sends a body without end; returns how much of it left before the client hung up.
pub(crate) fn endless(mut stream: &TcpStream) -> u64 {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: {TEN_GIBIBYTES}\r\n\r\n");
    let block = [0; 64 * 1024];
    let mut sent = 0;
    if stream.write_all(head.as_bytes()).is_ok() {
        while sent < TEN_GIBIBYTES && stream.write_all(&block).is_ok() {
            sent += block.len() as u64;
        }
    }
    sent
}

/// Waits until the client hangs up.
pub(crate) fn hang(mut stream: &TcpStream) {
    let mut nothing = [0; 1];
    while matches!(stream.read(&mut nothing), Ok(1..)) {}
}

/// Sends what is no HTTP and waits until the client hangs up.
pub(crate) fn garbage(mut stream: &TcpStream, bytes: &[u8]) {
    if stream.write_all(bytes).is_ok() {
        hang(stream);
    }
}

/// A scripted answer.
pub(crate) fn answer(stream: &TcpStream, status: u16, headers: &[(&'static str, String)], body: &[u8]) -> bool {
    http::answer(stream, status, headers, body).is_ok()
}
