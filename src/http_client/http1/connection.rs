//! One connection: a request out, a response's head in.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;

use super::{
    head::{self, Head, Keep, Parsed},
    request::Request,
};
use crate::{
    http_client::{Error, Limits, Watchdog, connect::Stream},
    message::{self, Decoder, Framing, Read},
};

/// Most 1xx responses before the one that counts.
const INFORMATIONAL_MAX: usize = 16;

/// What one read of an answer takes at most. Twice as much made a stream of long lines take 64 KiB more.
const READ_MAX: usize = 32 * 1024;

/// A connection that belongs to one request at a time.
#[derive(Debug)]
pub(in crate::http_client) struct Connection {
    stream: Stream,
    /// Of whoever waits for something to be read.
    watchdog: Watchdog,
    pub(in crate::http_client) opened: Instant,
}

/// A response's head, and what came with it.
#[derive(Debug)]
pub(in crate::http_client) struct Answered {
    pub(super) head: Head,
    pub(super) rest: Rest,
    /// The server answered before it had the whole request.
    pub(super) is_early: bool,
}

/// What came behind a head.
#[derive(Debug)]
pub(super) enum Rest {
    /// As it is: it can be handed on without a copy.
    Raw(Bytes),
    /// What was in chunks: copied once, out of them; and whether nothing of it was behind the end.
    Decoded(Decoder, Bytes, bool),
}

impl Rest {
    fn of(head: &Head, bytes: &[u8]) -> Self {
        let Framing::Chunked = head.framing else { return Self::Raw(message::copy(bytes)) };
        let mut decoder = Decoder::new(head.framing);
        // A mistake in it is the decoder's to tell, once the data in front of it has been read.
        let (data, read) = decoder.decode(bytes).unwrap_or_default();
        let is_clean = read == bytes.len() || decoder.broken().is_some();
        Self::Decoded(decoder, data, is_clean)
    }
}

/// Why there is no head.
#[derive(Debug)]
pub(in crate::http_client) struct Failure {
    pub(in crate::http_client) error: Error,
    /// The connection ended before a byte of an answer, as one does that the server had closed.
    pub(in crate::http_client) is_close: bool,
}

impl Connection {
    pub(in crate::http_client) fn new(stream: Stream) -> Self {
        Self { stream, watchdog: Watchdog::default(), opened: Instant::now() }
    }

    /// Whether it is open and nothing was sent on it that nobody asked for.
    pub(in crate::http_client) async fn is_quiet(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.poll_read(cx, |_| ()).is_pending())).await
    }

    /// Reads once what there is, and hands it to `take`.
    pub(super) fn poll_read<T>(&mut self, cx: &mut Context<'_>, take: impl FnOnce(&[u8]) -> T) -> Poll<Read<T>> {
        message::poll_read_at_most(READ_MAX, &mut self.stream, cx, take)
    }

    /// Ready once `deadline` has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.watchdog.poll(cx, deadline)
    }

    /// Sends a request and reads the head of its response, which has to be there by `deadline`.
    pub(in crate::http_client) async fn exchange(
        &mut self,
        request: &Request,
        keep: Keep,
        limits: &Limits,
        deadline: Instant,
    ) -> Result<Answered, Failure> {
        request.begin();
        let mut writing = Writing { request, written: 0, is_flushed: false, failed: None };
        let mut reading = Reading::new(keep, limits);
        let answered = poll_fn(|cx| {
            writing.poll(cx, &mut self.stream);
            loop {
                match self.poll_read(cx, |data| reading.take(data, Rest::of)) {
                    Poll::Ready(Read::Data(Ok(None))) => {}
                    Poll::Ready(Read::Data(Ok(Some((head, rest))))) => {
                        return Poll::Ready(Ok(Answered { head, rest, is_early: !writing.is_flushed }));
                    }
                    Poll::Ready(Read::Data(Err(why))) => {
                        return Poll::Ready(Err(Failure { error: Error::InvalidResponse(why), is_close: false }));
                    }
                    Poll::Ready(Read::End) => return Poll::Ready(Err(reading.ended(None))),
                    Poll::Ready(Read::Failed(error)) => return Poll::Ready(Err(reading.ended(Some(&error)))),
                    Poll::Pending => break,
                }
            }
            if let Some(error) = writing.failed.take() {
                // Nothing more will come: what there was has been read.
                return Poll::Ready(Err(reading.ended(Some(&error))));
            }
            let is_late = self.poll_deadline(cx, deadline);
            is_late.map(|()| Err(Failure { error: Error::ResponseTimeout, is_close: false }))
        });
        answered.await.map_err(|failure| match self.stream.refusal().error() {
            Some(error) => Failure { error, is_close: false },
            None => failure,
        })
    }
}

/// A request on its way out.
struct Writing<'a> {
    request: &'a Request,
    written: usize,
    is_flushed: bool,
    failed: Option<io::Error>,
}

impl Writing<'_> {
    /// Writes as far as it goes, head and body in one call.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) {
        while !self.is_flushed && self.failed.is_none() {
            let rest = self.request.rest(self.written);
            let progress = match rest.as_slices() {
                [] => Pin::new(&mut *stream).poll_flush(cx).map_ok(|()| usize::MAX),
                [all] => Pin::new(&mut *stream).poll_write(cx, all),
                pieces => Pin::new(&mut *stream).poll_write_vectored(cx, pieces),
            };
            match progress {
                Poll::Pending => return,
                Poll::Ready(Ok(usize::MAX)) => self.is_flushed = true,
                Poll::Ready(Ok(0)) => self.failed = Some(ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => self.written += written,
                Poll::Ready(Err(error)) => self.failed = Some(error),
            }
        }
    }
}

/// A head on its way in.
pub(super) struct Reading {
    /// What came of a head that is not whole yet.
    held: Vec<u8>,
    informational: usize,
    keep: Keep,
    bytes_max: usize,
    lines_max: usize,
}

impl Reading {
    pub(super) fn new(keep: Keep, limits: &Limits) -> Self {
        Self { held: Vec::new(), informational: 0, keep, bytes_max: limits.head_bytes, lines_max: limits.head_lines }
    }

    /// The head and what `rest` makes of what is behind it, if `data` has the end of one.
    pub(super) fn take<T>(
        &mut self,
        data: &[u8],
        rest: impl FnOnce(&Head, &[u8]) -> T,
    ) -> Result<Option<(Head, T)>, String> {
        if self.held.is_empty() {
            return self.parse(data, rest);
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(data);
        // Without the end of a line there is nothing new to be parsed.
        if !data.contains(&b'\n') && held.len() <= self.bytes_max {
            self.held = held;
            return Ok(None);
        }
        self.parse(&held, rest)
    }

    fn parse<T>(
        &mut self,
        mut data: &[u8],
        of_rest: impl FnOnce(&Head, &[u8]) -> T,
    ) -> Result<Option<(Head, T)>, String> {
        loop {
            let parsed = head::parse(data, self.keep, self.lines_max)?;
            let (Parsed::Final(_, length) | Parsed::Informational(length)) = parsed else {
                if data.len() > self.bytes_max {
                    return Err(format!("the head is over {} bytes (`max_head_bytes`)", self.bytes_max));
                }
                self.held = data.to_vec();
                return Ok(None);
            };
            let rest = data.get(length..).unwrap_or_default();
            if length > self.bytes_max {
                return Err(format!("the head is over {} bytes (`max_head_bytes`)", self.bytes_max));
            }
            if let Parsed::Final(head, _) = parsed {
                let rest = of_rest(&head, rest);
                return Ok(Some((head, rest)));
            }
            self.informational += 1;
            if self.informational > INFORMATIONAL_MAX {
                return Err(format!("there are more than {INFORMATIONAL_MAX} responses with status 1xx"));
            }
            data = rest;
            if data.is_empty() {
                return Ok(None);
            }
        }
    }

    fn ended(&self, error: Option<&io::Error>) -> Failure {
        let has_begun = !self.held.is_empty() || self.informational > 0;
        let why = error.map_or_else(|| "the server closed it".to_owned(), io::Error::to_string);
        let is_close = !has_begun
            && error.is_none_or(|error| {
                use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
                matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | UnexpectedEof)
            });
        Failure { error: Error::Closed(why), is_close }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Option<(u16, Vec<u8>)>, String> {
        let mut reading =
            Reading::new(|_| true, &Limits::connecting(std::time::Duration::ZERO, std::time::Duration::ZERO));
        for piece in pieces {
            if let Some((head, rest)) = reading.take(piece, |_, rest| rest.to_vec())? {
                return Ok(Some((head.status.as_u16(), rest)));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_may_come_in_any_pieces() {
        let response = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        let whole = [response.as_slice(), b"ok"].concat();
        assert_eq!(read(&[&whole]), Ok(Some((200, b"ok".to_vec()))));
        for at in 0..response.len() {
            let (first, second) = response.split_at(at);
            assert_eq!(
                read(
                    &[first, second]
                        .map(|piece| piece)
                        .into_iter()
                        .filter(|piece| !piece.is_empty())
                        .collect::<Vec<_>>()
                ),
                Ok(Some((200, vec![]))),
                "{at}"
            );
        }
        let bytes: Vec<&[u8]> = response.chunks(1).collect();
        assert_eq!(read(&bytes), Ok(Some((200, vec![]))));
        assert_eq!(read(&[&response[..response.len() - 1]]), Ok(None));
    }

    #[test]
    fn heads_without_end_are_refused() {
        let flood = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(17);
        assert!(read(&[&flood]).unwrap_err().contains("more than 16"));
        let line = vec![b'x'; 40_000];
        let pieces: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r\nX: ", &line, &line];
        assert!(read(&pieces).unwrap_err().contains("65536 bytes"));
    }
}
