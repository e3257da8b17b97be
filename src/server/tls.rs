//! TLS towards clients: who we say we are, whom we let in, and how a new certificate takes over.
//!
//! A handshake begins with the configuration that is in force then; connections keep theirs.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    config::{self, ClientAuth, Loaded, ServerTls, TlsVersion, secret_file},
    gateway::Part,
    http_client::pem,
    message::Tcp,
    telemetry::{
        dimensions::{ConnectionTimeout, Rejection},
        instruments::ServerInstruments,
    },
};

/// What is offered by ALPN (RFC 7301), the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate in force, and the next one when it is ready.
pub struct Certificates {
    current: ArcSwap<ServerConfig>,
    prepared: Mutex<Option<Arc<ServerConfig>>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

impl Certificates {
    /// Reads them, or says what is wrong with which file.
    pub fn load(settings: &ServerTls) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self { current: ArcSwap::new(config(settings)?), prepared: Mutex::default() }))
    }

    /// Does the handshake of a new connection in time, or counts why not.
    pub(super) async fn accept(
        &self,
        socket: Tcp,
        settings: &config::Server,
        instruments: &ServerInstruments,
    ) -> Option<TlsStream<Tcp>> {
        let accepting = TlsAcceptor::from(self.current.load_full()).accept(socket);
        match tokio::time::timeout(settings.handshake_timeout, accepting).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                // Scanners and clients that do not trust us: nothing that an operator has to do.
                tracing::debug!(%error, "a TLS handshake failed");
                instruments.rejected.add(Rejection::HandshakeFailed, 1);
                None
            }
            Err(_) => {
                instruments.timeouts.add(ConnectionTimeout::Handshake, 1);
                None
            }
        }
    }
}

impl Part for Arc<Certificates> {
    fn prepare(&self, loaded: &Loaded) -> Result<bool, String> {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Whether there is TLS at all is decided at the start.
        if let Some(settings) = &loaded.config.server.tls {
            *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = Some(config(settings)?);
        }
        // That a file is another shows in the digest of all of them.
        Ok(false)
    }

    fn commit(&self) {
        if let Some(prepared) = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // With it go the tickets of the old one: a client that is not let in any more cannot resume.
            self.current.store(prepared);
        }
    }
}

/// Stands where there is no TLS until the next start: what that would fail on is refused now.
#[derive(Debug)]
pub struct NoCertificates;

impl Part for NoCertificates {
    fn prepare(&self, loaded: &Loaded) -> Result<bool, String> {
        loaded.config.server.tls.as_ref().map(config).transpose()?;
        Ok(false)
    }

    fn commit(&self) {}
}

fn config(settings: &ServerTls) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::V1_2 => &[&TLS13, &TLS12],
        TlsVersion::V1_3 => &[&TLS13],
    };
    let certificates = pem::certificates(&settings.cert)?;
    secret_file::check(&settings.key)?;
    let key = pem::private_key(&settings.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| error.to_string())?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            builder.with_client_cert_verifier(clients(authority, settings.client_auth, Arc::clone(&provider))?)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| pem::mismatch(&settings.cert, &settings.key, &error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    // Without tickets every client would be remembered here.
    config.ticketer = ring::Ticketer::new().map_err(|error: rustls::Error| error.to_string())?;
    Ok(Arc::new(config))
}

fn clients(
    authority: &Path,
    auth: ClientAuth,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(pem::roots_of(authority)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = match auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| format!("{}: {error}", authority.display()))
}

/// Whether the client of a connection speaks HTTP/2.
pub(super) fn is_http2(stream: &TlsStream<Tcp>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(PROTOCOLS[0])
}

/// Makes closing a reset.
pub(super) fn set_to_reset(stream: &TlsStream<Tcp>) -> io::Result<()> {
    stream.get_ref().0.set_zero_linger()
}
