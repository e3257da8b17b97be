//! Request heads: what they say, or why they are refused.
//!
//! The syntax is httparse's; here are the rules on top of it.

use std::mem::MaybeUninit;

use http::Method;
use memchr::memchr_iter;

use crate::{
    api::error::{Error, ErrorKind},
    message::{self, Framing, Headers, Said},
};

/// Most header lines that can be allowed; room for them costs nothing before it is used.
const LINES_MAX: usize = 1000;

/// Heads over these are refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) bytes: usize,
    pub(super) lines: usize,
    /// Of the target.
    pub(super) target: usize,
}

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
pub(super) fn parse(bytes: &[u8], limits: Limits) -> Result<Option<(Head, usize)>, Error> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
    let lines = lines.get_mut(..limits.lines).unwrap_or_default();
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, lines);
    if request.path.is_some_and(|target| target.len() > limits.target) {
        let message = format!("the request target is over {} bytes (`server.max_target_bytes`)", limits.target);
        return Err(Error::new(ErrorKind::TargetTooLong, message));
    }
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= limits.bytes => length,
        Ok(httparse::Status::Partial) if bytes.len() <= limits.bytes => return Ok(None),
        Ok(_) => {
            let message = format!("the request head is over {} bytes (`server.max_head_bytes`)", limits.bytes);
            return Err(Error::new(ErrorKind::HeadTooLarge, message));
        }
        Err(httparse::Error::TooManyHeaders) => {
            let message = format!("the request has over {} header lines (`server.max_headers`)", limits.lines);
            return Err(Error::new(ErrorKind::HeadTooLarge, message));
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
        if line.name.eq_ignore_ascii_case("expect") {
            expect(line.value)?;
            expects = true;
        }
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

/// Whether what a client expects can be met, in every version of HTTP alike.
pub(in crate::server) fn expect(what: &[u8]) -> Result<(), Error> {
    if what.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Error::new(ErrorKind::ExpectationFailed, "the only expectation that can be met is 100-continue"))
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidHead, message)
}
