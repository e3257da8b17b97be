//! Response bodies: read by whoever wants the bytes, when they are wanted.

use std::{
    fmt,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http_body::SizeHint;

use super::connection::{Answered, Connection, Rest};
use crate::{
    http_client::{Error, pool::Home},
    message::{Decoder, Headers, Read},
};

/// The bytes of a response as they come; trailers are dropped. Dropping it before its end closes the
/// connection.
pub struct ResponseBody {
    /// `None` after the end.
    reading: Option<Reading>,
    ended: Option<Instant>,
}

struct Reading {
    connection: Connection,
    home: Home,
    decoder: Decoder,
    /// Came with the head, and is out of its chunks if it was in any.
    rest: Bytes,
    /// The connection can take another request after the end.
    keep_alive: bool,
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("is_ended", &self.is_ended()).finish_non_exhaustive()
    }
}

impl ResponseBody {
    /// The body behind a head; its connection goes home at the end, if it can.
    pub(in crate::http_client) fn new(
        connection: Connection,
        answered: Answered,
        home: Home,
    ) -> (http::StatusCode, Headers, Self) {
        let Answered { head, rest, is_early } = answered;
        // A server that has not read the request would take what is left of it for the next one.
        let may_go_on = head.keep_alive && !is_early;
        let (decoder, rest, keep_alive) = match rest {
            Rest::Raw(rest) => (Decoder::new(head.framing), rest, may_go_on),
            Rest::Decoded(decoder, data, is_clean) => (decoder, data, may_go_on && is_clean),
        };
        let is_over = matches!(decoder, Decoder::Length(0)) || decoder.is_ended() && rest.is_empty();
        let reading = Reading { connection, home, decoder, rest, keep_alive };
        let mut body = Self { reading: Some(reading), ended: None };
        if is_over {
            body.end();
        }
        (head.status, head.headers, body)
    }

    /// The next bytes, or `None` at a proper end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        match reading.poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(data)) => {
                if reading.decoder.is_ended() {
                    self.end();
                }
                // Without data, it was the end.
                Poll::Ready((!data.is_empty()).then_some(Ok(data)))
            }
            Poll::Ready(Err(error)) => {
                self.reading = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Ready once `deadline` has passed. Without a connection there is nothing left to wait for.
    pub fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.reading.as_mut().map_or(Poll::Ready(()), |reading| reading.connection.poll_deadline(cx, deadline))
    }

    /// What is known of the length that is left.
    pub fn size_hint(&self) -> SizeHint {
        match &self.reading {
            None => SizeHint::with_exact(0),
            Some(Reading { decoder: Decoder::Length(left), .. }) => SizeHint::with_exact(*left),
            Some(_) => SizeHint::default(),
        }
    }

    /// Whether nothing more will come.
    pub fn is_ended(&self) -> bool {
        self.reading.is_none()
    }

    /// When it ended properly, if it has: nobody who wants to know has to look at the clock again.
    pub fn ended(&self) -> Option<Instant> {
        self.ended
    }

    fn end(&mut self) {
        let now = Instant::now();
        self.ended = Some(now);
        // Bytes behind the end belong to no request of ours.
        if let Some(Reading { connection, home, rest, keep_alive: true, .. }) = self.reading.take()
            && rest.is_empty()
        {
            home.take_back(connection, now);
        }
    }
}

impl Reading {
    /// Data, or nothing at the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Error>> {
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            return Poll::Ready(Ok(of_rest(&mut self.decoder, rest, &mut self.rest)));
        }
        loop {
            let Self { connection, decoder, keep_alive, .. } = self;
            if let Some(why) = decoder.broken() {
                return Poll::Ready(Err(Error::Body(why.into())));
            }
            match connection.poll_read(cx, |input| decode(decoder, input, keep_alive)) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Read::Data(data)) => {
                    let data = data?;
                    if !data.is_empty() || decoder.is_ended() {
                        return Poll::Ready(Ok(data));
                    }
                }
                Poll::Ready(Read::End) => {
                    let Decoder::Close = decoder else {
                        return Poll::Ready(Err(Error::Body("the server closed the connection before the end".into())));
                    };
                    *decoder = Decoder::Length(0);
                    return Poll::Ready(Ok(Bytes::new()));
                }
                Poll::Ready(Read::Failed(error)) => return Poll::Ready(Err(Error::Body(error.to_string()))),
            }
        }
    }
}

/// The data in what came with the head, without a copy; what is behind the end goes to `behind`.
fn of_rest(decoder: &mut Decoder, mut rest: Bytes, behind: &mut Bytes) -> Bytes {
    if let Decoder::Length(left) = decoder {
        let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
        *behind = rest.split_off(length);
        *left -= length as u64;
    }
    rest
}

/// The data in `input`. Bytes behind the end make the connection one that is not used again.
fn decode(decoder: &mut Decoder, input: &[u8], keep_alive: &mut bool) -> Result<Bytes, Error> {
    let (data, read) = decoder.decode(input).map_err(|why| Error::Body(why.to_owned()))?;
    *keep_alive &= read == input.len();
    Ok(data)
}
