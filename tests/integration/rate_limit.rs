//! The head of an answer → what is left of the provider's rate limit.

use crate::support::{Gateway, Provider, Step, chat, eventually, provider::event_stream};

const CHAT: &str = r#"{"model":"m"}"#;
const BODY: &str = r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;

fn answer(status: &str, headers: &str) -> Vec<u8> {
    let length = BODY.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {length}\r\n\r\n{BODY}")
        .into_bytes()
}

/// Every series of what is left, without the attributes but the provider.
fn left(gateway: &Gateway) -> Vec<String> {
    let left = gateway.metrics().into_iter().filter(|(series, _)| series.starts_with("tollgate.upstream.rate_limit."));
    left.map(|(series, value)| {
        let name = series.split('{').next().unwrap().rsplit('_').next().unwrap();
        let provider = series.split("provider.name=").nth(1).unwrap().split(',').next().unwrap();
        format!("{provider} {name} {value}")
    })
    .collect()
}

#[test]
fn what_is_left_is_what_the_head_says() {
    // (headers, series)
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("x-ratelimit-limit-requests: 100\r\nx-ratelimit-reset-requests: 1s\r\nx-ratelimit-remaining: 7\r\n", &[]),
        (
            "x-ratelimit-remaining-requests: 59\r\nx-ratelimit-remaining-tokens: 149984\r\n",
            &["p0 requests 59", "p0 tokens 149984"],
        ),
        ("X-RateLimit-Remaining-Tokens:  0 \r\n", &["p0 tokens 0"]),
        (
            "anthropic-ratelimit-requests-remaining: 49\r\nanthropic-ratelimit-tokens-remaining: 80000\r\n",
            &["p0 requests 49", "p0 tokens 80000"],
        ),
        ("x-ratelimit-remaining-requests: 9007199254740992\r\n", &["p0 requests 9007199254740992"]),
        ("x-ratelimit-remaining-requests: 9007199254740993\r\nx-ratelimit-remaining-tokens: -1\r\n", &[]),
        ("x-ratelimit-remaining-requests: 1.5\r\nx-ratelimit-remaining-tokens: many\r\n", &[]),
        ("x-ratelimit-remaining-requests: +5\r\nx-ratelimit-remaining-tokens:\r\n", &[]),
    ];
    for (headers, expected) in cases {
        let provider = Provider::answering(answer("200 OK", headers));
        let gateway = Gateway::over(&[provider.address], "");
        assert_eq!(chat(gateway.address, CHAT).status, 200, "{headers}");
        assert_eq!(left(&gateway), *expected, "{headers}");
    }
}

#[test]
fn the_series_have_the_attributes_of_their_deployment() {
    let provider = Provider::answering(answer("200 OK", "x-ratelimit-remaining-requests: 3\r\n"));
    let gateway = Gateway::over(&[provider.address], "");
    assert_eq!(chat(gateway.address, CHAT).status, 200);
    let series = format!(
        "tollgate.upstream.rate_limit.remaining_requests{{gen_ai.provider.name=p0,gen_ai.request.model=up,tollgate.model=m,server.address=127.0.0.1,server.port={}}}",
        provider.address.port()
    );
    assert_eq!(gateway.metrics().get(&series), Some(&3.0));
}

#[test]
fn the_last_answer_counts_and_silence_changes_nothing() {
    let stream = String::from_utf8(event_stream(&["data: [DONE]\n\n"])).unwrap();
    let stream = stream.replacen("\r\n", "\r\nx-ratelimit-remaining-requests: 8\r\n", 1);
    let provider = Provider::script([
        vec![Step::Send(answer("200 OK", "x-ratelimit-remaining-requests: 2\r\nx-ratelimit-remaining-tokens: 5\r\n"))],
        vec![Step::Send(stream.into_bytes())],
        vec![Step::Send(answer("200 OK", "x-ratelimit-remaining-requests: none\r\n"))],
        vec![Step::Send(answer("429 Too Many Requests", "x-ratelimit-remaining-requests: 0\r\n"))],
    ]);
    let gateway = Gateway::over(&[provider.address], "");
    for (body, requests) in [(CHAT, 2), (r#"{"model":"m","stream":true}"#, 8), (CHAT, 8), (CHAT, 0)] {
        chat(gateway.address, body);
        assert_eq!(left(&gateway), [format!("p0 requests {requests}"), "p0 tokens 5".into()]);
    }
}

#[test]
fn an_answer_that_is_not_passed_on_says_it_too() {
    let first = Provider::answering(answer("429 Too Many Requests", "x-ratelimit-remaining-requests: 0\r\n"));
    let second = Provider::answering(answer("200 OK", "x-ratelimit-remaining-tokens: 6\r\n"));
    let gateway = Gateway::over(&[first.address, second.address], "");
    assert_eq!(chat(gateway.address, CHAT).status, 200);
    eventually("the request ends", || gateway.metric("tollgate.requests", &["completed"]) == 1.0);
    assert_eq!(left(&gateway), ["p0 requests 0", "p1 tokens 6"]);
}
