//! Every error the gateway can end a request with, in one table.
//!
//! A kind is the status, the `code` a client sees, whether a client should try again, and the
//! value of `error.type`. The prefix of `error.type` says whose fault it is: `client_`, `policy_`,
//! `provider_` or `gateway_`.

use std::borrow::Cow;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    InvalidHead,
    HeadTooLarge,
    TargetTooLong,
    HeadTimeout,
    ExpectationFailed,
    UnknownRoute,
    MethodNotAllowed,
    MethodRefused,
    MissingKey,
    InvalidKey,
    ConflictingKeys,
    UnsupportedEncoding,
    BodyTooLarge,
    BodyTimeout,
    BodyIncomplete,
    InvalidJson,
    DuplicateField,
    InvalidField,
    UnknownModel,
    ClientCancelled,
    ModelNotAllowed,
    KeyBusy,
    GatewayBusy,
    ProviderUnavailable,
    ProviderUnreachable,
    ProviderTimeout,
    ProviderRateLimited,
    ProviderServerError,
    ProviderRejected,
    ProviderCredentials,
    ProviderInvalidResponse,
    ProviderStreamBroken,
    ProviderStreamIdle,
    ProviderAnswerTimeout,
    Overloaded,
    GatewayInternal,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Face {
    /// Status of the answer; 499 is never sent, the client has left.
    pub status: u16,
    /// `error.code` in the answer.
    pub code: &'static str,
    /// Whether the same request may succeed later; `x-should-retry` says so to SDKs.
    pub retryable: bool,
    /// The value of `error.type` on metrics.
    pub error_type: &'static str,
    /// What it means, for the documentation.
    pub meaning: &'static str,
}

impl ErrorKind {
    /// Every kind, in index order.
    #[rustfmt::skip]
    pub const ALL: &'static [Self] = &[
        Self::InvalidHead, Self::HeadTooLarge, Self::TargetTooLong, Self::HeadTimeout, Self::ExpectationFailed, Self::UnknownRoute, Self::MethodNotAllowed, Self::MethodRefused, Self::MissingKey,
        Self::InvalidKey, Self::ConflictingKeys, Self::UnsupportedEncoding, Self::BodyTooLarge, Self::BodyTimeout,
        Self::BodyIncomplete, Self::InvalidJson, Self::DuplicateField, Self::InvalidField, Self::UnknownModel,
        Self::ClientCancelled, Self::ModelNotAllowed, Self::KeyBusy, Self::GatewayBusy, Self::ProviderUnavailable, Self::ProviderUnreachable, Self::ProviderTimeout,
        Self::ProviderRateLimited, Self::ProviderServerError, Self::ProviderRejected, Self::ProviderCredentials,
        Self::ProviderInvalidResponse, Self::ProviderStreamBroken, Self::ProviderStreamIdle,
        Self::ProviderAnswerTimeout, Self::Overloaded, Self::GatewayInternal,
    ];

    /// The table.
    #[rustfmt::skip]
    pub const fn face(self) -> Face {
        match self {
            Self::InvalidHead => face(400, "invalid_request_head", false, "client_invalid_head", "the request head breaks a rule of HTTP (syntax, Host, target form, framing)"),
            Self::HeadTooLarge => face(431, "request_head_too_large", false, "client_head_too_large", "the request head is over `server.max_head_bytes` or has over `server.max_headers` lines"),
            Self::TargetTooLong => face(414, "request_target_too_long", false, "client_target_too_long", "the request target is over `server.max_target_bytes`"),
            Self::HeadTimeout => face(408, "request_head_timeout", true, "client_head_timeout", "the request head took longer than `server.head_timeout`"),
            Self::ExpectationFailed => face(417, "expectation_failed", false, "client_expectation", "the request expects something other than `100-continue`"),
            Self::UnknownRoute => face(404, "unknown_route", false, "client_unknown_route", "no such path on this gateway"),
            Self::MethodNotAllowed => face(405, "method_not_allowed", false, "client_method_not_allowed", "the path exists, the method does not"),
            Self::MethodRefused => face(405, "method_refused", false, "client_method_refused", "the method is CONNECT, TRACE, unknown or not in capitals"),
            Self::MissingKey => face(401, "missing_api_key", false, "client_missing_key", "the request carries no client key"),
            Self::InvalidKey => face(401, "invalid_api_key", false, "client_invalid_key", "the client key is not in the configuration"),
            Self::ConflictingKeys => face(400, "conflicting_api_keys", false, "client_conflicting_keys", "the request carries two different client keys"),
            Self::UnsupportedEncoding => face(415, "unsupported_content_encoding", false, "client_unsupported_encoding", "the request body is compressed"),
            Self::BodyTooLarge => face(413, "request_too_large", false, "client_body_too_large", "the request body is over `server.body_bytes_max`"),
            Self::BodyTimeout => face(408, "request_body_timeout", true, "client_body_timeout", "the request body stalled for `server.body_timeout` or came slower than `server.min_body_rate`"),
            Self::BodyIncomplete => face(400, "incomplete_body", false, "client_body_incomplete", "the request body ended early or broke its framing"),
            Self::InvalidJson => face(400, "invalid_json", false, "client_invalid_json", "the request body is not a JSON object in UTF-8"),
            Self::DuplicateField => face(400, "duplicate_field", false, "client_duplicate_field", "`model`, `stream` or `stream_options` appears twice"),
            Self::InvalidField => face(400, "invalid_field", false, "client_invalid_field", "`model`, `stream` or `stream_options` is missing or of the wrong type"),
            Self::UnknownModel => face(404, "model_not_found", false, "client_unknown_model", "the model is not in the configuration"),
            Self::ClientCancelled => face(499, "client_cancelled", false, "client_cancelled", "the client left before the answer was complete"),
            Self::ModelNotAllowed => face(403, "model_not_allowed", false, "policy_model_not_allowed", "the client key may not use this model"),
            Self::KeyBusy => face(429, "key_requests_in_flight", true, "policy_key_busy", "the client key has `server.max_requests_per_key` requests under way"),
            Self::GatewayBusy => face(429, "requests_in_flight", true, "policy_gateway_busy", "the gateway has `server.max_requests` requests under way"),
            Self::ProviderUnavailable => face(503, "provider_unavailable", true, "provider_unavailable", "no provider of the model could be reached lately (`routing.cooldown_failures`); the next attempt is after `Retry-After`"),
            Self::ProviderUnreachable => face(502, "provider_unreachable", true, "provider_unreachable", "no connection to the provider, or it closed before answering"),
            Self::ProviderTimeout => face(504, "provider_timeout", true, "provider_timeout", "no first byte within `first_byte_timeout`, or no content of a stream within `routing.first_content_timeout` where another deployment remains"),
            Self::ProviderRateLimited => face(429, "provider_rate_limited", true, "provider_rate_limited", "the provider answered 429, or has asked the gateway to wait longer"),
            Self::ProviderServerError => face(502, "provider_server_error", true, "provider_server_error", "the provider answered 5xx"),
            Self::ProviderRejected => face(400, "provider_rejected", false, "provider_rejected", "the provider answered another 4xx, which is passed on"),
            Self::ProviderCredentials => face(502, "provider_credentials_rejected", false, "provider_credentials", "the provider answered 401: the provider key is wrong"),
            Self::ProviderInvalidResponse => face(502, "provider_invalid_response", true, "provider_invalid_response", "the provider's answer is not valid HTTP, or a redirect"),
            Self::ProviderStreamBroken => face(502, "provider_stream_broken", true, "provider_stream_broken", "the answer broke off before its end"),
            Self::ProviderStreamIdle => face(504, "provider_stream_idle", true, "provider_stream_idle", "no byte of the answer for `idle_timeout`"),
            Self::ProviderAnswerTimeout => face(504, "provider_answer_timeout", true, "provider_answer_timeout", "the answer took longer than `answer_timeout` or `stream_timeout`"),
            Self::Overloaded => face(503, "overloaded", true, "gateway_overloaded", "memory is short (`server.memory_limit`, `server.body_memory`)"),
            Self::GatewayInternal => face(500, "internal_error", true, "gateway_internal", "a bug in the gateway"),
        }
    }
}

const fn face(
    status: u16,
    code: &'static str,
    retryable: bool,
    error_type: &'static str,
    meaning: &'static str,
) -> Face {
    Face { status, code, retryable, error_type, meaning }
}

/// An error on its way to a client.
#[derive(Debug)]
pub struct Error {
    pub kind: ErrorKind,
    /// What the client reads: what is wrong, what was expected, what to do.
    pub message: Cow<'static, str>,
    /// The request field at fault (`error.param`).
    pub param: Option<&'static str>,
    /// What only the log may show, such as an address and a cause.
    pub internal: Option<String>,
    /// Seconds after which the client may come again.
    pub retry_after: Option<u32>,
}

impl Error {
    /// An error with its message.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), param: None, internal: None, retry_after: None }
    }

    /// Names the request field at fault.
    #[must_use]
    pub fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    /// Says in how many seconds the client may come again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds what only the log may show.
    #[must_use]
    pub fn internal(mut self, internal: impl Into<String>) -> Self {
        self.internal = Some(internal.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_closed_and_every_error_type_names_a_domain() {
        let mut seen = std::collections::HashSet::new();
        for (index, kind) in ErrorKind::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index, "{kind:?} is out of order in ALL");
            let face = kind.face();
            assert!(seen.insert(face.error_type), "{} appears twice", face.error_type);
            let domain = face.error_type.split('_').next();
            assert!(matches!(domain, Some("client" | "policy" | "provider" | "gateway")), "{}", face.error_type);
            assert!((400..600).contains(&face.status));
        }
        assert_eq!(ErrorKind::GatewayInternal as usize + 1, ErrorKind::ALL.len());
    }
}
