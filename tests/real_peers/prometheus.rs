//! A real Prometheus that receives OTLP, and questions to it.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command};

use serde_json::Value;

use crate::{http, process::eventually, receiver::Receiver};

/// Samples reach this far back; longer than any test takes.
pub const WINDOW: &str = "1h";

/// Names what is scraped.
const TARGETS: &str = "targets.json";

pub struct Prometheus {
    receiver: Receiver,
}

/// One series with every sample of it: seconds since 1970, and the value.
#[derive(Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub samples: Vec<(f64, f64)>,
}

impl Series {
    /// The result of a query for samples over a time.
    pub fn all(result: &Value) -> Vec<Self> {
        let series = result.as_array().unwrap().iter().map(|series| Self {
            labels: serde_json::from_value(series["metric"].clone()).unwrap(),
            samples: series["values"].as_array().unwrap().iter().map(sample).collect(),
        });
        series.collect()
    }

    pub fn first(&self) -> f64 {
        self.samples[0].1
    }

    pub fn last(&self) -> f64 {
        self.samples[self.samples.len() - 1].1
    }
}

impl Prometheus {
    /// Starts one that scrapes nothing.
    pub fn start(peer: &Path) -> Self {
        Self::configured(peer, |_| "global: {}\n".to_owned())
    }

    /// Starts one that presents `token` to the targets that [`Self::scrape`] names.
    pub fn scraping(peer: &Path, token: &str) -> Self {
        let token = token.to_owned();
        Self::configured(peer, move |targets| {
            format!(
                "scrape_configs:\n- job_name: scraped\n  scrape_interval: 250ms\n  scrape_timeout: 250ms\n  \
                 authorization: {{ credentials: {token} }}\n  file_sd_configs:\n  - files: [\"{}\"]\n    \
                 refresh_interval: 250ms\n",
                targets.display()
            )
        })
    }

    /// Names the only target.
    pub fn scrape(&self, address: SocketAddr) {
        // Renamed into its place, so that it is never seen half written.
        let new = self.receiver.folder().join("targets.new");
        std::fs::write(&new, format!("[{{\"targets\": [\"{address}\"]}}]")).unwrap();
        std::fs::rename(new, self.receiver.folder().join(TARGETS)).unwrap();
    }

    fn configured(peer: &Path, content: impl Fn(&Path) -> String + 'static) -> Self {
        let program = peer.join("prometheus");
        let receiver = Receiver::start("Prometheus", "ready to receive web requests", 1, move |folder, addresses| {
            let config = folder.join("prometheus.yml");
            std::fs::write(&config, content(&folder.join(TARGETS))).unwrap();
            let mut command = Command::new(&program);
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
            command.arg(format!("--web.listen-address={}", addresses[0]));
            command.arg("--web.enable-otlp-receiver");
            command
        });
        Self { receiver }
    }

    /// Ends it, as an upgrade does.
    pub fn stop(&mut self) {
        self.receiver.stop();
    }

    /// Starts it again where it was, with what it had stored.
    pub fn restart(&mut self) {
        self.receiver.restart();
    }

    pub fn address(&self) -> &str {
        self.receiver.address(0)
    }

    /// Where the gateway has to push to.
    pub fn otlp_endpoint(&self) -> String {
        format!("http://{}/api/v1/otlp/v1/metrics", self.address())
    }

    /// Every series that `selector` selects, with all samples.
    pub fn series(&self, selector: &str) -> Vec<Series> {
        Series::all(&self.query(&format!("{selector}[{WINDOW}]"), None))
    }

    /// The sum over the last values of all series that `selector` selects.
    pub fn total(&self, selector: &str) -> f64 {
        self.series(selector).iter().map(Series::last).sum()
    }

    /// The series that `selector` selects, which has to be one.
    pub fn one(&self, selector: &str) -> Series {
        let mut series = self.series(selector);
        assert_eq!(series.len(), 1, "{selector} selects {series:#?}");
        series.remove(0)
    }

    /// What `increase()` answers at the time of the last sample. A counter that is at 0 in its first
    /// sample leaves the function nothing to extrapolate then, so the answer is exact.
    pub fn increase(&self, selector: &str) -> f64 {
        let series = self.one(selector);
        let (time, _) = series.samples[series.samples.len() - 1];
        let result = self.query(&format!("increase({selector}[{WINDOW}])"), Some(time));
        // Without two samples to compare, there is no answer, and on a dashboard a gap.
        result.get(0).map_or(0.0, |series| sample(&series["value"]).1)
    }

    /// Waits until the first export has arrived.
    pub fn wait_for(&self, selector: &str) {
        eventually(&format!("{selector} is in Prometheus"), || (!self.series(selector).is_empty()).then_some(()));
    }

    fn query(&self, query: &str, time: Option<f64>) -> Value {
        let time = time.map(|time| format!("&time={time:.3}")).unwrap_or_default();
        let target = format!("/api/v1/query?query={}{time}", http::escape(query));
        let (status, body) = http::get(self.address(), &target, "").unwrap();
        assert_eq!(status, 200, "{query}: {body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        answer["data"]["result"].take()
    }
}

/// A pair of a time and a number in quotes.
fn sample(pair: &Value) -> (f64, f64) {
    (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().parse().unwrap())
}
