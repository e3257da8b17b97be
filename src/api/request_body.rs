//! What the gateway has to know of a request body, and the two changes it may make to it.
//!
//! One pass over the top level finds `model`, `stream` and `stream_options`; everything else is
//! skipped and later forwarded byte for byte. The body is never parsed into a tree.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::error::{Error, ErrorKind};

mod scan;

/// Most pieces of a body with its changes: two of them, and what is around them.
pub const PIECES_MAX: usize = 5;

/// Longest model name a client may send, in bytes.
const MODEL_BYTES_MAX: usize = 256;

/// Deepest nesting of a body, serde_json's own limit for trees.
const DEPTH_MAX: usize = 128;

/// The fields of one request body.
#[derive(Debug)]
pub struct Peek<'a> {
    pub model: Cow<'a, str>,
    pub stream: bool,
    pub places: Places,
}

/// Where in a body its changes are made.
#[derive(Debug)]
pub struct Places {
    model: Range<usize>,
    options: StreamOptions,
}

/// Where `stream_options` is, and what it says about usage.
#[derive(Debug)]
enum StreamOptions {
    Absent,
    Null(Range<usize>),
    Object {
        at: Range<usize>,
        empty: bool,
        /// The value of `include_usage` if it is there and not `true`.
        declined: Option<Range<usize>>,
        included: bool,
    },
}

/// Finds the fields, or says what is wrong with the body.
pub fn peek(body: &[u8]) -> Result<Peek<'_>, Error> {
    let fields = match Fields::scan(body) {
        // ASCII is UTF-8, which long bodies need not be looked through for once more.
        Some((fields, true)) => fields,
        Some((fields, false)) => utf8(body).map(|_| fields)?,
        None => Fields::parse(utf8(body)?)?,
    };
    if let Some(field) = fields.duplicate {
        return Err(Error::new(
            ErrorKind::DuplicateField,
            format!("`{field}` appears more than once in the request body; send it once"),
        )
        .param(field));
    }
    let (model, model_at) = model(&fields, body)?;
    let places = Places { model: model_at, options: stream_options(&fields, body)? };
    Ok(Peek { model, stream: stream(&fields)?, places })
}

fn utf8(body: &[u8]) -> Result<&str, Error> {
    let text = std::str::from_utf8(body).map_err(|error| {
        invalid_json(format!("the request body is not UTF-8: invalid byte at offset {}", error.valid_up_to()))
    })?;
    if text.starts_with('\u{feff}') {
        return Err(invalid_json("the request body starts with a byte order mark; send plain UTF-8"));
    }
    Ok(text)
}

impl Places {
    /// Whether the client itself asked for the usage event of a stream.
    pub fn wants_usage(&self) -> bool {
        matches!(self.options, StreamOptions::Object { included: true, .. })
    }

    /// The body for a deployment: `model` replaced and, with `ask_usage`,
    /// `stream_options.include_usage` set; every other byte as it came.
    pub fn rewrite(&self, body: &[u8], model: &str, ask_usage: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(body.len() + model.len() + 64);
        let mut from = 0;
        for (at, text) in self.edits(body, model, ask_usage) {
            out.extend_from_slice(body.get(from..at.start).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
            from = at.end;
        }
        out.extend_from_slice(body.get(from..).unwrap_or_default());
        out
    }

    /// As [`Self::rewrite`], in up to [`PIECES_MAX`] pieces of which those of the body are no copies.
    pub fn pieces(&self, body: &Bytes, model: &str, ask_usage: bool) -> Vec<Bytes> {
        let mut out = Vec::with_capacity(PIECES_MAX);
        let mut from = 0;
        for (at, text) in self.edits(body, model, ask_usage) {
            out.push(body.slice(from..at.start));
            out.push(text.into_owned().into());
            from = at.end;
        }
        out.push(body.slice(from..));
        out
    }

    /// What is put in place of what, in the order of the body.
    fn edits(&self, body: &[u8], model: &str, ask_usage: bool) -> Vec<(Range<usize>, Cow<'static, str>)> {
        const ASK: &str = "\"include_usage\":true";
        let mut edits: Vec<(Range<usize>, Cow<'static, str>)> = Vec::with_capacity(2);
        edits.push((self.model.clone(), json_string(model).into()));
        if ask_usage {
            match &self.options {
                StreamOptions::Absent => {
                    let first = body.iter().position(|byte| *byte == b'{').map_or(0, |open| open + 1);
                    edits.push((first..first, format!("\"stream_options\":{{{ASK}}},").into()));
                }
                StreamOptions::Null(at) => edits.push((at.clone(), format!("{{{ASK}}}").into())),
                StreamOptions::Object { included: true, .. } => {}
                StreamOptions::Object { declined: Some(at), .. } => edits.push((at.clone(), "true".into())),
                StreamOptions::Object { at, empty, .. } => {
                    let first = at.start + 1;
                    edits.push((first..first, format!("{ASK}{}", if *empty { "" } else { "," }).into()));
                }
            }
        }
        edits.sort_by_key(|(at, _)| at.start);
        edits
    }
}

fn model<'a>(fields: &Fields<'a>, body: &[u8]) -> Result<(Cow<'a, str>, Range<usize>), Error> {
    let wrong = |message: String| Error::new(ErrorKind::InvalidField, message).param("model");
    let raw =
        fields.model.ok_or_else(|| wrong("`model` is missing: name one of the models of GET /v1/models".into()))?;
    let text = <CowStr<'_>>::deserialize(raw).map_err(|_| wrong("`model` has to be a string".into()))?.0;
    if text.is_empty() {
        return Err(wrong("`model` is empty: name one of the models of GET /v1/models".into()));
    }
    if text.len() > MODEL_BYTES_MAX {
        return Err(wrong(format!("`model` is {} bytes long; the limit is {MODEL_BYTES_MAX}", text.len())));
    }
    Ok((text, position(raw, body)))
}

fn stream(fields: &Fields<'_>) -> Result<bool, Error> {
    match fields.stream.map(RawValue::get) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::new(ErrorKind::InvalidField, "`stream` has to be true or false").param("stream")),
    }
}

fn stream_options(fields: &Fields<'_>, body: &[u8]) -> Result<StreamOptions, Error> {
    let wrong = |message: &'static str| Err(Error::new(ErrorKind::InvalidField, message).param("stream_options"));
    let Some(raw) = fields.stream_options else { return Ok(StreamOptions::Absent) };
    let at = position(raw, body);
    if raw.get() == "null" {
        return Ok(StreamOptions::Null(at));
    }
    let Ok(options) = OptionFields::deserialize(raw) else {
        return wrong("`stream_options` has to be an object");
    };
    if options.duplicate {
        return Err(Error::new(
            ErrorKind::DuplicateField,
            "`stream_options.include_usage` appears more than once; send it once",
        )
        .param("stream_options"));
    }
    let (included, declined) = match options.include_usage {
        None => (false, None),
        Some(value) => match value.get() {
            "true" => (true, None),
            "false" | "null" => (false, Some(position(value, body))),
            _ => return wrong("`stream_options.include_usage` has to be true or false"),
        },
    };
    Ok(StreamOptions::Object { at, empty: options.empty, declined, included })
}

/// Where a raw value stands in the body it was borrowed from.
fn position(raw: &RawValue, body: &[u8]) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
    start..start + raw.get().len()
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn invalid_json(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidJson, message)
}

fn json_error(error: &serde_json::Error) -> Error {
    invalid_json(format!("the request body is not a JSON object: {error}"))
}

/// Whether brackets nest too deep. Bodies with few brackets, which most are, are not walked.
fn too_deep(body: &[u8]) -> bool {
    if memchr::memchr2_iter(b'{', b'[', body).nth(DEPTH_MAX).is_none() {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

/// A string that borrows when it has no escapes.
struct CowStr<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for CowStr<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = CowStr<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<CowStr<'de>, E> {
                Ok(CowStr(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<CowStr<'de>, E> {
                Ok(CowStr(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The top level of a body. Keys are compared after unescaping, so that `mod\u0065l` is `model`.
#[derive(Default)]
struct Fields<'a> {
    model: Option<&'a RawValue>,
    stream: Option<&'a RawValue>,
    stream_options: Option<&'a RawValue>,
    duplicate: Option<&'static str>,
}

impl<'a> Fields<'a> {
    /// Finds them in a body that is as most are, and says whether it is ASCII.
    fn scan(body: &'a [u8]) -> Option<(Self, bool)> {
        let mut fields = Self::default();
        let mut is_readable = true;
        let is_ascii = scan::fields(body, |name, value| {
            if let Some((name, slot)) = fields.slot(name) {
                let value = serde_json::from_slice(value).ok();
                is_readable &= value.is_some();
                if std::mem::replace(slot, value).is_some() {
                    fields.duplicate = Some(name);
                }
            }
        })?;
        is_readable.then_some((fields, is_ascii))
    }

    /// Finds them, or says what is wrong.
    fn parse(text: &'a str) -> Result<Self, Error> {
        if too_deep(text.as_bytes()) {
            return Err(invalid_json(format!("the request body is nested deeper than {DEPTH_MAX} levels")));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = Self::deserialize(&mut deserializer).map_err(|error| json_error(&error))?;
        deserializer.end().map_err(|error| json_error(&error))?;
        Ok(fields)
    }

    /// Where the value of a field goes, if it is of interest.
    fn slot(&mut self, name: &[u8]) -> Option<(&'static str, &mut Option<&'a RawValue>)> {
        Some(match name {
            b"model" => ("model", &mut self.model),
            b"stream" => ("stream", &mut self.stream),
            b"stream_options" => ("stream_options", &mut self.stream_options),
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(CowStr(key)) = map.next_key()? {
                    let Some((name, slot)) = fields.slot(key.as_bytes()) else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    if slot.replace(map.next_value()?).is_some() {
                        fields.duplicate = Some(name);
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The inside of `stream_options`.
#[derive(Default)]
struct OptionFields<'a> {
    include_usage: Option<&'a RawValue>,
    duplicate: bool,
    empty: bool,
}

impl<'de> Deserialize<'de> for OptionFields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = OptionFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OptionFields<'de>, A::Error> {
                let mut options = OptionFields { empty: true, ..OptionFields::default() };
                while let Some(CowStr(key)) = map.next_key()? {
                    options.empty = false;
                    if key == "include_usage" {
                        options.duplicate |= options.include_usage.replace(map.next_value()?).is_some();
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(options)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(body: &str, ask_usage: bool) -> String {
        let peek = peek(body.as_bytes()).unwrap();
        let whole = peek.places.rewrite(body.as_bytes(), "up/stream", ask_usage);
        let pieces = peek.places.pieces(&Bytes::copy_from_slice(body.as_bytes()), "up/stream", ask_usage);
        assert_eq!(pieces.concat(), whole);
        assert!(pieces.len() <= PIECES_MAX);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn only_the_model_value_changes() {
        #[rustfmt::skip]
        let cases = [
            (r#"{"model":"a","x":1}"#, r#"{"model":"up/stream","x":1}"#),
            (r#" { "x" : [1, 2.50e3] , "model" : "a\u0062c" } "#, r#" { "x" : [1, 2.50e3] , "model" : "up/stream" } "#),
            (r#"{"mod\u0065l":"a","messages":[{"model":"inner"}]}"#, r#"{"mod\u0065l":"up/stream","messages":[{"model":"inner"}]}"#),
            ("{\n\t\"é\":\"\u{1f600}\",\"model\":\"a\"\n}", "{\n\t\"é\":\"\u{1f600}\",\"model\":\"up/stream\"\n}"),
        ];
        for (body, expected) in cases {
            assert_eq!(rewritten(body, false), expected);
        }
    }

    #[test]
    fn usage_is_asked_for_with_the_smallest_change() {
        #[rustfmt::skip]
        let cases = [
            (r#"{"model":"a","stream":true}"#, r#"{"stream_options":{"include_usage":true},"model":"up/stream","stream":true}"#),
            (r#"{"model":"a","stream_options":null}"#, r#"{"model":"up/stream","stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":{},"model":"a"}"#, r#"{"stream_options":{"include_usage":true},"model":"up/stream"}"#),
            (r#"{"stream_options":{"x":1},"model":"a"}"#, r#"{"stream_options":{"include_usage":true,"x":1},"model":"up/stream"}"#),
            (r#"{"stream_options":{"include_usage": false},"model":"a"}"#, r#"{"stream_options":{"include_usage": true},"model":"up/stream"}"#),
            (r#"{"stream_options":{"include_usage":true},"model":"a"}"#, r#"{"stream_options":{"include_usage":true},"model":"up/stream"}"#),
        ];
        for (body, expected) in cases {
            assert_eq!(rewritten(body, true), expected);
            assert!(peek(expected.as_bytes()).unwrap().places.wants_usage());
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let deep = format!("{{\"model\":\"a\",\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        let long = format!("{{\"model\":\"{}\"}}", "m".repeat(300));
        #[rustfmt::skip]
        let cases: &[(&[u8], ErrorKind, &str)] = &[
            (b"", ErrorKind::InvalidJson, "EOF"),
            (b"[]", ErrorKind::InvalidJson, "expected a JSON object"),
            (b"{\"model\":\"a\"} x", ErrorKind::InvalidJson, "trailing characters"),
            (b"{\"model\":\"a\",}", ErrorKind::InvalidJson, "trailing comma"),
            (b"{\"model\":\"\xff\"}", ErrorKind::InvalidJson, "offset 10"),
            (b"\xef\xbb\xbf{\"model\":\"a\"}", ErrorKind::InvalidJson, "byte order mark"),
            (deep.as_bytes(), ErrorKind::InvalidJson, "deeper than 128"),
            (b"{}", ErrorKind::InvalidField, "`model` is missing"),
            (b"{\"model\":7}", ErrorKind::InvalidField, "string"),
            (b"{\"model\":\"\"}", ErrorKind::InvalidField, "empty"),
            (long.as_bytes(), ErrorKind::InvalidField, "300 bytes"),
            (b"{\"model\":\"a\",\"stream\":\"yes\"}", ErrorKind::InvalidField, "`stream`"),
            (b"{\"model\":\"a\",\"stream_options\":[]}", ErrorKind::InvalidField, "object"),
            (b"{\"model\":\"a\",\"model\":\"b\"}", ErrorKind::DuplicateField, "`model`"),
            (b"{\"model\":\"a\",\"mod\\u0065l\":\"b\"}", ErrorKind::DuplicateField, "`model`"),
            (b"{\"model\":\"a\",\"stream\":true,\"stream\":false}", ErrorKind::DuplicateField, "`stream`"),
        ];
        for (body, kind, text) in cases {
            let error = peek(body).unwrap_err();
            assert_eq!(error.kind, *kind, "{}", error.message);
            assert!(error.message.contains(text), "{} lacks {text}", error.message);
        }
    }
}
