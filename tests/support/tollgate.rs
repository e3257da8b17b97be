//! A whole gateway on a thread of its own: public listener, admin listener and exporter.

use std::{
    future::pending,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::{sync::oneshot, task::LocalSet};
use tollgate::{
    Tollgate,
    config::{Config, Environment, Listen},
};

/// The client key.
pub(crate) const KEY: &str = "tg-admin-test-key-000001";

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A model `echo` from the built-in provider, with the admin listener on a free port and `/metrics`
/// on it; metrics go where `environment` says.
pub(crate) fn config(environment: &[(&str, &str)]) -> Config {
    let toml = "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n[providers.echo]\nkind = \"echo\"\ndelay = \"10ms\"\n\
                [models.echo]\ndeployments = [{ provider = \"echo\", price = { input = 1, output = 2 } }]\n[[keys]]\nname = \"team-a\"\n\
                key = \"${TOLLGATE_KEY}\"\n";
    let environment = Environment::of(environment.iter().copied().chain([("TOLLGATE_KEY", KEY)]));
    let mut config = Config::parse(Path::new("tollgate.toml"), toml, &environment).unwrap().config;
    config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
    config.telemetry.prometheus = true;
    config
}

/// A running gateway, shut down when it is dropped.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gateway {
    /// Starts one, or says what stood in its way.
    pub(crate) fn start(config: Config) -> Result<Self, String> {
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, addresses) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async {
                match Tollgate::start(&config, |_, _| ()) {
                    Ok(tollgate) => {
                        let admin = match tollgate.admin_place {
                            Some(Listen::Tcp(address)) => Some(address),
                            _ => None,
                        };
                        started.send(Ok((tollgate.address().unwrap(), admin))).unwrap();
                        // A sender that is dropped stops it as well.
                        let _dropped = stopped.await.is_err();
                        tollgate.shutdown(pending()).await;
                    }
                    Err(why) => started.send(Err(why)).unwrap(),
                }
            });
        });
        let (address, admin) = addresses.recv_timeout(PATIENCE).unwrap()?;
        Ok(Self { address, admin, stop: Some(stop), thread: Some(thread) })
    }

    /// Where its admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.unwrap()
    }

    /// Begins the shutdown, which lets requests finish.
    pub(crate) fn signal(&mut self) {
        drop(self.stop.take());
    }

    /// Shuts it down and waits for its end.
    pub(crate) fn stop(&mut self) {
        self.signal();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// One streaming chat of as many words, left to be read.
    pub(crate) fn stream(&self, words: usize) -> TcpStream {
        let body = format!(
            r#"{{"model":"echo","stream":true,"messages":[{{"role":"user","content":"{}"}}]}}"#,
            vec!["word"; words].join(" ")
        );
        let length = body.len();
        send(
            self.address,
            &format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            ),
        )
    }

    /// One chat to its end.
    pub(crate) fn chat(&self, words: usize) {
        let answer = read(self.stream(words));
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("[DONE]"), "{answer}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.signal();
        if let Some(thread) = self.thread.take() {
            let _failed = thread.join().is_err();
        }
    }
}

/// Sends a request as it is.
pub(crate) fn send(address: SocketAddr, request: &str) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

/// Everything up to the end of a connection.
pub(crate) fn read(mut socket: TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}
