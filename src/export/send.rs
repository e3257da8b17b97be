//! One request: a body in, an [`Answer`] out, by whichever protocol the receiver speaks.
//!
//! Owns the bounds on time, on what is sent and on what is read, and the receiver's address. Neither
//! retries nor judges; a reused connection that fails is the pool's to replace.

use std::{
    cell::Cell,
    io::{self, Write},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Method, Request, Uri, header};
use http_body_util::Full;

use super::{
    answer::{Answer, Failure, error_text},
    explain::Facts,
    grpc,
    headers::headers,
    redact::Redactor,
    retry::RETRY_AFTER_MAX,
};
use crate::{
    api::retry_after,
    config::{Destination, OtlpEndpoint, Protocol, secret_file},
    http_client::{self as client, Error, Limits, Origin, Pool, RequestHead, ResponseBody, TlsFiles},
    message::Response,
};

/// OTLP's limit for a request before compression. Larger ones are not sent; how they come about at
/// all is that one point cannot be cut in two.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Longest wait for a connection. Shorter than the default 10 s of a request, so that a dead address
/// is reported as one and not as a slow receiver.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for the receiver's address.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);

/// Where metrics go and how they are wrapped.
#[derive(Debug)]
pub(super) struct Receiver {
    endpoint: OtlpEndpoint,
    protocol: Protocol,
    /// Whether a header that carries credentials is configured.
    has_credentials: bool,
    gzip: bool,
    response_bytes_max: usize,
    origin: Origin,
    /// What every request over HTTP/1.1 begins with.
    head: RequestHead,
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
        let uri = match settings.protocol {
            Protocol::HttpProtobuf | Protocol::HttpJson => {
                Uri::try_from(endpoint.target.as_str()).map_err(http::Error::from)
            }
            Protocol::Grpc => Uri::builder()
                .scheme(if endpoint.tls { "https" } else { "http" })
                .authority(origin.authority.as_bytes())
                .path_and_query(grpc::PATH)
                .build(),
        };
        let uri: Uri = uri.map_err(|why| format!("{}: the path cannot be requested: {why}", endpoint.source))?;
        let tls = TlsFiles { roots: settings.certificate.clone(), identity: settings.client_certificate.clone() };
        if endpoint.tls && tls != TlsFiles::default() {
            // The pool reads the files on first use; a wrong one is better known at start.
            tls.check()?;
            if let Some((_, key)) = &tls.identity {
                secret_file::check(key)?;
            }
        }
        let headers = headers(&settings.headers, settings.protocol, &origin, settings.gzip)?;
        let mut head = RequestHead::post(&uri, &origin);
        for (name, value) in headers.iter().filter(|(name, _)| **name != header::HOST) {
            head.push(name, value);
        }
        Ok(Self {
            head,
            endpoint: endpoint.clone(),
            protocol: settings.protocol,
            has_credentials: headers.keys().any(|name| {
                // Vendors have names of their own: `dd-api-key`, `x-honeycomb-team`, `api-token`.
                ["auth", "key", "token", "team"].iter().any(|part| name.as_str().contains(part))
            }),
            gzip: settings.gzip,
            response_bytes_max: settings.max_response_bytes,
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

    /// What explaining an answer draws on.
    pub(super) fn facts<'a>(&'a self, answer: &'a Answer) -> Facts<'a> {
        Facts {
            endpoint: &self.endpoint,
            protocol: self.protocol,
            has_credentials: self.has_credentials,
            has_client_certificate: self.tls.identity.is_some(),
            gzip: self.gzip,
            answer,
        }
    }

    /// Sends one request and reads its answer, all within `limit`. Says as well whether it went out
    /// more than once: then the answer to the last says nothing of those before it.
    pub(super) async fn send(&self, pool: &Pool, body: Bytes, limit: Duration) -> (Answer, bool) {
        if body.len() > REQUEST_BYTES_MAX {
            return (Answer::Failed(Failure::TooLarge(body.len())), false);
        }
        let body = match self.wrap(body) {
            Ok(body) => body,
            Err(error) => return (Answer::Failed(Failure::Closed(error.to_string())), false),
        };
        let limits = Limits::connecting(limit.min(CONNECT_TIMEOUT), limit.min(LOOKUP_TIMEOUT));
        let sends = Cell::new(0);
        let request = self.head.begin().finish(body.clone());
        let exchange = async {
            match self.protocol {
                Protocol::HttpProtobuf | Protocol::HttpJson => self.exchange(pool, &request, limits, limit).await,
                Protocol::Grpc => self.call(pool, body, limits, limit, &sends).await,
            }
        };
        let answer = match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Answer::Failed(Failure::Timeout(limit)),
        };
        (answer, sends.get().max(request.sends()) > 1)
    }

    fn wrap(&self, body: Bytes) -> io::Result<Bytes> {
        let body = if self.gzip {
            let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::default());
            encoder.write_all(&body)?;
            encoder.finish()?.into()
        } else {
            body
        };
        match self.protocol {
            Protocol::HttpProtobuf | Protocol::HttpJson => Ok(body),
            Protocol::Grpc => grpc::frame(&body, self.gzip),
        }
    }

    fn request(&self, body: &Bytes, sends: &Cell<u32>) -> Request<Full<Bytes>> {
        sends.set(sends.get() + 1);
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    async fn call(&self, pool: &Pool, body: Bytes, limits: Limits, limit: Duration, sends: &Cell<u32>) -> Answer {
        let timeout = grpc::timeout(limit);
        let build = || {
            let mut request = self.request(&body, sends);
            request.headers_mut().insert("grpc-timeout", timeout.clone());
            request
        };
        match pool.send_http2(&self.origin, limits, self.response_bytes_max, build).await {
            Ok(reply) => grpc::read(&reply, &self.redactor),
            Err(Error::Reset(code)) => {
                let text = Error::Reset(code).to_string();
                Answer::RefusedGrpc { code: grpc::Code::of_reset(code), retry_after: None, text }
            }
            Err(error) => Answer::Failed(Failure::of(&error, &self.redactor)),
        }
    }

    async fn exchange(&self, pool: &Pool, request: &client::Request, limits: Limits, limit: Duration) -> Answer {
        match pool.send(&self.origin, limits, request, is_of_interest, Instant::now(), limit).await {
            Ok(sent) => self.read(sent.response).await,
            Err(Error::ResponseTimeout) => Answer::Failed(Failure::Timeout(limit)),
            Err(error) => Answer::Failed(Failure::of(&error, &self.redactor)),
        }
    }

    async fn read(&self, response: Response<ResponseBody>) -> Answer {
        let Response { status, headers, body } = response;
        let text = |name: &str| headers.get(name).and_then(|value| str::from_utf8(value).ok()).unwrap_or_default();
        let content_type = text("content-type");
        let (body, end) = read_beginning(body, self.response_bytes_max).await;
        if status.is_success() {
            return match end {
                End::Broken(error) => Answer::Failed(Failure::of(&error, &self.redactor)),
                End::Whole => Answer::of_success(content_type, &body, true, &self.redactor),
                End::CutOff => Answer::of_success(content_type, &body, false, &self.redactor),
            };
        }
        let location = text("location");
        Answer::Refused {
            status: status.as_u16(),
            location: (!location.is_empty()).then(|| self.redactor.show(location.as_bytes())),
            retry_after: retry_after::parse(text("retry-after"), SystemTime::now())
                .map(|pause| pause.min(RETRY_AFTER_MAX)),
            text: error_text(content_type, &body, &self.redactor),
        }
    }
}

/// The headers of an answer that say something to an exporter.
fn is_of_interest(name: &str) -> bool {
    ["content-type", "location", "retry-after"].iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// How the reading of a body ended.
enum End {
    Whole,
    CutOff,
    Broken(Error),
}

/// Reads the first bytes; a body that goes on is dropped, and its connection with it.
async fn read_beginning(mut body: ResponseBody, bytes_max: usize) -> (Vec<u8>, End) {
    let mut read = Vec::new();
    loop {
        match std::future::poll_fn(|cx| body.poll_data(cx)).await {
            None => return (read, End::Whole),
            Some(Err(error)) => return (read, End::Broken(error)),
            Some(Ok(data)) => {
                let room = bytes_max - read.len();
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
    use crate::{export::answer::ErrorType, telemetry::Temporality};

    fn destination(protocol: Protocol) -> Destination {
        let endpoint = OtlpEndpoint {
            tls: false,
            host: "[::1]".into(),
            port: 1,
            target: "/v1/metrics".into(),
            source: "t".into(),
        };
        Destination {
            name: "otlp".into(),
            endpoint,
            protocol,
            headers: Vec::new(),
            gzip: true,
            temporality: Temporality::Cumulative,
            timeout: None,
            interval: Duration::from_secs(60),
            export_timeout: None,
            max_request_bytes: 4 << 20,
            max_response_bytes: 64 << 10,
            certificate: None,
            client_certificate: None,
        }
    }

    #[tokio::test]
    async fn a_request_over_the_limit_is_not_sent() {
        for protocol in [Protocol::HttpProtobuf, Protocol::HttpJson, Protocol::Grpc] {
            let receiver = Receiver::new(&destination(protocol)).unwrap();
            let bytes = REQUEST_BYTES_MAX + 1;
            let (answer, _) = receiver.send(&receiver.pool(), vec![0; bytes].into(), Duration::from_secs(1)).await;
            assert_eq!(answer, Answer::Failed(Failure::TooLarge(bytes)));
            assert_eq!(answer.error_type(), Some(ErrorType::RequestTooLarge));
        }
    }

    #[test]
    fn grpc_has_a_path_of_its_own() {
        let uri = |protocol| Receiver::new(&destination(protocol)).unwrap().uri.to_string();
        assert_eq!(uri(Protocol::Grpc), format!("http://[::1]:1{}", grpc::PATH));
        assert_eq!(uri(Protocol::HttpJson), "/v1/metrics");
    }
}
