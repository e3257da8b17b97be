//! One request of a connection, from its head to the last byte of its answer.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderName, HeaderValue, Method, StatusCode, request::Parts};
use http_body::Body as _;
use tokio::time::Instant;

use super::{
    body::{RequestBody, linger},
    frames::Frames,
    resets::{AT_ONCE, Resets},
};
use crate::{
    api::error::{Error, ErrorKind},
    config,
    http_client::Watchdog,
    message::{Head, Headers, Response},
    proxy::{self, Body, Worker},
    server::{
        connection::{Client, forwarded},
        http1::{date, expect},
    },
    telemetry::dimensions::{ConnectionTimeout, Rejection},
};

/// Header lines that are of a connection, of which HTTP/2 has none (RFC 9113 §8.2.2).
const OF_CONNECTIONS: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// What a connection has to know of a stream that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Served,
    /// The client took the request back as soon as it had made it.
    TakenBack,
    /// The client tries keys.
    Unwelcome,
    /// The client has taken nothing for too long.
    Stalled,
}

/// A request as a stream's task needs it. Made as soon as the request is accepted: the header lines that it
/// came in may take twenty times what they took on the way, and other connections come before the task does.
pub(super) struct Asked {
    head: Result<Head, Error>,
    is_head: bool,
    body: RecvStream,
}

impl Asked {
    pub(super) fn of(request: http::Request<RecvStream>, settings: &config::Server) -> Self {
        let (parts, body) = request.into_parts();
        Self { is_head: parts.method == Method::HEAD, head: head(parts, settings), body }
    }
}

/// Serves one request when it is its turn.
pub(super) async fn serve(
    asked: Asked,
    mut respond: SendResponse<Bytes>,
    worker: Rc<Worker>,
    client: Rc<Client>,
    resets: Rc<Resets>,
    frames: Rc<Frames>,
) -> Ended {
    let mut waiting = pin!(resets.turn());
    // What has come with it may take it back already: the connection has looked at all of that by now.
    let turn = poll_fn(|cx| match respond.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => waiting.as_mut().poll(cx).map(Some),
    });
    let Some(turn) = turn.await else { return Ended::TakenBack };
    let ended = answer(asked, respond, worker, client, frames).await;
    if ended == Ended::TakenBack {
        resets.spend(turn);
    }
    ended
}

async fn answer(
    asked: Asked,
    mut respond: SendResponse<Bytes>,
    worker: Rc<Worker>,
    client: Rc<Client>,
    frames: Rc<Frames>,
) -> Ended {
    let started = Instant::now();
    let Asked { head, is_head, body } = asked;
    let rest = Rc::new(RefCell::new(body));
    let response = match head {
        Err(error) => proxy::refuse(&worker, &*client, &error),
        Ok(head) => {
            let announced = head.headers.get("content-length").and_then(|text| str::from_utf8(text).ok()?.parse().ok());
            let forwarded = forwarded(&client.settings, &head.headers);
            let body = RequestBody::new(Rc::clone(&rest), announced, Rc::clone(&frames));
            let mut serving = pin!(proxy::serve(&worker, &*client, head, body));
            let answer = poll_fn(|cx| match serving.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Some(response)),
                Poll::Pending => respond.poll_reset(cx).map(|_| None),
            });
            let Some(response) = answer.await else { return taken_back(started) };
            if response.status == StatusCode::UNAUTHORIZED && client.activity.permit.refused(forwarded.as_deref()) {
                worker.gateway.load().instruments.rejected.add(Rejection::RefusedKeys, 1);
                return Ended::Unwelcome;
            }
            response
        }
    };
    let Response { status, headers, body } = response;
    let is_over = is_head || body.is_end_stream();
    let Ok(stream) = respond.send_response(lines(status, &headers, &body), is_over) else { return taken_back(started) };
    if is_over {
        linger(&rest, &client).await;
        return Ended::Served;
    }
    let mut sending = Sending::new(stream, body, client.settings.http2.stall_timeout, frames);
    match poll_fn(|cx| sending.poll(cx)).await {
        Sent::Whole => {
            linger(&rest, &client).await;
            Ended::Served
        }
        Sent::Broken => {
            // A reset takes back what has not gone out: the connection has its turn before.
            tokio::task::yield_now().await;
            sending.stream.send_reset(Reason::INTERNAL_ERROR);
            Ended::Served
        }
        Sent::Reset => taken_back(started),
        Sent::Stalled => {
            worker.gateway.load().instruments.timeouts.add(ConnectionTimeout::Write, 1);
            Ended::Stalled
        }
    }
}

fn taken_back(started: Instant) -> Ended {
    if started.elapsed() < AT_ONCE { Ended::TakenBack } else { Ended::Served }
}

/// The head as HTTP/1.1 would have it; nothing of what it came in is kept.
fn head(parts: Parts, settings: &config::Server) -> Result<Head, Error> {
    let Parts { method, uri, headers: lines, .. } = parts;
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if target.len() > settings.max_target_bytes {
        let message =
            format!("the request target is over {} bytes (`server.max_target_bytes`)", settings.max_target_bytes);
        return Err(Error::new(ErrorKind::TargetTooLong, message));
    }
    if lines.len() > settings.max_headers {
        let message = format!("the request has over {} header lines (`server.max_headers`)", settings.max_headers);
        return Err(Error::new(ErrorKind::HeadTooLarge, message));
    }
    let mut headers = Headers::default();
    if let Some(authority) = uri.authority() {
        let authority = authority.as_str().as_bytes();
        if lines.get_all("host").iter().any(|host| host.as_bytes() != authority) {
            return Err(Error::new(ErrorKind::InvalidHead, "the Host header differs from :authority"));
        }
        headers.push("host", authority);
    }
    for (name, value) in &lines {
        if name == "expect" {
            expect(value.as_bytes())?;
        }
        if name != "host" || !headers.has("host") {
            headers.push(name.as_str(), value.as_bytes());
        }
    }
    Ok(Head { method, target: target.into(), is_old: false, headers })
}

fn lines(status: StatusCode, headers: &Headers, body: &Body) -> http::Response<()> {
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    let to = response.headers_mut();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value))
            && !OF_CONNECTIONS.contains(&name.as_str())
        {
            to.append(name, value);
        }
    }
    if let Ok(date) = HeaderValue::from_bytes(&date()) {
        to.insert(http::header::DATE, date);
    }
    if let Some(length) = body.size_hint().exact().filter(|_| status != StatusCode::NO_CONTENT) {
        to.insert(http::header::CONTENT_LENGTH, length.into());
    }
    response
}

/// How the sending of an answer ended.
enum Sent {
    Whole,
    /// The provider's answer broke off, which the client is to be told by a reset.
    Broken,
    /// The client wants no more of it.
    Reset,
    /// The client has taken nothing for too long.
    Stalled,
}

/// An answer on its way out: read only as far as the client has room for it.
struct Sending {
    stream: SendStream<Bytes>,
    body: Body,
    data: Bytes,
    is_last: bool,
    stall_timeout: Duration,
    stalled_by: Option<Instant>,
    timer: Watchdog,
    frames: Rc<Frames>,
}

impl Sending {
    fn new(stream: SendStream<Bytes>, body: Body, stall_timeout: Duration, frames: Rc<Frames>) -> Self {
        let (data, timer) = (Bytes::new(), Watchdog::default());
        Self { stream, body, data, is_last: false, stall_timeout, stalled_by: None, timer, frames }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Sent::Reset);
        }
        loop {
            // Nothing is asked of the provider that has no room here.
            let wanted = self.data.len().max(1);
            let room = match ready!(self.poll_room(cx, wanted)) {
                Ok(room) => room,
                Err(sent) => return Poll::Ready(sent),
            };
            if self.data.is_empty() {
                match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                    Some(Ok(frame)) => self.data = frame.into_data().unwrap_or_default(),
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a stream is reset");
                        return Poll::Ready(Sent::Broken);
                    }
                    None => self.is_last = true,
                }
                self.is_last |= self.body.is_end_stream();
                if self.data.len() > room {
                    continue;
                }
            }
            let piece = self.data.split_to(room.min(self.data.len()));
            let is_end = self.is_last && self.data.is_empty();
            self.frames.earn();
            if self.stream.send_data(piece, is_end).is_err() {
                return Poll::Ready(Sent::Reset);
            }
            if is_end {
                return Poll::Ready(Sent::Whole);
            }
        }
    }

    /// For how many bytes there is room, at least one.
    fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize, Sent>> {
        self.stream.reserve_capacity(wanted);
        loop {
            let room = self.stream.capacity();
            if room > 0 {
                self.stalled_by = None;
                return Poll::Ready(Ok(room));
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Sent::Reset)),
                Poll::Pending => break,
            }
        }
        let limit = self.stall_timeout;
        let by = *self.stalled_by.get_or_insert_with(|| Instant::now() + limit);
        ready!(self.timer.poll(cx, by.into_std()));
        self.stream.send_reset(Reason::CANCEL);
        Poll::Ready(Err(Sent::Stalled))
    }
}
