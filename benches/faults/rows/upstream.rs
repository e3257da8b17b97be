//! Providers that fail, and clients that leave them.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::plain;
use crate::http1::{Connection, chat};
use crate::row::{Outcome, Row, Stage, ensure};
use crate::wall::{self, End, Wall};

/// Attempts that a request may make.
const ATTEMPTS_MAX: usize = 3;

pub(super) fn rows() -> Vec<Row> {
    vec![
        plain(29, true, "a provider that resets before its head", reset_first),
        plain(30, true, "a stream cut after 40 of 60 tokens", cut),
        plain(31, true, "a stream that begins with an error", error_first),
        plain(32, false, "a stream that stalls", stall),
        plain(33, false, "429, with Retry-After, without, for ever", rate_limited),
        plain(34, false, "a line of 50 MiB; a head of 1 MiB", giants),
        plain(35, false, "answers with a wrong Content-Length", wrong_lengths),
        plain(36, true, "clients that leave, at four moments", leaving),
        plain(37, false, "all providers down", all_down),
    ]
}

fn reset_first(stage: &mut Stage<'_>) -> Outcome {
    stage.first.plan(|_, _| Ok(End::Reset));
    for number in 0..6 {
        let answer = stage.chat("pair", number % 2 == 1)?;
        ensure(answer.status == 200 && answer.is_whole, || format!("{} {}", answer.status, answer.text()))?;
        ensure(answer.text().contains("ab12"), || format!("not the answer: {}", answer.text()))?;
    }
    // A connection that turned out closed may be tried afresh once.
    let tries = stage.first.seen().len() + stage.second.seen().len();
    ensure(stage.second.seen().len() == 6, || format!("{} at the fallback", stage.second.seen().len()))?;
    ensure(tries <= 6 * ATTEMPTS_MAX, || format!("{tries} attempts for 6 requests"))?;
    Ok(format!("6 answers from the fallback in {tries} attempts"))
}

fn cut(stage: &mut Stage<'_>) -> Outcome {
    let mut seen = Vec::new();
    for is_reset in [false, true] {
        stage.first.plan(move |seen, socket| {
            wall::stream_head(socket)?;
            for _ in 0..40 {
                wall::event(socket, &wall::delta(&wall::words(seen)))?;
            }
            sleep(Duration::from_millis(50));
            Ok(if is_reset { End::Reset } else { End::Close })
        });
        let failed = stage.metric("tollgate_", "error_type=\"")?;
        let answer = stage.chat("pair", true)?;
        let text = answer.text();
        let name = if is_reset { "reset" } else { "end" };
        let count = text.matches("ab12").count();
        ensure(count == 40, || format!("{name}: {count} of 40 tokens"))?;
        ensure(text.contains("\"error\""), || format!("{name}: no error event"))?;
        ensure(!text.contains("[DONE]"), || format!("{name}: [DONE] after a break"))?;
        ensure(!answer.is_whole, || format!("{name}: ended as if it were complete"))?;
        let now = stage.metric("tollgate_", "error_type=\"")?;
        ensure(now > failed, || format!("{name}: not counted"))?;
        seen.push(name);
    }
    Ok(format!("by {}: 40 tokens, an error event, an abnormal end, counted (HTTP/1.1 upstream)", seen.join(" and ")))
}

fn error_first(stage: &mut Stage<'_>) -> Outcome {
    for is_later in [false, true] {
        stage.first.plan(move |_, socket| {
            wall::stream_head(socket)?;
            if is_later {
                wall::event(socket, r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#)?;
            }
            wall::event(socket, r#"{"error":{"message":"overloaded","type":"server_error","code":503}}"#)?;
            socket.write_all(b"0\r\n\r\n")?;
            Ok(End::Keep)
        });
        let answer = stage.chat("pair", true)?;
        let text = answer.text();
        let name = if is_later { "after a role" } else { "at once" };
        let is_fallback = text.matches("ab12").count() == 5 && text.contains("[DONE]") && !text.contains("overloaded");
        ensure(answer.status == 200 && is_fallback && answer.is_whole, || {
            format!("{name}: {} {text:?}", answer.status)
        })?;
    }
    Ok("only the fallback's answers".to_owned())
}

fn stall(stage: &mut Stage<'_>) -> Outcome {
    stage.first.plan(|seen, socket| {
        wall::stream_head(socket)?;
        wall::event(socket, &wall::delta(&wall::words(seen)))?;
        wall::wait_for_close(socket, Duration::from_secs(20));
        Ok(End::Close)
    });
    let began = Instant::now();
    let answer = stage.chat("first", true)?;
    let took = began.elapsed();
    ensure(!answer.is_whole && !answer.text().contains("[DONE]"), || format!("ended well: {}", answer.text()))?;
    // The provider's idle_timeout is 3 s here.
    ensure(took <= Duration::from_secs(4), || format!("after {took:.1?}"))?;
    Ok(format!("ended after {took:.1?} of an idle_timeout of 3 s"))
}

fn rate_limited(stage: &mut Stage<'_>) -> Outcome {
    static LEFT: AtomicUsize = AtomicUsize::new(0);
    for (name, header) in [("with Retry-After", "Retry-After: 2\r\n"), ("without", "")] {
        LEFT.store(1, Relaxed);
        stage.first.plan(move |seen, socket| {
            if LEFT.swap(0, Relaxed) == 1 {
                wall::json(socket, 429, header, r#"{"error":{"message":"slow down"}}"#)?;
                return Ok(End::Keep);
            }
            wall::answer(seen, socket)
        });
        let answer = stage.chat("pair", false)?;
        ensure(answer.status == 200, || format!("{name}: {}", answer.status))?;
    }
    let mut seen = Vec::new();
    for (name, header) in [("with Retry-After", "Retry-After: 2\r\n"), ("without", "")] {
        for wall in [&stage.first, &stage.second] {
            wall.reset();
            wall.plan(move |_, socket| {
                wall::json(socket, 429, header, r#"{"error":{"message":"slow down"}}"#)?;
                Ok(End::Keep)
            });
        }
        let (began, mut asked, mut untold) = (Instant::now(), 0, 0);
        while began.elapsed() < Duration::from_secs(3) {
            let answer = stage.chat("pair", false)?;
            asked += 1;
            ensure(answer.status == 429, || format!("for ever, {name}: {}", answer.status))?;
            untold += usize::from(answer.header("retry-after").is_none());
            sleep(Duration::from_millis(20));
        }
        let tries = [&stage.first, &stage.second].map(|wall| wall.seen().len());
        // Those answers of the provider itself have none.
        let own = if header.is_empty() { tries[0] + tries[1] } else { 0 };
        ensure(untold <= own, || format!("for ever, {name}: {untold} answers without Retry-After, {own} are its own"))?;
        // Two a second, and one more each time that one finds out.
        let most = 6 + (3_000 / stage.limits.cooldown_max.as_millis()) as usize;
        ensure(tries.iter().all(|tries| *tries <= most), || format!("for ever, {name}: {tries:?} attempts in 3 s"))?;
        seen.push(format!("{name}: {asked} requests in 3 s, {} and {} attempts", tries[0], tries[1]));
        // What is left of the cooldowns.
        for wall in [&stage.first, &stage.second] {
            wall.plan(wall::answer);
        }
        sleep(stage.limits.cooldown_max);
        ensure(stage.chat("pair", false)?.status == 200, || format!("not well after {name}"))?;
    }
    Ok(format!("failed over; for ever, {}", seen.join("; ")))
}

/// The most resident memory of a process while `work` is done, and what came of it.
fn most_memory<T>(process: u32, work: impl FnOnce() -> T) -> Result<(u64, T), String> {
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let status = format!("/proc/{process}/status");
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut peak = 0;
            while !is_done.load(Relaxed) {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line =
                    text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
                peak = peak.max(line.unwrap_or(0_u64) * 1024);
                sleep(Duration::from_millis(2));
            }
            peak
        });
        let done = work();
        is_done.store(true, Relaxed);
        Ok((sampler.join().map_err(|_| "the sampler failed".to_owned())?, done))
    })
}

fn giants(stage: &mut Stage<'_>) -> Outcome {
    const LINE: usize = 50 << 20;
    stage.first.plan(|seen, socket| {
        if !seen.is_stream() {
            socket.write_all(format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n", "a".repeat(1 << 20)).as_bytes())?;
            wall::json(socket, 200, "", "{}")?;
            return Ok(End::Close);
        }
        wall::stream_head(socket)?;
        socket.write_all(format!("{:x}\r\ndata: ", LINE + 8).as_bytes())?;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..LINE / piece.len() {
            socket.write_all(&piece)?;
        }
        socket.write_all(b"\n\n\r\n")?;
        wall::finish(socket)?;
        Ok(End::Keep)
    });
    let process = stage.gateway.id();
    // The canary's requests alone move it by as much as is allowed now and then: what they need is no growth.
    let (memory, ()) = most_memory(process, || sleep(Duration::from_secs(2)))?;
    let (peak, answer) = most_memory(process, || stage.chat("first", true))?;
    let answer = answer?;
    let growth = peak.saturating_sub(memory);
    let length = answer.body.iter().skip("data: ".len()).take_while(|byte| **byte == b'x').count();
    ensure(answer.status == 200 && answer.is_whole && length == LINE, || format!("{}: {length} bytes", answer.status))?;
    ensure(growth <= 256 << 10 || !stage.limits.is_strict, || format!("memory grew by {} KiB", growth >> 10))?;
    let head = stage.chat("first", false)?;
    ensure(head.status == 502, || format!("for a head of 1 MiB: {}", head.status))?;
    Ok(format!("50 MiB passed, memory grew by {} KiB; 502", growth >> 10))
}

fn wrong_lengths(stage: &mut Stage<'_>) -> Outcome {
    let body = wall::chat("ab12");
    let mut seen = Vec::new();
    let length = body.len();
    for (name, head, extra) in [
        ("too long", format!("Content-Length: {}\r\n", length + 10), ""),
        ("too short", format!("Content-Length: {length}\r\n"), "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        ("with chunked", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), ""),
        ("twice", format!("Content-Length: {length}\r\nContent-Length: 1\r\n"), ""),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n{body}{extra}");
        stage.first.reset();
        stage.first.plan(move |request, socket| {
            if request.number > 0 {
                return wall::answer(request, socket);
            }
            socket.write_all(answer.as_bytes())?;
            if extra.is_empty() {
                socket.shutdown(Shutdown::Write)?;
                wall::wait_for_close(socket, Duration::from_secs(2));
                return Ok(End::Close);
            }
            Ok(End::Keep)
        });
        let answer = stage.chat("first", false)?;
        let is_right =
            answer.status == 502 || (answer.status == 200 && answer.body == body.as_bytes() && !extra.is_empty());
        let is_broken = answer.status == 200 && !answer.is_whole;
        ensure(is_right || is_broken, || format!("{name}: {} {:?}", answer.status, answer.text()))?;
        seen.push(format!("{name}: {}{}", answer.status, if is_broken { " and a break" } else { "" }));
        let next = stage.ask(&chat("first", false, "cd34"))?;
        ensure(next.text().contains("cd34"), || format!("after {name}: {}", next.text()))?;
        let requests = stage.first.seen();
        let connections: Vec<usize> = requests.iter().map(|seen| seen.connection).collect();
        let is_reused = connections.len() != 2 || connections[0] == connections[1];
        ensure(!is_reused, || format!("{name}: the connection was used again: {connections:?}"))?;
    }
    Ok(seen.join(", "))
}

/// When the wall sees the connection close.
fn close_seen(wall: &Wall) -> Option<Instant> {
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        if let Some(at) = wall.closed().first() {
            return Some(*at);
        }
        sleep(Duration::from_millis(5));
    }
    None
}

fn leaving(stage: &mut Stage<'_>) -> Outcome {
    let mut seen = Vec::new();
    for (name, is_stream, events) in [
        ("before the head", true, None),
        ("before the first token", true, Some(0)),
        ("in the stream", true, Some(5)),
        ("without a stream", false, None),
    ] {
        stage.first.reset();
        let wall = stage.first.clone();
        stage.first.plan(move |seen: &wall::Seen, socket: &mut TcpStream| {
            if let Some(events) = events {
                wall::stream_head(socket)?;
                for _ in 0..events {
                    wall::event(socket, &wall::delta(&wall::words(seen)))?;
                }
            }
            if wall::wait_for_close(socket, Duration::from_secs(5)) {
                wall.note_closed();
            }
            Ok(End::Close)
        });
        let cancelled = stage.metric("tollgate_", "outcome=\"cancelled\"")?;
        let mut connection = Connection::open(stage.gateway.address)?;
        connection.send(&chat("first", is_stream, "ab12")).map_err(|error| error.to_string())?;
        let end = Instant::now() + Duration::from_secs(3);
        while stage.first.seen().is_empty() && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(100));
        drop(connection);
        let left = Instant::now();
        let closed = close_seen(&stage.first).ok_or_else(|| format!("{name}: the provider's connection stays open"))?;
        let took = closed.saturating_duration_since(left);
        ensure(took <= Duration::from_secs(1), || format!("{name}: closed after {took:.1?}"))?;
        let now = stage.metric("tollgate_", "outcome=\"cancelled\"")?;
        ensure(now > cancelled, || format!("{name}: not counted as cancelled"))?;
        seen.push(format!("{name}: {took:.1?}"));
    }
    Ok(seen.join(", "))
}

fn all_down(stage: &mut Stage<'_>) -> Outcome {
    let time = Duration::from_secs(if stage.limits.is_strict { 60 } else { 2 });
    let (began, cpu) = (Instant::now(), stage.gateway.cpu());
    let mut connection = Connection::open(stage.gateway.address)?;
    let (mut asked, mut tried, mut slowest, mut odd) = (0, 0, Duration::ZERO, Vec::new());
    while began.elapsed() < time {
        sleep((began + Duration::from_millis(5) * asked).saturating_duration_since(Instant::now()));
        let start = Instant::now();
        if connection.send(&chat("nobody", false, "ab12")).is_err() {
            connection = Connection::open(stage.gateway.address)?;
            continue;
        }
        let answer = connection.answer()?;
        slowest = slowest.max(start.elapsed());
        match answer.status {
            502 => tried += 1,
            503 if answer.header("retry-after").is_some() => {}
            status => odd.push(status),
        }
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            connection = Connection::open(stage.gateway.address)?;
        }
        asked += 1;
    }
    let share = (stage.gateway.cpu() - cpu) / began.elapsed().as_secs_f64() * 100.0;
    let seen = format!(
        "{asked} requests in {time:?}, {tried} of them tried and 502, the others 503 with Retry-After, the slowest took \
         {slowest:.1?}; {share:.0} % of CPU"
    );
    ensure(odd.is_empty(), || format!("{odd:?}; {seen}"))?;
    // Five in a row, then one after 5 s and one each 15 s, for each of the two.
    let probes = time.as_millis() / stage.limits.cooldown_max.as_millis() + 1;
    ensure(tried <= 5 + 2 * probes, || seen.clone())?;
    ensure(slowest <= Duration::from_millis(50) || !stage.limits.is_strict, || seen.clone())?;
    ensure(share < 30.0 || !stage.limits.is_strict, || seen.clone())?;
    Ok(format!("{seen}; {}", well_again(stage)?))
}

/// Two providers that reset every connection, until they do not.
fn well_again(stage: &mut Stage<'_>) -> Outcome {
    for wall in [&stage.first, &stage.second] {
        wall.plan(|_, _| Ok(End::Reset));
    }
    let end = Instant::now() + Duration::from_secs(8);
    while stage.chat("pair", false)?.status != 503 {
        ensure(Instant::now() < end, || "who resets every connection is not left out".to_owned())?;
    }
    // Until after the first look, so that the next one is as far away as it may be.
    sleep(stage.limits.cooldown + Duration::from_millis(100));
    ensure(stage.chat("pair", false)?.status == 502, || "nobody looked again".to_owned())?;
    for wall in [&stage.first, &stage.second] {
        wall.plan(wall::answer);
    }
    let began = Instant::now();
    while stage.chat("pair", false)?.status != 200 {
        let most = stage.limits.cooldown_max + Duration::from_millis(500);
        ensure(began.elapsed() < most, || format!("not well again after {most:?}"))?;
        sleep(Duration::from_millis(50));
    }
    Ok(format!("well again after {:.1?}", began.elapsed()))
}
