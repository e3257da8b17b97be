//! How a stream of events begins: with an answer, with an error, or with nothing yet.

use std::{borrow::Cow, collections::BTreeMap};

use memchr::memrchr2;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What the first events amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// Comments, a role, an id: another provider can still take over without a client noticing.
    Nothing,
    /// Something that is meant for the client, or that is not understood.
    Content,
    /// The provider says that it cannot.
    Error,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<BTreeMap<Cow<'a, str>, &'a RawValue>>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    /// Of text completions.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

impl Opening {
    /// Looks at the whole lines in `bytes`, which begin with one, up to the first that decides; and says how
    /// many bytes need not be looked at again.
    pub fn of(bytes: &[u8]) -> (Self, usize) {
        let whole = memrchr2(b'\n', b'\r', bytes).map_or(0, |at| at + 1);
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| matches!(byte, b'\n' | b'\r'));
        for line in lines {
            let Some(data) = line.strip_prefix(b"data:") else { continue };
            match Self::of_event(data.trim_ascii()) {
                Self::Nothing => {}
                decided => return (decided, whole),
            }
        }
        (Self::Nothing, whole)
    }

    fn of_event(data: &[u8]) -> Self {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else { return Self::Content };
        let kind = event.kind.as_deref();
        if event.error.is_some_and(has_something) || matches!(kind, Some("error" | "response.failed")) {
            return Self::Error;
        }
        let is_nothing = match &event.choices {
            Some(choices) => choices.iter().all(Choice::is_empty),
            None => matches!(kind, Some("response.created" | "response.in_progress" | "response.queued")),
        };
        if is_nothing { Self::Nothing } else { Self::Content }
    }
}

impl Choice<'_> {
    fn is_empty(&self) -> bool {
        let has_delta = self.delta.iter().flatten().any(|(name, value)| name != "role" && has_something(value));
        !has_delta && !self.finish_reason.is_some_and(has_something) && !self.text.is_some_and(has_something)
    }
}

fn has_something(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "\"\"" | "[]" | "{}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_errors_decide_and_the_rest_waits() {
        use Opening::{Content, Error, Nothing};
        let role = r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null}}]}"#;
        let rows = [
            (String::new(), Nothing),
            (": keep-alive\n\n".to_owned(), Nothing),
            (format!("{role}\n\n"), Nothing),
            (r#"data: {"choices":[],"prompt_filter_results":[]}"#.to_owned() + "\r\n\r\n", Nothing),
            (r#"data: {"type":"response.created","response":{"error":null}}"#.to_owned() + "\n\n", Nothing),
            // The line is not whole.
            (r#"data: {"error":{"message":"a"}}"#.to_owned(), Nothing),
            (r#"data: {"error":{"message":"a"}}"#.to_owned() + "\n", Error),
            (format!("{role}\n\ndata: {}\r\n\r\n", r#"{"error":"overloaded"}"#), Error),
            (r#"data:{"type":"response.failed"}"#.to_owned() + "\n\n", Error),
            (r#"data: {"error":null,"choices":[{"delta":{"content":"a"}}]}"#.to_owned() + "\n\n", Content),
            (r#"data: {"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#.to_owned() + "\n\n", Content),
            (r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#.to_owned() + "\n\n", Content),
            (r#"data: {"choices":[{"text":"a"}]}"#.to_owned() + "\n\n", Content),
            ("data: [DONE]\n\n".to_owned(), Content),
            ("data: not json\n\n".to_owned(), Content),
            // What came before decides, and an error after it is the client's.
            (format!("data: {}\n\ndata: {}\n\n", r#"{"choices":[{"text":"a"}]}"#, r#"{"error":"b"}"#), Content),
        ];
        for (text, expected) in rows {
            assert_eq!(Opening::of(text.as_bytes()).0, expected, "{text}");
        }
    }
}
