//! HTTP/2 towards clients, with frames made by hand: what it costs to be rude, and what a polite client gets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::support::{KEY, PATIENCE, Tollgate};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const PROTOCOL_ERROR: u32 = 1;
const INTERNAL_ERROR: u32 = 2;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The code of a reset or a farewell.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A client that sends what it is told to.
struct Client {
    socket: TcpStream,
    next: u32,
}

impl Client {
    /// Connects and sends its settings, which give streams this window.
    fn connect(address: SocketAddr, window: u32) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut client = Self { socket, next: 1 };
        let initial_window = [&[0, 4][..], &window.to_be_bytes()].concat();
        client.send(SETTINGS, 0, 0, &initial_window).unwrap();
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(&frame(kind, flags, stream, payload))
    }

    /// Asks for an answer of as many words, and says on which stream.
    fn chat(&mut self, words: usize) -> u32 {
        let stream = self.next;
        self.next += 2;
        let text = vec!["word"; words].join(" ");
        let body = format!(r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        self.send(HEADERS, END_HEADERS, stream, &request("POST", "/v1/chat/completions")).unwrap();
        self.send(DATA, END_STREAM, stream, body.as_bytes()).unwrap();
        stream
    }

    /// The next frame, unless the connection has ended.
    fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        self.socket.read_exact(&mut payload).ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of this kind; of the others, pings are answered if that is wanted.
    fn next(&mut self, kind: u8, answers: bool) -> Option<Frame> {
        loop {
            let frame = self.frame()?;
            if frame.kind == kind {
                return Some(frame);
            }
            if answers && frame.kind == PING && frame.flags & ACK == 0 {
                self.send(PING, ACK, 0, &frame.payload).ok()?;
            }
        }
    }

    /// Reads to the end of the connection; the last farewell says why.
    fn farewell(&mut self, answers: bool) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next(GOAWAY, answers) {
            code = Some(frame.code());
        }
        code
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}

/// A header block without any compression (RFC 7541 §6.2.2).
fn block(lines: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in lines {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn request(method: &str, path: &str) -> Vec<u8> {
    let authorization = format!("Bearer {KEY}");
    block(&[
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("authorization", &authorization),
    ])
}

fn start(name: &str, options: &str, provider: &str) -> Tollgate {
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\nh2c = true\n[server.http2]\n{options}\n[providers.p]\n{provider}\n\
         [models.m]\ndeployments = [{{ provider = \"p\" }}]\n[[keys]]\nname = \"k\"\nkey = \"${{TOLLGATE_KEY}}\"\n"
    );
    Tollgate::start(name, &["serve"], &toml, &[("TOLLGATE_KEY", KEY)])
}

const ECHO: &str = "kind = \"echo\"\ndelay = \"10ms\"";

/// A provider that says this to everybody and counts who comes.
fn provider(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let toml = format!("base_url = \"http://{}\"", listener.local_addr().unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    std::thread::spawn({
        let calls = Arc::clone(&calls);
        move || {
            for mut socket in listener.incoming().map_while(Result::ok) {
                calls.fetch_add(1, Relaxed);
                let _gone = socket.read(&mut [0; 65536]).is_err();
                let _gone = socket.write_all(answer.as_bytes()).is_err();
                if answer.is_empty() {
                    // Silent for as long as the client waits.
                    std::thread::spawn(move || {
                        let _closed = socket.read(&mut [0; 16]).is_err();
                    });
                }
            }
        }
    });
    (toml, calls)
}

#[test]
fn streams_come_whole_and_the_drain_lets_them_finish() {
    let mut tollgate = start("h2", "", ECHO);
    let mut client = Client::connect(tollgate.address(), 1 << 20);
    let streams = [client.chat(3), client.chat(60)];
    let mut texts = [String::new(), String::new()];
    let mut ended = 0;
    let mut is_told = false;
    while ended < 2 {
        let frame = client.frame().unwrap();
        let Some(which) = streams.iter().position(|stream| *stream == frame.stream) else {
            is_told |= frame.kind == GOAWAY;
            continue;
        };
        if frame.kind == DATA {
            if which == 1 && texts[1].is_empty() {
                tollgate.signal("TERM");
            }
            texts[which].push_str(&String::from_utf8(frame.payload).unwrap());
            ended += usize::from(frame.flags & END_STREAM);
        }
        assert_ne!(frame.kind, RST_STREAM);
    }
    for (text, words) in texts.iter().zip([3, 60]) {
        assert!(text.ends_with("data: [DONE]\n\n") && text.matches("word").count() == words, "{text}");
    }
    assert!(is_told);
    assert!(tollgate.exit().success());
}

#[test]
fn requests_that_are_taken_back_at_once_end_the_connection() {
    let (silent, calls) = provider("");
    let tollgate = start("h2-reset", "", &silent);
    let address = tollgate.address();
    let mut client = Client::connect(address, 65_535);
    let mut all = Vec::new();
    for number in 0..1_000_u32 {
        let stream = 2 * number + 1;
        all.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("POST", "/v1/chat/completions")));
        all.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    let begun = Instant::now();
    // The gateway need not read all of it.
    let _cut = client.socket.write_all(&all).is_err();
    let code = client.farewell(true);
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(calls.load(Relaxed) <= 64, "{}", calls.load(Relaxed));
    // One by one it takes a little longer to be sure.
    let mut client = Client::connect(address, 65_535);
    let mut code = None;
    for _ in 0..150 {
        let stream = client.next;
        client.next += 2;
        let body = br#"{"model":"m","messages":[]}"#;
        if client.send(HEADERS, END_HEADERS, stream, &request("POST", "/v1/chat/completions")).is_err()
            || client.send(DATA, END_STREAM, stream, body).is_err()
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
        if client.send(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()).is_err() {
            break;
        }
    }
    code = client.farewell(true).or(code);
    assert!(code.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{code:?}");
    assert!(calls.load(Relaxed) <= 150, "{}", calls.load(Relaxed));
    // Others are served as ever.
    let mut client = Client::connect(address, 65_535);
    client.send(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", "/healthz")).unwrap();
    assert_eq!(client.next(DATA, true).unwrap().payload, b"ok\n");
}

#[test]
fn header_blocks_without_end_are_cut() {
    let tollgate = start("h2-continuation", "", ECHO);
    let mut client = Client::connect(tollgate.address(), 65_535);
    let lines: Vec<u8> = (0..200).flat_map(|_| block(&[("x", "0123456789012345678901234567890123456789")])).collect();
    client.send(HEADERS, END_STREAM, 1, &request("GET", "/healthz")).unwrap();
    let begun = Instant::now();
    while client.send(CONTINUATION, 0, 1, &lines).is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it takes them all");
    }
    assert!(client.farewell(true).is_none_or(|code| code != 0));
}

#[test]
fn connections_that_do_nothing_or_do_not_answer_are_closed() {
    for (name, options, answers) in [
        ("h2-idle", "idle_timeout = \"500ms\"\nping_interval = \"100ms\"", true),
        ("h2-deaf", "ping_interval = \"200ms\"\nping_timeout = \"200ms\"", false),
    ] {
        let tollgate = start(name, options, ECHO);
        let mut client = Client::connect(tollgate.address(), 65_535);
        client.send(SETTINGS, ACK, 0, &[]).unwrap();
        let begun = Instant::now();
        let code = client.farewell(answers);
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(300) && took < Duration::from_secs(4), "{name}: {took:?}");
        assert_eq!(code, Some(0), "{name}");
    }
}

#[test]
fn a_stream_without_room_is_given_up_and_its_neighbour_is_not() {
    let tollgate = start("h2-stall", "stall_timeout = \"400ms\"", ECHO);
    let mut client = Client::connect(tollgate.address(), 0);
    let (stalled, fed) = (client.chat(2), client.chat(2));
    client.send(WINDOW_UPDATE, 0, fed, &65_535_u32.to_be_bytes()).unwrap();
    let mut text = Vec::new();
    loop {
        let frame = client.frame().unwrap();
        match (frame.kind, frame.stream) {
            (DATA, stream) => {
                assert_eq!(stream, fed);
                text.extend(frame.payload);
            }
            (RST_STREAM, stream) => {
                assert_eq!((stream, u32::from_be_bytes(frame.payload.try_into().unwrap())), (stalled, CANCEL));
                break;
            }
            _ => {}
        }
    }
    assert!(text.ends_with(b"data: [DONE]\n\n"));
}

#[test]
fn a_client_that_takes_nothing_of_anything_loses_its_connection() {
    let tollgate = start("h2-stalled", "stall_timeout = \"400ms\"", ECHO);
    let mut client = Client::connect(tollgate.address(), 0);
    let begun = Instant::now();
    let mut stalled = vec![client.chat(2), client.chat(2)];
    while let Some(reset) = client.next(RST_STREAM, true) {
        stalled.retain(|stream| *stream != reset.stream);
        if stalled.is_empty() {
            break;
        }
    }
    // Pings are answered, so this is not about them.
    assert_eq!((stalled.len(), client.farewell(true)), (0, Some(0)));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn an_answer_that_breaks_off_ends_with_a_reset() {
    let broken = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000\r\n\r\n\
                  data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n";
    let (provider, _) = provider(broken);
    let tollgate = start("h2-broken", "", &provider);
    let mut client = Client::connect(tollgate.address(), 65_535);
    let stream = client.chat(1);
    let mut text = Vec::new();
    let reset = loop {
        let frame = client.frame().unwrap();
        match frame.kind {
            DATA => text.extend(frame.payload),
            RST_STREAM => break u32::from_be_bytes(frame.payload.try_into().unwrap()),
            _ => {}
        }
    };
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("half") && text.contains("\"error\""), "{text}");
    assert_eq!(reset, INTERNAL_ERROR, "{stream}");
}

#[test]
fn what_another_hop_could_read_differently_is_refused() {
    let tollgate = start("h2-strict", "", ECHO);
    let address = tollgate.address();
    let status = |lines: &[(&str, &str)]| {
        let mut client = Client::connect(address, 65_535);
        client.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(lines)).unwrap();
        loop {
            let Some(frame) = client.frame() else { return "closed".to_owned() };
            match frame.kind {
                DATA => return String::from_utf8_lossy(&frame.payload).into_owned(),
                RST_STREAM | GOAWAY => return format!("error {}", frame.code()),
                _ => {}
            }
        }
    };
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/v1/models")];
    let with = |more: &[(&'static str, &'static str)]| status(&[&get[..], more].concat());
    assert!(with(&[(":authority", "g"), ("host", "other")]).contains("differs from :authority"));
    assert!(with(&[(":authority", "user@g")]).contains("is no host and port"));
    assert!(with(&[]).contains("Host header is missing"));
    let protocol_error = format!("error {PROTOCOL_ERROR}");
    for more in [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("X-Upper", "a")] {
        assert_eq!(with(&[(":authority", "g"), more]), protocol_error, "{more:?}");
    }
    let trace = [(":method", "TRACE"), (":scheme", "http"), (":path", "/healthz"), (":authority", "g")];
    assert!(status(&trace).contains("method"), "{}", status(&trace));
}

#[test]
fn an_answer_before_the_end_of_a_request_is_seen_before_the_stream_is_closed() {
    let tollgate = start("h2-early", "", ECHO);
    let mut client = Client::connect(tollgate.address(), 65_535);
    let large = [&request("POST", "/v1/chat/completions")[..], &block(&[("content-length", "40000000")])].concat();
    client.send(HEADERS, END_HEADERS, 1, &large).unwrap();
    client.send(DATA, 0, 1, &[b' '; 16_384]).unwrap();
    let answer = client.next(DATA, true).unwrap();
    let text = String::from_utf8(answer.payload).unwrap();
    assert!(text.contains("is larger than") && answer.flags & END_STREAM == END_STREAM, "{text}");
    let seen = Instant::now();
    let reset = client.next(RST_STREAM, true).unwrap();
    assert_eq!(reset.code(), 0, "no error");
    assert!(seen.elapsed() > Duration::from_millis(500), "{:?}", seen.elapsed());
    // The connection goes on.
    client.send(HEADERS, END_HEADERS | END_STREAM, 3, &request("GET", "/healthz")).unwrap();
    assert_eq!(client.next(DATA, true).unwrap().payload, b"ok\n");
}
