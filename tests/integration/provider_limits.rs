//! Limits of what a provider sends, each with its option.

use crate::support::{
    Gateway, Provider, chat, eventually,
    gateway::KEYS,
    provider::{event_stream, json},
};

/// A gateway in front of a provider that answers so, with this option of it; and what a client gets.
fn ask(option: &str, answer: impl Into<Vec<u8>>, body: &str) -> (Gateway, u16, String) {
    let provider = Provider::answering(answer);
    let gateway = Gateway::run(&format!(
        "[providers.p]\nbase_url = \"http://{}/v1\"\ninclude_usage = false\n{option}\n[models.m]\ndeployments = [{{ provider = \"p\" }}]\n{KEYS}",
        provider.address
    ));
    let reply = chat(gateway.address, body);
    eventually("the request ends", || gateway.metric("tollgate.requests", &[]) == 1.0);
    let text = reply.text();
    (gateway, reply.status, text)
}

/// An answer with so many header lines more, each of so many bytes.
fn with_headers(lines: usize, bytes: usize) -> String {
    let line = format!("X-A: {}\r\n", "a".repeat(bytes - 7));
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{}Content-Length: 2\r\n\r\n{{}}", line.repeat(lines))
}

#[test]
fn the_head_of_an_answer() {
    for (option, lines, bytes, status) in [
        ("", 98, 600, 200),
        ("", 99, 10, 502),
        ("", 98, 700, 502),
        ("max_headers = 200", 198, 10, 200),
        ("max_headers = 10", 8, 10, 200),
        ("max_headers = 10", 9, 10, 502),
        ("max_head_bytes = \"1MiB\"", 98, 10_000, 200),
        ("max_head_bytes = \"1KiB\"", 20, 50, 502),
        ("max_head_bytes = \"1KiB\"", 10, 50, 200),
    ] {
        let (gateway, seen, text) = ask(option, with_headers(lines, bytes), r#"{"model":"m"}"#);
        assert_eq!(seen, status, "{option}, {lines} lines of {bytes} bytes: {text}");
        let refused = gateway.metric("tollgate.errors", &["provider_invalid_response"]);
        assert_eq!(refused, f64::from(u8::from(status == 502)), "{option}");
    }
}

#[test]
fn an_event_that_is_looked_into() {
    let usage = format!(
        "data: {{\"pad\":\"{}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":4}}}}\n\n",
        "x".repeat(70_000)
    );
    for (option, read) in [("", false), ("max_event_bytes = \"128KiB\"", true), ("max_event_bytes = \"1KiB\"", false)] {
        let stream = event_stream(&[usage.as_str(), "data: [DONE]\n\n"]);
        let (gateway, status, text) = ask(option, stream, r#"{"model":"m","stream":true}"#);
        assert_eq!((status, text), (200, format!("{usage}data: [DONE]\n\n")), "whole in any case");
        let tokens = gateway.metric("tollgate.tokens", &["input"]);
        assert_eq!(tokens, if read { 3.0 } else { 0.0 }, "{option}");
        assert_eq!(gateway.metric("tollgate.usage.missing", &[]), f64::from(u8::from(!read)), "{option}");
    }
}

#[test]
fn the_ends_of_an_answer_that_are_kept() {
    // Usage stands in the middle, 60 KB from either end.
    let pad = "x".repeat(60_000);
    let body = format!(r#"{{"a":"{pad}","usage":{{"prompt_tokens":3,"completion_tokens":4}},"b":"{pad}"}}"#);
    // In pieces, for what comes at once is read where it is.
    let pieces: String = body
        .as_bytes()
        .chunks(1_000)
        .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
        .collect();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}0\r\n\r\n"
    );
    for (option, read) in [("", false), ("max_usage_bytes = \"128KiB\"", true)] {
        let (gateway, status, text) = ask(option, answer.clone(), r#"{"model":"m"}"#);
        assert_eq!((status, text.as_str()), (200, body.as_str()));
        assert_eq!(gateway.metric("tollgate.tokens", &["input"]), if read { 3.0 } else { 0.0 }, "{option}");
    }
    let (_, status, _) = ask("", json("200 OK", "{}"), r#"{"model":"m"}"#);
    assert_eq!(status, 200);
}
