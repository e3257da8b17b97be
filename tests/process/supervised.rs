//! Under a supervisor such as systemd: what it is told, and a listening socket that it holds.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::support::{KEY, PATIENCE};

const TOML: &str = "[server]\nlisten = \"127.0.0.1:1\"\nthreads = 2\n[reload]\nwatch = false\n[providers.echo]\n\
                    kind = \"echo\"\n[models.echo]\ndeployments = [{ provider = \"echo\" }]\n[[keys]]\nname = \"k\"\n\
                    key = \"${TOLLGATE_KEY}\"\n";

/// A supervisor with a folder, a socket for news and one that clients connect to.
struct Supervisor {
    folder: PathBuf,
    news: UnixDatagram,
    public: TcpListener,
}

impl Supervisor {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-supervised-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("tollgate.toml"), TOML).unwrap();
        let news = UnixDatagram::bind(folder.join("notify")).unwrap();
        news.set_read_timeout(Some(PATIENCE)).unwrap();
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        // It is to be handed over.
        fcntl_setfd(public.as_fd(), FdFlags::empty()).unwrap();
        Self { folder, news, public }
    }

    fn address(&self) -> SocketAddr {
        self.public.local_addr().unwrap()
    }

    /// Starts the service with the socket as its first, as systemd does.
    fn start(&self) -> Service {
        let program = Path::new(env!("CARGO_BIN_EXE_tollgate")).display();
        let number = self.public.as_raw_fd();
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("LISTEN_PID=$$ exec {program} serve 3<&{number}"))
            .current_dir(&self.folder)
            .env_clear()
            .envs([("TOLLGATE_KEY", KEY), ("OTEL_METRICS_EXPORTER", "none"), ("LISTEN_FDS", "1")])
            .env("NOTIFY_SOCKET", self.folder.join("notify"))
            .env("WATCHDOG_USEC", "400000")
            .stderr(fs::File::create(self.folder.join("log")).unwrap())
            .spawn()
            .unwrap();
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
    assert_eq!(ready, format!("READY=1\nSTATUS=serving on {}", supervisor.address()));
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
