//! The closed sets that varying attributes take their values from.
//!
//! `api` owns the operations and errors; here they become attributes.

use super::attribute::{Attribute, Dimension, attribute_enum};
use crate::api::{
    error::ErrorKind,
    operation::{Operation, Route},
};

attribute_enum! {
    /// How a request or an attempt ended.
    pub enum Outcome: "tollgate.outcome" {
        Completed = "completed",
        Failed = "failed",
        Cancelled = "cancelled",
    }
}

attribute_enum! {
    /// Token types; cache reads and writes are part of input, reasoning is part of output.
    pub enum TokenType: "gen_ai.token.type" {
        Input = "input",
        Output = "output",
        CacheRead = "cache_read",
        CacheWrite = "cache_write",
        Reasoning = "reasoning",
    }
}

attribute_enum! {
    /// What authentication and authorisation decided.
    pub enum AuthDecision: "tollgate.decision" {
        Allowed = "allowed",
        MissingKey = "missing_key",
        InvalidKey = "invalid_key",
        ConflictingKeys = "conflicting_keys",
        ModelNotAllowed = "model_not_allowed",
    }
}

attribute_enum! {
    /// What a client's connection was waited for in vain.
    pub enum ConnectionTimeout: "tollgate.reason" {
        FirstByte = "first_byte",
        Head = "head",
        Idle = "idle",
        Write = "write",
        Handshake = "handshake",
    }
}

attribute_enum! {
    /// Why a deployment is left out for a while.
    pub enum CooldownReason: "tollgate.reason" {
        Errors = "errors",
        Unreachable = "unreachable",
        RateLimited = "rate_limited",
        Credentials = "credentials",
    }
}

attribute_enum! {
    /// Why a log line was not written.
    pub enum LineDropped: "tollgate.reason" {
        QueueFull = "queue_full",
        MaxLinesPerSecond = "max_lines_per_second",
        WriteFailed = "write_failed",
    }
}

attribute_enum! {
    /// Why a client's connection was closed before it could do anything, or to make room.
    pub enum Rejection: "tollgate.reason" {
        Connections = "max_connections",
        Address = "max_connections_per_address",
        Unauthenticated = "max_unauthenticated",
        RefusedKeys = "auth_failures",
        Evicted = "evicted",
        TooManyHandshakes = "max_handshakes",
        HandshakeFailed = "handshake_failed",
    }
}

attribute_enum! {
    /// How far a request had come when its client left.
    pub enum CancelPhase: "tollgate.phase" {
        RequestBody = "request_body",
        BeforeResponse = "before_response",
        ResponseBody = "response_body",
    }
}

attribute_enum! {
    /// What came of reading the configuration again.
    pub enum Reload: "tollgate.outcome" {
        Applied = "applied",
        Unchanged = "unchanged",
        Rejected = "rejected",
    }
}

attribute_enum! {
    /// CPU modes of the process conventions.
    pub enum CpuMode: "cpu.mode" {
        User = "user",
        System = "system",
    }
}

attribute_enum! {
    /// Request methods the HTTP conventions know; all others are `_OTHER`.
    pub enum Method: "http.request.method" {
        Get = "GET",
        Head = "HEAD",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
        Options = "OPTIONS",
        Connect = "CONNECT",
        Trace = "TRACE",
        Other = "_OTHER",
    }
}

impl Method {
    /// The attribute value of a request's method.
    pub fn of(name: &str) -> Self {
        Self::ALL.iter().copied().find(|method| method.as_str() == name).unwrap_or(Self::Other)
    }
}

attribute_enum! {
    /// How a client's connection is spoken on.
    pub enum Scheme: "url.scheme" {
        Http = "http",
        Https = "https",
    }
}

impl Dimension for Operation {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        if let Some(operation) = Self::ALL.get(index) {
            out.push(Attribute::text("gen_ai.operation.name", operation.as_str()));
        }
    }
}

impl Dimension for ErrorKind {
    const COUNT: usize = Self::ALL.len();

    fn index(self) -> usize {
        self as usize
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        if let Some(kind) = Self::ALL.get(index) {
            out.push(Attribute::text("error.type", kind.face().error_type));
        }
    }
}

/// An error or none; `error.type` is absent on success, as the conventions ask.
impl Dimension for Option<ErrorKind> {
    const COUNT: usize = ErrorKind::COUNT + 1;

    fn index(self) -> usize {
        self.map_or(0, |kind| kind.index() + 1)
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        if let Some(index) = index.checked_sub(1) {
            ErrorKind::attributes(index, out);
        }
    }
}

/// Method and route together: a known route fixes the methods that reach it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub method: Method,
    pub route: Option<Route>,
}

impl Dimension for Target {
    const COUNT: usize = Method::COUNT * (Route::ALL.len() + 1);

    fn index(self) -> usize {
        let route = self.route.and_then(|route| Route::ALL.iter().position(|other| *other == route));
        self.method.index() * (Route::ALL.len() + 1) + route.map_or(0, |route| route + 1)
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        Method::attributes(index / (Route::ALL.len() + 1), out);
        if let Some(route) = (index % (Route::ALL.len() + 1)).checked_sub(1).and_then(|route| Route::ALL.get(route)) {
            out.push(Attribute::text("http.route", route.as_str()));
        }
    }
}

/// The statuses that appear on metrics; others are counted under the base of their class, because
/// a provider's answer chooses the status and must not choose the number of series.
const STATUSES: &[u16] = &[
    200, 201, 202, 204, 300, 400, 401, 402, 403, 404, 405, 408, 409, 411, 413, 414, 415, 417, 422, 429, 431, 499, 500,
    501, 502, 503, 504, 529,
];

/// The status of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Status(usize);

impl Status {
    /// The attribute value of a status.
    pub fn of(status: u16) -> Self {
        let known = |status: u16| STATUSES.iter().position(|known| *known == status);
        Self(known(status).or_else(|| known(status / 100 * 100)).unwrap_or_default())
    }
}

impl Dimension for Status {
    const COUNT: usize = STATUSES.len();

    fn index(self) -> usize {
        self.0
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        if let Some(status) = STATUSES.get(index) {
            out.push(Attribute::int("http.response.status_code", i64::from(*status)));
        }
    }
}

/// How an answer ended: its status, or its error, which has a status of its own.
///
/// One dense number instead of status times error: a gateway error fixes its status, and only
/// answers of a provider are found under a plain status.
#[derive(Debug, Clone, Copy)]
pub enum Ending {
    Status(Status),
    /// An error whose answer was the gateway's own.
    Error(ErrorKind),
    /// An error after a status 200 had been sent.
    Broken(ErrorKind),
}

impl Dimension for Ending {
    const COUNT: usize = STATUSES.len() + 2 * ErrorKind::COUNT;

    fn index(self) -> usize {
        match self {
            Self::Status(status) => status.index(),
            // Such an error has the attributes of its status. Under a number of its own it would be
            // a second series with the same attributes, of which receivers keep one.
            Self::Error(kind) if kind == ErrorKind::ProviderServerError || kind.face().status < 500 => {
                Status::of(kind.face().status).index()
            }
            Self::Error(kind) => STATUSES.len() + kind.index(),
            Self::Broken(kind) => STATUSES.len() + ErrorKind::COUNT + kind.index(),
        }
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        let Some(error) = index.checked_sub(STATUSES.len()) else {
            Status::attributes(index, out);
            // Servers set error.type for 5xx only (HTTP conventions).
            if STATUSES.get(index).is_some_and(|status| *status >= 500) {
                out.push(Attribute::text("error.type", ErrorKind::ProviderServerError.face().error_type));
            }
            return;
        };
        let Some(kind) = ErrorKind::ALL.get(error % ErrorKind::COUNT) else { return };
        let status = if error < ErrorKind::COUNT { kind.face().status } else { 200 };
        out.push(Attribute::int("http.response.status_code", i64::from(status)));
        if status >= 500 || error >= ErrorKind::COUNT {
            out.push(Attribute::text("error.type", kind.face().error_type));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fmt::Debug};

    use super::*;

    /// Fails if two numbers stand for the same attributes: they would be exported as one series twice.
    fn assert_distinct<D: Dimension + Debug>(values: impl IntoIterator<Item = D>) {
        let mut seen: HashMap<Vec<Attribute>, (usize, D)> = HashMap::new();
        for value in values {
            let index = value.index();
            assert!(index < D::COUNT, "{value:?} has the number {index} of {}", D::COUNT);
            let mut attributes = Vec::new();
            D::attributes(index, &mut attributes);
            let keys: Vec<_> = attributes.iter().map(|attribute| attribute.key).collect();
            assert!(!keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key)), "{value:?} repeats a key");
            if let Some((other, same)) = seen.insert(attributes, (index, value)) {
                assert_eq!(other, index, "{same:?} and {value:?} have the same attributes");
            }
        }
    }

    #[test]
    fn no_two_numbers_stand_for_the_same_attributes() {
        assert_distinct(Method::ALL.iter().copied());
        assert_distinct(Outcome::ALL.iter().copied());
        assert_distinct(Rejection::ALL.iter().copied());
        assert_distinct(ConnectionTimeout::ALL.iter().copied());
        assert_distinct(ErrorKind::ALL.iter().copied());
        assert_distinct(ErrorKind::ALL.iter().copied().map(Some).chain([None]));
        let routes = || Route::ALL.iter().copied().map(Some).chain([None]);
        assert_distinct(Method::ALL.iter().flat_map(|method| routes().map(|route| Target { method: *method, route })));
        assert_distinct((0..1_000).map(Status::of));
        let kinds = || ErrorKind::ALL.iter().copied();
        let statuses = (0..1_000).map(|status| Ending::Status(Status::of(status)));
        assert_distinct(statuses.chain(kinds().map(Ending::Error)).chain(kinds().map(Ending::Broken)));
    }

    #[test]
    fn an_error_is_counted_under_the_status_its_client_saw() {
        for kind in ErrorKind::ALL {
            let mut attributes = Vec::new();
            Ending::attributes(Ending::Error(*kind).index(), &mut attributes);
            let status = Attribute::int("http.response.status_code", i64::from(kind.face().status));
            assert_eq!(attributes[0], status, "{kind:?}");
            let error = attributes.get(1).map(|attribute| attribute.value.to_string());
            let expected = (kind.face().status >= 500).then(|| kind.face().error_type.to_owned());
            assert_eq!(error, expected, "{kind:?}");
        }
    }
}
