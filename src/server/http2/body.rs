//! The body of a request, as its frames come.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use crate::{proxy, server::connection::Client};

/// Reads a stream and gives its window back as it does.
#[derive(Debug)]
pub(super) struct RequestBody {
    stream: RecvStream,
    client: Rc<Client>,
    /// What came and had no room.
    held: Bytes,
    /// What is left of the length that was announced.
    left: Option<u64>,
}

impl RequestBody {
    pub(super) fn new(stream: RecvStream, announced: Option<u64>, client: Rc<Client>) -> Self {
        Self { stream, client, held: Bytes::new(), left: announced }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        if !self.held.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.held))));
        }
        let data = match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => data,
            end => return Poll::Ready(end),
        };
        // Of a stream that was reset there is nothing to be given back.
        let _is_reset = self.stream.flow_control().release_capacity(data.len()).is_err();
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
        self.held.is_empty() && self.stream.is_end_stream()
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

    fn authenticated(&self) {
        self.client.activity.permit.authenticated();
    }

    fn is_apart(&self) -> bool {
        true
    }
}
