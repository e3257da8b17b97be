//! What the header lines of a message say of the message itself (RFC 9112 §6, §9.3).
//!
//! Where two readers could disagree about where a message ends, it is refused.

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    Chunked,
    /// With the connection; responses only.
    Close,
}

/// What has been said so far.
#[derive(Debug, Default)]
pub struct Said {
    pub length: Option<u64>,
    pub is_chunked: bool,
    pub close: bool,
    pub keep_alive: bool,
}

impl Said {
    /// Takes note of one line.
    pub fn hear(&mut self, name: &str, value: &[u8]) -> Result<(), &'static str> {
        // Three lengths, so that most lines cost a comparison of numbers.
        match name.len() {
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = digits(value).ok_or("Content-Length is no number")?;
                if self.length.is_some_and(|other| other != length) {
                    return Err("there are two different Content-Length");
                }
                self.length = Some(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("the only Transfer-Encoding accepted is `chunked`, once");
                }
                self.is_chunked = true;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What no message may say, of HTTP/1.0 or later.
    pub fn check(&self, is_old: bool) -> Result<(), &'static str> {
        if self.is_chunked && self.length.is_some() {
            return Err("it has both Transfer-Encoding and Content-Length");
        }
        if self.is_chunked && is_old {
            return Err("HTTP/1.0 has no Transfer-Encoding");
        }
        Ok(())
    }

    /// Whether the other side would go on with the connection after this message.
    pub fn keeps_alive(&self, is_old: bool) -> bool {
        !self.close && (!is_old || self.keep_alive)
    }
}

/// Digits only: no sign, no list, no space.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
