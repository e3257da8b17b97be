//! When a server wants to be asked again, as the head of its answer says.

use std::time::{Duration, SystemTime};

use crate::message::Headers;

/// The pause that the head of an answer asks for: `retry-after-ms` (OpenAI), else `Retry-After`.
pub fn of(head: &Headers) -> Option<Duration> {
    let text = |name| str::from_utf8(head.get(name)?).ok();
    let millis = text("retry-after-ms").and_then(number).map(Duration::from_millis);
    millis.or_else(|| parse(text("retry-after")?, SystemTime::now()))
}

/// The pause that a `Retry-After` header asks for: seconds or a date (RFC 9110 §10.2.3).
///
/// A date in the past is now; anything else is as if the header were not there.
pub fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    match number(value) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => Some(httpdate::parse_http_date(value.trim()).ok()?.duration_since(now).unwrap_or_default()),
    }
}

/// One that is too large is a very large one.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::from(u32::MAX)).min(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let parse = |value: &str| parse(value, now).map(|pause| pause.as_secs());
        assert_eq!(parse("7"), Some(7));
        assert_eq!(parse(" 0 "), Some(0));
        assert_eq!(parse("86400"), Some(86_400));
        assert_eq!(parse("99999999999999999999999"), Some(u64::from(u32::MAX)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:57 GMT"), Some(20));
        assert_eq!(parse("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for garbage in ["", "soon", "-1", "1.5", "+5", "1 s", "Sun, 99 Nov 1994"] {
            assert_eq!(parse(garbage), None, "{garbage:?}");
        }
    }

    #[test]
    fn milliseconds_win() {
        for (headers, expected) in [
            (&[("retry-after", "7")][..], Some(7_000)),
            (&[("retry-after", "7"), ("retry-after-ms", "1500")], Some(1_500)),
            (&[("retry-after", "7"), ("retry-after-ms", "soon")], Some(7_000)),
            (&[], None),
        ] {
            let mut head = Headers::default();
            headers.iter().for_each(|(name, value)| head.push(name, value.as_bytes()));
            assert_eq!(of(&head).map(|pause| pause.as_millis()), expected, "{headers:?}");
        }
    }
}
