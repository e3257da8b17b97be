//! The order in which a request is judged, and how each version of Prometheus answers.
//!
//! What the two would take without a word but our exporter must never send becomes a violation:
//! the request is answered as Prometheus answers it, and the test fails when the receiver is dropped.

use std::io::Read;

use flate2::read::GzDecoder;
use prost::Message;
use tollgate::proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsServiceRequest;

use super::{head::Head, strict, translate};

/// Whose rules apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Prometheus 3.5.3, the long-term release.
    V3_5,
    /// Prometheus 3.14.0.
    V3_14,
}

/// Why a request is not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An error answer, in plain text.
    Refuse(u16, String),
    /// The handler panics: the connection is cut without an answer.
    Cut,
}

/// What of a request the rules look at.
pub(crate) struct Submitted<'a> {
    pub content_type: Option<&'a str>,
    pub content_encoding: Option<&'a str>,
    pub body: &'a [u8],
}

/// Prometheus reads at most this much since 3.12, decompressed.
const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Earlier versions have no limit; this one only protects the test.
const MEMORY_MAX: u64 = 256 * 1024 * 1024;

/// Judges a request and stores its samples if it may.
pub(crate) fn store(
    version: Version,
    submitted: &Submitted<'_>,
    head: &mut Head,
    violations: &mut Vec<String>,
) -> Result<ExportMetricsServiceRequest, Verdict> {
    let message = decode(version, submitted)?;
    let mut found = Vec::new();
    let samples = translate::translate(version, &message, &mut found)?;
    strict::check(&message, &mut found);
    head.append(samples, &mut found)?;
    violations.append(&mut found);
    Ok(message)
}

fn decode(version: Version, submitted: &Submitted<'_>) -> Result<ExportMetricsServiceRequest, Verdict> {
    let refuse = |text: String| Err(Verdict::Refuse(400, text));
    let content_type = submitted.content_type.unwrap_or_default();
    // A comparison of strings: parameters, upper case and other names are all refused.
    if content_type != "application/x-protobuf" {
        return refuse(format!(
            "unsupported content type: {content_type}, supported: [application/json, application/x-protobuf]"
        ));
    }
    let reader: Box<dyn Read + '_> = match submitted.content_encoding.unwrap_or_default() {
        "" => Box::new(submitted.body),
        "gzip" => Box::new(GzDecoder::new(submitted.body)),
        other => {
            return refuse(format!("unsupported compression: {other}. Only \"gzip\" or no compression supported"));
        }
    };
    let limit = if version == Version::V3_14 { BODY_BYTES_MAX } else { MEMORY_MAX };
    let mut body = Vec::new();
    if let Err(error) = reader.take(limit + 1).read_to_end(&mut body) {
        return refuse(error.to_string());
    }
    if body.len() as u64 > limit {
        return refuse("unexpected EOF".to_owned());
    }
    ExportMetricsServiceRequest::decode(body.as_slice()).or_else(|error| {
        // Go's decoder lets invalid UTF-8 through. The handler of 3.5 panics on it later; newer ones
        // make do, but a test should hear of it, and ours cannot read further anyway.
        if version == Version::V3_5 && error.to_string().contains("UTF-8") {
            return Err(Verdict::Cut);
        }
        refuse(error.to_string())
    })
}
