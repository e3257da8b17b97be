//! A TCP socket that is read and written by system calls of our own making.
//!
//! The C library's `send` and `recv` are points at which a thread may be cancelled, and pay for it on
//! every call. Nobody cancels our threads. Readiness stays with tokio, in the way that its own sockets
//! have it: a read that did not fill its buffer has taken all there was, so the next one waits instead
//! of asking.

use std::{
    io,
    ops::Deref,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// A connected socket.
#[derive(Debug)]
pub struct Tcp(TcpStream);

impl From<TcpStream> for Tcp {
    fn from(socket: TcpStream) -> Self {
        Self(socket)
    }
}

impl Deref for Tcp {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.0
    }
}

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let socket = &self.0;
        loop {
            ready!(socket.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            let mut read = None;
            let tried = socket.try_io(Interest::READABLE, || {
                let (length, _) = recv(socket.as_fd(), &mut *room, RecvFlags::empty())?;
                read = Some(length);
                // There is no more, except that an end is to be seen again.
                if length > 0 && length < room.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (read, tried) {
                (Some(length), _) => {
                    buf.advance(length);
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if again(&error) => {}
                (None, tried) => return Poll::Ready(tried),
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let socket = &self.0;
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let mut written = None;
            let tried = socket.try_io(Interest::WRITABLE, || {
                let length = send(socket.as_fd(), buf, SendFlags::NOSIGNAL)?;
                written = Some(length);
                // There is no room for more.
                if length > 0 && length < buf.len() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (written, tried) {
                (Some(length), _) => return Poll::Ready(Ok(length)),
                (None, Err(error)) if again(&error) => {}
                (None, tried) => return Poll::Ready(tried.map(|()| 0)),
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Whether the call is to be made again once there is something to do.
fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
