//! The clients of a soak: good ones whose every byte is compared, and all the others.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;

use crate::http1::{Connection, ask, chat, chat_head, connect_with};
use crate::process::{Gateway, KEY};
use crate::wall::{self, End, Wall};

/// What slow readers are given, a byte for each place.
const LARGE: usize = 1 << 20;

/// What happened so far.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) counts: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) wrong: Mutex<Vec<String>>,
    next: AtomicU64,
}

impl Tally {
    fn note(&self, kind: &'static str, result: Result<(), String>) {
        if let Ok(mut counts) = self.counts.lock() {
            *counts.entry(kind).or_default() += 1;
        }
        if let Err(wrong) = result
            && let Ok(mut all) = self.wrong.lock()
        {
            all.push(format!("{kind}: {}", wrong.chars().take(300).collect::<String>()));
        }
    }

    fn nonce(&self) -> String {
        format!("n{}n", self.next.fetch_add(1, Relaxed))
    }
}

/// Every kind of client at once, until told to stop.
pub(crate) fn run(gateway: &Gateway, first: &Wall, tally: &Tally, stop: &AtomicBool) {
    let address = gateway.address;
    provider(first);
    std::thread::scope(|scope| {
        let clients: [(&'static str, u64, Client); 8] = [
            ("chat", 10, good_chat),
            ("stream", 20, good_stream),
            ("fallback", 25, fallback),
            ("broken stream", 50, broken_stream),
            ("client that leaves", 40, leaving),
            ("slow reader", 500, slow_reader),
            ("bad request", 15, bad_request),
            ("connection without a request", 100, silent),
        ];
        for (kind, pause, client) in clients {
            scope.spawn(move || {
                let mut kept = None;
                while !stop.load(Relaxed) {
                    tally.note(kind, client(address, tally, &mut kept));
                    sleep(Duration::from_millis(pause));
                }
            });
        }
        scope.spawn(|| {
            let mut number = 0;
            while !stop.load(Relaxed) {
                tally.note("reload", reload(gateway, number));
                number += 1;
                for _ in 0..20 {
                    if !stop.load(Relaxed) {
                        sleep(Duration::from_millis(100));
                    }
                }
            }
        });
    });
}

type Client = fn(SocketAddr, &Tally, &mut Option<Connection>) -> Result<(), String>;

/// The first choice of everything but the canary's model: well or not, as the words of a request ask it to be.
fn provider(wall: &Wall) {
    wall.plan(|seen, socket| {
        let text = seen.text();
        let number = seen.number;
        if text.contains("\"content\":\"large\"") {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {LARGE}\r\n\r\n");
            socket.write_all(head.as_bytes())?;
            socket.write_all(&large())?;
            return Ok(End::Keep);
        }
        if text.contains("-break-") {
            wall::stream_head(socket)?;
            for _ in 0..3 {
                wall::event(socket, &wall::delta("broken"))?;
            }
            // Long enough for the events to be passed on before the break.
            sleep(Duration::from_millis(20));
            return Ok(if number.is_multiple_of(2) { End::Close } else { End::Reset });
        }
        if text.contains("-fail-") {
            match number % 4 {
                0 => return Ok(End::Reset),
                1 => return Ok(End::Close),
                2 => wall::json(socket, 500, "", r#"{"error":{"message":"no"}}"#)?,
                _ => wall::json(socket, 429, "Retry-After: 1\r\n", r#"{"error":{"message":"slow down"}}"#)?,
            }
            return Ok(End::Keep);
        }
        if text.contains("-slow-") {
            wall::stream_head(socket)?;
            for _ in 0..20 {
                wall::event(socket, &wall::delta("slow"))?;
                sleep(Duration::from_millis(20));
            }
            wall::finish(socket)?;
            return Ok(End::Keep);
        }
        wall::answer(seen, socket)
    });
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|place| b'a' + (place % 23) as u8).collect()
}

/// On a connection that is kept; one that ended while it was idle is no fault of anybody's.
fn on_kept(address: SocketAddr, kept: &mut Option<Connection>, request: &[u8]) -> Result<crate::http1::Answer, String> {
    if let Some(mut connection) = kept.take()
        && connection.send(request).is_ok()
        && let Ok(answer) = connection.answer()
    {
        *kept = Some(connection);
        return Ok(answer);
    }
    let mut connection = Connection::open(address)?;
    connection.send(request).map_err(|error| error.to_string())?;
    let answer = connection.answer()?;
    let is_last = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    *kept = (!is_last).then_some(connection);
    Ok(answer)
}

fn good_chat(address: SocketAddr, tally: &Tally, kept: &mut Option<Connection>) -> Result<(), String> {
    let nonce = tally.nonce();
    let answer = on_kept(address, kept, &chat("first", false, &nonce))?;
    same(answer.status, &answer.text(), &wall::chat(&nonce), answer.is_whole)
}

fn good_stream(address: SocketAddr, tally: &Tally, kept: &mut Option<Connection>) -> Result<(), String> {
    let nonce = tally.nonce();
    let answer = on_kept(address, kept, &chat("pair", true, &nonce))?;
    same(answer.status, &answer.text(), &whole_stream(&nonce), answer.is_whole)
}

/// What [`wall::answer`] streams.
fn whole_stream(nonce: &str) -> String {
    let last = r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    format!("data: {}\n\n", wall::delta(nonce)).repeat(5) + &format!("data: {last}\n\ndata: [DONE]\n\n")
}

fn same(status: u16, found: &str, wanted: &str, is_whole: bool) -> Result<(), String> {
    let is_same = status == 200 && found == wanted && is_whole;
    if is_same { Ok(()) } else { Err(format!("{status}, whole: {is_whole}, {found:?}")) }
}

/// Asked in such a way that the first provider fails.
fn fallback(address: SocketAddr, tally: &Tally, _: &mut Option<Connection>) -> Result<(), String> {
    let nonce = tally.nonce();
    let body = format!(r#"{{"model":"pair","messages":[{{"role":"user","content":"-fail- nonce-{nonce} please"}}]}}"#);
    let answer = ask(address, (chat_head(body.len()) + &body).as_bytes())?;
    same(answer.status, &answer.text(), &wall::chat(&nonce), answer.is_whole)
}

fn broken_stream(address: SocketAddr, _: &Tally, _: &mut Option<Connection>) -> Result<(), String> {
    let body = r#"{"model":"first","stream":true,"messages":[{"role":"user","content":"-break-"}]}"#;
    let answer = ask(address, (chat_head(body.len()) + body).as_bytes())?;
    let text = answer.text();
    let is_right = text.matches("broken ").count() == 3
        && text.contains("\"error\"")
        && !text.contains("[DONE]")
        && !answer.is_whole;
    if is_right { Ok(()) } else { Err(format!("{} {text:?}, whole: {}", answer.status, answer.is_whole)) }
}

fn leaving(address: SocketAddr, tally: &Tally, _: &mut Option<Connection>) -> Result<(), String> {
    let body = r#"{"model":"first","stream":true,"messages":[{"role":"user","content":"-slow-"}]}"#;
    let mut connection = Connection::open(address)?;
    connection.send((chat_head(body.len()) + body).as_bytes()).map_err(|error| error.to_string())?;
    sleep(Duration::from_millis(tally.next.fetch_add(1, Relaxed) * 7 % 90));
    Ok(())
}

fn slow_reader(address: SocketAddr, _: &Tally, _: &mut Option<Connection>) -> Result<(), String> {
    let body = r#"{"model":"first","messages":[{"role":"user","content":"large"}]}"#;
    let mut socket = connect_with(address, 1, Some(16 << 10)).map_err(|error| error.to_string())?;
    socket.write_all((chat_head(body.len()) + body).as_bytes()).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 16 << 10]);
    let wanted = large();
    let head_end = |answer: &[u8]| answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    loop {
        let read = socket.read(&mut piece).map_err(|error| format!("after {} bytes: {error}", answer.len()))?;
        answer.extend_from_slice(&piece[..read]);
        if let Some(at) = head_end(&answer)
            && answer.len() >= at + LARGE
        {
            return if answer[at..] == wanted { Ok(()) } else { Err("other bytes".to_owned()) };
        }
        if read == 0 {
            return Err(format!("ended after {} bytes", answer.len()));
        }
        sleep(Duration::from_millis(10));
    }
}

fn bad_request(address: SocketAddr, tally: &Tally, _: &mut Option<Connection>) -> Result<(), String> {
    let post = |body: &str| (chat_head(body.len()) + body).into_bytes();
    let number = tally.next.fetch_add(1, Relaxed);
    let (request, wanted) = match number % 7 {
        0 => (b"NONSENSE\r\n\r\n".to_vec(), 400),
        1 => (post("{"), 400),
        2 => (post(&format!(r#"{{"model":"m{number}","messages":[]}}"#)), 404),
        3 => {
            (format!("GET /v1/x{number} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\r\n").into_bytes(), 404)
        }
        4 => (b"GET /v1/models HTTP/1.1\r\n\r\n".to_vec(), 400),
        5 => (post(r#"{"model":"first","model":"pair","messages":[]}"#), 400),
        _ => (format!("GET / HTTP/1.1\r\nHost: t\r\nX-A: {}\r\n\r\n", "a".repeat(33 << 10)).into_bytes(), 431),
    };
    let answer = ask(address, &request)?;
    if answer.status == wanted { Ok(()) } else { Err(format!("{} instead of {wanted}", answer.status)) }
}

fn silent(address: SocketAddr, _: &Tally, kept: &mut Option<Connection>) -> Result<(), String> {
    // The one before is closed by this.
    *kept = Some(Connection::open(address)?);
    Ok(())
}

/// Every other file is one that cannot be used; the good ones differ from each other.
fn reload(gateway: &Gateway, number: u64) -> Result<(), String> {
    let path = gateway.folder.join("tollgate.toml");
    let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let base = text.split("# soak").next().unwrap_or_default();
    let tail = match number % 4 {
        0 => "[models.further]\ndeployments = [{ provider = \"second\" }]\n",
        1 => "[[[\n",
        2 => "",
        _ => "[models.further]\ndeployments = [{ provider = \"nobody-there\" }]\n",
    };
    std::fs::write(&path, format!("{base}# soak\n{tail}")).map_err(|error| error.to_string())?;
    gateway.signal("HUP");
    Ok(())
}
