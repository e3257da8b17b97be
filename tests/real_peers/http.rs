//! Single HTTP/1.0 requests: one connection each, and the answer ends where the connection does.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::process::PATIENCE;

/// A status and a body; `Err` is what the connection said instead.
pub type Answer = std::io::Result<(u16, String)>;

pub fn get(address: &str, target: &str, key: &str) -> Answer {
    request(address, "GET", target, key, "")
}

pub fn post(address: &str, target: &str, key: &str, json: &str) -> Answer {
    request(address, "POST", target, key, json)
}

fn request(address: &str, method: &str, target: &str, key: &str, body: &str) -> Answer {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let length = body.len();
    write!(
        socket,
        "{method} {target} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// Escapes a value for a query string.
pub fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}
