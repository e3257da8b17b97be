//! One client's socket: heads and bodies in, pieces of answers out, and whether it is still there.

use std::{
    cell::RefCell,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf};

use super::{
    head::{Head, Limits},
    input::Input,
    output::Output,
};
use crate::{
    api::error::Error,
    config,
    http_client::Watchdog,
    message::{self, Framing, Read},
    proxy,
    server::socket::Socket,
};

/// What is read ahead of a client that sends its next requests early.
const AHEAD_MAX: usize = 64 * 1024;

/// What one read of a large body takes at most: as much as has come so far, between these.
const READ_MIN: usize = 16 * 1024;
const READ_MAX: usize = 64 * 1024;

/// What is read of a body that nobody wants, so that its client does not find the connection reset.
const UNWANTED_BYTES_MAX: usize = 64 * 1024;

/// A client's connection.
#[derive(Debug)]
pub(in crate::server) struct Wire {
    socket: Socket,
    input: Input,
    output: Output,
    /// The client waits for a `100 Continue`.
    expects: bool,
    stall: Stall,
}

/// How long the client has taken nothing of what waits for it; looked at only while something does.
#[derive(Debug)]
struct Stall {
    timer: Watchdog,
    limit: Duration,
    until: Option<Instant>,
}

/// What a connection begins or ends with.
#[derive(Debug)]
pub(in crate::server) enum Start {
    Head(Head),
    /// There is something, but not a request.
    Refused(Error),
    /// The client has left.
    Gone,
}

impl Wire {
    pub(in crate::server) fn new(socket: Socket, settings: &config::Server) -> Self {
        let config::Server { max_head_bytes: bytes, max_headers: lines, max_target_bytes: target, .. } = *settings;
        Self {
            socket,
            input: Input::new(Limits { bytes, lines, target }),
            output: Output::default(),
            expects: false,
            stall: Stall { timer: Watchdog::default(), limit: settings.write_timeout, until: None },
        }
    }

    /// Whether a part of a head has come.
    pub(in crate::server) fn has_begun(&self) -> bool {
        self.input.has_begun()
    }

    /// Whether the request was read to its end, so that another can follow.
    pub(in crate::server) fn is_request_read(&self) -> bool {
        self.input.is_body_read()
    }

    /// The next request's head.
    pub(in crate::server) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Start> {
        let mut head = self.input.next();
        while head.is_none() {
            let Self { socket, input, .. } = self;
            match ready!(message::poll_read(socket, cx, |data| input.take(data))) {
                Read::Data(data) => head = data,
                Read::End => return Poll::Ready(Start::Gone),
                Read::Failed(error) => {
                    tracing::debug!(%error, "client connection failed");
                    return Poll::Ready(Start::Gone);
                }
            }
        }
        Poll::Ready(match head {
            Some(Ok(head)) => {
                self.expects = head.expects && head.framing != Framing::Length(0);
                Start::Head(head)
            }
            Some(Err(error)) => Start::Refused(error),
            None => Start::Gone,
        })
    }

    /// Waits for the client to leave while its answer is made; what it sends meanwhile is kept.
    pub(in crate::server) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.is_body_read() && self.input.held() < AHEAD_MAX {
            let Self { socket, input, .. } = self;
            match ready!(message::poll_read(socket, cx, |data| input.hold(data))) {
                Read::Data(()) => {}
                Read::End | Read::Failed(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Sends pieces; [`Self::poll_flush`] has to have been ready.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        before: &[u8],
        data: Bytes,
        after: &'static [u8],
    ) -> io::Result<()> {
        self.output.send(cx, &mut self.socket, before, data, after)
    }

    /// Waits until everything was written, or the client has taken nothing for too long.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.output.poll_flush(cx, &mut self.socket);
        let Self { output, stall, .. } = self;
        if flushed.is_ready() {
            stall.until = None;
            return flushed;
        }
        if output.has_moved() {
            stall.until = None;
        }
        let limit = stall.limit;
        let until = *stall.until.get_or_insert_with(|| tokio::time::Instant::now().into_std() + limit);
        stall.timer.poll(cx, until).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Says that nothing more comes, and reads away a little of what the client still sends: closing on
    /// it would reset the connection under the answer (RFC 9112 §9.6). One that sends more than that is
    /// left to see the answer while nobody reads. Does not end before the client does, or it fails.
    pub(in crate::server) async fn close(mut self) {
        if std::future::poll_fn(|cx| Pin::new(&mut self.socket).poll_shutdown(cx)).await.is_err() {
            return;
        }
        let mut length = self.input.body_bytes();
        std::future::poll_fn(|cx| {
            while length < UNWANTED_BYTES_MAX {
                let mut chunk = [0; 4096];
                let room = chunk.len().min(UNWANTED_BYTES_MAX - length);
                let mut chunk = ReadBuf::new(chunk.get_mut(..room).unwrap_or_default());
                match ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk)) {
                    Ok(()) if !chunk.filled().is_empty() => length += chunk.filled().len(),
                    Ok(()) | Err(_) => return Poll::Ready(()),
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Tells the client that the connection is over, where that has to be told.
    pub(in crate::server) fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        self.socket.say_goodbye(cx);
    }

    /// Cuts the connection so that the client sees that it was cut.
    pub(super) fn reset(&self) {
        if let Err(error) = self.socket.set_to_reset() {
            tracing::debug!(%error, "a connection could not be reset");
        }
    }

    /// Tells a client that waits for it that its body is wanted.
    fn invite(&mut self, cx: &mut Context<'_>) -> Result<(), &'static str> {
        let invited = match std::mem::take(&mut self.expects) {
            true => self.send(cx, b"HTTP/1.1 100 Continue\r\n\r\n", Bytes::new(), b""),
            false => Ok(()),
        };
        if invited.is_err() || matches!(self.poll_flush(cx), Poll::Ready(Err(_))) {
            return Err(self.input.cut());
        }
        Ok(())
    }

    /// Appends what there is of the body, as much as there is room for; says whether there was any.
    fn poll_append(&mut self, cx: &mut Context<'_>, to: &mut BytesMut) -> Poll<Result<bool, &'static str>> {
        let Some(left) = self.input.announced() else {
            return self.poll_body(cx).map(|data| match data {
                Some(data) => data.map(|data| {
                    to.extend_from_slice(&data);
                    true
                }),
                None => Ok(false),
            });
        };
        if let Err(why) = self.invite(cx) {
            return Poll::Ready(Err(why));
        }
        // What is not there yet is not made ready for it, either.
        let room = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(to.capacity() - to.len())
            .min(to.len().clamp(READ_MIN, READ_MAX));
        let mut limited = to.limit(room);
        match ready!(pin!(self.socket.read_buf(&mut limited)).poll(cx)) {
            Ok(0) | Err(_) => Poll::Ready(Err(self.input.cut())),
            Ok(read) => {
                self.input.has_read(read);
                Poll::Ready(Ok(true))
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, &'static str>>> {
        loop {
            match self.input.ready() {
                Err(why) => return Poll::Ready(Some(Err(why))),
                Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                Ok(_) if self.input.is_body_read() => return Poll::Ready(None),
                Ok(_) => {}
            }
            if let Err(why) = self.invite(cx) {
                return Poll::Ready(Some(Err(why)));
            }
            let Self { socket, input, .. } = self;
            match ready!(message::poll_read(socket, cx, |data| input.body(data))) {
                Read::Data(Ok(data)) if data.is_empty() => {}
                Read::Data(data) => return Poll::Ready(Some(data)),
                Read::End | Read::Failed(_) => return Poll::Ready(Some(Err(self.input.cut()))),
            }
        }
    }
}

/// The body of the request under way.
#[derive(Debug)]
pub(in crate::server) struct RequestBody<'a> {
    pub(in crate::server) wire: &'a RefCell<Wire>,
}

impl Body for RequestBody<'_> {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.wire.borrow_mut().poll_body(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.wire.borrow().input.is_drained()
    }

    fn size_hint(&self) -> SizeHint {
        self.wire.borrow().input.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl proxy::RequestBody for RequestBody<'_> {
    fn poll_append(&mut self, cx: &mut Context<'_>, to: &mut BytesMut) -> Poll<Result<bool, &'static str>> {
        self.wire.borrow_mut().poll_append(cx, to)
    }
}
