//! What a client has sent and nobody has used yet.

use bytes::{Bytes, BytesMut};

use super::head::{self, Head, Limits};
use crate::{api::error::Error, message::Decoder};

/// Empty lines that may stand before a request (RFC 9112 §2.2).
const EMPTY_LINES_MAX: usize = 8;

/// Less of a body than this is copied once more instead.
const ROOM_MIN: usize = 16 * 1024;

/// The most that a body that has just begun gets. Nobody has shown a key yet, but what is not written to is no memory.
const ROOM_MAX: usize = 256 * 1024;

/// Bytes on their way into heads and bodies.
#[derive(Debug)]
pub(super) struct Input {
    limits: Limits,
    /// A part of a head, or what came behind a request.
    held: Vec<u8>,
    /// What is held has not been looked at.
    is_unread: bool,
    /// What came of the body with the head.
    ready: Bytes,
    decoder: Decoder,
    /// How much of the body has come.
    body_bytes: usize,
    /// Why there will be no more of the body.
    broken: Option<&'static str>,
}

impl Input {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: Vec::new(),
            is_unread: false,
            ready: Bytes::new(),
            decoder: Decoder::Length(0),
            broken: None,
            body_bytes: 0,
        }
    }

    /// How much came behind the request.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether a head has begun.
    pub(super) fn has_begun(&self) -> bool {
        !self.held.is_empty()
    }

    /// How much of the body has come from the client, as it was framed.
    pub(super) fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Whether all of the body has come.
    pub(super) fn is_body_read(&self) -> bool {
        self.decoder.is_ended() && self.broken.is_none()
    }

    /// How much of a body of known length has still to come from the client, if it is only that.
    pub(super) fn announced(&self) -> Option<u64> {
        match self.decoder {
            Decoder::Length(left) if left > 0 && self.ready.is_empty() && self.broken.is_none() => Some(left),
            _ => None,
        }
    }

    /// So much of it has come.
    pub(super) fn has_read(&mut self, bytes: usize) {
        self.body_bytes += bytes;
        if let Decoder::Length(left) = &mut self.decoder {
            *left = left.saturating_sub(bytes as u64);
        }
    }

    /// What is known of the length of the body that is left.
    pub(super) fn left(&self) -> Option<u64> {
        self.decoder.left().map(|left| left + self.ready.len() as u64)
    }

    /// Whether somebody who reads the body finds anything without waiting.
    pub(super) fn is_drained(&self) -> bool {
        self.ready.is_empty() && self.is_body_read()
    }

    /// Keeps what belongs to later requests.
    pub(super) fn hold(&mut self, data: &[u8]) {
        self.held.extend_from_slice(data);
        self.is_unread |= !data.is_empty();
    }

    /// The head in what came behind the request before, if it is whole.
    pub(super) fn next(&mut self) -> Option<Result<Head, Error>> {
        if !std::mem::take(&mut self.is_unread) {
            return None;
        }
        let held = std::mem::take(&mut self.held);
        self.head(&held)
    }

    /// The head that `data` completes.
    pub(super) fn take(&mut self, data: &[u8]) -> Option<Result<Head, Error>> {
        if self.held.is_empty() {
            return self.head(data);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(data);
        // Without the end of a line there is nothing new to be parsed.
        if !data.contains(&b'\n') && held.len() <= self.limits.bytes {
            self.held = held;
            return None;
        }
        self.head(&held)
    }

    fn head(&mut self, mut data: &[u8]) -> Option<Result<Head, Error>> {
        for _ in 0..EMPTY_LINES_MAX {
            data = data.strip_prefix(b"\r\n").unwrap_or(data);
        }
        if matches!(data.first(), Some(b'\r' | b'\n')) && data.len() > 1 {
            return Some(Err(head::invalid("the request begins with empty lines")));
        }
        match head::parse(data, self.limits) {
            Err(error) => Some(Err(error)),
            Ok(None) => {
                self.held = data.to_vec();
                None
            }
            Ok(Some((head, length))) => {
                self.decoder = Decoder::new(head.framing);
                self.broken = None;
                self.body_bytes = 0;
                self.ready = self.beginning(data.get(length..).unwrap_or_default());
                Some(Ok(head))
            }
        }
    }

    /// What came of the body with its head. A large part of a larger body has the room for the rest: who reads it
    /// goes on there.
    fn beginning(&mut self, input: &[u8]) -> Bytes {
        match self.decoder {
            Decoder::Length(all) if input.len() >= ROOM_MIN && all > input.len() as u64 => {
                let room = usize::try_from(all).unwrap_or(usize::MAX).min(ROOM_MAX.max(input.len()));
                let mut beginning = BytesMut::with_capacity(room);
                beginning.extend_from_slice(input);
                self.has_read(input.len());
                beginning.freeze()
            }
            _ => self.body(input).unwrap_or_default(),
        }
    }

    /// The data of the body in `input`; what is behind the body is held.
    pub(super) fn body(&mut self, input: &[u8]) -> Result<Bytes, &'static str> {
        match self.decoder.decode(input) {
            Ok((data, read)) => {
                self.broken = self.decoder.broken();
                self.body_bytes += read;
                self.hold(input.get(read..).unwrap_or_default());
                Ok(data)
            }
            Err(why) => {
                self.broken = Some(why);
                Err(why)
            }
        }
    }

    /// What came of the body and was not taken, or why there is no more of it.
    pub(super) fn ready(&mut self) -> Result<Bytes, &'static str> {
        match self.broken {
            Some(why) if self.ready.is_empty() => Err(why),
            _ => Ok(std::mem::take(&mut self.ready)),
        }
    }

    /// The client went away in the middle of the body.
    pub(super) fn cut(&mut self) -> &'static str {
        let why = "the client closed the connection";
        self.broken = Some(why);
        why
    }
}
