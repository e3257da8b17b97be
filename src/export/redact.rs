//! Makes a stranger's text fit for a log line: short, on one line, without our own credentials.
//!
//! Receivers echo what they were sent, tokens included, so nothing of theirs is shown unfiltered.

use crate::config::Secret;

/// Bytes of a text that are shown.
const SHOWN_BYTES_MAX: usize = 256;

/// Below this length a value is no credential, and hiding it would only garble words.
const SECRET_BYTES_MIN: usize = 4;

/// The values that must never be shown.
#[derive(Clone, Default)]
pub(super) struct Redactor {
    secrets: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// Hides these header values and the words in them, as `Bearer abc` may come back as `abc`.
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a Secret>) -> Self {
        let mut secrets: Vec<String> = values
            .flat_map(|value| std::iter::once(value.expose().trim()).chain(value.expose().split_ascii_whitespace()))
            .filter(|part| part.len() >= SECRET_BYTES_MIN && !is_scheme(part))
            .map(str::to_owned)
            .collect();
        // The longest first, so that no rest of a value is left when a word of it was hidden.
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// The beginning of `text` without secrets, control characters escaped.
    pub(super) fn show(&self, text: &[u8]) -> String {
        // Secrets are hidden before the text is cut, or half of one could stay at the edge.
        let mut text = String::from_utf8_lossy(text).into_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "***");
            }
        }
        let mut shown = String::new();
        let mut rest = text.trim().chars();
        for character in rest.by_ref() {
            if is_invisible(character) {
                shown.extend(character.escape_default());
            } else {
                shown.push(character);
            }
            if shown.len() >= SHOWN_BYTES_MAX {
                break;
            }
        }
        if rest.next().is_some() {
            shown.push('…');
        }
        shown
    }
}

/// Authentication schemes are words of every error message.
fn is_scheme(word: &str) -> bool {
    ["basic", "bearer", "digest", "token", "apikey", "api-token"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// Control characters and those that reorder or hide text on a terminal.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_short_line() {
        let redactor = Redactor::default();
        assert_eq!(redactor.show(b"404 page not found\n"), "404 page not found");
        assert_eq!(redactor.show(b"a\r\nb\x1b[31m"), r"a\r\nb\u{1b}[31m");
        assert_eq!(redactor.show("x\u{202e}y".as_bytes()), r"x\u{202e}y");
        assert_eq!(redactor.show(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        let long = redactor.show(&[b'x'; 100_000]);
        assert_eq!(long, format!("{}…", "x".repeat(256)));
        assert_eq!(redactor.show(&[b'x'; 256]), "x".repeat(256));
    }

    #[test]
    fn our_own_header_values_are_hidden_whole_and_in_parts() {
        let values = [Secret::new("Basic dXNlcjpwYXNz"), Secret::new("s3cr3t-token"), Secret::new("eu")];
        let redactor = Redactor::new(values.iter());
        assert_eq!(redactor.show(b"bad header: Basic dXNlcjpwYXNz"), "bad header: ***");
        assert_eq!(redactor.show(b"Basic auth failed for dXNlcjpwYXNz"), "Basic auth failed for ***");
        assert_eq!(redactor.show(b"token s3cr3t-token expired, neutral"), "token *** expired, neutral");
        let mut edge = vec![b'x'; 250];
        edge.extend_from_slice(b"s3cr3t-token");
        assert!(!redactor.show(&edge).contains("s3c"));
        assert_eq!(format!("{redactor:?}"), "Redactor");
    }
}
