//! A provider's answer on its way to the client: the head's allow-list and our own headers.

use std::time::Duration;

use super::{
    Answered, Body,
    body::{Relay, Source},
    comments::Comments,
    record::Record,
    upstream,
    watch::Watch,
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
    let Answered { response, attempt, deployment_label, attempts, strip_usage, held, comment_interval } = answered;
    let Response { status, mut headers, body: source } = response;
    record.responding(status, headers.get("x-request-id"));
    let is_event_stream = is_event_stream(&headers);
    if !headers.has("x-request-id") {
        headers.push("x-request-id", &record.request_id());
    }
    headers.push("x-tollgate-deployment", deployment_label.as_bytes());
    push_attempts(&mut headers, attempts);
    push_milliseconds(&mut headers, record.overhead());
    let provider = attempt.provider();
    let watch = match is_event_stream {
        true => Watch::Events(Tap::new(strip_usage, provider.max_event_bytes)),
        false => Watch::json(provider.max_usage_bytes),
    };
    let kind = upstream::kind_of(status);
    let relay = Relay::new(source, held, watch, status.as_u16(), kind, record, attempt);
    let relay = relay.with(comment_interval.map(Comments::every));
    Response { status, headers, body: Body::Relay(Box::new(relay)) }
}

fn push_attempts(headers: &mut Headers, attempts: u32) {
    headers.push("x-tollgate-attempts", message::decimal(&mut [0; 20], u64::from(attempts), 1));
}

/// Milliseconds with three places.
fn push_milliseconds(headers: &mut Headers, duration: Duration) {
    let micros = u64::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
    let mut text = [0; 20];
    let digits = message::decimal(&mut text, micros, 4);
    let (whole, places) = digits.split_at(digits.len() - 3);
    let mut text = [b'.'; 21];
    let (before, after) = text.split_at_mut(whole.len());
    before.copy_from_slice(whole);
    if let Some(after) = after.get_mut(1..4) {
        after.copy_from_slice(places);
    }
    headers.push("x-tollgate-overhead-ms", text.get(..=digits.len()).unwrap_or_default());
}

/// Whether the beginning of an answer is looked at before the client sees any of it: a stream that
/// fails there is another deployment's.
pub(super) fn may_be_held(response: &Response<Source>, is_last: bool) -> bool {
    !is_last && response.status.is_success() && is_event_stream(&response.headers)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_places() {
        for (nanos, text) in [(0, "0.000"), (1, "0.001"), (12_345_678, "12.346"), (u64::MAX, "18446744073709.552")] {
            let mut headers = Headers::default();
            push_milliseconds(&mut headers, Duration::from_nanos(nanos));
            assert_eq!(headers.get("x-tollgate-overhead-ms"), Some(text.as_bytes()));
        }
        let mut headers = Headers::default();
        push_milliseconds(&mut headers, Duration::MAX);
        assert_eq!(headers.get("x-tollgate-overhead-ms"), Some(b"18446744073709551.615".as_slice()));
    }
}
