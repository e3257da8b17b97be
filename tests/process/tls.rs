//! TLS towards providers and receivers: whom the gateway trusts, and that it refuses all others.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::support::{KEY, PATIENCE, Tollgate};

/// A server behind a certificate of its own, which signs itself.
struct TlsServer {
    port: u16,
    certificate: String,
    requests: mpsc::Receiver<String>,
}

impl TlsServer {
    /// Answers every request with the same bytes and closes.
    fn answering(answer: &'static str) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (send, requests) = mpsc::channel();
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                if let Some(request) = serve(StreamOwned::new(connection, socket), answer) {
                    let _test_is_over = send.send(request).is_err();
                }
            }
        });
        Self { port, certificate: made.cert.pem(), requests }
    }
}

fn serve(mut stream: StreamOwned<ServerConnection, TcpStream>, answer: &str) -> Option<String> {
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut read = Vec::new();
    let mut chunk = [0; 65536];
    loop {
        // A client that does not trust the certificate ends the handshake here.
        let length = stream.read(&mut chunk).ok().filter(|length| *length > 0)?;
        read.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length =
            head.to_ascii_lowercase().split("content-length: ").nth(1)?.lines().next()?.parse::<usize>().ok()?;
        // Metrics are no text, so the length is compared in bytes.
        if read.len() < head.len() + 4 + length && body.len() < length {
            continue;
        }
        let request = text.into_owned();
        stream.write_all(answer.as_bytes()).ok()?;
        stream.conn.send_close_notify();
        let _client_is_gone = stream.flush().is_err();
        return Some(request);
    }
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 53\r\n\r\n{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1234}}";

fn config(port: u16) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\n[providers.p]\nbase_url = \"https://localhost:{port}/v1\"\napi_key = \"${{UPSTREAM}}\"\n\
         [models.m]\ndeployments = [{{ provider = \"p\" }}]\n[[keys]]\nname = \"k\"\nkey = \"${{TOLLGATE_KEY}}\"\n"
    )
}

fn chat(address: SocketAddr) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = r#"{"model":"m"}"#;
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_provider_is_reached_over_tls_if_its_certificate_is_trusted() {
    let provider = TlsServer::answering(ANSWER);
    let secrets = [("TOLLGATE_KEY", KEY), ("UPSTREAM", "sk-upstream")];

    let stranger = Tollgate::start("tls-stranger", &["serve"], &config(provider.port), &secrets);
    let refused = chat(stranger.address());
    assert!(refused.starts_with("HTTP/1.1 502 ") && refused.contains("provider_unreachable"), "{refused}");
    assert!(!refused.contains("localhost"), "a client is told where providers are: {refused}");
    let line = stranger.line_with("attempt failed");
    assert!(line.contains("certificate"), "{line}");
    assert!(provider.requests.try_recv().is_err());

    // The system's store may be named by SSL_CERT_FILE, as OpenSSL's programs have it.
    let roots = stranger.folder.join("roots.pem");
    std::fs::write(&roots, &provider.certificate).unwrap();
    let environment = [secrets[0], secrets[1], ("SSL_CERT_FILE", roots.to_str().unwrap())];
    let trusting = Tollgate::start("tls-trusting", &["serve"], &config(provider.port), &environment);
    let answer = chat(trusting.address());
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    let request = provider.requests.recv_timeout(PATIENCE).unwrap();
    assert!(request.contains("authorization: Bearer sk-upstream"), "{request}");
}

#[test]
fn metrics_go_over_tls_to_the_receiver_whose_certificate_is_configured() {
    let receiver = TlsServer::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let endpoint = format!("https://localhost:{}/v1/metrics", receiver.port);
    let mut environment = vec![
        ("TOLLGATE_KEY", KEY),
        ("UPSTREAM", "sk-upstream"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "200"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint.as_str()),
    ];
    let stranger = Tollgate::start("otlp-tls-stranger", &["serve"], &config(1), &environment);
    let line = stranger.line_with("WARN");
    assert!(line.contains("certificate"), "{line}");
    assert!(receiver.requests.try_recv().is_err());

    let certificate = stranger.folder.join("receiver.pem");
    std::fs::write(&certificate, &receiver.certificate).unwrap();
    environment.push(("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate.to_str().unwrap()));
    let _trusting = Tollgate::start("otlp-tls-trusting", &["serve"], &config(1), &environment);
    let request = receiver.requests.recv_timeout(PATIENCE).unwrap();
    assert!(request.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/x-protobuf\r\n"), "{request}");
}
