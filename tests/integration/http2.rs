//! HTTP/2 as a client may speak it, and as none should: raw frames against the limits.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, Provider, Step,
    client::{connect, read_reply, send},
    eventually,
    frames::*,
    gateway::KEYS,
    provider::{chunk, event_head, event_stream, json},
};

const CHAT: &str = r#"{"model":"m","messages":[]}"#;
/// What an answer to abuse may take, with room for a busy machine.
const SOON: Duration = Duration::from_secs(3);

fn gateway(provider: &Provider, server: &str, http2: &str) -> Gateway {
    Gateway::run(&format!(
        "[server]\nthreads = 1\nh2c = true\n{server}\n[server.http2]\n{http2}\n\
         [providers.p]\nbase_url = \"http://{}/v1\"\napi_key = \"sk-upstream-0\"\n\
         [models.m]\ndeployments = [{{ provider = \"p\", model = \"up\" }}]\n{KEYS}",
        provider.address
    ))
}

fn silent() -> Provider {
    Provider::script([vec![Step::AwaitClose]])
}

/// The status and body of one stream.
fn answer(client: &mut Client, stream: u32) -> (u16, String) {
    let (mut status, mut body) = (0, Vec::new());
    while let Some(frame) = client.frame() {
        match frame.kind {
            HEADERS if frame.stream == stream => status = frame.status(),
            DATA if frame.stream == stream => body.extend(frame.payload),
            RST_STREAM if frame.stream == stream => panic!("reset with {}", frame.code()),
            GOAWAY => panic!("gone with {}", frame.code()),
            _ => continue,
        }
        if frame.flags & END_STREAM != 0 {
            break;
        }
    }
    (status, String::from_utf8(body).unwrap())
}

/// How a connection ends: the code of its GOAWAY, if it came, within the time.
fn farewell(client: &mut Client) -> Option<u32> {
    let (frames, took) = client.rest();
    assert!(took < SOON, "{took:?}");
    frames.iter().rev().find(|frame| frame.kind == GOAWAY).map(Frame::code)
}

#[test]
fn streams_are_requests_like_any_other() {
    let provider = Provider::script([
        vec![Step::Send(json("200 OK", "{\"x\":1}"))],
        vec![Step::Send(event_stream(&["data: {\"a\":1}\n\n", "data: [DONE]\n\n"]))],
    ]);
    let gateway = gateway(&provider, "", "");
    let mut client = Client::connect(gateway.address, &[]);
    client.chat(1, CHAT);
    assert_eq!(answer(&mut client, 1), (200, "{\"x\":1}".into()));
    client.chat(3, r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
    assert_eq!(answer(&mut client, 3), (200, "data: {\"a\":1}\n\ndata: [DONE]\n\n".into()));
    assert_eq!(provider.received()[0].body, CHAT.replace("\"m\"", "\"up\"").as_bytes());
    client.write(&frame(HEADERS, END_HEADERS | END_STREAM, 5, &get_block("/healthz")));
    assert_eq!(answer(&mut client, 5).0, 200);
    assert_eq!(gateway.metric("http.server.request.duration:count", &[]), 3.0);
    // And HTTP/1.1 is served on the same port, also when it comes in pieces that begin like the preface.
    assert_eq!(send(gateway.address, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").status, 200);
    let mut socket = connect(gateway.address);
    for piece in ["P", "OST /healthz HTTP/1.1\r\nHost: t\r\n", "Content-Length: 0\r\n\r\n"] {
        socket.write_all(piece.as_bytes()).unwrap();
    }
    assert_eq!(read_reply(&mut socket, false).status, 405);
}

#[test]
fn what_cannot_be_met_is_refused_in_both_versions() {
    let gateway = gateway(&silent(), "", "");
    let mut client = Client::connect(gateway.address, &[]);
    for (stream, what, status) in [(1, "tea", 417), (3, "100-continue, tea", 417), (5, "100-Continue", 200)] {
        let head = [get_block("/healthz"), block(&[("expect", what)])].concat();
        client.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        let (seen, body) = answer(&mut client, stream);
        assert_eq!(seen, status, "{what}: {body}");
        assert_eq!(body.contains("\"expectation_failed\""), status == 417, "{what}: {body}");
        let old = format!("GET /healthz HTTP/1.1\r\nHost: t\r\nExpect: {what}\r\n\r\n");
        assert_eq!(send(gateway.address, old.as_bytes()).status, status, "{what}");
    }
}

#[test]
fn a_preface_has_the_time_of_a_first_byte() {
    let gateway = gateway(&silent(), "first_byte_timeout = \"300ms\"\nhead_timeout = \"20s\"", "");
    for (before, bytes) in [(0.0, "PRI * HTTP/2.0\r\n\r\nSM"), (1.0, "")] {
        let since = Instant::now();
        let mut socket = connect(gateway.address);
        socket.write_all(bytes.as_bytes()).unwrap();
        let _reset = socket.read_to_end(&mut Vec::new()).is_err();
        let took = since.elapsed();
        assert!(took >= Duration::from_millis(300) && took < SOON, "{took:?}");
        let counted = || gateway.metric("tollgate.connections.timeouts", &["tollgate.reason=first_byte"]);
        eventually("it is counted", || counted() == before + 1.0);
    }
}

#[test]
fn without_h2c_a_preface_is_a_wrong_request() {
    let gateway = Gateway::over(&[Provider::absent()], "");
    let reply = send(gateway.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert!(matches!(reply.status, 400 | 405), "{}", reply.status);
}

#[test]
fn a_broken_answer_is_told_and_then_reset() {
    let provider = Provider::script([vec![
        Step::Send([event_head(), chunk("data: {\"a\":1}\n\n")].concat()),
        Step::Pause(Duration::from_millis(20)),
        Step::Reset,
    ]]);
    let gateway = gateway(&provider, "", "");
    let mut client = Client::connect(gateway.address, &[]);
    client.chat(1, r#"{"model":"m","stream":true}"#);
    let mut body = Vec::new();
    let reset = loop {
        let frame = client.frame().unwrap();
        match frame.kind {
            DATA => {
                assert_eq!(frame.flags & END_STREAM, 0);
                body.extend(frame.payload);
            }
            RST_STREAM => break frame,
            _ => {}
        }
    };
    assert_eq!(reset.code(), 2);
    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("data: {\"a\":1}\n\n") && body.contains("error") && !body.contains("[DONE]"), "{body}");
}

#[test]
fn streams_that_the_gateway_is_made_to_reset_count_as_well() {
    let provider = silent();
    let gateway = gateway(&provider, "", "");
    let mut client = Client::connect(gateway.address, &[]);
    for stream in (1..2_001).step_by(2) {
        client.chat(stream, CHAT);
        // Past the largest window: an error of the stream, which the gateway has to answer with a reset.
        client.write(&frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()));
    }
    assert!(matches!(farewell(&mut client), None | Some(ENHANCE_YOUR_CALM)));
    assert!(provider.received().len() <= 64, "{}", provider.received().len());
}

#[test]
fn a_window_past_its_end_is_an_error() {
    let gateway = gateway(&silent(), "", "");
    let mut client = Client::connect(gateway.address, &[]);
    client.write(&frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()));
    assert_eq!(farewell(&mut client), Some(3));
}

#[test]
fn a_drain_lets_streams_finish_and_tells_the_client() {
    let provider = Provider::script([vec![
        Step::Send([event_head(), chunk("data: {\"a\":1}\n\n")].concat()),
        Step::Pause(Duration::from_millis(300)),
        Step::Send([chunk("data: [DONE]\n\n"), b"0\r\n\r\n".to_vec()].concat()),
    ]]);
    let gateway = gateway(&provider, "", "");
    let mut client = Client::connect(gateway.address, &[]);
    client.chat(1, r#"{"model":"m","stream":true}"#);
    client.next(DATA).unwrap();
    let draining = std::thread::spawn(move || gateway.drain());
    let (frames, _) = client.rest();
    assert!(draining.join().unwrap());
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY && frame.code() == 0));
    let ended = frames.iter().find(|frame| frame.kind == DATA && frame.flags & END_STREAM != 0).is_some();
    let body: Vec<u8> =
        frames.iter().filter(|frame| frame.kind == DATA).flat_map(|frame| frame.payload.clone()).collect();
    assert!(ended && body.ends_with(b"data: [DONE]\n\n"), "{frames:?}");
}

#[test]
fn requests_of_one_connection_are_limited() {
    let gateway = gateway(&silent(), "max_connection_requests = 2", "");
    let mut client = Client::connect(gateway.address, &[]);
    for stream in [1, 3] {
        client.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get_block("/healthz")));
        assert_eq!(client.next(HEADERS).unwrap().status(), 200);
    }
    assert_eq!(farewell(&mut client), Some(0));
}

#[test]
fn rapid_resets_end_the_connection_before_much_has_been_asked_of_the_provider() {
    let provider = silent();
    let gateway = gateway(&provider, "", "");
    for together in [true, false] {
        let before = provider.received().len();
        let mut client = Client::connect(gateway.address, &[]);
        let since = Instant::now();
        let mut bytes = Vec::new();
        for stream in (1..20_001).step_by(2) {
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &chat_block()));
            bytes.extend(frame(DATA, END_STREAM, stream, CHAT.as_bytes()));
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            if together {
                bytes.extend(reset);
            } else {
                // One at a time, so that each has a chance to be started.
                client.write(&bytes);
                bytes.clear();
                if stream < 201 {
                    std::thread::sleep(Duration::from_millis(2));
                }
                client.write(&reset);
            }
        }
        client.write(&bytes);
        client.rest();
        assert!(since.elapsed() < SOON + Duration::from_secs(1), "{:?}", since.elapsed());
        assert!(provider.received().len() - before <= 64, "{}", provider.received().len() - before);
    }
    eventually("nothing is under way", || gateway.metric("http.server.active_requests", &[]) == 0.0);
    assert_eq!(send(gateway.address, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").status, 200);
}

#[test]
fn how_many_resets_are_too_many_can_be_said() {
    let provider = silent();
    for (option, resets, is_closed) in [("max_resets = 5", 4, false), ("max_resets = 5", 5, true), ("", 5, false)] {
        let gateway = gateway(&provider, "", option);
        let mut client = Client::connect(gateway.address, &[]);
        for number in 0..resets {
            let stream = 2 * number + 1;
            client.write(&frame(HEADERS, END_HEADERS, stream, &chat_block()));
            client.write(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        if is_closed {
            assert_eq!(farewell(&mut client), Some(ENHANCE_YOUR_CALM), "{option} {resets}");
            continue;
        }
        // What is noticed late would end it while its last request is answered.
        eventually("nothing is under way", || gateway.metric("http.server.active_requests", &[]) == 0.0);
        let stream = 2 * resets + 1;
        client.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &get_block("/healthz")));
        assert_eq!(answer(&mut client, stream).0, 200, "{option} {resets}");
    }
}

#[test]
fn requests_that_were_taken_back_leave_fewer_that_may_be_under_way() {
    let provider = silent();
    let gateway = gateway(&provider, "", "");
    let mut client = Client::connect(gateway.address, &[]);
    for number in 0..49 {
        let stream = 2 * number + 1;
        client.chat(stream, CHAT);
        eventually("it is asked of the provider", || provider.received().len() == number as usize + 1);
        client.write(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    for number in 49..113 {
        client.chat(2 * number + 1, CHAT);
    }
    eventually("there are as many as may be", || provider.received().len() == 64);
    // The answer says that all before it has been looked at.
    client.write(&frame(PING, 0, 0, b"12345678"));
    client.next(PING).unwrap();
    assert_eq!(provider.received().len(), 64);
    // One more that is taken back is one too many.
    client.write(&frame(RST_STREAM, 0, 2 * 49 + 1, &8_u32.to_be_bytes()));
    assert_eq!(farewell(&mut client), Some(ENHANCE_YOUR_CALM));
    assert_eq!(provider.received().len(), 64);
    eventually("nothing is under way", || gateway.metric("http.server.active_requests", &[]) == 0.0);
}
