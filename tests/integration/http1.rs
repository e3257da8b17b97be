//! HTTP/1.1 as a client may speak it: pieces, pipelines, old versions, and heads that two readers
//! could read differently.

use std::{
    io::{Read as _, Write as _},
    thread,
    time::Duration,
};

use crate::support::{
    Gateway, Provider,
    client::{KEY, chat, connect, post_bytes, read_more, read_reply, send},
    eventually,
    provider::{event_stream, json},
};

#[test]
fn a_request_may_come_in_any_pieces() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::over(&[provider.address], "");
    let request = post_bytes("/v1/chat/completions", r#"{"model":"m"}"#);
    for size in [1, 2, 3, 7, 50] {
        let mut socket = connect(gateway.address);
        for piece in request.chunks(size) {
            socket.write_all(piece).unwrap();
            if size > 7 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(read_reply(&mut socket, false).status, 200, "{size}");
    }
    let chunked = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nx-api-key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;x=y\r\n{{\"mod\r\n8\r\nel\":\"m\"}}\r\n0\r\nTrailer: dropped\r\n\r\n"
    );
    for size in [1, chunked.len()] {
        let mut socket = connect(gateway.address);
        chunked.as_bytes().chunks(size).for_each(|piece| socket.write_all(piece).unwrap());
        assert_eq!(read_reply(&mut socket, false).status, 200, "{size}");
    }
    // The name that the deployment has for the model.
    for received in provider.received() {
        assert_eq!(String::from_utf8_lossy(&received.body), r#"{"model":"up"}"#);
    }
}

#[test]
fn a_large_body_arrives_as_it_was_sent() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::over(&[provider.address], "");
    let mut socket = connect(gateway.address);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nx-api-key: {KEY}\r\n");
    let missing = b"GET /nothing HTTP/1.1\r\nHost: t\r\n\r\n";
    let mut expected = Vec::new();
    // Around the room that a body begins with, and by how much that grows.
    for length in [70_000, 262_144, 262_145, 1_048_576, 3_000_001] {
        let prompt: String = (0..length / 8).map(|number| format!("{number:8}")).collect();
        let body = |model: &str| format!(r#"{{"model":"{model}","prompt":"{prompt}"}}"#);
        for chunked in [false, true] {
            let body_sent = body("m");
            let request = if chunked {
                let chunks = body_sent
                    .as_bytes()
                    .chunks(50_000)
                    .map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
                let chunks: Vec<u8> = chunks.flatten().collect();
                [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunks, b"0\r\n\r\n"].concat()
            } else {
                format!("{head}Content-Length: {}\r\n\r\n{body_sent}", body_sent.len()).into_bytes()
            };
            // What is behind the body is the next request.
            socket.write_all(&[&request, missing.as_slice()].concat()).unwrap();
            let mut read = Vec::new();
            eventually("two answers", || {
                read_more(&mut socket, &mut read);
                let text = String::from_utf8_lossy(&read);
                text.contains("HTTP/1.1 200 ") && text.contains("HTTP/1.1 404 ") && text.ends_with("}}")
            });
            expected.push(body("up"));
        }
    }
    let received: Vec<Vec<u8>> = provider.received().into_iter().map(|request| request.body.to_vec()).collect();
    assert!(received.iter().map(Vec::as_slice).eq(expected.iter().map(String::as_bytes)), "a body has changed");
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::over(&[provider.address], "");
    let mut socket = connect(gateway.address);
    let chat = post_bytes("/v1/chat/completions", r#"{"model":"m"}"#);
    let missing = b"GET /nothing HTTP/1.1\r\nHost: t\r\n\r\n".to_vec();
    // An empty line before a request is skipped (RFC 9112 §2.2).
    let all = [chat.as_slice(), &missing, b"\r\n", &chat].concat();
    socket.write_all(&all).unwrap();
    let mut read = Vec::new();
    eventually("three answers", || {
        read_more(&mut socket, &mut read);
        String::from_utf8_lossy(&read).matches("HTTP/1.1 ").count() == 3
    });
    let text = String::from_utf8(read).unwrap();
    let statuses: Vec<&str> = text.match_indices("HTTP/1.1 ").map(|(at, _)| &text[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "404", "200"]);
}

#[test]
fn http_1_0_gets_what_it_can_read() {
    let provider = Provider::answering(event_stream(&["data: {\"id\":1}\n\n", "data: [DONE]\n\n"]));
    let gateway = Gateway::over(&[provider.address], "");
    let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    let length = body.len();
    let request =
        format!("POST /v1/chat/completions HTTP/1.0\r\nx-api-key: {KEY}\r\nContent-Length: {length}\r\n\r\n{body}");
    let reply = send(gateway.address, request.as_bytes());
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert_eq!(reply.header("transfer-encoding"), None);
    assert_eq!(reply.text(), "data: {\"id\":1}\n\ndata: [DONE]\n\n");

    let mut socket = connect(gateway.address);
    for expected in [Some("keep-alive"), Some("close")] {
        let line = if expected == Some("close") { "" } else { "Connection: keep-alive\r\n" };
        socket.write_all(format!("GET /healthz HTTP/1.0\r\n{line}\r\n").as_bytes()).unwrap();
        let reply = read_reply(&mut socket, false);
        assert_eq!((reply.status, reply.header("connection")), (200, expected));
    }
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn head_has_the_length_and_no_body() {
    let gateway = Gateway::over(&[Provider::absent()], "");
    let mut socket = connect(gateway.address);
    for _ in 0..2 {
        socket.write_all(b"HEAD /healthz HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        let reply = read_reply(&mut socket, true);
        assert_eq!((reply.status, reply.header("content-length")), (200, Some("3")));
    }
}

#[test]
fn heads_that_two_readers_could_read_differently_are_refused() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::over(&[provider.address], "");
    let post = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nx-api-key: {KEY}\r\n");
    let inner = "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 13\r\n\r\n{\"model\":\"m\"}";
    let rows = [
        (
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            400,
            "the request head is ambiguous: it has both Transfer-Encoding and Content-Length",
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            400,
            "the only Transfer-Encoding accepted is `chunked`, once",
        ),
        ("Transfer-Encoding: identity", 400, "the only Transfer-Encoding accepted is `chunked`, once"),
        ("Content-Length: 1\r\nContent-Length: 2", 400, "there are two different Content-Length"),
        ("Content-Length: 1, 1", 400, "Content-Length is no number"),
        ("Content-Length: +1", 400, "Content-Length is no number"),
        ("Content-Length: 0x1", 400, "Content-Length is no number"),
        ("Content-Length:", 400, "Content-Length is no number"),
        ("Content-Length: 18446744073709551616", 400, "Content-Length is no number"),
        ("A: b\nContent-Length: 0", 400, "a line of the request head ends without a carriage return"),
        ("A: b\r\n folded", 400, "the request is not HTTP/1.1: invalid header name"),
        ("A : b", 400, "the request is not HTTP/1.1: invalid header name"),
        ("A: \0", 400, "the request is not HTTP/1.1: invalid header value"),
    ];
    for (lines, status, message) in rows {
        let mut socket = connect(gateway.address);
        // What a laxer reader would take for a second request is never answered.
        let _refused = socket.write_all(format!("{post}{lines}\r\n\r\n0\r\n\r\n{inner}").as_bytes()).is_err();
        let reply = read_reply(&mut socket, false);
        assert_eq!(
            (reply.status, reply.error()),
            (status, ("invalid_request_head".into(), message.into())),
            "{lines:?}"
        );
        assert_eq!(reply.header("connection"), Some("close"), "{lines:?}");
        assert!(!read_more(&mut socket, &mut Vec::new()), "{lines:?}");
    }
    let large = format!("{post}A: {}\r\n\r\n", "b".repeat(33 * 1024));
    let many = format!("{post}{}\r\n", "A: b\r\n".repeat(101));
    for (request, message) in [
        (large, "the request head is over 32768 bytes (`server.max_head_bytes`)"),
        (many, "the request has over 100 header lines (`server.max_headers`)"),
    ] {
        let reply = send(gateway.address, request.as_bytes());
        assert_eq!((reply.status, reply.error()), (431, ("request_head_too_large".into(), message.into())));
    }
    assert!(provider.received().is_empty());
    let refused = ["error.type=client_invalid_head"];
    eventually("each is counted", || gateway.metric("tollgate.errors", &refused) == rows.len() as f64);
    let refused = ["error.type=client_head_too_large"];
    eventually("each is counted", || gateway.metric("tollgate.errors", &refused) == 2.0);
    assert_eq!(chat(gateway.address, r#"{"model":"m"}"#).status, 200);
}
