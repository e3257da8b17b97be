//! Mutated request bodies against the reader of their fields, beside a parser of whole trees: `make fuzz`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{DEPTH_MAX, Fields, MODEL_BYTES_MAX, peek};
use crate::{api::error::ErrorKind, fuzz};

const CORPUS: &[&[u8]] = &[
    br#"{"model":"a","messages":[{"role":"user","content":"hi"}]}"#,
    br#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#,
    br#" { "stream" : false , "x" : [1, -2.50e3, null], "model" : "a\u0062\ud83d\ude00" , "stream_options" : null } "#,
    br#"{"stream_options":{"include_usage": false, "x": {"include_usage": true}},"model":"a"}"#,
    br#"{"stream_options":{},"mod\u0065l":"a","messages":[{"model":"inner"}]}"#,
    b"{\n\t\"\xc3\xa9\":\"\xf0\x9f\x98\x80\",\"model\":\"a\"\r\n}",
    br#"{"model":"a","model":"b"}"#,
    br#"{"model":"a","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]}"#,
    br#"{"model":"a","x":"\\\"{[\\"}"#,
    br#"{"model":7,"stream":"yes","stream_options":[]}"#,
];

const PIECES: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b"\\",
    b"\\u",
    b"\\u0065",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"null",
    b"true",
    b"false",
    b"1e999",
    b"-",
    b"\"model\":\"b\",",
    b"\"stream\":true,",
    b"\"stream_options\":{\"include_usage\":null},",
    b"\"stream_options\":{\"x\":1},",
    b"\"$serde_json::private::RawValue\":\"1\",",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":",
];

#[test]
fn mutated_bodies_are_read_as_a_whole_parser_reads_them() {
    // At the limit of nesting, and beyond it where it does not count.
    let deep = |depth: usize| format!("{{\"model\":\"a\",\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let quoted = format!("{{\"model\":\"a\",\"x\":\"\\\"{}\"}}", "[{".repeat(DEPTH_MAX));
    let edges = [deep(DEPTH_MAX - 2), deep(DEPTH_MAX - 1), deep(DEPTH_MAX), quoted];
    let corpus: Vec<&[u8]> = CORPUS.iter().copied().chain(edges.iter().map(String::as_bytes)).collect();
    fuzz::run("bodies", &corpus, PIECES, |input, _| {
        if let Ok(text) = std::str::from_utf8(input)
            && let Some((scanned, is_ascii)) = Fields::scan(text.as_bytes())
        {
            let parsed = Fields::parse(text).unwrap();
            let of = |fields: &Fields<'_>| {
                let values = [fields.model, fields.stream, fields.stream_options];
                (values.map(|value| value.map(|raw| raw.get().to_owned())), fields.duplicate)
            };
            assert_eq!(is_ascii, text.is_ascii());
            assert_eq!(of(&scanned), of(&parsed));
        }
        let tree = serde_json::from_slice::<Value>(input).ok();
        match peek(input) {
            Ok(peek) => {
                if let Some(tree) = &tree {
                    assert_eq!(tree["model"].as_str(), Some(&*peek.model));
                    assert_eq!(tree["stream"].as_bool().unwrap_or_default(), peek.stream);
                    assert_eq!(tree["stream_options"]["include_usage"] == true, peek.places.wants_usage());
                }
                let plain = peek.places.rewrite(input, "up/stream \"1\"", false);
                let asked = peek.places.rewrite(input, "up/stream \"1\"", true);
                for (ask, rewritten) in [(false, plain), (true, asked)] {
                    let again = super::peek(&rewritten).unwrap();
                    assert_eq!(again.model, "up/stream \"1\"");
                    assert_eq!(again.stream, peek.stream);
                    assert_eq!(again.places.wants_usage(), ask || peek.places.wants_usage());
                    if let Some(tree) = &tree {
                        assert_eq!(serde_json::from_slice::<Value>(&rewritten).unwrap(), expected(tree, ask));
                    }
                }
                format!("{} {} {}", peek.stream, peek.places.wants_usage(), peek.model.len() == input.len())
            }
            Err(error) => {
                if let Some(tree) = tree {
                    assert!(is_wrong(&tree, error.kind), "refused: {}\n{tree}", error.message);
                }
                // Without the places, which would make every message a new one.
                error.message.chars().filter(|character| !character.is_ascii_digit()).collect()
            }
        }
    });
}

/// The tree that a rewritten body is to have.
fn expected(tree: &Value, ask_usage: bool) -> Value {
    let mut tree = tree.clone();
    tree["model"] = "up/stream \"1\"".into();
    if ask_usage {
        tree["stream_options"]["include_usage"] = true.into();
    }
    tree
}

/// Whether a body that is JSON deserves to be refused as this. Of duplicates a tree knows nothing.
fn is_wrong(tree: &Value, kind: ErrorKind) -> bool {
    let model = tree["model"].as_str().map(str::len);
    match kind {
        ErrorKind::DuplicateField => true,
        ErrorKind::InvalidJson => !tree.is_object() || depth(tree) >= DEPTH_MAX,
        ErrorKind::InvalidField => {
            let fields: BTreeMap<&str, &Value> =
                tree.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect();
            let options = fields.get("stream_options");
            !model.is_some_and(|length| (1..=MODEL_BYTES_MAX).contains(&length))
                || fields.get("stream").is_some_and(|stream| !stream.is_boolean() && !stream.is_null())
                || options.is_some_and(|options| !options.is_object() && !options.is_null())
                || !matches!(tree["stream_options"]["include_usage"], Value::Null | Value::Bool(_))
        }
        _ => false,
    }
}

fn depth(tree: &Value) -> usize {
    match tree {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}
