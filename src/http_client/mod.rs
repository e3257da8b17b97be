//! Our HTTP machinery towards providers and metric receivers: one pool per thread, over rustls.
//!
//! Owns connecting, reuse and the race between reuse and a server that closes. Follows no
//! redirect, retries nothing that a server may have seen, and knows nothing of models or metrics.

mod connect;
mod http1;
mod http2;
mod names;
mod origin;
pub(crate) mod pem;
mod pool;
mod tls;
mod watchdog;

pub use connect::Limits;
pub use http1::{Keep, Payload, Request, RequestHead, ResponseBody};
pub use http2::Reply;
pub use names::Lifetimes;
pub use origin::Origin;
pub use pool::{Pool, SWEEP_INTERVAL, Sent};
pub use tls::TlsFiles;
pub use watchdog::Watchdog;

use tls::Tls;

use std::{fmt, io};

/// Why there is no response, or no more of it.
#[derive(Debug)]
pub enum Error {
    /// No connection: name resolution, TCP or TLS failed.
    Connect(io::Error),
    /// No connection within the time allowed.
    ConnectTimeout,
    /// No head of a response within the time allowed.
    ResponseTimeout,
    /// The connection ended before a whole response head had come.
    Closed(String),
    /// The server gave up this one request of an HTTP/2 connection, with this code (RFC 9113 §7).
    Reset(u32),
    /// What came is not HTTP as RFC 9112 or RFC 9113 has it, or over our limits.
    InvalidResponse(String),
    /// The body broke off.
    Body(String),
    /// The body is larger than the caller reads.
    BodyTooLarge,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::ConnectTimeout => f.write_str("cannot connect: timed out"),
            Self::ResponseTimeout => f.write_str("no response in time"),
            Self::Closed(why) => write!(f, "connection closed before a response: {why}"),
            Self::Reset(code) => write!(f, "the server reset the stream with code {code}"),
            Self::InvalidResponse(why) => write!(f, "invalid HTTP response: {why}"),
            Self::Body(why) => write!(f, "response body broke off: {why}"),
            Self::BodyTooLarge => f.write_str("response body is too large"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Sorts hyper's errors into ours.
    fn from_hyper(error: &hyper::Error) -> Self {
        let text = describe(error);
        if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
            Self::InvalidResponse(text)
        } else {
            Self::Closed(text)
        }
    }
}

/// An error with its causes, outermost first.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
