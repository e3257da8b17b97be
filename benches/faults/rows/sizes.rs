//! Requests that are too large, or want to become so.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plain;
use crate::http1::{Connection, chat_head, connect_with};
use crate::process::KEY;
use crate::row::{Outcome, Row, Stage, ensure, mib};

const MIB: usize = 1 << 20;

pub(super) fn rows() -> Vec<Row> {
    vec![
        plain(12, false, "heads, lines and targets too large", heads),
        plain(13, true, "bodies of 33 MiB", large_bodies),
        plain(14, false, "40 bodies of 32 MiB at once", many_bodies),
        plain(15, false, "a compressed body", compressed),
        plain(16, true, "JSON deep and wide", json),
        plain(20, true, "large uploads without a key", unauthenticated),
    ]
}

fn heads(stage: &mut Stage<'_>) -> Outcome {
    let of = |target: &str, lines: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n{lines}\r\n").into_bytes()
    };
    let large = format!("X-A: {}\r\n", "a".repeat(33 << 10));
    let many: String = (0..101).map(|number| format!("X-{number}: a\r\n")).collect();
    let long = format!("/v1/models?{}", "a".repeat(5 << 10));
    let mut wrong = Vec::new();
    for (name, request, wanted) in [
        ("head of 33 KiB", of("/v1/models", &large), 431),
        ("101 lines", of("/v1/models", &many), 431),
        ("target of 5 KiB", of(&long, ""), 414),
    ] {
        match stage.ask(&request) {
            Ok(answer) if answer.status == wanted => {}
            Ok(answer) => wrong.push(format!("{name}: {} instead of {wanted}", answer.status)),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    Ok("431, 431, 414".to_owned())
}

fn chunked_head() -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
}

fn large_bodies(stage: &mut Stage<'_>) -> Outcome {
    let mut connection = Connection::open(stage.gateway.address)?;
    connection.send(chat_head(33 * MIB).as_bytes()).map_err(|error| error.to_string())?;
    let by_length = connection.answer_within(Duration::from_secs(3))?;
    ensure(by_length.status == 413, || format!("by Content-Length: {}", by_length.status))?;

    let mut connection = Connection::open(stage.gateway.address)?;
    connection.send(chunked_head().as_bytes()).map_err(|error| error.to_string())?;
    let piece = [format!("{MIB:x}\r\n").as_bytes(), &vec![b' '; MIB], b"\r\n"].concat();
    let (mut sent, mut growth) = (0, 0);
    while sent < 33 && connection.send(&piece).is_ok() {
        sent += 1;
        growth = growth.max(stage.growth());
    }
    let in_chunks = connection.answer_within(Duration::from_secs(5))?;
    ensure(in_chunks.status == 413, || format!("chunked: {}", in_chunks.status))?;
    ensure(stage.first.seen().is_empty(), || "it got upstream".to_owned())?;
    ensure(growth <= 34 * MIB as u64, || format!("memory grew by {}", mib(growth)))?;
    Ok(format!("413 before the body, 413 after {sent} MiB of chunks; memory grew by {}", mib(growth)))
}

/// A chat that is this long.
fn chat_of(length: usize) -> Vec<u8> {
    let (before, after) = (r#"{"model":"first","messages":[{"role":"user","content":""#, r#""}]}"#);
    let mut body = Vec::with_capacity(length);
    body.extend_from_slice(before.as_bytes());
    body.resize(length - after.len(), b'a');
    body.extend_from_slice(after.as_bytes());
    body
}

fn many_bodies(stage: &mut Stage<'_>) -> Outcome {
    let body = Arc::new(chat_of(32 * MIB));
    let address = stage.gateway.address;
    let ask = |body: Arc<Vec<u8>>| {
        move || -> Result<(u16, bool), String> {
            let mut connection = Connection::open(address)?;
            connection.send(chat_head(body.len()).as_bytes()).ok();
            connection.send(&body).ok();
            let answer = connection.answer_within(Duration::from_secs(60))?;
            Ok((answer.status, answer.header("retry-after").is_some()))
        }
    };
    let threads: Vec<_> = (0..40).map(|_| std::thread::spawn(ask(Arc::clone(&body)))).collect();
    let (mut served, mut shed, mut wrong) = (0, 0, Vec::new());
    for thread in threads {
        match thread.join().map_err(|_| "a client failed".to_owned())? {
            Ok((200, _)) => served += 1,
            Ok((503, true)) => shed += 1,
            Ok((status, retry)) => wrong.push(format!("{status} with Retry-After: {retry}")),
            Err(error) => wrong.push(error),
        }
    }
    let seen = format!("{served} served, {shed} told to come again; memory now {}", mib(stage.gateway.memory()));
    ensure(stage.gateway.has_ended().is_none(), || format!("the gateway ended; {seen}"))?;
    ensure(wrong.is_empty(), || format!("{} others, first {}; {seen}", wrong.len(), wrong[0]))?;
    ensure(served > 0, || format!("none was served; {seen}"))?;
    ensure(shed > 0 || !stage.gateway.is_memory_limited(), || format!("none was shed; {seen}"))?;
    Ok(seen)
}

fn compressed(stage: &mut Stage<'_>) -> Outcome {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        10 * MIB
    );
    let mut connection = Connection::open(stage.gateway.address)?;
    let cpu = stage.gateway.cpu();
    connection.send(head.as_bytes()).map_err(|error| error.to_string())?;
    connection.send(&vec![0; 64 << 10]).ok();
    let answer = connection.answer()?;
    let cpu = (stage.gateway.cpu() - cpu) * 1e3;
    ensure(answer.status == 415, || format!("{} instead of 415", answer.status))?;
    ensure(cpu < 10.0 || !stage.limits.is_strict, || format!("{cpu:.1} ms of CPU"))?;
    Ok(format!("415 for {cpu:.1} ms of CPU"))
}

fn json(stage: &mut Stage<'_>) -> Outcome {
    let start = r#"{"model":"first","messages":"#;
    let keys: String = (0..200_000).map(|number| format!("\"k{number}\":0,")).collect();
    let mut seen = Vec::new();
    for (name, body, allowed) in [
        ("depth 100 000", format!("{start}{}{}}}", "[".repeat(100_000), "]".repeat(100_000)), [400, 400]),
        ("objects 100 000 deep", format!("{start}{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000)), [400, 400]),
        ("1 MiB of [", "[".repeat(MIB), [400, 400]),
        // Nothing is wrong with these but their number; a provider may have them.
        ("200 000 keys", format!("{{{keys}\"model\":\"first\"}}"), [400, 200]),
    ] {
        let request = (chat_head(body.len()) + &body).into_bytes();
        let mut connection = Connection::open(stage.gateway.address)?;
        let began = Instant::now();
        connection.send(&request).ok();
        let answer = connection.answer().map_err(|error| format!("{name}: {error}"))?;
        let took = began.elapsed();
        ensure(allowed.contains(&answer.status), || format!("{name}: {}", answer.status))?;
        let most = Duration::from_millis(if stage.limits.is_strict { 50 } else { 2_000 });
        ensure(took <= most, || format!("{name}: {took:.1?}"))?;
        seen.push(format!("{name}: {} in {took:.1?}", answer.status));
    }
    Ok(seen.join(", "))
}

/// What the kernels on both sides may hold of what nobody reads.
const KERNEL: usize = 448 << 10;

fn unauthenticated(stage: &mut Stage<'_>) -> Outcome {
    let count = stage.limits.many(100);
    let mut most = 0;
    for number in 0..2 * count {
        let expects = number % 2 == 0;
        let expect = if expects { "Expect: 100-continue\r\n" } else { "" };
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer tg-wrong-{number}\r\n\
             {expect}Content-Length: {}\r\n\r\n",
            32 * MIB
        );
        // One address may not try as many keys.
        let last = 2 + (number / 40) as u8;
        let socket = connect_with(stage.gateway.address, last, Some(32 << 10)).map_err(|error| error.to_string())?;
        let mut connection = Connection::over(socket);
        connection.send(head.as_bytes()).map_err(|error| error.to_string())?;
        let mut sent = 0;
        if !expects {
            connection.socket.set_write_timeout(Some(Duration::from_millis(200))).map_err(|error| error.to_string())?;
            let piece = vec![b' '; 16 << 10];
            while sent < 32 * MIB
                && let Ok(some) = connection.socket.write(&piece)
            {
                sent += some;
            }
        }
        most = most.max(sent);
        match connection.answer_within(Duration::from_secs(3)) {
            Ok(answer) => {
                ensure(answer.status == 401, || format!("{} instead of 401", answer.status))?;
                ensure(!answer.had_continue, || "100 Continue without a key".to_owned())?;
            }
            // A reset can overtake the answer where the body was being sent.
            Err(error) => ensure(!expects, || format!("with Expect: {error}"))?,
        }
        let allowed = (64 << 10) + KERNEL;
        ensure(sent <= allowed, || format!("{} were taken, kernel buffers included", mib(sent as u64)))?;
    }
    Ok(format!("{} uploads: 401, no 100; at most {} taken, kernel buffers included", 2 * count, mib(most as u64)))
}
