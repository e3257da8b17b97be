//! The response body: passes bytes on as they come, watches them, and reports the end.
//!
//! No task and no channel: the client's connection polls this body, this body polls the
//! provider's. A slow client holds the provider back; dropping the body cancels the provider.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{attempt::Attempt, comments::Comments, echo::EchoBody, record::Record, watch::Watch};
use crate::{
    api::{
        error::{Error, ErrorKind},
        openai,
    },
    http_client::{self, ResponseBody},
};

/// What a client is sent.
#[derive(Debug)]
pub enum Body {
    /// Made here.
    Full(Bytes),
    /// A provider's.
    #[expect(private_interfaces, reason = "built in this module's parent only")]
    Relay(Box<Relay>),
}

/// Where a provider's bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    Http(ResponseBody),
    Echo(EchoBody),
}

/// A provider's answer in passing.
#[derive(Debug)]
pub(super) struct Relay {
    source: Source,
    /// Bytes that came before the client was given anything.
    held: Option<Bytes>,
    watch: Watch,
    status: u16,
    /// The error that the status already stands for.
    kind: Option<ErrorKind>,
    record: Record,
    attempt: Attempt,
    comments: Option<Comments>,
    /// When bytes last came as far as anybody has looked, or before any have, when they were asked for.
    last_at: Instant,
    /// Bytes have come that nobody has looked at the clock for.
    is_fresh: bool,
    begun: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Ended well; nothing more comes.
    Ended,
    /// Broke; the next poll makes the server cut the connection instead of ending the body.
    Broken,
}

/// What has not come in time.
#[derive(Debug)]
enum Overdue {
    Bytes(ErrorKind),
    Comment,
}

/// The answer broke off. The client has to see a broken connection, never a clean end.
#[derive(Debug)]
pub struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the provider's answer broke off")
    }
}

impl std::error::Error for BrokenOff {}

impl Body {
    /// A body of known bytes.
    pub(super) fn full(bytes: Bytes) -> Self {
        Self::Full(bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Relay(relay) => relay.poll(cx).map(|data| data.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(bytes) => bytes.is_empty(),
            Self::Relay(relay) => relay.state == State::Ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => relay.size_hint(),
        }
    }
}

impl Source {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, http_client::Error>>> {
        match self {
            Self::Http(body) => body.poll_data(cx),
            Self::Echo(body) => body.poll(cx).map(|data| data.map(Ok)),
        }
    }

    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        match self {
            Self::Http(body) => body.poll_deadline(cx, deadline),
            Self::Echo(body) => body.poll_deadline(cx, deadline),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Http(body) => body.is_ended(),
            Self::Echo(_) => false,
        }
    }

    fn ended(&self) -> Option<Instant> {
        match self {
            Self::Http(body) => body.ended(),
            Self::Echo(_) => None,
        }
    }
}

impl Relay {
    pub(super) fn new(
        source: Source,
        held: Bytes,
        watch: Watch,
        status: u16,
        kind: Option<ErrorKind>,
        record: Record,
        attempt: Attempt,
    ) -> Self {
        let mut relay = Self {
            comments: None,
            source,
            held: (!held.is_empty()).then_some(held),
            watch,
            status,
            kind,
            record,
            last_at: attempt.started,
            // The head has come.
            is_fresh: true,
            attempt,
            begun: false,
            state: State::Open,
        };
        if relay.held.is_none() && relay.source.is_ended() {
            relay.end(None);
        }
        relay
    }

    /// Puts comments into its silence.
    pub(super) fn with(mut self, comments: Option<Comments>) -> Self {
        self.comments = comments;
        self
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        loop {
            match self.state {
                State::Open => {}
                State::Ended => return Poll::Ready(None),
                State::Broken => return Poll::Ready(Some(Err(BrokenOff))),
            }
            let next = match self.held.take() {
                Some(held) => Poll::Ready(Some(Ok(held))),
                None => self.source.poll(cx),
            };
            let out = match next {
                Poll::Ready(Some(Ok(data))) => self.data(data),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "answer broke off");
                    self.broken(ErrorKind::ProviderStreamBroken)
                }
                Poll::Ready(None) => self.source_ended(),
                Poll::Pending => match self.overdue(cx) {
                    Some(Overdue::Bytes(kind)) => self.broken(kind),
                    Some(Overdue::Comment) => self.comment(),
                    None => return Poll::Pending,
                },
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(out)));
            }
        }
    }

    fn data(&mut self, data: Bytes) -> Bytes {
        if let Watch::Events(_) = self.watch {
            let now = Instant::now();
            if self.begun {
                self.attempt.output_chunk(now.saturating_duration_since(self.last_at));
            } else {
                self.attempt.first_chunk(now);
            }
            self.last_at = now;
            self.is_fresh = false;
        } else {
            // Only for idleness, which begins when there is nothing to be read.
            self.is_fresh = true;
        }
        if !self.begun {
            self.begun = true;
            self.record.first_byte();
        }
        let is_last = self.source.is_ended();
        let out = self.watch.feed(data, is_last);
        self.record.response_bytes(out.len());
        if is_last && matches!(self.watch, Watch::Json(..)) {
            // Its length was known, so nobody will ask for the end.
            self.end(None);
        }
        out
    }

    /// The provider has said that this is all. Events that stop before their end are a break.
    fn source_ended(&mut self) -> Bytes {
        let rest = self.watch.finish();
        let mut error = None;
        if let Watch::Events(tap) = &self.watch
            && self.kind.is_none()
        {
            if tap.has_error() {
                // The client has been told by the provider, which then ended properly.
                error = Some(ErrorKind::ProviderStreamBroken);
            } else if !tap.is_complete() {
                return self.broken(ErrorKind::ProviderStreamBroken);
            }
        }
        self.record.response_bytes(rest.len());
        self.end(error);
        rest
    }

    /// Ends with an error: an event that says so where an event may stand, then a cut connection.
    fn broken(&mut self, kind: ErrorKind) -> Bytes {
        let event = match &self.watch {
            Watch::Events(tap) if tap.at_event_boundary() && !tap.has_error() => {
                let message = match kind {
                    ErrorKind::ProviderStreamIdle => "the provider stopped sending; the answer is not complete",
                    ErrorKind::ProviderAnswerTimeout => "the answer took too long; it is not complete",
                    _ => "the provider's answer broke off; it is not complete",
                };
                openai::error_event(&Error::new(kind, message))
            }
            Watch::Events(_) | Watch::Json(..) => Vec::new(),
        };
        self.record.response_bytes(event.len());
        self.end(Some(kind));
        self.state = State::Broken;
        event.into()
    }

    fn end(&mut self, broken: Option<ErrorKind>) {
        self.state = State::Ended;
        let usage = self.watch.usage();
        let cost = usage.as_ref().and_then(|usage| self.attempt.cost(usage));
        let kind = broken.or(self.kind);
        let now = self.source.ended().unwrap_or_else(Instant::now);
        self.attempt.answered(now, kind, usage.as_ref());
        self.record.provider_answered(now, self.status, kind, usage.as_ref(), cost);
    }

    /// What is overdue, if anything is: the provider has been silent for too long, or takes too long
    /// altogether, or its client wants a sign of life.
    fn overdue(&mut self, cx: &mut Context<'_>) -> Option<Overdue> {
        if std::mem::take(&mut self.is_fresh) {
            self.last_at = Instant::now();
        }
        let silence = self.last_at + self.attempt.provider().idle_timeout;
        let end = self.attempt.deadline(matches!(self.watch, Watch::Events(_)));
        // One that keeps sending is found out without a look at the clock.
        if end <= self.last_at {
            return Some(Overdue::Bytes(ErrorKind::ProviderAnswerTimeout));
        }
        let deadline = silence.min(end);
        let comment = match (&self.comments, &self.watch) {
            (Some(comments), Watch::Events(tap)) if tap.at_event_boundary() => Some(comments.next(self.last_at)),
            _ => None,
        };
        let comment = comment.filter(|comment| *comment < deadline);
        match self.source.poll_deadline(cx, comment.unwrap_or(deadline)) {
            Poll::Pending => None,
            Poll::Ready(()) if comment.is_some() => Some(Overdue::Comment),
            Poll::Ready(()) if end <= silence => Some(Overdue::Bytes(ErrorKind::ProviderAnswerTimeout)),
            Poll::Ready(()) => Some(Overdue::Bytes(ErrorKind::ProviderStreamIdle)),
        }
    }

    fn comment(&mut self) -> Bytes {
        let comment = self.comments.as_mut().map(Comments::say).unwrap_or_default();
        self.record.response_bytes(comment.len());
        comment
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.source, &self.watch) {
            (Source::Http(body), Watch::Json(..)) => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A client that leaves after the terminal event has got everything (its SDK does not wait
        // for the end of the body).
        if self.state == State::Open
            && let Watch::Events(tap) = &self.watch
            && tap.is_done()
            && !tap.has_error()
        {
            self.end(None);
        }
    }
}
