//! HTTP/1.1 towards clients (RFC 9112), in the connection's one task.
//!
//! Owns the bytes of requests and answers. A request head that two readers could read differently
//! is refused and ends the connection. Holds no buffer while it waits.

#[cfg(test)]
mod fuzz;
mod head;
mod input;
mod output;
mod respond;
mod wire;

pub(super) use head::expect;
pub(super) use respond::{Asked, End, date, respond};
pub(super) use wire::{RequestBody, Start, Wire};
