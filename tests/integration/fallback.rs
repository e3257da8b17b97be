//! Deployments in order: what makes the gateway try the next one, and what does not.

use std::time::Duration;

use crate::support::{
    Gateway, Provider, Step, chat, eventually,
    gateway::KEYS,
    provider::{event_stream, json},
};

const OK: &str = r#"{"answer":"second","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
const CHAT: &str = r#"{"model":"m"}"#;

/// What the first provider does, and what a client with a second, healthy one gets.
#[test]
fn the_next_deployment_is_tried_exactly_when_it_should_be() {
    let refuse = |status: &str| vec![Step::Send(json(status, r#"{"error":{"message":"first"}}"#))];
    // (name, first provider, status for the client, who answered, error.type of the first attempt)
    let cases: Vec<(&str, Vec<Step>, u16, &str, &str)> = vec![
        ("429", refuse("429 Too Many Requests"), 200, "second", "provider_rate_limited"),
        ("500", refuse("500 Internal Server Error"), 200, "second", "provider_server_error"),
        ("502", refuse("502 Bad Gateway"), 200, "second", "provider_server_error"),
        ("503", refuse("503 Service Unavailable"), 200, "second", "provider_server_error"),
        ("529", refuse("529 Overloaded"), 200, "second", "provider_server_error"),
        ("closes before answering", vec![Step::Close], 200, "second", "provider_unreachable"),
        ("resets before answering", vec![Step::Reset], 200, "second", "provider_unreachable"),
        ("half a head", vec![Step::Send(b"HTTP/1.1 200".to_vec()), Step::Close], 200, "second", "provider_unreachable"),
        (
            "no HTTP",
            vec![Step::Send(b"SSH-2.0-x\r\n\r\n".to_vec()), Step::Close],
            200,
            "second",
            "provider_invalid_response",
        ),
        ("silence", vec![Step::Pause(Duration::from_secs(3))], 200, "second", "provider_timeout"),
        (
            "redirect",
            vec![Step::Send(
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            )],
            200,
            "second",
            "provider_invalid_response",
        ),
        ("400", refuse("400 Bad Request"), 400, "first", "provider_rejected"),
        ("403", refuse("403 Forbidden"), 403, "first", "provider_rejected"),
        ("404", refuse("404 Not Found"), 404, "first", "provider_rejected"),
        ("422", refuse("422 Unprocessable Entity"), 422, "first", "provider_rejected"),
        ("401", refuse("401 Unauthorized"), 502, "operator has to check providers.p0.api_key", "provider_credentials"),
    ];
    for (name, script, status, answered, error_type) in cases {
        let first = Provider::script([script]);
        let second = Provider::answering(json("200 OK", OK));
        let gateway = Gateway::over(&[first.address, second.address], "first_byte_timeout = \"300ms\"");
        let reply = chat(gateway.address, CHAT);
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert!(reply.text().contains(answered), "{name}: {}", reply.text());
        let fell_back = answered == "second";
        assert_eq!(second.received().len(), usize::from(fell_back), "{name}");
        if fell_back {
            assert_eq!(reply.header("x-tollgate-deployment"), Some("p1/up"), "{name}");
            assert_eq!(reply.header("x-tollgate-attempts"), Some("2"), "{name}");
            // The same bytes, with the second deployment's own credentials.
            assert_eq!(second.received()[0].header("authorization"), Some("Bearer sk-upstream-1"), "{name}");
        }
        eventually("the request ends", || gateway.metric("http.server.active_requests", &[]) == 0.0);
        let error = format!("error.type={error_type}");
        let failed = ["gen_ai.provider.name=p0", error.as_str()];
        assert_eq!(gateway.metric("gen_ai.client.operation.duration:count", &failed), 1.0, "{name}");
        assert_eq!(gateway.metric("tollgate.attempts", &["p0", "failed"]), 1.0, "{name}");
        let counted = f64::from(u8::from(fell_back));
        assert_eq!(gateway.metric("tollgate.fallbacks", &[]), counted, "{name}");
        assert_eq!(gateway.metric("tollgate.retries", &[]), counted, "{name}");
        assert_eq!(gateway.metric("tollgate.requests", &["completed"]), counted, "{name}");
        assert_eq!(gateway.metric("tollgate.requests", &[]), 1.0, "{name}");
    }
}

#[test]
fn a_provider_that_is_not_there() {
    let second = Provider::answering(json("200 OK", OK));
    let gateway = Gateway::over(&[Provider::absent(), second.address], "");
    assert_eq!(chat(gateway.address, CHAT).header("x-tollgate-deployment"), Some("p1/up"));

    let gateway = Gateway::over(&[Provider::absent()], "");
    let reply = chat(gateway.address, CHAT);
    assert_eq!((reply.status, reply.error().0.as_str()), (502, "provider_unreachable"));
    assert_eq!(reply.header("x-should-retry"), Some("true"));
}

#[test]
fn the_last_answer_is_the_clients_whatever_it_is() {
    let limited = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}";
    let first = Provider::answering(json("503 Service Unavailable", "{}"));
    let last = Provider::answering(limited);
    let gateway = Gateway::over(&[first.address, last.address], "");
    let reply = chat(gateway.address, CHAT);
    assert_eq!((reply.status, reply.text().as_str()), (429, "{}"));
    assert_eq!(reply.header("retry-after"), Some("7"));
    eventually("it is counted", || gateway.metric("tollgate.requests", &["failed"]) == 1.0);
    assert_eq!(gateway.metric("tollgate.errors", &["provider_rate_limited"]), 1.0);
    let front = ["http.response.status_code=429"];
    assert_eq!(gateway.metric("http.server.request.duration:count", &front), 1.0);
}

#[test]
fn nothing_is_tried_again_once_an_answer_has_begun() {
    let broken = vec![Step::Send(beginning(r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#)), Step::Close];
    let first = Provider::script([broken]);
    let second = Provider::answering(event_stream(&["data: [DONE]\n\n"]));
    let gateway = Gateway::over(&[first.address, second.address], "");
    let reply = chat(gateway.address, r#"{"model":"m","stream":true}"#);
    assert!(!reply.complete);
    assert!(second.received().is_empty());
}

/// The head of a stream and one event.
fn beginning(data: &str) -> Vec<u8> {
    let event = format!("data: {data}\n\n");
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n",
        event.len()
    )
    .into_bytes()
}

#[test]
fn a_stream_that_fails_before_it_says_anything_is_anothers() {
    let role = r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#;
    let error = r#"{"error":{"message":"overloaded"}}"#;
    for (name, event) in [("an error", error), ("a role, and a break", role)] {
        let first = Provider::script([vec![Step::Send(beginning(event)), Step::Close]]);
        let second = Provider::answering(event_stream(&["data: [DONE]\n\n"]));
        let gateway = Gateway::over(&[first.address, second.address], "");
        let reply = chat(gateway.address, r#"{"model":"m","stream":true}"#);
        assert_eq!((reply.status, reply.text().as_str(), reply.complete), (200, "data: [DONE]\n\n", true), "{name}");
        assert_eq!(reply.header("x-tollgate-attempts"), Some("2"), "{name}");
        assert_eq!(gateway.metric("tollgate.attempts", &["p0", "failed"]), 1.0, "{name}");
        // Where nobody else can take over, the client sees what there is.
        let alone = Provider::script([vec![Step::Send(beginning(event)), Step::Close]]);
        let gateway = Gateway::over(&[alone.address], "");
        let reply = chat(gateway.address, r#"{"model":"m","stream":true}"#);
        assert!(reply.text().contains(event) && !reply.complete, "{name}: {}", reply.text());
    }
}

#[test]
fn work_that_may_have_been_done_is_not_paid_for_twice() {
    let answered = vec![Step::Send(json("200 OK", OK))];
    let close = |pause| vec![Step::Pause(Duration::from_millis(pause)), Step::Close];
    // (pause before a reused connection closes without an answer, requests that the provider sees)
    for (pause, seen) in [(0, 3), (1_200, 2)] {
        let provider = Provider::script([answered.clone(), close(pause), answered.clone()]);
        let gateway = Gateway::run(&format!(
            "[server]\nthreads = 1\n[providers.p]\nbase_url = \"http://{}/v1\"\n[models.m]\ndeployments = [{{ provider = \"p\" }}]\n{KEYS}",
            provider.address
        ));
        assert_eq!(chat(gateway.address, CHAT).status, 200);
        let reply = chat(gateway.address, CHAT);
        assert_eq!(reply.status, if seen == 3 { 200 } else { 502 }, "after {pause} ms");
        assert_eq!(provider.received().len(), seen, "after {pause} ms");
    }
}

#[test]
fn only_so_many_deployments_are_tried() {
    for (option, tried) in [("", 3_u8), ("max_attempts = 1\n", 1), ("max_attempts = 4\n", 4), ("max_attempts = 9\n", 5)]
    {
        let refusal = json("503 Service Unavailable", r#"{"error":{"message":"busy"}}"#);
        let providers: Vec<Provider> = (0..5).map(|_| Provider::answering(refusal.clone())).collect();
        let named = |number: usize| format!("{{ provider = \"p{number}\", model = \"up\" }}");
        let deployments: Vec<String> = (0..5).map(named).collect();
        let mut toml = format!("[routing]\n{option}");
        for (number, provider) in providers.iter().enumerate() {
            toml += &format!("[providers.p{number}]\nbase_url = \"http://{}/v1\"\n", provider.address);
        }
        toml += &format!("[models.m]\ndeployments = [{}]\n{KEYS}", deployments.join(", "));
        let gateway = Gateway::run(&toml);
        let reply = chat(gateway.address, CHAT);
        // The last one's answer is the client's.
        assert_eq!((reply.status, reply.header("x-tollgate-attempts")), (503, Some(tried.to_string().as_str())));
        let asked: Vec<usize> = providers.iter().map(|provider| provider.received().len()).collect();
        let expected: Vec<usize> = (0..5).map(|number| usize::from(number < usize::from(tried))).collect();
        assert_eq!(asked, expected, "{option}");
        assert_eq!(gateway.metric("tollgate.attempts", &["failed"]), f64::from(tried));
    }
}
