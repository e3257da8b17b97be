//! Whole requests and answers over HTTP/2: one connection per origin, one request at a time on it.
//!
//! Made for the exporter's few calls, trailers included. Nothing is multiplexed, so that a request
//! that is given up takes its connection with it, as with HTTP/1.1: the next one starts afresh.

use std::{cell::RefCell, error::Error as _, future::Future, pin::Pin, rc::Rc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::{
    Error, Origin, Pool,
    connect::{Limits, Refusal, connect},
    describe,
    pool::{CLOSE_RACE_MAX, IDLE_TIMEOUT},
};

/// What a server may send before we have read it; the smallest window there is by default.
const WINDOW_BYTES: u32 = 65_535;

/// Heads and trailers over this are refused.
const HEAD_BYTES_MAX: u32 = 16 * 1024;

/// An answer, read to its end or to the limit.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Whether there was more of the body than was asked for; then it was not read to its end.
    pub is_cut_off: bool,
    pub trailers: HeaderMap,
}

/// The idle connections, indexed by [`Origin::id`].
#[derive(Debug, Default)]
pub(super) struct Kept {
    idle: RefCell<Vec<Option<(Sender, Instant)>>>,
}

/// A connection that can take a request.
#[derive(Debug)]
struct Sender {
    request: SendRequest<Full<Bytes>>,
    refusal: Refusal,
    /// Why the connection ended, which those who find it closed are not told.
    ended: Rc<RefCell<Option<Error>>>,
}

impl Pool {
    /// Sends the request that `build` makes and reads its whole answer, of the body at most
    /// `bytes_max`.
    ///
    /// `build` runs again for a fresh connection when a reused one turns out to be closed, or to
    /// take no more requests, before a response has begun. Nothing else is retried.
    pub async fn send_http2(
        &self,
        origin: &Origin,
        limits: Limits,
        bytes_max: usize,
        build: impl Fn() -> Request<Full<Bytes>>,
    ) -> Result<Reply, Error> {
        if let Some(mut sender) = self.shared.http2.take(origin.id) {
            let started = Instant::now();
            match sender.request.send_request(build()).await {
                Ok(response) => return self.read(origin, sender, response, bytes_max).await,
                Err(error) if is_unprocessed(&error) => {}
                Err(error) if is_close_race(&error) && started.elapsed() < CLOSE_RACE_MAX => {}
                Err(error) => return Err(sender.why(&error)),
            }
        }
        let mut sender = self.open_http2(origin, limits).await?;
        match sender.request.send_request(build()).await {
            Ok(response) => self.read(origin, sender, response, bytes_max).await,
            Err(error) => Err(sender.why(&error)),
        }
    }

    async fn open_http2(&self, origin: &Origin, limits: Limits) -> Result<Sender, Error> {
        let tls = match &origin.server_name {
            Some(_) => Some(self.shared.tls(true)?),
            None => None,
        };
        let stream = connect(origin, tls, &self.shared.names, limits).await?;
        let refusal = stream.refusal();
        let (request, connection) = Builder::new(Local)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| refusal.error().unwrap_or_else(|| sort(&error)))?;
        let ended = Rc::new(RefCell::new(None));
        let reason = Rc::clone(&ended);
        // The connection ends by itself when its sender is dropped.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection ended");
                *reason.borrow_mut() = Some(sort(&error));
            }
        });
        Ok(Sender { request, refusal, ended })
    }

    async fn read(
        &self,
        origin: &Origin,
        sender: Sender,
        response: Response<Incoming>,
        bytes_max: usize,
    ) -> Result<Reply, Error> {
        let (head, mut incoming) = response.into_parts();
        let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
            let frame = frame.map_err(|error| match sort(&error) {
                Error::Closed(why) => Error::Body(why),
                error => error,
            })?;
            match frame.into_data() {
                Ok(data) => {
                    let room = bytes_max - body.len();
                    body.extend(data.iter().take(room));
                    if data.len() > room {
                        // Without its sender the connection ends, and with it the rest of the body.
                        return Ok(Reply {
                            status: head.status,
                            headers: head.headers,
                            body,
                            is_cut_off: true,
                            trailers,
                        });
                    }
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        self.shared.http2.put_back(origin.id, sender);
        Ok(Reply { status: head.status, headers: head.headers, body, is_cut_off: false, trailers })
    }
}

impl Kept {
    fn take(&self, origin: usize) -> Option<Sender> {
        let (sender, since) = self.idle.borrow_mut().get_mut(origin)?.take()?;
        (since.elapsed() < IDLE_TIMEOUT && !sender.request.is_closed()).then_some(sender)
    }

    fn put_back(&self, origin: usize, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() <= origin {
            idle.resize_with(origin + 1, || None);
        }
        if let Some(place) = idle.get_mut(origin) {
            *place = Some((sender, Instant::now()));
        }
    }
}

impl Sender {
    /// The error of a request, or what the connection knows better.
    fn why(&self, error: &hyper::Error) -> Error {
        if let Some(refusal) = self.refusal.error() {
            return refusal;
        }
        let ended = if error.is_canceled() || error.is_closed() { self.ended.take() } else { None };
        ended.unwrap_or_else(|| sort(error))
    }
}

/// Runs hyper's tasks on the thread they come from.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

fn of_h2(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// Sorts hyper's errors into ours.
fn sort(error: &hyper::Error) -> Error {
    match of_h2(error) {
        Some(h2) if h2.is_reset() && h2.is_remote() => Error::Reset(h2.reason().map_or(0, u32::from)),
        // The peer did what HTTP/2 forbids; one that speaks something else does so at once.
        Some(h2) if h2.is_library() => Error::InvalidResponse(describe(error)),
        Some(_) => Error::Closed(describe(error)),
        None => Error::from_hyper(error),
    }
}

/// Whether the server said, or cannot but mean, that it did nothing (RFC 9113 §8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    error.is_canceled()
        || error.is_closed()
        || of_h2(error).is_some_and(|h2| {
            // A GOAWAY is reported for the streams after the last one that it names.
            h2.is_remote() && (h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM))
        })
}

/// Whether a reused connection failed in the way of a server that closed it while we wrote.
fn is_close_race(error: &hyper::Error) -> bool {
    match of_h2(error) {
        Some(h2) => h2.is_io(),
        None => error.source().is_some_and(|source| source.is::<std::io::Error>()),
    }
}
