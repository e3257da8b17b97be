//! What is not for clients: metrics to scrape, probes, the state and the reload, on a listener of
//! their own.
//!
//! Runs on the control thread, beside the exporter, so that it costs no request anything. Owns who
//! may connect and for how long; `routes` says what is answered, `status` what state there is.

mod routes;
mod status;

use std::{
    cell::RefCell,
    convert::Infallible,
    fs, io,
    path::Path,
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use self::{routes::Routes, status::Status};
use crate::{
    config::{self, Listen},
    export::{self, Scrape},
    gateway::{Gateway, Reloader},
    message,
};

/// Connections at once; more wait in the kernel.
const CONNECTIONS_MAX: usize = 16;

/// Largest request head.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Longest wait for a request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest life of a connection: a head, and as long again for a reader to take the answer.
const CONNECTION_MAX: Duration = HEAD_TIMEOUT.saturating_mul(2);

/// Longest pause after a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// How long answers that are under way may hold up the end of the process.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// Who may use the socket in the file system: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// The listener, bound and not serving yet.
#[derive(Debug)]
pub struct Admin {
    listener: Listener,
    /// SHA-256 of the token.
    token: Option<digest::Digest>,
}

#[derive(Debug)]
struct Listener {
    socket: Socket,
    place: Listen,
    /// Whether the file of the socket is ours to remove: that of one that was handed over belongs to who
    /// holds it.
    is_ours: bool,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What the answers are made of.
#[derive(Debug)]
pub struct Parts {
    /// What `/metrics` reads, if it is to be there.
    pub scrape: Option<Scrape>,
    pub resource: Vec<(String, String)>,
    /// The answer of `/readyz`.
    pub ready: Arc<AtomicBool>,
    pub gateway: Arc<ArcSwap<Gateway>>,
    /// `None`: there is nothing to be read again.
    pub reloader: Option<Rc<Reloader>>,
    /// Where clients connect.
    pub public: Vec<Listen>,
    /// Those in the network take TLS only.
    pub has_tls: bool,
    pub exports: export::State,
}

/// The listener at work.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, with the port that was found.
    pub place: Listen,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Admin {
    /// Binds what `settings` asks for, if it does and nothing `inherited` takes its place, or says why
    /// that cannot be.
    ///
    /// Needs a runtime.
    pub fn bind(settings: &config::Admin, inherited: Option<socket2::Socket>) -> Result<Option<Self>, String> {
        let listener = match (inherited, &settings.listen) {
            (Some(socket), _) => {
                let unusable = |error| format!("cannot listen on the socket named admin that was handed over: {error}");
                let listener = Listener::of(socket).map_err(unusable)?;
                let name = "the socket named admin that was handed over";
                protected(settings, &listener.place, name, "change ListenStream= of its unit to 127.0.0.1")?;
                listener
            }
            (None, Some(listen)) => {
                protected(settings, listen, "admin.listen", "listen on 127.0.0.1")?;
                Listener::bind(listen).map_err(|error| format!("cannot listen on {listen} (admin.listen): {error}"))?
            }
            (None, None) => return Ok(None),
        };
        let token = settings.token.as_ref().map(|token| routes::digest_of(token.expose().trim().as_bytes()));
        Ok(Some(Self { listener, token }))
    }

    /// Serves until it is stopped. Needs a `LocalSet`.
    pub fn start(self, parts: Parts) -> Running {
        let Self { listener, token } = self;
        let (stop, stopped) = watch::channel(false);
        let place = listener.place.clone();
        let Parts { scrape, resource, ready, gateway, reloader, public, has_tls, exports } = parts;
        let public = public.iter().map(|place| ("public", place, has_tls && matches!(place, Listen::Tcp(_))));
        let listeners = public.chain([("admin", &place, false)]).map(status::listener).collect();
        let status = Status { started: Instant::now(), listeners, ready, gateway, reloader, exports };
        let routes = Rc::new(Routes {
            scrape: scrape.map(RefCell::new),
            resource: resource.into(),
            status,
            token,
            is_private: matches!(place, Listen::Unix(_)),
        });
        let task = tokio::task::spawn_local(accept(listener, routes, stopped));
        Running { place, stop, task }
    }
}

/// Refuses a place that other machines may reach where no token protects it.
fn protected(settings: &config::Admin, place: &Listen, name: &str, advice: &str) -> Result<(), String> {
    if settings.token.is_none() && !place.is_local() {
        return Err(format!("{name} is {place}, which other machines may reach: set admin.token, or {advice}"));
    }
    if settings.token.as_ref().is_some_and(|token| token.expose().trim().is_empty()) {
        return Err("admin.token is empty".to_owned());
    }
    Ok(())
}

impl Listener {
    fn bind(listen: &Listen) -> io::Result<Self> {
        let (socket, place) = match listen {
            // Unlike the public port, this one is never shared: two processes that answer in turns would
            // make nonsense of every counter.
            Listen::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                (Socket::Tcp(TcpListener::from_std(listener)?), Listen::Tcp(address))
            }
            Listen::Unix(path) => {
                let listener = message::listen_at(path, SOCKET_MODE)?;
                (Socket::Unix(UnixListener::from_std(listener)?), listen.clone())
            }
        };
        Ok(Self { socket, place, is_ours: true })
    }

    /// On a socket that somebody else holds, which does not block.
    fn of(socket: socket2::Socket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let (socket, place) = match address.as_socket() {
            Some(address) => (Socket::Tcp(TcpListener::from_std(socket.into())?), Listen::Tcp(address)),
            None => {
                let path = address.as_pathname().unwrap_or(Path::new("")).to_owned();
                (Socket::Unix(UnixListener::from_std(socket.into())?), Listen::Unix(path))
            }
        };
        Ok(Self { socket, place, is_ours: false })
    }

    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match &self.socket {
            Socket::Tcp(listener) => Box::new(listener.accept().await?.0),
            Socket::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let (Listen::Unix(path), true) = (&self.place, self.is_ours)
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "the socket of the admin listener was gone");
        }
    }
}

trait Connection: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection for S {}

impl Running {
    /// Closes the listener and lets answers that are under way be read, for a moment.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the admin listener failed");
        }
    }
}

/// Accepts until the stop, then waits for the connections that are open.
async fn accept(listener: Listener, routes: Rc<Routes>, stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop(stopped.clone()));
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok(socket) => {
                    connections.spawn_local(serve(socket, Rc::clone(&routes), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the admin listener");
                    // Out of file descriptors: the next accept fails as well, so wait for some.
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let rest = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    let _cut_off = tokio::time::timeout(CLOSING_MAX, rest).await.is_err();
}

/// Serves one request. Whoever scrapes does so every few seconds at most, and a connection that is
/// not kept can neither be idle nor be closed under the next request.
async fn serve(socket: Box<dyn Connection>, routes: Rc<Routes>, stopped: watch::Receiver<bool>) {
    let service = service_fn(|request| {
        let answer = routes.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(2 * HEAD_BYTES_MAX)
            .keep_alive(false)
            .serve_connection(TokioIo::new(socket), service)
    );
    let mut stop = pin!(stop(stopped));
    let mut limit = pin!(tokio::time::sleep(CONNECTION_MAX));
    let mut is_closing = false;
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = &mut stop, if !is_closing => {
                is_closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut limit => {
                tracing::debug!("an admin connection took too long");
                return;
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended");
    }
}

/// Waits for the stop; a sender that is gone is one as well.
async fn stop(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "an admin connection's task panicked; others go on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn settings(listen: &str, token: Option<&str>) -> config::Admin {
        config::Admin { listen: Some(listen.parse().unwrap()), token: token.map(Secret::new) }
    }

    #[tokio::test]
    async fn what_others_may_reach_has_to_have_a_token() {
        assert!(Admin::bind(&config::Admin::default(), None).unwrap().is_none());
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
            let why = Admin::bind(&settings(listen, None), None).unwrap_err();
            assert!(why.contains(listen) && why.contains("admin.token"), "{why}");
            assert_eq!(Admin::bind(&settings(listen, Some(" ")), None).unwrap_err(), "admin.token is empty");
        }
        assert!(Admin::bind(&settings("127.0.0.1:0", None), None).unwrap().is_some());
        assert!(Admin::bind(&settings("127.0.0.2:0", None), None).unwrap().is_some());
        assert!(Admin::bind(&settings("0.0.0.0:0", Some("t")), None).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_socket_that_was_handed_over_takes_the_place_of_the_address() {
        let handed = |address: &str| {
            let socket = std::net::TcpListener::bind(address).unwrap();
            socket.set_nonblocking(true).unwrap();
            (socket.local_addr().unwrap(), Some(socket2::Socket::from(socket)))
        };
        let (address, socket) = handed("127.0.0.1:0");
        let admin = Admin::bind(&settings("127.0.0.1:1", None), socket).unwrap().unwrap();
        assert_eq!(admin.listener.place, Listen::Tcp(address));
        assert!(Admin::bind(&config::Admin::default(), handed("127.0.0.1:0").1).unwrap().is_some());
        let (address, socket) = handed("0.0.0.0:0");
        let why = Admin::bind(&settings("127.0.0.1:0", None), socket).unwrap_err();
        assert!(why.contains(&address.to_string()) && why.contains("admin.token"), "{why}");
        assert!(Admin::bind(&settings("127.0.0.1:0", Some("t")), handed("0.0.0.0:0").1).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let why = Admin::bind(&settings(&address, None), None).unwrap_err();
        assert!(why.starts_with(&format!("cannot listen on {address} (admin.listen): ")), "{why}");
        assert!(why.contains("in use"), "{why}");
    }
}
