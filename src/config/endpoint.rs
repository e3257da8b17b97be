//! The URL of a receiver, as the specification reads it.

use super::{OtlpEndpoint, Protocol, value};

/// An endpoint: over HTTP a base gets `v1/metrics` appended, a signal's own is used as it is; gRPC
/// has a path of its own, and a scheme may be left out.
pub(super) fn of(
    text: &str,
    protocol: Protocol,
    is_base: bool,
    is_insecure: bool,
    source: &str,
) -> Result<OtlpEndpoint, String> {
    let is_grpc = protocol == Protocol::Grpc;
    let with_scheme = if is_grpc && !text.contains("://") {
        format!("{}://{text}", if is_insecure { "http" } else { "https" })
    } else {
        text.to_owned()
    };
    let (url, query) = value::url(&with_scheme)?;
    let mut target = if url.path.is_empty() || is_grpc { "/".to_owned() } else { url.path };
    if is_base && !is_grpc {
        if !target.ends_with('/') {
            target.push('/');
        }
        target.push_str("v1/metrics");
    }
    if let Some(query) = query.filter(|_| !is_grpc) {
        target.push('?');
        target.push_str(query);
    }
    Ok(OtlpEndpoint { tls: url.tls, host: url.host, port: url.port, target, source: source.to_owned() })
}

/// The specification's default.
pub(super) fn default(protocol: Protocol, source: &str) -> Option<OtlpEndpoint> {
    let base = if protocol == Protocol::Grpc { "http://localhost:4317" } else { "http://localhost:4318" };
    of(base, protocol, true, true, source).ok()
}

/// The whole URL without a query: that may hold a credential.
pub(super) fn show(endpoint: &OtlpEndpoint) -> String {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let path = endpoint.target.split('?').next().unwrap_or_default();
    format!("{scheme}://{}:{}{path}", endpoint.host, endpoint.port)
}

/// A port that is usually for another protocol.
pub(super) fn port_warning(endpoint: &OtlpEndpoint, protocol: Protocol) -> Option<String> {
    let (usual, other) = match (protocol, endpoint.port) {
        (Protocol::Grpc, 4318) => (4317, "OTLP over HTTP"),
        (Protocol::HttpProtobuf | Protocol::HttpJson, 4317) => (4318, "OTLP over gRPC"),
        _ => return None,
    };
    let (source, protocol) = (&endpoint.source, protocol.as_str());
    Some(format!("{source}: {} is usually the port for {other}; that for {protocol} is {usual}", endpoint.port))
}
