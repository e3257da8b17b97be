//! Where an export's content comes from: a fresh snapshot, stamped and encoded.
//!
//! Owns the promise that timestamps only go forward.

use std::sync::Arc;

use bytes::Bytes;

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
}

/// One snapshot and what is sent of it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) snapshot: Snapshot,
    pub(super) load: Load,
}

/// The content of one export.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) points: usize,
    /// An `ExportMetricsServiceRequest`.
    pub(super) body: Bytes,
}

impl Source {
    pub(super) fn new(registry: Arc<Registry>, telemetry: &Telemetry) -> Self {
        let process = Process::bind(&registry);
        Self { registry, process, resource: telemetry.resource.clone(), last_nanos: 0 }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Reads everything as it is now, under a timestamp later than any before.
    pub(super) fn read(&mut self) -> Reading {
        self.process.observe();
        let mut snapshot = self.registry.snapshot();
        snapshot.time_nanos = snapshot.time_nanos.max(self.last_nanos.saturating_add(STEP_NANOS));
        self.last_nanos = snapshot.time_nanos;
        let body = otlp::encode(&snapshot, &self.resource, snapshot.time_nanos).into();
        let load = Load { points: snapshot.points(), body };
        Reading { snapshot, load }
    }
}
