//! What is counted: the metric table, the registry of atomics, its OTLP form and its text form.
//!
//! Owns names, series and numbers. Knows no network, no runtime and no file: `export` reads a
//! [`Snapshot`] and sends it, everything above this module writes into bound handles.

pub mod aggregation;
pub mod attribute;
pub mod catalog;
mod cell;
pub mod clock;
pub mod dimensions;
pub mod handle;
pub mod instruments;
pub mod json;
pub mod losses;
pub mod otlp;
mod protobuf;
pub mod registry;
pub mod snapshot;
mod sync;
pub mod temporality;
pub mod text;

pub use aggregation::Aggregations;
pub use attribute::{Attribute, Dimension, Value};
pub use cell::Series;
pub use clock::Clock;
pub use handle::{ActiveGuard, Counter, Gauge, Histogram, UpDownCounter};
pub use registry::Registry;
pub use snapshot::Snapshot;
pub use temporality::Temporality;
