//! Prices, usage and reported costs → exact `tollgate.cost.usd`.

use std::net::SocketAddr;

use crate::support::{
    Gateway, Provider, Step, chat, eventually,
    gateway::KEYS,
    post,
    provider::{event_stream, json},
};

const PRICE: &str = ", price = { input = 0.15, output = 0.60, cache_read = 0.075, cache_write = 0.1875 }";
const CHAT: &str = r#"{"model":"m"}"#;

/// A gateway whose model `m` is served by these providers, each with what follows its name.
fn over(deployments: &[(SocketAddr, &str)]) -> Gateway {
    let mut toml = String::new();
    for (number, (address, _)) in deployments.iter().enumerate() {
        toml += &format!("[providers.p{number}]\nbase_url = \"http://{address}/v1\"\n");
    }
    let entry = |(number, (_, price)): (usize, &(SocketAddr, &str))| format!("{{ provider = \"p{number}\"{price} }}");
    let entries: Vec<String> = deployments.iter().enumerate().map(entry).collect();
    Gateway::run(&format!("{toml}[models.m]\ndeployments = [{}]\n{KEYS}", entries.join(", ")))
}

/// Every series of the cost, in nano-USD.
fn costs(gateway: &Gateway) -> Vec<String> {
    let costs = gateway.metrics().into_iter().filter(|(series, _)| series.starts_with("tollgate.cost.usd{"));
    costs.map(|(series, usd)| format!("{series} {}", (usd * 1e9).round())).collect()
}

fn of_m(nanos: u64) -> Vec<String> {
    vec![format!("tollgate.cost.usd{{tollgate.key=k,gen_ai.request.model=m}} {nanos}")]
}

fn usage(usage: &str) -> Vec<u8> {
    json("200 OK", &format!(r#"{{"choices":[],"usage":{{{usage}}}}}"#))
}

/// What one answer adds.
#[test]
fn an_answer_costs_what_its_price_or_its_provider_says() {
    let tokens = r#""prompt_tokens":1000,"completion_tokens":100"#;
    let cached = r#""prompt_tokens":1000,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":400,"cache_write_tokens":200}"#;
    let reported = |cost: &str| format!(r#"{tokens},"cost":{cost}"#);
    let simple = ", price = { input = 3, output = 15 }";
    let free = ", price = { input = 0, output = 0 }";
    // (name, price, usage, nano-USD; none for no series)
    let rows: Vec<(&str, &str, String, Option<u64>)> = vec![
        ("a price", PRICE, tokens.into(), Some(150_000 + 60_000)),
        ("cache tokens", PRICE, cached.into(), Some(400 * 150 + 400 * 75 + 37_500 + 60_000)),
        ("cache tokens at the price of input", simple, cached.into(), Some(3_000_000 + 1_500_000)),
        ("a price wins over a report", PRICE, reported("0.5"), Some(210_000)),
        ("a price of nothing", free, reported("0.5"), Some(0)),
        ("a price and no usage", PRICE, String::new(), Some(0)),
        (
            "a price and a hostile count",
            PRICE,
            r#""prompt_tokens":1000000000000,"completion_tokens":1000000000000"#.into(),
            Some(1_000_000_000_000),
        ),
        ("a price and no count", PRICE, r#""prompt_tokens":-1,"completion_tokens":1e308"#.into(), Some(0)),
        ("half a nano-USD", ", price = { input = 0.0015, output = 0 }", r#""prompt_tokens":1"#.into(), Some(2)),
        ("a report", "", reported("0.00012"), Some(120_000)),
        ("a report of nothing", "", reported("0"), Some(0)),
        ("the highest report", "", reported("1000"), Some(1_000_000_000_000)),
        ("neither", "", tokens.into(), None),
        ("a report that is too high", "", reported("1000.1"), None),
        ("a negative report", "", reported("-0.1"), None),
        ("an infinite report", "", reported("1e999"), None),
        ("a report in words", "", reported("\"0.1\""), None),
        ("a report that is an object", "", reported(r#"{"total_cost":0.1}"#), None),
    ];
    for (name, price, reported, nanos) in rows {
        let provider = Provider::answering(usage(&reported));
        let gateway = over(&[(provider.address, price)]);
        assert_eq!(costs(&gateway), if price.is_empty() { Vec::new() } else { of_m(0) }, "{name}: at the start");
        assert_eq!(chat(gateway.address, CHAT).status, 200, "{name}");
        eventually("the request ends", || gateway.metric("tollgate.requests", &["completed"]) == 1.0);
        assert_eq!(costs(&gateway), nanos.map(of_m).unwrap_or_default(), "{name}");
        if nanos.is_none() {
            assert_eq!(gateway.metric("tollgate.tokens", &["input"]), 1000.0, "{name}");
        }
    }
}

#[test]
fn costs_add_up_over_operations_and_are_the_keys() {
    let provider = Provider::answering(usage(r#""prompt_tokens":7,"completion_tokens":0"#));
    let gateway = over(&[(provider.address, PRICE)]);
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
        assert_eq!(post(gateway.address, path, CHAT).status, 200);
    }
    assert_eq!(chat(gateway.address, r#"{"model":"unknown"}"#).status, 404);
    eventually("all are counted", || gateway.metric("tollgate.requests", &[]) == 4.0);
    assert_eq!(costs(&gateway), of_m(3 * 7 * 150));
}

#[test]
fn a_request_that_fell_back_costs_what_the_deployment_that_answered_asks() {
    let refused = json("503 Service Unavailable", r#"{"usage":{"prompt_tokens":9,"completion_tokens":9,"cost":9}}"#);
    let first = Provider::answering(refused);
    let second = Provider::answering(usage(r#""prompt_tokens":1000,"completion_tokens":100,"cost":9"#));
    let gateway = over(&[(first.address, ", price = { input = 5000, output = 5000 }"), (second.address, PRICE)]);
    assert_eq!(chat(gateway.address, CHAT).status, 200);
    eventually("it is counted", || gateway.metric("tollgate.requests", &["completed"]) == 1.0);
    assert_eq!(costs(&gateway), of_m(210_000));
}

#[test]
fn a_stream_costs_once_whatever_it_repeats() {
    let event = |cost: &str| {
        format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":1000,\"completion_tokens\":100{cost}}}}}\n\n")
    };
    let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    for (price, nanos) in [(PRICE, 210_000), ("", 950_000_000)] {
        let reported = event(",\"cost\":0.95");
        let provider = Provider::answering(event_stream(&[&reported, stop, &reported, "data: [DONE]\n\n"]));
        let gateway = over(&[(provider.address, price)]);
        assert!(chat(gateway.address, r#"{"model":"m","stream":true}"#).complete);
        eventually("it is counted", || gateway.metric("tollgate.requests", &["completed"]) == 1.0);
        assert_eq!(costs(&gateway), of_m(nanos));
    }
    // Broken off after its usage: the tokens were paid for all the same.
    let broken = vec![
        Step::Send(crate::support::provider::event_head()),
        Step::Send(crate::support::provider::chunk(&event(""))),
        Step::Close,
    ];
    let provider = Provider::script([broken]);
    let gateway = over(&[(provider.address, PRICE)]);
    assert!(!chat(gateway.address, r#"{"model":"m","stream":true}"#).complete);
    eventually("it is counted", || gateway.metric("tollgate.requests", &["failed"]) == 1.0);
    assert_eq!(costs(&gateway), of_m(210_000));
}

#[test]
fn only_models_with_a_price_have_a_cost_from_the_start() {
    let gateway = Gateway::run(&format!(
        "[providers.e]\nkind = \"echo\"\n[models.priced]\ndeployments = [{{ provider = \"e\" }}, {{ provider = \"e\"{PRICE} }}]\n\
         [models.plain]\ndeployments = [{{ provider = \"e\" }}]\n{KEYS}\
         [[keys]]\nname = \"plain-only\"\nkey = \"tg-another-key-of-the-tests\"\nmodels = [\"plain\"]\n"
    ));
    assert_eq!(costs(&gateway), ["tollgate.cost.usd{tollgate.key=k,gen_ai.request.model=priced} 0"]);
}
