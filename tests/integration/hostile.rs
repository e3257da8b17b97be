//! Providers that break HTTP on purpose: what a client gets of it, what is counted, and that the next
//! request is not touched by it.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
};

use crate::support::{
    Gateway, Provider, Step, chat, eventually,
    provider::{event_stream, json},
};

const CHAT: &str = r#"{"model":"m"}"#;
const NEXT: &str = r#"{"answer":"next","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;

/// What a client gets.
enum Expected {
    /// An error of the gateway, whose `error.type` this is.
    Refused(&'static str),
    /// 200 and a body that breaks off.
    Cut,
    /// 200 and this body.
    Whole(&'static str),
}
use Expected::{Cut, Refused, Whole};

type Row = (&'static str, String, Expected);

/// An answer of JSON with these header lines.
fn answer(lines: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{lines}\r\n{body}")
}

/// Heads that nobody can use.
fn heads() -> Vec<Row> {
    let invalid = || Refused("provider_invalid_response");
    let large = "x".repeat(1 << 20);
    vec![
        (
            "a bare CR splits a header",
            answer("X-Request-Id: a\rSet-Cookie: canary\r\nContent-Length: 2\r\n", "{}"),
            invalid(),
        ),
        (
            "a bare LF splits a header",
            answer("X-Request-Id: a\nSet-Cookie: canary\r\nContent-Length: 2\r\n", "{}"),
            invalid(),
        ),
        ("a NUL in a header", answer("X-Request-Id: a\0b\r\nContent-Length: 2\r\n", "{}"), invalid()),
        ("a folded header", answer("X-Request-Id: a\r\n Set-Cookie: canary\r\nContent-Length: 2\r\n", "{}"), invalid()),
        ("two lengths", answer("Content-Length: 2\r\nContent-Length: 40\r\n", "{}canary"), invalid()),
        (
            "a length and chunks",
            answer("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\ncanary"),
            invalid(),
        ),
        ("an unknown transfer coding", answer("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\ncanary"), invalid()),
        ("a header of 1 MB", answer(&format!("X-A: {large}\r\nContent-Length: 2\r\n"), "{}"), invalid()),
        ("500 headers", answer(&format!("{}Content-Length: 2\r\n", "X-A: canary\r\n".repeat(500)), "{}"), invalid()),
        ("interim answers for ever", "HTTP/1.1 103 Early Hints\r\nLink: canary\r\n\r\n".repeat(10_000), invalid()),
        ("a status line of 1 MB", format!("HTTP/1.1 200 {large}"), invalid()),
    ]
}

/// Bodies behind a good head.
fn bodies() -> Vec<Row> {
    let large = "x".repeat(1 << 20);
    vec![
        (
            "a chunk extension of 1 MB",
            answer("Transfer-Encoding: chunked\r\n", &format!("2;{large}\r\n{{}}\r\n0\r\n\r\n")),
            Cut,
        ),
        (
            "a trailer of 1 MB",
            answer("Transfer-Encoding: chunked\r\n", &format!("2\r\n{{}}\r\n0\r\nX-A: {large}\r\n\r\n")),
            Cut,
        ),
        ("a chunk length beyond 64 bits", answer("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}"), Cut),
        ("a negative chunk length", answer("Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"), Cut),
        ("a chunk without its end", answer("Transfer-Encoding: chunked\r\n", "2\r\n{}canary\r\n0\r\n\r\n"), Cut),
        (
            "a second answer behind the first",
            answer("Content-Length: 2\r\n", "{}HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\ncanary"),
            Whole("{}"),
        ),
        (
            "a second answer behind the chunks",
            answer("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\ncanary"),
            Whole("{}"),
        ),
        (
            "headers between two hops",
            answer("Set-Cookie: canary\r\nProxy-Authenticate: canary\r\nContent-Length: 2\r\n", "{}"),
            Whole("{}"),
        ),
    ]
}

#[test]
fn a_hostile_answer_harms_nobody_but_its_own_request() {
    for (name, answer, expected) in heads().into_iter().chain(bodies()) {
        let good = vec![Step::Send(json("200 OK", NEXT))];
        let provider = Provider::script([vec![Step::Send(answer.into_bytes())], good]);
        let gateway = Gateway::over(&[provider.address], "");
        let reply = chat(gateway.address, CHAT);
        let error_type = match expected {
            Refused(error_type) => {
                assert_eq!((reply.status, reply.complete), (502, true), "{name}: {}", reply.text());
                Some(error_type)
            }
            Cut => {
                assert_eq!((reply.status, reply.complete), (200, false), "{name}: {}", reply.text());
                Some("provider_stream_broken")
            }
            Whole(body) => {
                assert_eq!((reply.status, reply.complete, reply.text().as_str()), (200, true, body), "{name}");
                None
            }
        };
        assert!(!format!("{reply:?}").contains("canary"), "{name}: {reply:?}");
        let next = chat(gateway.address, CHAT);
        assert_eq!((next.status, next.text().as_str()), (200, NEXT), "{name}");
        eventually("both requests are counted", || gateway.metric("tollgate.requests", &[]) == 2.0);
        let failed = f64::from(u8::from(error_type.is_some()));
        assert_eq!(gateway.metric("tollgate.requests", &["failed"]), failed, "{name}");
        if let Some(error_type) = error_type {
            assert_eq!(gateway.metric("tollgate.errors", &[error_type]), 1.0, "{name}");
        }
    }
}

/// A provider that refuses a body before it has read it, as one does whose limit is lower.
#[test]
fn an_early_answer_reaches_the_client_and_ends_the_providers_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let provider = thread::spawn(move || {
        let mut first = listener.accept().unwrap().0;
        let mut head = [0; 1024];
        first.read_exact(&mut head).unwrap();
        first.write_all(&json("413 Payload Too Large", r#"{"error":{"message":"early"}}"#)).unwrap();
        // The rest of the body must not be taken for a request by anybody.
        let mut second = listener.accept().unwrap().0;
        let mut request = vec![0; 1024];
        let length = second.read(&mut request).unwrap();
        second.write_all(&json("200 OK", NEXT)).unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let gateway = Gateway::over(&[address], "");
    let large = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(8 << 20));
    let reply = chat(gateway.address, &large);
    assert_eq!((reply.status, reply.complete), (413, true), "{}", reply.text());
    assert!(reply.text().contains("early"), "{}", reply.text());
    assert_eq!(chat(gateway.address, CHAT).text(), NEXT);
    assert!(provider.join().unwrap().starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
}

/// A stream whose framing breaks between two events: the client is told with an event.
#[test]
fn a_stream_that_breaks_its_framing_ends_with_an_error_event() {
    let mut answer = event_stream(&["data: {\"id\":1}\n\n"]);
    answer.truncate(answer.len() - b"0\r\n\r\n".len());
    answer.extend_from_slice(b"zz\r\n");
    let provider = Provider::answering(answer);
    let gateway = Gateway::over(&[provider.address], "");
    let reply = chat(gateway.address, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
    assert_eq!((reply.status, reply.complete), (200, false));
    assert!(reply.text().starts_with("data: {\"id\":1}\n\n") && reply.text().contains("\"error\""), "{}", reply.text());
    eventually("it is counted", || gateway.metric("tollgate.errors", &["provider_stream_broken"]) == 1.0);
}
