//! Idle connections of one thread, by origin.
//!
//! A connection belongs to one request at a time and comes back only after its response body was
//! read to the end. Lives in an `Rc`: no lock, no sharing between threads.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use super::{
    Error, Origin, Tls, TlsFiles,
    connect::{Limits, connect},
    http1::{Connection, Keep, Request, ResponseBody},
    http2,
    names::Names,
};
use crate::message::Response;

/// Idle connections kept per origin; beyond it a connection is closed after its response. So many
/// requests at once do not cost a handshake each.
const IDLE_MAX: usize = 8 * 1024;

/// From one look for connections that have been idle for too long to the next.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Idle time after which a connection is not used again. Below the 60 s of common load balancers
/// and the 5 s of llama.cpp would cost every second request a handshake; the race that is left is
/// what the retry on a fresh connection is for.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Age after which a connection takes no further request, so that a name that has moved is noticed.
const AGE_MAX: Duration = Duration::from_secs(10 * 60);

/// A connection that a server closed while it was idle fails within a round trip. One that fails
/// later may have failed at the work, which must not be paid for twice.
pub(super) const CLOSE_RACE_MAX: Duration = Duration::from_secs(1);

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
    pub(super) names: Names,
    files: TlsFiles,
    tls: OnceCell<Result<Tls, String>>,
    tls_http2: OnceCell<Result<Tls, String>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

/// Where a connection goes after its response.
#[derive(Debug)]
pub(super) struct Home {
    pool: Rc<Shared>,
    origin: usize,
}

/// What a finished exchange reports besides its response.
#[derive(Debug)]
pub struct Sent {
    /// With the headers that were asked for.
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
            names: Names::default(),
            files,
            tls: OnceCell::new(),
            tls_http2: OnceCell::new(),
        };
        Self { shared: Rc::new(shared) }
    }

    /// Sends a request and waits for the response head until `limit` from `now`, when it was made; of
    /// the headers `keep` picks some.
    ///
    /// It is sent once more on a fresh connection when a reused one turns out to be closed before a
    /// single byte of a response: the server closed it while we wrote. Nothing else is retried.
    /// Dropping the future or the response's body closes the connection.
    pub async fn send(
        &self,
        origin: &Origin,
        limits: Limits,
        request: &Request,
        keep: Keep,
        now: Instant,
        limit: Duration,
    ) -> Result<Sent, Error> {
        let deadline = now + limit;
        while let Some(mut connection) = self.shared.take(origin.id, now) {
            // One that was closed meanwhile has cost nothing: any other will do.
            if !connection.is_quiet().await {
                continue;
            }
            match connection.exchange(request, keep, &limits, deadline).await {
                Ok(answered) => return Ok(self.sent(origin, connection, answered, false)),
                Err(failure) if failure.is_close && now.elapsed() < CLOSE_RACE_MAX => break,
                Err(failure) => return Err(failure.error),
            }
        }
        // Rarely needed and large: not a part of every request.
        let opening = tokio::time::timeout_at(deadline.into(), self.open(origin, limits));
        let mut connection = Box::pin(opening).await.map_err(|_| Error::ResponseTimeout)??;
        match connection.exchange(request, keep, &limits, deadline).await {
            Ok(answered) => Ok(self.sent(origin, connection, answered, true)),
            Err(failure) => Err(failure.error),
        }
    }

    /// Closes the connections that have been idle for too long: nobody else does where requests have
    /// become few.
    pub fn sweep(&self) {
        self.shared.sweep(Instant::now());
    }

    fn sent(&self, origin: &Origin, connection: Connection, answered: super::http1::Answered, opened: bool) -> Sent {
        let home = Home { pool: Rc::clone(&self.shared), origin: origin.id };
        let (status, headers, body) = ResponseBody::new(connection, answered, home);
        Sent { response: Response { status, headers, body }, opened }
    }

    async fn open(&self, origin: &Origin, limits: Limits) -> Result<Connection, Error> {
        let tls = match &origin.server_name {
            Some(_) => Some(self.shared.tls(false)?),
            None => None,
        };
        Ok(Connection::new(connect(origin, tls, &self.shared.names, limits).await?))
    }
}

impl Shared {
    fn sweep(&self, now: Instant) {
        for stack in self.idle.borrow_mut().iter_mut() {
            // The last to come back is the first to be taken: those at the bottom have been there longest.
            let old = stack.iter().take_while(|idle| now.saturating_duration_since(idle.since) >= IDLE_TIMEOUT).count();
            stack.drain(..old);
            if stack.len() < stack.capacity() / 4 {
                stack.shrink_to_fit();
            }
        }
    }

    fn take(&self, origin: usize, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(origin)?;
        while let Some(Idle { connection, since }) = stack.pop() {
            let [idle, age] = [since, connection.opened].map(|at| now.saturating_duration_since(at));
            if idle < IDLE_TIMEOUT && age < AGE_MAX {
                return Some(connection);
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

impl Home {
    /// Keeps a connection for the next request.
    pub(super) fn take_back(self, connection: Connection, now: Instant) {
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() <= self.origin {
            idle.resize_with(self.origin + 1, Vec::new);
        }
        if let Some(stack) = idle.get_mut(self.origin)
            && stack.len() < IDLE_MAX
        {
            stack.push(Idle { connection, since: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, io};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::http_client::RequestHead;

    #[tokio::test]
    async fn a_sweep_closes_what_has_been_idle_for_too_long() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = Origin::new(false, "127.0.0.1", listener.local_addr()?.port()).unwrap();
        let pool = Pool::new(TlsFiles::default());
        let request = RequestHead::post(&"/".parse().unwrap(), &origin).finish(bytes::Bytes::from("{}"));
        let server = async {
            let mut socket = listener.accept().await?.0;
            assert_ne!(socket.read(&mut [0; 1024]).await?, 0);
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
            Ok::<_, io::Error>(socket)
        };
        const LIMIT: Duration = Duration::from_secs(5);
        let client = async {
            let mut sent = pool
                .send(&origin, Limits::connecting(LIMIT, LIMIT), &request, |_| true, Instant::now(), LIMIT)
                .await
                .unwrap();
            while poll_fn(|cx| sent.response.body.poll_data(cx)).await.is_some() {}
        };
        let (socket, ()) = tokio::join!(server, client);
        let now = Instant::now();
        pool.shared.sweep(now + IDLE_TIMEOUT - Duration::from_secs(5));
        assert_eq!(pool.shared.idle.borrow()[origin.id].len(), 1);
        pool.shared.sweep(now + IDLE_TIMEOUT);
        assert!(pool.shared.idle.borrow()[origin.id].is_empty());
        assert_eq!(socket?.read(&mut [0; 1]).await?, 0, "closed");
        Ok(())
    }
}
