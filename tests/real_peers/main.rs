//! The whole way with real programs at both ends: chats from the OpenAI SDK through tollgate to
//! llama.cpp, metrics pushed to Prometheus, and everybody's numbers have to be the same.
//!
//! tests/peers/install gets the peers. Without them these tests are left out, or fail with
//! `TOLLGATE_PEERS=required`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "and by printing")]
#![expect(unreachable_pub, reason = "nothing outside of this crate could reach it")]

mod collector;
mod environment;
mod fault_proxy;
mod http;
mod http2_clients;
mod https;
mod peers;
mod points;
mod process;
mod prometheus;
mod python;
mod receiver;
mod receivers;
#[path = "../support"]
mod strict {
    pub(crate) mod receiver;
}
mod scrape;
mod testssl;
#[path = "../support/tollgate.rs"]
mod tollgate_thread;
mod totals;
mod victoria_metrics;

use peers::{Chats, LLAMA, Llama, OPENAI, PROMETHEUS, Seen, Tollgate, peers};
use process::eventually;
use prometheus::Prometheus;

// Names as Prometheus writes them.
const REQUESTS: &str = "tollgate_requests_total";
const TOKENS: &str = "tollgate_tokens_total";
const ERRORS: &str = "tollgate_errors_total";
const AUTH_DECISIONS: &str = "tollgate_auth_decisions_total";
const CANCELLED: &str = "tollgate_client_cancelled_total";
const USAGE_MISSING: &str = "tollgate_usage_missing_total";
const FRONT_DOOR: &str = "http_server_request_duration_seconds_count";
const DEPLOYMENT_TOKENS: &str = "gen_ai_client_token_usage_sum";
const KEY: &str = "tollgate_key";
const MODEL: &str = "gen_ai_request_model";
const DEPLOYMENT_MODEL: &str = "tollgate_model";
const OUTCOME: &str = "tollgate_outcome";
const TOKEN_TYPE: &str = "gen_ai_token_type";
const DECISION: &str = "tollgate_decision";
const PHASE: &str = "tollgate_phase";
const ERROR_TYPE: &str = "error_type";
const ROUTE: &str = "http_route";

/// Name and key.
const TEAM_A: (&str, &str) = ("team-a", "tg-client-key-of-team-a-for-the-tests");

/// The environment in which the other gateway's metrics never arrived, but for the interval.
fn reported_environment<'a>(endpoint: &'a str, interval: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint),
        ("OTEL_METRIC_EXPORT_INTERVAL", interval),
        ("OTEL_SERVICE_NAME", "tollgate-e2e"),
    ]
}

/// `name{label="value",…}`
fn select(name: &str, labels: &[(&str, &str)]) -> String {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

/// 200 chats: what the client saw, what llama.cpp counted and what Prometheus holds are one.
///
/// Streams that their client leaves go to a llama.cpp of their own. It counts the tokens of such a
/// stream up to the moment it notices, but it never gets to report them as usage, so no gateway can
/// know them. Apart from those, the token counters can be compared to the last token.
#[test]
fn two_hundred_chats_add_up() {
    let Some([prometheus, llama, openai]) = peers([PROMETHEUS, LLAMA, OPENAI]) else { return };
    let prometheus = Prometheus::start(&prometheus);
    let (tiny, endless) = (Llama::start(&llama), Llama::start(&llama));
    let keys = [TEAM_A, ("team-b", "tg-client-key-of-team-b-for-the-tests")];
    let endpoint = prometheus.otlp_endpoint();
    let models = [("tiny", &tiny), ("endless", &endless)];
    let mut tollgate = Tollgate::start(&models, &keys, &reported_environment(&endpoint, "1000"));
    prometheus.wait_for(REQUESTS);

    let chats = [1, 2].map(|seed| Chats::start(&openai, &tollgate, keys[seed as usize - 1].1, 100, seed));
    let seen = chats.map(Chats::finish);
    // Left to themselves, these streams would go on for minutes.
    eventually("llama.cpp stops writing for clients that left", || {
        (endless.metric("requests_processing") == 0.0).then_some(())
    });
    tollgate.stop();

    for ((key, _), seen) in keys.iter().zip(&seen) {
        requests_of_one_key(&prometheus, key, seen);
    }
    let sum = |count: fn(&Seen) -> f64| seen.iter().map(count).sum::<f64>();
    let known_keys = sum(|seen| seen.chats - seen.bad_key);
    assert_eq!(sum(|seen| seen.chats), 200.0);
    assert_eq!(prometheus.total(REQUESTS), known_keys);
    let by = |name, label, value| prometheus.total(&select(name, &[(label, value)]));
    assert_eq!(by(FRONT_DOOR, ROUTE, "/v1/chat/completions"), 200.0);
    assert_eq!(by(AUTH_DECISIONS, DECISION, "invalid_key"), sum(|seen| seen.bad_key));
    assert_eq!(by(AUTH_DECISIONS, DECISION, "allowed"), known_keys);
    assert_eq!(by(ERRORS, ERROR_TYPE, "client_invalid_key"), sum(|seen| seen.bad_key));
    assert_eq!(by(ERRORS, ERROR_TYPE, "client_unknown_model"), sum(|seen| seen.unknown_model));
    assert_eq!(by(ERRORS, ERROR_TYPE, "client_cancelled"), sum(|seen| seen.cancelled));
    assert_eq!(by(CANCELLED, PHASE, "response_body"), sum(|seen| seen.cancelled));
    tokens(&prometheus, &tiny);
    assert!(by(TOKENS, TOKEN_TYPE, "input") > sum(|seen| seen.input_tokens));
    assert!(by(TOKENS, TOKEN_TYPE, "output") > sum(|seen| seen.output_tokens));
}

/// Each outcome of each model, exactly, and as `increase()` sees it.
fn requests_of_one_key(prometheus: &Prometheus, key: &str, seen: &Seen) {
    let expected = [
        ("tiny", "completed", seen.completed),
        ("tiny", "failed", 0.0),
        ("tiny", "cancelled", 0.0),
        ("endless", "completed", 0.0),
        ("endless", "failed", 0.0),
        ("endless", "cancelled", seen.cancelled),
        // Names that clients make up would be series without end.
        ("_OTHER", "completed", 0.0),
        ("_OTHER", "failed", seen.unknown_model),
        ("_OTHER", "cancelled", 0.0),
    ];
    for (model, outcome, count) in expected {
        let selector = select(REQUESTS, &[(KEY, key), (MODEL, model), (OUTCOME, outcome)]);
        let series = prometheus.one(&selector);
        assert_eq!((series.first(), series.last()), (0.0, count), "{selector}");
        assert!((prometheus.increase(&selector) - count).abs() < 1e-6, "{selector}");
        assert_eq!(series.labels["job"], "tollgate-e2e");
        assert!(series.labels.contains_key("instance"), "two gateways would overwrite each other");
    }
}

/// Tokens as clients are billed for them, and by deployment, against those that llama.cpp counted.
fn tokens(prometheus: &Prometheus, tiny: &Llama) {
    let counted =
        [("input", tiny.input_tokens()), ("output", tiny.output_tokens()), ("cache_read", tiny.cached_tokens())];
    for (token_type, count) in counted {
        assert!(count > 0.0, "llama.cpp counted no {token_type} tokens");
        let selector = select(TOKENS, &[(MODEL, "tiny"), (TOKEN_TYPE, token_type)]);
        assert_eq!(prometheus.total(&selector), count, "{selector}");
        if token_type != "cache_read" {
            let selector = select(DEPLOYMENT_TOKENS, &[(DEPLOYMENT_MODEL, "tiny"), (TOKEN_TYPE, token_type)]);
            assert_eq!(prometheus.total(&selector), count, "{selector}");
        }
    }
    assert_eq!(prometheus.total(&select(USAGE_MISSING, &[(DEPLOYMENT_MODEL, "tiny")])), 0.0);
}

/// With an hour between exports, only the one after SIGTERM can carry the chat. And one export
/// before it is enough for `increase()`.
#[test]
fn the_last_request_arrives_after_sigterm() {
    let Some([prometheus, llama]) = peers([PROMETHEUS, LLAMA]) else { return };
    let prometheus = Prometheus::start(&prometheus);
    let tiny = Llama::start(&llama);
    let endpoint = prometheus.otlp_endpoint();
    let environment = reported_environment(&endpoint, "3600000");
    let mut tollgate = Tollgate::start(&[("tiny", &tiny)], &[TEAM_A], &environment);
    prometheus.wait_for(REQUESTS);
    let usage = tollgate.chat("tiny", TEAM_A.1);
    tollgate.stop();

    let completed = select(REQUESTS, &[(MODEL, "tiny"), (OUTCOME, "completed")]);
    let values: Vec<f64> = prometheus.one(&completed).samples.iter().map(|(_, value)| *value).collect();
    assert_eq!(values, [0.0, 1.0]);
    assert_eq!(prometheus.increase(&completed), 1.0);
    for (token_type, field) in [("input", "prompt_tokens"), ("output", "completion_tokens")] {
        let series = prometheus.one(&select(TOKENS, &[(MODEL, "tiny"), (TOKEN_TYPE, token_type)]));
        assert_eq!((series.first(), series.last()), (0.0, usage[field].as_f64().unwrap()), "{token_type}");
    }
}

/// A request right behind the start must not be born with the series that counts it.
#[test]
fn increase_sees_the_very_first_request() {
    let Some([prometheus, llama]) = peers([PROMETHEUS, LLAMA]) else { return };
    let prometheus = Prometheus::start(&prometheus);
    let tiny = Llama::start(&llama);
    let endpoint = prometheus.otlp_endpoint();
    let environment = reported_environment(&endpoint, "1000");
    let mut tollgate = Tollgate::start(&[("tiny", &tiny)], &[TEAM_A], &environment);
    tollgate.chat("tiny", TEAM_A.1);
    prometheus.wait_for(REQUESTS);
    tollgate.stop();
    assert_eq!(prometheus.increase(&select(REQUESTS, &[(MODEL, "tiny"), (OUTCOME, "completed")])), 1.0);
}

/// The path from the original report: Prometheus answers 404, and the log has to say which is right.
#[test]
fn the_log_names_the_right_path() {
    let Some([prometheus, llama]) = peers([PROMETHEUS, LLAMA]) else { return };
    let prometheus = Prometheus::start(&prometheus);
    let tiny = Llama::start(&llama);
    let endpoint = format!("http://{}/api/v2/otlp/v1/metrics", prometheus.address());
    let environment = reported_environment(&endpoint, "1000");
    let mut tollgate = Tollgate::start(&[("tiny", &tiny)], &[TEAM_A], &environment);
    tollgate.process.line("the right path", |line| line.contains("/api/v1/otlp/v1/metrics").then_some(()));
    // A receiver that takes nothing is no reason to refuse a request or to end badly.
    tollgate.chat("tiny", TEAM_A.1);
    tollgate.stop();
    let named = tollgate.process.output().iter().filter(|line| line.contains("/api/v1/otlp/v1/metrics")).count();
    assert_eq!(named, 1, "the log is for reading: once is enough");
}
