//! Response heads: what they say, or why they may not be believed.
//!
//! The syntax is httparse's; here are the rules on top of it.

use std::mem::MaybeUninit;

use http::StatusCode;
use memchr::memchr_iter;

use crate::message::{Framing, Headers, Said};

/// Most header lines that can be allowed; room for them costs nothing before it is used.
const LINES_MAX: usize = 1000;

/// Room for what most answers keep and what the gateway adds.
const HEADERS_BYTES: usize = 256;

/// Says by its name whether a header is of interest; the others are read and forgotten.
pub type Keep = fn(&str) -> bool;

/// A final response's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) framing: Framing,
    /// Whether the server would take another request.
    pub(super) keep_alive: bool,
}

#[derive(Debug)]
pub(super) enum Parsed {
    /// There has to be more of it.
    Partial,
    /// 1xx: something else follows after so many bytes.
    Informational(usize),
    /// The head, and its length.
    Final(Head, usize),
}

/// Reads the head at the beginning of `bytes`.
pub(super) fn parse(bytes: &[u8], keep: Keep, lines_max: usize) -> Result<Parsed, String> {
    // httparse would skip empty lines: nothing may stand between two responses.
    if bytes.first().is_some_and(|first| *first != b'H') {
        return Err("it does not begin with HTTP/".into());
    }
    let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
    let lines = lines.get_mut(..lines_max).unwrap_or_default();
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, lines);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
        Err(error) => return Err(format!("invalid head: {error}")),
    };
    let head = bytes.get(..length).unwrap_or_default();
    // A line feed alone ends a line for some readers only.
    if memchr_iter(b'\n', head).any(|at| at == 0 || head.get(at - 1) != Some(&b'\r')) {
        return Err("a line ends without a carriage return".into());
    }
    let code = response.code.unwrap_or_default();
    let status = StatusCode::from_u16(code).ok().filter(|_| (100..600).contains(&code));
    let status = status.ok_or_else(|| format!("there is no status {code}"))?;
    if status.is_informational() {
        // We asked for no other protocol.
        let is_switch = status == StatusCode::SWITCHING_PROTOCOLS;
        return if is_switch { Err("it switches protocols".into()) } else { Ok(Parsed::Informational(length)) };
    }
    let is_old = response.version == Some(0);
    let mut said = Said::default();
    let mut headers = Headers::with_capacity(HEADERS_BYTES);
    for line in response.headers.iter() {
        said.hear(line.name, line.value)?;
        if keep(line.name) {
            headers.push_parsed(line.name, line.value);
        }
    }
    let framing = framing(&said, status, is_old)?;
    let keep_alive = framing != Framing::Close && said.keeps_alive(is_old);
    Ok(Parsed::Final(Head { status, headers, framing, keep_alive }, length))
}

/// Where the body of a response with this status ends (RFC 9112 §6.3).
fn framing(said: &Said, status: StatusCode, is_old: bool) -> Result<Framing, String> {
    said.check(is_old)?;
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Ok(Framing::Length(0));
    }
    Ok(match said.length {
        Some(length) => Framing::Length(length),
        None if said.is_chunked => Framing::Chunked,
        None => Framing::Close,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(_: &str) -> bool {
        true
    }

    fn framing_of(lines: &str) -> Result<(Framing, bool), String> {
        match parse(format!("{lines}\r\n").as_bytes(), all, 100)? {
            Parsed::Final(head, _) => Ok((head.framing, head.keep_alive)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn where_a_body_ends_and_whether_the_connection_goes_on() {
        use Framing::{Chunked, Close, Length};
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", (Length(5), true)),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n", (Length(5), true)),
            ("HTTP/1.1 200 \r\nContent-Length: 0\r\n", (Length(0), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n", (Length(u64::MAX), true)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n", (Chunked, true)),
            ("HTTP/1.1 200 OK\r\n", (Close, false)),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", (Close, false)),
            ("HTTP/1.1 204 No Content\r\n", (Length(0), true)),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n", (Length(0), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n", (Length(5), false)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, CLOSE\r\n", (Length(5), false)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n", (Length(5), false)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n", (Length(5), true)),
            ("HTTP/1.1 599 Odd\r\nContent-Length: 5\r\n", (Length(5), true)),
        ] {
            assert_eq!(framing_of(head), Ok(expected), "{head}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for (head, why) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n", "two different"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5 5\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length:\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n", "no number"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "both"),
            ("HTTP/1.1 204 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", "both"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", "`chunked`, once"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "`chunked`, once"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n", "`chunked`, once"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n", "`chunked`, once"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n", "invalid head"),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n", "HTTP/1.0 has no"),
            ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\n", "invalid head"),
            ("HTTP/1.1 200 OK\r\nX : a\r\n", "invalid head"),
            ("HTTP/1.1 200 OK\r\n: a\r\n", "invalid head"),
            ("HTTP/1.1 200 OK\r\nX: a\rb\r\n", "invalid head"),
            ("HTTP/1.1 200 OK\r\nX: a\0b\r\n", "invalid head"),
            ("HTTP/1.1 200 OK\r\nX: a\nY: b\r\n", "without a carriage return"),
            ("HTTP/1.1 200 OK\nX: a\r\n", "without a carriage return"),
            ("HTTP/2.0 200 OK\r\n", "invalid head"),
            ("HTTP/1.2 200 OK\r\n", "invalid head"),
            ("HTTP/1.1 20 OK\r\n", "invalid head"),
            ("HTTP/1.1 2000 OK\r\n", "invalid head"),
            ("HTTP/1.1 099 OK\r\n", "no status"),
            ("HTTP/1.1 600 OK\r\n", "no status"),
            ("HTTP/1.1 101 Switching\r\n", "switches"),
            ("\r\nHTTP/1.1 200 OK\r\n", "does not begin"),
            ("SSH-2.0-x\r\n", "does not begin"),
            ("http/1.1 200 OK\r\n", "does not begin"),
        ] {
            let error = framing_of(head).unwrap_err();
            assert!(error.contains(why), "{head}: {error}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(101));
        assert!(framing_of(&many).unwrap_err().contains("too many headers"), "{:?}", framing_of(&many));
    }

    #[test]
    fn what_is_kept_and_what_is_partial() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nSet-Cookie: a\r\nX-Y: 1\r\nx-y: 2\r\n\r\nrest";
        for end in 0..head.len() - 4 {
            assert!(matches!(parse(&head[..end], all, 100), Ok(Parsed::Partial)), "{end}");
        }
        let keep: Keep = |name| !name.eq_ignore_ascii_case("set-cookie");
        let Ok(Parsed::Final(parsed, length)) = parse(head, keep, 100) else { panic!() };
        assert_eq!(&head[length..], b"rest");
        assert_eq!(parsed.headers.iter().count(), 3);
        assert_eq!(parsed.headers.all("x-y").collect::<Vec<_>>(), [b"1", b"2"]);
        let hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        assert!(matches!(parse(hint, all, 100), Ok(Parsed::Informational(length)) if length == hint.len()));
    }
}
