//! Responses as servers send them, right and wrong, each with what has to become of it.

/// What a client has to make of a response.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Both read this status and body.
    Body(u16, &'static str),
    /// Both refuse it.
    Refused,
    /// We refuse what hyper reads, for this reason.
    Stricter(&'static str),
}

use Verdict::{Body, Refused, Stricter};

/// The server closes the connection after these bytes.
#[rustfmt::skip]
pub(crate) const CORPUS: &[(&str, Verdict)] = &[
    // Lengths.
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\ncontent-length:2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nCONTENT-LENGTH:   2  \r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Body(200, "")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 02\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", Body(404, "no")),
    ("HTTP/1.1 500 \r\nContent-Length: 2\r\n\r\nno", Body(500, "no")),
    ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", Body(299, "ok")),
    ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", Stricter("a list of lengths is none")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2,3\r\n\r\nok!", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok", Refused),
    // Without a body.
    ("HTTP/1.1 204 No Content\r\n\r\n", Body(204, "")),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", Body(304, "")),
    // To the end of the connection.
    ("HTTP/1.1 200 OK\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.0 200 OK\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\n\r\n", Body(200, "")),
    // Chunks.
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Body(200, "")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n02\r\nok\r\n00\r\n\r\n", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!\r\n0\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n2\r\nok\r\n0\r\n\r\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\nok\r\n0\r\n\r\n", Refused),
    // Two readings of where the body ends.
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stricter("both a length and chunks")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stricter("a coding that nobody undoes")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Stricter("chunks in chunks, or not")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nok", Stricter("RFC 9112 has no such coding")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nok", Stricter("an unknown coding")),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Refused),
    // Heads.
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nX: \u{e4}\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\n\r\nok", Body(200, "ok")),
    ("HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Stricter("line feeds alone end lines for some")),
    ("HTTP/1.1 200 OK\r\nX: a\nContent-Length: 2\r\n\r\nok", Stricter("a line feed alone")),
    ("\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Stricter("something before the response")),
    ("HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\nok", Stricter("no such class of status")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", Refused),
    ("HTTP/1.1 200", Refused),
    ("", Refused),
    ("SSH-2.0-OpenSSH\r\n\r\n", Refused),
    ("220 smtp.example.com ESMTP\r\n", Refused),
];
