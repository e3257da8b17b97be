//! Behaviour at the edge: configuration + request + provider → exact answer + exact metrics.

#![expect(clippy::unwrap_used, clippy::panic, clippy::string_slice, reason = "a test says what is wrong by panicking")]
#![expect(unreachable_pub, reason = "test modules share by `pub`; nothing leaves this binary")]

mod bad_input;
mod cancel;
mod cost;
mod fallback;
mod hostile;
mod http1;
mod http2;
mod limits;
mod provider_limits;
mod proxy;
mod rate_limit;
mod routing;
mod streaming;
mod support;
mod tls;
