//! Wire formats, as plain functions over bytes and values.
//!
//! Owns what the OpenAI shape looks like: operations, errors, events, usage, cost, rate limits. Knows no socket, no
//! runtime, no configuration and no metric.

pub mod cost;
pub mod ends;
pub mod error;
pub mod openai;
pub mod operation;
pub mod rate_limit;
pub mod request_body;
pub mod retry_after;
pub mod sse;
pub mod usage;
