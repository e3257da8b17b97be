//! Mutated requests against the readers of heads and bodies: `make fuzz`.
//!
//! Whatever comes, they do not panic, and find the same requests however it was cut into reads: a
//! proxy in front that cuts otherwise must not make two requests of one. What is let through is
//! nothing that another reader could read differently.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{
    head::{Head, Limits},
    input::Input,
};
use crate::{api::operation::Route, fuzz, message::Framing};

const LIMITS: Limits = Limits { bytes: 32 * 1024, lines: 100, target: 4096 };

/// Requests as clients send them, right and wrong, also several in one connection.
const CORPUS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /healthz HTTP/1.0\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer tg-1\r\nConnection: close\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n{\"model\":\"a\"}",
    b"POST /v1/chat/completions?a=b HTTP/1.1\r\nhost:a\r\ncontent-length:2\r\n\r\n{}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=\"y\"\r\n{}\r\n00\r\nTrailer: 1\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nok",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\nok",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    b"GET /v1/../v1/models HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1/%6dodels HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /v1//models/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/// Pieces that matter to a reader of HTTP.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"\r\n0\r\n\r\n",
    b"1\r\nx\r\n",
    b"ffffffffffffffff\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\0",
    b"\x7f",
    b"\xff",
    b"+",
    b"-",
    b"0",
    b"%2e",
    b"/../",
    b"//",
    b"?",
    b"#",
    b"chunked",
    b"close",
    b"keep-alive",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: b\r\n",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\n",
];

/// One request as it was read.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    line: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    framing: Framing,
    keep_alive: bool,
    expects: bool,
    /// Nothing if it broke off or never ended.
    body: Option<Vec<u8>>,
}

/// How what the client sends arrives.
struct Reads<'a, C> {
    rest: &'a [u8],
    cut: C,
}

impl<'a, C: FnMut(usize) -> usize> Reads<'a, C> {
    /// What the next read of at most `most` bytes gives, if anything is left.
    fn next(&mut self, most: u64) -> Option<&'a [u8]> {
        let most = self.rest.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        if most == 0 {
            return None;
        }
        let (read, rest) = self.rest.split_at((self.cut)(most).clamp(1, most));
        self.rest = rest;
        Some(read)
    }
}

/// The requests in `input`, read as `Wire` reads them, `straight` into the body where its length is
/// known. A head that never ends or is refused ends the list: a reader may wait for the end of a
/// line to refuse it.
fn read(input: &[u8], straight: bool, cut: impl FnMut(usize) -> usize) -> Vec<Request> {
    let (mut reader, mut reads, mut requests) = (Input::new(LIMITS), Reads { rest: input, cut }, Vec::new());
    loop {
        let mut head = reader.next();
        while head.is_none() {
            let Some(data) = reads.next(u64::MAX) else { return requests };
            head = reader.take(data);
        }
        let Some(Ok(Head { head, framing, keep_alive, expects })) = head else { return requests };
        check(&head, framing);
        let body = body(&mut reader, &mut reads, straight);
        let is_whole = body.is_some();
        requests.push(Request {
            line: format!("{} {} {}", head.method, head.target, head.is_old),
            headers: head.headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
            framing,
            keep_alive,
            expects,
            body,
        });
        if !keep_alive || !is_whole {
            return requests;
        }
    }
}

fn body(reader: &mut Input, reads: &mut Reads<'_, impl FnMut(usize) -> usize>, straight: bool) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match reader.ready() {
            Err(_) => return None,
            Ok(data) if !data.is_empty() => body.extend_from_slice(&data),
            Ok(_) if reader.is_body_read() => {
                assert!(reader.is_drained());
                return Some(body);
            }
            Ok(_) => match reader.announced().filter(|_| straight) {
                Some(left) => {
                    let data = reads.next(left)?;
                    reader.has_read(data.len());
                    body.extend_from_slice(data);
                }
                None => body.extend_from_slice(&reader.body(reads.next(u64::MAX)?).ok()?),
            },
        }
    }
}

/// What has to be true of every head that is let through.
fn check(head: &crate::message::Head, framing: Framing) {
    let (mut lengths, mut encodings) = (Vec::new(), 0);
    for (name, value) in &head.headers {
        assert!(!name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic() && *byte != b':'), "{name:?}");
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{value:?}");
        match name {
            b"content-length" => lengths.push(value),
            b"transfer-encoding" => encodings += 1,
            _ => {}
        }
    }
    match framing {
        Framing::Chunked => assert!(encodings == 1 && lengths.is_empty() && !head.is_old),
        Framing::Length(length) => {
            assert_eq!(encodings, 0);
            assert!(length == 0 || !lengths.is_empty());
            for value in lengths {
                assert!(value.iter().all(u8::is_ascii_digit), "{value:?}");
                assert_eq!(std::str::from_utf8(value).unwrap().parse(), Ok(length));
            }
        }
        Framing::Close => panic!("a request does not end with its connection"),
    }
    assert!(!head.target.is_empty() && !head.target.contains(['\r', '\n', '\0', ' ']), "{:?}", head.target);
    if let Some(route) = Route::of(head.path()) {
        // Known paths are matched whole: nothing is decoded, joined or left out.
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'/' | b'1' | b'_');
        assert!(head.path().bytes().all(is_plain) && !head.path().contains("//"), "{:?} is {route:?}", head.path());
        assert!(head.target.starts_with(head.path()));
    }
}

#[test]
fn mutated_requests_are_read_the_same_however_they_come() {
    fuzz::run("requests", CORPUS, PIECES, |input, random| {
        let whole = read(input, false, |left| left);
        let bytewise = read(input, false, |_| 1);
        assert_eq!(whole, bytewise, "cut into bytes");
        let straight = read(input, true, |_| 1);
        assert_eq!(whole, straight, "with bodies read straight");
        let mut cuts = random.fork();
        let pieces = read(input, random.below(2) == 0, |left| cuts.below(left) + 1);
        assert_eq!(whole, pieces, "cut anywhere");
        let bodies: usize = whole.iter().filter_map(|request| request.body.as_ref()).map(Vec::len).sum();
        assert!(bodies <= input.len());
        outcome(&whole, input)
    });
}

/// What is new enough about an input to go on from there.
fn outcome(requests: &[Request], input: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for request in requests {
        let method = request.line.split(' ').next().unwrap_or_default();
        method.len().min(10).hash(&mut hasher);
        request.headers.len().min(8).hash(&mut hasher);
        matches!(request.framing, Framing::Chunked).hash(&mut hasher);
        (request.keep_alive, request.expects).hash(&mut hasher);
        request.body.as_ref().map(|body| body.len().min(16)).hash(&mut hasher);
    }
    // Why it went no further.
    let mut reader = Input::new(LIMITS);
    if requests.is_empty()
        && let Some(Err(error)) = reader.take(input)
    {
        error.message.hash(&mut hasher);
    }
    hasher.finish()
}
