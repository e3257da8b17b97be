//! TLS towards receivers, over HTTP and over gRPC: whom the exporter trusts, who it says it is, and
//! that it sends nothing to anybody else.

#![cfg(test)]

mod support {
    pub(crate) mod capture;
    pub(crate) mod exporter;
    pub(crate) mod grpc;
    pub(crate) mod receiver;
    pub(crate) mod tls;
}

use std::{net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use rustls::ServerConfig;
use support::{
    capture::Capture,
    exporter::{Running, telemetry},
    grpc::GrpcReceiver,
    tls::Authority,
};
use tollgate::{
    config::{Protocol, Telemetry},
    export::{Delivery, ErrorType, Exporter, Report},
    telemetry::{Attribute, Registry, catalog},
};

const PROTOCOLS: [Protocol; 2] = [Protocol::HttpProtobuf, Protocol::Grpc];

/// A receiver of either protocol.
enum Receiver {
    Http(Capture),
    Grpc(GrpcReceiver),
}

impl Receiver {
    fn start(protocol: Protocol, tls: ServerConfig) -> Self {
        match protocol {
            Protocol::Grpc => Self::Grpc(GrpcReceiver::start_with(Some(tls))),
            _ => Self::Http(Capture::start(Some(tls), Vec::new())),
        }
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Http(receiver) => receiver.address(),
            Self::Grpc(receiver) => receiver.address(),
        }
    }

    fn was_sent_something(&self) -> bool {
        match self {
            Self::Http(receiver) => receiver.has_more(),
            Self::Grpc(receiver) => !receiver.calls().is_empty(),
        }
    }
}

fn folder(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tollgate-export-tls-{test}-{}", std::process::id()))
}

fn settings(protocol: Protocol, to: SocketAddr, roots: &Authority, identity: Option<&Authority>) -> Telemetry {
    let mut telemetry = telemetry(to);
    let destination = &mut telemetry.destinations[0];
    destination.protocol = protocol;
    destination.endpoint.tls = true;
    // What the certificates are for.
    destination.endpoint.host = "localhost".to_owned();
    destination.certificate = Some(roots.file());
    destination.client_certificate = identity.map(Authority::client);
    telemetry
}

fn registry() -> Arc<Registry> {
    let registry = Registry::new();
    registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]).create(());
    registry
}

fn export(telemetry: &Telemetry) -> Report {
    let running = Running::start(&registry(), telemetry);
    let report = running.report();
    running.stop();
    report
}

fn alpn(protocol: Protocol) -> &'static [&'static str] {
    if protocol == Protocol::Grpc { &["h2"] } else { &["http/1.1"] }
}

fn refusal(report: &Report) -> &str {
    assert_eq!(report.attempts, 1, "{report:?}");
    let Delivery::Failed { error: ErrorType::Connect, sentence, .. } = &report.delivery else { panic!("{report:?}") };
    sentence
}

#[test]
fn a_private_authority_is_trusted_where_it_is_configured_and_nowhere_else() {
    let folder = folder("roots");
    let (ours, other) = (Authority::new(&folder, "ours"), Authority::new(&folder, "other"));
    for protocol in PROTOCOLS {
        let receiver = Receiver::start(protocol, ours.server(alpn(protocol), None));
        let mut telemetry = settings(protocol, receiver.address(), &other, None);
        let report = export(&telemetry);
        let sentence = refusal(&report);
        assert!(sentence.starts_with("no TLS connection to localhost:"), "{sentence}");
        assert!(sentence.contains("set OTEL_EXPORTER_OTLP_CERTIFICATE"), "{sentence}");
        telemetry.destinations[0].certificate = None;
        assert!(refusal(&export(&telemetry)).contains("set OTEL_EXPORTER_OTLP_CERTIFICATE"));
        assert!(!receiver.was_sent_something(), "{protocol:?}");

        let report = export(&settings(protocol, receiver.address(), &ours, None));
        assert_eq!(report.delivery, Delivery::Accepted, "{protocol:?}");
        assert!(receiver.was_sent_something());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_client_certificate_is_shown_to_a_receiver_that_asks() {
    let folder = folder("clients");
    let (ours, other) = (Authority::new(&folder, "ours"), Authority::new(&folder, "other"));
    for protocol in PROTOCOLS {
        let receiver = Receiver::start(protocol, ours.server(alpn(protocol), Some(&ours)));
        let missing = export(&settings(protocol, receiver.address(), &ours, None));
        let sentence = refusal(&missing);
        assert!(sentence.contains("asks for a client certificate and none is configured: set OTEL"), "{sentence}");
        assert!(sentence.contains("telemetry.client_certificate and telemetry.client_key"), "{sentence}");

        let wrong = export(&settings(protocol, receiver.address(), &ours, Some(&other)));
        let sentence = refusal(&wrong);
        assert!(sentence.contains("does not accept our client certificate"), "{sentence}");
        assert!(!receiver.was_sent_something(), "{protocol:?}");

        let right = export(&settings(protocol, receiver.address(), &ours, Some(&ours)));
        assert_eq!(right.delivery, Delivery::Accepted, "{protocol:?}");
        assert!(receiver.was_sent_something());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_server_that_does_not_agree_to_http_2_is_sent_nothing() {
    let folder = folder("alpn");
    let ours = Authority::new(&folder, "ours");
    // One refuses, the other does not know what it is asked.
    for alpn in [&["http/1.1"][..], &[]] {
        let receiver = Receiver::start(Protocol::HttpProtobuf, ours.server(alpn, None));
        let report = export(&settings(Protocol::Grpc, receiver.address(), &ours, None));
        let sentence = refusal(&report);
        assert!(sentence.contains("does not agree to HTTP/2 (ALPN h2)"), "{alpn:?}: {sentence}");
        assert!(!receiver.was_sent_something());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn certificate_files_are_checked_at_the_start() {
    let folder = folder("files");
    let (ours, other) = (Authority::new(&folder, "ours"), Authority::new(&folder, "other"));
    let start = |identity: (PathBuf, PathBuf)| {
        let mut telemetry = settings(Protocol::Grpc, "127.0.0.1:1".parse().unwrap(), &ours, None);
        telemetry.destinations[0].client_certificate = Some(identity);
        Exporter::new(registry(), &telemetry).map(drop).unwrap_err()
    };
    let ((certificate, key), (_, other_key)) = (ours.client(), other.client());
    let absent = folder.join("absent.pem");
    let shown = |path: &PathBuf| path.display().to_string();
    assert!(start((absent.clone(), key.clone())).contains(&format!("{}: cannot be read: ", shown(&absent))));
    assert!(start((key.clone(), key.clone())).contains(&format!("{}: no PEM certificate in it", shown(&key))));
    let no_key = start((certificate.clone(), certificate.clone()));
    assert!(no_key.contains(&format!("{}: no PEM private key in it", shown(&certificate))), "{no_key}");
    let mismatch = start((certificate.clone(), other_key.clone()));
    let expected = format!("{}: is not the key of the certificate in {}", shown(&other_key), shown(&certificate));
    assert!(mismatch.contains(&expected), "{mismatch}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = start((certificate, key.clone()));
    assert!(open.contains("0644") && open.contains(&format!("chmod 600 {}", shown(&key))), "{open}");
    std::fs::remove_dir_all(folder).unwrap();
}
