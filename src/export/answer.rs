//! What one request brought back, as a value that is safe to show.
//!
//! Owns the reading of statuses, partial successes and error bodies. Judges nothing: whether to try
//! again is `retry`'s to say, what it means to an operator is `explain`'s.

use std::{fmt, io, time::Duration};

use prost::Message;
use serde::Deserialize;

use super::{grpc::Code, redact::Redactor};
use crate::{
    config::Protocol,
    http_client,
    proto::opentelemetry::proto::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse},
    telemetry::{Attribute, Dimension, attribute::attribute_enum},
};

attribute_enum! {
    /// How an export failed: statuses that a receiver is likely to answer, gRPC's codes by the names
    /// that the conventions have for them, and what is neither.
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
        Cancelled = "CANCELLED",
        Unknown = "UNKNOWN",
        InvalidArgument = "INVALID_ARGUMENT",
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        GrpcNotFound = "NOT_FOUND",
        AlreadyExists = "ALREADY_EXISTS",
        PermissionDenied = "PERMISSION_DENIED",
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        FailedPrecondition = "FAILED_PRECONDITION",
        Aborted = "ABORTED",
        OutOfRange = "OUT_OF_RANGE",
        Unimplemented = "UNIMPLEMENTED",
        Internal = "INTERNAL",
        Unavailable = "UNAVAILABLE",
        DataLoss = "DATA_LOSS",
        Unauthenticated = "UNAUTHENTICATED",
        /// A request that was not sent, as it is larger than OTLP allows.
        RequestTooLarge = "request_too_large",
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

    /// The attribute value of a gRPC code.
    pub(super) const fn of_grpc(code: Code) -> Self {
        match code {
            Code::Cancelled => Self::Cancelled,
            Code::Unknown => Self::Unknown,
            Code::InvalidArgument => Self::InvalidArgument,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::NotFound => Self::GrpcNotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::ResourceExhausted => Self::ResourceExhausted,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Aborted => Self::Aborted,
            Code::OutOfRange => Self::OutOfRange,
            Code::Unimplemented => Self::Unimplemented,
            Code::Internal => Self::Internal,
            Code::Unavailable => Self::Unavailable,
            Code::DataLoss => Self::DataLoss,
            Code::Unauthenticated => Self::Unauthenticated,
        }
    }

    /// Whether a receiver that is spoken to like this can be the cause of it.
    pub(super) fn is_of(self, protocol: Protocol) -> bool {
        let is_status = matches!(self, Self::Redirect) || self.as_str().parse::<u16>().is_ok();
        let is_code = Code::ALL.iter().any(|code| Self::of_grpc(*code) == self);
        if protocol == Protocol::Grpc { !is_status } else { !is_code }
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
    /// A gRPC status other than OK.
    RefusedGrpc { code: Code, retry_after: Option<Duration>, text: String },
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
    /// What came is no HTTP/1.1, or no HTTP/2 where that is spoken.
    NotHttp(String),
    /// A success that no OTLP receiver sends.
    NotOtlp(&'static str),
    /// Nothing was sent: the request has so many bytes, which is more than OTLP allows.
    TooLarge(usize),
}

/// What failed in a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFailure {
    /// The port does not speak TLS.
    Plain,
    Untrusted,
    WrongName,
    Expired,
    /// The server wants a client certificate, or does not want ours.
    ClientCertificate,
    /// The server does not agree to HTTP/2.
    NoHttp2,
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
            Self::RefusedGrpc { code, .. } => Some(ErrorType::of_grpc(*code)),
            Self::Failed(failure) => Some(match failure {
                Failure::Timeout(_) => ErrorType::Timeout,
                Failure::Resolve(_)
                | Failure::ConnectionRefused
                | Failure::ConnectTimeout
                | Failure::Unreachable(_)
                | Failure::Tls(..) => ErrorType::Connect,
                Failure::Closed(_) => ErrorType::Closed,
                Failure::NotHttp(_) | Failure::NotOtlp(_) => ErrorType::Other,
                Failure::TooLarge(_) => ErrorType::RequestTooLarge,
            }),
        }
    }

    /// Reads a 2xx whose body is `body`, `whole` or cut off.
    ///
    /// Prometheus and VictoriaMetrics send nothing at all, so an empty body is a full success; so is
    /// one in a format that is none of OTLP's.
    pub(super) fn of_success(content_type: &str, body: &[u8], whole: bool, redactor: &Redactor) -> Self {
        if is(content_type, "text/html") {
            return Self::Failed(Failure::NotOtlp("an HTML page"));
        }
        if !whole {
            return Self::Failed(Failure::NotOtlp("more than 64 KiB"));
        }
        if is(content_type, PROTOBUF) {
            Self::of_response(ExportMetricsServiceResponse::decode(body), redactor)
        } else if is(content_type, JSON) {
            let response = serde_json::from_slice::<JsonResponse>(body);
            Self::of_response(response.map(JsonResponse::into_message), redactor)
        } else {
            Self::Accepted
        }
    }

    /// Reads the response of a request that was taken. What cannot be decoded has no remark.
    pub(super) fn of_response(
        response: Result<ExportMetricsServiceResponse, impl fmt::Display>,
        redactor: &Redactor,
    ) -> Self {
        match response.map(|response| response.partial_success) {
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
            // Over HTTP/1.1 there are no streams; over gRPC, resets stand for codes. The time for an export
            // is limited as a whole.
            http_client::Error::Reset(_) | http_client::Error::ResponseTimeout => Self::Closed(error.to_string()),
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
        use rustls::{AlertDescription as Alert, CertificateError, Error, InvalidMessage};
        match error {
            Error::NoApplicationProtocol | Error::AlertReceived(Alert::NoApplicationProtocol) => Self::NoHttp2,
            // A server's alerts about certificates are about ours.
            Error::AlertReceived(
                Alert::CertificateRequired
                | Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::DecryptError,
            ) => Self::ClientCertificate,
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

/// The media types of OTLP over HTTP.
pub(super) const PROTOBUF: &str = "application/x-protobuf";
pub(super) const JSON: &str = "application/json";

/// `ExportMetricsServiceResponse` in JSON.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonResponse {
    partial_success: Option<JsonPartialSuccess>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonPartialSuccess {
    /// A string by the rules of proto3, a number by those of many receivers.
    rejected_data_points: serde_json::Value,
    error_message: Option<String>,
}

impl JsonResponse {
    fn into_message(self) -> ExportMetricsServiceResponse {
        let partial_success = self.partial_success.map(|partial| {
            let rejected = &partial.rejected_data_points;
            let rejected = rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok());
            ExportMetricsPartialSuccess {
                rejected_data_points: rejected.unwrap_or(0),
                error_message: partial.error_message.unwrap_or_default(),
            }
        });
        ExportMetricsServiceResponse { partial_success }
    }
}

/// The error body that OTLP asks for; receivers that are no Collector mostly send plain text.
#[derive(Clone, PartialEq, Message, Deserialize)]
#[serde(default)]
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
    if is(content_type, JSON)
        && let Ok(status) = serde_json::from_slice::<RpcStatus>(body)
        && !status.message.is_empty()
    {
        return redactor.show(status.message.as_bytes());
    }
    redactor.show(body)
}

/// Whether a `Content-Type` names this media type, parameters aside.
pub(super) fn is(content_type: &str, media_type: &str) -> bool {
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn json_is_read_with_numbers_as_strings_or_not() {
        let read = |body: &str| success("application/json; charset=utf-8", body.as_bytes());
        let rejected = Answer::Partial { rejected: 3, message: "too old".into() };
        assert_eq!(read(r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too old"}}"#), rejected);
        assert_eq!(
            read(r#"{"partialSuccess":{"errorMessage":"too old","rejectedDataPoints":3,"new":[]},"x":1}"#),
            rejected
        );
        let remark = Answer::Partial { rejected: 0, message: "hint".into() };
        assert_eq!(read(r#"{"partialSuccess":{"rejectedDataPoints":null,"errorMessage":"hint"}}"#), remark);
        for accepted in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"partialSuccess":null}"#,
            r#"{"partialSuccess":{}}"#,
            "{",
            r#"{"partialSuccess":{"rejectedDataPoints":"0"}}"#,
        ] {
            assert_eq!(read(accepted), Answer::Accepted, "{accepted}");
        }
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
        assert_eq!(error_text(JSON, br#"{"code":3,"message":"bad metric","details":[]}"#, &redactor), "bad metric");
        assert_eq!(error_text(JSON, br#"{"message":"bad metric"}"#, &redactor), "bad metric");
        assert_eq!(error_text(JSON, br#"{"error":"bad"}"#, &redactor), r#"{"error":"bad"}"#);
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

    #[test]
    fn every_error_type_belongs_to_http_or_grpc_or_both() {
        let of = |protocol| ErrorType::ALL.iter().filter(|error| error.is_of(protocol)).count();
        let both = ErrorType::ALL.iter().filter(|error| error.is_of(Protocol::Grpc) && error.is_of(Protocol::HttpJson));
        let both: Vec<_> = both.map(|error| error.as_str()).collect();
        assert_eq!(both, ["timeout", "connect", "closed", "request_too_large", "rejected", "_OTHER"]);
        assert_eq!(of(Protocol::Grpc), both.len() + Code::ALL.len());
        assert_eq!(of(Protocol::HttpProtobuf) + Code::ALL.len(), ErrorType::ALL.len());
    }
}
