//! The head of every request: the headers that make it what it is, and the configured ones.
//!
//! Owns which headers are ours; the configuration sets all others.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::answer::{JSON, PROTOBUF};
use crate::{
    config::{Protocol, Secret},
    http_client::Origin,
};

/// Headers that make the request what it is; the configuration cannot set them.
const OURS: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::CONNECTION,
    header::EXPECT,
    header::UPGRADE,
];

/// Identifies the exporter, as the OTLP exporter specification asks.
fn user_agent(protocol: Protocol) -> HeaderValue {
    macro_rules! agent {
        ($protocol:literal) => {
            HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"), " (otlp-", $protocol, ")"))
        };
    }
    match protocol {
        Protocol::HttpProtobuf => agent!("http-protobuf"),
        Protocol::HttpJson => agent!("http-json"),
        Protocol::Grpc => agent!("grpc"),
    }
}

/// The headers of every request: the configured ones and ours, which win.
pub(super) fn headers(
    configured: &[(String, Secret)],
    protocol: Protocol,
    origin: &Origin,
    gzip: bool,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, user_agent(protocol));
    for (name, value) in configured {
        let name: HeaderName =
            name.parse().map_err(|_| format!("telemetry headers: {name:?} is not the name of a header"))?;
        if is_ours(&name, protocol) {
            tracing::warn!(header = %name, "this telemetry header is the exporter's own and is ignored");
            continue;
        }
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| format!("telemetry headers: the value of {name} cannot stand in a header"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let gzip = gzip.then(|| HeaderValue::from_static("gzip"));
    match protocol {
        Protocol::HttpProtobuf | Protocol::HttpJson => {
            headers.insert(header::HOST, origin.authority.clone());
            // Byte for byte: Prometheus refuses any parameter or other case.
            let content_type = if protocol == Protocol::HttpJson { JSON } else { PROTOBUF };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            gzip.and_then(|gzip| headers.insert(header::CONTENT_ENCODING, gzip));
        }
        // The host is in `:authority`.
        Protocol::Grpc => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
            gzip.and_then(|gzip| headers.insert("grpc-encoding", gzip));
        }
    }
    Ok(headers)
}

/// HTTP/2 has no headers about the connection (RFC 9113 §8.2.2), gRPC keeps `grpc-` to itself.
fn is_ours(name: &HeaderName, protocol: Protocol) -> bool {
    let is_grpc = protocol == Protocol::Grpc;
    OURS.contains(name)
        || is_grpc
            && (name.as_str().starts_with("grpc-") || ["keep-alive", "proxy-connection"].contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::new(false, "prometheus", 9090).unwrap()
    }

    fn configured() -> Vec<(String, Secret)> {
        [
            ("Content-Type", "text/plain"),
            ("HOST", "elsewhere"),
            ("x-scope-orgid", "tenant"),
            ("user-agent", "mine"),
            ("authorization", "Bearer first"),
            ("Authorization", "Bearer last"),
            ("Grpc-Timeout", "1H"),
            ("te", "gzip"),
            ("trace-bin", "AAEC"),
        ]
        .map(|(name, value)| (name.to_owned(), Secret::new(value)))
        .into()
    }

    #[test]
    fn configured_headers_cannot_change_what_the_request_is() {
        let headers = headers(&configured(), Protocol::HttpProtobuf, &origin(), false).unwrap();
        assert_eq!(headers.get("content-type").unwrap(), "application/x-protobuf");
        assert_eq!(headers.get("host").unwrap(), "prometheus:9090");
        assert_eq!(headers.get("x-scope-orgid").unwrap(), "tenant");
        assert_eq!(headers.get("user-agent").unwrap(), "mine");
        assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer last"]);
        assert!(!headers.contains_key("content-encoding") && !headers.contains_key("te"));
        assert!(!format!("{headers:?}").contains("last"), "header values are marked as sensitive");
    }

    #[test]
    fn grpc_has_headers_of_its_own() {
        let grpc = headers(&configured(), Protocol::Grpc, &origin(), true).unwrap();
        let mut shown: Vec<String> =
            grpc.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        shown.sort();
        let expected = [
            "authorization: Bearer last",
            "content-type: application/grpc",
            "grpc-accept-encoding: identity",
            "grpc-encoding: gzip",
            "te: trailers",
            "trace-bin: AAEC",
            "user-agent: mine",
            "x-scope-orgid: tenant",
        ];
        assert_eq!(shown, expected);
        let agent = |protocol| headers(&[], protocol, &origin(), false).unwrap()["user-agent"].clone();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(agent(Protocol::Grpc), format!("tollgate/{version} (otlp-grpc)"));
        assert_eq!(agent(Protocol::HttpJson), format!("tollgate/{version} (otlp-http-json)"));
        assert_eq!(agent(Protocol::HttpProtobuf), format!("tollgate/{version} (otlp-http-protobuf)"));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named_without_its_value() {
        let wrong = |name: &str, value: &str| {
            headers(&[(name.into(), Secret::new(value))], Protocol::HttpProtobuf, &origin(), false).unwrap_err()
        };
        let bad_value = wrong("x-key", "se\ncret");
        assert!(bad_value.contains("x-key") && !bad_value.contains("cret"), "{bad_value}");
        assert!(wrong("x key", "v").contains("x key"));
        assert!(wrong(":path", "/").contains(":path"));
    }
}
