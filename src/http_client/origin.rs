//! Where a connection goes: scheme, host and port, never a path.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

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
        Ok(Self { id: id(tls, &host, port), server_name, host, port, authority })
    }
}

/// The number of an origin, the same for the same one: a connection can be used by whoever comes to be
/// there after the configuration was read again.
fn id(tls: bool, host: &str, port: u16) -> usize {
    type Known = Mutex<HashMap<(bool, String, u16), usize>>;
    static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let next = known.len();
    *known.entry((tls, host.to_owned(), port)).or_insert(next)
}
