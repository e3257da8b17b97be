//! The gateway over TLS, for the peers that are clients or look at TLS itself.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair};

use crate::{TEAM_A, peers::Tollgate, process::TempFolder};

/// A gateway with everything as it is by default, but for a smaller limit of bodies.
pub struct Https {
    pub tollgate: Tollgate,
    pub folder: TempFolder,
}

impl Https {
    /// Bodies over `body_bytes_max` are refused.
    pub fn start(body_bytes_max: usize) -> Self {
        let folder = TempFolder::new();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let certificate = folder.file("cert.pem", &certificate.pem());
        let key = folder.file("key.pem", &key.serialize_pem());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let server = format!("body_bytes_max = {body_bytes_max}\ntls = {{ cert = {certificate:?}, key = {key:?} }}\n");
        Self { tollgate: Tollgate::start_https(&server, &[TEAM_A]), folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.tollgate.address)
    }

    /// Ends it. It must have had nothing to say since it served: no client did anything that is not its right.
    pub fn stop(mut self) {
        self.tollgate.stop();
        let output = self.tollgate.process.output();
        let complaints: Vec<&String> =
            output.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }
}
