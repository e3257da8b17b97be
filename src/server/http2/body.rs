//! The body of a request, as its frames come.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use super::frames::Frames;
use crate::{proxy, server::connection::Client};

/// What is read of a body that nobody wants, from clients that have not shown a key.
const UNWANTED_BYTES_MAX: usize = 64 * 1024;

/// How long a client may send nothing of a request that was answered before its end.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Reads a stream and gives its window back as it does.
#[derive(Debug)]
pub(super) struct RequestBody {
    stream: Rc<RefCell<RecvStream>>,
    frames: Rc<Frames>,
    /// What came and had no room.
    held: Bytes,
    /// What is left of the length that was announced.
    left: Option<u64>,
}

/// What comes next on a stream; its room is given back at once.
fn poll_stream(stream: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
    let data = ready!(stream.poll_data(cx));
    if let Some(Ok(data)) = &data {
        // Of a stream that was reset there is nothing to be given back.
        let _is_reset = stream.flow_control().release_capacity(data.len()).is_err();
    }
    Poll::Ready(data)
}

/// Lets a client see the whole answer that still sends its request: some take a stream that is reset
/// meanwhile for one that failed, and some (httpx, Java's) look at no answer before all is sent. So whoever
/// has shown a key is heard out, others are for a little, and nobody for long.
pub(super) async fn linger(stream: &RefCell<RecvStream>, client: &Client) {
    if stream.borrow().is_end_stream() {
        return;
    }
    let settings = &client.settings;
    let (most, longest) = if client.activity.permit.is_authenticated() {
        (settings.body_bytes_max.saturating_mul(2), settings.body_timeout)
    } else {
        (UNWANTED_BYTES_MAX, LINGER_MAX)
    };
    let end = Instant::now() + longest;
    let mut length = 0;
    loop {
        let next = poll_fn(|cx| if length < most { poll_stream(&mut stream.borrow_mut(), cx) } else { Poll::Pending });
        match timeout_at(end.min(Instant::now() + LINGER_MAX), next).await {
            Ok(Some(Ok(data))) => length += data.len(),
            Ok(Some(Err(_)) | None) | Err(_) => return,
        }
    }
}

impl RequestBody {
    pub(super) fn new(stream: Rc<RefCell<RecvStream>>, announced: Option<u64>, frames: Rc<Frames>) -> Self {
        Self { stream, frames, held: Bytes::new(), left: announced }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if !self.held.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.held))));
        }
        let data = match ready!(poll_stream(&mut self.stream.borrow_mut(), cx)) {
            Some(Ok(data)) => data,
            end => return Poll::Ready(end),
        };
        self.frames.give_back();
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Poll::Ready(Some(Ok(data)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.get_mut().poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.stream.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left + self.held.len() as u64))
    }
}

impl proxy::RequestBody for RequestBody {
    fn poll_append(&mut self, cx: &mut Context<'_>, to: &mut BytesMut) -> Poll<Result<bool, h2::Error>> {
        let mut data = match ready!(self.poll_data(cx)) {
            Some(Ok(data)) => data,
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Ok(false)),
        };
        let room = data.len().min(to.capacity() - to.len());
        to.extend_from_slice(data.get(..room).unwrap_or_default());
        data.advance(room);
        self.held = data;
        Poll::Ready(Ok(true))
    }

    fn is_apart(&self) -> bool {
        true
    }
}
