//! tollgate's metrics at each receiver, to the last token; and that the handles of these tests do
//! what they say. The built-in provider answers, so nothing but receivers is needed.

use std::net::TcpStream;

use serde_json::json;

use crate::{
    TEAM_A,
    collector::{Collector, total},
    http,
    peers::{COLLECTOR, OPENTELEMETRY_PYTHON, PROMETHEUS, Tollgate, VICTORIA_METRICS, peers},
    points::{DELTA, Point, from_json, from_message},
    process::eventually,
    prometheus::Prometheus,
    python, reported_environment, select,
    strict::receiver::{Receiver, Version},
    victoria_metrics::VictoriaMetrics,
};

const CHATS: usize = 50;

/// What the client was told, to be compared with what the receiver holds.
struct Sums {
    input: f64,
    output: f64,
}

/// Has chats of one to five words and a bad key now and then, and ends the gateway.
fn chats(tollgate: &mut Tollgate) -> Sums {
    let mut sums = Sums { input: 0.0, output: 0.0 };
    for number in 0..CHATS {
        let words = vec!["word"; number % 5 + 1].join(" ");
        let body = json!({"model": "echo", "messages": [{"role": "user", "content": words}]}).to_string();
        let (status, answer) = http::post(&tollgate.address, "/v1/chat/completions", TEAM_A.1, &body).unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        sums.input += answer["usage"]["prompt_tokens"].as_f64().unwrap();
        sums.output += answer["usage"]["completion_tokens"].as_f64().unwrap();
        if number % 10 == 0 {
            let (status, _) = http::post(&tollgate.address, "/v1/chat/completions", "nobody", &body).unwrap();
            assert_eq!(status, 401);
        }
    }
    assert!(sums.input > CHATS as f64 && sums.output > CHATS as f64);
    tollgate.stop();
    sums
}

/// Under the names that Prometheus gives, and under those of OpenTelemetry, as it stores them unless
/// told otherwise.
#[test]
fn case_43_a_real_receiver_has_the_names_and_the_totals() {
    let Some([peer]) = peers([VICTORIA_METRICS]) else { return };
    let victoria = VictoriaMetrics::start_with_names_as_sent(&peer);
    let endpoint = victoria.otlp_endpoint();
    let mut tollgate = Tollgate::start_echo(&[TEAM_A], &reported_environment(&endpoint, "300"));
    victoria.wait_for("{__name__=\"tollgate.requests\"}");
    chats(&mut tollgate);
    assert_eq!(victoria.total("{__name__=\"tollgate.requests\",tollgate.key=\"team-a\"}"), CHATS as f64);
    assert_eq!(victoria.total("{__name__=\"gen_ai.client.operation.duration_count\"}"), CHATS as f64);

    let victoria = VictoriaMetrics::start(&peer);
    let endpoint = victoria.otlp_endpoint();
    let mut tollgate = Tollgate::start_echo(&[TEAM_A], &reported_environment(&endpoint, "300"));
    victoria.wait_for(crate::REQUESTS);
    let sums = chats(&mut tollgate);

    let completed = select(crate::REQUESTS, &[(crate::MODEL, "echo"), (crate::OUTCOME, "completed")]);
    let series = victoria.one(&completed);
    assert_eq!((series.first(), series.last()), (0.0, CHATS as f64));
    assert_eq!((&*series.labels[crate::KEY], &*series.labels["service_name"]), (TEAM_A.0, "tollgate-e2e"));
    assert_eq!(victoria.total(crate::REQUESTS), CHATS as f64);
    for (token_type, sum) in [("input", sums.input), ("output", sums.output)] {
        assert_eq!(victoria.total(&select(crate::TOKENS, &[(crate::TOKEN_TYPE, token_type)])), sum, "{token_type}");
    }
    assert_eq!(victoria.total(&select(crate::ERRORS, &[(crate::ERROR_TYPE, "client_invalid_key")])), 5.0);
    let front_door = select(crate::FRONT_DOOR, &[(crate::ROUTE, "/v1/chat/completions")]);
    assert_eq!(victoria.total(&front_door), CHATS as f64 + 5.0);
}

#[test]
fn the_collector_receives_exact_totals() {
    let Some([peer]) = peers([COLLECTOR]) else { return };
    let collector = Collector::start(&peer);
    let endpoint = collector.http_endpoint();
    let mut tollgate = Tollgate::start_echo(&[TEAM_A], &reported_environment(&endpoint, "300"));
    collector.wait_for("tollgate.requests");
    let sums = chats(&mut tollgate);

    let completed = ("tollgate.outcome", "completed");
    assert_eq!(collector.total("tollgate.requests", &[completed, ("tollgate.key", TEAM_A.0)]), CHATS as f64);
    assert_eq!(collector.total("tollgate.requests", &[]), CHATS as f64);
    for (token_type, sum) in [("input", sums.input), ("output", sums.output)] {
        assert_eq!(collector.total("tollgate.tokens", &[("gen_ai.token.type", token_type)]), sum, "{token_type}");
    }
    assert_eq!(collector.total("tollgate.errors", &[("error.type", "client_invalid_key")]), 5.0);
    let route = ("http.route", "/v1/chat/completions");
    assert_eq!(collector.total("http.server.request.duration", &[route]), CHATS as f64 + 5.0);
    for point in collector.received("tollgate.requests") {
        assert_eq!(point.resource["service.name"], "tollgate-e2e");
        assert!(point.is_monotonic && point.start < point.time && point.flags == 0, "{point:?}");
    }
    // What is cumulative already passes the adding up as it is.
    assert_eq!(collector.added_up("tollgate.requests"), collector.received("tollgate.requests"));
}

/// Prometheus, VictoriaMetrics and the Collector each miss a chat while they are stopped, and have
/// it in their totals after they came back.
#[test]
fn a_receiver_comes_back_with_port_and_data() {
    let Some([prometheus, victoria, collector]) = peers([PROMETHEUS, VICTORIA_METRICS, COLLECTOR]) else { return };
    let mut prometheus = Prometheus::start(&prometheus);
    let mut victoria = VictoriaMetrics::start(&victoria);
    let mut collector = Collector::start(&collector);
    let mut pushing = [prometheus.otlp_endpoint(), victoria.otlp_endpoint(), collector.http_endpoint()]
        .map(|endpoint| Tollgate::start_echo(&[TEAM_A], &reported_environment(&endpoint, "200")));
    let grpc = collector.grpc_endpoint().replace("http://", "");
    TcpStream::connect(&grpc).unwrap();
    prometheus.wait_for(crate::REQUESTS);
    victoria.wait_for(crate::REQUESTS);
    collector.wait_for("tollgate.requests");

    prometheus.stop();
    victoria.stop();
    collector.stop();
    TcpStream::connect(&grpc).unwrap_err();
    for tollgate in &pushing {
        tollgate.chat("echo", TEAM_A.1);
    }
    prometheus.restart();
    victoria.restart();
    collector.restart();
    eventually("the chat is in Prometheus", || (prometheus.total(crate::REQUESTS) == 1.0).then_some(()));
    eventually("the chat is in VictoriaMetrics", || (victoria.total(crate::REQUESTS) == 1.0).then_some(()));
    eventually("the chat is in the Collector", || (collector.total("tollgate.requests", &[]) == 1.0).then_some(()));
    pushing.iter_mut().for_each(Tollgate::stop);
    // The zero from before the stop is still there.
    let completed = select(crate::REQUESTS, &[(crate::MODEL, "echo"), (crate::OUTCOME, "completed")]);
    assert_eq!(prometheus.one(&completed).first(), 0.0);
    assert_eq!(victoria.one(&completed).first(), 0.0);
    assert_eq!(collector.received("tollgate.requests")[0].value, 0.0);
}

/// The Collector's own judgement of deltas: 3 and then 4 are 7.
#[test]
fn the_collector_adds_deltas_up() {
    let Some([peer]) = peers([COLLECTOR]) else { return };
    let collector = Collector::start(&peer);
    let address = collector.http_endpoint().replace("http://", "").replace("/v1/metrics", "");
    for (start, value) in [(1_000, "3"), (2_000, "4")] {
        let point = json!({"startTimeUnixNano": start, "timeUnixNano": start + 1_000, "asInt": value});
        let sum = json!({"aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point]});
        let scope = json!({"metrics": [{"name": "deltas", "sum": sum}]});
        let request = json!({"resourceMetrics": [{"resource": {}, "scopeMetrics": [scope]}]});
        let (status, answer) = http::post(&address, "/v1/metrics", "", &request.to_string()).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let received = collector.received("deltas");
    let seen = |point: &Point| (point.temporality, point.start, point.time, point.value);
    assert_eq!(received.iter().map(seen).collect::<Vec<_>>(), [(DELTA, 1_000, 2_000, 3.0), (DELTA, 2_000, 3_000, 4.0)]);
    assert_eq!(total(collector.added_up("deltas"), &[]), 7.0);
}

/// OpenTelemetry's own messages decode every byte that tollgate sends, and to the same values.
#[test]
fn case_13_opentelemetrys_python_decodes_every_byte() {
    let Some([peer]) = peers([OPENTELEMETRY_PYTHON]) else { return };
    let receiver = Receiver::start(Version::V3_14);
    let mut tollgate = Tollgate::start_echo(&[TEAM_A], &reported_environment(&receiver.url(), "200"));
    receiver.wait_for_stored(1);
    chats(&mut tollgate);

    let requests = receiver.requests();
    let bodies: Vec<&[u8]> = requests.iter().map(|request| request.body.as_slice()).collect();
    assert!(bodies.len() >= 2);
    let decoded = python::decode(&peer, &bodies).unwrap();
    assert_eq!(decoded.len(), requests.len());
    for (theirs, ours) in decoded.iter().zip(&requests) {
        let (theirs, ours) = (from_json(theirs), from_message(ours.message.as_ref().unwrap()));
        assert!(ours.len() > 50, "only {} points", ours.len());
        assert_eq!(theirs, ours);
    }
}

/// A field that nobody knows does not pass the decoder.
#[test]
fn unknown_fields_do_not_pass() {
    let Some([peer]) = peers([OPENTELEMETRY_PYTHON]) else { return };
    // Field 1, a ResourceMetrics: first an empty one, then one with field 99 in it.
    assert_eq!(python::decode(&peer, &[&[10, 0]]).unwrap().len(), 1);
    let refused = python::decode(&peer, &[&[10, 3, 0x98, 6, 1]]).unwrap_err();
    assert_eq!(refused.trim_end(), "unknown fields: request.resource_metrics: field 99");
}
