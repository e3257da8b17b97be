//! A client's socket, of whatever kind: what the protocols above read from and write to.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;

use super::tls;
use crate::message::Tcp;

/// The stream of one client.
///
/// An enum, so that plain TCP stays a direct call. Whatever is larger than a socket is boxed.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(Tcp),
    Unix(UnixStream),
    Tls(Box<TlsStream<Tcp>>),
}

impl Socket {
    /// Says that nothing more comes, where leaving without a word would look like an attack
    /// (RFC 8446 §6.1), as far as it can be said without waiting.
    pub(super) fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        if let Self::Tls(socket) = self
            && let Poll::Ready(Err(error)) = Pin::new(socket).poll_shutdown(cx)
        {
            tracing::debug!(%error, "a connection was closed before it was told so");
        }
    }

    /// Makes closing it a reset, so that the client sees that it was cut.
    pub(super) fn set_to_reset(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.set_zero_linger(),
            // There is no reset; an answer without its end has to do.
            Self::Unix(_) => Ok(()),
            Self::Tls(socket) => tls::set_to_reset(socket),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket.into())
    }
}

impl From<TlsStream<Tcp>> for Socket {
    fn from(socket: TlsStream<Tcp>) -> Self {
        Self::Tls(Box::new(socket))
    }
}

impl From<UnixStream> for Socket {
    fn from(socket: UnixStream) -> Self {
        Self::Unix(socket)
    }
}

impl AsyncRead for Socket {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(socket) => Pin::new(socket).poll_write(cx, buf),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Self::Tls(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) | Self::Tls(_) => true,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(cx),
            Self::Unix(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(socket) => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}
