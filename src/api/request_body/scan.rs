//! One pass over a JSON object that most likely is one, as fast as its strings can be looked through.
//!
//! Gives up on anything out of the ordinary, right or wrong: whoever asks then has it parsed, which also
//! says what is wrong. What is accepted here a parser accepts as well, with the same fields.

/// Deepest nesting that is looked into here; one bit each.
const DEPTH_MAX: u32 = 100;

/// Calls `field` with the name and the value of every field, as they are spelled, and says whether all
/// is ASCII: if not, it may be no UTF-8. `None` means that nothing can be said.
pub(super) fn fields<'a>(text: &'a [u8], mut field: impl FnMut(&'a [u8], &'a [u8])) -> Option<bool> {
    let mut scan = Scan { bytes: text, at: 0, highest: 0 };
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
    (scan.at == scan.bytes.len()).then_some(scan.highest.is_ascii())
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    /// All bytes of strings, each bit by itself: elsewhere nothing but ASCII is taken.
    highest: u8,
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

    /// Goes to the next byte of a string that does not stand for itself. A block is looked at whole and
    /// without a branch, so that it becomes a few instructions on vectors.
    fn plain(&mut self) -> Option<()> {
        const BLOCK: usize = 32;
        while let Some(block) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
            let (mut found, mut bits) = (0, 0);
            for byte in block {
                found |= u8::from(is_special(*byte));
                bits |= byte;
            }
            if found != 0 {
                let length = first_special(block).unwrap_or(BLOCK);
                // Nearly always all of it is ASCII, and what is behind the place does not matter.
                if !bits.is_ascii() {
                    bits = block.iter().take(length).fold(0, |bits, byte| bits | byte);
                }
                self.highest |= bits;
                self.at += length;
                return Some(());
            }
            self.highest |= bits;
            self.at += BLOCK;
        }
        for byte in self.bytes.get(self.at..)? {
            if is_special(*byte) {
                break;
            }
            self.highest |= byte;
            self.at += 1;
        }
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            self.plain()?;
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let digits = self.bytes.get(self.at..self.at + 4)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.at += 4;
                    }
                    _ => return None,
                },
                // A control character.
                _ => return None,
            }
        }
    }
}

/// Whether it does not stand for itself in a string.
const fn is_special(byte: u8) -> bool {
    // Without a branch.
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// Where the first byte is that does not stand for itself, eight at a time and without a branch for each: text
/// with a line break or a quotation mark every few words is as quick to look through as any other.
fn first_special(block: &[u8]) -> Option<usize> {
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    // The highest bit of each byte that is less than another: exact up to the first such byte, for nothing was
    // borrowed from those before it (Hacker's Delight, 6-1).
    let less = |word: u64, than: u8| word.wrapping_sub(all(than)) & !word;
    let (words, _) = block.as_chunks::<8>();
    words.iter().enumerate().find_map(|(number, word)| {
        let word = u64::from_le_bytes(*word);
        let quotes = less(word ^ all(b'"'), 1);
        let escapes = less(word ^ all(b'\\'), 1);
        let found = (quotes | escapes | less(word, 0x20)) & all(0x80);
        (found != 0).then(|| 8 * number + found.trailing_zeros() as usize / 8)
    })
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
    fn the_first_special_byte_is_found_wherever_it_is() {
        for others in [b'a', 0x7f, 0x80, 0xff, b'!', b'#', b'[', b']', 0x20] {
            for special in [b'"', b'\\', 0, 1, 0x1f, b'\n'] {
                for at in 0..32 {
                    for second in at..32 {
                        let mut block = [others; 32];
                        (block[at], block[second]) = (special, b'"');
                        block[at] = special;
                        assert_eq!(first_special(&block), Some(at), "{block:?}");
                    }
                }
            }
            assert_eq!(first_special(&[others; 32]), None);
        }
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
