//! One chat over TLS.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};

use crate::http1::{self, Answer, connect_from};
use crate::row::Stage;

/// A handshake that trusts the gateway's certificate alone, and a chat.
pub(super) fn chat(stage: &Stage<'_>) -> Result<Answer, String> {
    let text = |error: &dyn std::fmt::Display| format!("over TLS: {error}");
    let mut roots = RootCertStore::empty();
    let certificate =
        CertificateDer::from_pem_file(stage.gateway.folder.join("tls.crt")).map_err(|error| text(&error))?;
    roots.add(certificate).map_err(|error| text(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(|error| text(&error))?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(|error| text(&error))?;
    let socket = connect_from(stage.gateway.address, 1).map_err(|error| text(&error))?;
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(&chat_bytes()).map_err(|error| text(&error))?;
    let mut answer = Vec::new();
    // Without a close_notify the end is an error, but what came is what came.
    stream.read_to_end(&mut answer).ok();
    http1::parse(&answer)
}

fn chat_bytes() -> Vec<u8> {
    let request = String::from_utf8_lossy(&http1::chat("first", false, "ab12")).into_owned();
    request.replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes()
}
