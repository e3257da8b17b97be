//! HTTP/2 towards clients (RFC 9113), on the frames of the h2 crate.
//!
//! A connection is one task, and each of its streams another beside it. Owns what a connection may cost:
//! how long it may be idle, how old it may be, whether it answers, how often it takes requests back (`resets`), and
//! what it says without asking for anything (`frames`). `stream` serves one request, `body` reads what comes with it.

mod body;
mod frames;
mod resets;
mod stream;

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping, PingPong, Reason,
    server::{Builder, Connection},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use self::{
    frames::{Counted, Frames},
    resets::Resets,
    stream::{Asked, Ended},
};
use super::{Phase, connection::Client, waiting::spread};
use crate::{config, http_client::Watchdog, proxy::Worker, telemetry::dimensions::ConnectionTimeout};

/// What every connection of HTTP/2 begins with (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection that was told to go has for that.
const GOING_MAX: Duration = Duration::from_secs(1);

/// Serves requests until the client leaves or has to.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    worker: Rc<Worker>,
    phase: watch::Receiver<Phase>,
    client: Client,
) {
    let settings = &client.settings;
    let frames = Rc::new(Frames::new(Instant::now()));
    let handshake = builder(&settings.http2).handshake::<_, Bytes>(Counted::new(socket, Rc::clone(&frames)));
    match tokio::time::timeout(settings.first_byte_timeout, handshake).await {
        Ok(Ok(connection)) => Served::new(connection, frames, worker, client).run(phase).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection did not become one of HTTP/2"),
        Err(_) => worker.gateway.load().instruments.timeouts.add(ConnectionTimeout::FirstByte, 1),
    }
}

fn builder(settings: &config::Http2) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(settings.max_header_list_bytes)
        .max_frame_size(settings.max_frame_bytes)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_send_buffer_size(settings.send_buffer)
        .max_pending_accept_reset_streams(settings.max_pending_resets)
        .max_local_error_reset_streams(Some(settings.max_error_resets));
    builder
}

/// A connection and the streams that it has open.
struct Served<S> {
    connection: Connection<Counted<S>, Bytes>,
    frames: Rc<Frames>,
    worker: Rc<Worker>,
    client: Rc<Client>,
    streams: JoinSet<Ended>,
    resets: Rc<Resets>,
    pings: Pings,
    timer: Watchdog,
    idle_by: Instant,
    old_at: Instant,
    requests_left: u32,
    /// It was told to go, and is gone by then if nothing is under way.
    gone_by: Option<Instant>,
    is_cut: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Served<S> {
    fn new(
        mut connection: Connection<Counted<S>, Bytes>,
        frames: Rc<Frames>,
        worker: Rc<Worker>,
        client: Client,
    ) -> Self {
        let settings = &client.settings;
        let now = Instant::now();
        Self {
            pings: Pings::new(connection.ping_pong(), &settings.http2, now),
            streams: JoinSet::new(),
            resets: Rc::new(Resets::new(&settings.http2, now)),
            timer: Watchdog::default(),
            idle_by: now + settings.http2.idle_timeout,
            old_at: now + spread(settings.max_connection_age),
            requests_left: settings.max_connection_requests,
            gone_by: None,
            is_cut: false,
            connection,
            frames,
            worker,
            client: Rc::new(client),
        }
    }

    async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        self.client.activity.is_idle();
        let mut drain = pin!(phase.wait_for(|phase| *phase != Phase::Serving));
        let mut is_draining = false;
        poll_fn(|cx| {
            if !is_draining && drain.as_mut().poll(cx).is_ready() {
                is_draining = true;
                self.go();
            }
            self.poll(cx)
        })
        .await;
    }

    /// Ready when the connection has ended or has to.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(Some(ended)) = self.streams.poll_join_next(cx) {
            self.ended(ended.unwrap_or(Ended::Served));
        }
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.client.activity.is_busy();
                    self.requests_left = self.requests_left.saturating_sub(1);
                    if self.requests_left == 0 {
                        self.go();
                    }
                    let asked = Asked::of(request, &self.client.settings);
                    self.frames.earn();
                    let (worker, client) = (Rc::clone(&self.worker), Rc::clone(&self.client));
                    let (resets, frames) = (Rc::clone(&self.resets), Rc::clone(&self.frames));
                    self.streams.spawn_local(stream::serve(asked, respond, worker, client, resets, frames));
                    // It is to be heard of when it ends.
                    while let Poll::Ready(Some(ended)) = self.streams.poll_join_next(cx) {
                        self.ended(ended.unwrap_or(Ended::Served));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "a client's connection ended");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending if self.frames.are_too_many() && !self.is_cut => {
                    tracing::debug!("a client sends too many frames that ask for nothing");
                    self.cut(Reason::ENHANCE_YOUR_CALM);
                }
                Poll::Pending => break,
            }
        }
        self.poll_time(cx)
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::TakenBack => {
                if self.resets.taken_back() {
                    tracing::debug!("a client takes its requests back too often");
                    self.cut(Reason::ENHANCE_YOUR_CALM);
                }
            }
            Ended::Unwelcome => self.cut(Reason::ENHANCE_YOUR_CALM),
            // A client that takes nothing of anything is not worth its connection.
            Ended::Stalled if self.streams.is_empty() => self.go(),
            Ended::Stalled | Ended::Served => {}
        }
        if self.streams.is_empty() {
            let now = Instant::now();
            self.idle_by = now + self.client.settings.http2.idle_timeout;
            if !self.is_cut {
                // The end of the last answer may still be on its way.
                self.gone_by = self.gone_by.map(|_| now + GOING_MAX);
            }
            self.client.activity.is_idle();
        }
    }

    /// Looks at what is due, and has the task woken for what is next.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            self.resets.renew(now);
            let is_idle = self.streams.is_empty();
            if !self.is_cut && self.pings.poll(cx, now).is_ready() {
                self.count(ConnectionTimeout::Idle);
                self.cut(Reason::NO_ERROR);
            } else if let Some(by) = self.gone_by {
                if is_idle && now >= self.gone_at(by) {
                    if self.is_cut {
                        return Poll::Ready(());
                    }
                    self.cut(Reason::NO_ERROR);
                } else {
                    return self.poll_timer(cx, if is_idle { self.gone_at(by) } else { now + GOING_MAX });
                }
            } else if is_idle && now >= self.idle_by {
                self.count(ConnectionTimeout::Idle);
                self.go();
            } else if now >= self.old_at {
                self.go();
            } else {
                return self.poll_timer(cx, if is_idle { self.idle_by.min(self.old_at) } else { self.old_at });
            }
            // What the client is told goes out when the connection is polled again.
            cx.waker().wake_by_ref();
        }
    }

    /// Has the task woken at that time, or earlier for what else is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let mut next = self.resets.awaited_at().map_or(at, |awaited| awaited.min(at));
        if !self.is_cut {
            next = next.min(self.pings.next);
        }
        if self.timer.poll(cx, next.into_std()).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// When a connection that was to be gone by then has to: what was not sent of an answer may take longer.
    fn gone_at(&self, by: Instant) -> Instant {
        let is_sending = !self.is_cut && self.connection.has_streams();
        if is_sending { by + self.client.settings.write_timeout } else { by }
    }

    fn count(&self, timeout: ConnectionTimeout) {
        self.worker.gateway.load().instruments.timeouts.add(timeout, 1);
    }

    /// Tells the client that no more streams are wanted; those that are open finish.
    fn go(&mut self) {
        if self.gone_by.is_none() {
            self.connection.graceful_shutdown();
            self.gone_by = Some(Instant::now() + GOING_MAX);
        }
    }

    /// Ends everything at once, and says why.
    fn cut(&mut self, reason: Reason) {
        if !self.is_cut {
            self.is_cut = true;
            self.streams.abort_all();
            self.connection.abrupt_shutdown(reason);
            self.gone_by = Some(Instant::now() + GOING_MAX);
        }
    }
}

/// Whether the client still answers.
struct Pings {
    pings: Option<PingPong>,
    every: Duration,
    patience: Duration,
    is_waiting: bool,
    /// When the next one is due, or the answer to the last.
    next: Instant,
}

impl Pings {
    fn new(pings: Option<PingPong>, settings: &config::Http2, now: Instant) -> Self {
        let config::Http2 { ping_interval: every, ping_timeout: patience, .. } = *settings;
        Self { pings, every, patience, is_waiting: false, next: now + every }
    }

    /// Ready when it does not.
    fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        if self.is_waiting {
            match pings.poll_pong(cx) {
                Poll::Ready(Ok(_)) => {
                    self.is_waiting = false;
                    self.next = now + self.every;
                }
                // The connection has ended, which it says itself.
                Poll::Ready(Err(_)) => self.pings = None,
                Poll::Pending if now >= self.next => return Poll::Ready(()),
                Poll::Pending => {}
            }
        } else if now >= self.next {
            self.is_waiting = pings.send_ping(Ping::opaque()).is_ok();
            self.next = now + if self.is_waiting { self.patience } else { self.every };
            // To be woken by the answer.
            return self.poll(cx, now);
        }
        Poll::Pending
    }
}
