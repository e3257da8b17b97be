//! HTTP/1.1 messages (RFC 9112) as both sides of the gateway know them: how a body is framed, its
//! chunks, and the memory that bytes are read into and written from.
//!
//! Knows no socket's owner: `server` reads requests with it, `http_client` responses.

mod arena;
mod chunked;
mod decoder;
mod framing;
mod head;
mod headers;
mod number;
mod scratch;
mod tcp;
mod unix;

pub use arena::copy;
pub use chunked::Chunked;
pub use decoder::Decoder;
pub use framing::{Framing, Said};
pub use head::{Head, Response};
pub use headers::{Headers, Lines};
pub use number::{decimal, push_number};
pub use scratch::{Read, poll_read, poll_read_at_most};
pub use tcp::Tcp;
pub use unix::listen_at;
