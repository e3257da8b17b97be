//! Header lines, one behind the other in one piece of memory.
//!
//! A head has a dozen lines of which two or three are looked for: walking over them is cheaper than
//! a map of them.

use std::fmt;

use memchr::memchr3;

/// Names and values in the order in which they came. Names are in lower case.
#[derive(Clone, Default)]
pub struct Headers {
    /// Of each line: the length of its name and of its value in two bytes each, then both.
    packed: Vec<u8>,
}

/// The lengths before a line.
const LENGTHS: usize = 4;

impl Headers {
    /// Room for lines of so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { packed: Vec::with_capacity(bytes) }
    }

    /// Adds a line. One that HTTP cannot carry (RFC 9110 §5.5), which no parser gives out, is left
    /// out.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        if memchr3(b'\r', b'\n', 0, value).is_none() {
            self.push_parsed(name, value);
        }
    }

    /// Adds a line that a parser has given out, which looks at every byte.
    pub fn push_parsed(&mut self, name: &str, value: &[u8]) {
        let (Ok(name_length), Ok(value_length)) = (u16::try_from(name.len()), u16::try_from(value.len())) else {
            return;
        };
        self.packed.extend_from_slice(&name_length.to_ne_bytes());
        self.packed.extend_from_slice(&value_length.to_ne_bytes());
        let at = self.packed.len();
        self.packed.extend_from_slice(name.as_bytes());
        if let Some(name) = self.packed.get_mut(at..) {
            name.make_ascii_lowercase();
        }
        self.packed.extend_from_slice(value);
    }

    /// The value of the first line of this name, which has to be in lower case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// The values of every line of this name, which has to be in lower case.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// Whether there is a line of this name, which has to be in lower case.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every line.
    pub fn iter(&self) -> Lines<'_> {
        Lines { rest: &self.packed }
    }
}

/// Lines, first to last.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (lengths, rest) = self.rest.split_first_chunk::<LENGTHS>()?;
        let [a, b, c, d] = *lengths;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_ne_bytes([a, b])))?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_ne_bytes([c, d])))?;
        self.rest = rest;
        Some((name, value))
    }
}

// Values may be credentials, so that none is shown.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| String::from_utf8_lossy(name))).finish()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = (&'a [u8], &'a [u8]);
    type IntoIter = Lines<'a>;

    fn into_iter(self) -> Lines<'a> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_name_in_their_order() {
        let mut headers = Headers::default();
        assert_eq!(headers.get("a"), None);
        for (name, value) in [("A", "1"), ("Set-Cookie", "canary"), ("a", ""), ("B", "\u{e4}")] {
            headers.push(name, value.as_bytes());
        }
        assert_eq!(headers.get("a"), Some(b"1".as_slice()));
        assert_eq!(headers.all("a").collect::<Vec<_>>(), [b"1".as_slice(), b""]);
        assert_eq!(headers.get("b"), Some("\u{e4}".as_bytes()));
        assert!(headers.has("set-cookie") && !headers.has("set") && !headers.has(""));
        assert_eq!(headers.iter().count(), 4);
        assert!(!format!("{headers:?}").contains("canary"));
    }

    #[test]
    fn what_no_line_can_carry_is_left_out() {
        let mut headers = Headers::default();
        for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0b"] {
            headers.push("a", value.as_bytes());
        }
        headers.push("a", &vec![b'x'; 1 << 16]);
        headers.push(&"n".repeat(1 << 16), b"");
        assert_eq!(headers.iter().count(), 0);
    }
}
