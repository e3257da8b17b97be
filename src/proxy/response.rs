//! A provider's answer on its way to the client: the head's allow-list and our own headers.

use std::{io::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::{
    Answered, Body,
    body::{Relay, Watch},
    record::Record,
    upstream,
};
use crate::api::sse::Tap;

/// Names of our own headers.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const DEPLOYMENT: HeaderName = HeaderName::from_static("x-tollgate-deployment");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-tollgate-attempts");
const OVERHEAD_MS: HeaderName = HeaderName::from_static("x-tollgate-overhead-ms");

/// Headers of a provider that a client sees, by name. Cookies, server names, account ids and
/// everything between two hops stay behind.
const PASSED: [&str; 8] = [
    "cache-control",
    "content-type",
    "retry-after",
    "openai-processing-ms",
    "openai-version",
    "retry-after-ms",
    "x-request-id",
    "x-should-retry",
];

/// And by prefix: what is left of a rate limit.
const PASSED_PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

/// Hands the answer over to the response body, which ends the record and the attempt.
pub(super) fn relay(answered: Answered, mut record: Record) -> Response<Body> {
    let Answered { response, attempt, deployment_label, attempts, strip_usage } = answered;
    record.responding();
    let (parts, source) = response.into_parts();
    let is_event_stream = is_event_stream(&parts.headers);
    let mut headers = parts.headers;
    if !headers.contains_key(&REQUEST_ID) {
        headers.insert(REQUEST_ID, record.request_id());
    }
    headers.insert(DEPLOYMENT, deployment_label);
    headers.insert(ATTEMPTS, number_of(attempts));
    headers.insert(OVERHEAD_MS, milliseconds(record.overhead()));
    let watch = if is_event_stream { Watch::Events(Tap::new(strip_usage)) } else { Watch::json() };
    let kind = upstream::kind_of(parts.status);
    let relay = Relay::new(source, watch, parts.status.as_u16(), kind, record, attempt);
    let mut response = Response::new(Body::Relay(Box::new(relay)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    response
}

/// Nearly always the first or the second attempt answers.
fn number_of(attempts: u32) -> HeaderValue {
    match attempts {
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        _ => HeaderValue::from(attempts),
    }
}

/// Milliseconds with three places.
fn milliseconds(duration: Duration) -> HeaderValue {
    let micros = u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    let mut text = [0; 24];
    let mut rest = text.as_mut_slice();
    // The text is long enough for the largest number there is.
    let written = write!(rest, "{}.{:03}", micros / 1_000, micros % 1_000).map_or(0, |()| 24 - rest.len());
    HeaderValue::from_bytes(text.get(..written).unwrap_or_default()).unwrap_or(HeaderValue::from_static("0"))
}

/// Whether a header of a provider is for the client.
pub(super) fn is_passed(name: &str) -> bool {
    PASSED.iter().any(|passed| passed.eq_ignore_ascii_case(name))
        || PASSED_PREFIXES
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix)))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content_type.get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}
