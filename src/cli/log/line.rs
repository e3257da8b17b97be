//! What a line looks like when it is written: of bounded length, and one entry whatever is in it.

use tracing::Level;

/// How the lines of this process are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text { has_colours: bool },
    Json,
    Journal,
}

/// What is made of a formatted event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// Of a line, its end included.
    pub(super) bytes_max: usize,
}

/// What most entries fit into, in bytes.
const TYPICAL_BYTES: usize = 512;
/// Where a text was cut.
const CUT: &str = "…";
/// Back to the colours of the terminal.
const PLAIN: &str = "\x1b[0m";
/// Where an object was cut.
const CUT_JSON: &str = r#","truncated":true}"#;

impl Shape {
    /// What an entry begins with.
    pub(super) fn begin(&self, level: Level) -> String {
        let mut text = String::with_capacity(self.bytes_max.min(TYPICAL_BYTES));
        if self.kind == Kind::Journal {
            text.push_str(priority(level));
        }
        text
    }

    /// The entry, from what the event made of its beginning.
    pub(super) fn end(&self, level: Level, mut text: String) -> Vec<u8> {
        let is_short = text.len() < self.bytes_max;
        match self.kind {
            Kind::Json if !is_short => self.cut_object(&text),
            Kind::Text { .. } | Kind::Journal if !is_short || text.contains('\n') => self.cut_text(level, &text),
            Kind::Json | Kind::Text { .. } | Kind::Journal => {
                text.push('\n');
                text.into_bytes()
            }
        }
    }

    /// Lines after the first are set in, so that none passes for an entry of its own.
    fn cut_text(&self, level: Level, text: &str) -> Vec<u8> {
        let prefix = if self.kind == Kind::Journal { priority(level) } else { "" };
        let plain = if self.kind == (Kind::Text { has_colours: true }) { PLAIN } else { "" };
        let mut entry = String::with_capacity(self.bytes_max.min(text.len() + 64));
        for (number, line) in text.lines().enumerate() {
            if number > 0 {
                entry.extend(["\n", prefix, "  "]);
            }
            entry.push_str(line);
            if entry.len() >= self.bytes_max {
                let room = self.bytes_max.saturating_sub(CUT.len() + plain.len() + 1);
                entry.truncate(entry.floor_char_boundary(room));
                entry.extend([CUT, plain]);
                break;
            }
        }
        entry.push('\n');
        entry.into_bytes()
    }

    /// Ends after the last member that fits, or within that member's text.
    fn cut_object(&self, text: &str) -> Vec<u8> {
        let (end, is_within_text) = cut(text.as_bytes(), self.bytes_max.saturating_sub(CUT_JSON.len() + 2));
        let mut entry = text.as_bytes().get(..end).unwrap_or_default().to_vec();
        entry.extend_from_slice(if is_within_text { b"\"" } else { b"" });
        entry.extend_from_slice(CUT_JSON.as_bytes());
        entry.push(b'\n');
        entry
    }
}

/// The last place up to `most` where an object can be cut: within the text of one of its own members
/// (then a quote has to follow), or behind one.
fn cut(object: &[u8], most: usize) -> (usize, bool) {
    let mut best = (0, false);
    let (mut depth, mut in_text, mut is_value) = (0_u32, false, false);
    let mut at = 0;
    while at <= most.min(object.len()) {
        let Some(&byte) = object.get(at) else { break };
        if in_text {
            // The places between characters, and never within an escape.
            if depth == 1 && is_value && byte & 0xC0 != 0x80 {
                best = (at, true);
            }
            match byte {
                b'"' => in_text = false,
                b'\\' if object.get(at + 1) == Some(&b'u') => at += 5,
                b'\\' => at += 1,
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_text = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                b':' if depth == 1 => is_value = true,
                b',' if depth == 1 => {
                    is_value = false;
                    best = (at, false);
                }
                _ => {}
            }
        }
        at += 1;
    }
    best
}

/// How important an entry is to journald (`sd-daemon(3)`).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind, bytes_max: usize, text: &str) -> String {
        let shape = Shape { kind, bytes_max };
        let begun = shape.begin(Level::WARN) + text.strip_suffix('\n').unwrap();
        String::from_utf8(shape.end(Level::WARN, begun)).unwrap()
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let text = "2026 WARN a problem name=\"x\"\n";
        assert_eq!(entry(Kind::Text { has_colours: true }, text.len() + 1, text), text);
        assert_eq!(entry(Kind::Journal, text.len() + 4, text), format!("<4>{text}"));
        let text = "{\"a\":1,\"b\":\"c\"}\n";
        assert_eq!(entry(Kind::Json, text.len(), text), text);
    }

    #[test]
    fn an_entry_of_several_lines_stays_one() {
        let text = "first\n<0>second\nthird\n";
        assert_eq!(entry(Kind::Text { has_colours: false }, 100, text), "first\n  <0>second\n  third\n");
        assert_eq!(entry(Kind::Journal, 100, text), "<4>first\n<4>  <0>second\n<4>  third\n");
    }

    #[test]
    fn text_is_cut_between_characters() {
        let text = "aé€😀 \n second line".repeat(20) + "\n";
        for bytes_max in 20..text.len() {
            for kind in [Kind::Text { has_colours: true }, Kind::Text { has_colours: false }, Kind::Journal] {
                let entry = entry(kind, bytes_max, &text);
                assert!(entry.len() <= bytes_max && entry.len() + 8 >= bytes_max, "{bytes_max} {entry:?}");
                assert!(entry.trim_end().trim_end_matches(PLAIN).ends_with(CUT), "{entry:?}");
            }
        }
    }

    #[test]
    fn an_object_that_is_cut_is_still_one() {
        let object = serde_json::json!({
            "level": "WARN",
            "message": "a \"quoted\" \\ text\n\twith é€😀\u{1} in it",
            "list": [1, [2, "x,:}"], {"a": "b", "c": ["d"]}],
            "n": -12.5,
            "detail": "{\"a\":\"b\"},".repeat(20),
        });
        let text = object.to_string();
        let mut whole = 0;
        for bytes_max in 64..text.len() + 2 {
            let entry = entry(Kind::Json, bytes_max, &(text.clone() + "\n"));
            assert!(entry.len() <= bytes_max, "{bytes_max} {entry:?}");
            let mut read: serde_json::Value = serde_json::from_str(&entry).expect(&entry);
            if read == object {
                whole += 1;
                continue;
            }
            assert_eq!(read["truncated"].take(), true);
            for (name, value) in read.as_object().unwrap().iter().filter(|(_, value)| !value.is_null()) {
                let complete = &object[name];
                let begins = value.as_str().zip(complete.as_str()).is_some_and(|(cut, text)| text.starts_with(cut));
                assert!(value == complete || begins, "{name}: {value}");
            }
        }
        assert_eq!(whole, 1);
    }
}
