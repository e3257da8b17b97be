//! One event as text or as a JSON object, in the order in which its fields were written.
//!
//! Whatever stands in a value, it cannot begin a line, move a cursor or turn the direction of text.

use std::{
    error::Error,
    fmt::{self, Write as _},
    time::SystemTime,
};

use tracing::{
    Event, Level,
    field::{Field, Visit},
};

use super::line::Kind;
use crate::cli::time::Time;

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Appends the event to `out`, and stops somewhere behind `bytes_max`.
pub(super) fn write(out: &mut String, kind: Kind, bytes_max: usize, now: SystemTime, event: &Event<'_>) {
    let level = *event.metadata().level();
    match kind {
        Kind::Json => {
            let _always = write!(out, "{{\"timestamp\":\"{:.6}\",\"level\":\"{level}\"", Time(now));
        }
        Kind::Text { has_colours: true } => {
            let _always = write!(out, "{DIM}{:.6}{PLAIN} {}{level:>5}{PLAIN} ", Time(now), colour(level));
        }
        Kind::Text { has_colours: false } => {
            let _always = write!(out, "{:.6} {level:>5} ", Time(now));
        }
        Kind::Journal => {
            let _always = write!(out, "{level:>5} ");
        }
    }
    let mut fields = Fields { out, kind, bytes_max };
    event.record(&mut fields);
    if kind == Kind::Json {
        out.push('}');
    }
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

struct Fields<'a> {
    out: &'a mut String,
    kind: Kind,
    bytes_max: usize,
}

impl Fields<'_> {
    /// Writes a field; `is_text` puts quotes around its value in JSON.
    fn field(&mut self, field: &Field, is_text: bool, value: fmt::Arguments<'_>) {
        if self.out.len() > self.bytes_max {
            return;
        }
        let is_json = self.kind == Kind::Json;
        match (self.kind, field.name()) {
            (Kind::Json, name) => self.push(&[",\"", name, "\":"]),
            (Kind::Text { .. } | Kind::Journal, "message") => {}
            (Kind::Text { has_colours: true }, name) => self.push(&[" ", DIM, name, "=", PLAIN]),
            (Kind::Text { .. } | Kind::Journal, name) => self.push(&[" ", name, "="]),
        }
        let has_quotes = is_json && is_text;
        self.push(&[if has_quotes { "\"" } else { "" }]);
        let _too_long = Escaped { out: self.out, is_json, bytes_max: self.bytes_max }.write_fmt(value).is_err();
        self.push(&[if has_quotes { "\"" } else { "" }]);
    }

    fn push(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.out.push_str(part));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, true, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.kind == Kind::Json || field.name() == "message" {
            self.field(field, true, format_args!("{value}"));
        } else {
            self.field(field, true, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.field(field, true, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, false, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, false, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, false, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for infinity.
        self.field(field, !value.is_finite(), format_args!("{value}"));
    }
}

/// Writes what is given without what could be taken for something else.
struct Escaped<'a> {
    out: &'a mut String,
    is_json: bool,
    bytes_max: usize,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut copied = 0;
        for (at, character) in text.char_indices() {
            let is_special = match character {
                '"' | '\\' | '\n' => self.is_json,
                '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'
                | '\u{2029}' => true,
                _ => character.is_control(),
            };
            if !is_special {
                continue;
            }
            self.out.push_str(text.get(copied..at).unwrap_or_default());
            copied = at + character.len_utf8();
            match character {
                '"' | '\\' => self.out.extend(['\\', character]),
                '\n' => self.out.push_str("\\n"),
                '\t' => self.out.push_str("\\t"),
                '\r' => self.out.push_str("\\r"),
                _ => write!(self.out, "\\u{:04x}", u32::from(character))?,
            }
        }
        self.out.push_str(text.get(copied..).unwrap_or_default());
        if self.out.len() > self.bytes_max { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_pass_for_something_else() {
        let text = "a\"b\\c\nd\te\r\u{1b}[0m\u{9b}\u{202e}é€\u{2028}";
        let escaped = |is_json| {
            let mut out = String::new();
            Escaped { out: &mut out, is_json, bytes_max: 1000 }.write_str(text).unwrap();
            out
        };
        assert_eq!(escaped(false), "a\"b\\c\nd\\te\\r\\u001b[0m\\u009b\\u202eé€\\u2028");
        let json: String = serde_json::from_str(&format!("\"{}\"", escaped(true))).unwrap();
        assert_eq!(json, text);
        assert!(escaped(true).is_ascii() || escaped(true).chars().all(|character| !character.is_control()));
    }
}
