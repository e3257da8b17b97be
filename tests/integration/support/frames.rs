//! A client of HTTP/2 that writes the frames it is told to, also those that nobody should write.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::client::{KEY, connect};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM (the first four bytes) or GOAWAY (the second).
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of HEADERS, which the gateway writes first.
    pub fn status(&self) -> u16 {
        // The table has no room, which is said at the beginning.
        let block = &self.payload[usize::from(self.payload[0] & 0xe0 == 0x20)..];
        match block[0] {
            index @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
            // A literal with an indexed name, three digits in Huffman's code or not.
            _ if block[1] & 0x80 == 0 => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
            _ => huffman(&block[2..2 + usize::from(block[1] & 0x7f)]),
        }
    }
}

/// Digits: 0 to 2 have five bits, the others six (RFC 7541, appendix B).
fn huffman(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let take = |length: usize| bits[at..at + length].iter().fold(0, |code, bit| code << 1 | u16::from(*bit));
        let (digit, length) = if take(5) < 3 { (take(5), 5) } else { (take(6) - 0x19 + 3, 6) };
        (at, number) = (at + length, 10 * number + digit);
    }
    number
}

/// A connection after its preface.
pub struct Client {
    pub socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    /// Connects and sends the preface, with these settings.
    pub fn connect(gateway: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut client = Self { socket: connect(gateway), read: Vec::new() };
        let mut payload = Vec::new();
        // No table of header lines, which would have to be kept to read an answer.
        for (name, value) in [(1, 0)].iter().chain(settings) {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        client.write(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat());
        client
    }

    /// Writes bytes; a gateway that has closed the connection is no error.
    pub fn write(&mut self, bytes: &[u8]) {
        let _closed = self.socket.write_all(bytes).is_err();
    }

    /// The next frame, answering what has to be answered; nothing at the end.
    pub fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(header) = self.read.get(..9) {
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
                if self.read.len() >= 9 + length {
                    let stream = u32::from_be_bytes(header[5..9].try_into().unwrap());
                    let frame =
                        Frame { kind: header[3], flags: header[4], stream, payload: self.read[9..9 + length].to_vec() };
                    self.read.drain(..9 + length);
                    match frame.kind {
                        SETTINGS if frame.flags & ACK == 0 => self.write(&self::frame(SETTINGS, ACK, 0, b"")),
                        PING if frame.flags & ACK == 0 => self.write(&self::frame(PING, ACK, 0, &frame.payload)),
                        _ => {}
                    }
                    return Some(frame);
                }
            }
            let mut chunk = [0; 65536];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.read.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("cannot read: {error}"),
            }
        }
    }

    /// The next frame of this kind; nothing at the end.
    pub fn next(&mut self, kind: u8) -> Option<Frame> {
        std::iter::from_fn(|| self.frame()).find(|frame| frame.kind == kind)
    }

    /// All frames up to the end of the connection, and how long it took.
    pub fn rest(&mut self) -> (Vec<Frame>, Duration) {
        let since = Instant::now();
        (std::iter::from_fn(|| self.frame()).collect(), since.elapsed())
    }

    /// Opens a stream with a chat request; its body is a frame of its own unless there is none.
    pub fn chat(&mut self, stream: u32, body: &str) {
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &chat_block());
        bytes.extend(frame(DATA, END_STREAM, stream, body.as_bytes()));
        self.write(&bytes);
    }
}

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literal lines, without a table.
pub fn block(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for text in lines.iter().flat_map(|(name, value)| ["\0", name, value]) {
        match text {
            "\0" => block.push(0),
            text if text.len() < 127 => {
                block.push(text.len() as u8);
                block.extend(text.bytes());
            }
            text => {
                let mut rest = text.len() - 127;
                block.push(127);
                while rest >= 128 {
                    block.push((rest % 128) as u8 | 128);
                    rest /= 128;
                }
                block.push(rest as u8);
                block.extend(text.bytes());
            }
        }
    }
    block
}

/// The head of a GET.
pub fn get_block(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":authority", "t"), (":path", path)])
}

/// The head of a chat request with the usual key.
pub fn chat_block() -> Vec<u8> {
    block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "t"),
        (":path", "/v1/chat/completions"),
        ("authorization", &format!("Bearer {KEY}")),
        ("content-type", "application/json"),
    ])
}
