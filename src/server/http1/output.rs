//! What a client is sent: in one write where it can be, kept where the client does not take it.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use crate::server::socket::Socket;

/// Up to this, pieces are joined: most answers and events are a head, or a chunk's frame, and little
/// more, and one piece is written faster than several.
const JOINED_MAX: usize = 4 * 1024;

thread_local! {
    static JOINED: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(JOINED_MAX));
}

/// What the socket did not take yet.
#[derive(Debug, Default)]
pub(super) struct Output {
    before: Vec<u8>,
    begin: usize,
    data: Bytes,
    after: &'static [u8],
    /// Something was taken since somebody asked.
    has_moved: bool,
}

impl Output {
    /// Whether everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.data.is_empty() && self.after.is_empty()
    }

    /// Whether the client has taken anything since this was last asked.
    pub(super) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Writes three pieces as far as they go at once; there must be nothing left of earlier ones.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        before: &[u8],
        data: Bytes,
        after: &'static [u8],
    ) -> io::Result<()> {
        let length = before.len() + data.len() + after.len();
        let written = if length <= JOINED_MAX {
            JOINED.with_borrow_mut(|joined| {
                joined.clear();
                joined.extend_from_slice(before);
                joined.extend_from_slice(&data);
                joined.extend_from_slice(after);
                Pin::new(socket).poll_write(cx, joined)
            })
        } else {
            let pieces = [IoSlice::new(before), IoSlice::new(&data), IoSlice::new(after)];
            Pin::new(socket).poll_write_vectored(cx, &pieces)
        };
        let written = match written {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        if written < length {
            self.before = before.to_vec();
            self.data = data;
            self.after = after;
            self.advance(written);
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let before = self.before.get(self.begin..).unwrap_or_default();
            let pieces = [IoSlice::new(before), IoSlice::new(&self.data), IoSlice::new(self.after)];
            match ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &pieces))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        // What was taken may wait within TLS.
        Pin::new(socket).poll_flush(cx)
    }

    fn advance(&mut self, mut written: usize) {
        self.has_moved |= written > 0;
        let of_before = written.min(self.before.len() - self.begin);
        self.begin += of_before;
        if self.begin == self.before.len() {
            (self.before, self.begin) = (Vec::new(), 0);
        }
        written -= of_before;
        let of_data = written.min(self.data.len());
        self.data.advance(of_data);
        if self.data.is_empty() {
            // What it was a part of is not kept.
            self.data = Bytes::new();
        }
        self.after = self.after.get(written - of_data..).unwrap_or_default();
    }
}
