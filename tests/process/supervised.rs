//! Under a supervisor such as systemd: what it is told, and a listening socket that it holds.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::AsFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use command_fds::{CommandFdExt as _, FdMapping};

use crate::support::{KEY, PATIENCE};

const TOML: &str = "[server]\nlisten = \"127.0.0.1:1\"\nthreads = 2\n[reload]\nwatch = false\n[providers.echo]\n\
                    kind = \"echo\"\n[models.echo]\ndeployments = [{ provider = \"echo\" }]\n[[keys]]\nname = \"k\"\n\
                    key = \"${TOLLGATE_KEY}\"\n";

/// A supervisor with a folder, a socket for news and one that clients connect to.
struct Supervisor {
    folder: PathBuf,
    news: UnixDatagram,
    public: TcpListener,
    /// `OTEL_METRICS_EXPORTER` of the service.
    exporter: &'static str,
}

impl Supervisor {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-supervised-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("tollgate.toml"), TOML).unwrap();
        let news = UnixDatagram::bind(folder.join("notify")).unwrap();
        news.set_read_timeout(Some(PATIENCE)).unwrap();
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { folder, news, public, exporter: "none" }
    }

    fn address(&self) -> SocketAddr {
        self.public.local_addr().unwrap()
    }

    /// Starts the service with the socket as its first, as systemd does.
    fn start(&self) -> Service {
        self.start_with(&[("tollgate.socket", &self.public)])
    }

    /// Starts the service with these sockets, each under its name.
    fn start_with(&self, sockets: &[(&str, &dyn AsFd)]) -> Service {
        let mappings = (3..).zip(sockets).map(|(child_fd, (_, socket))| FdMapping {
            parent_fd: socket.as_fd().try_clone_to_owned().unwrap(),
            child_fd,
        });
        let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new("sh");
        command
            .args(["-c", "LISTEN_PID=$$ exec \"$0\" serve", env!("CARGO_BIN_EXE_tollgate")])
            .current_dir(&self.folder)
            .env_clear()
            .envs([("TOLLGATE_KEY", KEY), ("OTEL_METRICS_EXPORTER", self.exporter)])
            .env("LISTEN_FDS", sockets.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", self.folder.join("notify"))
            .env("WATCHDOG_USEC", "400000")
            .stderr(fs::File::create(self.folder.join("log")).unwrap());
        // The child alone gets them: no other test's child must hold a socket of this one.
        command.fd_mappings(mappings.collect()).unwrap();
        let child = command.spawn().unwrap();
        Service(child)
    }

    /// The next news that contains `text`.
    fn hears(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            let length = self.news.recv(&mut buffer).unwrap_or_else(|error| {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("{text} was not said: {error}\n{log}")
            });
            let news = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if news.contains(text) {
                return news;
            }
        }
        panic!("{text} was not said");
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.folder).is_err();
    }
}

struct Service(Child);

impl Service {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.0.kill().is_err();
        let _reaped = self.0.wait().is_err();
    }
}

#[test]
fn the_supervisor_hears_how_the_service_is() {
    let supervisor = Supervisor::new("news");
    let mut service = supervisor.start();
    let ready = supervisor.hears("READY=1");
    assert_eq!(ready, format!("READY=1\nSTATUS=serving on {}; 0 requests under way", supervisor.address()));
    let begun = Instant::now();
    (0..3).for_each(|_| drop(supervisor.hears("WATCHDOG=1")));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());

    service.signal("HUP");
    assert!(supervisor.hears("RELOADING=1").contains("MONOTONIC_USEC="));
    supervisor.hears("READY=1\nSTATUS=serving on ");
    fs::write(supervisor.folder.join("tollgate.toml"), "[server\n").unwrap();
    service.signal("HUP");
    supervisor.hears("RELOADING=1");
    let status = supervisor.hears("READY=1");
    assert!(status.contains("STATUS=the old configuration stays in force: tollgate.toml:1:8"), "{status}");
    assert_eq!(status.lines().count(), 2);

    service.signal("TERM");
    supervisor.hears("STOPPING=1");
    assert!(service.0.wait().unwrap().success());
}

/// The status of one request on a connection of its own, or why there is none.
/// Takes exports for as long as it is told to, and refuses them otherwise.
fn receiver() -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let takes = Arc::new(AtomicBool::new(true));
    let answer = Arc::clone(&takes);
    std::thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let mut socket = BufReader::new(socket);
            let mut length = 0;
            let mut line = String::new();
            while socket.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                let lower = line.to_ascii_lowercase();
                length = lower.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
                line.clear();
            }
            let _cut = socket.read_exact(&mut vec![0; length]).is_err();
            let status = if answer.load(Relaxed) { "200 OK" } else { "400 Bad Request" };
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            let _gone = socket.get_mut().write_all(head.as_bytes()).is_err();
        }
    });
    (address, takes)
}

#[test]
fn the_status_is_that_of_the_moment() {
    let (address, takes) = receiver();
    for (name, watch) in [("watched", "interval = \"50ms\""), ("told", "watch = false")] {
        let mut supervisor = Supervisor::new(name);
        supervisor.exporter = "otlp";
        let supervisor = supervisor;
        let admin = supervisor.folder.join("admin");
        let config = TOML
            .replace("watch = false", watch)
            .replace("\"echo\"\n[models", "\"echo\"\ndelay = \"50ms\"\n[models")
            + &format!(
                "[admin]\nlisten = \"unix:{}\"\n[telemetry]\nendpoint = \"http://{address}\"\ninterval = \"50ms\"\n",
                admin.display()
            );
        let write = |text: &str| {
            fs::write(supervisor.folder.join("tollgate.toml"), text).unwrap();
            if name == "told" {
                get(UnixStream::connect(&admin).unwrap(), "POST", "/reload");
            }
        };
        fs::write(supervisor.folder.join("tollgate.toml"), &config).unwrap();
        let service = supervisor.start();
        let well = format!("STATUS=serving on {}; 0 requests under way; otlp takes metrics", supervisor.address());
        supervisor.hears(&well);
        takes.store(false, Relaxed);
        supervisor.hears("; 0 requests under way; otlp has taken no metrics since 20");
        takes.store(true, Relaxed);
        supervisor.hears(&well);
        let client = crate::stream(supervisor.address(), 1000);
        supervisor.hears("; 1 request under way; ");
        drop(client);
        supervisor.hears(&well);
        write("[server\n");
        supervisor.hears("STATUS=the old configuration stays in force: tollgate.toml:1:8: unclosed table");
        write(&config.replace("50ms\"\n[models", "51ms\"\n[models"));
        supervisor.hears(&well);
        drop(service);
    }
}

fn ask(address: SocketAddr) -> std::io::Result<u16> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let body = r#"{"model":"echo","messages":[{"role":"user","content":"a"}]}"#;
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.filter(|_| answer.ends_with("0\r\n\r\n")).ok_or_else(|| std::io::Error::other(answer))
}

#[test]
fn nobody_is_refused_while_the_service_restarts() {
    let supervisor = Supervisor::new("restart");
    let address = supervisor.address();
    let mut service = supervisor.start();
    supervisor.hears("READY=1");
    let is_over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                let mut answers = Vec::new();
                while !is_over.load(Relaxed) {
                    answers.push(ask(address));
                }
                answers
            })
        })
        .collect();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(200));
        service.signal("TERM");
        assert!(service.0.wait().unwrap().success());
        service = supervisor.start();
        supervisor.hears("READY=1");
    }
    std::thread::sleep(Duration::from_millis(200));
    is_over.store(true, Relaxed);
    let answers: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    let failed: Vec<_> = answers.iter().filter(|answer| !matches!(answer, Ok(200))).collect();
    assert!(answers.len() > 20 && failed.is_empty(), "{} of {}: {failed:?}", failed.len(), answers.len());
}

/// What the admin listener or the public one says to a GET.
fn get(mut socket: impl Read + Write, method: &str, path: &str) -> String {
    write!(socket, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn a_socket_named_admin_is_the_admin_listeners() {
    let supervisor = Supervisor::new("admin");
    let path = supervisor.folder.join("admin.sock");
    let admin = UnixListener::bind(&path).unwrap();
    let mut service = supervisor.start_with(&[("admin", &admin), ("tollgate.socket", &supervisor.public)]);
    let ready = supervisor.hears("READY=1");
    assert!(
        ready.contains(&format!("serving on {}", supervisor.address())) && !ready.contains("admin.sock"),
        "{ready}"
    );
    assert_eq!(get(UnixStream::connect(&path).unwrap(), "GET", "/status.json"), "200");
    assert_eq!(get(UnixStream::connect(&path).unwrap(), "GET", "/v1/models"), "404");
    assert_eq!(get(TcpStream::connect(supervisor.address()).unwrap(), "GET", "/status.json"), "404");
    assert_eq!(ask(supervisor.address()).unwrap(), 200);
    service.signal("TERM");
    assert!(service.0.wait().unwrap().success());
    assert!(path.exists(), "the socket belongs to the supervisor");
}

#[test]
fn a_socket_named_admin_that_others_may_reach_needs_a_token() {
    let supervisor = Supervisor::new("open-admin");
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = UnixStream::pair().unwrap().0;
    let address = open.local_addr().unwrap().to_string();
    for (sockets, expected) in [
        (&[("admin", &open as &dyn AsFd)][..], [&*address, "admin.token"]),
        (&[("admin", &closed), ("admin", &closed)], ["socket 1", "already"]),
        (&[("p", &supervisor.news)], ["socket 0", "ListenStream="]),
        (&[("p", &connected)], ["socket 0", "Accept=no"]),
    ] {
        let mut service = supervisor.start_with(sockets);
        assert_eq!(service.0.wait().unwrap().code(), Some(2));
        let log = fs::read_to_string(supervisor.folder.join("log")).unwrap();
        assert!(expected.iter().all(|part| log.contains(part)), "{log}");
    }
}
