//! TLS towards clients: what is offered, who is let in, and a certificate that takes the place of another.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    version::{TLS12, TLS13},
};

use crate::support::{KEY, PATIENCE, Tollgate};

pub type Authority = CertifiedIssuer<'static, KeyPair>;
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

pub fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub fn write(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(next, path).unwrap();
}

/// A certificate and its key in files of a folder; the first is returned as bytes, too.
pub fn issue(authority: &Authority, folder: &Path) -> (CertificateDer<'static>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    write(&folder.join("cert.pem"), &certificate.pem());
    write(&folder.join("key.pem"), &key.serialize_pem());
    (certificate.der().clone(), key)
}

/// A folder of its own with what `tls` says in the configuration.
struct Place {
    folder: PathBuf,
    toml: String,
}

impl Place {
    fn new(name: &str, tls: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-https-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let at = folder.display();
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\nhandshake_timeout = \"300ms\"\nmax_handshakes = 2\n\
             tls = {{ cert = \"{at}/cert.pem\", key = \"{at}/key.pem\"{} }}\n[reload]\ninterval = \"20ms\"\n\
             [providers.echo]\nkind = \"echo\"\n[models.echo]\ndeployments = [{{ provider = \"echo\" }}]\n\
             [[keys]]\nname = \"k\"\nkey = \"${{TOLLGATE_KEY}}\"\n",
            tls.replace("CA", &folder.join("ca.pem").display().to_string())
        );
        Self { folder, toml }
    }

    fn start(&self, name: &str) -> Tollgate {
        Tollgate::start(name, &["serve"], &self.toml, &[("TOLLGATE_KEY", KEY)])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.folder).is_err();
    }
}

/// A connection that trusts an authority, and shows a certificate if there is one.
pub fn connect(
    address: SocketAddr,
    trusted: &Authority,
    versions: &[&'static SupportedProtocolVersion],
    shown: Option<(CertificateDer<'static>, KeyPair)>,
) -> Stream {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.as_ref().der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(
                vec![certificate],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket)
}

/// One chat whose words come back, or why not.
pub fn chat(stream: &mut Stream, words: usize) -> std::io::Result<()> {
    let text = vec!["word"; words].join(" ");
    let body = format!(r#"{{"model":"echo","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let length = body.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut read = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while !read.ends_with(b"\r\n0\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => read.extend_from_slice(&chunk[..length]),
        }
    }
    let read = String::from_utf8(read).unwrap();
    assert!(read.starts_with("HTTP/1.1 200 OK") && read.contains(&text), "{read}");
    Ok(())
}

#[test]
fn both_versions_are_spoken_on_kept_connections() {
    let authority = authority();
    let place = Place::new("versions", "");
    issue(&authority, &place.folder);
    let mut tollgate = place.start("https");
    let address = tollgate.address();
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let mut stream = connect(address, &authority, versions, None);
        chat(&mut stream, 3).unwrap();
        // An answer that does not go out at once.
        chat(&mut stream, 500).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(versions[0].version));
    }
    // Who does not speak TLS gets no answer that is none of it.
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _reset = plain.read_to_end(&mut answer).is_err();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    tollgate.signal("TERM");
    assert!(tollgate.exit().success());
}

#[test]
fn a_handshake_that_stalls_is_ended_and_only_so_many_are_under_way() {
    let authority = authority();
    let place = Place::new("stall", "");
    issue(&authority, &place.folder);
    let tollgate = place.start("stall");
    let address = tollgate.address();
    let begun = Instant::now();
    let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut ends: Vec<Duration> = Vec::new();
    for socket in &mut silent {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let _reset = socket.read(&mut [0; 16]).is_err();
        ends.push(begun.elapsed());
    }
    // The first had to go for the third; the others had their time.
    assert!(ends[0] < Duration::from_millis(290), "{ends:?}");
    assert!(ends[1] >= Duration::from_millis(290) && ends[2] < Duration::from_secs(2), "{ends:?}");
    chat(&mut connect(address, &authority, &[&TLS13], None), 2).unwrap();
}

#[test]
fn clients_show_a_certificate_where_one_is_wanted() {
    let (ours, others) = (authority(), authority());
    for (auth, without) in [("required", false), ("optional", true)] {
        let place = Place::new(auth, &format!(", client_ca = \"CA\", client_auth = \"{auth}\""));
        write(&place.folder.join("ca.pem"), &ours.as_ref().pem());
        let own = issue(&ours, &place.folder);
        let tollgate = place.start(auth);
        let address = tollgate.address();
        let folder = place.folder.join("client");
        fs::create_dir_all(&folder).unwrap();
        let foreign = issue(&others, &folder);
        assert!(chat(&mut connect(address, &ours, &[&TLS13], Some(own)), 2).is_ok(), "{auth}");
        assert!(chat(&mut connect(address, &ours, &[&TLS13], Some(foreign)), 2).is_err(), "{auth}");
        assert_eq!(chat(&mut connect(address, &ours, &[&TLS12], None), 2).is_ok(), without, "{auth}");
    }
}

#[test]
fn a_new_certificate_takes_over_and_open_connections_go_on() {
    let (old, new) = (authority(), authority());
    let place = Place::new("rotate", "");
    issue(&old, &place.folder);
    let tollgate = place.start("rotate");
    let address = tollgate.address();
    let mut open = connect(address, &old, &[&TLS13], None);
    chat(&mut open, 2).unwrap();
    issue(&new, &place.folder);
    tollgate.line_with("the new configuration is in force");
    chat(&mut connect(address, &new, &[&TLS13], None), 2).unwrap();
    chat(&mut open, 2).unwrap();
    // A key that does not belong to it changes nothing.
    write(&place.folder.join("key.pem"), &KeyPair::generate().unwrap().serialize_pem());
    let line = tollgate.line_with("the old one stays in force");
    assert!(line.contains("is not the key of the certificate"), "{line}");
    chat(&mut connect(address, &new, &[&TLS13], None), 2).unwrap();
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_at_the_start() {
    let authority = authority();
    let place = Place::new("wrong", "");
    issue(&authority, &place.folder);
    let key = place.folder.join("key.pem");
    let own = fs::read_to_string(&key).unwrap();
    let cases: [(&str, u32, &str); 4] = [
        (&KeyPair::generate().unwrap().serialize_pem(), 0o600, "is not the key of the certificate"),
        ("nothing", 0o600, "no PEM private key in it"),
        (&own, 0o644, "chmod 600"),
        (&own, 0o660, "its mode is 0660"),
    ];
    for (number, (text, mode, why)) in cases.into_iter().enumerate() {
        write(&key, text);
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let mut tollgate = place.start(&format!("wrong-{number}"));
        let line = tollgate.line_with(why);
        assert!(line.contains("key.pem"), "{line}");
        assert_eq!(tollgate.exit().code(), Some(2));
    }
    fs::remove_file(place.folder.join("cert.pem")).unwrap();
    let mut tollgate = place.start("missing");
    tollgate.line_with("cert.pem: cannot be read");
    assert_eq!(tollgate.exit().code(), Some(2));
}
