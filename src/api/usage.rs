//! Token usage as the OpenAI wire reports it, read from JSON or from the end of a JSON body.
//!
//! Never fails: what cannot be read is `None`, and the caller counts it.

use std::sync::LazyLock;

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::cost;

/// Token counts of one answer. Input includes cache reads and writes, output includes reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub reasoning: u64,
    /// What the provider says the answer cost, in nano-USD (OpenRouter's `cost`).
    pub cost_nanos: Option<u64>,
}

/// Above this a count is taken for nonsense: no request has a trillion tokens, and one absurd
/// number would spoil a counter for ever.
const TOKENS_MAX: u64 = 1_000_000_000_000;

/// `usage` of chat completions, completions and embeddings, with the spellings of DeepSeek
/// (`prompt_cache_hit_tokens`) and Mistral (`num_cached_tokens`).
#[derive(Debug, Deserialize)]
pub(super) struct WireUsage {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    prompt_cache_hit_tokens: Count,
    #[serde(default)]
    num_cached_tokens: Count,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
    #[serde(default)]
    cost: Cost,
}

#[derive(Debug, Default, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Count,
    #[serde(default)]
    cache_write_tokens: Count,
}

#[derive(Debug, Default, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

/// A token count; anything but a sane whole number is none.
#[derive(Debug, Default, Clone, Copy)]
struct Count(Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Count;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a token count")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Count, E> {
                Ok(Count((value <= TOKENS_MAX).then_some(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(value).ok().filter(|value| *value <= TOKENS_MAX)))
            }

            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked whole and in range")]
            fn visit_f64<E>(self, value: f64) -> Result<Count, E> {
                let whole = value.fract() == 0.0 && (0.0..=TOKENS_MAX as f64).contains(&value);
                Ok(Count(whole.then_some(value as u64)))
            }

            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_none<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_str<E>(self, _: &str) -> Result<Count, E> {
                Ok(Count(None))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A cost in USD as nano-USD; anything but a sane number is none (Perplexity has an object here).
#[derive(Debug, Default, Clone, Copy)]
struct Cost(Option<u64>);

impl<'de> Deserialize<'de> for Cost {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As text: a number out of range, such as 1e999, must not cost us the tokens beside it.
        let text = <&RawValue>::deserialize(deserializer)?.get();
        Ok(Self(text.parse().ok().and_then(|usd| cost::nanos(usd, cost::ANSWER_USD_MAX))))
    }
}

impl WireUsage {
    /// The counts, if the input count is there; without it nothing was reported.
    pub(super) fn resolve(&self) -> Option<Usage> {
        let prompt = self.prompt_tokens_details.as_ref();
        let completion = self.completion_tokens_details.as_ref();
        let cached = prompt.and_then(|details| details.cached_tokens.0);
        Some(Usage {
            input: self.prompt_tokens.0?,
            output: self.completion_tokens.0.unwrap_or_default(),
            cache_read: cached.or(self.prompt_cache_hit_tokens.0).or(self.num_cached_tokens.0).unwrap_or_default(),
            cache_write: prompt.and_then(|details| details.cache_write_tokens.0).unwrap_or_default(),
            reasoning: completion.and_then(|details| details.reasoning_tokens.0).unwrap_or_default(),
            cost_nanos: self.cost.0,
        })
    }
}

/// The usage of a JSON answer, given its end (or all of it).
///
/// Looks for the last `"usage"` that is a key with an object. A quote inside a JSON string is
/// escaped, so those seven bytes are never part of the answer's text.
pub fn from_json_end(json: &[u8]) -> Option<Usage> {
    let mut end = json.len();
    while let Some(at) = json.get(..end).and_then(last_usage) {
        let after = json.get(at + USAGE.len()..)?.trim_ascii_start();
        if let Some(value) = after.strip_prefix(b":") {
            let mut values = serde_json::Deserializer::from_slice(value).into_iter::<WireUsage>();
            if let Some(Ok(usage)) = values.next() {
                return usage.resolve();
            }
        }
        end = at;
    }
    None
}

const USAGE: &[u8] = b"\"usage\"";

/// Built once: building takes longer than finding.
static USAGE_FINDER: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(USAGE));

/// Where the name stands for the last time.
fn last_usage(json: &[u8]) -> Option<usize> {
    // Only forwards is searched with vectors; the end, where it nearly always is, comes first.
    const END: usize = 512;
    let start = json.len().saturating_sub(END);
    let in_end = USAGE_FINDER.find_iter(json.get(start..)?).last();
    // What lies across the cut is found by the second search.
    in_end.map(|at| start + at).or_else(|| memmem::rfind(json, USAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_known_spelling() {
        let plain = Usage { input: 11, output: 7, ..Usage::default() };
        #[rustfmt::skip]
        let cases: &[(&str, Option<Usage>)] = &[
            (r#"{"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#, Some(plain)),
            (r#"{"usage" : {"prompt_tokens":11,"completion_tokens":7.0}, "timings":{"usage":"low"}}"#, Some(plain)),
            (r#"{"usage":{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}}"#,
                Some(Usage { cache_read: 4, cache_write: 2, reasoning: 3, ..plain })),
            (r#"{"usage":{"prompt_tokens":11,"completion_tokens":7,"prompt_tokens_details":null,"prompt_cache_hit_tokens":5}}"#, Some(Usage { cache_read: 5, ..plain })),
            (r#"{"usage":{"prompt_tokens":8,"total_tokens":8}}"#, Some(Usage { input: 8, ..Usage::default() })),
            (r#"{"usage":null}"#, None),
            (r#"{"usage":{}}"#, None),
            (r#"{"usage":{"prompt_tokens":-1,"completion_tokens":7}}"#, None),
            (r#"{"usage":{"prompt_tokens":1e308,"completion_tokens":7}}"#, None),
            (r#"{"usage":{"prompt_tokens":"11","completion_tokens":7}}"#, None),
            (r#"{"usage":{"prompt_tokens":11,"completion_tokens":[1]}}"#, Some(Usage { input: 11, ..Usage::default() })),
            (r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}]}"#, None),
            ("", None),
        ];
        for (json, expected) in cases {
            assert_eq!(from_json_end(json.as_bytes()), *expected, "{json}");
        }
    }

    /// No number a provider sends makes a cost of nonsense, nor does it lose the tokens beside it.
    #[test]
    fn reads_the_cost_that_a_provider_reports() {
        #[rustfmt::skip]
        let cases: &[(&str, Option<u64>)] = &[
            ("0.00012", Some(120_000)), ("0.95", Some(950_000_000)), ("0", Some(0)), ("-0.0", Some(0)), ("3", Some(3_000_000_000)),
            ("1.2E-4", Some(120_000)), ("1e-30", Some(0)), ("1000", Some(1_000_000_000_000)),
            ("1000.01", None), ("-0.01", None), ("-1", None), ("1e308", None), ("-1e308", None), ("1e999", None), ("-1e999", None),
            ("18446744073709551615", None), ("99999999999999999999999999999999999999999", None),
            ("\"0.1\"", None), ("\"NaN\"", None), ("null", None), ("true", None), ("[0.1]", None), ("{\"total_cost\":0.1}", None),
        ];
        for (cost, nanos) in cases {
            let expected = Usage { input: 11, output: 7, cost_nanos: *nanos, ..Usage::default() };
            for json in [
                format!(r#"{{"usage":{{"prompt_tokens":11,"completion_tokens":7,"cost":{cost}}}}}"#),
                format!(r#"{{"usage":{{"cost": {cost} ,"prompt_tokens":11,"completion_tokens":7}}}}"#),
            ] {
                assert_eq!(from_json_end(json.as_bytes()), Some(expected), "{json}");
            }
        }
        // What is no JSON is no usage at all.
        for cost in ["NaN", "Infinity", "-Infinity", "+1", ".5", "01", ""] {
            let json = format!(r#"{{"usage":{{"prompt_tokens":11,"completion_tokens":7,"cost":{cost}}}}}"#);
            assert_eq!(from_json_end(json.as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn hostile_counts_are_none() {
        for count in
            ["-1", "1e308", "-1e308", "1e999", "1.5", "\"7\"", "1000000000001", "18446744073709551616", "[]", "{}"]
        {
            let json = format!(r#"{{"usage":{{"prompt_tokens":{count},"completion_tokens":7,"cost":0.1}}}}"#);
            assert_eq!(from_json_end(json.as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn reads_from_a_tail() {
        let json = br#"0.12,0.5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;
        assert_eq!(from_json_end(json), Some(Usage { input: 8, ..Usage::default() }));
    }
}
