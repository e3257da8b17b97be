//! A second opinion on `OTEL_*`: what OpenTelemetry's Python SDK takes from an environment, tollgate
//! takes as well, but for what is listed here with its reason.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use tollgate::{
    config::{Config, Environment},
    telemetry::catalog::Kind,
};

use crate::{
    peers::{OPENTELEMETRY_PYTHON, peers},
    python,
};

const CONFIG: &str = "[providers.echo]\nkind = \"echo\"\n[models.echo]\ndeployments = [{ provider = \"echo\" }]\n\
                      [[keys]]\nname = \"k\"\nkey = \"tg-client-key-of-the-environment-tests\"\n";

// Names of variables without what they all begin with.
const BASE: &str = "EXPORTER_OTLP_ENDPOINT";
const ENDPOINT: &str = "EXPORTER_OTLP_METRICS_ENDPOINT";
const BASE_HEADERS: &str = "EXPORTER_OTLP_HEADERS";
const HEADERS: &str = "EXPORTER_OTLP_METRICS_HEADERS";
const BASE_TIMEOUT: &str = "EXPORTER_OTLP_TIMEOUT";
const TIMEOUT: &str = "EXPORTER_OTLP_METRICS_TIMEOUT";
const BASE_COMPRESSION: &str = "EXPORTER_OTLP_COMPRESSION";
const COMPRESSION: &str = "EXPORTER_OTLP_METRICS_COMPRESSION";
const TEMPORALITY: &str = "EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
const INTERVAL: &str = "METRIC_EXPORT_INTERVAL";
const EXPORT_TIMEOUT: &str = "METRIC_EXPORT_TIMEOUT";
const NAME: &str = "SERVICE_NAME";
const RESOURCE: &str = "RESOURCE_ATTRIBUTES";

type Variables = &'static [(&'static str, &'static str)];

/// Environments of which both have to take the same.
const AGREED: &[Variables] = &[
    &[],
    // The base gets the signal's path appended.
    &[(BASE, "http://c:4318")],
    &[(BASE, "http://c:4318/")],
    &[(BASE, "http://c:4318/otlp")],
    &[(BASE, "http://c:4318/otlp/")],
    &[(BASE, "https://gateway.example.com/otlp")],
    &[(BASE, "http://[::1]:4318")],
    // The signal's own is used as it is, and replaces the base.
    &[(ENDPOINT, "http://c:4318")],
    &[(ENDPOINT, "http://c:4318/")],
    &[(ENDPOINT, "http://c:9090/api/v1/otlp/v1/metrics"), (BASE, "http://d:4318")],
    &[(ENDPOINT, "https://c/x/"), (BASE, "")],
    &[(ENDPOINT, "http://c:4318/x?token=1")],
    &[(ENDPOINT, ""), (BASE, "http://d:4318")],
    // Headers.
    &[(BASE_HEADERS, "api-key=one,X-Tenant=two")],
    &[(BASE_HEADERS, "Authorization=Basic%20YTpi%3D")],
    &[(BASE_HEADERS, "a=b=c==,d=e+f")],
    &[(BASE_HEADERS, " a = b , c=d ")],
    &[(BASE_HEADERS, "authorization=Bearer one two")],
    &[(BASE_HEADERS, "a=1,A=2,a=3")],
    &[(BASE_HEADERS, "a=1,nonsense,=2,,b=3,")],
    &[(BASE_HEADERS, "a=")],
    &[(BASE_HEADERS, "a=%C3%A4")],
    &[(BASE_HEADERS, "a=1,b=2"), (HEADERS, "c=3")],
    &[(BASE_HEADERS, "a=1"), (HEADERS, "")],
    &[(BASE_HEADERS, "a=1"), (HEADERS, "nonsense")],
    // Compression.
    &[(BASE_COMPRESSION, "gzip")],
    &[(BASE_COMPRESSION, "GZIP")],
    &[(BASE_COMPRESSION, "gzip"), (COMPRESSION, "none")],
    &[(BASE_COMPRESSION, "gzip"), (COMPRESSION, "")],
    &[(BASE_COMPRESSION, "brotli")],
    // Times.
    &[(INTERVAL, "1500"), (EXPORT_TIMEOUT, "1000")],
    &[(INTERVAL, "soon"), (EXPORT_TIMEOUT, "later")],
    &[(INTERVAL, ""), (EXPORT_TIMEOUT, "")],
    &[(TIMEOUT, "soon")],
    &[(TIMEOUT, ""), (BASE_TIMEOUT, "")],
    // Temporality.
    &[(TEMPORALITY, "cumulative")],
    &[(TEMPORALITY, "delta")],
    &[(TEMPORALITY, "LowMemory")],
    &[(TEMPORALITY, "sometimes")],
    &[(TEMPORALITY, "")],
    // The resource.
    &[(NAME, "one")],
    &[(NAME, "one"), (RESOURCE, "service.name=two,a=b")],
    &[(NAME, ""), (RESOURCE, "service.name=two")],
    &[(RESOURCE, "deployment.environment.name=prod, team = a ")],
    &[(RESOURCE, "a=b%2Cc%3Dd%25,e=f+g")],
    &[(RESOURCE, "a=b=c")],
    &[(RESOURCE, "a=1,a=2")],
    &[(RESOURCE, "")],
];

/// An environment of which the two do not take the same, and why tollgate is right.
struct Differs {
    variables: Variables,
    why: &'static str,
    /// What of it differs.
    setting: &'static str,
    ours: Value,
    theirs: Value,
}

fn differs() -> Vec<Differs> {
    let mut list = times();
    list.extend(endpoints_and_headers());
    list.extend(others());
    list
}

fn times() -> Vec<Differs> {
    const MILLISECONDS: &str = "the specification counts in milliseconds, the SDK in seconds";
    let seconds = |variables, ours: Option<f64>, theirs: f64, why| Differs {
        variables,
        why,
        setting: "timeout",
        ours: json!(ours),
        theirs: json!(theirs),
    };
    vec![
        seconds(&[(BASE_TIMEOUT, "5000")], Some(5.0), 5000.0, MILLISECONDS),
        seconds(&[(BASE_TIMEOUT, "5000"), (TIMEOUT, "250")], Some(0.25), 250.0, MILLISECONDS),
        seconds(&[(BASE_TIMEOUT, "5000"), (TIMEOUT, "")], Some(5.0), 5000.0, MILLISECONDS),
        seconds(&[(TIMEOUT, "0")], None, 0.0, "a timeout of 0 is no limit"),
        seconds(&[(TIMEOUT, "-1")], Some(10.0), -1.0, "a negative number has no meaning and counts as unset"),
        seconds(&[(TIMEOUT, "1.5")], Some(10.0), 1.5, "times are whole numbers; another counts as unset"),
        Differs {
            variables: &[(EXPORT_TIMEOUT, "0")],
            why: "a timeout of 0 is no limit",
            setting: "export_timeout_ms",
            ours: Value::Null,
            theirs: json!(0.0),
        },
    ]
}

fn endpoints_and_headers() -> Vec<Differs> {
    let endpoint = |variables, ours: &str, theirs: &str, why| Differs {
        variables,
        why,
        setting: "endpoint",
        ours: json!(ours),
        theirs: json!(theirs),
    };
    let headers =
        |variables, ours: Value, theirs: Value, why| Differs { variables, why, setting: "headers", ours, theirs };
    const LIBERAL: &str = "what is allowed to be raw does not turn off the decoding of the rest";
    vec![
        endpoint(
            &[(BASE, "http://c:4318/otlp?token=1")],
            "http://c:4318/otlp/v1/metrics?token=1",
            "http://c:4318/otlp?token=1/v1/metrics",
            "a path is appended to the path, not to the query",
        ),
        endpoint(
            &[(BASE, "collector:4318")],
            "http://localhost:4318/v1/metrics",
            "collector:4318/v1/metrics",
            "without http or https it is no URL: it is ignored with a warning, the SDK fails at each export",
        ),
        headers(&[(BASE_HEADERS, "a=b c%3D")], json!({"a": "b c="}), json!({"a": "b c%3D"}), LIBERAL),
        headers(
            &[(BASE_HEADERS, "a=1;b,c=d")],
            json!({"a": "1;b", "c": "d"}),
            json!({"c": "d"}),
            "a semicolon has no meaning here and is common in values",
        ),
        headers(
            &[(BASE_HEADERS, "a=%zz,b=1")],
            json!({"b": "1"}),
            json!({"a": "%zz", "b": "1"}),
            "what cannot be decoded is left out with a warning, never guessed at",
        ),
        headers(
            &[(BASE_HEADERS, "host=other,b=1")],
            json!({"b": "1"}),
            json!({"host": "other", "b": "1"}),
            "headers of the connection and the body are not the operator's",
        ),
    ]
}

fn others() -> Vec<Differs> {
    const WHOLE: &str = "any error discards the whole variable";
    let resource =
        |variables, ours: Value, theirs: Value, why| Differs { variables, why, setting: "resource", ours, theirs };
    vec![
        resource(&[(RESOURCE, "a=1,nonsense,b=2")], json!({}), json!({"a": "1", "b": "2"}), WHOLE),
        resource(&[(RESOURCE, "a=%zz,b=2")], json!({}), json!({"a": "%zz", "b": "2"}), WHOLE),
        resource(
            &[(NAME, "one"), (RESOURCE, "nonsense,b=2")],
            json!({"service.name": "one"}),
            json!({"service.name": "one", "b": "2"}),
            WHOLE,
        ),
        resource(&[(RESOURCE, "a%2Eb=1")], json!({"a.b": "1"}), json!({"a%2Eb": "1"}), "names are decoded as well"),
        resource(&[(RESOURCE, "a=")], json!({}), json!({"a": ""}), "an empty attribute says nothing"),
        Differs {
            variables: &[(COMPRESSION, "deflate")],
            why: "the specification knows gzip and none only",
            setting: "compression",
            ours: json!("none"),
            theirs: json!("deflate"),
        },
    ]
}

/// What tollgate takes from an environment, in the SDK's words.
fn ours(variables: &BTreeMap<String, &str>) -> Value {
    let environment = Environment::of(variables.iter().map(|(name, value)| (name.as_str(), *value)));
    let telemetry = Config::parse(Path::new("t.toml"), CONFIG, &environment).unwrap().config.telemetry;
    let [receiver] = &telemetry.destinations[..] else { panic!("one receiver, not {}", telemetry.destinations.len()) };
    let endpoint = &receiver.endpoint;
    let (scheme, default) = if endpoint.tls { ("https", 443) } else { ("http", 80) };
    let port = if endpoint.port == default { String::new() } else { format!(":{}", endpoint.port) };
    let headers = receiver.headers.iter().map(|(name, value)| (name.clone(), json!(value.expose())));
    let resource = telemetry.resource.iter().map(|(name, value)| (name.clone(), json!(value)));
    let temporality = |kind: Kind| if receiver.temporality.is_delta(kind) { "delta" } else { "cumulative" };
    json!({
        "endpoint": format!("{scheme}://{}{port}{}", endpoint.host, endpoint.target),
        "headers": headers.collect::<serde_json::Map<_, _>>(),
        "timeout": receiver.timeout.map(|time| time.as_secs_f64()),
        "compression": if receiver.gzip { "gzip" } else { "none" },
        "resource": resource.collect::<serde_json::Map<_, _>>(),
        "temporality": {
            "counter": temporality(Kind::Counter),
            "up_down": temporality(Kind::UpDownCounter),
            "observable": temporality(Kind::ObservableCounter),
            "histogram": temporality(Kind::Histogram(&[])),
        },
        "interval_ms": receiver.interval.as_secs_f64() * 1e3,
        "export_timeout_ms": receiver.export_timeout.map(|time| time.as_secs_f64() * 1e3),
    })
}

/// Leaves of the resource what came from the environment: the rest is in it without one as well.
fn without_own_attributes(mut taken: Value) -> Value {
    let own = ours(&BTreeMap::new());
    let resource = taken["resource"].as_object_mut().unwrap();
    resource.retain(|name, value| name != "service.instance.id" && own["resource"].get(name) != Some(value));
    taken
}

/// A URL without a path asks for `/`; the SDK leaves that to its HTTP client.
fn with_path(mut taken: Value) -> Value {
    let url = taken["endpoint"].as_str().unwrap();
    if url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/')) {
        taken["endpoint"] = json!(format!("{url}/"));
    }
    taken
}

#[test]
fn the_sdk_takes_the_same_from_an_environment() {
    let Some([peer]) = peers([OPENTELEMETRY_PYTHON]) else { return };
    let differs = differs();
    let rows: Vec<(Variables, Option<&Differs>)> = AGREED
        .iter()
        .map(|variables| (*variables, None))
        .chain(differs.iter().map(|row| (row.variables, Some(row))))
        .collect();
    let environments: Vec<BTreeMap<String, &str>> = rows
        .iter()
        .map(|(variables, _)| variables.iter().map(|(name, value)| (format!("OTEL_{name}"), *value)).collect())
        .collect();
    let theirs = python::environments(&peer, &json!(environments));
    assert_eq!(theirs.len(), rows.len());

    let mut wrong = Vec::new();
    for (((_, row), environment), theirs) in rows.iter().zip(&environments).zip(theirs) {
        let mut expected = without_own_attributes(ours(environment));
        if let Some(row) = row {
            if expected[row.setting] != row.ours {
                wrong.push(format!("{environment:?}: tollgate takes {} ({})", expected[row.setting], row.why));
            }
            expected[row.setting] = row.theirs.clone();
        }
        let theirs = with_path(theirs);
        for (setting, expected) in expected.as_object().unwrap() {
            if theirs[setting] != *expected {
                wrong.push(format!("{environment:?}: {setting} is {}, not {expected}, for the SDK", theirs[setting]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
