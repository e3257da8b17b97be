//! Certificates and keys in PEM files, and what is said when one is wrong.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

/// The certificates of one file and no others.
pub(crate) fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

/// The certificates in a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error| format!("{}: {}", path.display(), describe(error));
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(|found| found.collect()).map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(format!("{}: no PEM certificate in it", path.display()));
    }
    Ok(certificates)
}

/// The private key in a file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            format!("{}: no PEM private key in it; one with a passphrase cannot be read", path.display())
        }
        error => format!("{}: {}", path.display(), describe(error)),
    })
}

fn describe(error: pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot be read: {error}"),
        error => format!("is no PEM: {error}"),
    }
}

/// Why a certificate and a key do not go together.
pub(crate) fn mismatch(certificate: &Path, key: &Path, error: &rustls::Error) -> String {
    let (certificate, key) = (certificate.display(), key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => format!("{key}: is not the key of the certificate in {certificate}"),
        rustls::Error::InvalidCertificate(_) => format!("{certificate}: {error}"),
        // The key is of a kind that ring does not have, or broken; rustls says no more.
        error => format!("{key}: {error}"),
    }
}
