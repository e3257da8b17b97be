//! HTTP/1.1 as far as this bench speaks it: heads, lengths and chunks.
//!
//! Both ends of the load share it: the mock upstream reads requests with it, the load client answers. It is hand-made because both ends
//! live on one core: every microsecond saved here is headroom before the harness, and not the gateway, sets the pace.
//! It owns no meaning: which path does what is the mock's business, what counts as an error the client's.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;

use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Larger than any head or event here; what does not fit is read in several steps.
const BUFFER_BYTES: usize = 16 * 1024;

/// One keep-alive connection, from either end.
pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Box<[u8]>,
    unread: Range<usize>,
    /// How often the socket gave bytes: few reads per stream mean that the far side merged its writes.
    pub(crate) reads: u64,
}

/// The start of a message: its first line and how its body ends.
pub(crate) struct Head {
    pub(crate) first_line: Range<usize>,
    pub(crate) length: usize,
    pub(crate) body: Body,
}

/// Takes a body apart, whatever pieces it arrives in.
pub(crate) enum Body {
    /// Bytes still to come.
    Length(usize),
    /// In the middle of a chunk-size line.
    Size(usize),
    /// Bytes still to come of this chunk.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    /// After the last chunk; counts the bytes of the current trailer line.
    Trailer(usize),
}

impl Connection {
    pub(crate) fn new(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), unread: 0..0, reads: 0 })
    }

    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Reads the next head; `None` when the far side closed between two messages.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(mut head) = parse_head(&self.buffer[self.unread.clone()])? {
                let start = self.unread.start;
                head.first_line = head.first_line.start + start..head.first_line.end + start;
                self.unread.start += head.length;
                return Ok(Some(head));
            }
            let between_messages = self.unread.is_empty();
            match self.fill().await {
                Ok(()) => {}
                Err(error) if between_messages && error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first line of the head just read; the next read overwrites it.
    pub(crate) fn line(&self, head: &Head) -> &[u8] {
        &self.buffer[head.first_line.clone()]
    }

    /// Reads a body to its end and hands over every piece as it arrives.
    pub(crate) async fn body(&mut self, mut body: Body, mut piece: impl FnMut(&[u8])) -> io::Result<()> {
        loop {
            self.unread.start += body.feed(&self.buffer[self.unread.clone()], &mut piece)?;
            if body.is_done() {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    /// Bytes after the end of a message mean that the two sides disagree about where it ended.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.unread.is_empty()
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.start > 0 {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.buffer.len() {
            return Err(io::Error::new(ErrorKind::InvalidData, "head larger than the buffer"));
        }
        let read = self.socket.read(&mut self.buffer[self.unread.end..]).await?;
        if read == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "connection closed inside a message"));
        }
        self.unread.end += read;
        self.reads += 1;
        Ok(())
    }
}

impl Body {
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Trailer(usize::MAX))
    }

    /// Takes what belongs to this body from the front of `input`; returns how much that was.
    pub(crate) fn feed(&mut self, input: &[u8], mut piece: impl FnMut(&[u8])) -> io::Result<usize> {
        let mut at = 0;
        while at < input.len() && !self.is_done() {
            match self {
                Self::Length(left) => {
                    let data = &input[at..input.len().min(at + *left)];
                    piece(data);
                    *left -= data.len();
                    at += data.len();
                }
                Self::Chunk(left) => {
                    let data = &input[at..input.len().min(at + *left)];
                    piece(data);
                    *left -= data.len();
                    at += data.len();
                    if *left == 0 {
                        *self = Self::ChunkEnd;
                    }
                }
                _ => {
                    self.step(input[at])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> io::Result<()> {
        *self = match (&*self, byte) {
            (Self::Size(size), b'0'..=b'9') => Self::Size(size * 16 + usize::from(byte - b'0')),
            (Self::Size(size), b'a'..=b'f') => Self::Size(size * 16 + usize::from(byte - b'a') + 10),
            (Self::Size(size), b'A'..=b'F') => Self::Size(size * 16 + usize::from(byte - b'A') + 10),
            (Self::Size(0), b'\n') => Self::Trailer(0),
            (Self::Size(size), b'\n') => Self::Chunk(*size),
            (Self::Size(size), b'\r') => Self::Size(*size),
            (Self::ChunkEnd, b'\r') => Self::ChunkEnd,
            (Self::ChunkEnd, b'\n') => Self::Size(0),
            (Self::Trailer(0), b'\n') => Self::Trailer(usize::MAX),
            (Self::Trailer(_), b'\n') => Self::Trailer(0),
            (Self::Trailer(length), b'\r') => Self::Trailer(*length),
            (Self::Trailer(length), _) => Self::Trailer(length + 1),
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "broken chunk framing")),
        };
        Ok(())
    }
}

/// `None` while the head is incomplete. A message without a length has no body: good enough for the programs measured here.
pub(crate) fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        return Ok(None);
    };
    let first_line = 0..memchr(b'\r', bytes).unwrap_or(end);
    let mut body = Body::Length(0);
    for line in bytes[first_line.end..end].split(|byte| *byte == b'\n') {
        let Some(colon) = memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            body = Body::Length(number(value).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "content-length"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            body = Body::Size(0);
        }
    }
    Ok(Some(Head { first_line, length: end + 4, body }))
}

/// Decimal digits at the front of `bytes`.
pub(crate) fn number(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}
