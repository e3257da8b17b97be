//! Request heads: what they say, or why they are refused.
//!
//! The syntax is httparse's; here are the rules on top of it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header::EXPECT, request::Parts};
use memchr::memchr_iter;

use crate::{
    api::error::{Error, ErrorKind},
    message::{self, Framing, Said},
};

/// Heads over this are refused.
pub(super) const BYTES_MAX: usize = 32 * 1024;

/// Most header lines.
const LINES_MAX: usize = 100;

/// A request's head.
#[derive(Debug)]
pub(in crate::server) struct Head {
    pub(in crate::server) parts: Parts,
    pub(super) framing: Framing,
    /// Whether the client would send another request.
    pub(super) keep_alive: bool,
    /// Whether it waits for a `100 Continue` before it sends the body.
    pub(super) expects: bool,
}

/// The head at the beginning of `bytes` and its length, if all of it is there.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Error> {
    let mut lines = [httparse::EMPTY_HEADER; LINES_MAX];
    let mut request = httparse::Request::new(&mut lines);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= BYTES_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() <= BYTES_MAX => return Ok(None),
        Ok(_) => return Err(too_large(format!("the request head is over {} KiB", BYTES_MAX / 1024))),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(too_large(format!("the request has more than {LINES_MAX} header lines")));
        }
        Err(error) => return Err(invalid(format!("the request is not HTTP/1.1: {error}"))),
    };
    let read = bytes.get(..length).unwrap_or_default();
    // A line feed alone ends a line for some readers only.
    if memchr_iter(b'\n', read).any(|at| at == 0 || read.get(at - 1) != Some(&b'\r')) {
        return Err(invalid("a line of the request head ends without a carriage return"));
    }
    let is_old = request.version == Some(0);
    let mut said = Said::default();
    let copy = message::copy(read);
    let mut parts = Request::new(()).into_parts().0;
    parts.version = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| invalid("the method is no token"))?;
    parts.uri = Uri::from_maybe_shared(part(&copy, read, request.path.unwrap_or_default().as_bytes()))
        .map_err(|_| invalid("the request target is not valid"))?;
    parts.headers.reserve(request.headers.len());
    for line in request.headers.iter() {
        said.hear(line.name, line.value).map_err(invalid)?;
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| invalid("a header's name is no token"))?;
        let value = HeaderValue::from_maybe_shared(part(&copy, read, line.value))
            .map_err(|_| invalid("a header's value has control characters"))?;
        parts.headers.append(name, value);
    }
    said.check(is_old).map_err(|why| invalid(format!("the request head is ambiguous: {why}")))?;
    let expects = !is_old
        && parts.headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let framing = match said.length {
        _ if said.is_chunked => Framing::Chunked,
        length => Framing::Length(length.unwrap_or_default()),
    };
    let head = Head { parts, framing, keep_alive: said.keeps_alive(is_old), expects };
    Ok(Some((head, length)))
}

/// The same part of the copy as `part` is of what was read.
fn part(copy: &Bytes, read: &[u8], part: &[u8]) -> Bytes {
    let begin = (part.as_ptr() as usize).wrapping_sub(read.as_ptr() as usize);
    let end = begin.wrapping_add(part.len());
    if part.is_empty() || begin > end || end > copy.len() { Bytes::new() } else { copy.slice(begin..end) }
}

pub(super) fn too_large(message: String) -> Error {
    Error::new(ErrorKind::HeadTooLarge, message)
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidHead, message)
}
