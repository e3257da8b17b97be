//! TLS on the public listener as it looks from inside: protocols, versions, and an end that is told.

use std::io::Write as _;

use rustls::{ClientConfig, version::TLS12};

use crate::support::{
    Gateway, Provider,
    client::{connect, post_bytes, read_more},
    gateway::KEYS,
    provider::json,
    secure::{Folder, exchange, secure},
};

const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn gateway(server: &str, provider: Option<&Provider>) -> Gateway {
    let provider = provider.map_or("127.0.0.1:9".parse().unwrap(), |provider| provider.address);
    Gateway::run(&format!(
        "{server}[providers.p]\nbase_url = \"http://{provider}/v1\"\napi_key = \"sk-upstream-0\"\n\
         [models.m]\ndeployments = [{{ provider = \"p\", model = \"up\" }}]\n{KEYS}"
    ))
}

#[test]
fn http1_over_tls_is_http1_and_its_end_is_told() {
    let folder = Folder::new();
    folder.issue("a");
    let provider = Provider::answering(json("200 OK", "{\"x\":1}"));
    let gateway = gateway(&folder.server("a", "", ""), Some(&provider));
    for alpn in [&[][..], &["http/1.1"]] {
        let mut socket = secure(gateway.address, &folder.client("a", None, alpn)).unwrap();
        let request = String::from_utf8(post_bytes("/v1/chat/completions", r#"{"model":"m"}"#)).unwrap();
        let request = request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
        // An end that is not told is an error here.
        let answer = exchange(&mut socket, request.as_bytes()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"x\":1}"), "{answer}");
    }
    // What is not even a request is one of this connection, too.
    let mut socket = secure(gateway.address, &folder.client("a", None, &[])).unwrap();
    let answer = exchange(&mut socket, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    for (scheme, status, expected) in [("https", "200", 2.0), ("https", "400", 1.0), ("http", "", 0.0)] {
        let attributes = [format!("url.scheme={scheme},"), format!("http.response.status_code={status}")];
        let attributes = attributes.each_ref().map(String::as_str);
        assert_eq!(gateway.metric("http.server.request.duration:count", &attributes), expected, "{attributes:?}");
    }
    // A large answer goes through as well as a small one.
    let large = format!("{{\"x\":\"{}\"}}", "y".repeat(3 << 20));
    let provider = Provider::answering(json("200 OK", &large));
    let gateway = self::gateway(&folder.server("a", "", ""), Some(&provider));
    let mut socket = secure(gateway.address, &folder.client("a", None, &[])).unwrap();
    let request = String::from_utf8(post_bytes("/v1/chat/completions", r#"{"model":"m"}"#)).unwrap();
    let request = request.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1);
    assert!(exchange(&mut socket, request.as_bytes()).unwrap().ends_with(&large));
}

#[test]
fn alpn_chooses_http2_where_the_client_knows_it() {
    let folder = Folder::new();
    folder.issue("a");
    let gateway = gateway(&folder.server("a", "", ""), None);
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let socket = secure(gateway.address, &folder.client("a", None, offered)).unwrap();
        assert_eq!(socket.conn.alpn_protocol(), chosen.map(str::as_bytes), "{offered:?}");
    }
    // Neither protocol: there is nothing to talk about.
    assert!(secure(gateway.address, &folder.client("a", None, &["spdy/3"])).is_err());
}

#[test]
fn old_versions_are_refused_and_plain_requests_too() {
    let folder = Folder::new();
    folder.issue("a");
    let gateway = gateway(&folder.server("a", ", min_version = \"1.3\"", ""), None);
    let modern = folder.client("a", None, &[]);
    let mut old = ClientConfig::builder_with_provider(modern.crypto_provider().clone())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    old.alpn_protocols = Vec::new();
    assert!(secure(gateway.address, &old.into()).is_err());
    assert!(secure(gateway.address, &modern).is_ok());
    let mut socket = connect(gateway.address);
    socket.write_all(PROBE).unwrap();
    let mut said = Vec::new();
    while read_more(&mut socket, &mut said) {}
    assert!(!said.windows(4).any(|text| text == b"HTTP"), "{said:?}");
}
