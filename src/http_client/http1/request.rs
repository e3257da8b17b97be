//! Requests as the bytes that are written.
//!
//! A head is written once per request, from pieces that were prepared when the configuration was
//! read. Values come as `HeaderValue` or out of `Headers`, which cannot hold a line break.

use std::{cell::Cell, fmt, io::IoSlice};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::{
    http_client::Origin,
    message::{Headers, push_number},
};

/// Room for the lines of one request and a short body, so that most heads are allocated once.
const OWN_BYTES: usize = 512;

/// Up to this, a body is copied behind its head: one piece is written a little faster than two.
const JOINED_MAX: usize = 2 * 1024;

/// A request line and the header lines that are known so far.
#[derive(Clone)]
pub struct RequestHead(Vec<u8>);

/// Most pieces of a body, so that one call writes them with the head.
const PIECES_MAX: usize = 5;

/// The body of a request.
#[derive(Clone)]
pub enum Payload {
    Whole(Bytes),
    /// One behind the other.
    Pieces(Vec<Bytes>),
}

/// A request that can be sent as often as needed.
pub struct Request {
    head: Vec<u8>,
    body: Payload,
    /// How often it was begun to be written.
    sends: Cell<u32>,
}

impl Payload {
    /// These pieces, one behind the other.
    pub fn of(pieces: Vec<Bytes>) -> Self {
        if pieces.len() <= PIECES_MAX { Self::Pieces(pieces) } else { Self::Whole(pieces.concat().into()) }
    }

    /// All of it in one piece.
    pub fn whole(&self) -> Bytes {
        match self {
            Self::Whole(body) => body.clone(),
            Self::Pieces(pieces) => pieces.concat().into(),
        }
    }

    fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Whole(body) => std::slice::from_ref(body),
            Self::Pieces(pieces) => pieces,
        }
    }

    fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }
}

impl From<Bytes> for Payload {
    fn from(body: Bytes) -> Self {
        Self::Whole(body)
    }
}

/// What is left of a request, for one call.
pub(super) struct Rest<'a> {
    slices: [IoSlice<'a>; 1 + PIECES_MAX],
    length: usize,
}

impl<'a> Rest<'a> {
    pub(super) fn as_slices(&self) -> &[IoSlice<'a>] {
        self.slices.get(..self.length).unwrap_or_default()
    }

    fn push(&mut self, piece: &'a [u8]) {
        if let Some(slice) = self.slices.get_mut(self.length) {
            *slice = IoSlice::new(piece);
            self.length += 1;
        }
    }
}

// What is written may carry credentials, so that none of it is shown.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHead({} bytes)", self.0.len())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} bytes, body of {} bytes)", self.head.len(), self.body.len())
    }
}

impl RequestHead {
    /// `POST target` at this origin. The target is a path as it goes out, from a parsed URI.
    pub fn post(target: &http::Uri, origin: &Origin) -> Self {
        let target = target.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let mut head = Self(format!("POST {target} HTTP/1.1\r\n").into_bytes());
        head.push(&http::header::HOST, &origin.authority);
        head
    }

    /// A copy that a request's own lines are added to.
    pub fn begin(&self) -> Self {
        let mut head = Vec::with_capacity(self.0.len() + OWN_BYTES);
        head.extend_from_slice(&self.0);
        Self(head)
    }

    /// Adds a line. `Content-Length` is added by [`Self::finish`].
    pub fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.line(name.as_str().as_bytes(), value.as_bytes());
    }

    /// Adds the lines whose names are chosen.
    pub fn pass(&mut self, headers: &Headers, choose: impl Fn(&[u8]) -> bool) {
        for (name, value) in headers {
            if choose(name) {
                self.line(name, value);
            }
        }
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// The request with this body.
    pub fn finish(self, body: impl Into<Payload>) -> Request {
        let Self(mut head) = self;
        let body = body.into();
        let length = body.len();
        head.extend_from_slice(b"content-length: ");
        push_number(&mut head, length as u64);
        head.extend_from_slice(b"\r\n\r\n");
        if length > JOINED_MAX {
            return Request { head, body, sends: Cell::new(0) };
        }
        body.pieces().iter().for_each(|piece| head.extend_from_slice(piece));
        Request { head, body: Bytes::new().into(), sends: Cell::new(0) }
    }
}

impl Request {
    /// How often it went out, or began to.
    pub fn sends(&self) -> u32 {
        self.sends.get()
    }

    pub(super) fn begin(&self) {
        self.sends.set(self.sends.get() + 1);
    }

    /// What is left of it after so many bytes.
    pub(super) fn rest(&self, written: usize) -> Rest<'_> {
        let mut rest = Rest { slices: [IoSlice::new(&[]); 1 + PIECES_MAX], length: 0 };
        let mut gone = written;
        for piece in std::iter::once(&self.head[..]).chain(self.body.pieces().iter().map(|piece| &piece[..])) {
            match piece.get(gone..) {
                Some(left) if !left.is_empty() => {
                    rest.push(left);
                    gone = 0;
                }
                _ => gone -= piece.len(),
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_its_head_and_its_body() {
        let origin = Origin::new(false, "h", 8080).unwrap();
        let mut head = RequestHead::post(&"/v1/x?a=b".parse().unwrap(), &origin);
        head.push(&http::header::AUTHORIZATION, &HeaderValue::from_static("Bearer canary"));
        let mut own = head.begin();
        own.push(&http::header::ACCEPT, &HeaderValue::from_static("*/*"));
        let long = "x".repeat(JOINED_MAX + 1);
        for body in ["{}", &long] {
            let request = own.clone().finish(Bytes::copy_from_slice(body.as_bytes()));
            let expected = format!(
                "POST /v1/x?a=b HTTP/1.1\r\nhost: h:8080\r\nauthorization: Bearer canary\r\naccept: */*\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            check(&request, &expected);
            let body = Bytes::copy_from_slice(body.as_bytes());
            for (pieces, cut) in [(1, 0), (2, 1), (3, 1), (PIECES_MAX, 0), (PIECES_MAX + 1, 0)] {
                let mut all = vec![Bytes::new(); pieces - 1];
                all.push(body.slice(cut..));
                all[0] = if pieces > 1 { body.slice(..cut) } else { body.clone() };
                check(&own.clone().finish(Payload::of(all)), &expected);
            }
        }
        assert!(!format!("{head:?} {own:?} {:?}", own.clone().finish(Bytes::new())).contains("canary"));
    }

    fn check(request: &Request, expected: &str) {
        for written in 0..=expected.len() {
            let rest = request.rest(written);
            assert!(rest.as_slices().iter().all(|slice| !slice.is_empty()));
            let rest: Vec<u8> = rest.as_slices().iter().flat_map(|slice| slice.to_vec()).collect();
            assert_eq!(rest, expected.as_bytes()[written..]);
        }
    }
}
