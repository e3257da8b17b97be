//! What one request brought back, as a value that is safe to show.
//!
//! Owns the reading of statuses, partial successes and error bodies. Judges nothing: whether to try
//! again is `retry`'s to say, what it means to an operator is `explain`'s.

use std::{io, time::Duration};

use prost::Message;

use super::redact::Redactor;
use crate::{
    http_client,
    proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceResponse,
    telemetry::{Attribute, Dimension, attribute::attribute_enum},
};

attribute_enum! {
    /// How an export failed: statuses that a receiver is likely to answer, and what is no status.
    pub enum ErrorType: "error.type" {
        Timeout = "timeout",
        Connect = "connect",
        Closed = "closed",
        Redirect = "redirect",
        BadRequest = "400",
        Unauthorized = "401",
        Forbidden = "403",
        NotFound = "404",
        MethodNotAllowed = "405",
        PayloadTooLarge = "413",
        UnsupportedMediaType = "415",
        TooManyRequests = "429",
        InternalServerError = "500",
        BadGateway = "502",
        ServiceUnavailable = "503",
        GatewayTimeout = "504",
        /// Points that the receiver named in a partial success.
        Rejected = "rejected",
        Other = "_OTHER",
    }
}

impl ErrorType {
    /// The attribute value of a status that is no success.
    pub(super) fn of_status(status: u16) -> Self {
        match status {
            300..=399 => Self::Redirect,
            400 => Self::BadRequest,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            413 => Self::PayloadTooLarge,
            415 => Self::UnsupportedMediaType,
            429 => Self::TooManyRequests,
            500 => Self::InternalServerError,
            502 => Self::BadGateway,
            503 => Self::ServiceUnavailable,
            504 => Self::GatewayTimeout,
            _ => Self::Other,
        }
    }
}

/// An error or none; `error.type` is absent on success, as the conventions ask.
impl Dimension for Option<ErrorType> {
    const COUNT: usize = ErrorType::COUNT + 1;

    fn index(self) -> usize {
        self.map_or(0, |error| error.index() + 1)
    }

    fn attributes(index: usize, out: &mut Vec<Attribute>) {
        if let Some(index) = index.checked_sub(1) {
            ErrorType::attributes(index, out);
        }
    }
}

/// What came back. Texts in it are short, escaped and free of our own header values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Every point was taken.
    Accepted,
    /// The receiver took the request and named points it left out, or had a remark (`rejected` 0).
    Partial { rejected: u64, message: String },
    /// A status other than 2xx.
    Refused { status: u16, location: Option<String>, retry_after: Option<Duration>, text: String },
    /// No answer that could be used.
    Failed(Failure),
}

/// Why there is no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The host name has no address.
    Resolve(String),
    /// The host answered that nothing listens there.
    ConnectionRefused,
    ConnectTimeout,
    Unreachable(String),
    Tls(TlsFailure, String),
    /// Nothing, or not everything, within this time.
    Timeout(Duration),
    Closed(String),
    /// What came is no HTTP/1.1.
    NotHttp(String),
    /// A 2xx that no OTLP receiver sends.
    NotOtlp(&'static str),
}

/// What failed in a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFailure {
    /// The port does not speak TLS.
    Plain,
    Untrusted,
    WrongName,
    Expired,
    Other,
}

impl Answer {
    /// Whether the receiver took the request, with or without a remark.
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Accepted | Self::Partial { .. })
    }

    /// The `error.type` of the points that were sent; those of a partial success count one by one.
    pub(super) fn error_type(&self) -> Option<ErrorType> {
        match self {
            Self::Accepted | Self::Partial { .. } => None,
            Self::Refused { status, .. } => Some(ErrorType::of_status(*status)),
            Self::Failed(failure) => Some(match failure {
                Failure::Timeout(_) => ErrorType::Timeout,
                Failure::Resolve(_)
                | Failure::ConnectionRefused
                | Failure::ConnectTimeout
                | Failure::Unreachable(_)
                | Failure::Tls(..) => ErrorType::Connect,
                Failure::Closed(_) => ErrorType::Closed,
                Failure::NotHttp(_) | Failure::NotOtlp(_) => ErrorType::Other,
            }),
        }
    }

    /// Reads a 2xx whose body is `body`, `whole` or cut off.
    ///
    /// Prometheus and VictoriaMetrics send nothing at all, so an empty body is a full success; so is
    /// one in a format that the receiver was not asked for.
    pub(super) fn of_success(content_type: &str, body: &[u8], whole: bool, redactor: &Redactor) -> Self {
        if is(content_type, "text/html") {
            return Self::Failed(Failure::NotOtlp("an HTML page"));
        }
        if !whole {
            return Self::Failed(Failure::NotOtlp("more than 64 KiB"));
        }
        if !is(content_type, PROTOBUF) {
            return Self::Accepted;
        }
        match ExportMetricsServiceResponse::decode(body).map(|response| response.partial_success) {
            Ok(Some(partial)) if partial.rejected_data_points > 0 || !partial.error_message.is_empty() => {
                Self::Partial {
                    rejected: u64::try_from(partial.rejected_data_points).unwrap_or(0),
                    message: redactor.show(partial.error_message.as_bytes()),
                }
            }
            Ok(_) => Self::Accepted,
            Err(error) => {
                tracing::debug!(%error, "the receiver's answer cannot be decoded");
                Self::Accepted
            }
        }
    }
}

impl Failure {
    /// Sorts the client's errors by what an operator would do about them.
    pub(super) fn of(error: &http_client::Error, redactor: &Redactor) -> Self {
        match error {
            http_client::Error::Connect(error) => Self::of_connect(error),
            http_client::Error::ConnectTimeout => Self::ConnectTimeout,
            http_client::Error::Closed(why) | http_client::Error::Body(why) => {
                Self::Closed(redactor.show(why.as_bytes()))
            }
            http_client::Error::Reset(code) => Self::Closed(format!("stream reset with code {code}")),
            http_client::Error::InvalidResponse(why) => Self::NotHttp(redactor.show(why.as_bytes())),
            http_client::Error::BodyTooLarge => Self::NotOtlp("more than 64 KiB"),
        }
    }

    fn of_connect(error: &io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::Tls(TlsFailure::of(tls), tls.to_string());
        }
        let text = error.to_string();
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::TimedOut => Self::ConnectTimeout,
            // tokio-rustls's word for a peer that hangs up in the middle of the handshake.
            io::ErrorKind::UnexpectedEof if text.contains("tls") => Self::Tls(TlsFailure::Plain, text),
            // The standard library has no kind for it, but this prefix is its own on every libc.
            _ if text.starts_with("failed to lookup address") => Self::Resolve(text),
            _ => Self::Unreachable(text),
        }
    }
}

impl TlsFailure {
    fn of(error: &rustls::Error) -> Self {
        use rustls::{CertificateError, Error, InvalidMessage};
        match error {
            // What looks like a TLS record of an unknown type is the `H` of an HTTP answer.
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::Plain,
            Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer => Self::Untrusted,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::WrongName,
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }
}

/// The media type of OTLP over HTTP.
pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// The error body that OTLP asks for; receivers that are no Collector mostly send plain text.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// The text of an error body: a `google.rpc.Status` where the type says so, else its first bytes.
pub(super) fn error_text(content_type: &str, body: &[u8], redactor: &Redactor) -> String {
    if is(content_type, PROTOBUF)
        && let Ok(status) = RpcStatus::decode(body)
    {
        return redactor.show(status.message.as_bytes());
    }
    redactor.show(body)
}

/// Whether a `Content-Type` names this media type, parameters aside.
fn is(content_type: &str, media_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsPartialSuccess;

    fn success(content_type: &str, body: &[u8]) -> Answer {
        Answer::of_success(content_type, body, true, &Redactor::default())
    }

    fn partial(rejected: i64, message: &str) -> Vec<u8> {
        let partial_success =
            Some(ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: message.into() });
        ExportMetricsServiceResponse { partial_success }.encode_to_vec()
    }

    #[test]
    fn successes_are_read_as_the_specification_says() {
        assert_eq!(success("", b""), Answer::Accepted);
        assert_eq!(success("application/json", b"{}"), Answer::Accepted);
        assert_eq!(success("text/plain", b"ok"), Answer::Accepted);
        assert_eq!(success(PROTOBUF, b""), Answer::Accepted);
        assert_eq!(success(PROTOBUF, &partial(0, "")), Answer::Accepted);
        assert_eq!(success(PROTOBUF, b"\xff\xff\xff"), Answer::Accepted);
        let rejected = Answer::Partial { rejected: 3, message: "too old".into() };
        assert_eq!(success("Application/X-Protobuf; charset=utf-8", &partial(3, "too old")), rejected);
        assert_eq!(success(PROTOBUF, &partial(0, "hint")), Answer::Partial { rejected: 0, message: "hint".into() });
        assert_eq!(success(PROTOBUF, &partial(-1, "odd")), Answer::Partial { rejected: 0, message: "odd".into() });
    }

    #[test]
    fn what_no_receiver_sends_is_no_success() {
        assert_eq!(success("text/html; charset=utf-8", b"<html>"), Answer::Failed(Failure::NotOtlp("an HTML page")));
        let cut_off = Answer::of_success("", &[0; 70_000], false, &Redactor::default());
        assert_eq!(cut_off, Answer::Failed(Failure::NotOtlp("more than 64 KiB")));
    }

    #[test]
    fn an_error_body_is_decoded_only_when_it_says_that_it_is_protobuf() {
        let status = RpcStatus { code: 3, message: "bad metric".into() }.encode_to_vec();
        let redactor = Redactor::default();
        assert_eq!(error_text(PROTOBUF, &status, &redactor), "bad metric");
        assert_eq!(error_text("text/plain", b"bad metric\n", &redactor), "bad metric");
        assert_eq!(error_text("text/plain", &status, &redactor), r"\u{8}\u{3}\u{12}\nbad metric");
        assert_eq!(error_text(PROTOBUF, b"not protobuf", &redactor), "not protobuf");
    }

    #[test]
    fn every_status_has_an_error_type_of_the_closed_set() {
        for status in 300..600 {
            let error = ErrorType::of_status(status);
            assert!(ErrorType::ALL.contains(&error));
            if let Ok(named) = error.as_str().parse::<u16>() {
                assert_eq!(named, status);
            }
        }
        assert_eq!(ErrorType::of_status(307), ErrorType::Redirect);
        assert_eq!(ErrorType::of_status(418), ErrorType::Other);
    }
}
