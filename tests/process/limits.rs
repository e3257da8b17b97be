//! Limits that concern the whole process: its memory and its file descriptors.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    time::{Duration, Instant},
};

use crate::support::{KEY, PATIENCE, Tollgate};

/// The built-in provider, with these options of `[server]` and an admin listener.
fn config(options: &str) -> String {
    format!(
        "[server]\n{options}\n[providers.echo]\nkind = \"echo\"\n[models.echo]\ndeployments = [{{ provider = \"echo\" }}]\n\
         [[keys]]\nname = \"k\"\nkey = \"${{TOLLGATE_KEY}}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n"
    )
}

fn start(name: &str, options: &str) -> Tollgate {
    Tollgate::start(name, &["serve"], &config(options), &[("TOLLGATE_KEY", KEY)])
}

fn admin_of(tollgate: &Tollgate) -> SocketAddr {
    let line: serde_json::Value = serde_json::from_str(&tollgate.line_with("admin listener")).unwrap();
    line["address"].as_str().unwrap().parse().unwrap()
}

/// The status of a request, and all of the answer.
fn ask(address: SocketAddr, request: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _reset = socket.read_to_end(&mut answer).is_err();
    String::from_utf8(answer).ok().filter(|answer| !answer.is_empty())
}

fn chat() -> String {
    let body = r#"{"model":"echo","messages":[{"role":"user","content":"hi"}]}"#;
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nx-api-key: {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn resident(tollgate: &Tollgate) -> usize {
    let statm = fs::read_to_string(format!("/proc/{}/statm", tollgate.child.id())).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn when_memory_is_short_requests_are_refused_and_then_connections() {
    const LISTEN: &str = "listen = \"127.0.0.1:0\"\nthreads = 1";
    let usual = start("memory", LISTEN);
    assert!(ask(admin_of(&usual), HEALTH).unwrap().starts_with("HTTP/1.1 200 "));
    let size = resident(&usual);
    drop(usual);

    let limit = size * 100 / 90;
    let short = start("memory-short", &format!("{LISTEN}\nmemory_limit = {limit}"));
    let (address, admin) = (short.address(), admin_of(&short));
    let since = Instant::now();
    let answer = loop {
        // It has grown to its usual size after the first look, if not before.
        let answer = ask(address, &chat()).unwrap();
        if answer.starts_with("HTTP/1.1 503 ") || since.elapsed() > PATIENCE {
            break answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("\"overloaded\"") && answer.contains("connection: close\r\n"), "{answer}");
    for address in [address, admin] {
        assert!(ask(address, HEALTH).unwrap().starts_with("HTTP/1.1 200 "));
    }
    drop(short);

    let none = start("memory-none", &format!("{LISTEN}\nmemory_limit = {}", size / 2));
    let (address, admin) = (none.address(), admin_of(&none));
    // The kernel takes the connection; nobody answers on it.
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.write_all(HEALTH.as_bytes()).unwrap();
    assert!(socket.read(&mut [0; 16]).is_err(), "it was accepted");
    assert!(ask(admin, HEALTH).unwrap().starts_with("HTTP/1.1 200 "));
}

/// CPU time that the process has taken.
fn cpu(tollgate: &Tollgate) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", tollgate.child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    Duration::from_millis((fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10)
}

#[test]
fn with_hardly_any_file_descriptors_it_goes_on_and_recovers() {
    let toml = config("listen = \"127.0.0.1:0\"\nthreads = 2");
    let mut tollgate = Tollgate::start_with_descriptors("descriptors", 64, &toml, &[("TOLLGATE_KEY", KEY)]);
    let (address, admin) = (tollgate.address(), admin_of(&tollgate));
    let since = Instant::now();
    let before = cpu(&tollgate);
    let mut clients = Vec::new();
    while since.elapsed() < Duration::from_secs(2) {
        clients.extend((0..25).filter_map(|_| TcpStream::connect(address).ok()));
        clients.truncate(500);
        assert!(ask(admin, HEALTH).unwrap().starts_with("HTTP/1.1 200 "), "the admin listener is silent");
        std::thread::sleep(Duration::from_millis(50));
    }
    let share = (cpu(&tollgate) - before).as_secs_f64() / since.elapsed().as_secs_f64();
    assert!(share < 0.2, "{share}");
    assert!(tollgate.child.try_wait().unwrap().is_none());
    drop(clients);
    let since = Instant::now();
    while !ask(address, &chat()).is_some_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
        assert!(since.elapsed() < Duration::from_secs(2), "it has not recovered");
    }
}

#[test]
fn a_unix_socket_serves_and_is_gone_with_the_process() {
    let folder = std::env::temp_dir().join(format!("tollgate-process-unix-sockets-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("socket");
    let options = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]\nunix_mode = \"0600\"\nthreads = 2", path.display());
    // One that was killed leaves its socket, which the next one replaces.
    let killed = start("unix-killed", &options);
    killed.line_with(&format!("unix:{}", path.display()));
    drop(killed);
    assert!(path.exists());
    let mut tollgate = start("unix", &options);
    let address = tollgate.address();
    tollgate.line_with(&format!("unix:{}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for _ in 0..8 {
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.write_all(chat().as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(ask(address, &chat()).unwrap().starts_with("HTTP/1.1 200 "));
    tollgate.signal("TERM");
    assert!(tollgate.exit().success());
    assert!(!path.exists(), "the socket is left");
    fs::remove_dir_all(folder).unwrap();
}
