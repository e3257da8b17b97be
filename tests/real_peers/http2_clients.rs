//! What clients of HTTP/2 that people have make of the gateway over TLS: curl, nghttp, h2load, httpx and the OpenAI SDK.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    TEAM_A,
    https::Https,
    peers::{CURL, NGHTTP2, OPENAI, SCRIPTS, peers},
};

const BODY_BYTES_MAX: usize = 2 << 20;
/// More than any window, and than what curl sends without being asked to.
const LARGE: usize = 3 << 19;
const TOO_LARGE: usize = 5 << 19;
const CHAT: &str = "/v1/chat/completions";
const WORDS: &str = "Grüße an alle, die das lesen";

/// The body of a chat that says `text`.
fn chat(text: &str, stream: bool) -> Value {
    json!({ "model": "echo", "stream": stream, "messages": [{ "role": "user", "content": text }] })
}

/// Runs a client to its end, and answers with what it printed.
fn run(command: &mut Command) -> String {
    let output = command.env_clear().stdin(Stdio::null()).output().unwrap();
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}\n{complaints}", output.status);
    printed.into_owned()
}

/// What the chunks of a stream say together; it has to end as streams do.
fn streamed(events: &str) -> String {
    let mut data: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{events}");
    let contents = data.iter().map(|chunk| {
        let chunk: Value = serde_json::from_str(chunk).unwrap();
        chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
    });
    contents.collect()
}

/// One request of curl's and what has to come back.
struct Case {
    path: &'static str,
    key: &'static str,
    body: Value,
    status: u16,
    /// The text, or the code of the error.
    due: String,
}

impl Case {
    fn new(body: Value, status: u16, due: &str) -> Self {
        Self { path: CHAT, key: TEAM_A.1, body, status, due: due.to_owned() }
    }

    /// Every kind of answer; the last says whether the connection can be used after the others.
    fn all() -> Vec<Self> {
        let hi = || chat("hi", false);
        let (large, mut unknown) = ("x".repeat(LARGE), hi());
        unknown["model"] = "no-such-model".into();
        vec![
            Self::new(chat(WORDS, false), 200, WORDS),
            Self::new(chat(WORDS, true), 200, WORDS),
            Self::new(chat(&large, false), 200, &large),
            Self::new(chat(&large, true), 200, &large),
            Self::new(unknown, 404, "model_not_found"),
            Self { path: "/v1/no-such-path", ..Self::new(hi(), 404, "unknown_route") },
            Self { key: "sk-nobody-issued-this", ..Self::new(hi(), 401, "invalid_api_key") },
            Self::new(chat(WORDS, false), 200, WORDS),
            Self::new(chat(&"x".repeat(TOO_LARGE), false), 413, "request_too_large"),
            Self::new(chat(WORDS, false), 200, WORDS),
        ]
    }

    /// What it was answered is what was due, and nothing follows it.
    fn check(&self, head: &str, body: &str) {
        let name = format!("{} of {} bytes", self.path, self.body.to_string().len());
        // Whoever has a large body asks first whether it may come.
        let head = head.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(head);
        // Trailers would follow it, as curl writes them.
        assert_eq!(head.find("\r\n\r\n"), Some(head.len() - 4), "{name}: {head}");
        let streams = self.status == 200 && self.body["stream"] == true;
        let kind = if streams { "text/event-stream" } else { "application/json" };
        assert!(head.to_lowercase().contains(&format!("content-type: {kind}")), "{name}: {head}");
        let text = if streams {
            streamed(body)
        } else {
            let answer: Value = serde_json::from_str(body).unwrap();
            let text = if self.status == 200 { "/choices/0/message/content" } else { "/error/code" };
            answer.pointer(text).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        assert!(text == self.due, "{name}: {}", body.chars().take(500).collect::<String>());
    }
}

/// Sends all cases from one curl, one after the other. Answers with the connections it made for each.
fn curl(peer: &Path, https: &Https, options: &[&str], version: &str) -> Vec<u32> {
    let cases = Case::all();
    let mut command = Command::new(peer.join("curl"));
    let file = |name: &str, number: usize| https.folder.path().join(format!("{name}-{number}"));
    for (number, case) in cases.iter().enumerate() {
        if number > 0 {
            command.arg("--next");
        }
        std::fs::write(file("body", number), case.body.to_string()).unwrap();
        command.args(["--silent", "--show-error", "--max-time", "60"]).args(options);
        command.arg("--cacert").arg(https.folder.path().join("cert.pem"));
        command.arg("--header").arg(format!("authorization: Bearer {}", case.key));
        command.arg("--dump-header").arg(file("head", number)).arg("--output").arg(file("answer", number));
        command.arg("--data-binary").arg(format!("@{}", file("body", number).display()));
        command.args(["--write-out", "%{http_version} %{http_code} %{num_connects}\n", &https.url(case.path)]);
    }
    let printed = run(&mut command);
    let mut connections = Vec::new();
    for ((number, case), line) in cases.iter().enumerate().zip(printed.lines()) {
        let said: Vec<&str> = line.split(' ').collect();
        assert_eq!(said[..2], [version, &case.status.to_string()], "{number}: {line}");
        connections.push(said[2].parse().unwrap());
        let read = |name| std::fs::read_to_string(file(name, number)).unwrap();
        case.check(&read("head"), &read("answer"));
    }
    assert_eq!(connections.len(), cases.len(), "{printed}");
    connections
}

#[test]
fn curl_is_answered_in_both_versions() {
    let Some([peer]) = peers([CURL]) else { return };
    let https = Https::start(BODY_BYTES_MAX);
    for tls in ["--tlsv1.3", "--tls-max=1.2"] {
        let tls: Vec<&str> = tls.split('=').collect();
        let options = |version| [&[version], &tls[..]].concat();
        // Errors of one stream are none of the others.
        assert_eq!(curl(&peer, &https, &options("--http2"), "2"), [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // A body that nobody reads takes the connection with it.
        assert_eq!(curl(&peer, &https, &options("--http1.1"), "1.1"), [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
    https.stop();
}

/// The frames that nghttp received on each stream, as it prints them: kind, and whether they end it.
fn frames(
    peer: &Path,
    https: &Https,
    key: &str,
    body: &Value,
    times: usize,
    paths: &[&str],
) -> BTreeMap<u32, Vec<(String, bool)>> {
    let file = https.folder.file("nghttp-body", &body.to_string());
    let mut command = Command::new(peer.join("nghttp"));
    command.args(["--verbose", "--no-verify-peer", "--null-out", "--timeout=60", "--no-dep"]);
    command.arg(format!("--multiply={times}"));
    command.arg(format!("--header=authorization: Bearer {key}")).arg("--data").arg(file);
    command.args(paths.iter().map(|path| https.url(path)));
    let printed = run(&mut command);
    let mut frames: BTreeMap<u32, Vec<(String, bool)>> = BTreeMap::new();
    for line in printed.lines() {
        let Some((kind, rest)) = line.split_once("recv ").and_then(|(_, frame)| frame.split_once(" frame <")) else {
            continue;
        };
        let value = |name: &str| rest.split_once(name).unwrap().1.split([',', '>']).next().unwrap();
        let flags = u8::from_str_radix(value("flags=0x"), 16).unwrap();
        let ends = flags & 1 == 1 && matches!(kind, "HEADERS" | "DATA");
        frames.entry(value("stream_id=").parse().unwrap()).or_default().push((kind.to_owned(), ends));
    }
    frames
}

#[test]
fn nghttp_gets_one_head_and_one_end_on_every_stream() {
    let Some([peer]) = peers([NGHTTP2]) else { return };
    let https = Https::start(BODY_BYTES_MAX);
    let large = "many words ".repeat(LARGE / 11);
    let cases = [
        (TEAM_A.1, chat(WORDS, false), 20, vec![CHAT]),
        (TEAM_A.1, chat(WORDS, true), 20, vec![CHAT]),
        (TEAM_A.1, chat(&large, true), 2, vec![CHAT]),
        (TEAM_A.1, chat(WORDS, false), 3, vec![CHAT, "/v1/no-such-path"]),
        ("sk-nobody-issued-this", chat(WORDS, true), 2, vec![CHAT]),
        (TEAM_A.1, chat(&"x".repeat(TOO_LARGE), false), 2, vec![CHAT]),
    ];
    for (key, body, times, paths) in cases {
        let refused = body.to_string().len() > BODY_BYTES_MAX;
        let mut frames = frames(&peer, &https, key, &body, times, &paths);
        // The connection's own: settings, windows and pings, but no end.
        let own = frames.remove(&0).unwrap();
        assert!(own.iter().all(|(kind, _)| kind != "GOAWAY"), "{own:?}");
        assert_eq!(frames.len(), times * paths.len(), "{frames:?}");
        for frames in frames.values() {
            let mut answer: Vec<&(String, bool)> = frames.iter().filter(|(kind, _)| kind != "WINDOW_UPDATE").collect();
            // Whoever still sends when all is said is stopped.
            if refused && answer.last().unwrap().0 == "RST_STREAM" {
                answer.pop();
            }
            let (head, data) = answer.split_first().unwrap();
            assert_eq!(*head, &("HEADERS".to_owned(), false));
            let (last, others) = data.split_last().unwrap();
            assert_eq!(*last, &("DATA".to_owned(), true));
            assert!(others.iter().all(|(kind, ends)| kind == "DATA" && !ends), "{others:?}");
        }
    }
    https.stop();
}

#[test]
fn h2load_has_every_request_answered() {
    let Some([peer]) = peers([NGHTTP2]) else { return };
    let https = Https::start(BODY_BYTES_MAX);
    for (stream, option, protocol) in [
        (false, "--max-concurrent-streams=32", "h2"),
        (true, "--max-concurrent-streams=32", "h2"),
        (true, "--h1", "http/1.1"),
    ] {
        let body: PathBuf = https.folder.file("h2load-body", &chat(WORDS, stream).to_string());
        let mut command = Command::new(peer.join("h2load"));
        command.args(["--requests=2000", "--clients=8", option]).arg("--data").arg(body);
        command.arg(format!("--header=authorization: Bearer {}", TEAM_A.1)).arg(https.url(CHAT));
        let printed = run(&mut command);
        for due in [
            &format!("Application protocol: {protocol}"),
            "requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed, 0 errored, 0 timeout",
            "status codes: 2000 2xx, 0 3xx, 0 4xx, 0 5xx",
        ] {
            assert!(printed.contains(due), "{due}: {printed}");
        }
    }
    https.stop();
}

#[test]
fn httpx_and_the_openai_sdk_have_one_connection_for_everything() {
    let Some([peer]) = peers([OPENAI]) else { return };
    let https = Https::start(BODY_BYTES_MAX);
    let mut command = Command::new(peer.join("bin/python"));
    command.arg(format!("{SCRIPTS}/http2_clients.py")).arg("--ca").arg(https.folder.path().join("cert.pem"));
    command.args(["--base-url", &https.url("/v1"), "--key", TEAM_A.1]);
    command.args(["--large", &LARGE.to_string(), "--too-large", &TOO_LARGE.to_string()]);
    let seen: Value = serde_json::from_str(&run(&mut command)).unwrap();
    let due = json!({
        "httpx, HTTP/2": {
            "versions": ["HTTP/2"], "connections": 1, "statuses": { "200": 6, "401": 1, "404": 2, "413": 1 },
        },
        // A body that nobody reads takes the connection with it.
        "httpx, HTTP/1.1": {
            "versions": ["HTTP/1.1"], "connections": 2, "statuses": { "200": 5, "401": 1, "404": 2, "413": 1 },
        },
        "OpenAI SDK, HTTP/2": {
            "versions": ["HTTP/2"], "connections": 1, "statuses": { "200": 5, "401": 1, "404": 1, "413": 1 },
        },
        "OpenAI SDK, 16 at once": { "versions": ["HTTP/2"], "connections": 1, "statuses": { "200": 16 } },
    });
    assert_eq!(seen, due, "{seen:#}");
    https.stop();
}
