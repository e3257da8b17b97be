//! Clients that leave: the provider is told within a second, and it is counted as what it is.

use std::{
    io::Write,
    net::Shutdown,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, Provider, Step, client, eventually,
    provider::{LAST_CHUNK, chunk, event_head},
};

const STREAM: &str = r#"{"model":"m","stream":true}"#;
const PLAIN: &str = r#"{"model":"m"}"#;
const DATA: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";

#[test]
fn leaving_cancels_the_provider_within_a_second() {
    let waits = vec![Step::AwaitClose];
    let head_only = vec![Step::Send(event_head()), Step::AwaitClose];
    let one_event = vec![Step::Send(event_head()), Step::Send(chunk(DATA)), Step::AwaitClose];
    let half_json = vec![
        Step::Send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"a\":".to_vec()),
        Step::AwaitClose,
    ];
    let cases = [
        ("streaming, before the head", STREAM, waits.clone(), "before_response"),
        ("not streaming, before the head", PLAIN, waits, "before_response"),
        ("streaming, before the first event", STREAM, head_only, "response_body"),
        ("streaming, after an event", STREAM, one_event, "response_body"),
        ("not streaming, within the body", PLAIN, half_json, "response_body"),
    ];
    for (name, body, script, phase) in cases {
        let provider = Provider::script([script]);
        let gateway = Gateway::over(&[provider.address], "");
        let mut socket = client::connect(gateway.address);
        socket.write_all(&client::post_bytes("/v1/chat/completions", body)).unwrap();
        eventually("the provider has the request", || provider.received().len() == 1);
        if phase == "response_body" {
            let mut read = Vec::new();
            client::read_more(&mut socket, &mut read);
        }
        let left = Instant::now();
        drop(socket);
        eventually("the provider's connection is closed", || provider.closed().len() == 1);
        let took = provider.closed()[0].saturating_duration_since(left);
        assert!(took < Duration::from_secs(1), "{name}: took {took:?}");
        let phase = format!("tollgate.phase={phase}");
        eventually("it is counted", || gateway.metric("tollgate.client.cancelled", &[&phase]) == 1.0);
        assert_eq!(gateway.metric("tollgate.requests", &["cancelled"]), 1.0, "{name}");
        assert_eq!(gateway.metric("tollgate.requests", &[]), 1.0, "{name}");
        assert_eq!(gateway.metric("tollgate.attempts", &["cancelled"]), 1.0, "{name}");
        assert_eq!(gateway.metric("http.client.active_requests", &[]), 0.0, "{name}");
        assert_eq!(gateway.metric("http.server.active_requests", &[]), 0.0, "{name}");
    }
}

#[test]
fn leaving_after_the_terminal_event_is_completed() {
    // The provider keeps its connection open after [DONE], as some do for a moment.
    let script = vec![
        Step::Send(event_head()),
        Step::Send(chunk("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n")),
        Step::Send(chunk("data: [DONE]\n\n")),
        Step::AwaitClose,
    ];
    let provider = Provider::script([script]);
    let gateway = Gateway::over(&[provider.address], "");
    let mut socket = client::connect(gateway.address);
    socket.write_all(&client::post_bytes("/v1/chat/completions", STREAM)).unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("[DONE]") {
        assert!(client::read_more(&mut socket, &mut read));
    }
    drop(socket);
    eventually("it is completed", || gateway.metric("tollgate.requests", &["completed"]) == 1.0);
    assert_eq!(gateway.metric("tollgate.requests", &[]), 1.0);
    assert_eq!(gateway.metric("tollgate.tokens", &["output"]), 2.0);
    assert_eq!(gateway.metric("tollgate.client.cancelled", &[]), 0.0);
}

#[test]
fn leaving_while_sending_the_body_reaches_no_provider() {
    let provider = Provider::answering(LAST_CHUNK);
    let gateway = Gateway::over(&[provider.address], "");
    let mut socket = client::connect(gateway.address);
    let request = client::post_bytes("/v1/chat/completions", PLAIN);
    socket.write_all(&request[..request.len() - 4]).unwrap();
    eventually("the gateway has the request", || gateway.metric("http.server.active_requests", &[]) == 1.0);
    socket.shutdown(Shutdown::Both).unwrap();
    eventually("the request is over", || gateway.metric("http.server.active_requests", &[]) == 0.0);
    assert_eq!(gateway.metric("tollgate.requests", &["completed"]), 0.0);
    assert_eq!(gateway.metric("tollgate.requests", &[]), 1.0);
    assert!(provider.received().is_empty());
}
