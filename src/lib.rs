//! tollgate: an LLM gateway in one small binary that pushes complete, correct metrics over OTLP.
//!
//! The modules, from the outside in; imports go strictly down this list:
//!
//! - [`cli`]: subcommands, one file each.
//! - [`server`]: sockets in, the worker threads, the drain.
//! - [`proxy`]: the path of one request. Start reading there.
//! - [`export`]: sending metrics: the background task, retries, explaining a receiver's answer.
//! - [`gateway`]: what the program runs on, immutable and swapped whole.
//! - [`config`]: what the operator wrote, parsed and validated.
//! - [`http_client`]: the pooled client that `proxy` and `export` share.
//! - [`telemetry`]: what is counted: the metric table, the registry of atomics, OTLP bytes.
//! - [`api`]: wire formats as plain functions.

pub mod api;
pub mod config;
pub mod http_client;
pub mod telemetry;

/// The OTLP messages generated from `proto/` (opentelemetry-proto v1.11.0).
#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated code"
)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/otlp.rs"));
}
