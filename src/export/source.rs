//! Where an export's content comes from: a fresh snapshot, stamped and encoded.
//!
//! Owns the promise that timestamps only go forward.

use std::sync::Arc;

use super::process::Process;
use crate::{
    config::Telemetry,
    telemetry::{Registry, Snapshot, otlp},
};

/// Prometheus keeps milliseconds and refuses two values under one timestamp, so exports are at
/// least this far apart.
const STEP_NANOS: u64 = 1_000_000;

/// Takes readings of a registry.
#[derive(Debug)]
pub(super) struct Source {
    registry: Arc<Registry>,
    process: Process,
    resource: Vec<(String, String)>,
    last_nanos: u64,
    /// Read before there was anything to count, so that the first export has every series at 0:
    /// Prometheus's `increase()` does not see the value that a series is born with.
    first: Option<Reading>,
}

/// One snapshot and its protobuf.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) snapshot: Snapshot,
    pub(super) body: Vec<u8>,
}

impl Source {
    pub(super) fn new(registry: Arc<Registry>, telemetry: &Telemetry) -> Self {
        let process = Process::bind(&registry);
        let resource = telemetry.resource.clone();
        let mut source = Self { registry, process, resource, last_nanos: 0, first: None };
        source.first = Some(source.read());
        source
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Reads everything as it is now, under a timestamp later than any before; the first time, as
    /// it was when the source was made.
    pub(super) fn read(&mut self) -> Reading {
        if let Some(first) = self.first.take() {
            return first;
        }
        self.process.observe();
        let mut snapshot = self.registry.snapshot();
        snapshot.time_nanos = snapshot.time_nanos.max(self.last_nanos.saturating_add(STEP_NANOS));
        self.last_nanos = snapshot.time_nanos;
        let body = otlp::encode(&snapshot, &self.resource, snapshot.time_nanos);
        Reading { snapshot, body }
    }
}
