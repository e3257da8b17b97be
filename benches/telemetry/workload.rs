//! What is measured, as plain data: which series there are and what one request records.
//!
//! It is read off our own registry and handed to the program that measures the OpenTelemetry SDK, so that both have the
//! same metrics, attributes and buckets, and record the same number of times.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Name of a figure and its value; the names are those of `report`.
pub(crate) type Figures = BTreeMap<String, f64>;

#[derive(Serialize, Deserialize)]
pub(crate) struct Workload {
    pub(crate) metrics: Vec<Metric>,
    /// What the single operations record into.
    pub(crate) counters: [Series; 2],
    pub(crate) histograms: [Series; 2],
    /// What a request records, by name of the figure.
    pub(crate) requests: BTreeMap<String, Vec<Series>>,
    /// The series of a whole export, by their number.
    pub(crate) exports: BTreeMap<usize, Vec<Series>>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Metric {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) unit: String,
    pub(crate) kind: Kind,
    /// Whether it is recorded in fractions of its unit.
    pub(crate) is_float: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Kind {
    Counter,
    UpDownCounter,
    Histogram(Vec<f64>),
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Series {
    /// Its place among the metrics.
    pub(crate) metric: usize,
    pub(crate) attributes: Vec<(String, Value)>,
    /// What is recorded, one call each, in the unit of the metric.
    pub(crate) values: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
}

/// How many durations there are before they repeat: a power of two.
pub(crate) const DURATIONS: usize = 1_024;

/// Durations of 1 ms to 100 s without an order, in nanoseconds: a branch predictor learns nothing from them.
pub(crate) fn durations() -> Vec<u64> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        10_f64.powf(6.0 + 5.0 * (state >> 11) as f64 / (1_u64 << 53) as f64) as u64
    };
    std::iter::repeat_with(next).take(DURATIONS).collect()
}
