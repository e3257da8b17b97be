//! What is left of a provider's rate limit, as the head of its answer says.

use crate::message::Headers;

/// OpenAI, Groq and many more; Anthropic.
const REQUESTS: [&str; 2] = ["x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining"];
const TOKENS: [&str; 2] = ["x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining"];

/// The largest number that every receiver of metrics keeps exactly.
const REMAINING_MAX: u64 = 1 << 53;

/// Requests and tokens that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    pub requests: Option<u64>,
    pub tokens: Option<u64>,
}

/// Reads a head; what is not there, or no plain decimal number up to 2^53, is `None`.
pub fn remaining(head: &Headers) -> Remaining {
    let first = |names: &[&str]| names.iter().find_map(|name| number(head.get(name)?));
    Remaining { requests: first(&REQUESTS), tokens: first(&TOKENS) }
}

fn number(text: &[u8]) -> Option<u64> {
    // `parse` would take a sign.
    let digits = text.iter().all(u8::is_ascii_digit).then_some(text)?;
    let number: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    (number <= REMAINING_MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain() {
        for (text, expected) in [
            ("0", Some(0)),
            ("149984", Some(149_984)),
            ("007", Some(7)),
            ("9007199254740992", Some(REMAINING_MAX)),
            ("9007199254740993", None),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1e3", None),
            ("0x1", None),
            ("1,000", None),
            ("1 000", None),
            ("unlimited", None),
            ("\u{661}", None),
        ] {
            assert_eq!(number(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(number(&[0xff]), None);
    }

    #[test]
    fn the_first_spelling_that_is_a_number_counts() {
        let read = |headers: &[(&'static str, &'static str)]| {
            let mut head = Headers::default();
            headers.iter().for_each(|(name, value)| head.push(name, value.as_bytes()));
            let Remaining { requests, tokens } = remaining(&head);
            (requests, tokens)
        };
        assert_eq!(read(&[]), (None, None));
        assert_eq!(
            read(&[("x-ratelimit-remaining-requests", "5"), ("x-ratelimit-remaining-tokens", "x")]),
            (Some(5), None)
        );
        let both = [("x-ratelimit-remaining-tokens", "-1"), ("anthropic-ratelimit-tokens-remaining", "80000")];
        assert_eq!(read(&both), (None, Some(80_000)));
        assert_eq!(read(&[("anthropic-ratelimit-requests-remaining", "49")]), (Some(49), None));
    }
}
