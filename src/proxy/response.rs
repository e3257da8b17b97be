//! A provider's answer on its way to the client: the head's allow-list and our own headers.

use std::{io::Write as _, time::Duration};

use super::{
    Answered, Body,
    body::{Relay, Watch},
    record::Record,
    upstream,
};
use crate::{
    api::sse::Tap,
    message::{self, Headers, Response},
};

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
    let Response { status, mut headers, body: source } = response;
    let is_event_stream = is_event_stream(&headers);
    if !headers.has("x-request-id") {
        headers.push("x-request-id", &record.request_id());
    }
    headers.push("x-tollgate-deployment", deployment_label.as_bytes());
    push_attempts(&mut headers, attempts);
    push_milliseconds(&mut headers, record.overhead());
    let watch = if is_event_stream { Watch::Events(Tap::new(strip_usage)) } else { Watch::json() };
    let kind = upstream::kind_of(status);
    let relay = Relay::new(source, watch, status.as_u16(), kind, record, attempt);
    Response { status, headers, body: Body::Relay(Box::new(relay)) }
}

fn push_attempts(headers: &mut Headers, attempts: u32) {
    let mut digits = Vec::new();
    // Nearly always the first attempt answers.
    let text = match attempts {
        1 => b"1".as_slice(),
        _ => {
            message::push_number(&mut digits, u64::from(attempts));
            &digits
        }
    };
    headers.push("x-tollgate-attempts", text);
}

/// Milliseconds with three places.
fn push_milliseconds(headers: &mut Headers, duration: Duration) {
    let micros = u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    let mut text = [0; 24];
    let mut rest = text.as_mut_slice();
    // The text is long enough for the largest number there is.
    let written = write!(rest, "{}.{:03}", micros / 1_000, micros % 1_000).map_or(0, |()| 24 - rest.len());
    headers.push("x-tollgate-overhead-ms", text.get(..written).unwrap_or_default());
}

/// Whether a header of a provider is for the client.
pub(super) fn is_passed(name: &str) -> bool {
    PASSED.iter().any(|passed| passed.eq_ignore_ascii_case(name))
        || PASSED_PREFIXES
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(prefix)))
}

fn is_event_stream(headers: &Headers) -> bool {
    let content_type = headers.get("content-type").unwrap_or_default();
    content_type.get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}
