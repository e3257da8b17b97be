//! Plain requests: what a provider is sent, what a client gets, what is counted.

use std::io::Write;

use crate::support::{
    Gateway, Provider, chat,
    client::{self, KEY},
    eventually,
    gateway::KEYS,
    get, post,
    provider::json,
};

const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":4}}}"#;

#[test]
fn a_chat_goes_through_and_is_counted_exactly() {
    let provider = Provider::answering(json("200 OK", ANSWER));
    let gateway = Gateway::over(&[provider.address], "");
    let reply = chat(gateway.address, r#"{ "messages":[{"role":"user","content":"é"}], "model" : "m","n": 1.0 }"#);

    assert_eq!(reply.status, 200);
    assert_eq!(reply.text(), ANSWER);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-tollgate-deployment"), Some("p0/up"));
    assert_eq!(reply.header("x-tollgate-attempts"), Some("1"));
    assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    let overhead: f64 = reply.header("x-tollgate-overhead-ms").unwrap().parse().unwrap();
    assert!((0.0..1000.0).contains(&overhead));

    let received = &provider.received()[0];
    assert_eq!(received.body, r#"{ "messages":[{"role":"user","content":"é"}], "model" : "up","n": 1.0 }"#.as_bytes());
    assert!(received.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    let mut names: Vec<&str> = received.head.lines().skip(1).map(|line| line.split(':').next().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept-encoding", "authorization", "content-length", "content-type", "host", "user-agent"]);
    assert_eq!(received.header("authorization"), Some("Bearer sk-upstream-0"));
    assert_eq!(received.header("host"), Some(provider.address.to_string().as_str()));

    let deployment = format!(
        "gen_ai.provider.name=p0,gen_ai.request.model=up,tollgate.model=m,server.address=127.0.0.1,server.port={}",
        provider.address.port()
    );
    eventually("the request ends", || gateway.metric("http.server.active_requests", &[]) == 0.0);
    assert_eq!(
        gateway.counted(),
        [
            format!("gen_ai.client.operation.duration{{{deployment},gen_ai.operation.name=chat}}:count 1"),
            format!("gen_ai.client.token.usage{{{deployment},gen_ai.operation.name=chat,gen_ai.token.type=input}}:count 1"),
            format!("gen_ai.client.token.usage{{{deployment},gen_ai.operation.name=chat,gen_ai.token.type=output}}:count 1"),
            "http.server.request.duration{url.scheme=http,http.request.method=POST,http.route=/v1/chat/completions,http.response.status_code=200}:count 1".into(),
            format!("tollgate.attempts{{{deployment},tollgate.outcome=completed}} 1"),
            "tollgate.auth.decisions{tollgate.decision=allowed} 1".into(),
            "tollgate.overhead.duration{gen_ai.operation.name=chat}:count 1".into(),
            "tollgate.requests{tollgate.key=k,gen_ai.request.model=m,tollgate.outcome=completed} 1".into(),
            "tollgate.tokens{tollgate.key=k,gen_ai.request.model=m,gen_ai.token.type=cache_read} 4".into(),
            "tollgate.tokens{tollgate.key=k,gen_ai.request.model=m,gen_ai.token.type=input} 11".into(),
            "tollgate.tokens{tollgate.key=k,gen_ai.request.model=m,gen_ai.token.type=output} 7".into(),
            "tollgate.upstream.connections.opened{tollgate.provider=p0} 1".into(),
        ]
    );
    assert_eq!(gateway.metric("gen_ai.client.token.usage:sum", &["gen_ai.token.type=input"]), 11.0);
    assert_eq!(gateway.metric("http.server.response.body.size:sum", &[]), ANSWER.len() as f64);
}

#[test]
fn every_operation_has_both_spellings_and_its_upstream_path() {
    let provider = Provider::answering(json("200 OK", r#"{"usage":{"prompt_tokens":3,"total_tokens":3}}"#));
    let gateway = Gateway::over(&[provider.address], "");
    let cases = [
        ("/v1/chat/completions", "/v1/chat/completions", "chat"),
        ("/chat/completions?beta=true", "/v1/chat/completions", "chat"),
        ("/v1/completions", "/v1/completions", "text_completion"),
        ("/completions", "/v1/completions", "text_completion"),
        ("/v1/embeddings", "/v1/embeddings", "embeddings"),
        ("/embeddings", "/v1/embeddings", "embeddings"),
    ];
    for (number, (path, upstream, operation)) in cases.into_iter().enumerate() {
        assert_eq!(post(gateway.address, path, r#"{"model":"m","input":"x"}"#).status, 200, "{path}");
        assert!(provider.received()[number].head.starts_with(&format!("POST {upstream} HTTP/1.1\r\n")), "{path}");
        let name = format!("gen_ai.operation.name={operation}");
        eventually("it is counted", || {
            gateway.metric("gen_ai.client.operation.duration:count", &[&name]) == (number % 2 + 1) as f64
        });
    }
    // Embeddings have no output tokens to report.
    assert_eq!(gateway.metric("gen_ai.client.token.usage:count", &["embeddings", "gen_ai.token.type=output"]), 0.0);
}

#[test]
fn headers_pass_by_name_only() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nX-Request-Id: req_upstream\r\n\
         x-ratelimit-remaining-tokens: 9\r\nopenai-processing-ms: 12\r\nSet-Cookie: a=b\r\nServer: x\r\n\
         openai-organization: org\r\nConnection: x-secret\r\nx-secret: 1\r\nAlt-Svc: h3\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let provider = Provider::answering(answer);
    let gateway = Gateway::over(&[provider.address], "");
    let body = r#"{"model":"m"}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: evil.example\r\nx-api-key: {KEY}\r\nContent-Length: {}\r\n\
         Content-Type: application/json; charset=utf-8\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n\
         OpenAI-Beta: a=1\r\ntraceparent: 00-1\r\nCookie: s=1\r\nUser-Agent: me\r\nX-Forwarded-For: 1.2.3.4\r\n\
         OpenAI-Organization: theirs\r\napi-key: {KEY}\r\n\r\n{body}",
        body.len()
    );
    let reply = client::send(gateway.address, request.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut names: Vec<&str> = reply.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content-length",
            "content-type",
            "date",
            "openai-processing-ms",
            "x-ratelimit-remaining-tokens",
            "x-request-id",
            "x-tollgate-attempts",
            "x-tollgate-deployment",
            "x-tollgate-overhead-ms"
        ]
    );
    assert_eq!(reply.header("x-request-id"), Some("req_upstream"));
    let received = &provider.received()[0];
    let mut sent: Vec<String> = received.head.lines().skip(1).map(str::to_owned).collect();
    sent.sort_unstable();
    assert_eq!(
        sent,
        [
            "accept-encoding: identity".to_owned(),
            "accept: application/json".into(),
            "authorization: Bearer sk-upstream-0".into(),
            format!("content-length: {}", received.body.len()),
            "content-type: application/json; charset=utf-8".into(),
            format!("host: {}", provider.address),
            "openai-beta: a=1".into(),
            "traceparent: 00-1".into(),
            concat!("user-agent: tollgate/", env!("CARGO_PKG_VERSION")).into(),
        ]
    );
}

#[test]
fn a_key_sees_and_uses_only_its_models() {
    let provider = Provider::answering(json("200 OK", ANSWER));
    let gateway = Gateway::run(&format!(
        "[providers.p]\nbase_url = \"http://{}/v1\"\n[models.a]\ndeployments = [{{ provider = \"p\" }}]\n\
         [models.b]\ndeployments = [{{ provider = \"p\" }}]\n[[keys]]\nname = \"k\"\nkey = \"${{TOLLGATE_KEY}}\"\nmodels = [\"b\"]\n",
        provider.address
    ));
    let list: serde_json::Value = serde_json::from_slice(&get(gateway.address, "/v1/models").body).unwrap();
    assert_eq!(
        list,
        serde_json::json!({"object": "list", "data": [{"id": "b", "object": "model", "created": 0, "owned_by": "tollgate"}]})
    );
    assert_eq!(chat(gateway.address, r#"{"model":"b"}"#).status, 200);
    let refused = chat(gateway.address, r#"{"model":"a"}"#);
    assert_eq!((refused.status, refused.error().0.as_str()), (403, "model_not_allowed"));
    assert_eq!(provider.received().len(), 1);
    assert_eq!(provider.received()[0].header("authorization"), None);
    eventually("both are counted", || gateway.metric("tollgate.requests", &[]) == 2.0);
    assert_eq!(gateway.metric("tollgate.requests", &["gen_ai.request.model=_OTHER", "failed"]), 1.0);
    assert_eq!(gateway.metric("tollgate.auth.decisions", &["model_not_allowed"]), 1.0);
}

#[test]
fn probes_say_yes_and_nothing_else() {
    let gateway = Gateway::over(&[Provider::absent()], "");
    for (path, body) in [
        ("/", "tollgate\n"),
        ("/healthz", "ok\n"),
        ("/readyz", "ok\n"),
        ("/health/liveliness", "\"I'm alive!\""),
        ("/health/liveness", "\"I'm alive!\""),
        ("/health/readiness", "{\"status\":\"healthy\"}"),
    ] {
        let reply = client::send(gateway.address, format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
        assert_eq!((reply.status, reply.text().as_str()), (200, body), "{path}");
        let reply = client::send(gateway.address, format!("HEAD {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes());
        assert_eq!(reply.status, 200, "HEAD {path}");
    }
    for path in ["/metrics", "/config", "/admin", "/debug/pprof", "/status.json"] {
        assert_eq!(get(gateway.address, path).status, 404, "{path}");
    }
}

#[test]
fn upstream_connections_are_used_again_and_a_closed_one_is_replaced() {
    use crate::support::Step;
    // The second connection answers once more after the first was closed behind our back.
    let answer = json("200 OK", ANSWER);
    let provider = Provider::script([
        vec![Step::Send(answer.clone())],
        vec![Step::Send(answer.clone()), Step::Close],
        vec![Step::Send(answer)],
    ]);
    let gateway = Gateway::run(&format!(
        "[server]\nthreads = 1\n[providers.p]\nbase_url = \"http://{}/v1\"\n[models.m]\ndeployments = [{{ provider = \"p\", model = \"up\" }}]\n{KEYS}",
        provider.address
    ));
    for _ in 0..2 {
        assert_eq!(chat(gateway.address, r#"{"model":"m"}"#).status, 200);
    }
    assert_eq!(provider.connections(), 1);
    for _ in 0..2 {
        assert_eq!(chat(gateway.address, r#"{"model":"m"}"#).status, 200);
    }
    assert_eq!(provider.connections(), 2);
    assert_eq!(gateway.metric("tollgate.upstream.connections.opened", &[]), 2.0);
}

#[test]
fn a_client_connection_serves_many_requests() {
    let provider = Provider::answering(json("200 OK", ANSWER));
    let gateway = Gateway::over(&[provider.address], "");
    let mut socket = client::connect(gateway.address);
    for _ in 0..3 {
        socket.write_all(&client::post_bytes("/v1/chat/completions", r#"{"model":"m"}"#)).unwrap();
        assert_eq!(client::read_reply(&mut socket, false).text(), ANSWER);
    }
    assert_eq!(gateway.metric("tollgate.connections.accepted", &[]), 1.0);
    assert_eq!(gateway.metric("tollgate.connections.active", &[]), 1.0);
    drop(socket);
    eventually("the connection is gone", || gateway.metric("tollgate.connections.active", &[]) == 0.0);
}

#[test]
fn large_bodies_pass_in_both_directions() {
    let big = format!(r#"{{"data":"{}","usage":{{"prompt_tokens":5,"total_tokens":5}}}}"#, "v".repeat(3 << 20));
    let provider = Provider::answering(json("200 OK", &big));
    let gateway = Gateway::over(&[provider.address], "");
    let body = format!(r#"{{"input":"{}","model":"m"}}"#, "i".repeat(5 << 20));
    let reply = post(gateway.address, "/v1/embeddings", &body);
    assert_eq!(reply.body, big.as_bytes());
    assert_eq!(provider.received()[0].body, body.replace("\"m\"", "\"up\"").as_bytes());
    eventually("usage is read from the end", || gateway.metric("tollgate.tokens", &["input"]) == 5.0);
}

#[test]
fn chunked_requests_are_read_whole() {
    let provider = Provider::answering(json("200 OK", ANSWER));
    let gateway = Gateway::over(&[provider.address], "");
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\
         Expect: 100-continue\r\n\r\n5\r\n{{\"mod\r\n8\r\nel\":\"m\"}}\r\n0\r\n\r\n"
    );
    let reply = client::send(gateway.address, request.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(provider.received()[0].body, br#"{"model":"up"}"#);
}

#[test]
fn missing_usage_is_said() {
    let provider = Provider::answering(json("200 OK", r#"{"choices":[]}"#));
    let gateway = Gateway::over(&[provider.address], "");
    assert_eq!(chat(gateway.address, r#"{"model":"m"}"#).status, 200);
    eventually("it is counted", || gateway.metric("tollgate.usage.missing", &[]) == 1.0);
    assert_eq!(gateway.metric("tollgate.tokens", &[]), 0.0);
    assert_eq!(gateway.metric("tollgate.requests", &["completed"]), 1.0);
}

#[test]
fn series_known_from_the_configuration_start_at_zero() {
    let gateway = Gateway::over(&[Provider::absent()], "");
    let metrics = gateway.metrics();
    for series in [
        "tollgate.requests{tollgate.key=k,gen_ai.request.model=m,tollgate.outcome=completed}",
        "tollgate.requests{tollgate.key=k,gen_ai.request.model=_OTHER,tollgate.outcome=failed}",
        "tollgate.tokens{tollgate.key=k,gen_ai.request.model=m,gen_ai.token.type=input}",
        "tollgate.errors{error.type=client_unknown_model}",
        "tollgate.auth.decisions{tollgate.decision=invalid_key}",
        "tollgate.retries{gen_ai.request.model=m}",
    ] {
        assert_eq!(metrics.get(series), Some(&0.0), "{series}");
    }
}
