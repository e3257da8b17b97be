//! A new configuration while the program runs: by signal, by request, by itself.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use serde_json::Value;

use crate::{
    read_chunks, stream,
    support::{KEY, PATIENCE, Tollgate},
};

pub const ENVIRONMENT: [(&str, &str); 2] = [("TOLLGATE_KEY", KEY), ("OTEL_METRICS_EXPORTER", "prometheus")];

/// A configuration with an admin listener, and `rest` behind it.
pub fn config(watch: &str, rest: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[reload]\n{watch}\n\
         [providers.echo]\nkind = \"echo\"\ndelay = \"20ms\"\n[[keys]]\nname = \"k\"\nkey = \"${{TOLLGATE_KEY}}\"\n{rest}"
    )
}

pub const ECHO: &str = "[models.echo]\ndeployments = [{ provider = \"echo\" }]\n";
pub const OTHER: &str = "[models.other]\ndeployments = [{ provider = \"echo\" }]\n";

pub fn addresses(tollgate: &Tollgate) -> (SocketAddr, SocketAddr) {
    let public = tollgate.address();
    let line: Value = serde_json::from_str(&tollgate.line_with("\"admin listener\"")).unwrap();
    (public, line["address"].as_str().unwrap().parse().unwrap())
}

/// Status and body of an answer.
fn ask(mut socket: impl Read + Write, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    let _reset = socket.read_to_string(&mut answer).is_err();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub fn admin(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    ask(TcpStream::connect(address).unwrap(), method, path, "", "")
}

pub fn status(address: SocketAddr) -> Value {
    serde_json::from_str(&admin(address, "GET", "/status.json").1).unwrap()
}

/// The value of the one series of that name with all these labels.
fn series(address: SocketAddr, name: &str, labels: &[&str]) -> Option<f64> {
    let (_, text) = admin(address, "GET", "/metrics");
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    };
    let mut found = text.lines().filter(is_it);
    let line = found.next()?;
    assert_eq!(found.next(), None, "{name} {labels:?}");
    line.rsplit(' ').next()?.parse().ok()
}

pub fn reloads(address: SocketAddr, outcome: &str) -> Option<f64> {
    series(address, "tollgate_config_reloads_total", &[&format!("tollgate_outcome=\"{outcome}\"")])
}

pub fn chat(address: SocketAddr, model: &str) -> u16 {
    chat_with(KEY, address, model)
}

pub fn chat_with(key: &str, address: SocketAddr, model: &str) -> u16 {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"a b"}}]}}"#);
    let headers = format!("Authorization: Bearer {key}\r\n");
    ask(TcpStream::connect(address).unwrap(), "POST", "/v1/chat/completions", &headers, &body).0
}

pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_signal_and_a_request_apply_what_is_new_and_keep_what_was() {
    let unwatched = "watch = false";
    let mut tollgate = Tollgate::start("reload", &["serve"], &config(unwatched, ECHO), &ENVIRONMENT);
    let file = tollgate.folder.join("tollgate.toml");
    let (public, at) = addresses(&tollgate);
    assert_eq!((chat(public, "echo"), chat(public, "other")), (200, 404));
    // A stream of the model that is about to go.
    let mut socket = stream(public, 40);
    let mut first = [0; 200];
    socket.read_exact(&mut first).unwrap();

    fs::write(&file, config(unwatched, OTHER)).unwrap();
    tollgate.signal("HUP");
    tollgate.line_with("the new configuration is in force");
    assert_eq!((chat(public, "echo"), chat(public, "other")), (404, 200));
    assert!(read_chunks(socket).ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));

    // Both configurations have the key and the operation: their series go on.
    let requests = |model: &str| {
        let labels =
            ["tollgate_key=\"k\"", &format!("gen_ai_request_model=\"{model}\""), "tollgate_outcome=\"completed\""];
        series(at, "tollgate_requests_total", &labels)
    };
    eventually("the chat is counted", || requests("other") == Some(1.0));
    let front = ["http_route=\"/v1/chat/completions\"", "http_response_status_code=\"200\""];
    assert_eq!(series(at, "http_server_request_duration_seconds_count", &front), Some(3.0));
    // What is gone has ended, for nobody holds it any more.
    assert_eq!(requests("echo"), None);

    assert_eq!(admin(at, "POST", "/reload"), (200, "{\n  \"outcome\": \"unchanged\"\n}\n".into()));
    fs::write(&file, config("watch = false\ninterval = \"2s\"", &format!("{ECHO}{OTHER}"))).unwrap();
    let (code, body) = admin(at, "POST", "/reload");
    let warned = "these options take effect at the next start: reload.interval (now not set, then \"2s\")";
    let expected = serde_json::json!({
        "outcome": "applied", "added": ["models.echo"], "changed": [], "removed": [], "files": ["tollgate.toml"],
        "warnings": [warned],
    });
    assert_eq!((code, serde_json::from_str::<Value>(&body).unwrap()), (200, expected));
    assert_eq!(chat(public, "echo"), 200);

    fs::write(&file, config("watch = maybe", ECHO)).unwrap();
    let (code, body) = admin(at, "POST", "/reload");
    assert_eq!(code, 422);
    assert!(body.contains("tollgate.toml:7:9"), "{body}");
    assert_eq!((chat(public, "echo"), chat(public, "other")), (200, 200));
    let config = &status(at)["config"];
    assert_eq!(config["last_reload"]["outcome"], "rejected");
    let waiting = serde_json::json!({ "option": "reload.interval", "in_force": null, "in_file": "2s" });
    assert_eq!(config["waiting_for_a_restart"], serde_json::json!([waiting]));
    assert_eq!(config["digest"].as_str().map(str::len), Some(12));
    let listener =
        |name: &str, at: SocketAddr| serde_json::json!({ "name": name, "address": at.to_string(), "tls": false });
    assert_eq!(status(at)["listeners"], serde_json::json!([listener("public", public), listener("admin", at)]));
    for (outcome, count) in [("applied", 2.0), ("unchanged", 1.0), ("rejected", 1.0)] {
        assert_eq!(reloads(at, outcome), Some(count), "{outcome}");
    }
    assert_eq!(admin(at, "GET", "/reload").0, 405);
    assert_eq!(admin(at, "POST", "/status.json").0, 405);
    let page = ask(TcpStream::connect(at).unwrap(), "POST", "/reload", "Origin: http://localhost\r\n", "");
    assert_eq!(page.0, 403);
    tollgate.signal("TERM");
    assert!(tollgate.exit().success());
}

#[test]
fn files_that_change_are_read_again_by_themselves() {
    let rest = "[providers.far]\nbase_url = \"http://127.0.0.1:9\"\napi_key = { file = \"secret\" }\n";
    let toml = config("interval = \"20ms\"", &format!("{rest}{ECHO}"));
    let tollgate = Tollgate::start_with("watch", &["serve"], &toml, &ENVIRONMENT, &[("secret", "canary-first")]);
    let (public, at) = addresses(&tollgate);
    let (file, secret) = (tollgate.folder.join("tollgate.toml"), tollgate.folder.join("secret"));
    let outcome = |wanted: &str| {
        let config = status(at)["config"].clone();
        config["last_reload"]["outcome"] == wanted
    };
    // As Kubernetes and certbot do it: another file takes the name.
    let replace = |path: &std::path::Path, text: &str| {
        let next = path.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(next, path).unwrap();
    };
    replace(&secret, "canary-second");
    eventually("the rotated secret is applied", || outcome("applied"));
    fs::remove_file(&secret).unwrap();
    eventually("the missing secret is refused", || outcome("rejected"));
    let why = status(at)["config"]["last_reload"]["error"].as_str().unwrap().to_owned();
    assert!(why.contains("tollgate.toml:16:11") && why.contains("secret"), "{why}");
    replace(&secret, "canary-third");
    eventually("the secret that is back is applied", || outcome("applied"));
    replace(&file, &toml.replace(ECHO, OTHER));
    eventually("the other model is served", || chat(public, "other") == 200);
    // One that names a file which is not there yet, as when several are put in place one after the other.
    let late = rest.replace("secret", "late");
    replace(&file, &config("interval = \"20ms\"", &format!("{late}{ECHO}")));
    eventually("the missing file is refused", || outcome("rejected"));
    replace(&tollgate.folder.join("late"), "canary-late");
    eventually("the file that has come is applied", || chat(public, "echo") == 200);
    replace(&file, &toml.replace(ECHO, OTHER));
    eventually("the other model is served again", || chat(public, "other") == 200);
    let shown = admin(at, "GET", "/config").1;
    assert!(shown.contains("\"other\"") && shown.contains("\"secret\"") && !shown.contains("canary"), "{shown}");
}

#[test]
fn fifty_bad_files_change_nothing_and_fail_no_request() {
    let mut tollgate = Tollgate::start("bad-reloads", &["serve"], &config("watch = false", ECHO), &ENVIRONMENT);
    let file = tollgate.folder.join("tollgate.toml");
    let (public, at) = addresses(&tollgate);
    let bad = [
        "[server",
        "unknown = 1",
        "[providers.p]\nbase_url = \"http://h\"\napi_key = { file = \"/nowhere\" }",
        "[telemetry]\ncertificate = 7",
    ];
    let is_over = Arc::new(AtomicUsize::new(0));
    let load = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut answers = Vec::new();
            while is_over.load(Relaxed) == 0 {
                answers.push(chat(public, "echo"));
            }
            answers
        }
    });
    for number in 1..=50_u32 {
        fs::write(&file, config("watch = false", &format!("{ECHO}{}\n", bad[number as usize % bad.len()]))).unwrap();
        tollgate.signal("HUP");
        tollgate.line_with("the old one stays in force");
        assert_eq!(reloads(at, "rejected"), Some(f64::from(number)));
    }
    is_over.store(1, Relaxed);
    let answers = load.join().unwrap();
    assert!(answers.len() > 20 && answers.iter().all(|status| *status == 200), "{answers:?}");
    tollgate.signal("TERM");
    assert!(tollgate.exit().success());
}

#[test]
fn connections_to_a_provider_outlive_a_reload() {
    let provider = TcpListener::bind("127.0.0.1:0").unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let rest = format!(
        "[providers.far]\nbase_url = \"http://{}\"\n[models.far]\ndeployments = [{{ provider = \"far\" }}]\n",
        provider.local_addr().unwrap()
    );
    std::thread::spawn({
        let opened = Arc::clone(&opened);
        move || {
            for socket in provider.incoming().map_while(Result::ok) {
                opened.fetch_add(1, Relaxed);
                std::thread::spawn(move || answer_all(socket, |_| ()));
            }
        }
    });
    let tollgate = Tollgate::start("pool", &["serve"], &config("watch = false", &rest), &ENVIRONMENT);
    let (public, at) = addresses(&tollgate);
    assert_eq!(chat(public, "far"), 200);
    fs::write(tollgate.folder.join("tollgate.toml"), config("watch = false", &format!("{rest}{ECHO}"))).unwrap();
    assert!(admin(at, "POST", "/reload").1.contains("applied"));
    assert_eq!(chat(public, "far"), 200);
    assert_eq!(opened.load(Relaxed), 1);
}

/// A provider that answers every request of a connection and shows each line of its head, in lower case.
pub fn answer_all(socket: TcpStream, mut show: impl FnMut(&str)) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut socket = socket;
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).unwrap_or_default() > 2 {
            let lower = line.trim_end().to_ascii_lowercase();
            show(&lower);
            if let Some(text) = lower.strip_prefix("content-length: ") {
                length = text.parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        if line.is_empty() || reader.read_exact(&mut body).is_err() {
            return;
        }
        let answer = r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
        write!(
            socket,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        )
        .unwrap();
    }
}

#[test]
fn the_admin_listener_may_be_a_socket_in_the_file_system() {
    let path = std::env::temp_dir().join(format!("tollgate-admin-{}.sock", std::process::id()));
    let toml = config("", ECHO)
        .replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"unix:{}\"", path.display()));
    let mut tollgate = Tollgate::start("unix-admin", &["serve"], &toml, &[("TOLLGATE_KEY", KEY)]);
    tollgate.line_with("\"serving\"");
    eventually("the socket is there", || path.exists());
    let ask = |path_and_query: &str| ask(UnixStream::connect(&path).unwrap(), "GET", path_and_query, "", "");
    assert_eq!(ask("/readyz"), (200, "ok\n".into()));
    assert_eq!(ask("/status.json").0, 200);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    tollgate.signal("TERM");
    assert!(tollgate.exit().success());
    assert!(!path.exists());
}
