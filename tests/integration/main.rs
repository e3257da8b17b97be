//! Behaviour at the edge: configuration + request + provider → exact answer + exact metrics.

mod bad_input;
mod cancel;
mod fallback;
mod proxy;
mod streaming;
mod support;
