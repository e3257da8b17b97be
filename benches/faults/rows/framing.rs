//! Requests that two parsers could read differently.

use super::plain;
use crate::http1::{Answer, Connection, chat_body};
use crate::process::KEY;
use crate::row::{Outcome, Row, Stage, ensure};

pub(super) fn rows() -> Vec<Row> {
    vec![
        plain(6, true, "Content-Length and Transfer-Encoding at odds", lengths),
        plain(7, true, "variants of Transfer-Encoding", encodings),
        plain(8, false, "folded lines, bare CR, NUL, space before colon", lines),
        plain(9, true, "Host missing, twice, or another's", hosts),
        plain(10, false, "CONNECT, TRACE, lower case, PRI", methods),
        plain(11, false, "chunks that are none", chunks),
    ]
}

/// What a payload is allowed to bring about.
enum May {
    /// A refusal with one of these, the connection closed, nothing upstream.
    Refuse(&'static [u16]),
    /// A refusal, or exactly one request upstream and an answer.
    Serve,
}

/// A request line and the lines in front of `rest`, with everything else as it should be.
fn request(lines: &str, rest: &str) -> Vec<u8> {
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n{lines}\r\n{rest}")
        .into_bytes()
}

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

/// Sends each on a connection of its own and compares answers, closing, and what got upstream.
fn judge(stage: &Stage<'_>, payloads: Vec<(&str, Vec<u8>, May)>) -> Outcome {
    let mut wrong = Vec::new();
    let count = payloads.len();
    for (name, payload, may) in payloads {
        let before = stage.first.seen().len();
        let mut connection = Connection::open(stage.gateway.address)?;
        connection.send(&payload).ok();
        let answer = connection.answer();
        // A second answer is that of a smuggled request.
        let is_closed = connection.is_closed_within(std::time::Duration::from_secs(3));
        let upstream = stage.first.seen().len() - before;
        let status = answer.as_ref().map_or(0, |answer: &Answer| answer.status);
        let is_right = match may {
            May::Refuse(statuses) => {
                // Closing without a word is a refusal, too.
                (statuses.contains(&status) || answer.is_err()) && is_closed && upstream == 0
            }
            May::Serve => (status == 200 && upstream == 1) || ((400..500).contains(&status) && upstream == 0),
        };
        if !is_right {
            let answer = answer.map_or_else(|error| error, |answer| answer.status.to_string());
            wrong.push(format!("{name}: {answer}, closed: {is_closed}, upstream: {upstream}"));
        }
    }
    let smuggled = stage.first.seen().iter().filter(|seen| !is_clean(&seen.head)).count();
    ensure(smuggled == 0, || format!("{smuggled} odd heads upstream"))?;
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    Ok(format!("{count} payloads"))
}

/// One path, one framing, nothing a client wrote by hand.
fn is_clean(head: &str) -> bool {
    let count = |name: &str| head.lines().filter(|line| line.to_ascii_lowercase().starts_with(name)).count();
    head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n")
        && count("content-length:") == 1
        && count("transfer-encoding:") == 0
        && count("host:") == 1
}

fn lengths(stage: &mut Stage<'_>) -> Outcome {
    const NO: May = May::Refuse(&[400, 411, 501]);
    let body = chat_body("first", false, "ab12");
    let length = body.len();
    let smuggled = format!("POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n{}", "");
    let both = format!("0\r\n\r\n{smuggled}");
    let of = |lines: &str, rest: &str| request(lines, rest);
    let payloads = vec![
        ("CL then TE", of(&format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", both.len()), &both), NO),
        ("TE then CL", of(&format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", both.len()), &both), NO),
        ("CL twice, different", of(&format!("Content-Length: {length}\r\nContent-Length: 0\r\n"), &body), NO),
        ("CL twice, same", of(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), &body), May::Serve),
        ("CL list", of(&format!("Content-Length: {length}, {length}\r\n"), &body), May::Serve),
        ("CL signed", of(&format!("Content-Length: +{length}\r\n"), &body), NO),
        ("CL hex", of(&format!("Content-Length: {length:#x}\r\n"), &body), NO),
        ("CL empty", of("Content-Length:\r\n", &body), NO),
        ("CL overflowing", of("Content-Length: 18446744073709551617\r\n", &body), NO),
        ("CL negative", of("Content-Length: -1\r\n", &body), NO),
    ];
    judge(stage, payloads)
}

fn encodings(stage: &mut Stage<'_>) -> Outcome {
    const NO: May = May::Refuse(&[400, 501]);
    let rest = chunked(&chat_body("first", false, "ab12"));
    let of = |line: &str| request(&format!("{line}\r\n"), &rest);
    let payloads = vec![
        ("exactly one chunked", of("Transfer-Encoding: chunked"), May::Serve),
        ("gzip, chunked", of("Transfer-Encoding: gzip, chunked"), NO),
        ("identity, chunked", of("Transfer-Encoding: identity, chunked"), NO),
        ("chunked, identity", of("Transfer-Encoding: chunked, identity"), NO),
        ("twice", of("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), NO),
        ("chunked, chunked", of("Transfer-Encoding: chunked, chunked"), NO),
        ("tab before", of("Transfer-Encoding:\tchunked"), May::Serve),
        ("vertical tab", of("Transfer-Encoding: \x0bchunked"), NO),
        ("xchunked", of("Transfer-Encoding: xchunked"), NO),
        ("space before colon", of("Transfer-Encoding : chunked"), NO),
    ];
    let seen = judge(stage, payloads)?;
    let answer = stage.ask(&of("Transfer-Encoding: chunked"))?;
    ensure(answer.status == 200, || format!("one chunked: {}", answer.status))?;
    Ok(seen)
}

fn lines(stage: &mut Stage<'_>) -> Outcome {
    const NO: May = May::Refuse(&[400]);
    let body = chat_body("first", false, "ab12");
    let length = format!("Content-Length: {}\r\n", body.len());
    let of = |line: &str| request(&format!("{length}{line}\r\n"), &body);
    judge(
        stage,
        vec![
            ("folded", of("X-A: one\r\n two"), NO),
            ("folded with a tab", of("X-A: one\r\n\ttwo"), NO),
            ("folded first", of(" X-A: one"), NO),
            ("bare CR in a value", of("X-A: one\rtwo"), NO),
            ("NUL in a value", of("X-A: one\0two"), NO),
            ("NUL in a name", of("X\0A: one"), NO),
            ("space before colon", of("X-A : one"), NO),
            ("no name", of(": one"), NO),
            ("no colon", of("X-A"), NO),
        ],
    )
}

fn hosts(stage: &mut Stage<'_>) -> Outcome {
    const NO: May = May::Refuse(&[400]);
    let body = chat_body("first", false, "ab12");
    let of = |target: &str, hosts: &str| {
        format!(
            "POST {target} HTTP/1.1\r\n{hosts}Authorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let path = "/v1/chat/completions";
    judge(
        stage,
        vec![
            ("none", of(path, ""), NO),
            ("two", of(path, "Host: gateway\r\nHost: other\r\n"), NO),
            ("two equal", of(path, "Host: gateway\r\nHost: gateway\r\n"), NO),
            ("empty list", of(path, "Host: a, b\r\n"), NO),
            ("with a path", of(path, "Host: gateway/evil\r\n"), NO),
            ("with a user", of(path, "Host: user@gateway\r\n"), NO),
            ("two words", of(path, "Host: gate way\r\n"), NO),
            ("absolute form", of("http://169.254.169.254/v1/chat/completions", "Host: gateway\r\n"), NO),
            ("absolute form, same host", of("http://gateway/v1/chat/completions", "Host: gateway\r\n"), NO),
            ("authority form", of("169.254.169.254:80", "Host: gateway\r\n"), NO),
        ],
    )
}

fn methods(stage: &mut Stage<'_>) -> Outcome {
    const NO: May = May::Refuse(&[400, 404, 405, 501]);
    let of = |line: &str| format!("{line}\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n\r\n").into_bytes();
    let payloads = vec![
        ("CONNECT", of("CONNECT 169.254.169.254:80 HTTP/1.1"), NO),
        ("CONNECT with a path", of("CONNECT /v1/chat/completions HTTP/1.1"), NO),
        ("TRACE", of("TRACE /v1/chat/completions HTTP/1.1"), NO),
        ("lower case", of("post /v1/chat/completions HTTP/1.1"), NO),
        ("PRI", b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n".to_vec(), NO),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), NO),
    ];
    let mut wrong = Vec::new();
    for (name, payload, _) in &payloads {
        if let Ok(answer) = stage.ask(payload)
            && !matches!(answer.status, 400 | 405)
        {
            wrong.push(format!("{name}: {}", answer.status));
        }
    }
    ensure(wrong.is_empty(), || wrong.join("; "))?;
    ensure(stage.first.seen().is_empty(), || "something got upstream".to_owned())?;
    Ok(format!("{} requests", payloads.len()))
}

fn chunks(stage: &mut Stage<'_>) -> Outcome {
    const NO: May = May::Refuse(&[400, 413, 431]);
    let body = chat_body("first", false, "ab12");
    let size = format!("{:x}", body.len());
    let of = |rest: &str| request("Transfer-Encoding: chunked\r\n", rest);
    let extension = "x".repeat(20 << 10);
    judge(
        stage,
        vec![
            ("size overflowing", of(&format!("fffffffffffffffff\r\n{body}\r\n0\r\n\r\n")), NO),
            ("largest size", of(&format!("ffffffffffffffff\r\n{body}\r\n0\r\n\r\n")), NO),
            ("0x", of(&format!("0x{size}\r\n{body}\r\n0\r\n\r\n")), NO),
            ("signed", of(&format!("+{size}\r\n{body}\r\n0\r\n\r\n")), NO),
            ("space before", of(&format!(" {size}\r\n{body}\r\n0\r\n\r\n")), NO),
            ("long extension", of(&format!("{size};{extension}\r\n{body}\r\n0\r\n\r\n")), NO),
            ("no CRLF after data", of(&format!("{size}\r\n{body}0\r\n\r\n")), NO),
            ("bare LF after size", of(&format!("{size}\n{body}\r\n0\r\n\r\n")), NO),
            ("no size", of(&format!("\r\n{body}\r\n0\r\n\r\n")), NO),
        ],
    )
}
