//! What a worker thread asks of the allocator. Whatever else it does is tested from outside.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
};

use super::*;
use crate::{
    config::{Config, Environment},
    telemetry::Registry,
};

const KEY: &str = "tg-key-of-the-allocation-test";
const ANSWER: &str =
    r#"{"id":"x","choices":[{"message":{"content":"hello"}}],"usage":{"prompt_tokens":5,"completion_tokens":7}}"#;
const EVENT: &str = "data: {\"id\":\"x\",\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n";

/// A provider that answers every request, or streams so many events, each in a write of its own that
/// waits for the gateway to have read the one before.
fn provider(events: Option<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                socket.set_nodelay(true).unwrap();
                while read_message(&mut socket).is_some() {
                    let Some(events) = events else {
                        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
                        write!(socket, "{head}: {}\r\n\r\n{ANSWER}", ANSWER.len()).unwrap();
                        continue;
                    };
                    let head =
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
                    socket.write_all(head.as_bytes()).unwrap();
                    for _ in 0..events {
                        write!(socket, "{:x}\r\n{EVENT}\r\n", EVENT.len()).unwrap();
                        thread::sleep(Duration::from_micros(300));
                    }
                    socket.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").unwrap();
                }
            });
        }
    });
    address
}

/// Reads a head and the body that its length announces, or chunks to the last.
fn read_message(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut read, mut chunk) = (Vec::new(), [0; 65_536]);
    loop {
        let length = socket.read(&mut chunk).ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&chunk[..length]);
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        match length {
            Some(length) if read.len() < end + 4 + length => {}
            None if head.contains("chunked") && !read.ends_with(b"0\r\n\r\n") => {}
            _ => return Some(read),
        }
    }
}

/// What this thread allocates while it serves so many requests, one after the other.
fn allocations(requests: usize, events: Option<usize>) -> u64 {
    let toml = format!(
        "[providers.p]\nbase_url = \"http://{}/v1\"\napi_key = \"sk-1\"\n[models.m]\n\
         deployments = [{{ provider = \"p\" }}]\n[[keys]]\nname = \"k\"\nkey = \"{KEY}\"\n",
        provider(events)
    );
    let config = Config::parse(Path::new("t.toml"), &toml, &Environment::default()).unwrap().config;
    let guard = Arc::new(Guard::new(&config.server, 9));
    let pressure = watch::channel(Pressure::None).1;
    let shared = Shared {
        settings: Arc::new(config.server.clone()),
        certificates: None,
        guard,
        load: Load::new(1 << 30, 1),
        pressure,
        workers: 1,
    };
    let gateway = Gateway::new(&config, &Registry::new()).unwrap();
    let gateway = Arc::new(ArcSwap::from_pointee(gateway));
    let listener =
        listener::tcp("127.0.0.1:0".parse().unwrap(), listener::Waiting { unsent: 128 << 10, timeout: 30_000 })
            .unwrap();
    let address = listener.local_addr().unwrap();
    let (phase, phases) = watch::channel(Phase::Serving);
    let client = thread::spawn(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        let stream = events.is_some();
        let body = format!(
            r#"{{"model":"m","stream":{stream},"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        for _ in 0..requests {
            let length = body.len();
            // In one piece, as clients send it.
            let request = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nUser-Agent: test\r\nAccept: */*\r\n\
                 Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            socket.write_all(request.as_bytes()).unwrap();
            let answer = read_message(&mut socket).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
        }
        phase.send_replace(Phase::Closing);
    });
    let ready = Arc::new(AtomicBool::new(true));
    let counted = allocation_counter::measure(|| {
        work(
            (0, vec![Listener::Tcp(listener)], Pulse::of(1).1.remove(0)),
            gateway,
            ready,
            phases,
            shared,
            &mpsc::channel().0,
        )
        .unwrap();
    });
    client.join().unwrap();
    counted.count_total
}

#[test]
fn a_request_allocates_little() {
    let (few, many) = (allocations(50, None), allocations(250, None));
    let each = (many - few) as f64 / 200.0;
    println!("{each} allocations per request");
    assert!(each <= 12.0, "{each} allocations per request");
}

#[test]
fn an_event_allocates_what_it_is_carried_in_and_nothing_else() {
    let (few, many) = (allocations(1, Some(100)), allocations(1, Some(600)));
    let each = (many.saturating_sub(few)) as f64 / 500.0;
    println!("{each} allocations per event");
    assert!(each <= 1.1, "{each} allocations per event");
}
