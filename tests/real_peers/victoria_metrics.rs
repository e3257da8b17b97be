//! A real VictoriaMetrics that receives OTLP, and questions to it.

use std::{path::Path, process::Command, time::UNIX_EPOCH};

use serde_json::Value;

use crate::{
    http,
    process::eventually,
    prometheus::{Series, WINDOW},
    receiver::Receiver,
};

pub struct VictoriaMetrics {
    receiver: Receiver,
}

impl VictoriaMetrics {
    /// Starts one that names metrics as Prometheus does and listens for nothing but HTTP.
    pub fn start(peer: &Path) -> Self {
        Self::run(peer, &["-opentelemetry.usePrometheusNaming"])
    }

    /// Starts one that keeps names as they were sent.
    pub fn start_with_names_as_sent(peer: &Path) -> Self {
        Self::run(peer, &[])
    }

    fn run(peer: &Path, naming: &'static [&'static str]) -> Self {
        let program = peer.join("victoria-metrics");
        let receiver = Receiver::start("VictoriaMetrics", "started server at", 1, move |folder, addresses| {
            let mut command = Command::new(&program);
            command.arg(format!("-storageDataPath={}", folder.join("data").display()));
            command.arg(format!("-httpListenAddr={}", addresses[0]));
            command.arg("-memory.allowedBytes=64MB").args(naming);
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

    /// Where the gateway has to push to.
    pub fn otlp_endpoint(&self) -> String {
        format!("http://{}/opentelemetry/v1/metrics", self.receiver.address(0))
    }

    /// Every series that `selector` selects, with all samples.
    pub fn series(&self, selector: &str) -> Vec<Series> {
        // What it has taken can be asked for a second later, or after this.
        self.get("/internal/force_flush");
        let query = http::escape(&format!("{selector}[{WINDOW}]"));
        // Without a time, it rounds down to the second and leaves out what came since.
        let soon = UNIX_EPOCH.elapsed().unwrap().as_secs() + 1;
        let answer = self.get(&format!("/api/v1/query?query={query}&time={soon}"));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        Series::all(&answer["data"]["result"])
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

    /// Waits until the first export has arrived.
    pub fn wait_for(&self, selector: &str) {
        eventually(&format!("{selector} is in VictoriaMetrics"), || (!self.series(selector).is_empty()).then_some(()));
    }

    fn get(&self, target: &str) -> String {
        let (status, body) = http::get(self.receiver.address(0), target, "").unwrap();
        assert_eq!(status, 200, "{target}: {body}");
        body
    }
}
