//! Request heads: what they say, or why they are refused.
//!
//! The syntax is httparse's; here are the rules on top of it.

use http::Method;
use memchr::memchr_iter;

use crate::{
    api::error::{Error, ErrorKind},
    message::{self, Framing, Headers, Said},
};

/// Heads over this are refused.
pub(super) const BYTES_MAX: usize = 32 * 1024;

/// Most header lines.
const LINES_MAX: usize = 100;

/// A request's head.
#[derive(Debug)]
pub(in crate::server) struct Head {
    pub(in crate::server) head: message::Head,
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
    // Names and values, and four bytes for each line.
    let mut headers = Headers::with_capacity(length + 2 * request.headers.len());
    let mut expects = false;
    for line in request.headers.iter() {
        said.hear(line.name, line.value).map_err(invalid)?;
        expects |= line.name.eq_ignore_ascii_case("expect") && line.value.eq_ignore_ascii_case(b"100-continue");
        headers.push_parsed(line.name, line.value);
    }
    said.check(is_old).map_err(|why| invalid(format!("the request head is ambiguous: {why}")))?;
    let framing = match said.length {
        _ if said.is_chunked => Framing::Chunked,
        length => Framing::Length(length.unwrap_or_default()),
    };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes());
    let head = message::Head {
        method: method.map_err(|_| invalid("the method is no token"))?,
        target: request.path.unwrap_or_default().into(),
        is_old,
        headers,
    };
    Ok(Some((Head { head, framing, keep_alive: said.keeps_alive(is_old), expects: expects && !is_old }, length)))
}

pub(super) fn too_large(message: String) -> Error {
    Error::new(ErrorKind::HeadTooLarge, message)
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidHead, message)
}
