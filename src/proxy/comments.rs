//! Signs of life in a stream whose provider is silent, for clients and proxies that give up on silence.
//!
//! A comment is a line that begins with a colon: who reads events takes no notice of it (WHATWG HTML §9.2).

use std::time::{Duration, Instant};

use bytes::Bytes;

const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Comments of one stream.
#[derive(Debug)]
pub(super) struct Comments {
    interval: Duration,
    last: Option<Instant>,
}

impl Comments {
    /// One after each `interval` of silence.
    pub(super) fn every(interval: Duration) -> Self {
        Self { interval, last: None }
    }

    /// When the next one is due, with the last bytes of the provider at that time.
    pub(super) fn next(&self, bytes: Instant) -> Instant {
        self.last.map_or(bytes, |last| last.max(bytes)) + self.interval
    }

    /// The comment that is due now.
    pub(super) fn say(&mut self) -> Bytes {
        self.last = Some(Instant::now());
        COMMENT
    }
}
