//! A client that writes the bytes it is given and reads an answer to its exact end.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::PATIENCE;

/// The client key that test configurations know.
pub const KEY: &str = "tg-integration-key";

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The body ended where it said it would, and not because the connection broke.
    pub complete: bool,
    /// Where the chunks of a chunked body began and ended.
    pub chunks: usize,
}

impl Reply {
    /// The value of a header, if it is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} appears twice");
        value
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// `error.code` and `error.message`.
    pub fn error(&self) -> (String, String) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        let text = |key: &str| body["error"][key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("message"))
    }
}

/// Sends a chat request with the usual key.
pub fn chat(gateway: SocketAddr, body: &str) -> Reply {
    post(gateway, "/v1/chat/completions", body)
}

/// Sends a POST with the usual key.
pub fn post(gateway: SocketAddr, path: &str, body: &str) -> Reply {
    send(gateway, &post_bytes(path, body))
}

/// Sends a GET with the usual key.
pub fn get(gateway: SocketAddr, path: &str) -> Reply {
    send(gateway, format!("GET {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\r\n").as_bytes())
}

/// The bytes of a POST with the usual key.
pub fn post_bytes(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Writes raw bytes and reads one answer.
pub fn send(gateway: SocketAddr, bytes: &[u8]) -> Reply {
    let mut socket = connect(gateway);
    // The gateway may answer and close before it has read everything.
    let _refused = socket.write_all(bytes).is_err();
    read_reply(&mut socket, is_head(bytes))
}

fn is_head(request: &[u8]) -> bool {
    request.starts_with(b"HEAD ")
}

/// A connection with a limit on every read.
pub fn connect(gateway: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(gateway).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Reads one answer.
pub fn read_reply(socket: &mut TcpStream, head_only: bool) -> Reply {
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        assert!(read_more(socket, &mut buffer), "no answer, only {:?}", String::from_utf8_lossy(&buffer));
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    if status == 100 {
        assert!(buffer.is_empty(), "bytes after 100 Continue came with it");
        let mut reply = read_reply(socket, head_only);
        reply.headers.push(("x-saw-continue".into(), "yes".into()));
        return reply;
    }
    let headers = lines
        .map(|line| line.split_once(": ").or_else(|| line.split_once(':')).unwrap())
        .map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut reply = Reply { status, headers, body: Vec::new(), complete: true, chunks: 0 };
    if head_only {
        return reply;
    }
    if let Some(length) = reply.header("content-length") {
        let length: usize = length.parse().unwrap();
        while buffer.len() < length && reply.complete {
            reply.complete = read_more(socket, &mut buffer);
        }
        reply.body = buffer;
    } else if reply.header("transfer-encoding") == Some("chunked") {
        read_chunks(socket, buffer, &mut reply);
    } else {
        while read_more(socket, &mut buffer) {}
        reply.body = buffer;
    }
    reply
}

fn read_chunks(socket: &mut TcpStream, mut buffer: Vec<u8>, reply: &mut Reply) {
    loop {
        let line = loop {
            if let Some(line) = buffer.windows(2).position(|window| window == b"\r\n") {
                break line;
            }
            if !read_more(socket, &mut buffer) {
                reply.complete = false;
                return;
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&buffer[..line]).unwrap(), 16).unwrap();
        while buffer.len() < line + 2 + size + 2 {
            if !read_more(socket, &mut buffer) {
                reply.complete = false;
                return;
            }
        }
        reply.body.extend_from_slice(&buffer[line + 2..line + 2 + size]);
        buffer.drain(..line + 2 + size + 2);
        if size == 0 {
            return;
        }
        reply.chunks += 1;
    }
}

/// Reads once; no more bytes at the end or after a reset.
pub fn read_more(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 65536];
    match socket.read(&mut chunk) {
        Ok(0) => false,
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            true
        }
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
        Err(error) => panic!("cannot read: {error}"),
    }
}
