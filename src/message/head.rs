//! Heads of messages, as the rest of the gateway reads and writes them.

use http::{Method, StatusCode};

use super::headers::Headers;

/// A request's head.
#[derive(Debug)]
pub struct Head {
    pub method: Method,
    /// As it came: a path and perhaps a query, unless somebody wants a forward proxy.
    pub target: Box<str>,
    /// HTTP/1.0.
    pub is_old: bool,
    pub headers: Headers,
}

/// A response with its body.
#[derive(Debug)]
pub struct Response<B> {
    pub status: StatusCode,
    pub headers: Headers,
    pub body: B,
}

impl Head {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl<B> Response<B> {
    /// The same head with another body.
    pub fn map<C>(self, body: impl FnOnce(B) -> C) -> Response<C> {
        Response { status: self.status, headers: self.headers, body: body(self.body) }
    }
}
