//! Streams: byte identity, back-pressure, and ends that are told apart.

use std::{io::Write, time::Duration};

use crate::support::{
    Gateway, Provider, Step, chat, client, eventually,
    provider::{LAST_CHUNK, chunk, event_head, event_stream},
};

const DATA: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32,\"total_tokens\":51}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

const STREAM: &str = r#"{"model":"m","stream":true}"#;
const STREAM_WITH_USAGE: &str = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;

#[test]
fn the_usage_event_that_only_the_gateway_wanted_is_removed() {
    let provider = Provider::answering(event_stream(&[DATA, DATA, STOP, USAGE, DONE]));
    let gateway = Gateway::over(&[provider.address], "");
    let reply = chat(gateway.address, STREAM);
    assert_eq!(reply.text(), [DATA, DATA, STOP, DONE].concat());
    assert!(reply.complete);
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(provider.received()[0].body, br#"{"stream_options":{"include_usage":true},"model":"up","stream":true}"#);
    eventually("usage is counted all the same", || gateway.metric("tollgate.tokens", &["output"]) == 32.0);
    assert_eq!(gateway.metric("gen_ai.client.operation.time_to_first_chunk:count", &[]), 1.0);
}

#[test]
fn a_client_that_asked_for_usage_gets_every_byte() {
    let provider = Provider::answering(event_stream(&[DATA, STOP, USAGE, DONE]));
    let gateway = Gateway::over(&[provider.address], "");
    let reply = chat(gateway.address, STREAM_WITH_USAGE);
    assert_eq!(reply.text(), [DATA, STOP, USAGE, DONE].concat());
    assert_eq!(provider.received()[0].body, br#"{"model":"up","stream":true,"stream_options":{"include_usage":true}}"#);
    eventually("usage is counted", || gateway.metric("tollgate.tokens", &["input"]) == 19.0);
}

#[test]
fn asking_for_usage_can_be_switched_off_per_provider() {
    let provider = Provider::answering(event_stream(&[DATA, STOP, DONE]));
    let gateway = Gateway::over(&[provider.address], "include_usage = false");
    let reply = chat(gateway.address, STREAM);
    assert_eq!(reply.text(), [DATA, STOP, DONE].concat());
    assert_eq!(provider.received()[0].body, br#"{"model":"up","stream":true}"#);
    eventually("the missing usage is counted", || gateway.metric("tollgate.usage.missing", &[]) == 1.0);
}

/// Streams of providers: llama.cpp's as its server sent it, the others as their documentation
/// shows them. Each is sent whole, with CRLF, and one byte per TCP segment; only a usage event
/// without choices may be missing, and only for a client that did not ask for it.
#[test]
fn provider_streams_come_out_identical() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/streams");
    let mut tested = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let captured = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // The first line says how many tokens the stream reports, and is no part of it.
        let (header, stream) = captured.split_once('\n').unwrap();
        let numbers: Vec<f64> = header.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [input, output] = numbers[..] else { panic!("{name}: first line is `# INPUT OUTPUT …`") };
        let crlf = stream.replace('\n', "\r\n");
        for stream in [stream, crlf.as_str()] {
            check_stream(&name, stream, input, output);
        }
        tested += 1;
    }
    assert!(tested >= 4, "found {tested} captured streams in {folder}");
}

fn check_stream(name: &str, stream: &str, input: f64, output: f64) {
    let blank = if stream.contains("\r\n") { "\r\n\r\n" } else { "\n\n" };
    let stripped: String = stream
        .split_inclusive(blank)
        .filter(|event| !(event.contains("\"choices\":[]") && event.contains("\"usage\":{")))
        .collect();
    let whole = event_stream(&[stream]);
    let (head, body) = whole.split_at(event_head().len());
    let bytewise = vec![Step::Send(head.to_vec()), Step::SendBytewise(body.to_vec())];
    let provider = Provider::script([
        vec![Step::Send(whole.clone())],
        vec![Step::Send(whole.clone())],
        bytewise.clone(),
        bytewise,
    ]);
    let gateway = Gateway::over(&[provider.address], "");
    for round in 1..=2 {
        let asked = chat(gateway.address, STREAM_WITH_USAGE);
        assert_eq!(asked.text(), stream, "{name}: asked for usage, round {round}");
        let unasked = chat(gateway.address, STREAM);
        assert_eq!(unasked.text(), stripped, "{name}: did not ask for usage, round {round}");
    }
    eventually("four answers are counted", || gateway.metric("tollgate.requests", &["completed"]) == 4.0);
    assert_eq!(gateway.metric("tollgate.tokens", &["gen_ai.token.type=input"]), 4.0 * input, "{name}");
    assert_eq!(gateway.metric("tollgate.tokens", &["gen_ai.token.type=output"]), 4.0 * output, "{name}");
    assert_eq!(gateway.metric("tollgate.usage.missing", &[]), 0.0);
}

#[test]
fn events_are_not_delayed() {
    // The second event waits for a word from the test, so the first must arrive without it.
    let script = vec![Step::Send(event_head()), Step::Send(chunk(DATA)), Step::AwaitClose];
    let provider = Provider::script([script]);
    let gateway = Gateway::over(&[provider.address], "");
    let mut socket = client::connect(gateway.address);
    socket.write_all(&client::post_bytes("/v1/chat/completions", STREAM)).unwrap();
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(DATA) {
        assert!(client::read_more(&mut socket, &mut read));
    }
}

#[test]
fn a_broken_stream_never_ends_cleanly() {
    let cases: Vec<(&str, Vec<Step>)> = vec![
        ("cut in the middle of a body", vec![Step::Send(event_head()), Step::Send(chunk(DATA)), Step::Close]),
        (
            "reset",
            vec![
                Step::Send(event_head()),
                Step::Send(chunk(DATA)),
                Step::Pause(Duration::from_millis(50)),
                Step::Reset,
            ],
        ),
        (
            "a proper end without a terminal event",
            vec![Step::Send([event_head(), chunk(DATA), LAST_CHUNK.to_vec()].concat())],
        ),
    ];
    for (name, script) in cases {
        let provider = Provider::script([script]);
        let gateway = Gateway::over(&[provider.address], "");
        let reply = chat(gateway.address, STREAM);
        assert_eq!(reply.status, 200);
        assert!(!reply.complete, "{name}: ended cleanly");
        let text = reply.text();
        let error = text.strip_prefix(DATA).unwrap_or_else(|| panic!("{name}: {text}"));
        assert_eq!(
            error,
            "data: {\"error\":{\"code\":\"provider_stream_broken\",\"message\":\"the provider's answer broke off; it is not complete\",\"param\":null,\"type\":\"server_error\"}}\n\n",
            "{name}"
        );
        eventually("it is counted", || gateway.metric("tollgate.streams.broken", &[]) == 1.0);
        assert_eq!(gateway.metric("tollgate.requests", &["failed"]), 1.0, "{name}");
        assert_eq!(gateway.metric("tollgate.errors", &["provider_stream_broken"]), 1.0, "{name}");
        let broken = ["http.response.status_code=200", "error.type=provider_stream_broken"];
        assert_eq!(gateway.metric("http.server.request.duration:count", &broken), 1.0, "{name}");
    }
}

#[test]
fn an_end_without_done_but_with_a_finish_reason_is_an_end() {
    let provider = Provider::answering(event_stream(&[DATA, STOP]));
    let gateway = Gateway::over(&[provider.address], "");
    let reply = chat(gateway.address, STREAM);
    assert!(reply.complete);
    assert_eq!(reply.text(), [DATA, STOP].concat());
    eventually("it is completed", || gateway.metric("tollgate.requests", &["completed"]) == 1.0);
}

#[test]
fn an_error_inside_the_stream_passes_and_counts_as_failed() {
    let error = "data: {\"error\":{\"message\":\"boom\",\"code\":502}}\n\n";
    let provider = Provider::answering(event_stream(&[DATA, error, DONE]));
    let gateway = Gateway::over(&[provider.address], "");
    let reply = chat(gateway.address, STREAM);
    assert_eq!(reply.text(), [DATA, error, DONE].concat());
    assert!(reply.complete);
    eventually("it is failed", || gateway.metric("tollgate.requests", &["failed"]) == 1.0);
}

#[test]
fn a_silent_stream_ends_at_the_idle_limit() {
    let script = vec![Step::Send(event_head()), Step::Send(chunk(DATA)), Step::AwaitClose];
    let provider = Provider::script([script]);
    let gateway = Gateway::over(&[provider.address], "idle_timeout = \"200ms\"");
    let reply = chat(gateway.address, STREAM);
    assert!(!reply.complete);
    assert!(reply.text().contains("provider_stream_idle"), "{}", reply.text());
    eventually("the provider's connection is closed", || provider.closed().len() == 1);
    assert_eq!(gateway.metric("tollgate.errors", &["provider_stream_idle"]), 1.0);
}

#[test]
fn an_answer_without_end_ends_at_its_limit() {
    let events = (0..50).flat_map(|_| [Step::Send(chunk(DATA)), Step::Pause(Duration::from_millis(20))]);
    let stream: Vec<_> = [Step::Send(event_head())].into_iter().chain(events).collect();
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let pieces = (0..50).flat_map(|_| [Step::Send(chunk(" ")), Step::Pause(Duration::from_millis(20))]);
    let json: Vec<_> = [Step::Send(head.to_vec())].into_iter().chain(pieces).collect();
    for (steps, option, request, has_event) in
        [(stream, "stream_timeout", STREAM, true), (json, "answer_timeout", r#"{"model":"m"}"#, false)]
    {
        let provider = Provider::script([steps]);
        let gateway = Gateway::over(&[provider.address], &format!("{option} = \"200ms\""));
        let reply = chat(gateway.address, request);
        assert!(!reply.complete, "{option}");
        assert_eq!(reply.text().contains("provider_answer_timeout"), has_event, "{option}: {}", reply.text());
        eventually("it is counted", || gateway.metric("tollgate.errors", &["provider_answer_timeout"]) == 1.0);
        assert_eq!(gateway.metric("tollgate.streams.broken", &[]), 1.0, "{option}");
    }
}

#[test]
fn a_slow_client_holds_the_provider_back() {
    // 64 MiB of events: far more than the kernel's buffers on both sides and ours hold.
    let event = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "y".repeat(32 * 1024));
    let mut steps = vec![Step::Send(event_head())];
    steps.extend((0..2048).map(|_| Step::Send(chunk(&event))));
    steps.push(Step::Send([chunk(DONE), LAST_CHUNK.to_vec()].concat()));
    let provider = Provider::script([steps]);
    let gateway = Gateway::over(&[provider.address], "");
    let mut socket = client::connect(gateway.address);
    let before = resident_kib();
    socket.write_all(&client::post_bytes("/v1/chat/completions", STREAM)).unwrap();
    // Reads nothing until the stream has come to rest.
    eventually("the stream begins", || gateway.metric("gen_ai.client.operation.time_to_first_chunk:count", &[]) == 1.0);
    let chunks = || gateway.metric("gen_ai.client.operation.time_per_output_chunk:count", &[]);
    let mut last = -1.0;
    while last < chunks() {
        last = chunks();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(last < 1500.0, "{last} of 2048 events were taken from the provider");
    let growth = resident_kib().saturating_sub(before);
    assert!(growth < 16 * 1024, "holding the provider back took {growth} KiB");
    let reply = client::read_reply(&mut socket, false);
    assert!(reply.complete);
    assert_eq!(reply.body.len(), 2048 * event.len() + DONE.len());
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
