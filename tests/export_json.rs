//! OTLP as JSON: what the request says it is, and how answers in JSON are read.

#![cfg(test)]

mod support {
    pub(crate) mod capture;
    pub(crate) mod exporter;
}

use std::time::Duration;

use support::{
    capture::{Capture, answer},
    exporter::{Running, telemetry},
};
use tollgate::{
    config::Protocol,
    export::{Delivery, ErrorType},
    telemetry::{Attribute, Registry, catalog},
};

#[test]
fn requests_and_answers_are_json() {
    let json = "application/json";
    let capture = Capture::start(
        None,
        vec![
            answer("200 OK", json, r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"too many"}}"#),
            answer("200 OK", json, r#"{"partialSuccess":{"rejectedDataPoints":2,"errorMessage":"too old"}}"#),
            answer("200 OK", json, "{}"),
            answer("400 Bad Request", json, r#"{"code":3,"message":"bad metric"}"#),
            answer("400 Bad Request", "text/plain", "json encoding isn't supported for opentelemetry format"),
        ],
    );
    let registry = Registry::new();
    registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]).create(());
    let mut telemetry = telemetry(capture.address());
    telemetry.destinations[0].protocol = Protocol::HttpJson;
    telemetry.destinations[0].interval = Duration::from_millis(100);
    let running = Running::start(&registry, &telemetry);
    let deliveries: Vec<Delivery> = std::iter::repeat_with(|| running.report().delivery).take(6).collect();
    running.stop();

    let request = capture.request();
    assert!(request.head.starts_with("POST /api/v1/otlp/v1/metrics HTTP/1.1\r\n"), "{}", request.head);
    let headers: Vec<&str> = request.head.lines().collect();
    assert!(headers.contains(&"content-type: application/json"), "{headers:?}");
    let agent = format!("user-agent: tollgate/{} (otlp-http-json)", env!("CARGO_PKG_VERSION"));
    assert!(headers.contains(&agent.as_str()), "{headers:?}");
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    assert!(body["resourceMetrics"][0]["scopeMetrics"].is_array(), "{body}");

    let [first, second, third, fourth, fifth, sixth] = deliveries.as_slice() else { unreachable!() };
    let rejects = |delivery: &Delivery, count: u64, said: &str| match delivery {
        Delivery::Partial { rejected, sentence, .. } => {
            assert_eq!(*rejected, count, "{sentence}");
            assert!(sentence.contains(said), "{sentence}");
        }
        other => panic!("{other:?}"),
    };
    rejects(first, 3, "says \"too many\"");
    rejects(second, 2, "says \"too old\"");
    assert_eq!((third, sixth), (&Delivery::Accepted, &Delivery::Accepted));
    let fails = |delivery: &Delivery, said: &str| match delivery {
        Delivery::Failed { error: ErrorType::BadRequest, sentence, .. } => {
            assert!(sentence.contains(said), "{sentence}")
        }
        other => panic!("{other:?}"),
    };
    fails(fourth, "answered 400 \"bad metric\": ");
    fails(fifth, "VictoriaMetrics takes OTLP as protobuf only: set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf");
}
