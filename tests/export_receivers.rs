//! Several receivers at once, and series that come and go with the configuration.

#![cfg(test)]

mod support {
    pub(crate) mod exporter;
    pub(crate) mod receiver;
}

use std::{collections::BTreeSet, time::Duration};

use support::{
    exporter::{Running, destination, telemetry},
    receiver::{Fault, Receiver, Version},
};
use tollgate::{
    config::{Config, Environment},
    gateway::Gateway,
    telemetry::{Attribute, Counter, Registry, catalog},
};

const RETRIES: &str = "tollgate_retries_total";
const REQUESTS: &str = "tollgate_requests_total";
const EXPORTED: &str = "otel_sdk_exporter_metric_data_point_exported_total";

fn retries(registry: &Registry) -> Counter {
    let counter = registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]);
    counter.create(());
    counter
}

#[test]
fn a_receiver_that_hangs_does_not_delay_another() {
    let (well, dead) = (Receiver::start(Version::V3_14), Receiver::start(Version::V3_14));
    let registry = Registry::new();
    let counter = retries(&registry);
    let mut telemetry = telemetry(well.address());
    let mut second = destination(dead.address());
    // Without limits of its own, so that it hangs for as long as it likes.
    (second.timeout, second.export_timeout) = (None, Some(Duration::from_secs(3_600)));
    telemetry.destinations.push(second);
    dead.always(Fault::Hang);
    let running = Running::start(&registry, &telemetry);
    dead.wait_for_request_in_flight();
    let before = well.requests().len();
    counter.add((), 5);
    // 20 exports at 50 ms: had they waited for the other, not one would have come.
    well.wait_for_stored(before + 20);
    assert_eq!(dead.requests().len(), 0, "the first one still hangs");
    dead.always(None);
    dead.close_connections();
    dead.wait_for_stored(2);
    running.stop();
    for receiver in [&well, &dead] {
        assert_eq!(receiver.value(RETRIES, &[]), 5.0);
    }
    let first = |receiver: &Receiver| receiver.samples(RETRIES, &[])[0].1;
    assert_eq!((first(&well), first(&dead)), (0.0, 0.0), "both saw the zeros first");
    // Each has its own row in the exporter's account of itself.
    let exporters: BTreeSet<String> = well
        .series()
        .into_iter()
        .filter(|labels| labels["__name__"] == EXPORTED)
        .map(|labels| labels["otel_component_name"].clone())
        .collect();
    let expected = ["otlp_http_metric_exporter/0", "otlp_http_metric_exporter/1"];
    assert_eq!(exporters.iter().collect::<Vec<_>>(), expected.each_ref());
}

#[test]
fn each_receiver_has_a_pace_of_its_own() {
    let (fast, slow) = (Receiver::start(Version::V3_14), Receiver::start(Version::V3_14));
    let registry = Registry::new();
    let counter = retries(&registry);
    let mut telemetry = telemetry(fast.address());
    let mut second = destination(slow.address());
    second.interval = Duration::from_secs(3_600);
    telemetry.destinations.push(second);
    let running = Running::start(&registry, &telemetry);
    fast.wait_for_stored(10);
    counter.add((), 3);
    running.stop();
    assert_eq!(slow.requests().len(), 2, "the zeros and the last values");
    assert_eq!((fast.value(RETRIES, &[]), slow.value(RETRIES, &[])), (3.0, 3.0));
}

fn config(models: &[&str]) -> Config {
    let mut text =
        "[providers.echo]\nkind = \"echo\"\n[[keys]]\nname = \"team\"\nkey = \"a-key-that-is-long-enough\"\n"
            .to_owned();
    for model in models {
        text += &format!("[models.{model}]\ndeployments = [{{ provider = \"echo\" }}]\n");
    }
    Config::parse("test.toml".as_ref(), &text, &Environment::default()).unwrap().config
}

/// What a reload does: the new gateway is bound first, then the old one goes.
#[test]
fn a_reload_keeps_the_series_of_what_stays_and_ends_those_of_what_goes() {
    let receiver = Receiver::start(Version::V3_14);
    let registry = Registry::new();
    let before = Gateway::new(&config(&["stays", "goes"]), &registry).unwrap();
    let running = Running::start(&registry, &telemetry(receiver.address()));
    let count = |gateway: &Gateway, model: &str| gateway.model(model).unwrap().1.instruments.retries.add((), 2);
    count(&before, "stays");
    count(&before, "goes");
    receiver.wait_for_stored(3);
    count(&before, "goes");
    let after = Gateway::new(&config(&["stays", "comes"]), &registry).unwrap();
    drop(before);
    count(&after, "stays");
    let stored = receiver.requests().len();
    receiver.wait_for_stored(stored + 4);
    let of = |model: &'static str| [("gen_ai_request_model", model)];
    running.stop();

    let went: Vec<f64> = receiver.samples(RETRIES, &of("goes")).into_iter().map(|(_, value)| value).collect();
    let marks = went.iter().filter(|value| value.is_nan()).count();
    assert!(went.last().unwrap().is_nan() && marks == 1, "ended once: {went:?}");
    assert_eq!(went[went.len() - 2], 4.0, "with everything that was counted");
    let stayed: Vec<f64> = receiver.samples(RETRIES, &of("stays")).into_iter().map(|(_, value)| value).collect();
    assert!(stayed.is_sorted() && stayed.last() == Some(&4.0), "{stayed:?}");
    assert_eq!(receiver.samples(RETRIES, &of("comes"))[0].1, 0.0);
    assert!(receiver.samples(REQUESTS, &of("goes")).iter().any(|(_, value)| value.is_nan()));
}

#[test]
fn a_series_that_ends_during_an_outage_is_still_sent_once_more() {
    let receiver = Receiver::start(Version::V3_14);
    let registry = Registry::new();
    let counter = retries(&registry);
    let other: Counter = registry.counter(&catalog::FALLBACKS, &[]);
    other.create(());
    let running = Running::start(&registry, &telemetry(receiver.address()));
    receiver.wait_for_stored(2);
    receiver.always(Fault::status(500, "boom"));
    counter.add((), 7);
    drop(counter);
    let requests = receiver.requests().len();
    receiver.wait_for_requests(requests + 4);
    receiver.always(None);
    let stored = receiver.requests().len();
    receiver.wait_for_stored(stored.min(2) + 4);
    running.stop();
    let values: Vec<f64> = receiver.samples(RETRIES, &[]).into_iter().map(|(_, value)| value).collect();
    assert_eq!(receiver.value(RETRIES, &[]), 7.0);
    assert!(values.last().unwrap().is_nan(), "{values:?}");
}
