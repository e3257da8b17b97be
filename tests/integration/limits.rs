//! Limits of the server: what goes beyond one gets its exact answer or close, and is counted; nobody
//! else notices.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Gateway, Provider, chat,
    client::{KEY, connect, get, post_bytes, read_more, read_reply, send},
    eventually,
    gateway::KEYS,
    provider::{event_stream, json},
};

const CHAT: &str = r#"{"model":"m"}"#;

/// A gateway with one worker and these options of `[server]`, in front of this provider.
fn gateway(options: &str, provider: SocketAddr) -> Gateway {
    Gateway::run(&format!(
        "[server]\nthreads = 1\n{options}\n[providers.p]\nbase_url = \"http://{provider}/v1\"\napi_key = \"sk-upstream-0\"\n\
         [models.m]\ndeployments = [{{ provider = \"p\" }}]\n{KEYS}"
    ))
}

fn plain(options: &str) -> Gateway {
    gateway(options, Provider::answering(json("200 OK", "{}")).address)
}

/// How long the gateway leaves this connection open, and what it still says.
fn until_closed(socket: &mut TcpStream) -> (Duration, String) {
    let since = Instant::now();
    let mut read = Vec::new();
    while read_more(socket, &mut read) {}
    (since.elapsed(), String::from_utf8(read).unwrap())
}

fn assert_about(took: Duration, expected: Duration) {
    assert!(took >= expected.mul_f64(0.9), "{took:?} is less than {expected:?}");
    assert!(took < expected + Duration::from_millis(900), "{took:?} is much more than {expected:?}");
}

fn timeouts(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("tollgate.connections.timeouts", &[&format!("tollgate.reason={reason}")])
}

#[test]
fn a_connection_without_a_first_byte_is_closed() {
    let gateway = plain("first_byte_timeout = \"300ms\"\nhead_timeout = \"5s\"");
    let (took, said) = until_closed(&mut connect(gateway.address));
    assert_about(took, Duration::from_millis(300));
    assert_eq!(said, "");
    // Empty lines are no first byte of anything.
    let mut socket = connect(gateway.address);
    socket.write_all(b"\r\n\r\n").unwrap();
    let (took, said) = until_closed(&mut socket);
    assert_about(took, Duration::from_millis(300));
    assert_eq!(said, "");
    eventually("both are counted", || timeouts(&gateway, "first_byte") == 2.0);
    assert_eq!(chat(gateway.address, CHAT).status, 200);
}

#[test]
fn a_head_that_comes_too_slowly_is_refused() {
    let gateway = plain("first_byte_timeout = \"200ms\"\nhead_timeout = \"600ms\"");
    // Before the first request of a connection, and after it.
    for has_served in [false, true] {
        let mut socket = connect(gateway.address);
        if has_served {
            socket.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
            assert_eq!(read_reply(&mut socket, false).status, 200);
        }
        let mut writer = socket.try_clone().unwrap();
        let since = Instant::now();
        let slow = thread::spawn(move || {
            for byte in b"GET /healthz HTTP/1.1\r\nHost: t\r\n".iter().cycle() {
                if writer.write_all(&[*byte]).is_err() || since.elapsed() > Duration::from_secs(8) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
        });
        let reply = read_reply(&mut socket, false);
        assert_about(since.elapsed(), Duration::from_millis(600));
        assert_eq!((reply.status, reply.header("connection")), (408, Some("close")));
        assert_eq!(reply.error().0, "request_head_timeout");
        until_closed(&mut socket);
        drop(socket);
        slow.join().unwrap();
    }
    assert_eq!(timeouts(&gateway, "head"), 2.0);
    assert_eq!(gateway.metric("tollgate.errors", &["client_head_timeout"]), 2.0);
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let gateway = plain("idle_timeout = \"400ms\"");
    let mut idle = connect(gateway.address);
    idle.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
    assert_eq!(read_reply(&mut idle, false).status, 200);
    let mut busy = idle.try_clone().unwrap();
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(100));
        busy.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
        assert_eq!(read_reply(&mut busy, false).status, 200);
    }
    let (took, said) = until_closed(&mut idle);
    assert_about(took, Duration::from_millis(400));
    assert_eq!(said, "");
    eventually("it is counted", || timeouts(&gateway, "idle") == 1.0);
}

#[test]
fn a_connection_ends_after_its_requests_and_after_its_age() {
    let gateway = plain("max_connection_requests = 3\nmax_connection_age = \"1h\"");
    let mut socket = connect(gateway.address);
    for expected in [None, None, Some("close")] {
        socket.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
        let reply = read_reply(&mut socket, false);
        assert_eq!((reply.status, reply.header("connection")), (200, expected));
    }
    until_closed(&mut socket);

    let gateway = plain("max_connection_age = \"500ms\"");
    let mut socket = connect(gateway.address);
    let since = Instant::now();
    loop {
        socket.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
        let reply = read_reply(&mut socket, false);
        assert_eq!(reply.status, 200);
        if reply.header("connection") == Some("close") {
            break;
        }
        thread::sleep(Duration::from_millis(10));
        assert!(since.elapsed() < Duration::from_secs(5));
    }
    assert_about(since.elapsed(), Duration::from_millis(500));
    until_closed(&mut socket);
}

#[test]
fn a_head_beyond_its_size_lines_or_target_is_refused() {
    let gateway = plain("max_head_bytes = \"4KiB\"\nmax_headers = 5\nmax_target_bytes = 100");
    let head = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\nHost: t\r\n{lines}\r\n");
    let line = |length: usize| format!("x-a: {}\r\n", "a".repeat(length));
    for (request, status, code) in [
        (head("/healthz", &line(3_900)), 200, ""),
        (head("/healthz", &line(4_100)), 431, "request_head_too_large"),
        // One that does not end, either.
        (head("/healthz", &line(9_000)).trim_end().to_owned(), 431, "request_head_too_large"),
        (head("/healthz", &line(1).repeat(4)), 200, ""),
        (head("/healthz", &line(1).repeat(5)), 431, "request_head_too_large"),
        (head(&format!("/healthz?{}", "q".repeat(91)), ""), 200, ""),
        (head(&format!("/healthz?{}", "q".repeat(92)), ""), 414, "request_target_too_long"),
        (head("/healthz", "Expect: 200-ok\r\n"), 417, "expectation_failed"),
    ] {
        let reply = send(gateway.address, request.as_bytes());
        assert_eq!(reply.status, status, "{request}");
        if status != 200 {
            assert_eq!((reply.error().0.as_str(), reply.header("connection")), (code, Some("close")), "{request}");
        }
    }
    eventually("they are counted", || gateway.metric("tollgate.errors", &["client_head_too_large"]) == 3.0);
    assert_eq!(gateway.metric("tollgate.errors", &["client_target_too_long"]), 1.0);
    assert_eq!(gateway.metric("tollgate.errors", &["client_expectation"]), 1.0);
}

#[test]
fn a_client_that_takes_nothing_is_reset() {
    let answer = format!(r#"{{"data":"{}"}}"#, "x".repeat(16 << 20));
    let event = format!("data: {{\"x\":\"{}\"}}\n\n", "x".repeat(1 << 20));
    let events: Vec<&str> = std::iter::repeat_n(event.as_str(), 16).collect();
    for answer in [json("200 OK", &answer), event_stream(&events)] {
        let length = answer.len();
        let gateway = gateway("write_timeout = \"500ms\"", Provider::answering(answer).address);
        let mut socket = connect(gateway.address);
        let since = Instant::now();
        socket.write_all(&post_bytes("/v1/chat/completions", r#"{"model":"m","stream":true}"#)).unwrap();
        eventually("the connection is reset", || timeouts(&gateway, "write") == 1.0);
        assert_about(since.elapsed(), Duration::from_millis(500));
        assert_eq!(gateway.metric("tollgate.client.cancelled", &["response_body"]), 1.0);
        let mut read = Vec::new();
        while read_more(&mut socket, &mut read) {}
        assert!(read.len() < length, "all of the answer came");
        eventually("it is closed", || gateway.metric("tollgate.connections.active", &[]) == 0.0);
    }
}

#[test]
fn a_client_that_takes_little_but_something_is_served() {
    let answer = format!(r#"{{"data":"{}"}}"#, "x".repeat(12 << 20));
    let gateway = gateway("write_timeout = \"400ms\"", Provider::answering(json("200 OK", &answer)).address);
    let mut socket = connect(gateway.address);
    socket.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
    let since = Instant::now();
    let mut read = Vec::new();
    while since.elapsed() < Duration::from_millis(1_200) {
        for _ in 0..8 {
            assert!(read_more(&mut socket, &mut read), "it was cut");
        }
        thread::sleep(Duration::from_millis(60));
    }
    while !read.ends_with(b"\"}") {
        assert!(read_more(&mut socket, &mut read), "it was cut");
    }
    assert_eq!(timeouts(&gateway, "write"), 0.0);
}

fn rejected(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("tollgate.connections.rejected", &[&format!("tollgate.reason={reason}")])
}

fn active(gateway: &Gateway) -> f64 {
    gateway.metric("tollgate.connections.active", &[])
}

/// A connection that has served one request and is kept.
fn kept(gateway: &Gateway) -> TcpStream {
    let mut socket = connect(gateway.address);
    socket.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
    assert_eq!(read_reply(&mut socket, false).status, 200);
    socket
}

#[test]
fn at_the_most_connections_the_longest_idle_one_makes_room() {
    let gateway = plain("max_connections = 3\nmax_connections_per_address = 0");
    let [mut first, mut second, mut third] = [kept(&gateway), kept(&gateway), kept(&gateway)];
    // Now the first has been idle for the shortest time.
    first.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
    assert_eq!(read_reply(&mut first, false).status, 200);
    let mut fourth = kept(&gateway);
    assert!(!read_more(&mut second, &mut Vec::new()), "the longest idle one is closed");
    assert_eq!((rejected(&gateway, "evicted"), active(&gateway)), (1.0, 3.0));
    for socket in [&mut first, &mut third, &mut fourth] {
        socket.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
        assert_eq!(read_reply(socket, false).status, 200);
    }
    // When none is idle, the new one is closed.
    for socket in [&mut first, &mut third, &mut fourth] {
        socket.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nx-api-key: tg-integration-key\r\nContent-Length: 13\r\n\r\n").unwrap();
    }
    eventually("all are busy", || gateway.metric("http.server.active_requests", &[]) == 3.0);
    let (took, said) = until_closed(&mut connect(gateway.address));
    assert!(took < Duration::from_secs(1) && said.is_empty(), "{said}");
    assert_eq!((rejected(&gateway, "max_connections"), rejected(&gateway, "evicted")), (1.0, 1.0));
    for socket in [&mut first, &mut third, &mut fourth] {
        socket.write_all(CHAT.as_bytes()).unwrap();
        assert_eq!(read_reply(socket, false).status, 200);
    }
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let gateway = plain("max_connections_per_address = 2");
    let [first, _second] = [kept(&gateway), kept(&gateway)];
    let (took, said) = until_closed(&mut connect(gateway.address));
    assert!(took < Duration::from_secs(1) && said.is_empty(), "{said}");
    assert_eq!(rejected(&gateway, "max_connections_per_address"), 1.0);
    drop(first);
    eventually("there is room", || active(&gateway) == 1.0);
    kept(&gateway);
    let gateway = plain("max_connections_per_address = 2\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let _four = [kept(&gateway), kept(&gateway), kept(&gateway), kept(&gateway)];
}

#[test]
fn connections_without_a_key_leave_room_for_those_with_one() {
    let gateway = plain("max_unauthenticated = 2\nmax_connections = 6");
    let [mut first, _second, _third] = [kept(&gateway), kept(&gateway), kept(&gateway)];
    let mut probes = Vec::new();
    for expected in [None, None, Some("close")] {
        let mut socket = connect(gateway.address);
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        let reply = read_reply(&mut socket, false);
        assert_eq!((reply.status, reply.header("connection")), (200, expected));
        probes.push(socket);
    }
    assert_eq!(rejected(&gateway, "max_unauthenticated"), 1.0);
    until_closed(&mut probes.pop().unwrap());
    // Where there is no room, those go first that have shown no key.
    let mut silent = connect(gateway.address);
    eventually("they are open", || active(&gateway) == 6.0);
    probes[1].write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
    assert_eq!(read_reply(&mut probes[1], false).status, 200);
    let _more = [kept(&gateway), kept(&gateway)];
    assert!(!read_more(&mut probes[0], &mut Vec::new()) && !read_more(&mut silent, &mut Vec::new()));
    first.write_all(&post_bytes("/v1/chat/completions", CHAT)).unwrap();
    assert_eq!(read_reply(&mut first, false).status, 200);
}

#[test]
fn an_address_that_tries_keys_gets_no_more_answers_to_them() {
    let gateway = plain("auth_failures_per_second = 2\nauth_failures_burst = 3");
    let wrong = "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nx-api-key: wrong\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..3 {
        assert_eq!(send(gateway.address, wrong.as_bytes()).status, 401);
    }
    let mut socket = connect(gateway.address);
    socket.write_all(wrong.as_bytes()).unwrap();
    assert_eq!(until_closed(&mut socket).1, "");
    assert_eq!(rejected(&gateway, "auth_failures"), 1.0);
    // Who has a key at the same address is served, and half a second later there is one answer more.
    assert_eq!(chat(gateway.address, CHAT).status, 200);
    eventually("it is answered again", || {
        thread::sleep(Duration::from_millis(700));
        let mut socket = connect(gateway.address);
        socket.write_all(wrong.as_bytes()).unwrap();
        let mut read = Vec::new();
        read_more(&mut socket, &mut read) && read.starts_with(b"HTTP/1.1 401 ")
    });
}

/// The head of a chat request whose body is still to come.
fn head(length: usize) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

#[test]
fn so_many_requests_are_under_way_and_no_more() {
    let other = "[[keys]]\nname = \"other\"\nkey = \"tg-another-key-of-the-tests\"\n";
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::run(&format!(
        "[server]\nthreads = 1\nmax_requests = 3\nmax_requests_per_key = 2\n[providers.p]\nbase_url = \"http://{}/v1\"\n\
         [models.m]\ndeployments = [{{ provider = \"p\" }}]\n{KEYS}{other}",
        provider.address
    ));
    let as_other =
        |request: Vec<u8>| String::from_utf8(request).unwrap().replace(KEY, "tg-another-key-of-the-tests").into_bytes();
    let mut waiting = Vec::new();
    let begin = |request: Vec<u8>, waiting: &mut Vec<TcpStream>| {
        let mut socket = connect(gateway.address);
        socket.write_all(&request).unwrap();
        waiting.push(socket);
        let count = waiting.len() as f64;
        eventually("it is under way", || gateway.metric("http.server.active_requests", &[]) == count);
    };
    begin(head(CHAT.len()), &mut waiting);
    begin(head(CHAT.len()), &mut waiting);
    let assert_busy = |request: &[u8], code: &str| {
        let reply = send(gateway.address, request);
        assert_eq!((reply.status, reply.error().0.as_str()), (429, code));
        assert_eq!((reply.header("retry-after"), reply.header("x-should-retry")), (Some("1"), Some("true")));
    };
    assert_busy(&post_bytes("/v1/chat/completions", CHAT), "key_requests_in_flight");
    begin(as_other(head(CHAT.len())), &mut waiting);
    assert_busy(&as_other(post_bytes("/v1/chat/completions", CHAT)), "requests_in_flight");
    // Probes are always answered.
    assert_eq!(get(gateway.address, "/healthz").status, 200);
    for mut socket in waiting {
        socket.write_all(CHAT.as_bytes()).unwrap();
        assert_eq!(read_reply(&mut socket, false).status, 200);
        assert_eq!(chat(gateway.address, CHAT).status, 200);
    }
    assert_eq!(gateway.metric("tollgate.errors", &["policy_key_busy"]), 1.0);
    assert_eq!(gateway.metric("tollgate.errors", &["policy_gateway_busy"]), 1.0);
}

#[test]
fn bodies_share_their_memory_and_one_that_does_not_fit_is_refused() {
    let gateway = plain("body_bytes_max = \"1MiB\"\nbody_memory = \"1MiB\"");
    let body = format!(r#"{{"model":"m","x":"{}"}}"#, "x".repeat(700 << 10));
    let mut first = connect(gateway.address);
    first.write_all(&head(body.len())).unwrap();
    let (most, rest) = body.as_bytes().split_at(body.len() - 1);
    first.write_all(most).unwrap();
    // It has what has come of it; what another only announces costs nothing.
    let mut second = connect(gateway.address);
    second.write_all(&head(body.len())).unwrap();
    eventually("both are under way", || gateway.metric("http.server.active_requests", &[]) == 2.0);
    eventually("what has come is there", || {
        let reply = send(gateway.address, &post_bytes("/v1/chat/completions", &body));
        reply.status == 503
            && reply.error().0 == "overloaded"
            && reply.header("retry-after") == Some("1")
            && reply.header("connection") == Some("close")
    });
    first.write_all(rest).unwrap();
    assert_eq!(read_reply(&mut first, false).status, 200);
    second.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_reply(&mut second, false).status, 200);
    assert!(gateway.metric("tollgate.errors", &["gateway_overloaded"]) >= 1.0);
    assert_eq!(send(gateway.address, &post_bytes("/v1/chat/completions", &body)).status, 200);
}

#[test]
fn the_series_of_a_metric_have_a_limit_of_their_own() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let mut toml = String::from("[telemetry]\nmax_series = 100\n[server]\nthreads = 1\n");
    toml += &format!("[providers.p]\nbase_url = \"http://{}/v1\"\n", provider.address);
    for number in 0..150 {
        toml += &format!("[models.m{number}]\ndeployments = [{{ provider = \"p\", model = \"up\" }}]\n");
    }
    let gateway = Gateway::run(&(toml + KEYS));
    for number in 0..150 {
        assert_eq!(chat(gateway.address, &format!("{{\"model\":\"m{number}\"}}")).status, 200);
    }
    let requests = gateway.metrics().into_iter().filter(|(name, _)| name.starts_with("tollgate.requests{"));
    let requests: Vec<_> = requests.collect();
    assert_eq!(requests.iter().map(|(_, value)| value).sum::<f64>(), 150.0);
    assert!(requests.len() <= 101, "{}", requests.len());
    assert!(requests.iter().any(|(name, _)| name.contains("otel.metric.overflow")), "{requests:?}");
}
