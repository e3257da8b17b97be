//! A gateway in this process, from TOML as an operator writes it, and its metrics as exported.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use prost::Message as _;
use tollgate::{
    config::{Config, Environment, Listen},
    proto::opentelemetry::proto::{
        collector::metrics::v1::ExportMetricsServiceRequest,
        common::v1::{KeyValue, any_value::Value as AnyValue},
        metrics::v1::{metric::Data, number_data_point::Value},
    },
    server::{Certificates, Inherited, Server},
    telemetry::{Registry, otlp},
};

use super::client::KEY;

/// A gateway that serves until it is dropped.
pub struct Gateway {
    pub address: SocketAddr,
    registry: Arc<Registry>,
    server: Server,
}

/// A file that is gone after the test.
struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

impl Gateway {
    /// Starts with a whole configuration but `server.listen` and the usual key, which are added.
    pub fn run(toml: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let file = TempFile(std::env::temp_dir().join(format!("tollgate-{}-{number}.toml", std::process::id())));
        let server = if toml.contains("[server]") { "" } else { "[server]\nthreads = 2\n" };
        std::fs::write(&file.0, format!("{server}{toml}")).unwrap();
        let environment = Environment::of([("TOLLGATE_KEY", KEY)]);
        let mut config = match Config::load(Some(&file.0), &environment) {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("{error}"),
        };
        config.server.listen = vec![Listen::Tcp("127.0.0.1:0".parse().unwrap())];
        let registry = Registry::with(config.telemetry.max_series, config.telemetry.aggregations.clone());
        let gateway = tollgate::gateway::Gateway::new(&config, &registry).unwrap();
        let certificates = config.server.tls.as_ref().map(|tls| Certificates::load(tls).unwrap());
        let server = Server::start(
            &config.server,
            &Arc::new(ArcSwap::from_pointee(gateway)),
            certificates,
            Inherited::default(),
        )
        .unwrap();
        Self { address: server.address().unwrap(), registry, server }
    }

    /// One model `m` over these providers in order, each with the upstream model `up`, one key.
    pub fn over(providers: &[SocketAddr], extra: &str) -> Self {
        let mut toml = String::new();
        let mut deployments = Vec::new();
        for (number, address) in providers.iter().enumerate() {
            toml += &format!(
                "[providers.p{number}]\nbase_url = \"http://{address}/v1\"\napi_key = \"sk-upstream-{number}\"\n{extra}\n"
            );
            deployments.push(format!("{{ provider = \"p{number}\", model = \"up\" }}"));
        }
        Self::run(&format!("{toml}[models.m]\ndeployments = [{}]\n{KEYS}", deployments.join(", ")))
    }

    /// Begins the drain and waits for its end.
    pub fn drain(self) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(self.server.drain(super::PATIENCE, std::future::pending()))
    }

    /// Every exported point, by `name{attributes}`; histograms as `…:count` and `…:sum`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let snapshot = self.registry.snapshot();
        let bytes = otlp::encode(&snapshot, &snapshot.parts(usize::MAX)[0], &[]);
        let request = ExportMetricsServiceRequest::decode(&*bytes).unwrap();
        let mut metrics = BTreeMap::new();
        let resource_metrics = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        for metric in resource_metrics.flat_map(|scope| scope.metrics) {
            match metric.data.unwrap() {
                Data::Sum(sum) => {
                    for point in sum.data_points {
                        metrics.insert(series(&metric.name, &point.attributes), number(point.value));
                    }
                }
                Data::Gauge(gauge) => {
                    for point in gauge.data_points {
                        metrics.insert(series(&metric.name, &point.attributes), number(point.value));
                    }
                }
                Data::Histogram(histogram) => {
                    for point in histogram.data_points {
                        let series = series(&metric.name, &point.attributes);
                        metrics.insert(format!("{series}:count"), point.count as f64);
                        metrics.insert(format!("{series}:sum"), point.sum.unwrap());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        metrics
    }

    /// The sum over every point of `name` whose attributes contain all of `attributes`.
    pub fn metric(&self, name: &str, attributes: &[&str]) -> f64 {
        let matching = self.metrics().into_iter().filter(|(series, _)| {
            series.split('{').next() == Some(name.split(':').next().unwrap())
                && series.ends_with(name.split_once(':').map_or("}", |(_, suffix)| suffix))
                && attributes.iter().all(|attribute| series.contains(attribute))
        });
        matching.map(|(_, value)| value).sum()
    }

    /// What has been counted, leaving out zeros, times, sizes and the process: the exact effect of
    /// a request on the counters of a new gateway.
    pub fn counted(&self) -> Vec<String> {
        let leave_out = [
            "tollgate.connections",
            "tollgate.memory.pressure",
            "tollgate.build.info",
            "http.server.request.body",
            "http.server.response.body",
        ];
        let counted = self.metrics().into_iter().filter(|(series, value)| {
            *value != 0.0 && !series.ends_with(":sum") && !leave_out.iter().any(|prefix| series.starts_with(prefix))
        });
        counted.map(|(series, value)| format!("{series} {value}")).collect()
    }
}

/// The usual key, which may use everything.
pub const KEYS: &str = "[[keys]]\nname = \"k\"\nkey = \"${TOLLGATE_KEY}\"\n";

fn series(name: &str, attributes: &[KeyValue]) -> String {
    let attributes: Vec<String> = attributes
        .iter()
        .map(|attribute| {
            let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()).unwrap() {
                AnyValue::StringValue(text) => text.clone(),
                AnyValue::IntValue(number) => number.to_string(),
                AnyValue::BoolValue(truth) => truth.to_string(),
                other => panic!("{other:?}"),
            };
            format!("{}={value}", attribute.key)
        })
        .collect();
    format!("{name}{{{}}}", attributes.join(","))
}

fn number(value: Option<Value>) -> f64 {
    match value.unwrap() {
        Value::AsDouble(number) => number,
        Value::AsInt(number) => number as f64,
    }
}
