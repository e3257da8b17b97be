//! The program as its user runs it: exit codes, signals, the demo.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![expect(unreachable_pub, reason = "test modules share by `pub`; nothing leaves this binary")]

mod http2;
mod https;
mod limits;
mod log;
mod reload;
mod rotation;
mod supervised;
mod support;
mod tls;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use support::{KEY, PATIENCE, Tollgate};

/// The built-in provider, an event every `delay`.
fn echo(delay: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 2\n[providers.echo]\nkind = \"echo\"\ndelay = \"{delay}\"\n\
         [models.echo]\ndeployments = [{{ provider = \"echo\" }}]\n[[keys]]\nname = \"k\"\nkey = \"${{TOLLGATE_KEY}}\"\n"
    )
}

/// Sends a streaming chat of as many words and leaves the answer to be read.
fn stream(address: SocketAddr, words: usize) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let words = vec!["word"; words].join(" ");
    let body = format!(r#"{{"model":"echo","stream":true,"messages":[{{"role":"user","content":"{words}"}}]}}"#);
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    socket
}

/// The rest of an answer in chunks, whose connection stays open.
fn read_chunks(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !text.ends_with(b"\r\n0\r\n\r\n") {
        match socket.read(&mut piece) {
            Ok(length @ 1..) => text.extend(&piece[..length]),
            ended => panic!("{ended:?} after {}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8(text).unwrap()
}

fn read_to_end(mut socket: TcpStream) -> String {
    let mut text = Vec::new();
    let _reset = socket.read_to_end(&mut text).is_err();
    String::from_utf8(text).unwrap()
}

#[test]
fn sigterm_lets_streams_finish_and_exits_with_0() {
    let mut tollgate = Tollgate::start("drain", &["serve"], &echo("20ms"), &[("TOLLGATE_KEY", KEY)]);
    let address = tollgate.address();
    let mut socket = stream(address, 40);
    let mut first = [0; 200];
    socket.read_exact(&mut first).unwrap();
    tollgate.signal("TERM");
    tollgate.line_with("shutting down");
    let rest = read_to_end(socket);
    assert!(rest.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{rest}");
    assert_eq!(rest.matches("word").count() + String::from_utf8_lossy(&first).matches("word").count(), 40);
    assert!(tollgate.exit().success());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_second_signal_cuts_streams_off() {
    let mut tollgate = Tollgate::start("hurry", &["serve"], &echo("1s"), &[("TOLLGATE_KEY", KEY)]);
    let mut socket = stream(tollgate.address(), 100);
    let mut first = [0; 100];
    socket.read_exact(&mut first).unwrap();
    tollgate.signal("TERM");
    tollgate.line_with("shutting down");
    let signalled = Instant::now();
    tollgate.signal("INT");
    assert!(tollgate.exit().success());
    assert!(signalled.elapsed() < Duration::from_secs(5), "took {:?}", signalled.elapsed());
    assert!(!read_to_end(socket).ends_with("0\r\n\r\n"), "the stream ended cleanly");
}

#[test]
fn sighup_ends_nothing() {
    let mut tollgate = Tollgate::start("hangup", &["serve"], &echo("0ms"), &[("TOLLGATE_KEY", KEY)]);
    let address = tollgate.address();
    tollgate.signal("HUP");
    tollgate.line_with("the configuration has not changed");
    let mut first = [0; 15];
    stream(address, 3).read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    tollgate.signal("TERM");
    assert!(tollgate.exit().success());
}

#[test]
fn a_wrong_configuration_is_exit_code_2_and_names_its_place() {
    let cases = [
        ("unknown-key", "[server]\nlisten = \"127.0.0.1:0\"\nthread = 2\n", "tollgate.toml:3:1"),
        ("missing-variable", &echo("0ms"), "TOLLGATE_KEY"),
        ("syntax", "[server\n", "tollgate.toml:1:"),
    ];
    for (name, toml, expected) in cases {
        let mut tollgate = Tollgate::start(name, &["serve"], toml, &[]);
        tollgate.line_with(expected);
        assert_eq!(tollgate.exit().code(), Some(2), "{name}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let toml = echo("0ms").replace("127.0.0.1:0", &address);
    let mut tollgate = Tollgate::start("taken", &["serve"], &toml, &[("TOLLGATE_KEY", KEY)]);
    let line = tollgate.line_with("cannot listen");
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
    assert_eq!(tollgate.exit().code(), Some(2));
}

#[test]
fn the_demo_prints_a_curl_line_that_works() {
    let mut tollgate = Tollgate::start("demo", &["demo", "--listen", "127.0.0.1:0"], "", &[]);
    let url = tollgate.line_with("curl ");
    let key = tollgate.line_with("Authorization");
    let address: SocketAddr = url.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    let key = key.split("Bearer ").nth(1).unwrap().split('\'').next().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    let body = r#"{"model":"echo","stream":true,"messages":[{"role":"user","content":"one two three"}]}"#;
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let answer = read_to_end(socket);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("three") && answer.contains("[DONE]"), "{answer}");
    // The tokens show in a later export's table.
    tollgate.line_with("tollgate.tokens");
    tollgate.signal("INT");
    assert!(tollgate.exit().success());
}

#[test]
fn the_console_exporter_prints_a_table() {
    let environment = [("TOLLGATE_KEY", KEY), ("OTEL_METRICS_EXPORTER", "console")];
    let tollgate = Tollgate::start("console", &["serve"], &echo("0ms"), &environment);
    let header = tollgate.line_with("export #1 at ");
    assert!(header.ends_with(" · console"), "{header}");
    tollgate.line_with("tollgate.build.info");
}

#[test]
fn metrics_are_scraped_where_the_log_says() {
    let toml = format!("{}[admin]\nlisten = \"127.0.0.1:0\"\n", echo("0ms"));
    let environment = [("TOLLGATE_KEY", KEY), ("OTEL_METRICS_EXPORTER", "prometheus")];
    let mut tollgate = Tollgate::start("scrape", &["serve"], &toml, &environment);
    let line: serde_json::Value = serde_json::from_str(&tollgate.line_with("\"admin listener\"")).unwrap();
    let address: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let answer = read_to_end(socket);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\ntollgate_build_info{"), "{answer}");
    tollgate.signal("TERM");
    assert!(tollgate.exit().success());
}

#[test]
fn version_and_help_go_to_standard_output() {
    for (argument, expected) in [("--version", env!("CARGO_PKG_VERSION")), ("--help", "serve")] {
        let output = Command::new(env!("CARGO_BIN_EXE_tollgate")).arg(argument).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(expected));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("sevre").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("serve"));
}
