//! The client's request: its body read within limits, and what a deployment is sent of it.

use std::{
    borrow::Cow,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;

use super::{Load, RequestBody, head, load::Share, record::Record};
use crate::{
    api::{
        error::{Error, ErrorKind},
        operation::Operation,
        request_body::{self, Places},
    },
    gateway::{Deployment, Limits},
    http_client::{Payload, RequestHead},
    message::{Head, Headers},
};

/// Room for a body that does not come in one piece, before there is more of it.
const GROWTH_MIN: usize = 256 * 1024;
/// What is read of a body before others have their turn, in bytes.
const TURN_BYTES: usize = 256 * 1024;
/// Largest piece of a body of unknown length.
const PIECE_MAX: usize = 64 * 1024;
/// A body of unknown length that is larger than this may be of any length.
const GROWTH_MANY: usize = 1 << 20;
/// The most room that a body gets at once.
const GROWTH_MAX: usize = 32 << 20;
/// Up to this, a body is copied for what is changed in it; a larger one is sent in pieces.
const COPIED_MAX: usize = 16 * 1024;
/// Largest body that is read away so that a connection can go on.
const DISCARD_BYTES_MAX: u64 = 64 * 1024;
/// Longest time for that.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

/// A model request, ready to be sent as often as needed.
pub(super) struct ModelRequest<'a> {
    pub(super) operation: Operation,
    pub(super) stream: bool,
    headers: &'a Headers,
    /// A part of the body, unless its spelling had escapes.
    model: Bytes,
    places: Places,
    body: Bytes,
    _share: Option<Share>,
}

/// Reads the whole body, or refuses it as early as its size is known.
pub(super) async fn read(
    head: &Head,
    body: &mut Option<impl RequestBody>,
    limits: Limits,
    load: &Arc<Load>,
    record: &mut Record,
) -> Result<(Bytes, Option<Share>), Error> {
    head::check_encoding(head)?;
    let mut share = None;
    let announced =
        head.headers.get("content-length").and_then(|length| str::from_utf8(length).ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes_max as u64) {
        return Err(too_large(limits.body_bytes_max));
    }
    let Some(mut body) = body.take() else { return Ok((Bytes::new(), None)) };
    let mut pace = Pace { limits, waited: Duration::ZERO, since: None };
    let read = read_bounded(&mut body, load, &mut share, &mut pace).await?;
    record.body_read(read.len(), pace.waited);
    Ok((read, share))
}

/// How a body comes.
struct Pace {
    limits: Limits,
    /// What of the time was the client's.
    waited: Duration,
    /// The first time that it was waited for.
    since: Option<Instant>,
}

impl Pace {
    /// Refuses a body that keeps coming, but too slowly.
    fn check(&self, length: usize, now: Instant) -> Result<(), Error> {
        let Some(since) = self.since else { return Ok(()) };
        let took = now.saturating_duration_since(since);
        if took >= self.limits.min_body_rate_after
            && (length as u128) * 1000 < took.as_millis() * self.limits.min_body_rate as u128
        {
            let rate = self.limits.min_body_rate;
            let message =
                format!("the request body comes with less than {rate} bytes a second (`server.min_body_rate`)");
            return Err(Error::new(ErrorKind::BodyTimeout, message));
        }
        Ok(())
    }
}

/// What comes next; what has not come with the head is waited for, and the wait is counted.
async fn next<T, E: fmt::Display>(
    pace: &mut Pace,
    length: usize,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, E>>,
) -> Result<T, Error> {
    let next = match poll_fn(|cx| Poll::Ready(poll(cx))).await {
        Poll::Ready(next) => next,
        Poll::Pending => {
            let pause_max = pace.limits.body_timeout;
            let since = tokio::time::Instant::now().into_std();
            let next = tokio::time::timeout(pause_max, poll_fn(poll)).await;
            let now = tokio::time::Instant::now().into_std();
            pace.waited += now.saturating_duration_since(since);
            pace.since.get_or_insert(since);
            pace.check(length, now)?;
            next.map_err(|_| {
                let message = format!("the request body stalled for {} s", pause_max.as_secs());
                Error::new(ErrorKind::BodyTimeout, message)
            })?
        }
    };
    next.map_err(|error| {
        let message = "the request body ended early or its chunked framing is broken";
        Error::new(ErrorKind::BodyIncomplete, message).internal(error.to_string())
    })
}

async fn read_bounded(
    body: &mut impl RequestBody,
    load: &Arc<Load>,
    share: &mut Option<Share>,
    pace: &mut Pace,
) -> Result<Bytes, Error> {
    let bytes_max = pace.limits.body_bytes_max;
    // Nearly every body comes as one frame, which is passed on without a copy.
    let mut first = Bytes::new();
    while first.is_empty() && !body.is_end_stream() {
        let frame = next(pace, 0, |cx| Pin::new(&mut *body).poll_frame(cx).map(Option::transpose)).await?;
        let Some(frame) = frame else { break };
        first = frame.into_data().unwrap_or_default();
    }
    if body.is_end_stream() && first.len() <= bytes_max {
        return Ok(first);
    }
    // What came with one read is not worth counting; what may become large is.
    let share = share.get_or_insert_with(|| Share::of(load));
    // With the room for the rest, if it was given any.
    let mut whole = first.try_into_mut().unwrap_or_else(|first| BytesMut::from(first.as_ref()));
    let (begun, mut yielded_at) = (whole.len(), 0);
    loop {
        if whole.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        share.grow_to(whole.len() + 1)?;
        let length = whole.len();
        if length - yielded_at >= TURN_BYTES {
            // A body that is all there already would keep everybody else waiting.
            yielded_at = length;
            tokio::task::yield_now().await;
        }
        // Before it gets room for more, which would be a copy of all of it.
        if body.is_end_stream() {
            return Ok(whole.freeze());
        }
        // One byte more than is allowed is enough to see that there is one.
        let left = body.size_hint().upper().map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let left = left.min((bytes_max + 1).saturating_sub(whole.len()));
        // What comes without a length comes in pieces of any size, and is not to decide how much room there is.
        let is_announced = body.size_hint().upper().is_some();
        let least = if is_announced { 1 } else { PIECE_MAX.min(left) };
        let room = whole.capacity() - whole.len();
        if whole.len() == begun && room < left.clamp(1, GROWTH_MIN / 2) {
            whole.reserve(left.clamp(1, GROWTH_MIN));
        } else if room < least {
            // What is announced, or may be of any length, gets room for all of it: memory that nobody has written to
            // is none, and in growing step by step every step would be left behind.
            let growth = if is_announced || whole.len() >= GROWTH_MANY { GROWTH_MAX } else { 3 * whole.len() };
            // With the room for a last piece, or that would double all of it.
            whole.reserve(left.min(growth) + least);
        }
        if !next(pace, length, |cx| body.poll_append(cx, &mut whole)).await? {
            return Ok(whole.freeze());
        }
    }
}

/// Reads away a body that nobody asked for, and says whether the connection can be used again.
///
/// SDKs send head and body in two segments and keep their connections: closing on the second one
/// would reset the connection under the answer and under the client's next request. Large and slow
/// bodies are not worth it, nor those that wait for a `100 Continue` before they are sent.
pub(super) async fn discard(head: &Head, body: Option<impl RequestBody>) -> bool {
    let Some(mut body) = body.filter(|body| !body.is_apart() && !body.is_end_stream()) else { return true };
    if head.headers.has("expect") || body.size_hint().lower() > DISCARD_BYTES_MAX {
        return false;
    }
    let reading = async {
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
            if length > DISCARD_BYTES_MAX {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_TIME_MAX, reading).await.unwrap_or(false)
}

fn too_large(bytes_max: usize) -> Error {
    let message = format!("the request body is larger than {bytes_max} bytes (`server.body_bytes_max`)");
    Error::new(ErrorKind::BodyTooLarge, message)
}

/// The only headers of a client that a provider sees. Everything else may carry a credential, an
/// address or a trick between two parsers.
const FORWARDED: [&[u8]; 8] = [
    b"accept",
    b"content-type",
    b"anthropic-beta",
    b"anthropic-version",
    b"idempotency-key",
    b"openai-beta",
    b"traceparent",
    b"tracestate",
];

impl<'a> ModelRequest<'a> {
    /// Finds what the gateway has to know of the body.
    pub(super) fn new(
        operation: Operation,
        head: &'a Head,
        (body, share): (Bytes, Option<Share>),
    ) -> Result<Self, Error> {
        let peek = request_body::peek(&body)?;
        Ok(Self {
            operation,
            stream: peek.stream && operation.can_stream(),
            places: peek.places,
            model: match peek.model {
                Cow::Borrowed(model) => body.slice_ref(model.as_bytes()),
                Cow::Owned(model) => model.into(),
            },
            headers: &head.headers,
            body,
            _share: share,
        })
    }

    /// The model that is asked for.
    pub(super) fn model(&self) -> &str {
        // It comes out of a `str`.
        std::str::from_utf8(&self.model).unwrap_or_default()
    }

    /// Adds the client's headers that are passed on.
    pub(super) fn push_headers(&self, head: &mut RequestHead) {
        head.pass(self.headers, |name| FORWARDED.contains(&name));
        if !self.headers.has("content-type") {
            head.push(&CONTENT_TYPE, &HeaderValue::from_static("application/json"));
        }
    }

    /// Whether a stream is asked for.
    pub(super) fn is_stream(&self) -> bool {
        self.stream
    }

    /// Whether a stream from this deployment is asked for usage that its client did not ask for.
    pub(super) fn asks_usage_for(&self, deployment: &Deployment) -> bool {
        self.stream && !self.places.wants_usage() && deployment.provider.include_usage
    }

    /// The body as the deployment is sent it.
    pub(super) fn body_for(&self, deployment: &Deployment, ask_usage: bool) -> Payload {
        if deployment.model == self.model() && !ask_usage {
            return self.body.clone().into();
        }
        if self.body.len() <= COPIED_MAX {
            let body: Bytes = self.places.rewrite(&self.body, &deployment.model, ask_usage).into();
            return body.into();
        }
        Payload::of(self.places.pieces(&self.body, &deployment.model, ask_usage))
    }

    pub(super) fn unknown_model(&self) -> Error {
        let message = format!("model {:?} is not configured; GET /v1/models lists what this key may use", self.model());
        Error::new(ErrorKind::UnknownModel, message).param("model")
    }

    pub(super) fn model_not_allowed(&self, key: &str) -> Error {
        let message = format!("the client key {key:?} may not use model {:?}", self.model());
        Error::new(ErrorKind::ModelNotAllowed, message).param("model")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_a_while_and_then_a_rate() {
        let limits = Limits {
            body_bytes_max: 1 << 20,
            body_timeout: Duration::from_secs(15),
            min_body_rate: 1024,
            max_attempts: 3,
            repeats: crate::config::Repeats { attempts: 1, backoff: Duration::ZERO, wait_max: Duration::ZERO },
            min_body_rate_after: Duration::from_secs(30),
        };
        let since = Instant::now();
        let mut pace = Pace { limits, waited: Duration::ZERO, since: None };
        let after = |seconds| since + Duration::from_secs(seconds);
        assert!(pace.check(0, after(100)).is_ok(), "it was never waited for");
        pace.since = Some(since);
        for (length, seconds, is_ok) in [
            (0, 29, true),
            (30 * 1024 - 1, 30, false),
            (30 * 1024, 30, true),
            (60 * 1024, 61, false),
            (1 << 20, 600, true),
        ] {
            assert_eq!(pace.check(length, after(seconds)).is_ok(), is_ok, "{length} bytes in {seconds} s");
        }
        assert_eq!(pace.check(0, after(31)).unwrap_err().kind, ErrorKind::BodyTimeout);
    }
}
