//! The admin listener: what is scraped, that it is what is pushed, and who gets it.

#![cfg(test)]
#![expect(clippy::string_slice, reason = "the parser of the exposition cuts where it has looked")]

mod support {
    pub(crate) mod exposition;
    pub(crate) mod receiver;
    pub(crate) mod tollgate;
}

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use support::{
    exposition::{self, Labels},
    receiver::{
        Receiver, Version,
        naming::{self, metric_name},
    },
    tollgate::{Gateway, KEY, config, read, send},
};
use tollgate::{
    config::{Config, Secret},
    telemetry::{
        Aggregations,
        catalog::{CATALOG, Group, Kind},
        text,
    },
};

const NO_PUSH: [(&str, &str); 1] = [("OTEL_METRICS_EXPORTER", "none")];
const TOKEN: &str = "admin-token-of-the-tests";

/// An answer taken apart.
struct Reply {
    status: u16,
    head: String,
    body: String,
}

fn request(address: SocketAddr, method: &str, target: &str, headers: &str) -> Reply {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
    reply(&read(send(address, &text)))
}

fn reply(answer: &str) -> Reply {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn scrape(gateway: &Gateway) -> BTreeMap<Labels, f64> {
    let reply = request(gateway.admin(), "GET", "/metrics", "");
    assert_eq!(reply.status, 200, "{}", reply.body);
    exposition::parse(&reply.body)
}

/// Tries until there is an answer.
fn eventually<T>(mut answer: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match answer() {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < deadline, "{why}"),
        }
        std::thread::yield_now();
    }
}

fn exponential(mut config: Config) -> Config {
    config.telemetry.aggregations = Aggregations { exponential: true, bounds: Vec::new() };
    config
}

#[test]
fn every_metric_has_the_name_that_prometheus_gives_it() {
    let mut names: Vec<String> = CATALOG.iter().map(|of| text::family_name(of)).collect();
    for (of, name) in CATALOG.iter().zip(&names) {
        let kind = match of.kind {
            Kind::Counter | Kind::ObservableCounter => naming::Kind::Counter,
            Kind::UpDownCounter => naming::Kind::UpDownCounter,
            Kind::Gauge => naming::Kind::Gauge,
            Kind::Histogram(_) => naming::Kind::Histogram,
        };
        assert_eq!(Some(name), metric_name(of.name, of.unit, kind).as_ref());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), CATALOG.len(), "two metrics share a name");
}

#[test]
fn the_exposition_is_valid_and_complete() {
    for config in [config(&NO_PUSH), exponential(config(&NO_PUSH))] {
        let gateway = Gateway::start(config).unwrap();
        let before = scrape(&gateway);
        gateway.chat(3);
        gateway.chat(5);
        let requests = |values: &BTreeMap<Labels, f64>| {
            let of = |labels: &Labels| {
                labels["__name__"] == "tollgate_requests_total" && labels["tollgate_outcome"] == "completed"
            };
            values.iter().filter(|(labels, _)| of(labels)).map(|(_, value)| value).sum::<f64>()
        };
        let values = eventually(|| {
            let values = scrape(&gateway);
            if requests(&values) == 2.0 { Ok(values) } else { Err(format!("{values:#?}")) }
        });
        assert_eq!(requests(&before), 0.0);
        for of in CATALOG.iter().filter(|of| !matches!(of.kind, Kind::Histogram(_)) && of.group != Group::Exporter) {
            if of.name.starts_with("tollgate.upstream.rate_limit.") {
                continue; // The built-in provider has no limit.
            }
            let name = text::family_name(of);
            assert!(values.keys().any(|labels| labels["__name__"] == name), "{name} is missing");
        }
        let sum = |name: &str| {
            let of = values.iter().filter(|(labels, _)| labels["__name__"] == name);
            of.map(|(_, value)| value).sum::<f64>()
        };
        assert_eq!(sum("http_server_request_duration_seconds_count"), 2.0);
        assert_eq!(sum("gen_ai_client_operation_time_to_first_chunk_seconds_count"), 2.0);
        assert!(sum("process_memory_usage_bytes") > 1e5, "process numbers are those of the scrape");
        let info = values.keys().find(|labels| labels["__name__"] == "target_info").unwrap();
        assert_eq!(info["service_name"], "tollgate");
        assert!(info.contains_key("service_instance_id"));
        assert!(!values.keys().any(|labels| labels.contains_key("job") || labels.contains_key("instance")));
    }
}

/// Numbers that are of the moment at which they are read.
fn is_of_the_moment(labels: &Labels) -> bool {
    let name = &labels["__name__"];
    ["process_", "otel_sdk_exporter_", "tollgate_export_"].iter().any(|prefix| name.starts_with(prefix))
}

#[test]
fn what_is_scraped_is_what_is_pushed() {
    let receiver = Receiver::start(Version::V3_14);
    let environment =
        [("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", receiver.url()), ("OTEL_METRIC_EXPORT_INTERVAL", "50".to_owned())];
    let gateway = Gateway::start(config(&environment.each_ref().map(|(name, value)| (*name, value.as_str())))).unwrap();
    (1..4).for_each(|words| gateway.chat(words));
    receiver.wait_for_stored(3);
    eventually(|| {
        let (mut pushed, mut scraped) = (BTreeMap::new(), BTreeMap::new());
        for (mut labels, value) in receiver.values() {
            assert_eq!(labels.remove("job").as_deref(), Some("tollgate"));
            assert!(labels.remove("instance").is_some());
            let is_same = !is_of_the_moment(&labels);
            pushed.insert(labels, is_same.then_some(value));
        }
        for (mut labels, value) in scrape(&gateway) {
            if labels["__name__"] == "target_info" {
                assert!(labels.remove("service_name").is_some() && labels.remove("service_instance_id").is_some());
            }
            let is_same = !is_of_the_moment(&labels);
            scraped.insert(labels, is_same.then_some(value));
        }
        let difference = |a: &BTreeMap<Labels, Option<f64>>, b: &BTreeMap<Labels, Option<f64>>| {
            let only = a.iter().filter(|(labels, value)| b.get(*labels) != Some(value));
            only.map(|(labels, value)| format!("{labels:?} {value:?}")).collect::<Vec<_>>()
        };
        let (more, less) = (difference(&scraped, &pushed), difference(&pushed, &scraped));
        let is_complete = scraped.len() > 200;
        if is_complete && more.is_empty() && less.is_empty() {
            return Ok(());
        }
        Err(format!("{} series; only scraped: {more:#?}\nonly pushed: {less:#?}", scraped.len()))
    });
    assert!(receiver.take_violations().is_empty());
}

#[test]
fn routes_and_methods() {
    let mut config = config(&NO_PUSH);
    let gateway = Gateway::start(config.clone()).unwrap();
    let table = [
        ("GET", "/metrics", 200, "# HELP "),
        ("GET", "/metrics?name=up", 200, "# HELP "),
        ("HEAD", "/metrics", 200, ""),
        ("GET", "/healthz", 200, "ok"),
        ("GET", "/readyz", 200, "ok"),
        ("HEAD", "/readyz", 200, ""),
        ("GET", "/", 200, "tollgate"),
        ("POST", "/metrics", 405, "the admin listener answers GET and HEAD only"),
        ("DELETE", "/healthz", 405, "the admin listener"),
        ("GET", "/metrics/", 404, "no such path"),
        ("GET", "/v1/models", 404, "no such path"),
        ("POST", "/nothing", 404, "no such path"),
    ];
    for (method, target, status, begin) in table {
        let reply = request(gateway.admin(), method, target, "");
        assert_eq!(reply.status, status, "{method} {target}");
        assert!(reply.body.starts_with(begin) && reply.body.is_empty() == begin.is_empty(), "{}", reply.body);
        assert_eq!(status == 405, reply.head.contains("\r\nallow: get, head\r\n"), "{}", reply.head);
        let is_metrics = target.starts_with("/metrics") && status == 200;
        let content_type = if is_metrics { text::CONTENT_TYPE } else { "text/plain; charset=utf-8" };
        assert!(reply.head.contains(&format!("\r\ncontent-type: {content_type}\r\n")), "{}", reply.head);
        assert!(reply.head.contains("\r\nconnection: close"), "{}", reply.head);
    }
    let with_body = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(reply(&read(send(gateway.admin(), with_body))).status, 200);
    let long = format!("X: {}\r\n", "x".repeat(9_000));
    assert_eq!(request(gateway.admin(), "GET", "/healthz", &long).status, 431);

    config.telemetry.prometheus = false;
    let gateway = Gateway::start(config).unwrap();
    let reply = request(gateway.admin(), "GET", "/metrics", "");
    assert_eq!(reply.status, 404);
    assert!(reply.body.contains("OTEL_METRICS_EXPORTER=prometheus"), "{}", reply.body);
    assert!(reply.body.contains("telemetry.exporters"), "{}", reply.body);
    assert_eq!(request(gateway.admin(), "GET", "/healthz", "").status, 200);
}

#[test]
fn a_token_is_needed_where_there_is_one() {
    let mut config = config(&NO_PUSH);
    config.admin.token = Some(Secret::new(TOKEN));
    let gateway = Gateway::start(config).unwrap();
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let wrong = format!("Authorization: Bearer {KEY}\r\n");
    for (headers, status) in [(right.as_str(), 200), (&wrong, 401), ("", 401)] {
        let reply = request(gateway.admin(), "GET", "/metrics", headers);
        assert_eq!(reply.status, status);
        assert_eq!(reply.head.contains("\r\nwww-authenticate: bearer\r\n"), status == 401, "{}", reply.head);
        assert_eq!(reply.body.contains("tollgate_requests_total"), status == 200);
    }
    assert_eq!(request(gateway.admin(), "GET", "/readyz", "").status, 200);
    // A name is fine with a token: a page in a browser does not know it.
    let named = format!("GET /metrics HTTP/1.1\r\nHost: gateway.internal:9464\r\n{right}\r\n");
    assert_eq!(reply(&read(send(gateway.admin(), &named))).status, 200);
}

#[test]
fn a_name_that_may_be_somebody_elses_is_refused_without_a_token() {
    let gateway = Gateway::start(config(&NO_PUSH)).unwrap();
    let get = |host: &str| format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (host, status) in [("localhost:9464", 200), ("[::1]", 200), ("rebound.example:9464", 403)] {
        let reply = reply(&read(send(gateway.admin(), &get(host))));
        assert_eq!((reply.status, reply.body.contains("tollgate_requests_total")), (status, status == 200), "{host}");
    }
}

#[test]
fn an_open_address_without_a_token_is_refused() {
    let mut config = config(&NO_PUSH);
    config.admin.listen = Some("0.0.0.0:0".parse().unwrap());
    let why = Gateway::start(config.clone()).err().unwrap();
    assert!(why.contains("0.0.0.0:0") && why.contains("set admin.token"), "{why}");
    config.admin.token = Some(Secret::new(TOKEN));
    assert!(Gateway::start(config).is_ok());
}

#[test]
fn a_port_in_use_is_an_error_of_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&NO_PUSH);
    config.admin.listen = Some(taken.local_addr().unwrap().into());
    let why = Gateway::start(config).err().unwrap();
    assert!(why.contains(&taken.local_addr().unwrap().to_string()) && why.contains("in use"), "{why}");
}

#[test]
fn clients_find_no_metrics_on_the_public_port() {
    let gateway = Gateway::start(config(&NO_PUSH)).unwrap();
    let key = format!("Authorization: Bearer {KEY}\r\nConnection: close\r\n");
    for (target, headers) in [("/metrics", "Connection: close\r\n"), ("/metrics", &key), ("/v1/metrics", &key)] {
        let reply = request(gateway.address, "GET", target, headers);
        assert_eq!(reply.status, 404, "{target}");
        assert!(!reply.body.contains("tollgate_requests"), "{}", reply.body);
    }
}

#[test]
fn the_listener_outlives_the_drain_and_no_more() {
    let mut gateway = Gateway::start(config(&NO_PUSH)).unwrap();
    let admin = gateway.admin();
    let stream = gateway.stream(100);
    // Open when the end comes, and in nobody's way.
    let _idle = TcpStream::connect(admin).unwrap();
    eventually(|| {
        let active = Labels::from([
            ("__name__".to_owned(), "http_server_active_requests".to_owned()),
            ("http_request_method".to_owned(), "POST".to_owned()),
            ("url_scheme".to_owned(), "http".to_owned()),
        ]);
        if scrape(&gateway).get(&active) == Some(&1.0) { Ok(()) } else { Err("no request is active".to_owned()) }
    });
    gateway.signal();
    eventually(|| match request(admin, "GET", "/readyz", "") {
        Reply { status: 503, .. } => Ok(()),
        Reply { status, .. } => Err(format!("/readyz answers {status}")),
    });
    assert_eq!(request(admin, "GET", "/healthz", "").status, 200);
    assert!(!scrape(&gateway).is_empty());
    assert!(read(stream).ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
    gateway.stop();
    assert!(TcpStream::connect(admin).is_err());
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let gateway = Gateway::start(config(&NO_PUSH)).unwrap();
    let idle: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(gateway.admin()).unwrap()).collect();
    let waiting = send(gateway.admin(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    drop(idle);
    assert_eq!(reply(&read(waiting)).status, 200);
}
