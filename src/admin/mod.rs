//! What is not for clients: metrics to scrape and probes, on a listener of their own.
//!
//! Runs on the control thread, beside the exporter, so that it costs no request anything. Owns who
//! may connect and for how long; `routes` says what is answered. Can change nothing.

mod routes;

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use self::routes::Routes;
use crate::{config, export::Scrape};

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

/// The listener, bound and not serving yet.
#[derive(Debug)]
pub struct Admin {
    pub address: SocketAddr,
    listener: TcpListener,
    /// SHA-256 of the token.
    token: Option<digest::Digest>,
}

/// The listener at work.
#[derive(Debug)]
pub struct Running {
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Admin {
    /// Binds what `settings` asks for, if it does, or says why that cannot be.
    ///
    /// Needs a runtime.
    pub fn bind(settings: &config::Admin) -> Result<Option<Self>, String> {
        let Some(address) = settings.listen else { return Ok(None) };
        if settings.token.is_none() && !address.ip().to_canonical().is_loopback() {
            return Err(format!(
                "admin.listen is {address}, which other machines may reach: set admin.token, or listen on 127.0.0.1"
            ));
        }
        if settings.token.as_ref().is_some_and(|token| token.expose().trim().is_empty()) {
            return Err("admin.token is empty".to_owned());
        }
        let cannot = |error: io::Error| format!("cannot listen on {address} (admin.listen): {error}");
        // Unlike the public port, this one is never shared: two processes that answer in turns would
        // make nonsense of every counter.
        let listener = std::net::TcpListener::bind(address).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let listener = TcpListener::from_std(listener).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let token = settings.token.as_ref().map(|token| routes::digest_of(token.expose().trim().as_bytes()));
        Ok(Some(Self { address, listener, token }))
    }

    /// Serves until it is stopped. `scrape` is what `/metrics` reads, if it is to be there; `ready`
    /// is the answer of `/readyz`. Needs a `LocalSet`.
    pub fn start(self, scrape: Option<Scrape>, resource: &[(String, String)], ready: Arc<AtomicBool>) -> Running {
        let Self { address, listener, token } = self;
        let (stop, stopped) = watch::channel(false);
        let routes = Rc::new(Routes { scrape: scrape.map(RefCell::new), resource: resource.into(), ready, token });
        let task = tokio::task::spawn_local(accept(listener, routes, stopped));
        Running { address, stop, task }
    }
}

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
async fn accept(listener: TcpListener, routes: Rc<Routes>, stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop(stopped.clone()));
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((socket, _)) => {
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
async fn serve(socket: TcpStream, routes: Rc<Routes>, stopped: watch::Receiver<bool>) {
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
        assert!(Admin::bind(&config::Admin::default()).unwrap().is_none());
        for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
            let why = Admin::bind(&settings(listen, None)).unwrap_err();
            assert!(why.contains(listen) && why.contains("admin.token"), "{why}");
            assert_eq!(Admin::bind(&settings(listen, Some(" "))).unwrap_err(), "admin.token is empty");
        }
        assert!(Admin::bind(&settings("127.0.0.1:0", None)).unwrap().is_some());
        assert!(Admin::bind(&settings("127.0.0.2:0", None)).unwrap().is_some());
        assert!(Admin::bind(&settings("0.0.0.0:0", Some("t"))).unwrap().is_some());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = Admin::bind(&settings("127.0.0.1:0", None)).unwrap().unwrap();
        let address = taken.address.to_string();
        let why = Admin::bind(&settings(&address, None)).unwrap_err();
        assert!(why.starts_with(&format!("cannot listen on {address} (admin.listen): ")), "{why}");
        assert!(why.contains("in use"), "{why}");
    }
}
