//! Idle connections of one thread, by origin.
//!
//! A connection belongs to one request at a time and comes back only after its response body was
//! read to the end. Lives in an `Rc`: no lock, no sharing between threads.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::{
    Error, Origin, ResponseBody, Tls, TlsFiles,
    connect::{Refusal, connect},
    http2,
};

/// Idle connections kept per origin; beyond it a connection is closed after its response.
const IDLE_MAX: usize = 256;

/// Idle time after which a connection is not used again. Below the 60 s of common load balancers
/// and the 5 s of llama.cpp would cost every second request a handshake; the race that is left is
/// what the retry on a fresh connection is for.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// A connection that a server closed while it was idle fails within a round trip. One that fails
/// later may have failed at the work, which must not be paid for twice.
pub(super) const CLOSE_RACE_MAX: Duration = Duration::from_secs(1);

/// Response heads over this are refused.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A connection that can take a request.
#[derive(Debug)]
pub(super) struct Sender {
    request: SendRequest<Full<Bytes>>,
    refusal: Refusal,
}

/// The client of one thread.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(super) shared: Rc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// Indexed by [`Origin::id`].
    idle: RefCell<Vec<Vec<Idle>>>,
    pub(super) http2: http2::Kept,
    files: TlsFiles,
    tls: OnceCell<Result<Tls, String>>,
    tls_http2: OnceCell<Result<Tls, String>>,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    since: Instant,
}

/// A connection out of the pool, on its way to one response.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Rc<Shared>,
    origin: usize,
    sender: Sender,
}

/// What a finished exchange reports besides its response.
#[derive(Debug)]
pub struct Sent {
    pub response: Response<ResponseBody>,
    /// Whether a connection was opened for it.
    pub opened: bool,
}

impl Pool {
    /// An empty pool. The files are read on first use.
    pub fn new(files: TlsFiles) -> Self {
        let shared = Shared {
            idle: RefCell::default(),
            http2: http2::Kept::default(),
            files,
            tls: OnceCell::new(),
            tls_http2: OnceCell::new(),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Sends the request that `build` makes and waits for the response head.
    ///
    /// `build` runs again for a fresh connection when a reused one turns out to be closed before a
    /// single byte of a response: the server closed it while we wrote. Nothing else is retried.
    /// Dropping the future or the response's body closes the connection.
    pub async fn send(
        &self,
        origin: &Origin,
        connect_limit: Duration,
        build: impl Fn() -> Request<Full<Bytes>>,
    ) -> Result<Sent, Error> {
        while let Some(sender) = self.shared.take(origin.id) {
            let started = Instant::now();
            match self.exchange(origin, sender, build()).await {
                Ok(response) => return Ok(Sent { response, opened: false }),
                // Nothing was sent, so any other connection will do.
                Err(error) if error.is_canceled() || error.is_closed() => {}
                Err(error) if is_close_race(&error) && started.elapsed() < CLOSE_RACE_MAX => break,
                Err(error) => return Err(Error::from_hyper(&error)),
            }
        }
        let sender = self.open(origin, connect_limit).await?;
        let refusal = sender.refusal.clone();
        match self.exchange(origin, sender, build()).await {
            Ok(response) => Ok(Sent { response, opened: true }),
            Err(error) => Err(refusal.error().unwrap_or_else(|| Error::from_hyper(&error))),
        }
    }

    async fn exchange(
        &self,
        origin: &Origin,
        mut sender: Sender,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<ResponseBody>, hyper::Error> {
        sender.request.ready().await?;
        let response = sender.request.send_request(request).await?;
        let lease = Lease { pool: Rc::clone(&self.shared), origin: origin.id, sender };
        Ok(response.map(|body| ResponseBody::new(body, lease)))
    }

    async fn open(&self, origin: &Origin, limit: Duration) -> Result<Sender, Error> {
        let tls = match &origin.server_name {
            Some(_) => Some(self.shared.tls(false)?),
            None => None,
        };
        let stream = connect(origin, tls, limit).await?;
        let refusal = stream.refusal();
        let (request, connection) = http1::Builder::new()
            .max_header_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Error::from_hyper(&error))?;
        // The connection ends by itself when its sender is dropped; the drain need not await it.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Sender { request, refusal })
    }
}

impl Shared {
    fn take(&self, origin: usize) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(origin)?;
        while let Some(Idle { sender, since }) = stack.pop() {
            if since.elapsed() < IDLE_TIMEOUT && !sender.request.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    /// The configuration for HTTP/1.1, or the one for HTTP/2.
    pub(super) fn tls(&self, is_http2: bool) -> Result<&Tls, Error> {
        let tls = if is_http2 { &self.tls_http2 } else { &self.tls };
        let tls = tls.get_or_init(|| Tls::new(&self.files, is_http2));
        tls.as_ref().map_err(|why| Error::Connect(std::io::Error::other(why.clone())))
    }
}

impl Lease {
    /// Gives the connection back for the next request.
    pub(super) fn put_back(self) {
        if self.sender.request.is_closed() {
            return;
        }
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() <= self.origin {
            idle.resize_with(self.origin + 1, Vec::new);
        }
        if let Some(stack) = idle.get_mut(self.origin)
            && stack.len() < IDLE_MAX
        {
            stack.push(Idle { sender: self.sender, since: Instant::now() });
        }
    }
}

/// Whether a reused connection failed in the way of a server that closed it while we wrote.
fn is_close_race(error: &hyper::Error) -> bool {
    use std::{error::Error as _, io::ErrorKind};
    if error.is_incomplete_message() {
        return true;
    }
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(io.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
    })
}
