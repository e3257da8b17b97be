//! Client TLS: whom we trust, who we say we are, and which protocol is asked for.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::pem::{certificates, mismatch, private_key, roots_of};

/// The name of HTTP/2 in ALPN (RFC 9113 §3.2).
const H2: &[u8] = b"h2";

/// PEM files that TLS is set up with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificates to trust, instead of the public ones.
    pub roots: Option<PathBuf>,
    /// The certificate, with those between it and its root, that servers are shown, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A prepared configuration. Built on first use, because most boxes have none to talk to and the
/// public roots cost time and memory.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    /// Whether the server has to agree to HTTP/2.
    pub(super) is_http2: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl TlsFiles {
    /// Reads them and says what is wrong with them, so that it is known at start.
    pub fn check(&self) -> Result<(), String> {
        Tls::new(self, false).map(drop)
    }
}

impl Tls {
    /// Reads the files. With `is_http2`, HTTP/2 is asked for and nothing else.
    pub(super) fn new(files: &TlsFiles, is_http2: bool) -> Result<Self, String> {
        let roots = match &files.roots {
            Some(path) => roots_of(path)?,
            None => public_roots(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(|error| mismatch(certificate, key, &error))?,
        };
        if is_http2 {
            config.alpn_protocols = vec![H2.to_vec()];
        }
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), is_http2 })
    }

    /// Whether what the server chose by ALPN is what we came for.
    pub(super) fn accepts(&self, chosen: Option<&[u8]>) -> bool {
        !self.is_http2 || chosen == Some(H2)
    }
}

/// Mozilla's roots, built in, and the system's where there are any.
fn public_roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // A corporate root is installed in the system's store; its absence is no error.
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    roots
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Writes a certificate and its key; returns their paths.
    fn made(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (certificate, key)
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_name() {
        let folder = std::env::temp_dir().join(format!("tollgate-tls-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (certificate, key) = made(&folder, "one");
        let (_, other_key) = made(&folder, "two");
        let (text, broken) = (folder.join("text"), folder.join("broken"));
        fs::write(&text, "hello").unwrap();
        fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let absent = folder.join("absent");

        let check = |roots: Option<&Path>, identity: Option<(&Path, &Path)>| {
            let identity = identity.map(|(certificate, key)| (certificate.to_owned(), key.to_owned()));
            TlsFiles { roots: roots.map(Path::to_owned), identity }.check()
        };
        assert_eq!(check(Some(&certificate), Some((&certificate, &key))), Ok(()));
        assert_eq!(check(None, None), Ok(()));
        for (roots, identity, file, why) in [
            (Some(&absent), None, &absent, "cannot be read: No such file"),
            (Some(&text), None, &text, "no PEM certificate in it"),
            (Some(&key), None, &key, "no PEM certificate in it"),
            (Some(&broken), None, &broken, "invalid peer certificate"),
            (None, Some((&absent, &key)), &absent, "cannot be read: No such file"),
            (None, Some((&certificate, &absent)), &absent, "cannot be read: No such file"),
            (None, Some((&text, &key)), &text, "no PEM certificate in it"),
            (None, Some((&certificate, &certificate)), &certificate, "no PEM private key in it"),
            (None, Some((&certificate, &other_key)), &other_key, "is not the key of the certificate in"),
            (None, Some((&broken, &key)), &broken, "invalid peer certificate"),
        ] {
            let said = check(roots.map(PathBuf::as_path), identity.map(|(one, two)| (one.as_path(), two.as_path())));
            let said = said.unwrap_err();
            assert!(said.starts_with(&format!("{}: ", file.display())) && said.contains(why), "{said}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
