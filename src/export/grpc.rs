//! One call over gRPC: how a message is framed, and what an answer says.
//!
//! Follows gRPC's PROTOCOL-HTTP2.md for unary calls and nothing more. Sends nothing itself and
//! judges nothing.

use std::{io, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost::Message;

use super::{
    answer::{Answer, ErrorType, Failure, is},
    redact::Redactor,
    retry,
};
use crate::{http_client::Reply, proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceResponse};

/// The method that takes metrics.
pub(super) const PATH: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// The flag and the length before a message.
const PREFIX_BYTES: usize = 5;

/// Why a call failed. `OK` is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// Every code, by its number less one.
    pub(super) const ALL: [Self; 16] = [
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// Its name as gRPC writes it.
    pub(super) fn as_str(self) -> &'static str {
        ErrorType::of_grpc(self).as_str()
    }

    /// Reads a `grpc-status`; `None` is success. What is no number or none of gRPC's is `UNKNOWN`.
    fn parse(status: &HeaderValue) -> Option<Self> {
        match status.to_str().ok().and_then(|status| status.trim().parse::<usize>().ok()) {
            Some(0) => None,
            Some(number) => Some(Self::ALL.get(number - 1).copied().unwrap_or(Self::Unknown)),
            None => Some(Self::Unknown),
        }
    }

    /// For answers without a `grpc-status` (gRPC's http-grpc-status-mapping.md).
    fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// For streams that the server reset (gRPC's PROTOCOL-HTTP2.md, "Errors").
    pub(super) fn of_reset(code: u32) -> Self {
        match h2::Reason::from(code) {
            h2::Reason::REFUSED_STREAM => Self::Unavailable,
            h2::Reason::CANCEL => Self::Cancelled,
            h2::Reason::ENHANCE_YOUR_CALM => Self::ResourceExhausted,
            h2::Reason::INADEQUATE_SECURITY => Self::PermissionDenied,
            h2::Reason::STREAM_CLOSED | h2::Reason::HTTP_1_1_REQUIRED => Self::Unknown,
            _ => Self::Internal,
        }
    }
}

/// Puts the length before a message, and whether it is compressed.
pub(super) fn frame(message: &[u8], is_compressed: bool) -> io::Result<Bytes> {
    let length = u32::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(u8::from(is_compressed));
    framed.put_u32(length);
    framed.put_slice(message);
    Ok(framed.freeze())
}

/// A `grpc-timeout`: at most 8 digits and a unit, rounded up.
pub(super) fn timeout(limit: Duration) -> HeaderValue {
    let nanos = limit.as_nanos().max(1);
    let counts =
        [(1_000, 'u'), (1_000_000, 'm'), (1_000_000_000, 'S')].map(|(unit, name)| (nanos.div_ceil(unit), name));
    let fits = counts.into_iter().find(|(count, _)| *count <= 99_999_999);
    let text = fits.and_then(|(count, name)| format!("{count}{name}").parse().ok());
    // The longest that seconds can say is three years, more than any export takes.
    text.unwrap_or(HeaderValue::from_static("99999999S"))
}

/// What an answer says.
pub(super) fn read(reply: &Reply, redactor: &Redactor) -> Answer {
    let not_otlp = |what| Answer::Failed(Failure::NotOtlp(what));
    // A call that fails at once has its status in the head, and no trailers.
    let from = if reply.trailers.contains_key("grpc-status") { &reply.trailers } else { &reply.headers };
    let content_type =
        reply.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match from.get("grpc-status").map(Code::parse) {
        Some(Some(code)) => refusal(code, from, redactor),
        None if reply.status != StatusCode::OK => {
            let text = if is_grpc(content_type) { String::new() } else { redactor.show(&reply.body) };
            let separator = if text.is_empty() { "" } else { ": " };
            let text = format!("HTTP {}{separator}{text}", reply.status.as_u16());
            Answer::RefusedGrpc { code: Code::of_http(reply.status), retry_after: None, text }
        }
        _ if is(content_type, "text/html") => not_otlp("an HTML page"),
        _ if !is_grpc(content_type) => not_otlp("something that is not gRPC"),
        _ if reply.is_cut_off => not_otlp("more than 64 KiB"),
        None => not_otlp("no gRPC status"),
        Some(None) => match message(&reply.body) {
            Err(what) => not_otlp(what),
            Ok(message) => Answer::of_response(ExportMetricsServiceResponse::decode(message), redactor),
        },
    }
}

fn is_grpc(content_type: &str) -> bool {
    content_type.starts_with("application/grpc")
}

/// The one message of a unary call, or what there is instead.
fn message(body: &[u8]) -> Result<&[u8], &'static str> {
    let Some((prefix, rest)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(if body.is_empty() { "no message" } else { "half a message" });
    };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    match flag {
        0 if rest.len() == length => Ok(rest),
        0 if rest.len() < length => Err("half a message"),
        0 => Err("more than one message"),
        1 => Err("a compressed message, which it was not asked for"),
        _ => Err("something that is not gRPC"),
    }
}

fn refusal(code: Code, from: &HeaderMap, redactor: &Redactor) -> Answer {
    let details = from.get("grpc-status-details-bin").and_then(|value| base64(value.as_bytes()));
    let status = details.and_then(|details| Status::decode(details.as_slice()).ok()).unwrap_or_default();
    let message = from.get("grpc-message").map(|value| percent_decode(value.as_bytes())).unwrap_or_default();
    let message = if message.is_empty() { status.message.as_bytes() } else { &message };
    Answer::RefusedGrpc { code, retry_after: status.retry_after(), text: redactor.show(message) }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Status {
    /// The pause that a `RetryInfo` asks for. One without a time asks for none, and so does one of
    /// less than nothing.
    fn retry_after(&self) -> Option<Duration> {
        let info = self.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
        let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
        let whole = Duration::from_secs(u64::try_from(delay.seconds).unwrap_or(0));
        let part = Duration::from_nanos(u64::try_from(delay.nanos).unwrap_or(0));
        Some(whole.saturating_add(part).min(retry::RETRY_AFTER_MAX))
    }
}

/// Undoes the encoding of `grpc-message`; what is not encoded properly stays as it is.
fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| {
        byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match (first, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => decoded.push(*first),
        }
    }
    decoded
}

/// Decodes the base64 of binary metadata, which may have its padding or not.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 || padding > 0 && !text.len().is_multiple_of(4) {
        return None;
    }
    let text = text.get(..text.len() - padding)?;
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for byte in group {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let bytes = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        bits <<= 6 * (4 - group.len());
        decoded.extend(bits.to_be_bytes().get(1..1 + bytes)?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests;
