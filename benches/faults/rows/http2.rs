//! HTTP/2 as frames: what no well-behaved client sends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::http1::connect_from;
use crate::process::KEY;
use crate::row::{Outcome, PLAIN, Row, Setup, Stage, ensure, mib};
use crate::wall::End;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) fn rows() -> Vec<Row> {
    let setup = Setup { server: "h2c = true", ..PLAIN };
    let row = |number, is_star, title, run| Row { number, is_star, title, setup, run };
    vec![
        row(25, true, "HTTP/2 rapid reset, 10 000 streams", rapid_reset),
        row(26, true, "HTTP/2 bomb, 50 connections", bomb),
        row(27, false, "CONTINUATION without end", continuation_flood),
        row(28, false, "idle HTTP/2 connections that answer PINGs", idle),
        row(45, false, "HTTP/2 floods of frames that ask for nothing", floods),
    ]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field with both name and value in full, not to be remembered.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        // Lengths from 127 on take further bytes.
        if text.len() < 127 {
            field.push(text.len() as u8);
        } else {
            field.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                field.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            field.push(rest as u8);
        }
        field.extend(text.bytes());
    }
    field
}

fn request_fields(length: usize) -> Vec<u8> {
    let mut fields = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/chat/completions"),
        (":authority", "gateway"),
        ("authorization", &format!("Bearer {KEY}")),
        ("content-type", "application/json"),
        ("content-length", &length.to_string()),
    ] {
        fields.extend(literal(name, value));
    }
    fields
}

/// Kind, flags, stream, payload.
type Frame = (u8, u8, u32, Vec<u8>);

struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(stage: &Stage<'_>, last: u8, settings: &[u8]) -> Result<Self, String> {
        let socket = connect_from(stage.gateway.address, last).map_err(|error| format!("no connection: {error}"))?;
        let mut connection = Self { socket, buffer: Vec::new() };
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, settings), &frame(SETTINGS, ACK, 0, &[])].concat();
        connection.send(&hello).map_err(|error| error.to_string())?;
        Ok(connection)
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next frame; `None` when the connection is at its end.
    fn next(&mut self, patience: Duration) -> Result<Option<Frame>, String> {
        loop {
            if let Some(&[a, b, c, kind, flags, s1, s2, s3, s4]) = self.buffer.first_chunk::<9>() {
                let end = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
                if self.buffer.len() >= end {
                    let payload = self.buffer[9..end].to_vec();
                    self.buffer.drain(..end);
                    return Ok(Some((kind, flags, u32::from_be_bytes([s1, s2, s3, s4]), payload)));
                }
            }
            self.socket
                .set_read_timeout(Some(patience.max(Duration::from_millis(1))))
                .map_err(|error| error.to_string())?;
            let mut piece = [0; 16 << 10];
            match self.socket.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(read) => self.buffer.extend_from_slice(&piece[..read]),
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    return Err("nothing came".to_owned());
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// The error code of a GOAWAY, or that the connection just ended; an error when neither comes in time.
    fn end(&mut self, patience: Duration) -> Outcome {
        let end = Instant::now() + patience;
        loop {
            match self.next(end.saturating_duration_since(Instant::now()))? {
                None => return Ok("the end".to_owned()),
                Some((GOAWAY, _, _, payload)) => {
                    let code = payload.get(7).copied().unwrap_or_default();
                    return Ok(format!("GOAWAY {code}"));
                }
                Some(_) => {}
            }
        }
    }
}

/// One healthy exchange, without which the rows would prove nothing.
fn is_spoken(stage: &Stage<'_>) -> Result<(), String> {
    let body = crate::http1::chat_body("canary", false, "ab12");
    let mut connection = Connection::open(stage, 1, &[])?;
    let frames =
        [frame(HEADERS, END_HEADERS, 1, &request_fields(body.len())), frame(DATA, END_STREAM, 1, body.as_bytes())]
            .concat();
    connection.send(&frames).map_err(|error| error.to_string())?;
    let end = Instant::now() + Duration::from_secs(5);
    let mut data = Vec::new();
    while let Some((kind, flags, stream, payload)) = connection.next(end.saturating_duration_since(Instant::now()))? {
        if kind == DATA {
            data.extend(payload);
        }
        if stream == 1 && flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS) {
            let text = String::from_utf8_lossy(&data).into_owned();
            return ensure(text.contains("ab12"), || format!("over HTTP/2: {text:?}"));
        }
    }
    Err("HTTP/2 is not spoken".to_owned())
}

fn rapid_reset(stage: &mut Stage<'_>) -> Outcome {
    is_spoken(stage)?;
    // Nothing is answered, so whatever gets there stays there until it is taken back.
    stage.first.plan(|_, socket| socket.read(&mut [0]).map(|_| End::Close));
    let began = Instant::now();
    let mut connection = Connection::open(stage, 2, &[])?;
    let mut sent = 0;
    for number in 0..10_000 {
        if connection.send(&[chat(2 * number + 1), reset(2 * number + 1)].concat()).is_err() {
            break;
        }
        sent += 1;
    }
    let end = connection.end(Duration::from_secs(1).saturating_sub(began.elapsed()).max(Duration::from_millis(50)))?;
    let took = began.elapsed();
    let at_once = stage.first.seen().len();
    // Slowly, so that each is asked of the provider before it is taken back, and then as many as may be open.
    let mut connection = Connection::open(stage, 3, &[])?;
    for number in 0..49 {
        send(&mut connection, &chat(2 * number + 1))?;
        await_calls(stage, at_once + number as usize + 1)?;
        send(&mut connection, &reset(2 * number + 1))?;
    }
    for number in 49..113 {
        send(&mut connection, &chat(2 * number + 1))?;
    }
    await_calls(stage, at_once + 64)?;
    std::thread::sleep(Duration::from_millis(200));
    send(&mut connection, &reset(2 * 49 + 1))?;
    let slow_end = connection.end(Duration::from_secs(1))?;
    std::thread::sleep(Duration::from_millis(500));
    let cpu = stage.gateway.cpu();
    std::thread::sleep(Duration::from_secs(1));
    let cpu = stage.gateway.cpu() - cpu;
    let slowly = stage.first.seen().len() - at_once;
    let seen = format!(
        "{end} in {took:.1?} after {sent} streams sent, {at_once} upstream; one by one {slow_end}, {slowly} upstream; \
         {:.0} % of CPU after",
        cpu * 100.0
    );
    ensure(at_once <= 64 && slowly == 64, || seen.clone())?;
    ensure(cpu < 0.2 || !stage.limits.is_strict, || seen.clone())?;
    Ok(seen)
}

/// A stream that asks `first`.
fn chat(stream: u32) -> Vec<u8> {
    let body = crate::http1::chat_body("first", false, "ab12");
    [frame(HEADERS, END_HEADERS, stream, &request_fields(body.len())), frame(DATA, END_STREAM, stream, body.as_bytes())]
        .concat()
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())
}

fn send(connection: &mut Connection, bytes: &[u8]) -> Result<(), String> {
    connection.send(bytes).map_err(|error| error.to_string())
}

fn await_calls(stage: &Stage<'_>, count: usize) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(5);
    while stage.first.seen().len() < count {
        ensure(Instant::now() < end, || format!("{} of {count} calls upstream", stage.first.seen().len()))?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn bomb(stage: &mut Stage<'_>) -> Outcome {
    is_spoken(stage)?;
    let count = stage.limits.many(50);
    // A test logs each of the 450 lines.
    let streams = if stage.limits.is_strict { 64 } else { 16u32 };
    let began = Instant::now();
    let mut connections = Vec::new();
    // INITIAL_WINDOW_SIZE 0: no answer can be got rid of.
    let settings = [0, 4, 0, 0, 0, 0];
    for number in 0..count {
        let mut connection = Connection::open(stage, 2 + (number % 4) as u8, &settings)?;
        for stream in 0..streams {
            let mut fields = request_fields(2);
            if stream == 0 {
                // Remembered once, as the newest of the table: index 62.
                fields.extend([0x40, 1, b'a', 0]);
                fields.extend([0x80 | 62; 449]);
            } else {
                fields.extend([0x80 | 62; 450]);
            }
            let frames =
                [frame(HEADERS, END_HEADERS, 2 * stream + 1, &fields), frame(DATA, END_STREAM, 2 * stream + 1, b"{}")];
            // A connection that is refused by then is what is hoped for.
            if connection.send(&frames.concat()).is_err() {
                break;
            }
        }
        connections.push(connection);
    }
    let mut growth = 0;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        growth = growth.max(stage.growth());
    }
    ensure(growth <= 64 << 20, || format!("memory grew by {}", mib(growth)))?;
    let most = stage.limits.http2_idle.max(Duration::from_secs(10));
    for connection in &mut connections {
        let left = (most + Duration::from_secs(1)).saturating_sub(began.elapsed()).max(Duration::from_millis(20));
        connection.end(left).map_err(|error| format!("one still open after {:.1?}: {error}", began.elapsed()))?;
    }
    Ok(format!("{count} connections gone after {:.1?}; memory grew by {}", began.elapsed(), mib(growth)))
}

fn continuation_flood(stage: &mut Stage<'_>) -> Outcome {
    is_spoken(stage)?;
    let mut connection = Connection::open(stage, 2, &[])?;
    let cpu = stage.gateway.cpu();
    connection.send(&frame(HEADERS, END_STREAM, 1, &request_fields(0))).map_err(|error| error.to_string())?;
    let more = frame(CONTINUATION, 0, 1, &literal("x", "y"));
    let mut sent = 0;
    while sent < 100_000 && connection.send(&more).is_ok() {
        sent += 1;
    }
    let end = connection.end(Duration::from_secs(2))?;
    let cpu = stage.gateway.cpu() - cpu;
    let seen = format!("{end} after {sent} frames; {:.0} ms of CPU", cpu * 1e3);
    ensure(sent < 100_000, || seen.clone())?;
    ensure(cpu <= 1.0, || seen.clone())?;
    ensure(stage.first.seen().is_empty(), || "it got upstream".to_owned())?;
    Ok(seen)
}

/// Each kind on a connection of its own, as fast as they are taken.
fn floods(stage: &mut Stage<'_>) -> Outcome {
    is_spoken(stage)?;
    let open = frame(HEADERS, END_HEADERS, 1, &request_fields(100));
    let block = frame(HEADERS, 0, 1, &request_fields(100));
    let window = 1_u32.to_be_bytes();
    let over = [&open[..], &reset(1)].concat();
    let kinds: [(&str, &[u8], Vec<u8>); 11] = [
        ("PING", &[], frame(PING, 0, 0, b"12345678")),
        ("PING acknowledged", &[], frame(PING, ACK, 0, b"12345678")),
        ("SETTINGS", &[], frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", &[], frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 16])),
        ("WINDOW_UPDATE", &[], frame(WINDOW_UPDATE, 0, 0, &window)),
        ("unknown", &[], frame(0xee, 0, 0, &[])),
        ("empty DATA", &open, frame(DATA, 0, 1, &[])),
        ("empty HEADERS", &[], frame(HEADERS, END_HEADERS, 1, &[])),
        ("empty CONTINUATION", &block, frame(CONTINUATION, 0, 1, &[])),
        ("RST_STREAM of one that is over", &over, reset(1)),
        ("DATA of one that is over", &over, frame(DATA, 0, 1, b" ")),
    ];
    let mut all = Vec::new();
    for (kind, before, one) in kinds {
        let mut connection = Connection::open(stage, 2, &[])?;
        send(&mut connection, before)?;
        let cpu = stage.gateway.cpu();
        let mut sent = 0;
        // In pieces that a socket takes as a whole; what comes back is not read meanwhile.
        let (piece, began) = (one.repeat(100), Instant::now());
        while sent < 1_000_000 && began.elapsed() < Duration::from_secs(2) && connection.send(&piece).is_ok() {
            sent += 100;
        }
        let end = connection.end(Duration::from_secs(2)).map_err(|error| format!("{kind}: {error} after {sent}"))?;
        let cpu = stage.gateway.cpu() - cpu;
        let seen = format!("{kind}: {end} after {sent}, {:.0} ms of CPU", cpu * 1e3);
        ensure(sent < 1_000_000 && (cpu < 0.1 || !stage.limits.is_strict), || seen.clone())?;
        ensure(end == "the end" || end == "GOAWAY 11" || end == "GOAWAY 1", || seen.clone())?;
        all.push(seen);
    }
    let growth = stage.growth();
    ensure(growth <= 4 << 20, || format!("memory grew by {}", mib(growth)))?;
    ensure(stage.first.seen().is_empty(), || "it got upstream".to_owned())?;
    Ok(format!("{}; memory grew by {}", all.join(", "), mib(growth)))
}

fn idle(stage: &mut Stage<'_>) -> Outcome {
    is_spoken(stage)?;
    let count = stage.limits.many(500);
    let began = Instant::now();
    let limit = stage.limits.http2_idle;
    let slack = limit / 12 + Duration::from_secs(1);
    let mut open: Vec<Connection> =
        (0..count).map(|number| Connection::open(stage, 2 + (number % 4) as u8, &[])).collect::<Result<_, _>>()?;
    let (mut refused, mut first, mut last) = (0, None, Duration::ZERO);
    while !open.is_empty() && began.elapsed() <= limit + slack {
        open.retain_mut(|connection| {
            loop {
                match connection.next(Duration::from_millis(1)) {
                    Ok(Some((PING, 0, _, payload))) => {
                        // One that is closed at this moment is found so at the next look.
                        connection.send(&frame(PING, ACK, 0, &payload)).ok();
                    }
                    Ok(Some((GOAWAY, ..)) | None) => {
                        last = began.elapsed();
                        refused += usize::from(last < limit / 2);
                        if last >= limit / 2 {
                            first.get_or_insert(last);
                        }
                        return false;
                    }
                    Ok(Some(_)) => {}
                    Err(_) => return true,
                }
            }
        });
    }
    let seen = format!(
        "{count} connections, {refused} refused, the others closed from {:.1?} to {last:.1?}",
        first.unwrap_or_default()
    );
    ensure(open.is_empty(), || format!("{} still open; {seen}", open.len()))?;
    ensure(first.is_some_and(|first| first + slack >= limit), || format!("too early; {seen}"))?;
    Ok(seen)
}
