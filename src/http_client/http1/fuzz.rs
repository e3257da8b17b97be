//! Mutated responses against the readers of heads and chunks: `make fuzz`.
//!
//! Whatever comes, they do not panic, say the same however it was cut into reads, and give out no
//! more than came in. For a moment in every test run, for as long as `FUZZ_SECONDS` says otherwise.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;

use super::connection::Reading;
use crate::message::{Chunked, Framing};

#[path = "../../../tests/http_client/corpus.rs"]
#[expect(dead_code, reason = "what has to become of the responses is tested there")]
mod corpus;

/// xorshift64*: repeatable, and good enough to choose bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % limit.max(1)
    }
}

/// Pieces that matter to a reader of HTTP.
const PIECES: [&[u8]; 18] = [
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

fn mutate(random: &mut Random, input: &mut Vec<u8>) {
    for _ in 0..=random.below(6) {
        let (at, end) = (random.below(input.len() + 1), random.below(input.len() + 1));
        let (at, end) = (at.min(end), at.max(end));
        match random.below(6) {
            0 if at < input.len() => input[at] = random.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 => drop(input.splice(at..at, PIECES[random.below(PIECES.len())].iter().copied())),
            3 => drop(input.drain(at..end.min(at + 8))),
            4 => {
                let copy = input[at..end.min(at + 64)].to_vec();
                drop(input.splice(end..end, copy));
            }
            _ => {
                let other = corpus::CORPUS[random.below(corpus::CORPUS.len())].0.as_bytes();
                drop(input.splice(at..at, other[random.below(other.len() + 1)..].iter().copied()));
            }
        }
    }
}

/// What the readers make of a response in these pieces.
#[derive(Debug, PartialEq)]
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
    let mut reading = Reading::new(|_| true);
    let mut at = 0;
    let (head, rest) = loop {
        if at == input.len() {
            return Read::Refused;
        }
        let end = at + cut(input.len() - at).clamp(1, input.len() - at);
        match reading.take(&input[at..end]) {
            Err(_) => return Read::Refused,
            Ok(Some(parsed)) => {
                at = end;
                break parsed;
            }
            Ok(None) => at = end,
        }
    };
    let body = [&rest, &input[at..]].concat();
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
#[expect(clippy::disallowed_methods, reason = "a test is not the program")]
fn mutated_responses_are_read_the_same_however_they_come() {
    let seconds = std::env::var("FUZZ_SECONDS").ok().map_or(0.3, |seconds| seconds.parse().unwrap());
    let seed = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap() | 1;
    let (mut random, begun, mut runs) = (Random(seed), Instant::now(), 0_u64);
    while begun.elapsed() < Duration::from_secs_f64(seconds) {
        let mut input = corpus::CORPUS[random.below(corpus::CORPUS.len())].0.as_bytes().to_vec();
        mutate(&mut random, &mut input);
        let whole = read(&input, |left| left);
        let bytewise = read(&input, |_| 1);
        let mut cuts = Random(random.next() | 1);
        let pieces = read(&input, |left| cuts.below(left) + 1);
        assert!(
            whole == bytewise && whole == pieces,
            "{:?}:\n{whole:?}\n{bytewise:?}\n{pieces:?}",
            input.escape_ascii().to_string()
        );
        runs += 1;
    }
    println!("{runs} responses in {seconds} s, seed {seed}");
}
