//! The beginning of a stream, held back while another deployment can still take over.

use std::{future::poll_fn, task::Poll, time::Instant};

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

use super::{body::Source, upstream::Patience};
use crate::api::{
    error::{Error, ErrorKind},
    sse::Opening,
};

/// Waits until the stream has something for the client, and gives what has come so far; an error if it
/// begins with one, ends or breaks off before, or takes longer than a first byte may.
pub(super) async fn opening(
    source: &mut Source,
    started: Instant,
    patience: Patience,
    bytes_max: usize,
) -> Result<Bytes, Error> {
    let (mut held, mut looked_at) = (BytesMut::new(), 0);
    loop {
        let piece = poll_fn(|cx| match source.poll(cx) {
            Poll::Ready(piece) => Poll::Ready(Some(piece)),
            Poll::Pending => source.poll_deadline(cx, started + patience.limit).map(|()| None),
        });
        match piece.await {
            Some(Some(Ok(piece))) => {
                held.extend_from_slice(&piece);
                // An answer of one line is looked at once, not with each piece.
                if memchr2(b'\n', b'\r', &piece).is_none() && held.len() < bytes_max {
                    continue;
                }
            }
            Some(Some(Err(error))) => {
                return Err(failed("broke its stream off before anything of the answer").internal(error.to_string()));
            }
            Some(None) => return Err(failed("ended its stream before anything of the answer")),
            None => {
                return Err(patience.over("began no answer"));
            }
        }
        let (opening, looked) = Opening::of(held.get(looked_at..).unwrap_or_default());
        looked_at += looked;
        match opening {
            Opening::Error => return Err(failed("began its stream with an error")),
            Opening::Nothing if held.len() < bytes_max => {}
            Opening::Nothing | Opening::Content => return Ok(held.freeze()),
        }
    }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::ProviderServerError, format!("the provider {what}"))
}
