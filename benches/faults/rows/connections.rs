//! Clients that hold connections without giving or taking anything.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{plain, tls};
use crate::http1::{chat, chat_head, connect_from, connect_with, watch};
use crate::process::KEY;
use crate::row::{Beside, Outcome, PLAIN, Row, Setup, Stage, ensure, mib};
use crate::wall::End;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn rows() -> Vec<Row> {
    let tls = Setup {
        server: "tls = { cert = \"tls.crt\", key = \"tls.key\" }",
        before: "",
        // It speaks no TLS; a handshake of the row's own takes its place.
        canary: Beside::Nothing,
        ..PLAIN
    };
    vec![
        plain(1, true, "connections that send nothing", silent),
        plain(2, false, "heads at one byte a second", slow_heads),
        plain(3, false, "bodies at ten bytes a second", slow_bodies),
        Row { number: 4, is_star: true, title: "clients that do not read", setup: PLAIN, run: slow_readers },
        Row { number: 5, is_star: false, title: "TLS handshakes that stall", setup: tls, run: stalled_handshakes },
    ]
}

/// From four addresses in turn.
fn crowd(stage: &Stage<'_>, count: usize) -> Result<Vec<TcpStream>, String> {
    let connect = |number| connect_from(stage.gateway.address, 2 + (number % 4) as u8);
    (0..count).map(connect).collect::<Result<_, _>>().map_err(|error| format!("no connection: {error}"))
}

/// Says how long they stayed open, or that one did so for too long.
fn judge(closed: &[Option<Duration>], most: Duration, least: Duration) -> Outcome {
    let open = closed.iter().filter(|closed| closed.is_none_or(|after| after > most)).count();
    let last = closed.iter().flatten().max().copied().unwrap_or_default();
    let early = closed.iter().flatten().filter(|after| **after < least).count();
    let seen = format!("{} connections, last closed after {last:.1?}, {early} at once as one too many", closed.len());
    ensure(open == 0, || format!("{open} still open after {most:?}; {seen}"))?;
    // Some may be one too many; if all are, nothing is known about the limit of time.
    ensure(early < closed.len(), || format!("none was let in; {seen}"))?;
    Ok(seen)
}

fn silent(stage: &mut Stage<'_>) -> Outcome {
    let start = Instant::now();
    let mut sockets = crowd(stage, stage.limits.many(1000))?;
    let limit = stage.limits.first_byte;
    // Those that connected last are the last to go.
    let most = limit + SECOND + start.elapsed();
    let closed = watch(&mut sockets, start, most + 2 * SECOND, |_, _| ());
    judge(&closed, most, limit.saturating_sub(SECOND))
}

fn slow_heads(stage: &mut Stage<'_>) -> Outcome {
    let head: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer x\r\n";
    let mut sockets = crowd(stage, stage.limits.many(1000))?;
    let mut sent = vec![0; sockets.len()];
    let start = Instant::now();
    let limit = stage.limits.head;
    let closed = watch(&mut sockets, start, limit + 4 * SECOND, |socket, number| {
        let due = start.elapsed().as_secs() as usize + 1;
        if sent[number] < due.min(head.len()) {
            // A connection that is closed by now is found so by the look that follows.
            socket.write_all(&head[sent[number]..=sent[number]]).ok();
            sent[number] += 1;
        }
    });
    judge(&closed, limit + SECOND, limit.saturating_sub(SECOND))
}

fn slow_bodies(stage: &mut Stage<'_>) -> Outcome {
    let count = stage.limits.many(200);
    let mut sockets = crowd(stage, count)?;
    for socket in &mut sockets {
        socket.write_all(chat_head(10 << 20).as_bytes()).map_err(|error| error.to_string())?;
    }
    let start = Instant::now();
    let mut sent = vec![0; count];
    let mut growth = 0;
    // The average counts after 30 s, whatever else is configured.
    let most = Duration::from_secs(45);
    let closed = watch(&mut sockets, start, most + SECOND, |socket, number| {
        let due = start.elapsed().as_secs() as usize;
        if sent[number] < due {
            socket.write_all(b"          ").ok();
            sent[number] += 1;
        }
        if number == 0 {
            growth = growth.max(stage.growth());
        }
    });
    let seen = judge(&closed, most, SECOND)?;
    let allowed = count as u64 * (64 << 10) + (4 << 20);
    ensure(growth <= allowed, || format!("memory grew by {} ({} are allowed)", mib(growth), mib(allowed)))?;
    Ok(format!("{seen}; memory grew by {}", mib(growth)))
}

fn slow_readers(stage: &mut Stage<'_>) -> Outcome {
    static IS_STUCK: AtomicBool = AtomicBool::new(false);
    static SENT: AtomicU64 = AtomicU64::new(0);
    const ANSWER: usize = 8 << 20;
    IS_STUCK.store(false, Relaxed);
    SENT.store(0, Relaxed);
    stage.first.plan(|_, socket| {
        socket2::SockRef::from(&*socket).set_send_buffer_size(64 << 10)?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {ANSWER}\r\n\r\n");
        socket.write_all(head.as_bytes())?;
        let piece = vec![b' '; 16 << 10];
        for _ in 0..ANSWER / piece.len() {
            let began = Instant::now();
            socket.write_all(&piece)?;
            SENT.fetch_add(piece.len() as u64, Relaxed);
            if began.elapsed() > Duration::from_millis(500) {
                IS_STUCK.store(true, Relaxed);
            }
        }
        Ok(End::Keep)
    });
    let before = stage.gateway.descriptors();
    let mut sockets = Vec::new();
    let count = stage.limits.many(200);
    let began = Instant::now();
    for _ in 0..count {
        let mut socket = connect_with(stage.gateway.address, 2, Some(16 << 10))
            .map_err(|error| format!("no connection: {error}"))?;
        socket.write_all(&chat("first", false, "ab12")).map_err(|error| error.to_string())?;
        sockets.push(socket);
    }
    let setup = began.elapsed();
    let most = stage.limits.write + 2 * SECOND + setup;
    let (mut growth, mut peak, mut open) = (0, 0, usize::MAX);
    // The canary may have two.
    while began.elapsed() < most && (peak < count || open > before + 4) {
        sleep(Duration::from_millis(50));
        open = stage.gateway.descriptors();
        peak = peak.max(open.saturating_sub(before));
        growth = growth.max(stage.growth());
    }
    let took = began.elapsed();
    let sent = SENT.load(Relaxed);
    let seen = format!(
        "{count} closed after {took:.1?}; memory grew by {}; the wall got rid of {} of {}",
        mib(growth),
        mib(sent),
        mib((count * ANSWER) as u64)
    );
    ensure(open <= before + 4, || {
        format!("{} of them still held after {took:.1?}; {seen}", open.saturating_sub(before))
    })?;
    ensure(peak >= count, || format!("only {peak} were ever open at once; {seen}"))?;
    let allowed = count as u64 * (256 << 10);
    ensure(growth <= allowed, || format!("{} were allowed; {seen}", mib(allowed)))?;
    ensure(sent < (count * ANSWER / 2) as u64, || format!("the provider was not held back; {seen}"))?;
    drop(sockets);
    Ok(seen)
}

fn stalled_handshakes(stage: &mut Stage<'_>) -> Outcome {
    let mut sockets = crowd(stage, stage.limits.many(500))?;
    let start = Instant::now();
    // The beginning of a record with a ClientHello of 512 bytes, of which 60 come.
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend(KEY.bytes().cycle().take(54));
    for socket in &mut sockets {
        socket.write_all(&hello).ok();
    }
    let began = Instant::now();
    let is_served = tls::chat(stage)?;
    ensure(is_served.status == 200, || format!("beside them: {}", is_served.status))?;
    let took = began.elapsed();
    let limit = stage.limits.handshake;
    let closed = watch(&mut sockets, start, limit + 3 * SECOND, |_, _| ());
    let seen = judge(&closed, limit + SECOND, limit.saturating_sub(SECOND))?;
    let after = tls::chat(stage)?;
    ensure(after.status == 200, || format!("after: {}", after.status))?;
    Ok(format!("{seen}; a chat over TLS beside them in {took:.1?}"))
}
