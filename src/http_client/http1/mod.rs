//! HTTP/1.1 towards servers (RFC 9112), polled by whoever waits: no task and no channel of its own.
//!
//! Owns the bytes of requests and responses and what they may be. Stricter than most clients: where
//! two readers could disagree about where a response ends, it is an error and the connection is
//! closed. Keeps no connection; a body sends its own home when it ends.

mod body;
mod connection;
#[cfg(test)]
mod fuzz;
mod head;
mod request;

pub use body::ResponseBody;
pub(super) use connection::{Answered, Connection};
pub use head::Keep;
pub use request::{Payload, Request, RequestHead};
