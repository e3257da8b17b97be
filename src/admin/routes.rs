//! Who is answered what on the admin listener.
//!
//! Owns paths, methods, the token and the guard against pages in a browser. Reads no request body.

use std::{cell::RefCell, net::IpAddr};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, WWW_AUTHENTICATE},
    uri::Authority,
};
use http_body_util::Full;
use ring::digest;

use super::status::{self, Status};
use crate::{export::Scrape, gateway::Reloaded, telemetry::text};

const PLAIN: &str = "text/plain; charset=utf-8";

const JSON: &str = "application/json";

const INDEX: &str = "tollgate's admin listener\n\
                     /metrics      every metric, in Prometheus' text format\n\
                     /status.json  what runs since when, and what came of the last reload\n\
                     /config       the configuration in force, secrets masked\n\
                     /reload       POST: read the configuration again\n\
                     /healthz      200 while the process runs\n\
                     /readyz       200 until the shutdown, 503 during the drain\n";

const NO_METRICS: &str = "metrics are not scraped from this gateway: set OTEL_METRICS_EXPORTER=prometheus (or \
                          otlp,prometheus to push them as well), or the same in telemetry.exporters\n";

const NO_FILE: &str = "this gateway was started without a configuration file\n";

/// What answers are made of.
#[derive(Debug)]
pub(super) struct Routes {
    /// `None`: there is no `/metrics`.
    pub(super) scrape: Option<RefCell<Scrape>>,
    pub(super) resource: Box<[(String, String)]>,
    pub(super) status: Status,
    /// SHA-256 of the token.
    pub(super) token: Option<digest::Digest>,
    /// The file system says who may connect: no name that a browser was given leads here.
    pub(super) is_private: bool,
}

/// An answer before it has a form.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    /// What comes with a refusal.
    header: Option<(http::HeaderName, &'static str)>,
    body: Bytes,
}

impl Routes {
    /// Answers one request.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Answer { status, content_type, header, body } = self.route(request).unwrap_or_else(|refusal| refusal);
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn route<B>(&self, request: &Request<B>) -> Result<Answer, Answer> {
        let host = host(request)?; // 400
        let path = request.uri().path();
        match &self.token {
            // Probes come from programs that have no token, and learn no more than yes or no.
            Some(token) if !matches!(path, "/healthz" | "/readyz") => authenticate(request, token)?, // 401
            // Without a token only the address protects: a page in a browser on this machine may
            // have its own name point here, but it cannot change the name that the browser sends.
            None if !self.is_private && host.is_some_and(|host| !is_local(&host)) => {
                let text = "without admin.token, this listener answers under an IP address or localhost only\n";
                return Err(plain(StatusCode::FORBIDDEN, text));
            }
            Some(_) | None => {}
        }
        let answer: fn(&Self) -> Answer = match path {
            "/" => |_| plain(StatusCode::OK, INDEX),
            "/healthz" => |_| plain(StatusCode::OK, "ok\n"),
            "/readyz" => Self::readiness,
            "/metrics" => Self::metrics,
            "/status.json" => |routes| json(StatusCode::OK, &routes.status.read()),
            "/config" => Self::config,
            "/reload" => Self::reload,
            _ => return Err(plain(StatusCode::NOT_FOUND, "no such path on the admin listener; / lists them\n")),
        };
        let (is_allowed, allow, text) = if path == "/reload" {
            // A page in a browser could have it sent, but the browser says so.
            if request.headers().contains_key("origin") || request.headers().contains_key("sec-fetch-site") {
                return Err(plain(StatusCode::FORBIDDEN, "a page in a browser cannot reload the configuration\n"));
            }
            (*request.method() == Method::POST, "POST", "/reload takes POST only\n")
        } else {
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
            (is_read, "GET, HEAD", "the admin listener answers GET and HEAD only\n")
        };
        if !is_allowed {
            return Err(Answer { header: Some((ALLOW, allow)), ..plain(StatusCode::METHOD_NOT_ALLOWED, text) });
        }
        Ok(answer(self))
    }

    fn readiness(&self) -> Answer {
        if self.status.is_ready() {
            plain(StatusCode::OK, "ok\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    }

    fn config(&self) -> Answer {
        self.status
            .config()
            .map_or_else(|| plain(StatusCode::NOT_FOUND, NO_FILE), |config| json(StatusCode::OK, &config))
    }

    fn reload(&self) -> Answer {
        let Some(reloaded) = self.status.reload() else { return plain(StatusCode::NOT_FOUND, NO_FILE) };
        let status = match reloaded {
            Reloaded::Rejected { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Reloaded::Applied { .. } | Reloaded::Unchanged => StatusCode::OK,
        };
        json(status, &status::outcome(&reloaded))
    }

    fn metrics(&self) -> Answer {
        let Some(scrape) = &self.scrape else { return plain(StatusCode::NOT_FOUND, NO_METRICS) };
        let snapshot = scrape.borrow_mut().read();
        let body = text::encode(&snapshot, &self.resource).into();
        Answer { status: StatusCode::OK, content_type: text::CONTENT_TYPE, header: None, body }
    }
}

fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    Answer { status, content_type: JSON, header: None, body: format!("{value:#}\n").into() }
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    Answer { status, content_type: PLAIN, header: None, body: Bytes::from_static(text.as_bytes()) }
}

/// The name that the client knows this listener by; programs that speak HTTP/1.0 need not have one.
fn host<B>(request: &Request<B>) -> Result<Option<Authority>, Answer> {
    let invalid = || plain(StatusCode::BAD_REQUEST, "a request has to have one valid Host header and a path\n");
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    // A target that is a URL would be a second word on the host (RFC 9112 §3.2.2).
    if second.is_some() || request.uri().authority().is_some() {
        return Err(invalid());
    }
    match first {
        Some(host) => Authority::try_from(host.as_bytes()).map(Some).map_err(|_| invalid()),
        None if request.version() == Version::HTTP_10 => Ok(None),
        None => Err(invalid()),
    }
}

/// Whether a name can only be of this machine, or is none.
fn is_local(host: &Authority) -> bool {
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

/// SHA-256: what is compared is as long as any other, and where it differs says nothing.
pub(super) fn digest_of(token: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, token)
}

fn authenticate<B>(request: &Request<B>, token: &digest::Digest) -> Result<(), Answer> {
    let mut presented = request.headers().get_all(AUTHORIZATION).iter();
    let bearer = presented.next().and_then(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    });
    match bearer {
        Some(bearer) if presented.next().is_none() && digest_of(bearer).as_ref() == token.as_ref() => Ok(()),
        Some(_) | None => {
            let refusal = plain(StatusCode::UNAUTHORIZED, "needs the header `Authorization: Bearer <admin.token>`\n");
            Err(Answer { header: Some((WWW_AUTHENTICATE, "Bearer")), ..refusal })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    fn routes(token: Option<&str>) -> Routes {
        Routes {
            scrape: Some(RefCell::new(Scrape::new(Registry::new()))),
            resource: Box::default(),
            status: status::tests::status(),
            token: token.map(|token| digest_of(token.as_bytes())),
            is_private: false,
        }
    }

    /// The status of a request with these headers.
    fn status(routes: &Routes, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        routes.answer(&request.body(()).unwrap()).status().as_u16()
    }

    #[test]
    fn without_a_token_only_names_that_nobody_else_can_have_are_answered() {
        let routes = routes(None);
        let table = [
            ("127.0.0.1:9464", 200),
            ("localhost", 200),
            ("LOCALHOST:9464", 200),
            ("[::1]:9464", 200),
            ("10.0.0.7", 200),
            ("gateway:9464", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example:9464", 403),
            ("1", 403),
            ("[evil]", 403),
            ("", 400),
            ("a b", 400),
        ];
        for (host, expected) in table {
            for target in ["/metrics", "/healthz", "/nothing"] {
                let found = status(&routes, "GET", target, &[("host", host)]);
                let expected = if (target, expected) == ("/nothing", 200) { 404 } else { expected };
                assert_eq!(found, expected, "{host} {target}");
            }
        }
        assert_eq!(status(&routes, "GET", "/metrics", &[]), 400);
        assert_eq!(status(&routes, "GET", "/metrics", &[("host", "localhost"), ("host", "localhost")]), 400);
        assert_eq!(status(&routes, "GET", "http://localhost/metrics", &[("host", "localhost")]), 400);
        let mut old = Request::get("/metrics").body(()).unwrap();
        *old.version_mut() = Version::HTTP_10;
        assert_eq!(routes.answer(&old).status(), 200);
    }

    #[test]
    fn with_a_token_everything_but_probes_needs_it() {
        let routes = routes(Some("s3cret"));
        let table = [
            (Some("Bearer s3cret"), 200),
            (Some("bearer  s3cret "), 200),
            (Some("Bearer s3cre"), 401),
            (Some("Bearer s3cret2"), 401),
            (Some("Bearer "), 401),
            (Some("Bearer"), 401),
            (Some("Basic s3cret"), 401),
            (Some("s3cret"), 401),
            (None, 401),
        ];
        for (authorization, expected) in table {
            let mut headers = vec![("host", "gateway.internal:9464")];
            headers.extend(authorization.map(|value| ("authorization", value)));
            for (target, allowed) in [("/metrics", 200), ("/", 200), ("/nothing", 404)] {
                let expected = if expected == 200 { allowed } else { expected };
                assert_eq!(status(&routes, "GET", target, &headers), expected, "{authorization:?} {target}");
            }
            assert_eq!(status(&routes, "GET", "/healthz", &headers), 200);
            assert_eq!(status(&routes, "GET", "/readyz", &headers), 200);
        }
        let twice = [("host", "h"), ("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")];
        assert_eq!(status(&routes, "GET", "/metrics", &twice), 401);
    }

    #[test]
    fn readiness_is_the_servers() {
        let routes = routes(None);
        let host = [("host", "localhost")];
        assert_eq!(status(&routes, "GET", "/readyz", &host), 200);
        routes.status.set_ready(false);
        assert_eq!(status(&routes, "GET", "/readyz", &host), 503);
        assert_eq!(status(&routes, "GET", "/healthz", &host), 200);
    }
}
