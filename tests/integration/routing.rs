//! Deployments that are left out for a while, the budget of further attempts, and streams that keep silent.

use std::time::{Duration, Instant};

use crate::support::{
    Gateway, Provider, Step, chat, eventually,
    gateway::KEYS,
    provider::{event_stream, json},
};

const CHAT: &str = r#"{"model":"m"}"#;
const STREAM: &str = r#"{"model":"m","stream":true}"#;
const OK: &str = r#"{"answer":"ok","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
const CONTENT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";

/// One model `m` over these providers in order, with these options of `[routing]` and of the model.
fn gateway(routing: &str, providers: &[&Provider], model: &str) -> Gateway {
    let mut toml = format!("[server]\nthreads = 1\n[routing]\n{routing}\n");
    let mut deployments = Vec::new();
    for (number, provider) in providers.iter().enumerate() {
        toml += &format!("[providers.p{number}]\nbase_url = \"http://{}/v1\"\n", provider.address);
        deployments.push(format!("{{ provider = \"p{number}\", model = \"up\" }}"));
    }
    Gateway::run(&format!("{toml}[models.m]\n{model}\ndeployments = [{}]\n{KEYS}", deployments.join(", ")))
}

/// Status, `error.code` and who answered, of one request.
fn ask(gateway: &Gateway) -> (u16, String, Option<String>) {
    let reply = chat(gateway.address, CHAT);
    let code = if reply.status == 200 { String::new() } else { reply.error().0 };
    (reply.status, code, reply.header("x-tollgate-deployment").map(str::to_owned))
}

fn refusal(status: &str) -> Vec<Step> {
    vec![Step::Send(json(status, r#"{"error":{"message":"no","code":"theirs"}}"#))]
}

/// Too many requests, with this header.
fn busy(header: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\n{header}\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    vec![Step::Send(head.into_bytes())]
}

fn ok() -> Vec<Step> {
    vec![Step::Send(json("200 OK", OK))]
}

#[test]
fn who_fails_is_left_out_until_one_request_has_found_it_well() {
    let mut scripts = vec![refusal("500 Internal Server Error"); 6];
    scripts.push(ok());
    let (first, second) = (Provider::script(scripts), Provider::answering(json("200 OK", OK)));
    let gateway = gateway("cooldown = \"200ms\"\ncooldown_max = \"400ms\"", &[&first, &second], "");
    let state = || gateway.metric("tollgate.deployment.state", &["p0"]);
    for _ in 0..5 {
        assert_eq!((state(), ask(&gateway).2.as_deref()), (0.0, Some("p1/up")));
    }
    assert_eq!(state(), 1.0);
    assert_eq!(gateway.metric("tollgate.cooldowns", &["p0", "errors"]), 1.0);
    assert_eq!(ask(&gateway).2.as_deref(), Some("p1/up"));
    assert_eq!((first.received().len(), second.received().len()), (5, 6));
    assert_eq!(gateway.metric("tollgate.retries", &[]), 5.0, "who is left out is no attempt");
    // One finds out that it is not well, one that it is; meanwhile all others go elsewhere.
    eventually("the first is asked again", || {
        assert_eq!(ask(&gateway).2.as_deref(), Some("p1/up"));
        first.received().len() == 6
    });
    assert_eq!(ask(&gateway).2.as_deref(), Some("p1/up"));
    assert_eq!((state(), first.received().len()), (1.0, 6));
    eventually("the first answers", || ask(&gateway).2.as_deref() == Some("p0/up"));
    assert_eq!((state(), first.received().len()), (0.0, 7));
    assert_eq!(ask(&gateway).2.as_deref(), Some("p0/up"));
    assert_eq!(gateway.metric("tollgate.cooldowns", &[]), 1.0, "it was never in use in between");
    assert_eq!(gateway.metric("tollgate.fallbacks", &[]), second.received().len() as f64);
}

#[test]
fn where_nobody_can_be_reached_the_client_is_told_at_once_when_to_come_again() {
    let mut scripts = vec![vec![Step::Reset]; 5];
    scripts.push(ok());
    let provider = Provider::script(scripts);
    let gateway = gateway("cooldown = \"1500ms\"", &[&provider], "");
    for _ in 0..5 {
        assert_eq!(ask(&gateway), (502, "provider_unreachable".into(), None));
    }
    let begun = Instant::now();
    let reply = chat(gateway.address, CHAT);
    assert!(begun.elapsed() < Duration::from_millis(500));
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "provider_unavailable"));
    assert_eq!((reply.header("retry-after"), reply.header("x-should-retry")), (Some("2"), Some("true")));
    assert_eq!(provider.received().len(), 5);
    assert_eq!(gateway.metric("tollgate.attempts", &[]), 5.0);
    assert_eq!(gateway.metric("tollgate.errors", &["provider_unavailable"]), 1.0);
    eventually("it is well", || ask(&gateway).0 == 200);
    assert_eq!(ask(&gateway).0, 200);
}

#[test]
fn where_nobody_else_is_left_errors_are_passed_on() {
    let provider = Provider::script([refusal("500 Internal Server Error")]);
    let gateway = gateway("", &[&provider], "");
    for number in 1..=8 {
        assert_eq!(ask(&gateway).1, "theirs");
        assert_eq!(provider.received().len(), number);
    }
    assert_eq!(gateway.metric("tollgate.cooldowns", &["errors"]), 1.0);
}

#[test]
fn who_asks_to_be_spared_is() {
    for (header, told) in [("Retry-After: 2", "2"), ("retry-after-ms: 1500", "2"), ("Retry-After: 100000", "300")] {
        let provider = Provider::script([busy(header), ok()]);
        let alone = gateway("", &[&provider], "");
        assert_eq!(chat(alone.address, CHAT).text(), "{}", "the provider's own answer");
        let reply = chat(alone.address, CHAT);
        assert_eq!((reply.status, reply.error().0.as_str()), (429, "provider_rate_limited"), "{header}");
        assert_eq!(reply.header("retry-after"), Some(told), "{header}");
        assert_eq!(provider.received().len(), 1, "{header}");
        if told == "2" {
            eventually("it is asked again", || ask(&alone).0 == 200);
        }
    }
    let (first, second) = (Provider::script([busy("Retry-After: 60"), ok()]), Provider::answering(json("200 OK", OK)));
    let both = gateway("", &[&first, &second], "");
    for _ in 0..3 {
        assert_eq!(ask(&both), (200, String::new(), Some("p1/up".into())));
    }
    assert_eq!(first.received().len(), 1);
    assert_eq!(both.metric("tollgate.cooldowns", &["p0", "rate_limited"]), 1.0);
}

#[test]
fn a_refused_provider_key_is_not_shown_again() {
    for (status, seen) in [("401 Unauthorized", 502), ("402 Payment Required", 402)] {
        let (first, second) = (Provider::script([refusal(status)]), Provider::answering(json("200 OK", OK)));
        let gateway = gateway("", &[&first, &second], "");
        assert_eq!(ask(&gateway).0, seen, "{status}");
        assert_eq!(ask(&gateway), (200, String::new(), Some("p1/up".into())), "{status}");
        assert_eq!(first.received().len(), 1, "{status}");
        assert_eq!(gateway.metric("tollgate.cooldowns", &["p0", "credentials"]), 1.0, "{status}");
    }
}

#[test]
fn further_attempts_end_with_their_budget() {
    let first = Provider::script([refusal("500 Internal Server Error")]);
    let second = Provider::answering(json("200 OK", OK));
    let options = "cooldown_failures = 0\nretry_percent = 0\nretries_per_second = 1";
    let gateway = gateway(options, &[&first, &second], "");
    let statuses: Vec<u16> = (0..14).map(|_| ask(&gateway).0).collect();
    let served = statuses.iter().filter(|status| **status == 200).count();
    // Ten are saved up, and there may be another one for each second that this takes.
    assert!((10..=13).contains(&served) && statuses[..10].iter().all(|status| *status == 200), "{statuses:?}");
    assert!(statuses.contains(&502), "{statuses:?}");
    assert_eq!(gateway.metric("tollgate.retries", &[]), served as f64);
    assert_eq!(gateway.metric("tollgate.retries.refused", &[]), (14 - served) as f64);
    assert_eq!(gateway.metric("tollgate.cooldowns", &[]), 0.0, "cooldown_failures = 0");
}

/// Options under which each deployment is tried up to three times for a request.
const REPEATS: &str = "attempts_per_deployment = 3\nretry_backoff = \"20ms\"\n";

#[test]
fn a_deployment_is_tried_again_where_that_is_asked_for() {
    let failed = || refusal("503 Service Unavailable");
    let silence = || vec![Step::Pause(Duration::from_secs(2))];
    let wait = "max_retry_wait = \"2s\"\n";
    // (name, options, what the provider does, status, attempts, least time)
    #[expect(clippy::type_complexity, reason = "a table")]
    let cases: Vec<(&str, String, Vec<Vec<Step>>, u16, u32, u64)> = vec![
        ("by default it is not", String::new(), vec![failed(), ok()], 503, 1, 0),
        ("a reset", REPEATS.into(), vec![vec![Step::Reset], ok()], 200, 2, 0),
        ("no answer", REPEATS.into(), vec![vec![Step::Close], vec![Step::Close], ok()], 200, 3, 0),
        ("errors", REPEATS.into(), vec![failed(), refusal("500 Internal Server Error"), ok()], 200, 3, 0),
        ("the last answer is the client's", REPEATS.into(), vec![failed(); 4], 503, 3, 0),
        ("so many in all", format!("{REPEATS}max_attempts = 2\n"), vec![failed(); 4], 503, 2, 0),
        ("it has asked for a pause", format!("{REPEATS}{wait}"), vec![busy("Retry-After: 1"), ok()], 200, 2, 1_000),
        ("a short one", format!("{REPEATS}{wait}"), vec![busy("retry-after-ms: 300"), ok()], 200, 2, 300),
        ("too long a one", format!("{REPEATS}{wait}"), vec![busy("Retry-After: 3"), ok()], 429, 1, 0),
        ("too many, it does not say for how long", REPEATS.into(), vec![busy("X-A: b"), ok()], 200, 2, 0),
        ("what it refuses it refuses", REPEATS.into(), vec![refusal("400 Bad Request"), ok()], 400, 1, 0),
        ("who is waited for in vain", REPEATS.into(), vec![silence(), ok()], 504, 1, 300),
        ("no budget", format!("{REPEATS}retry_percent = 0\nretries_per_second = 0\n"), vec![failed(), ok()], 503, 1, 0),
        ("left out by then", format!("{REPEATS}cooldown_failures = 1\n"), vec![vec![Step::Reset], ok()], 502, 1, 0),
    ];
    for (name, options, scripts, status, attempts, least) in cases {
        let provider = Provider::script(scripts);
        let gateway = Gateway::run(&format!(
            "[server]\nthreads = 1\n[routing]\n{options}[providers.p0]\nbase_url = \"http://{}/v1\"\nfirst_byte_timeout = \"300ms\"\n\
             [models.m]\ndeployments = [{{ provider = \"p0\", model = \"up\" }}]\n{KEYS}",
            provider.address
        ));
        let begun = Instant::now();
        let reply = chat(gateway.address, CHAT);
        let took = begun.elapsed();
        assert_eq!(reply.status, status, "{name}: {}", reply.text());
        assert!(took >= Duration::from_millis(least) && took < Duration::from_millis(least + 900), "{name}: {took:?}");
        assert_eq!(provider.received().len(), attempts as usize, "{name}");
        if matches!(status, 200 | 503) {
            assert_eq!(reply.header("x-tollgate-attempts"), Some(attempts.to_string().as_str()), "{name}");
        }
        if status == 503 {
            // The provider's own words, not ours.
            assert_eq!(reply.error().0, "theirs", "{name}");
        }
        eventually("it is counted", || gateway.metric("tollgate.requests", &[]) == 1.0);
        assert_eq!(gateway.metric("tollgate.attempts", &[]), f64::from(attempts), "{name}");
        assert_eq!(gateway.metric("tollgate.retries", &[]), f64::from(attempts - 1), "{name}");
        assert_eq!(gateway.metric("tollgate.retries.refused", &[]), f64::from(u8::from(name == "no budget")), "{name}");
        assert_eq!(gateway.metric("tollgate.fallbacks", &[]), 0.0, "{name}");
    }
}

#[test]
fn deployments_are_gone_through_in_order_once_more() {
    let first = Provider::script([refusal("503 Service Unavailable"), ok()]);
    let second = Provider::script([busy("Retry-After: 60")]);
    let both = gateway(REPEATS, &[&first, &second], "");
    // The second one wants to be spared for longer than the first need be.
    assert_eq!(ask(&both), (200, String::new(), Some("p0/up".into())));
    assert_eq!((first.received().len(), second.received().len()), (2, 1));
    assert_eq!((both.metric("tollgate.retries", &[]), both.metric("tollgate.fallbacks", &[])), (2.0, 0.0));
    // One that is not there is passed over, once it is left out; one that answers is not, if with errors.
    let third = Provider::script([vec![Step::Reset], vec![Step::Reset], ok()]);
    let fourth = Provider::script([refusal("500 Internal Server Error"), ok()]);
    let both = gateway(&format!("{REPEATS}cooldown_failures = 1\n"), &[&third, &fourth], "");
    assert_eq!(ask(&both), (200, String::new(), Some("p1/up".into())));
    assert_eq!((third.received().len(), fourth.received().len()), (1, 2));
}

#[test]
fn requests_that_wait_for_a_provider_all_reach_it() {
    // Both are there before the first is refused, and the first to come again has its answer last.
    let late = |millis, then: Vec<Step>| [vec![Step::Pause(Duration::from_millis(millis))], then].concat();
    let busy = || late(300, busy("retry-after-ms: 600"));
    let provider = Provider::script([busy(), busy(), late(400, ok()), ok()]);
    let alone = gateway(REPEATS, &[&provider], "");
    let address = alone.address;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..2).map(|_| scope.spawn(move || chat(address, CHAT).status)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200, 200]);
    assert_eq!(provider.received().len(), 4);
}

/// The head of a stream and this beginning.
fn beginning(text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        if text.is_empty() { String::new() } else { chunk(text) }
    )
    .into_bytes()
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn a_stream_without_content_in_time_is_anothers_while_there_is_one() {
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
    let late = Step::Send(format!("{}0\r\n\r\n", chunk("data: [DONE]\n\n")).into_bytes());
    let slow = Step::Pause(Duration::from_millis(900));
    for first in [
        vec![slow.clone()],
        vec![Step::Send(beginning("")), slow.clone()],
        vec![Step::Send(beginning(role)), slow.clone()],
    ] {
        let silent = Provider::script([first]);
        let second = Provider::answering(event_stream(&[CONTENT, "data: [DONE]\n\n"]));
        // The model's own limit wins.
        let gateway =
            gateway("first_content_timeout = \"1h\"", &[&silent, &second], "first_content_timeout = \"200ms\"");
        let reply = chat(gateway.address, STREAM);
        assert_eq!((reply.status, reply.header("x-tollgate-deployment")), (200, Some("p1/up")));
        assert_eq!(gateway.metric("gen_ai.client.operation.duration:count", &["p0", "provider_timeout"]), 1.0);
        // Who asks for no stream waits for the whole answer.
        let slow = Provider::script([vec![Step::Pause(Duration::from_millis(400)), ok().remove(0)]]);
        let gateway = self::gateway("first_content_timeout = \"200ms\"", &[&slow, &second], "");
        assert_eq!(chat(gateway.address, CHAT).header("x-tollgate-deployment"), Some("p0/up"));
    }
    let alone = Provider::script([vec![Step::Send(beginning(role)), slow, late]]);
    let gateway = gateway("first_content_timeout = \"200ms\"", &[&alone], "");
    assert_eq!(chat(gateway.address, STREAM).text(), format!("{role}data: [DONE]\n\n"));
}

#[test]
fn a_silent_stream_has_comments_for_the_keys_that_want_them() {
    let pause = Step::Pause(Duration::from_millis(450));
    let (half, rest) = CONTENT.split_at(20);
    let script = vec![
        Step::Send(beginning("")),
        pause.clone(),
        Step::Send(chunk(CONTENT).into_bytes()),
        pause.clone(),
        Step::Send(chunk(half).into_bytes()),
        pause,
        Step::Send(format!("{}{}0\r\n\r\n", chunk(rest), chunk("data: [DONE]\n\n")).into_bytes()),
    ];
    for wanted in [true, false] {
        let provider = Provider::script([script.clone()]);
        let option = if wanted { "comment_interval = \"200ms\"\n" } else { "" };
        let gateway = Gateway::run(&format!(
            "[providers.p]\nbase_url = \"http://{}/v1\"\ninclude_usage = false\n[models.m]\ndeployments = [{{ provider = \"p\" }}]\n{KEYS}{option}",
            provider.address
        ));
        let reply = chat(gateway.address, STREAM);
        let comments = if wanted { ": keep-alive\n\n".repeat(2) } else { String::new() };
        // Between events, never within one.
        assert_eq!(reply.text(), format!("{comments}{CONTENT}{comments}{CONTENT}data: [DONE]\n\n"));
        assert!(reply.complete);
        eventually("it is counted", || gateway.metric("tollgate.requests", &["completed"]) == 1.0);
        let sent = gateway.metric("http.server.response.body.size:sum", &[]);
        assert_eq!(sent, reply.text().len() as f64);
        assert_eq!(gateway.metric("gen_ai.client.operation.time_to_first_chunk:count", &[]), 1.0);
    }
}
