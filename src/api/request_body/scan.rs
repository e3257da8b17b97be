//! One pass over a JSON object that most likely is one, as fast as its strings can be looked through.
//!
//! Gives up on anything out of the ordinary, right or wrong: whoever asks then has it parsed, which also
//! says what is wrong. What is accepted here a parser accepts as well, with the same fields.

use crate::sys::{self, BLOCK};

/// Deepest nesting that is looked into here; one bit each.
const DEPTH_MAX: u32 = 100;

/// Calls `field` with the name and the value of every field, as they are spelled, and says whether all
/// is ASCII: if not, it may be no UTF-8. `None` means that nothing can be said.
pub(super) fn fields<'a>(text: &'a [u8], mut field: impl FnMut(&'a [u8], &'a [u8])) -> Option<bool> {
    let mut scan = Scan { bytes: text, at: 0, high: 0 };
    scan.space();
    scan.take(b'{')?;
    scan.space();
    if scan.peek()? == b'}' {
        scan.at += 1;
    } else {
        loop {
            let name = scan.at;
            scan.string()?;
            let name = text.get(name + 1..scan.at - 1)?;
            if name.contains(&b'\\') {
                return None;
            }
            scan.colon()?;
            let value = scan.at;
            scan.value()?;
            field(name, text.get(value..scan.at)?);
            scan.space();
            match scan.next()? {
                b',' => scan.space(),
                b'}' => break,
                _ => return None,
            }
        }
    }
    scan.space();
    (scan.at == scan.bytes.len()).then_some(scan.high == 0)
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bits of the bytes of strings that are not ASCII: elsewhere nothing but ASCII is taken.
    high: u32,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn colon(&mut self) -> Option<()> {
        self.space();
        self.take(b':')?;
        self.space();
        Some(())
    }

    /// A value with all that is in it.
    fn value(&mut self) -> Option<()> {
        // From the lowest bit: whether what encloses this is an object.
        let (mut enclosing, mut depth) = (0_u128, 0);
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    self.space();
                    let is_object = open == b'{';
                    if self.peek()? == if is_object { b'}' } else { b']' } {
                        self.at += 1;
                    } else {
                        if depth == DEPTH_MAX {
                            return None;
                        }
                        depth += 1;
                        enclosing = enclosing << 1 | u128::from(is_object);
                        if is_object {
                            self.string()?;
                            self.colon()?;
                        }
                        continue;
                    }
                }
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => self.number()?,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.space();
                let is_object = enclosing & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.space();
                        if is_object {
                            self.string()?;
                            self.colon()?;
                        }
                        break;
                    }
                    b'}' if is_object => {}
                    b']' if !is_object => {}
                    _ => return None,
                }
                depth -= 1;
                enclosing >>= 1;
            }
        }
    }

    fn literal(&mut self, text: &[u8]) -> Option<()> {
        let end = self.at + text.len();
        (self.bytes.get(self.at..end)? == text).then(|| self.at = end)
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    /// A string, looked through by blocks: what of a block does not stand for itself is a few bits, so that text
    /// with a line break every few words is nearly as quick to look through as any other.
    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        while let Some(block) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
            let sys::Block { mut special, high } = sys::Block::of(block);
            let mut end = self.at + BLOCK;
            while special != 0 {
                let place = special.trailing_zeros();
                let at = self.at + place as usize;
                match self.bytes.get(at)? {
                    b'"' => {
                        self.high |= high & !(u32::MAX << place);
                        self.at = at + 1;
                        return Some(());
                    }
                    b'\\' => {
                        let next = self.escape(at + 1)?;
                        let behind = next - self.at;
                        if behind >= BLOCK {
                            end = next;
                            break;
                        }
                        special &= u32::MAX << behind;
                    }
                    // A control character.
                    _ => return None,
                }
            }
            self.high |= high;
            self.at = end;
        }
        self.string_end()
    }

    /// The end of a string near the end of all.
    fn string_end(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.at = self.escape(self.at)?,
                ..0x20 => return None,
                byte => self.high |= u32::from(byte >> 7),
            }
        }
    }

    /// What is behind an escape whose backslash stands before `at`.
    #[inline]
    fn escape(&self, at: usize) -> Option<usize> {
        match self.bytes.get(at)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 1),
            b'u' => {
                let digits = self.bytes.get(at + 1..at + 5)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 5)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let owned = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let is_ascii = fields(text.as_bytes(), |name, value| found.push((owned(name), owned(value))))?;
        assert_eq!(is_ascii, text.is_ascii(), "{text}");
        Some(found)
    }

    #[test]
    fn what_is_ordinary_is_read_and_all_else_is_left_to_a_parser() {
        let long = "x".repeat(1_000);
        let nested = "[{\"a\":[[],{}, {\"b\" : [1,-0.5e+7 , true,false,null]}]}]";
        let text = format!("\n {{ \"a\" : \"{long}\\\"\\u00e9é{long}\" ,\t\"b\":{nested},\"c\":0 }} ");
        let found = scanned(&text).unwrap();
        assert_eq!(found[0], ("a".into(), format!("\"{long}\\\"\\u00e9é{long}\"")));
        assert_eq!(found[1..], [("b".into(), nested.into()), ("c".into(), "0".into())]);
        assert_eq!(scanned("{}"), Some(Vec::new()));
        for at in 0..70 {
            assert!(scanned(&format!("{{\"a\":\"{}é{}\"}}", "x".repeat(at), "x".repeat(70 - at))).is_some());
        }
        let deep = |depth| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(scanned(&deep(100)).is_some());
        for text in [
            "",
            "[]",
            "{",
            "{}x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":1 \"b\":2}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":-}",
            "{\"a\":1.}",
            "{\"a\":1e}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":tru}",
            "{\"a\":[1,]}",
            "{\"a\":[1}}",
            "{\"a\":{\"b\":1]}",
            "{\"a\":\"\n\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"",
            "{\"a\":\"\\",
            "{\"\\u0061\":1}",
            "{\"a\":{\"b\"}}",
            "{\"a\":nan}",
            &deep(102),
        ] {
            assert_eq!(scanned(text), None, "{text}");
        }
    }
}
