//! Requests whose content wants something that it should not get.

use std::io::Write;

use super::plain;
use crate::http1::{Connection, chat_head};
use crate::process::{KEY, PROVIDER_KEY};
use crate::row::{Outcome, PLAIN, Row, Setup, Stage, ensure, mib};
use crate::wall::{End, json};

pub(super) fn rows() -> Vec<Row> {
    vec![
        plain(17, true, "a forbidden model behind an allowed one", duplicates),
        plain(18, true, "destinations in bodies, headers and queries", destinations),
        plain(19, false, "paths that lead elsewhere", paths),
        plain(22, true, "100 000 models, agents and paths", cardinality),
        Row {
            number: 23,
            is_star: false,
            title: "control characters for logs and heads",
            setup: Setup { is_traced: true, ..PLAIN },
            run: control_characters,
        },
        plain(24, true, "the operator's paths on the public port", operator_paths),
    ]
}

/// A chat with this body and these lines, whatever key they show.
fn post(target: &str, lines: &str, body: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n{lines}\r\n{body}", body.len())
        .into_bytes()
}

fn duplicates(stage: &mut Stage<'_>) -> Outcome {
    let key = format!("Authorization: Bearer {KEY}-narrow\r\n");
    let bodies = [
        r#"{"model":"canary","model":"first","messages":[]}"#,
        r#"{"model":"first","model":"canary","messages":[]}"#,
        r#"{"model":"canary","mod\u0065l":"first","messages":[]}"#,
        r#"{"m\u006fdel":"first","model":"canary","messages":[]}"#,
        r#"{"model":"first","model":"first","messages":[]}"#,
        r#"{"model":"canary","stream":true,"stream":false,"messages":[]}"#,
    ];
    for body in bodies {
        let answer = stage.ask(&post("/v1/chat/completions", &key, body))?;
        ensure(answer.status == 400, || format!("{body}: {}", answer.status))?;
    }
    let upstream = stage.first.seen().len() + stage.second.seen().len();
    ensure(upstream == 0, || format!("{upstream} requests upstream"))?;
    Ok(format!("{} bodies, 400 each, nothing upstream", bodies.len()))
}

fn destinations(stage: &mut Stage<'_>) -> Outcome {
    let trap = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    trap.set_nonblocking(true).map_err(|error| error.to_string())?;
    let url = format!("http://{}", trap.local_addr().map_err(|error| error.to_string())?);
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let plain = r#"{"model":"first","messages":[]}"#.to_owned();
    let mut requests = Vec::new();
    for field in ["api_base", "base_url", "custom_llm_provider", "api_key", "provider", "proxy", "metadata"] {
        let body = format!(r#"{{"{field}":"{url}","model":"first","messages":[]}}"#);
        requests.push(post("/v1/chat/completions", &key, &body));
        let nested = format!(r#"{{"model":"first","litellm_params":{{"{field}":"{url}"}},"messages":[]}}"#);
        requests.push(post("/v1/chat/completions", &key, &nested));
        requests.push(post(&format!("/v1/chat/completions?{field}={url}"), &key, &plain));
        let header = field.replace('_', "-");
        requests.push(post("/v1/chat/completions", &format!("{key}x-{header}: {url}\r\n{header}: {url}\r\n"), &plain));
    }
    requests.push(post(
        "/v1/chat/completions",
        &format!("{key}X-Forwarded-Host: evil\r\nForwarded: host=evil\r\n"),
        &plain,
    ));
    for request in &requests {
        stage.ask(request)?;
    }
    ensure(trap.accept().is_err(), || "the gateway connected to where the client said".to_owned())?;
    for seen in stage.first.seen() {
        let head = seen.head.to_ascii_lowercase();
        let host = format!("host: {}\r\n", stage.first.address);
        ensure(head.starts_with("post /v1/chat/completions http/1.1\r\n"), || format!("target: {head}"))?;
        ensure(head.contains(&host) && !head.contains("evil") && !head.contains(&url), || format!("head: {head}"))?;
        ensure(seen.head.contains(PROVIDER_KEY) && !seen.head.contains(KEY), || format!("key: {head}"))?;
    }
    Ok(format!("{} requests, {} of them served, by the provider only", requests.len(), stage.first.seen().len()))
}

fn paths(stage: &mut Stage<'_>) -> Outcome {
    let targets = [
        "/v1/..%2fmetrics",
        "/v1/%2e%2e/metrics",
        "//evil",
        "//169.254.169.254/",
        "/v1/../admin",
        "/v1/../metrics",
        "/v1/chat/completions%00",
        "/v1/chat/completions/..",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/models/../../status.json",
        "/v1/chat\\completions",
        "/v1/caf\u{e9}",
        "/./v1/chat/completions",
        "/%76%31/chat/completions",
        "*",
    ];
    for target in targets {
        let body = r#"{"model":"first","messages":[]}"#;
        let request = post(target, &format!("Authorization: Bearer {KEY}\r\n"), body);
        match stage.ask(&request) {
            Ok(answer) => ensure(matches!(answer.status, 400 | 404), || format!("{target}: {}", answer.status))?,
            Err(error) => return Err(format!("{target}: {error}")),
        }
    }
    ensure(stage.first.seen().is_empty(), || "something got upstream".to_owned())?;
    Ok(format!("{} targets", targets.len()))
}

fn cardinality(stage: &mut Stage<'_>) -> Outcome {
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let count = stage.limits.many(100_000);
    let batch = 20;
    let mut connection = Connection::open(stage.gateway.address)?;
    let mut run = |from: usize, to: usize| -> Result<(), String> {
        for start in (from..to).step_by(batch) {
            let mut requests = Vec::new();
            for number in start..start + batch {
                let body = format!(r#"{{"model":"m{number}","messages":[]}}"#);
                let target = if number % 2 == 0 { "/v1/chat/completions".to_owned() } else { format!("/v1/p{number}") };
                let lines = format!("Authorization: Bearer {KEY}\r\nUser-Agent: a{number}\r\n");
                requests.extend(post(&target, &lines, &body));
            }
            if connection.send(&requests).is_err() {
                connection = Connection::open(stage.gateway.address)?;
                connection.send(&requests).map_err(|error| error.to_string())?;
            }
            for _ in 0..batch {
                // A connection ends after so many requests; what was behind that in the pipe is not asked again.
                let Ok(answer) = connection.answer() else {
                    connection = Connection::open(stage.gateway.address)?;
                    break;
                };
                ensure((400..500).contains(&answer.status), || format!("{}", answer.status))?;
            }
        }
        Ok(())
    };
    // The refusals' own series are made by the first of them.
    run(0, 2_000)?;
    let before = stage.scrape()?;
    let memory = stage.gateway.memory();
    run(2_000, count.max(4_000))?;
    let after = stage.scrape()?;
    let growth = stage.gateway.memory().saturating_sub(memory);
    let seen = format!(
        "{count} requests; {} series before, {} after; memory grew by {}",
        series(&before),
        series(&after),
        mib(growth)
    );
    ensure(series(&before) == series(&after), || seen.clone())?;
    ensure(!after.contains("m3000") && !after.contains("a3000"), || "a client's word is in the metrics".to_owned())?;
    ensure(growth <= 1 << 20 || !stage.limits.is_strict, || seen.clone())?;
    Ok(seen)
}

/// CR and LF, an escape sequence, and a mark that turns the direction of writing.
const EVIL: &str = "evil\r\nX-Injected: yes\u{1b}[31m\u{202e}";

fn control_characters(stage: &mut Stage<'_>) -> Outcome {
    stage.first.plan(|_, socket| {
        let text = serde_json::to_string(EVIL).map_err(std::io::Error::other)?;
        json(socket, 400, "X-Request-Id: a\u{1b}[31mb\u{202e}\r\n", &format!(r#"{{"error":{{"message":{text}}}}}"#))?;
        Ok(End::Keep)
    });
    let escaped = r"evil\r\nX-Injected: yes\u001b[31m\u202e";
    for (model, agent) in [
        (escaped, "plain"),
        ("evil\u{202e}", "a\u{1b}[31mb"),
        ("first", "a\u{202e}b"),
        ("first", "a\u{7f}b"),
        ("first", "plain"),
    ] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        let mut request = chat_head(body.len());
        request.insert_str(request.len() - 2, &format!("User-Agent: {agent}\r\nX-Request-Id: {agent}\r\n"));
        let mut connection = Connection::open(stage.gateway.address)?;
        connection.socket.write_all((request + &body).as_bytes()).map_err(|error| error.to_string())?;
        let answer = connection.answer()?;
        ensure(answer.status >= 400, || format!("{}", answer.status))?;
        let is_split = answer.header("x-injected").is_some() || answer.head.contains(['\u{1b}', '\u{202e}']);
        ensure(!is_split, || format!("head: {:?}", answer.head))?;
    }
    let log = stage.gateway.log();
    for line in log.lines() {
        let is_json = serde_json::from_str::<serde_json::Value>(line).is_ok();
        ensure(is_json, || format!("not a line of JSON: {line:?}"))?;
        let is_clean = !line.chars().any(|c| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
        ensure(is_clean, || format!("not escaped: {line:?}"))?;
    }
    Ok(format!("{} lines of log, each one JSON object", log.lines().count()))
}

fn operator_paths(stage: &mut Stage<'_>) -> Outcome {
    let mut seen = Vec::new();
    let targets =
        ["/metrics", "/debug", "/debug/pprof", "/config", "/admin", "/admin/", "/status.json", "/reload", "/status"];
    for target in targets {
        for key in ["", &format!("Authorization: Bearer {KEY}\r\n")] {
            for method in ["GET", "POST"] {
                let request = format!("{method} {target} HTTP/1.1\r\nHost: gateway\r\n{key}Content-Length: 0\r\n\r\n");
                let answer = stage.ask(request.as_bytes())?;
                ensure(answer.status == 404, || format!("{method} {target}: {} {}", answer.status, answer.text()))?;
                seen.push(answer.body.len());
            }
        }
    }
    let most = seen.iter().max().copied().unwrap_or_default();
    ensure(most <= 512, || format!("an answer of {most} bytes"))?;
    Ok(format!("{} requests, 404 each, at most {most} bytes", seen.len()))
}
