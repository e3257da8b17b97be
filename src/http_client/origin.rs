//! Where a connection goes: scheme, host and port, never a path.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::HeaderValue;
use rustls::pki_types::ServerName;

/// One place to connect to, with what every request to it needs prepared.
#[derive(Debug)]
pub struct Origin {
    /// Tells origins apart in a pool without hashing their names.
    pub(super) id: usize,
    /// The name to verify a certificate against; `None` for plain HTTP.
    pub(super) server_name: Option<ServerName<'static>>,
    pub host: String,
    pub port: u16,
    /// The `Host` header (RFC 9112 §3.2): the port is left out when it is the scheme's own.
    pub authority: HeaderValue,
}

impl Origin {
    /// Prepares an origin, or says what is wrong with its host.
    pub fn new(tls: bool, host: &str, port: u16) -> Result<Self, String> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let authority = match (tls, port) {
            (true, 443) | (false, 80) => host.to_owned(),
            _ => format!("{host}:{port}"),
        };
        let authority =
            HeaderValue::from_str(&authority).map_err(|_| format!("{host:?} cannot stand in a Host header"))?;
        // An IPv6 literal has brackets in a URL and none everywhere else.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = if tls {
            let name = ServerName::try_from(host.clone());
            Some(name.map_err(|_| format!("{host:?} is not a valid TLS server name"))?)
        } else {
            None
        };
        Ok(Self { id: NEXT.fetch_add(1, Relaxed), server_name, host, port, authority })
    }
}
