//! TLS for these tests: certificates made on the spot, a gateway that shows them, and a client.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::client::connect;

/// A stream inside of TLS.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A folder with certificates, gone after the test.
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tollgate-certs-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes an authority `NAME.ca`, and a certificate `NAME.crt` of it with its key `NAME.key`.
    pub fn issue(&self, name: &str) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} authority"));
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        fs::write(self.path(&format!("{name}.ca")), authority.pem()).unwrap();
        fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
        let path = self.path(&format!("{name}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `[server]` with the certificate of this name, and more options of TLS and of the server.
    pub fn server(&self, name: &str, tls: &str, more: &str) -> String {
        let [cert, key] = ["crt", "key"].map(|kind| self.path(&format!("{name}.{kind}")).display().to_string());
        format!("[server]\nthreads = 1\ntls = {{ cert = {cert:?}, key = {key:?}{tls} }}\n{more}\n")
    }

    /// A client that trusts one authority and shows a certificate, or none, with these protocols.
    pub fn client(&self, authority: &str, identity: Option<&str>, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path(&format!("{authority}.ca"))).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(name) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap()],
                    PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap(),
                )
                .unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Connects and shakes hands.
pub fn secure(gateway: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Secure> {
    let mut socket = connect(gateway);
    let mut session = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

/// Sends bytes and reads to the end of the connection, which has to be told.
pub fn exchange(socket: &mut Secure, bytes: &[u8]) -> std::io::Result<String> {
    socket.write_all(bytes)?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(String::from_utf8(answer).unwrap())
}
