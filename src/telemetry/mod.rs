//! What is counted: the metric table, the registry of atomics and its OTLP form.
//!
//! Owns names, series and numbers. Knows no network, no runtime and no file: `export` reads a
//! [`Snapshot`] and sends it, everything above this module writes into bound handles.

pub mod aggregation;
pub mod attribute;
pub mod catalog;
pub mod clock;
pub mod dimensions;
pub mod instruments;
pub mod otlp;
mod protobuf;
pub mod registry;
pub mod snapshot;
pub mod temporality;

pub use aggregation::Aggregations;
pub use attribute::{Attribute, Dimension, Value};
pub use clock::Clock;
pub use registry::{ActiveGuard, Counter, Gauge, Histogram, Registry, UpDownCounter};
pub use snapshot::Snapshot;
pub use temporality::Temporality;
