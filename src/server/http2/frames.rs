//! How many frames a client may send that ask for nothing: PING, SETTINGS, PRIORITY and the like, and whatever is said
//! of streams that are over. They cost it nothing, and are looked at, and some of them answered, one by one.
//!
//! Sees the frames as they are read, because h2 shows its user none of these. What it bounds itself (CONTINUATION, empty
//! DATA of streams that are open) is counted as well.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::PREFACE;

/// As many at once: those of a client that has waited, and of one that is slow to hear that it has to go.
const AT_ONCE_MAX: u32 = 1_000;

/// One more for each.
const EVERY: Duration = Duration::from_millis(10);

/// As many more for each request and each piece of an answer: clients tell of the room that they have again, for the
/// stream and for the connection, and some measure the way there with a PING.
const EARNED: u32 = 10;

/// Of a frame: its length, kind, flags and stream (RFC 9113 §4.1).
const HEAD_LENGTH: usize = 9;
const DATA: u8 = 0;

/// A frame of data that is worth looking at, whatever it is for.
const DATA_MIN: usize = 64;

/// What is left of the frames that a client may send.
#[derive(Debug)]
pub(super) struct Frames {
    left: Cell<u32>,
    since: Cell<Instant>,
    are_too_many: Cell<bool>,
}

impl Frames {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: Cell::new(AT_ONCE_MAX), since: Cell::new(now), are_too_many: Cell::new(false) }
    }

    /// The client has asked for something, or is sent something.
    pub(super) fn earn(&self) {
        self.add(EARNED);
    }

    /// Its frame was of use.
    pub(super) fn give_back(&self) {
        self.add(1);
    }

    fn add(&self, count: u32) {
        self.left.set((self.left.get() + count).min(AT_ONCE_MAX));
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.are_too_many.get()
    }

    fn count(&self) {
        if self.left.get() == 0 {
            // The clock is looked at when it matters only.
            let now = Instant::now();
            let earned = now.duration_since(self.since.get()).as_nanos() / EVERY.as_nanos();
            self.since.set(now);
            self.left.set(u32::try_from(earned).unwrap_or(AT_ONCE_MAX).min(AT_ONCE_MAX));
        }
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => self.are_too_many.set(true),
        }
    }
}

/// A socket whose frames are counted.
#[derive(Debug)]
pub(super) struct Counted<S> {
    socket: S,
    frames: Rc<Frames>,
    /// What is there of a frame's head.
    head: [u8; HEAD_LENGTH],
    length: usize,
    /// What comes before the next head.
    payload: usize,
}

impl<S> Counted<S> {
    pub(super) fn new(socket: S, frames: Rc<Frames>) -> Self {
        Self { socket, frames, head: [0; HEAD_LENGTH], length: 0, payload: PREFACE.len() }
    }

    fn look(&mut self, mut read: &[u8]) {
        loop {
            let skipped = self.payload.min(read.len());
            self.payload -= skipped;
            let rest = read.get(skipped..).unwrap_or_default();
            let (more, rest) = rest.split_at(rest.len().min(HEAD_LENGTH - self.length));
            if more.is_empty() {
                return;
            }
            self.head.iter_mut().skip(self.length).zip(more).for_each(|(to, from)| *to = *from);
            self.length += more.len();
            if self.length < HEAD_LENGTH {
                return;
            }
            let [a, b, c, kind, ..] = self.head;
            self.length = 0;
            self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
            if kind != DATA || self.payload < DATA_MIN {
                self.frames.count();
            }
            read = rest;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let counted = self.get_mut();
        // Nothing more is read: the connection looks at this as soon as there is nothing to be done.
        if counted.frames.are_too_many() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut counted.socket).poll_read(cx, buffer))?;
        counted.look(buffer.filled().get(before..).unwrap_or_default());
        if counted.frames.are_too_many() {
            buffer.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    const REQUEST: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x82];
    const BODY: &[u8] = &[0, 0, 2, DATA, 0, 0, 0, 0, 1, b'{', b'}'];
    const NOTHING: &[u8] = &[0, 0, 0, DATA, 0, 0, 0, 0, 1];

    /// What is left after these have come in pieces of every length.
    async fn left(frames: &[&[u8]]) -> Vec<u32> {
        let bytes = [&[PREFACE], frames].concat().concat();
        let mut seen = Vec::new();
        for length in 1..bytes.len() {
            let frames = Rc::new(Frames::new(Instant::now()));
            let mut counted = Counted::new(&bytes[..], Rc::clone(&frames));
            let mut piece = vec![0; length];
            while counted.read(&mut piece).await.unwrap() > 0 {}
            seen.push(frames.left.get());
        }
        seen.dedup();
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_ask_for_nothing_count_however_they_come() {
        let long = [&[0, 0, DATA_MIN as u8, DATA, 0, 0, 0, 0, 1][..], &[b' '; DATA_MIN]].concat();
        assert_eq!(left(&[PING, NOTHING, REQUEST, &long, BODY, PING]).await, [AT_ONCE_MAX - 5]);
        assert_eq!(left(&[&long, &long]).await, [AT_ONCE_MAX]);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_more_with_time_and_for_requests() {
        let frames = Frames::new(Instant::now());
        let take = |count: u32| {
            (0..count).all(|_| !{
                frames.count();
                frames.are_too_many()
            })
        };
        assert!(take(AT_ONCE_MAX));
        tokio::time::advance(7 * EVERY).await;
        assert!(take(7));
        frames.earn();
        frames.give_back();
        assert!(take(EARNED + 1) && !take(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_that_is_too_much() {
        let bytes = [PREFACE, &PING.repeat(2 * AT_ONCE_MAX as usize)].concat();
        let frames = Rc::new(Frames::new(Instant::now()));
        let mut counted = Counted::new(&bytes[..], Rc::clone(&frames));
        let (mut all, mut piece) = (0, [0; 1000]);
        while let Ok(Ok(read)) = tokio::time::timeout(EVERY, counted.read(&mut piece)).await {
            all += read;
        }
        assert!(frames.are_too_many() && all <= PREFACE.len() + PING.len() * AT_ONCE_MAX as usize, "{all}");
    }
}
