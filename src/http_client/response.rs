//! A response body that gives its connection back at the end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as _, SizeHint};
use hyper::body::Incoming;

use super::{Error, describe, pool::Lease};

/// The bytes of a response as they come; trailers are dropped.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self { incoming, lease: Some(lease) };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    /// The next bytes, or `None` at a proper end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            return match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if self.incoming.is_end_stream() {
                            self.end();
                        }
                        Poll::Ready(Some(Ok(data)))
                    }
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => {
                    self.lease = None;
                    Poll::Ready(Some(Err(Error::Body(describe(&error)))))
                }
                None => {
                    self.end();
                    Poll::Ready(None)
                }
            };
        }
    }

    /// What is known of the length that is left.
    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    /// Whether nothing more will come, known without asking when the length was given.
    pub fn is_ended(&self) -> bool {
        self.lease.is_none()
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.put_back();
        }
    }
}

/// Reads a whole body of at most `bytes_max` bytes.
pub async fn read_bounded(mut body: ResponseBody, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut read = Vec::new();
    while let Some(data) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
        let data = data?;
        if read.len() + data.len() > bytes_max {
            return Err(Error::BodyTooLarge);
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}
