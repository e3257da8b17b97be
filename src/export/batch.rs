//! One reading on its way to a receiver, cut into requests.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    config::Protocol,
    telemetry::{Snapshot, otlp, snapshot::Part},
};

/// JSON has about three times the size of protobuf, by which parts are measured.
const JSON_FACTOR: usize = 4;

/// A snapshot and the parts of it that have not been taken.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) snapshot: Snapshot,
    pub(super) read: Instant,
    /// The next request has been sent before, without an answer.
    pub(super) may_be_taken: bool,
    parts: VecDeque<Part>,
}

impl Batch {
    /// Cuts a snapshot into requests of at most `bytes_max`.
    pub(super) fn new(snapshot: Snapshot, protocol: Protocol, bytes_max: usize) -> Self {
        let bytes_max = if protocol == Protocol::HttpJson { bytes_max / JSON_FACTOR } else { bytes_max };
        // What is around the points: the resource and the scopes.
        let parts = snapshot.parts(bytes_max.saturating_sub(8 * 1024));
        Self { snapshot, read: Instant::now(), may_be_taken: false, parts: parts.into() }
    }

    /// The next request: its part, and its body as it goes out. The same as before, if that was not
    /// taken.
    pub(super) fn next(&self, protocol: Protocol, resource: &[(String, String)]) -> Option<(&Part, Bytes)> {
        let part = self.parts.front()?;
        let body = match protocol {
            Protocol::HttpProtobuf | Protocol::Grpc => otlp::encode(&self.snapshot, part, resource),
            Protocol::HttpJson => crate::telemetry::json::encode(&self.snapshot, part, resource),
        };
        Some((part, body.into()))
    }

    /// The part that [`Self::next`] gave was taken, or never will be.
    pub(super) fn done(&mut self) -> Option<Part> {
        self.may_be_taken = false;
        self.parts.pop_front()
    }

    /// The points that are left.
    pub(super) fn points(&self) -> usize {
        self.parts.iter().map(Part::points).sum()
    }
}
