//! Answers on their way out: the head, and the body in the framing that the client can read.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::Body as _;
use rustix::time::{ClockId, clock_gettime};

use super::{head::Head, wire::Wire};
use crate::{
    message::{Headers, Response, push_number},
    proxy::Body,
};

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// The second since 1970 and the date that it is.
    static DATE: Cell<(u64, [u8; 29])> = const { Cell::new((0, [b' '; 29])) };
}

/// How the sending of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum End {
    /// Another request can follow.
    KeepAlive,
    Close,
    /// The client has taken nothing for too long, and finds the connection reset.
    Stalled,
    /// The client has left, or has to see that the answer broke off.
    Cut,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// There is none, or its length has been said.
    Plain,
    Chunked,
    /// By the end of the connection.
    Close,
}

/// What of a request decides about the form of its answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Asked {
    is_head: bool,
    is_old: bool,
    keep_alive: bool,
}

impl Asked {
    pub(in crate::server) fn of(head: &Head) -> Self {
        Self { is_head: head.head.method == Method::HEAD, is_old: head.head.is_old, keep_alive: head.keep_alive }
    }

    /// Of something that could not be read.
    pub(in crate::server) fn nothing() -> Self {
        Self { is_head: false, is_old: false, keep_alive: false }
    }
}

/// Sends an answer; `may_keep` says whether the server would take another request.
pub(in crate::server) async fn respond(
    wire: &RefCell<Wire>,
    response: Response<Body>,
    asked: Asked,
    may_keep: bool,
) -> End {
    let Response { status, headers, body } = response;
    let has_no_body = asked.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let length = body.size_hint().exact();
    let coding = match length {
        Some(_) => Coding::Plain,
        None if has_no_body => Coding::Plain,
        None if asked.is_old => Coding::Close,
        None => Coding::Chunked,
    };
    let keep = asked.keep_alive && may_keep && coding != Coding::Close && !headers.has("connection");
    let mut sending =
        Sending { head: Some(Lines { status, headers, length, keep }), asked, coding, body, is_over: has_no_body };
    match poll_fn(|cx| sending.poll(cx, &mut wire.borrow_mut())).await {
        Ok(()) if keep && wire.borrow().is_request_read() => End::KeepAlive,
        Ok(()) => End::Close,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            tracing::debug!("the client does not take its answer");
            wire.borrow().reset();
            End::Stalled
        }
        Err(error) => {
            tracing::debug!(%error, "client connection ended");
            if coding == Coding::Close {
                wire.borrow().reset();
            }
            End::Cut
        }
    }
}

/// What a head is written from.
struct Lines {
    status: StatusCode,
    headers: Headers,
    /// Of the body.
    length: Option<u64>,
    /// Whether the connection is kept.
    keep: bool,
}

struct Sending {
    /// Until it was sent.
    head: Option<Lines>,
    asked: Asked,
    coding: Coding,
    body: Body,
    is_over: bool,
}

impl Sending {
    fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<io::Result<()>> {
        loop {
            if wire.poll_flush(cx)?.is_pending() {
                return self.wait(cx, wire);
            }
            if self.is_over && self.head.is_none() {
                return Poll::Ready(Ok(()));
            }
            let frame = if self.is_over { Poll::Ready(None) } else { Pin::new(&mut self.body).poll_frame(cx) };
            let data = match frame {
                Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(error))) => {
                    if self.head.is_some() {
                        // A client that has seen nothing at all would take it for a failed connection.
                        self.send(cx, wire, Bytes::new(), false)?;
                    }
                    return Poll::Ready(Err(io::Error::other(error)));
                }
                Poll::Ready(None) => Bytes::new(),
                Poll::Pending if self.head.is_some() => {
                    self.send(cx, wire, Bytes::new(), false)?;
                    continue;
                }
                Poll::Pending => return self.wait(cx, wire),
            };
            let is_last = matches!(data.len(), 0) || self.body.is_end_stream();
            let had_ended = std::mem::replace(&mut self.is_over, is_last);
            self.send(cx, wire, data, is_last && !had_ended)?;
        }
    }

    /// There is nothing to be done until the provider sends or the client reads, or leaves.
    fn wait(&self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<io::Result<()>> {
        ready!(wire.poll_gone(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client left")))
    }

    /// One write: the head if it was not sent, these bytes in their coding, and the end if it is.
    fn send(&mut self, cx: &mut Context<'_>, wire: &mut Wire, data: Bytes, is_last: bool) -> io::Result<()> {
        LINES.with_borrow_mut(|lines| {
            lines.clear();
            if let Some(head) = self.head.take() {
                head.push(lines, self.coding, self.asked);
            }
            let after: &'static [u8] = match (self.coding, data.is_empty(), is_last) {
                (Coding::Chunked, true, true) => b"0\r\n\r\n",
                (Coding::Chunked, false, is_last) => {
                    write!(lines, "{:x}\r\n", data.len())?;
                    if is_last { b"\r\n0\r\n\r\n" } else { b"\r\n" }
                }
                (Coding::Chunked | Coding::Plain | Coding::Close, ..) => b"",
            };
            wire.send(cx, lines, data, after)
        })
    }
}

impl Lines {
    fn push(&self, lines: &mut Vec<u8>, coding: Coding, asked: Asked) {
        lines.extend_from_slice(b"HTTP/1.1 ");
        lines.extend_from_slice(self.status.as_str().as_bytes());
        lines.push(b' ');
        lines.extend_from_slice(self.status.canonical_reason().unwrap_or_default().as_bytes());
        lines.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            push_line(lines, name, value);
        }
        push_line(lines, b"date", &date());
        match (self.length, coding) {
            (_, Coding::Chunked) => push_line(lines, b"transfer-encoding", b"chunked"),
            (Some(length), Coding::Plain) if self.status != StatusCode::NO_CONTENT => {
                lines.extend_from_slice(b"content-length: ");
                push_number(lines, length);
                lines.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
        if !self.keep && !self.headers.has("connection") {
            push_line(lines, b"connection", b"close");
        } else if self.keep && asked.is_old {
            push_line(lines, b"connection", b"keep-alive");
        }
        lines.extend_from_slice(b"\r\n");
    }
}

fn push_line(lines: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    lines.extend_from_slice(name);
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

/// Now, as HTTP writes it (RFC 9110 §6.6.1), written anew once a second.
pub(in crate::server) fn date() -> [u8; 29] {
    // A tick late is early enough for whole seconds, and costs no look at the counter.
    let now = u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or_default();
    let (second, text) = DATE.get();
    if second == now {
        return text;
    }
    let mut text = [b' '; 29];
    let mut rest = text.as_mut_slice();
    // It is always 29 bytes long.
    let _fits = write!(rest, "{}", httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(now))).is_ok();
    DATE.set((now, text));
    text
}
