//! Name resolution, TCP and TLS.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Error, Origin};

/// Client TLS: which roots to trust. Built on first use, because most boxes have none to talk to
/// and the roots cost time and memory.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trusts Mozilla's roots, built in, and the system's where there are any.
    pub fn public_roots() -> Result<Self, String> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        // A corporate root is installed in the system's store; its absence is no error.
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        Self::with_roots(roots)
    }

    /// Trusts the certificates of one PEM file and no others.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(|error| format!("{}: {error}", path.display()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| format!("{}: {error}", path.display()))?;
            roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if roots.is_empty() {
            return Err(format!("{}: no PEM certificate in it", path.display()));
        }
        Self::with_roots(roots)
    }

    fn with_roots(roots: RootCertStore) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

/// A connected socket, with or without TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connects within `limit`, everything included.
pub(super) async fn connect(origin: &Origin, tls: Option<&Tls>, limit: Duration) -> Result<Stream, Error> {
    let connecting = async {
        let tcp = TcpStream::connect((origin.host.as_str(), origin.port)).await?;
        // Heads and small events must not wait for an acknowledgement (Nagle, 40 ms).
        tcp.set_nodelay(true)?;
        match (&origin.server_name, tls) {
            (None, _) => Ok(Stream::Plain(tcp)),
            (Some(name), Some(tls)) => Ok(Stream::Tls(Box::new(tls.0.connect(name.clone(), tcp).await?))),
            (Some(_), None) => Err(io::Error::other("TLS is not set up")),
        }
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Error::Connect(error)),
        Err(_) => Err(Error::ConnectTimeout),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
