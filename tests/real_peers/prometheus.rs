//! A real Prometheus that receives OTLP, and questions to it.

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

use crate::{
    http,
    process::{Process, TempFolder, eventually},
};

/// Samples reach this far back; longer than any test takes.
const WINDOW: &str = "1h";

pub struct Prometheus {
    pub address: String,
    _process: Process,
    _folder: TempFolder,
}

/// One series with every sample of it: seconds since 1970, and the value.
#[derive(Debug)]
pub struct Series {
    pub labels: BTreeMap<String, String>,
    pub samples: Vec<(f64, f64)>,
}

impl Series {
    pub fn first(&self) -> f64 {
        self.samples[0].1
    }

    pub fn last(&self) -> f64 {
        self.samples[self.samples.len() - 1].1
    }
}

impl Prometheus {
    /// Starts one that scrapes nothing, on a port that the system picks.
    pub fn start(peer: &Path) -> Self {
        let folder = TempFolder::new();
        let config = folder.file("prometheus.yml", "global: {}\n");
        let mut command = Command::new(peer.join("prometheus"));
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.args(["--web.listen-address=127.0.0.1:0", "--web.enable-otlp-receiver"]);
        let mut process = Process::start("Prometheus", &mut command, &[]);
        let address = process.line("its address", |line| {
            let (_, address) = line.split_once("msg=\"Listening on\"")?.1.split_once("address=")?;
            Some(address.trim().to_owned())
        });
        process.line("that it is ready", |line| line.contains("ready to receive web requests").then_some(()));
        Self { address, _process: process, _folder: folder }
    }

    /// Where the gateway has to push to.
    pub fn otlp_endpoint(&self) -> String {
        format!("http://{}/api/v1/otlp/v1/metrics", self.address)
    }

    /// Every series that `selector` selects, with all samples.
    pub fn series(&self, selector: &str) -> Vec<Series> {
        let result = self.query(&format!("{selector}[{WINDOW}]"), None);
        let series = result.as_array().unwrap().iter().map(|series| Series {
            labels: serde_json::from_value(series["metric"].clone()).unwrap(),
            samples: series["values"].as_array().unwrap().iter().map(sample).collect(),
        });
        series.collect()
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
        let (status, body) = http::get(&self.address, &target, "").unwrap();
        assert_eq!(status, 200, "{query}: {body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap();
        answer["data"]["result"].take()
    }
}

/// A pair of a time and a number in quotes.
fn sample(pair: &Value) -> (f64, f64) {
    (pair[0].as_f64().unwrap(), pair[1].as_str().unwrap().parse().unwrap())
}
