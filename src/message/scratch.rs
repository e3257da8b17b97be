//! Where this thread reads to.
//!
//! What is read is copied out before the next read, so that an idle stream holds no buffer.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

/// What one read takes at most. Everything that is there goes on in one piece.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// What a read gave.
#[derive(Debug)]
pub enum Read<T> {
    Data(T),
    End,
    Failed(io::Error),
}

/// Reads once what there is, and hands it to `take`.
pub fn poll_read<S: AsyncRead + Unpin, T>(
    stream: &mut S,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<Read<T>> {
    poll_read_at_most(SCRATCH_BYTES, stream, cx, take)
}

/// The same, but no more than so many bytes, of 64 KiB.
pub fn poll_read_at_most<S: AsyncRead + Unpin, T>(
    most: usize,
    stream: &mut S,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<Read<T>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch.get_mut(..most).unwrap_or_default());
        match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Read::Failed(error)),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Read::End),
            Poll::Ready(Ok(())) => Poll::Ready(Read::Data(take(buffer.filled()))),
        }
    })
}
