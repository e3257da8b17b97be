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

/// Where a text was cut.
const CUT: &str = "…";
/// Back to the colours of the terminal.
const PLAIN: &str = "\x1b[0m";
/// Where an object was cut.
const CUT_JSON: &str = r#","truncated":true}"#;

impl Shape {
    /// One entry of the log, from what the formatter made of an event.
    pub(super) fn entry(&self, level: Level, text: &str) -> Vec<u8> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        match self.kind {
            Kind::Json => self.json(text),
            Kind::Text { has_colours } => self.text("", text, if has_colours { PLAIN } else { "" }),
            Kind::Journal => self.text(priority(level), text, ""),
        }
    }

    /// Lines after the first are set in, so that none passes for an entry of its own.
    fn text(&self, prefix: &str, text: &str, plain: &str) -> Vec<u8> {
        let mut entry = String::with_capacity(self.bytes_max.min(prefix.len() + text.len() + 64));
        for (number, line) in text.lines().enumerate() {
            if number > 0 {
                entry.push('\n');
            }
            entry.push_str(prefix);
            entry.push_str(if number > 0 { "  " } else { "" });
            entry.push_str(line);
            if entry.len() >= self.bytes_max {
                let room = self.bytes_max.saturating_sub(CUT.len() + plain.len() + 1);
                entry.truncate(entry.floor_char_boundary(room));
                entry.push_str(CUT);
                entry.push_str(plain);
                break;
            }
        }
        entry.push('\n');
        entry.into_bytes()
    }

    /// An object that is too long ends after its last member that fits, or within that member's text.
    fn json(&self, text: &str) -> Vec<u8> {
        let mut entry = Vec::with_capacity(self.bytes_max.min(text.len() + 1));
        if text.len() < self.bytes_max {
            entry.extend_from_slice(text.as_bytes());
        } else {
            let (end, is_within_text) = cut(text.as_bytes(), self.bytes_max.saturating_sub(CUT_JSON.len() + 2));
            entry.extend_from_slice(text.as_bytes().get(..end).unwrap_or_default());
            entry.extend_from_slice(if is_within_text { b"\"" } else { b"" });
            entry.extend_from_slice(CUT_JSON.as_bytes());
        }
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
        String::from_utf8(Shape { kind, bytes_max }.entry(Level::WARN, text)).unwrap()
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
