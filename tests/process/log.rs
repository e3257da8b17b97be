//! What the program logs, in which form, and that nobody waits for whoever reads it.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _},
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::Value;

use crate::{
    echo,
    support::{KEY, PATIENCE, Tollgate},
};

/// `[log]`, arguments, environment, and what is expected of them.
type Case<'a, T> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)], T);

/// The program on unix sockets, its standard error in a pipe that is read when the test says so.
struct Logged {
    child: Child,
    folder: PathBuf,
    pipe: Option<PipeReader>,
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
        let _gone = fs::remove_dir_all(&self.folder).is_err();
    }
}

fn config(folder: &std::path::Path, log: &str) -> String {
    let folder = folder.display();
    format!(
        "[server]\nlisten = \"unix:{folder}/public\"\nthreads = 1\n[admin]\nlisten = \"unix:{folder}/admin\"\n\
         [providers.echo]\nkind = \"echo\"\ndelay = \"0ms\"\n\
         [models.echo]\ndeployments = [{{ provider = \"echo\", price = {{ input = 1, output = 2 }} }}]\n\
         [[keys]]\nname = \"team-a\"\nkey = \"${{TOLLGATE_KEY}}\"\n[log]\n{log}\n"
    )
}

impl Logged {
    /// Starts it; `{stream}` in a variable stands for the device and inode of its standard error.
    fn start(name: &str, log: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("tollgate.toml"), config(&folder, log)).unwrap();
        let (pipe, end) = std::io::pipe().unwrap();
        let end = File::from(OwnedFd::from(end));
        let found = end.metadata().unwrap();
        let stream = format!("{}:{}", found.dev(), found.ino());
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("serve")
            .args(arguments)
            .current_dir(&folder)
            .env_clear()
            .envs([("OTEL_METRICS_EXPORTER", "prometheus"), ("TOLLGATE_KEY", KEY)])
            .envs(environment.iter().map(|(name, value)| (name, value.replace("{stream}", &stream))))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(end)
            .spawn()
            .unwrap();
        let logged = Self { child, folder, pipe: Some(pipe) };
        let deadline = Instant::now() + PATIENCE;
        // The last of its sockets that is there.
        while UnixStream::connect(logged.folder.join("public")).is_err() {
            assert!(Instant::now() < deadline, "did not start");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        logged
    }

    fn connect(&self, socket: &str) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.folder.join(socket)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    /// The value of the one series with that beginning.
    fn series(&self, beginning: &str) -> u64 {
        let mut admin = self.connect("admin");
        let (status, text) = ask(&mut admin, "GET", "/metrics", "", "");
        assert_eq!(status, 200);
        let value = text.lines().find(|line| line.starts_with(beginning)).and_then(|line| line.rsplit(' ').next());
        value.unwrap_or_else(|| panic!("no {beginning}")).parse().unwrap()
    }

    fn dropped(&self, reason: &str) -> u64 {
        self.series(&format!("tollgate_log_lines_dropped_total{{tollgate_reason=\"{reason}\""))
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it, and everything it has logged.
    fn end(mut self) -> String {
        let mut pipe = self.pipe.take().unwrap();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).unwrap();
            text
        });
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
        reading.join().unwrap()
    }
}

/// Status and body of the answer to a request on a connection that goes on.
fn ask(socket: &mut BufReader<UnixStream>, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    socket.get_mut().write_all(request.as_bytes()).unwrap();
    let (mut status, mut length) = (0, None);
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).unwrap();
        match line.trim_end().split_once(' ') {
            Some(("HTTP/1.1", rest)) => status = rest.split(' ').next().unwrap().parse().unwrap(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length:") => length = value.parse().ok(),
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = String::new();
    match length {
        Some(length) => {
            let mut bytes = vec![0; length];
            socket.read_exact(&mut bytes).unwrap();
            body = String::from_utf8(bytes).unwrap();
        }
        // In chunks, none of which looks like the last.
        None => while socket.read_line(&mut body).unwrap() > 0 && !body.ends_with("\r\n0\r\n\r\n") {},
    }
    (status, body)
}

fn chat(socket: &mut BufReader<UnixStream>, model: &str, is_stream: bool) -> u16 {
    let body = format!(
        r#"{{"model":"{model}","stream":{is_stream},"messages":[{{"role":"user","content":"canary-prompt two three"}}]}}"#
    );
    ask(socket, "POST", "/v1/chat/completions", &format!("Authorization: Bearer {KEY}\r\n"), &body).0
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_log_that_nobody_reads_stops_no_request() {
    let log = "level = \"trace\"\nmax_lines_per_second = 1000000";
    let logged = Logged::start("unread", log, &[], &[]);
    let mut socket = logged.connect("public");
    let mut requests = 0;
    // Each logs a line; the pipe has room for a few hundred, the queue for a thousand.
    while requests < 50_000 && logged.dropped("queue_full") < 100 {
        for _ in 0..500 {
            assert_eq!(chat(&mut socket, "unknown", false), 404);
            requests += 1;
        }
    }
    assert!(requests < 50_000, "nothing was dropped");
    assert_eq!(logged.dropped("write_failed"), 0);
    let text = logged.end();
    let lines = objects(&text);
    let failed = lines.iter().filter(|line| line["message"] == "request failed").count();
    let told: Vec<_> = lines.iter().filter(|line| line["message"].as_str().unwrap().contains("were dropped")).collect();
    let dropped: u64 = told.iter().map(|line| line["lines"].as_u64().unwrap()).sum();
    // The lines of the end may have been among the dropped.
    assert!((requests..requests + 3).contains(&(failed as u64 + dropped)), "{failed} {told:?}");
}

#[test]
fn a_reader_that_is_gone_stops_no_request() {
    let mut logged = Logged::start("gone", "level = \"trace\"", &[], &[]);
    drop(logged.pipe.take());
    let mut socket = logged.connect("public");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // First of all, for a connection that has asked nothing yet may still do so when the end comes.
        assert_eq!(chat(&mut socket, "unknown", false), 404);
        if logged.dropped("write_failed") > 0 {
            break;
        }
        assert!(Instant::now() < deadline);
    }
    logged.signal("TERM");
    assert!(logged.child.wait().unwrap().success());
}

#[test]
fn lines_beyond_the_limit_of_a_second_are_sampled_and_counted() {
    let logged = Logged::start("limit", "access = true\nmax_lines_per_second = 10", &[], &[]);
    let mut socket = logged.connect("public");
    let requests = 300;
    for _ in 0..requests {
        assert_eq!(chat(&mut socket, "echo", false), 200);
    }
    // The answer may be here before the line of its request is.
    let second = ask(&mut socket, "GET", "/healthz", "", "").0;
    assert_eq!(second, 200);
    let dropped = logged.dropped("max_lines_per_second");
    let lines = objects(&logged.end());
    let chats = lines.iter().filter(|line| line["route"] == "/v1/chat/completions").count();
    let others = lines.iter().filter(|line| line["message"] != "request" || line["route"] == "/healthz").count();
    // However many seconds it took: those that were not written are counted.
    assert!(dropped > 0 && chats >= 2, "{dropped} {chats}");
    let sum = chats as u64 + dropped;
    assert!((requests..=requests + 8).contains(&sum), "{sum}, {others} others");
    assert!(lines.iter().any(|line| line["message"].as_str().unwrap().contains("were dropped")));
}

#[test]
fn the_access_log_has_a_line_for_every_request_and_no_secret() {
    let logged = Logged::start("access", "access = true\nlevel = \"warn\"", &[], &[]);
    let mut socket = logged.connect("public");
    assert_eq!(chat(&mut socket, "echo", false), 200);
    assert_eq!(chat(&mut socket, "echo", true), 200);
    assert_eq!(chat(&mut socket, "canary-model", false), 404);
    assert_eq!(ask(&mut socket, "GET", "/canary-path?key=canary-query", "", "").0, 404);
    assert_eq!(ask(&mut socket, "GET", "/v1/models", "Authorization: Bearer canary-key-0001\r\n", "").0, 401);
    assert_eq!(ask(&mut socket, "GET", "/healthz", "", "").0, 200);
    drop(socket);
    let text = logged.end();
    assert!(!text.contains("canary") && !text.contains(KEY), "{text}");
    let lines = objects(&text);
    let expected = r#"
        {"method":"POST","route":"/v1/chat/completions","status":200,"outcome":"completed","operation":"chat","key":"team-a","model":"echo","deployment":"echo/echo","attempts":1,"input_tokens":3,"output_tokens":3,"cost_usd":9e-6}
        {"method":"POST","route":"/v1/chat/completions","status":200,"outcome":"completed","operation":"chat","key":"team-a","model":"echo","deployment":"echo/echo","attempts":1,"input_tokens":3,"output_tokens":3,"cost_usd":9e-6}
        {"method":"POST","route":"/v1/chat/completions","status":404,"outcome":"failed","error.type":"client_unknown_model","operation":"chat","key":"team-a"}
        {"method":"GET","status":404,"outcome":"failed","error.type":"client_unknown_route"}
        {"method":"GET","route":"/v1/models","status":401,"outcome":"failed","error.type":"client_invalid_key"}
        {"method":"GET","route":"/healthz","status":200,"outcome":"completed"}"#;
    let expected: Vec<Value> = objects(expected.trim());
    assert_eq!(lines.len(), expected.len(), "{text}");
    for (line, expected) in lines.iter().zip(&expected) {
        let line = line.as_object().unwrap();
        let varying = ["timestamp", "level", "message", "request_id", "request_bytes", "response_bytes"];
        let is_exact = |name: &str| !varying.contains(&name) && !name.ends_with("_ms");
        let exact: serde_json::Map<_, _> =
            line.iter().filter(|(name, _)| is_exact(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
        assert_eq!(&Value::Object(exact), expected);
        assert_eq!((line["level"].as_str(), line["message"].as_str()), (Some("INFO"), Some("request")));
        assert!(line["request_id"].as_str().unwrap().starts_with("req_"));
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0 && line["response_bytes"].as_u64().unwrap() > 0);
        if expected.get("deployment").is_some() {
            let (overhead, first) = (line["overhead_ms"].as_f64().unwrap(), line["first_byte_ms"].as_f64().unwrap());
            assert!(overhead <= first && first <= line["duration_ms"].as_f64().unwrap(), "{line:?}");
            assert!(line["request_bytes"].as_u64().unwrap() > 80);
        }
    }
}

#[test]
fn the_access_log_says_who_it_was() {
    let toml = echo("0ms").replacen("[server]\n", "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n", 1);
    let toml = toml + "[log]\naccess = true\n";
    let tollgate = Tollgate::start("client", &["serve"], &toml, &[("TOLLGATE_KEY", KEY)]);
    let address = tollgate.address();
    for (headers, client) in [
        ("Host: t\r\n", "127.0.0.1"),
        ("Host: t\r\nX-Forwarded-For: 192.0.2.1, 2001:db8::7, 127.0.0.1\r\n", "2001:db8::7"),
        // Not even a request: whom its proxy speaks for is not known.
        ("", "127.0.0.1"),
    ] {
        let mut socket = TcpStream::connect(address).unwrap();
        write!(socket, "GET /healthz HTTP/1.1\r\n{headers}\r\n").unwrap();
        let line: Value = serde_json::from_str(&tollgate.line_with("\"request\"")).unwrap();
        assert_eq!(line["client"], client);
    }
}

#[test]
fn a_reload_turns_the_access_log_on() {
    let logged = Logged::start("reload", "", &[], &[]);
    let mut socket = logged.connect("public");
    assert_eq!(chat(&mut socket, "echo", false), 200);
    fs::write(logged.folder.join("tollgate.toml"), config(&logged.folder, "access = true")).unwrap();
    let (status, answer) = ask(&mut logged.connect("admin"), "POST", "/reload", "", "");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(chat(&mut socket, "echo", false), 200);
    drop(socket);
    let text = logged.end();
    assert_eq!(objects(&text).iter().filter(|line| line["message"] == "request").count(), 1, "{text}");
}

#[test]
fn lines_have_the_form_that_was_asked_for_or_that_their_reader_wants() {
    const JOURNAL: (&str, &str) = ("JOURNAL_STREAM", "{stream}");
    const OTHERS: (&str, &str) = ("JOURNAL_STREAM", "1:1");
    #[rustfmt::skip]
    let cases: [Case<'_, &str>; 8] = [
        ("", &[], &[], "{\"timestamp\""),
        ("", &[], &[OTHERS], "{\"timestamp\""),
        ("", &[], &[JOURNAL], "<6> INFO serving"),
        ("format = \"json\"", &[], &[JOURNAL], "{\"timestamp\""),
        ("format = \"journal\"", &[], &[], "<6> INFO serving"),
        ("format = \"text\"", &[], &[JOURNAL], "20"),
        ("format = \"text\"", &["--log-format", "journal"], &[], "<6> INFO serving"),
        ("format = \"text\"", &["--log-format", "auto"], &[], "{\"timestamp\""),
    ];
    for (number, (log, arguments, environment, beginning)) in cases.into_iter().enumerate() {
        let text = Logged::start(&format!("form-{number}"), log, arguments, environment).end();
        assert!(text.contains("serving") && text.contains("stopped"), "{number}: {text}");
        assert!(text.lines().all(|line| line.starts_with(beginning.split_at(2).0)), "{number}: {text}");
        assert!(text.lines().any(|line| line.starts_with(beginning)), "{number}: {text}");
        assert!(!text.contains('\x1b'), "{number}: {text}");
    }
}

#[test]
fn the_level_is_the_command_line_s_then_the_environment_s_then_the_file_s() {
    let cases: [Case<'_, bool>; 4] = [
        ("level = \"error\"", &[], &[], false),
        ("level = \"error\"", &["--log-level", "info"], &[], true),
        ("level = \"error\"", &[], &[("TOLLGATE_LOG", "info")], true),
        ("level = \"info\"", &["--log-level", "warn"], &[("TOLLGATE_LOG", "info")], false),
    ];
    for (number, (log, arguments, environment, is_told)) in cases.into_iter().enumerate() {
        let text = Logged::start(&format!("level-{number}"), log, arguments, environment).end();
        assert_eq!(text.contains("stopped"), is_told, "{number}: {text}");
    }
}

#[test]
fn long_lines_are_cut_and_still_read() {
    let logged = Logged::start("long", "access = true\nmax_line_bytes = 256", &[], &[]);
    assert_eq!(chat(&mut logged.connect("public"), "echo", false), 200);
    let text = logged.end();
    let lines = objects(&text);
    let request = lines.iter().find(|line| line["message"] == "request").unwrap();
    assert_eq!((&request["status"], &request["truncated"]), (&200.into(), &true.into()));
    assert!(text.lines().all(|line| line.len() < 256), "{text}");
}
