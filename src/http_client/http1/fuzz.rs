//! Mutated responses against the readers of heads and chunks: `make fuzz`.
//!
//! Whatever comes, they do not panic, say the same however it was cut into reads, and give out no
//! more than came in.

use bytes::BytesMut;

use super::connection::Reading;
use crate::{
    fuzz,
    message::{Chunked, Framing},
};

#[path = "../../../tests/http_client/corpus.rs"]
#[expect(dead_code, reason = "what has to become of the responses is tested there")]
mod corpus;

/// Pieces that matter to a reader of HTTP.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b"\0",
    b"chunked",
    b"Content-Length: ",
    b"Transfer-Encoding: ",
    b"HTTP/1.1 ",
    b"HTTP/1.1 100 \r\n\r\n",
    b"ffffffffffffffff",
    b"\xff",
    b"-",
];

/// What the readers make of a response in these pieces.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// Also what never comes to its end: a reader may wait for the end of a line to refuse it.
    Refused,
    Response {
        status: u16,
        body: Vec<u8>,
        is_ended: bool,
        behind: usize,
    },
}

fn read(input: &[u8], mut cut: impl FnMut(usize) -> usize) -> Read {
    let mut reading = Reading::new(
        |_| true,
        &crate::http_client::Limits::connecting(std::time::Duration::ZERO, std::time::Duration::ZERO),
    );
    let mut at = 0;
    let (head, rest) = loop {
        if at == input.len() {
            return Read::Refused;
        }
        let end = at + cut(input.len() - at).clamp(1, input.len() - at);
        match reading.take(&input[at..end], |_, rest| rest.to_vec()) {
            Err(_) => return Read::Refused,
            Ok(Some(parsed)) => {
                at = end;
                break parsed;
            }
            Ok(None) => at = end,
        }
    };
    let body = [&*rest, &input[at..]].concat();
    let status = head.status.as_u16();
    match head.framing {
        Framing::Close => Read::Response { status, behind: 0, is_ended: false, body },
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let taken = body.len().min(length);
            let (is_ended, behind) = (taken == length, body.len() - taken);
            Read::Response { status, body: body[..taken].to_vec(), is_ended, behind }
        }
        Framing::Chunked => {
            let (mut chunked, mut out, mut at) = (Chunked::new(), BytesMut::new(), 0);
            while at < body.len() && !chunked.is_ended() {
                let end = at + cut(body.len() - at).clamp(1, body.len() - at);
                match chunked.decode(&body[at..end], &mut out) {
                    Err(_) => return Read::Refused,
                    Ok(read) => {
                        assert!(read <= end - at && (read == end - at || chunked.is_ended()));
                        at += read;
                    }
                }
            }
            assert!(out.len() <= body.len());
            Read::Response { status, body: out.to_vec(), is_ended: chunked.is_ended(), behind: body.len() - at }
        }
    }
}

#[test]
fn mutated_responses_are_read_the_same_however_they_come() {
    let inputs: Vec<&[u8]> = corpus::CORPUS.iter().map(|(input, _)| input.as_bytes()).collect();
    fuzz::run("responses", &inputs, PIECES, |input, random| {
        let whole = read(input, |left| left);
        let bytewise = read(input, |_| 1);
        let mut cuts = random.fork();
        let pieces = read(input, |left| cuts.below(left) + 1);
        assert!(whole == bytewise && whole == pieces, "{whole:?}\n{bytewise:?}\n{pieces:?}");
        match whole {
            Read::Refused => (0, 0, false, 0),
            Read::Response { status, body, is_ended, behind } => (status, body.len().min(16), is_ended, behind.min(4)),
        }
    });
}
