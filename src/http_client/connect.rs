//! Name resolution, TCP and the TLS handshake: from an origin to a connected stream.

use std::{
    cell::OnceCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{
    Error, Origin, Tls,
    names::{Lifetimes, Names},
};
use crate::message::Tcp;

/// How much of what lies before a server's last words is read through for them.
const UNREAD_CHUNKS_MAX: usize = 256;

/// What TLS failed of after the handshake. In TLS 1.3 a server refuses a client's certificate only
/// then, and the layers above do not keep an error that says so.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusal(Rc<OnceCell<rustls::Error>>);

impl Refusal {
    /// The error that this connection really ended with, if TLS had the word.
    pub(super) fn error(&self) -> Option<Error> {
        self.0.get().map(|error| Error::Connect(io::Error::other(error.clone())))
    }

    fn hear(&self, error: &io::Error) {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            self.0.get_or_init(|| tls.clone());
        }
    }
}

/// A connected socket, with or without TLS.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Socket,
    refusal: Refusal,
}

#[derive(Debug)]
enum Socket {
    Plain(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

/// What a server may take and send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Until a connection is there, TLS included.
    pub connect: Duration,
    /// Of it, the address of a host.
    pub lookup: Duration,
    /// How long addresses are used.
    pub addresses: Lifetimes,
    /// The head of a response.
    pub head_bytes: usize,
    pub head_lines: usize,
}

impl Limits {
    /// With these times, and what is the default of a provider for the rest.
    pub const fn connecting(connect: Duration, lookup: Duration) -> Self {
        Self { connect, lookup, addresses: Lifetimes::DEFAULT, head_bytes: 64 << 10, head_lines: 100 }
    }
}

/// Connects within `limits`.
pub(super) async fn connect(
    origin: &Origin,
    tls: Option<&Tls>,
    names: &Names,
    limits: Limits,
) -> Result<Stream, Error> {
    let connecting = async {
        let addresses = names.resolve(&origin.host, origin.port, &limits).await?;
        let tcp = TcpStream::connect(addresses.as_slice()).await?;
        // Heads and small events must not wait for an acknowledgement (Nagle, 40 ms).
        tcp.set_nodelay(true)?;
        let tcp = Tcp::from(tcp);
        match (&origin.server_name, tls) {
            (None, _) => Ok(Socket::Plain(tcp)),
            (Some(name), Some(tls)) => {
                let stream = tls.connector.connect(name.clone(), tcp).await?;
                if !tls.accepts(stream.get_ref().1.alpn_protocol()) {
                    // As if the server had sent the alert that it owes us (RFC 7301 §3.2).
                    return Err(io::Error::other(rustls::Error::NoApplicationProtocol));
                }
                Ok(Socket::Tls(Box::new(stream)))
            }
            (Some(_), None) => Err(io::Error::other("TLS is not set up")),
        }
    };
    match tokio::time::timeout(limits.connect, connecting).await {
        Ok(Ok(socket)) => Ok(Stream { socket, refusal: Refusal::default() }),
        Ok(Err(error)) => Err(Error::Connect(error)),
        Err(_) => Err(Error::ConnectTimeout),
    }
}

impl Stream {
    /// Where an error of TLS after the handshake will be found.
    pub(super) fn refusal(&self) -> Refusal {
        self.refusal.clone()
    }

    /// Notes why TLS failed. When writing fails, the reason may lie unread in the socket, as a server
    /// that refuses us says so and hangs up. The runtime may not know yet that there is something to
    /// read; but a socket that cannot be written to any more always has its end to be read.
    fn heard<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let (Socket::Tls(stream), Poll::Ready(Err(error))) = (&mut self.socket, &result) else { return result };
        self.refusal.hear(error);
        let mut chunk = [0; 1024];
        for _ in 0..UNREAD_CHUNKS_MAX {
            let mut unread = ReadBuf::new(&mut chunk);
            match Pin::new(&mut *stream).poll_read(cx, &mut unread) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if unread.filled().is_empty() => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.refusal.hear(&error);
                    break;
                }
            }
        }
        result
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, refusal } = self.get_mut();
        match socket {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf).map_err(|error| {
                refusal.hear(&error);
                error
            }),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match &mut this.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        this.heard(cx, result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = match &mut this.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        this.heard(cx, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = match &mut this.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        this.heard(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(stream) => stream.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
