//! The chunked transfer coding (RFC 9112 §7.1), read as it comes.

use bytes::BytesMut;

/// Bytes of extensions, which nobody uses, in one chunk and in all of them.
const EXTENSION_MAX: usize = 4 * 1024;
const EXTENSIONS_MAX: usize = 16 * 1024;

/// More than any body has; waiting for so much would be waiting for nothing.
const CHUNK_BYTES_MAX: u64 = 1 << 48;

/// Trailers are read and dropped.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
const TRAILER_LINES_MAX: usize = 32;

/// Where in the coding the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first digit of a size.
    Size,
    Digits,
    /// White space after the size.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a line after the last chunk.
    Trailer,
    TrailerLine,
    TrailerLf,
    LastLf,
    End,
}

/// A decoder between two reads.
#[derive(Debug, Clone)]
pub struct Chunked {
    place: Place,
    /// Of the size being read, then of the data left.
    left: u64,
    extension: usize,
    extensions: usize,
    trailer_bytes: usize,
    trailer_lines: usize,
}

impl Chunked {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { place: Place::Size, left: 0, extension: 0, extensions: 0, trailer_bytes: 0, trailer_lines: 0 }
    }

    /// Whether the body has ended.
    pub fn is_ended(&self) -> bool {
        self.place == Place::End
    }

    /// Appends the data in `input` to `out` and says how much of the input was read: all of it,
    /// unless the body ended before.
    pub fn decode(&mut self, input: &[u8], out: &mut BytesMut) -> Result<usize, &'static str> {
        let mut at = 0;
        while self.place != Place::End {
            let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) else { break };
            if self.place == Place::Data {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                out.extend_from_slice(rest.get(..length).unwrap_or_default());
                self.left -= length as u64;
                at += length;
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
                continue;
            }
            let Some(byte) = rest.first() else { break };
            self.step(*byte)?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), &'static str> {
        self.place = match (self.place, byte) {
            (Place::Size | Place::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left << 4 | u64::from(digit);
                if self.left > CHUNK_BYTES_MAX {
                    return Err("a chunk's size is too large");
                }
                // Zeros in front could go on for ever.
                self.extension()?;
                Place::Digits
            }
            (Place::Size, _) => return Err("a chunk's size is no hexadecimal number"),
            (Place::Digits | Place::Space, b' ' | b'\t') => {
                self.extension()?;
                Place::Space
            }
            (Place::Digits | Place::Space, b';') => Place::Extension,
            (Place::Digits | Place::Space | Place::Extension, b'\r') => {
                self.extension = 0;
                Place::SizeLf
            }
            (Place::Digits | Place::Space, _) => return Err("a chunk's size is no hexadecimal number"),
            (Place::Extension, b'\n' | 0) => return Err("a chunk's extension has control characters"),
            (Place::Extension, _) => {
                self.extension()?;
                Place::Extension
            }
            (Place::SizeLf, b'\n') if self.left == 0 => Place::Trailer,
            (Place::SizeLf, b'\n') => Place::Data,
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size,
            (Place::Trailer, b'\r') => Place::LastLf,
            (Place::LastLf, b'\n') => Place::End,
            (Place::Trailer | Place::TrailerLine, b'\n' | 0) => return Err("a trailer has control characters"),
            (Place::TrailerLine, b'\r') => Place::TrailerLf,
            (Place::Trailer | Place::TrailerLine, _) => {
                self.trailer_bytes += 1;
                self.trailer_lines += usize::from(self.place == Place::Trailer);
                if self.trailer_bytes > TRAILER_BYTES_MAX || self.trailer_lines > TRAILER_LINES_MAX {
                    return Err("there are too many trailers");
                }
                Place::TrailerLine
            }
            (Place::TrailerLf, b'\n') => Place::Trailer,
            (Place::SizeLf | Place::DataCr | Place::DataLf | Place::TrailerLf | Place::LastLf, _) => {
                return Err("a chunk does not end with a line break");
            }
            (Place::Data | Place::End, _) => self.place,
        };
        Ok(())
    }

    fn extension(&mut self) -> Result<(), &'static str> {
        self.extension += 1;
        self.extensions += 1;
        if self.extension > EXTENSION_MAX || self.extensions > EXTENSIONS_MAX {
            return Err("chunk extensions are too long");
        }
        Ok(())
    }
}

impl Default for Chunked {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything decoded, how much was read, and whether it ended.
    fn decode(input: &[u8], cuts: &[usize]) -> Result<(BytesMut, usize, bool), &'static str> {
        let (mut chunked, mut out, mut read) = (Chunked::new(), BytesMut::new(), 0);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(input.len());
        for end in cuts {
            if end > read && !chunked.is_ended() {
                read += chunked.decode(&input[read..end], &mut out)?;
            }
        }
        Ok((out, read, chunked.is_ended()))
    }

    #[test]
    fn what_is_chunked_and_what_is_not() {
        let long = "x".repeat(EXTENSION_MAX + 1);
        let rows: Vec<(String, Result<&str, &str>)> = vec![
            ("0\r\n\r\n".into(), Ok("")),
            ("5\r\nhello\r\n0\r\n\r\n".into(), Ok("hello")),
            ("5\r\nhello\r\n6\r\n world\r\n000\r\n\r\n".into(), Ok("hello world")),
            ("A\r\n0123456789\r\n0\r\n\r\n".into(), Ok("0123456789")),
            ("00000000000000000000000001\r\nx\r\n0\r\n\r\n".into(), Ok("x")),
            ("5;a=b;c=\"d\"\r\nhello\r\n0;x\r\n\r\n".into(), Ok("hello")),
            ("5 \t\r\nhello\r\n0\r\n\r\n".into(), Ok("hello")),
            ("5\r\nhello\r\n0\r\nTrailer: a\r\nX: b\r\n\r\n".into(), Ok("hello")),
            ("".into(), Err("")),
            ("5\r\nhello\r\n0\r\n".into(), Err("")),
            ("5\r\nhell".into(), Err("")),
            ("\r\n".into(), Err("no hexadecimal")),
            ("g\r\n".into(), Err("no hexadecimal")),
            ("0x5\r\nhello\r\n".into(), Err("no hexadecimal")),
            ("-5\r\n".into(), Err("no hexadecimal")),
            ("+5\r\n".into(), Err("no hexadecimal")),
            (" 5\r\nhello\r\n".into(), Err("no hexadecimal")),
            ("5 5\r\n".into(), Err("no hexadecimal")),
            ("5\nhello\n0\n\n".into(), Err("no hexadecimal")),
            ("10000000000000000\r\n".into(), Err("too large")),
            ("ffffffffffffffffff\r\n".into(), Err("too large")),
            ("5\rhello".into(), Err("line break")),
            ("5\r\nhello0\r\n\r\n".into(), Err("line break")),
            ("5\r\nhello\n0\r\n\r\n".into(), Err("line break")),
            ("5\r\nhello!\r\n0\r\n\r\n".into(), Err("line break")),
            ("0\r\n\rx".into(), Err("line break")),
            ("0\r\nX: a\n\r\n".into(), Err("control")),
            ("5;a\nb\r\nhello".into(), Err("control")),
            (format!("5;{long}\r\nhello\r\n0\r\n\r\n"), Err("extensions are too long")),
            (format!("5{}\r\nhello\r\n0\r\n\r\n", " ".repeat(EXTENSION_MAX + 1)), Err("extensions are too long")),
            (format!("0\r\nX: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX)), Err("too many trailers")),
            (format!("0\r\n{}\r\n", "X: a\r\n".repeat(TRAILER_LINES_MAX + 1)), Err("too many trailers")),
            (
                format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "y".repeat(4_000)).repeat(5)),
                Err("extensions are too long"),
            ),
        ];
        for (input, expected) in rows {
            let every_byte: Vec<usize> = (0..input.len()).collect();
            for cuts in [&[][..], &every_byte] {
                match (decode(input.as_bytes(), cuts), expected) {
                    (Ok((out, read, true)), Ok(data)) => {
                        assert_eq!((&*out, read), (data.as_bytes(), input.len()))
                    }
                    (Ok((_, _, false)), Err("")) => {}
                    (Err(why), Err(expected)) if !expected.is_empty() => {
                        assert!(why.contains(expected), "{input}: {why}")
                    }
                    (found, expected) => panic!("{input:?}: {found:?} and not {expected:?}"),
                }
            }
        }
        // What follows the end is not read.
        assert_eq!(decode(b"1\r\nx\r\n0\r\n\r\nHTTP/1.1 200", &[]).unwrap().1, 11);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            noise in prop::collection::vec(any::<u8>(), 0..4),
            at in any::<usize>(),
            cuts in prop::collection::vec(any::<usize>(), 0..20),
        ) {
            let mut input = Vec::new();
            for chunk in &chunks {
                input.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
            }
            input.extend(b"0\r\n\r\n");
            prop_assert_eq!(decode(&input, &cuts), Ok((BytesMut::from(&*chunks.concat()), input.len(), true)));
            // Broken, it is broken the same way.
            let at = at % (input.len() + 1);
            input.splice(at..at, noise);
            prop_assert_eq!(decode(&input, &cuts), decode(&input, &[]));
        }
    }
}
