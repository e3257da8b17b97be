//! A real OpenTelemetry Collector, and what it wrote down.

use std::{fs, path::Path, process::Command};

use crate::{
    points::{CUMULATIVE, Point, from_json},
    process::eventually,
    receiver::Receiver,
};

/// What arrives goes to one file as it is, and to the other with its deltas added up.
fn config(folder: &Path, addresses: &[String]) -> String {
    let folder = folder.display();
    format!(
        "receivers:
  otlp: {{ protocols: {{ http: {{ endpoint: {http} }}, grpc: {{ endpoint: {grpc} }} }} }}
processors:
  delta_to_cumulative: {{}}
exporters:
  debug: {{}}
  jsonl/received: {{ path: {folder}/{RECEIVED} }}
  jsonl/cumulative: {{ path: {folder}/{ADDED_UP} }}
service:
  telemetry: {{ metrics: {{ level: none }} }}
  pipelines:
    metrics: {{ receivers: [otlp], exporters: [jsonl/received, debug] }}
    metrics/cumulative: {{ receivers: [otlp], processors: [delta_to_cumulative], exporters: [jsonl/cumulative] }}
",
        http = addresses[0],
        grpc = addresses[1],
    )
}

const RECEIVED: &str = "received.jsonl";
const ADDED_UP: &str = "added-up.jsonl";

pub struct Collector {
    receiver: Receiver,
}

impl Collector {
    pub fn start(peer: &Path) -> Self {
        let program = peer.join("collector");
        let receiver = Receiver::start("the Collector", "Everything is ready", 2, move |folder, addresses| {
            let file = folder.join("collector.yaml");
            fs::write(&file, config(folder, addresses)).unwrap();
            let mut command = Command::new(&program);
            command.arg("--config").arg(file);
            command
        });
        Self { receiver }
    }

    /// Ends it, as an upgrade does.
    pub fn stop(&mut self) {
        self.receiver.stop();
    }

    /// Starts it again where it was; it goes on with the same files.
    pub fn restart(&mut self) {
        self.receiver.restart();
    }

    /// Where the gateway has to push to over HTTP.
    pub fn http_endpoint(&self) -> String {
        format!("http://{}/v1/metrics", self.receiver.address(0))
    }

    /// Where the gateway has to push to over gRPC.
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.receiver.address(1))
    }

    /// Every point of a metric, as it came.
    pub fn received(&self, metric: &str) -> Vec<Point> {
        self.points(RECEIVED, metric)
    }

    /// Every point of a metric after its deltas were added up.
    pub fn added_up(&self, metric: &str) -> Vec<Point> {
        self.points(ADDED_UP, metric)
    }

    /// The sum over the last values of all series of a metric that have these attributes.
    pub fn total(&self, metric: &str, attributes: &[(&str, &str)]) -> f64 {
        total(self.received(metric), attributes)
    }

    /// Waits until the first export has arrived.
    pub fn wait_for(&self, metric: &str) {
        eventually(&format!("{metric} is in the Collector"), || (!self.received(metric).is_empty()).then_some(()));
    }

    fn points(&self, file: &str, metric: &str) -> Vec<Point> {
        let text = fs::read_to_string(self.receiver.folder().join(file)).unwrap_or_default();
        // The last line may be on its way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let points = whole.lines().flat_map(|line| from_json(&serde_json::from_str(line).unwrap()));
        points.filter(|point| point.metric == metric).collect()
    }
}

/// The sum over the last values of all series that have these attributes.
pub fn total(points: Vec<Point>, attributes: &[(&str, &str)]) -> f64 {
    let has = |point: &Point, (key, value): (&str, &str)| point.attributes.get(key).is_some_and(|own| own == value);
    let mut last: Vec<Point> = Vec::new();
    for point in points.into_iter().filter(|point| attributes.iter().all(|pair| has(point, *pair))) {
        assert_eq!(point.temporality, CUMULATIVE, "there is no last value of deltas: {point:?}");
        match last.iter_mut().find(|other| other.is_of_same_series(&point)) {
            Some(other) if other.time < point.time => *other = point,
            Some(_) => {}
            None => last.push(point),
        }
    }
    last.iter().map(|point| point.value).sum()
}
