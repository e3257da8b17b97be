//! As much of HTTP/1.1 as a receiver needs, on blocking sockets.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub method: String,
    pub target: String,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Reads requests from one connection.
pub(crate) struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next request with its body, or `None` when the connection has ended.
    pub(crate) fn next(&mut self) -> io::Result<Option<(Head, Vec<u8>)>> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the head is too large"));
            }
            // A TLS handshake, for one, never has an end of head.
            if self.buffer.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
                return Err(io::Error::other("the request is not HTTP"));
            }
            if !self.fill()? {
                return Ok(None);
            }
        };
        let head = parse(&self.buffer[..end]).ok_or_else(|| io::Error::other("the head is malformed"))?;
        self.buffer.drain(..end);
        let length: usize = match head.header("content-length") {
            Some(length) => length.parse().map_err(|_| io::Error::other("the length is no number"))?,
            None => 0,
        };
        while self.buffer.len() < length {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(Some((head, self.buffer.drain(..length).collect())))
    }

    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 64 * 1024];
        let read = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read > 0)
    }
}

fn parse(head: &[u8]) -> Option<Head> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let mut request = lines.next()?.split(' ');
    let (method, target) = (request.next()?.to_owned(), request.next()?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Head { method, target, headers })
}

/// Writes an answer with a length.
pub(crate) fn answer(mut stream: &TcpStream, status: u16, headers: &[(&str, String)], body: &[u8]) -> io::Result<()> {
    let mut out = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    stream.write_all(&out)
}
