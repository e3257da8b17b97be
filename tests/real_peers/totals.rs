//! One gateway, four receivers at once: all of them hold what the client counted, also when each was
//! stopped, hung, refused requests or lost its answers in the middle.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    TEAM_A,
    collector::Collector,
    fault_proxy::{Fault, FaultProxy},
    http,
    peers::{COLLECTOR, PROMETHEUS, Tollgate, VICTORIA_METRICS, peers},
    points::{DELTA, Point},
    process::eventually,
    prometheus::Prometheus,
    select,
    victoria_metrics::VictoriaMetrics,
};

const INTERVAL: &str = "150ms";

/// What a client saw, and what each receiver has to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Totals {
    completed: f64,
    refused: f64,
    input: f64,
    output: f64,
    /// Everything at the front door: the count of its histogram.
    requests: f64,
}

/// Chats until it is told to stop: plain ones, streams, unknown models and bad keys.
struct Client {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Totals>,
}

impl Client {
    fn start(address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (address.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut totals = Totals::default();
            let mut number = 0;
            while !stopped.load(Relaxed) {
                number += 1;
                chat(&address, number, &mut totals);
                std::thread::sleep(Duration::from_millis(4));
            }
            totals
        });
        Self { stop, thread }
    }

    fn finish(self) -> Totals {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

fn chat(address: &str, number: usize, totals: &mut Totals) {
    let words = vec!["word"; number % 5 + 1].join(" ");
    let is_stream = number.is_multiple_of(3);
    let (key, model) = match number % 10 {
        4 => ("nobody", "echo"),
        7 => (TEAM_A.1, "unknown"),
        _ => (TEAM_A.1, "echo"),
    };
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": words}]});
    if is_stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    let (status, answer) = http::post(address, "/v1/chat/completions", key, &body.to_string()).unwrap();
    totals.requests += 1.0;
    if status != 200 {
        totals.refused += 1.0;
        return;
    }
    let usage = if is_stream {
        let events = answer.lines().filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
        events.map(|event| event["usage"].clone()).find(|usage| !usage.is_null()).unwrap()
    } else {
        serde_json::from_str::<Value>(&answer).unwrap()["usage"].clone()
    };
    totals.completed += 1.0;
    totals.input += usage["prompt_tokens"].as_f64().unwrap();
    totals.output += usage["completion_tokens"].as_f64().unwrap();
}

/// Totals by Prometheus's names.
fn by_selectors(total: impl Fn(&str) -> f64) -> Totals {
    let tokens = |kind| total(&select(crate::TOKENS, &[(crate::TOKEN_TYPE, kind)]));
    let route = [(crate::ROUTE, "/v1/chat/completions")];
    let buckets = select("http_server_request_duration_seconds_bucket", &[route[0], ("le", "+Inf")]);
    let requests = total(&select(crate::FRONT_DOOR, &route));
    assert_eq!(total(&buckets), requests, "count and buckets");
    Totals {
        completed: total(&select(crate::REQUESTS, &[(crate::OUTCOME, "completed")])),
        refused: total(crate::ERRORS),
        input: tokens("input"),
        output: tokens("output"),
        requests,
    }
}

/// Totals by OpenTelemetry's names.
fn by_metrics(total: impl Fn(&str, &[(&str, &str)]) -> f64) -> Totals {
    let tokens = |kind| total("tollgate.tokens", &[("gen_ai.token.type", kind)]);
    Totals {
        completed: total("tollgate.requests", &[("tollgate.outcome", "completed")]),
        refused: total("tollgate.errors", &[]),
        input: tokens("input"),
        output: tokens("output"),
        requests: total("http.server.request.duration", &[("http.route", "/v1/chat/completions")]),
    }
}

/// What differences add up to. Those that came twice, to the bit, count once: that is how a
/// receiver tells a repetition from news.
fn added_up(points: &[Point], attributes: &[(&str, &str)]) -> f64 {
    let has = |point: &Point| {
        attributes.iter().all(|(key, value)| point.attributes.get(*key).is_some_and(|own| own == value))
    };
    let mut once: BTreeMap<_, f64> = BTreeMap::new();
    for point in points.iter().filter(|point| has(point)) {
        assert_eq!(point.temporality, DELTA);
        let before = once.insert((point.attributes.clone(), point.start, point.time), point.value);
        assert!(before.is_none_or(|before| before == point.value), "another value under the same times: {point:?}");
    }
    once.values().sum()
}

struct Receivers {
    prometheus: Prometheus,
    victoria: VictoriaMetrics,
    over_grpc: Collector,
    of_deltas: Collector,
}

impl Receivers {
    fn start() -> Option<Self> {
        let [prometheus, victoria, collector] = peers([PROMETHEUS, VICTORIA_METRICS, COLLECTOR])?;
        Some(Self {
            prometheus: Prometheus::start(&prometheus),
            victoria: VictoriaMetrics::start(&victoria),
            over_grpc: Collector::start(&collector),
            of_deltas: Collector::start(&collector),
        })
    }

    /// A proxy in front of each, in this order.
    fn proxies(&self) -> [FaultProxy; 4] {
        let urls = [
            self.prometheus.otlp_endpoint(),
            self.victoria.otlp_endpoint(),
            self.over_grpc.grpc_endpoint(),
            self.of_deltas.http_endpoint(),
        ];
        urls.map(|url| FaultProxy::start(url.split('/').nth(2).unwrap()))
    }

    fn wait_for_all(&self) {
        self.prometheus.wait_for(crate::REQUESTS);
        self.victoria.wait_for(crate::REQUESTS);
        self.over_grpc.wait_for("tollgate.requests");
        self.of_deltas.wait_for("tollgate.requests");
    }

    fn totals(&self) -> [(&'static str, Totals); 4] {
        [
            ("Prometheus", by_selectors(|selector| self.prometheus.total(selector))),
            ("VictoriaMetrics", by_selectors(|selector| self.victoria.total(selector))),
            ("the Collector over gRPC", by_metrics(|metric, of| self.over_grpc.total(metric, of))),
            ("the Collector of deltas", by_metrics(|metric, of| added_up(&self.of_deltas.received(metric), of))),
        ]
    }
}

/// The gateway, pushing to each of these.
fn pushing_to(proxies: &[FaultProxy; 4]) -> Tollgate {
    let [prometheus, victoria, over_grpc, of_deltas] = proxies.each_ref().map(|proxy| proxy.address);
    let receiver = |name: &str, url: String, more: &str| {
        format!(
            "[[telemetry.export]]\nname = \"{name}\"\nendpoint = \"{url}\"\ninterval = \"{INTERVAL}\"\n\
             timeout = \"300ms\"\n{more}"
        )
    };
    let config = [
        "[providers.echo]\nkind = \"echo\"\n[models.echo]\ndeployments = [{ provider = \"echo\" }]\n".to_owned(),
        receiver("prometheus", format!("http://{prometheus}/api/v1/otlp/v1/metrics"), "compression = \"gzip\"\n"),
        receiver("victoria", format!("http://{victoria}/opentelemetry/v1/metrics"), ""),
        receiver("grpc", format!("http://{over_grpc}"), "protocol = \"grpc\"\n"),
        receiver("deltas", format!("http://{of_deltas}/v1/metrics"), "temporality = \"delta\"\n"),
    ];
    Tollgate::start_with(&config.concat(), &[TEAM_A], &[])
}

#[test]
fn all_receivers_hold_what_the_client_counted() {
    const FAULTS: [Fault; 5] = [
        Fault::Answer(
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
        Fault::Answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Fault::Answer("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        Fault::Hang,
        Fault::Cut,
    ];
    let Some(mut receivers) = Receivers::start() else { return };
    let proxies = receivers.proxies();
    let mut tollgate = pushing_to(&proxies);
    receivers.wait_for_all();
    let clients = [Client::start(&tollgate.address), Client::start(&tollgate.address)];

    // Each fault comes to each receiver, at different times.
    for phase in 0..FAULTS.len() {
        for (place, proxy) in proxies.iter().enumerate() {
            proxy.set(FAULTS[(phase + place) % FAULTS.len()]);
        }
        for proxy in &proxies {
            // A 429 says for how long to stay away; the others are met at every interval.
            eventually("the fault is felt", || (proxy.felt() >= 1).then_some(()));
        }
        std::thread::sleep(Duration::from_millis(450));
        proxies.iter().for_each(|proxy| proxy.set(Fault::None));
        std::thread::sleep(Duration::from_millis(300));
    }
    receivers.prometheus.stop();
    receivers.victoria.stop();
    receivers.over_grpc.stop();
    receivers.of_deltas.stop();
    std::thread::sleep(Duration::from_millis(450));
    receivers.prometheus.restart();
    receivers.victoria.restart();
    receivers.over_grpc.restart();
    receivers.of_deltas.restart();
    std::thread::sleep(Duration::from_millis(1_500));

    let mut seen = Totals::default();
    for totals in clients.map(Client::finish) {
        seen.completed += totals.completed;
        seen.refused += totals.refused;
        seen.input += totals.input;
        seen.output += totals.output;
        seen.requests += totals.requests;
    }
    tollgate.stop();
    assert!(seen.completed > 200.0 && seen.refused > 50.0, "{seen:?}");
    for (receiver, totals) in receivers.totals() {
        assert_eq!(totals, seen, "{receiver}");
    }
}
