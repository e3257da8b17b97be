//! What the cases share.

use std::{path::Path, sync::Arc};

use tollgate::{
    config::{Config, Destination, Environment, Loaded, Telemetry},
    export::{Delivery, ErrorType, Report},
    proto::opentelemetry::proto::metrics::v1::Metric,
    telemetry::{Attribute, Counter, Registry, catalog},
};

pub(crate) use super::program::{Program, eventually};
use crate::support::receiver::Request;
pub(crate) use crate::support::{
    capture::Capture,
    exporter::{Running, telemetry},
    receiver::{Fault, Receiver, Version},
};

/// The counter that the cases watch, and its name in Prometheus.
pub(crate) const RETRIES: &str = "tollgate_retries_total";

/// A configuration with nothing in it that concerns metrics.
pub(crate) const CONFIG: &str = "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\nauth_failures_burst = 1000000\n[providers.echo]\nkind = \"echo\"\n\
     [models.echo]\ndeployments = [{ provider = \"echo\" }]\n[[keys]]\nname = \"k\"\nkey = \"tg-key-of-the-conformance-cases\"\n";

/// What is made of an environment.
pub(crate) fn load(environment: &[(&str, &str)]) -> Loaded {
    let environment = Environment::of(environment.iter().copied());
    Config::parse(Path::new("t.toml"), CONFIG, &environment).unwrap()
}

/// The one receiver that an environment asks for.
pub(crate) fn destination(environment: &[(&str, &str)]) -> Destination {
    let mut telemetry = load(environment).config.telemetry;
    assert_eq!(telemetry.destinations.len(), 1);
    telemetry.destinations.remove(0)
}

/// The URL of the one receiver.
pub(crate) fn url(environment: &[(&str, &str)]) -> String {
    let endpoint = destination(environment).endpoint;
    let scheme = if endpoint.tls { "https" } else { "http" };
    format!("{scheme}://{}:{}{}", endpoint.host, endpoint.port, endpoint.target)
}

/// A registry with one counter to watch.
pub(crate) fn registry() -> (Arc<Registry>, Counter) {
    let registry = Registry::new();
    let counter = registry.counter(&catalog::RETRIES, &[Attribute::text("gen_ai.request.model", "m")]);
    counter.create(());
    (registry, counter)
}

/// A strict receiver with what is to be sent to it.
pub(crate) fn start() -> (Receiver, Arc<Registry>, Counter, Telemetry) {
    let receiver = Receiver::start(Version::V3_14);
    let telemetry = telemetry(receiver.address());
    let (registry, counter) = registry();
    (receiver, registry, counter, telemetry)
}

/// What became of the export that a receiver answered with this fault, and what was logged.
pub(crate) fn answered(fault: Fault) -> (Report, Vec<String>) {
    let (receiver, registry, _counter, telemetry) = start();
    receiver.script([fault]);
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    receiver.wait_for_stored(1);
    (report, running.stop().2)
}

/// The error and the sentence of an export that failed.
pub(crate) fn failed(report: &Report) -> (&ErrorType, &str) {
    let Delivery::Failed { error, sentence, .. } = &report.delivery else { panic!("{report:?}") };
    (error, sentence)
}

/// Every metric of the requests that were stored.
pub(crate) fn metrics(requests: &[Request]) -> impl Iterator<Item = &Metric> {
    let resources = requests.iter().filter_map(|request| request.message.as_ref()).flat_map(|of| &of.resource_metrics);
    resources.flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics)
}
