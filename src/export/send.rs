//! One request: a body in, an [`Answer`] out.
//!
//! Owns the headers, the bounds on time and on what is read, and the receiver's address. Neither
//! retries nor judges; a reused connection that fails is the pool's to replace.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;

use super::{
    answer::{Answer, Failure, PROTOBUF, error_text},
    redact::Redactor,
    retry,
};
use crate::{
    config::{Destination, OtlpEndpoint, Secret},
    http_client::{Origin, Pool, ResponseBody, TlsFiles},
};

/// Identifies the exporter, as the OTLP exporter specification asks.
const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"), " (otlp-http-protobuf)");

/// A receiver has at most a partial success to tell; whatever sends more is none.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Longest wait for a connection. Shorter than the default 10 s of a request, so that a dead address
/// is reported as one and not as a slow receiver.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers that make the request what it is; the configuration cannot set them.
const OURS: [HeaderName; 8] = [
    header::HOST,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::EXPECT,
    header::UPGRADE,
];

/// Where metrics go and how they are wrapped.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) endpoint: OtlpEndpoint,
    /// Whether a header that carries credentials is configured.
    pub(super) has_credentials: bool,
    pub(super) gzip: bool,
    origin: Origin,
    uri: Uri,
    headers: HeaderMap,
    redactor: Redactor,
    tls: TlsFiles,
}

impl Receiver {
    /// Prepares everything that each request needs, or says what is wrong with it.
    pub(super) fn new(settings: &Destination) -> Result<Self, String> {
        let endpoint = &settings.endpoint;
        let origin = Origin::new(endpoint.tls, &endpoint.host, endpoint.port)
            .map_err(|why| format!("{}: {why}", endpoint.source))?;
        let uri = Uri::try_from(endpoint.target.as_str())
            .map_err(|why| format!("{}: the path cannot be requested: {why}", endpoint.source))?;
        let tls = TlsFiles { roots: settings.certificate.clone(), identity: settings.client_certificate.clone() };
        if endpoint.tls && tls != TlsFiles::default() {
            // The pool reads the files on first use; a wrong one is better known at start.
            tls.check()?;
        }
        let headers = headers(&settings.headers, &origin, settings.gzip)?;
        Ok(Self {
            endpoint: endpoint.clone(),
            has_credentials: headers.keys().any(|name| {
                // Vendors have names of their own: `dd-api-key`, `x-honeycomb-team`, `api-token`.
                ["auth", "key", "token", "team"].iter().any(|part| name.as_str().contains(part))
            }),
            gzip: settings.gzip,
            origin,
            uri,
            headers,
            redactor: Redactor::new(settings.headers.iter().map(|(_, value)| value)),
            tls,
        })
    }

    /// A pool that trusts what this receiver's configuration trusts. It belongs to one thread.
    pub(super) fn pool(&self) -> Pool {
        Pool::new(self.tls.clone())
    }

    /// Sends one request and reads its answer, all within `limit`.
    pub(super) async fn send(&self, pool: &Pool, body: Bytes, limit: Duration) -> Answer {
        let body = match self.wrap(body) {
            Ok(body) => body,
            Err(error) => return Answer::Failed(Failure::Closed(error.to_string())),
        };
        match tokio::time::timeout(limit, self.exchange(pool, body, limit.min(CONNECT_TIMEOUT))).await {
            Ok(answer) => answer,
            Err(_) => Answer::Failed(Failure::Timeout(limit)),
        }
    }

    fn wrap(&self, body: Bytes) -> io::Result<Bytes> {
        if !self.gzip {
            return Ok(body);
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::default());
        encoder.write_all(&body)?;
        Ok(encoder.finish()?.into())
    }

    async fn exchange(&self, pool: &Pool, body: Bytes, connect_limit: Duration) -> Answer {
        let build = || {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = self.uri.clone();
            *request.headers_mut() = self.headers.clone();
            request
        };
        match pool.send(&self.origin, connect_limit, build).await {
            Ok(sent) => self.read(sent.response).await,
            Err(error) => Answer::Failed(Failure::of(&error, &self.redactor)),
        }
    }

    async fn read(&self, response: Response<ResponseBody>) -> Answer {
        let (head, body) = response.into_parts();
        let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = text(header::CONTENT_TYPE);
        let (body, end) = read_beginning(body).await;
        let status = head.status.as_u16();
        if head.status.is_success() {
            return match end {
                End::Broken(error) => Answer::Failed(Failure::of(&error, &self.redactor)),
                End::Whole => Answer::of_success(content_type, &body, true, &self.redactor),
                End::CutOff => Answer::of_success(content_type, &body, false, &self.redactor),
            };
        }
        let location = text(header::LOCATION);
        Answer::Refused {
            status,
            location: (!location.is_empty()).then(|| self.redactor.show(location.as_bytes())),
            retry_after: retry::parse_retry_after(text(header::RETRY_AFTER), SystemTime::now()),
            text: error_text(content_type, &body, &self.redactor),
        }
    }
}

/// The headers of every request: the configured ones and ours, which win.
fn headers(configured: &[(String, Secret)], origin: &Origin, gzip: bool) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    for (name, value) in configured {
        let name: HeaderName =
            name.parse().map_err(|_| format!("telemetry headers: {name:?} is not the name of a header"))?;
        if OURS.contains(&name) {
            tracing::warn!(header = %name, "this telemetry header is the exporter's own and is ignored");
            continue;
        }
        let mut value = HeaderValue::from_str(value.expose())
            .map_err(|_| format!("telemetry headers: the value of {name} cannot stand in a header"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers.insert(header::HOST, origin.authority.clone());
    // Byte for byte: Prometheus refuses any parameter or other case.
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(headers)
}

/// How the reading of a body ended.
enum End {
    Whole,
    CutOff,
    Broken(crate::http_client::Error),
}

/// Reads the first 64 KiB; a body that goes on is dropped, and its connection with it.
async fn read_beginning(mut body: ResponseBody) -> (Vec<u8>, End) {
    let mut read = Vec::new();
    loop {
        match std::future::poll_fn(|cx| body.poll_data(cx)).await {
            None => return (read, End::Whole),
            Some(Err(error)) => return (read, End::Broken(error)),
            Some(Ok(data)) => {
                let room = RESPONSE_BYTES_MAX - read.len();
                read.extend(data.iter().take(room));
                if data.len() > room {
                    return (read, End::CutOff);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::new(false, "prometheus", 9090).unwrap()
    }

    #[test]
    fn configured_headers_cannot_change_what_the_request_is() {
        let configured = [
            ("Content-Type".to_owned(), Secret::new("application/json")),
            ("HOST".to_owned(), Secret::new("elsewhere")),
            ("x-scope-orgid".to_owned(), Secret::new("tenant")),
            ("user-agent".to_owned(), Secret::new("mine")),
            ("authorization".to_owned(), Secret::new("Bearer first")),
            ("Authorization".to_owned(), Secret::new("Bearer last")),
        ];
        let headers = headers(&configured, &origin(), false).unwrap();
        assert_eq!(headers.get("content-type").unwrap(), "application/x-protobuf");
        assert_eq!(headers.get("host").unwrap(), "prometheus:9090");
        assert_eq!(headers.get("x-scope-orgid").unwrap(), "tenant");
        assert_eq!(headers.get("user-agent").unwrap(), "mine");
        assert_eq!(headers.get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer last"]);
        assert!(!headers.contains_key("content-encoding"));
        assert!(!format!("{headers:?}").contains("last"), "header values are marked as sensitive");
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named_without_its_value() {
        let bad_value = headers(&[("x-key".into(), Secret::new("se\ncret"))], &origin(), false).unwrap_err();
        assert!(bad_value.contains("x-key") && !bad_value.contains("cret"), "{bad_value}");
        assert!(headers(&[("x key".into(), Secret::new("v"))], &origin(), false).unwrap_err().contains("x key"));
    }
}
