//! The client's request: its body read within limits, and what a deployment is sent of it.

use std::{
    borrow::Cow,
    future::poll_fn,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header::CONTENT_TYPE};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::time::error::Elapsed;

use super::{RequestBody, head, record::Record};
use crate::{
    api::{
        error::{Error, ErrorKind},
        operation::Operation,
        request_body::{self, Peek},
    },
    gateway::{Deployment, Limits},
    http_client::RequestHead,
    message::{Head, Headers},
};

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
    wants_usage: bool,
    body: Bytes,
}

/// Reads the whole body, or refuses it as early as its size is known.
pub(super) async fn read(
    head: &Head,
    body: &mut Option<impl RequestBody>,
    limits: Limits,
    record: &mut Record,
) -> Result<Bytes, Error> {
    head::check_encoding(head)?;
    let announced =
        head.headers.get("content-length").and_then(|length| str::from_utf8(length).ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes_max as u64) {
        return Err(too_large(limits.body_bytes_max));
    }
    let Some(mut body) = body.take() else { return Ok(Bytes::new()) };
    let mut waited = Duration::ZERO;
    let read = read_bounded(&mut body, limits.body_bytes_max, limits.body_timeout, &mut waited).await?;
    record.body_read(read.len(), waited);
    Ok(read)
}

/// The next frame; what has not come with the head is waited for, and the wait is counted.
async fn next_frame<B: RequestBody>(
    body: &mut B,
    pause_max: Duration,
    waited: &mut Duration,
) -> Result<Option<Result<Frame<Bytes>, B::Error>>, Elapsed> {
    let here = poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await;
    if let Poll::Ready(frame) = here {
        return Ok(frame);
    }
    let since = Instant::now();
    let frame = tokio::time::timeout(pause_max, body.frame()).await;
    *waited += since.elapsed();
    frame
}

async fn read_bounded(
    body: &mut impl RequestBody,
    bytes_max: usize,
    pause_max: Duration,
    waited: &mut Duration,
) -> Result<Bytes, Error> {
    // Nearly every body comes as one frame, which is passed on without a copy.
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    let mut length = 0;
    while !body.is_end_stream() {
        let frame = match next_frame(body, pause_max, waited).await {
            Err(_) => {
                let message = format!("the request body stalled for {} s", pause_max.as_secs());
                return Err(Error::new(ErrorKind::BodyTimeout, message));
            }
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let message = "the request body ended early or its chunked framing is broken";
                return Err(Error::new(ErrorKind::BodyIncomplete, message).internal(error.to_string()));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut both = BytesMut::with_capacity(first.len() + data.len());
                both.extend_from_slice(&first);
                both.extend_from_slice(&data);
                rest = Some(both);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// Reads away a body that nobody asked for, and says whether the connection can be used again.
///
/// SDKs send head and body in two segments and keep their connections: closing on the second one
/// would reset the connection under the answer and under the client's next request. Large and slow
/// bodies are not worth it, nor those that wait for a `100 Continue` before they are sent.
pub(super) async fn discard(head: &Head, body: Option<impl RequestBody>) -> bool {
    let Some(mut body) = body.filter(|body| !body.is_end_stream()) else { return true };
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
    pub(super) fn new(operation: Operation, head: &'a Head, body: Bytes) -> Result<Self, Error> {
        let peek = request_body::peek(&body)?;
        Ok(Self {
            operation,
            stream: peek.stream && operation.can_stream(),
            wants_usage: peek.wants_usage(),
            model: match peek.model {
                Cow::Borrowed(model) => body.slice_ref(model.as_bytes()),
                Cow::Owned(model) => model.into(),
            },
            headers: &head.headers,
            body,
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

    /// Whether a stream from this deployment is asked for usage that its client did not ask for.
    pub(super) fn asks_usage_for(&self, deployment: &Deployment) -> bool {
        self.stream && !self.wants_usage && deployment.provider.include_usage
    }

    /// The body as the deployment is sent it.
    pub(super) fn body_for(&self, deployment: &Deployment, ask_usage: bool) -> Result<Bytes, Error> {
        if deployment.model == self.model() && !ask_usage {
            return Ok(self.body.clone());
        }
        let peek: Peek<'_> = request_body::peek(&self.body)?;
        Ok(peek.rewrite(&self.body, &deployment.model, ask_usage).into())
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
