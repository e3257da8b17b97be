//! A provider's answer on its way to the client: the head's allow-list and our own headers.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::{
    Answered, Body,
    body::{Relay, Watch},
    record::Record,
    upstream,
};
use crate::api::sse::Tap;

/// Headers of a provider that a client sees, by name. Cookies, server names, account ids and
/// everything between two hops stay behind.
const PASSED: [HeaderName; 8] = [
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::RETRY_AFTER,
    HeaderName::from_static("openai-processing-ms"),
    HeaderName::from_static("openai-version"),
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-should-retry"),
];

/// And by prefix: what is left of a rate limit.
const PASSED_PREFIXES: [&str; 2] = ["x-ratelimit-", "anthropic-ratelimit-"];

/// Hands the answer over to the response body, which ends the record and the attempt.
pub(super) fn relay(answered: Answered, mut record: Record) -> Response<Body> {
    let Answered { response, attempt, deployment_label, attempts, strip_usage } = answered;
    record.responding();
    let (parts, source) = response.into_parts();
    let mut headers = passed(&parts.headers);
    if !headers.contains_key("x-request-id") {
        headers.insert("x-request-id", record.request_id());
    }
    headers.insert("x-tollgate-deployment", deployment_label);
    headers.insert("x-tollgate-attempts", HeaderValue::from(attempts));
    let overhead = format!("{:.3}", record.overhead().as_secs_f64() * 1e3);
    if let Ok(overhead) = HeaderValue::from_str(&overhead) {
        headers.insert("x-tollgate-overhead-ms", overhead);
    }
    let watch = if is_event_stream(&parts.headers) { Watch::Events(Tap::new(strip_usage)) } else { Watch::json() };
    let kind = upstream::kind_of(parts.status);
    let relay = Relay::new(source, watch, parts.status.as_u16(), kind, record, attempt);
    let mut response = Response::new(Body::Relay(Box::new(relay)));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    response
}

fn passed(from: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    for (name, value) in from {
        if PASSED.contains(name) || PASSED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix)) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content_type.get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}
