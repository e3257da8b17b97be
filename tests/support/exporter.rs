//! An exporter on a thread of its own, with its reports and its log.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, task::LocalSet};
use tollgate::{
    config::{Destination, OtlpEndpoint, Protocol, Telemetry},
    export::{Exporter, Report},
    telemetry::{Aggregations, Registry, Temporality},
};
use tracing_subscriber::fmt::MakeWriter;

/// A configuration with short times; tests change what they are about.
pub(crate) fn telemetry(to: SocketAddr) -> Telemetry {
    Telemetry {
        destinations: vec![destination(to)],
        console: false,
        prometheus: false,
        interval: Duration::from_millis(50),
        aggregations: Aggregations::default(),
        max_series: 2_000,
        resource: vec![
            ("service.name".to_owned(), "tollgate".to_owned()),
            ("service.instance.id".to_owned(), "one".to_owned()),
            ("service.version".to_owned(), "0.1.0".to_owned()),
        ],
    }
}

/// One receiver at this address.
pub(crate) fn destination(to: SocketAddr) -> Destination {
    Destination {
        name: "otlp".to_owned(),
        endpoint: OtlpEndpoint {
            tls: false,
            host: to.ip().to_string(),
            port: to.port(),
            target: "/api/v1/otlp/v1/metrics".to_owned(),
            source: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT".to_owned(),
        },
        protocol: Protocol::HttpProtobuf,
        headers: Vec::new(),
        gzip: false,
        temporality: Temporality::Cumulative,
        timeout: Some(Duration::from_secs(10)),
        interval: Duration::from_millis(50),
        export_timeout: Some(Duration::from_secs(30)),
        max_request_bytes: 4 << 20,
        max_response_bytes: 64 << 10,
        certificate: None,
        client_certificate: None,
    }
}

/// A running exporter.
pub(crate) struct Running {
    shutdown: oneshot::Sender<()>,
    reports: mpsc::Receiver<Report>,
    thread: JoinHandle<()>,
    log: Log,
}

impl Running {
    /// Starts one.
    pub(crate) fn start(registry: &Arc<Registry>, telemetry: &Telemetry) -> Self {
        let (shutdown, stopped) = oneshot::channel::<()>();
        let (sender, reports) = mpsc::channel();
        let log = Log::default();
        // What the registry holds now is what receivers see first.
        let exporter = Exporter::new(Arc::clone(registry), telemetry).unwrap();
        let writer = log.clone();
        let thread = std::thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_writer(writer)
                .with_ansi(false)
                .with_target(false)
                .without_time()
                .with_max_level(tracing::Level::INFO)
                .finish();
            let _guard = tracing::subscriber::set_default(subscriber);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let observe = move |_: &Registry, report: &Report| {
                // A test that has seen enough no longer listens.
                let _unheard = sender.send(report.clone()).is_err();
            };
            LocalSet::new().block_on(&runtime, exporter.run(async { drop(stopped.await) }, observe));
        });
        Self { shutdown, reports, thread, log }
    }

    /// The next report.
    pub(crate) fn report(&self) -> Report {
        self.reports.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    /// Skips reports until one is as wanted.
    pub(crate) fn report_where(&self, wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let report = self.report();
            if wanted(&report) {
                return report;
            }
            assert!(Instant::now() < deadline, "no such report; the last one is {report:?}");
        }
    }

    /// Shuts it down; returns how long that took, the reports nobody has read, and the log.
    pub(crate) fn stop(self) -> (Duration, Vec<Report>, Vec<String>) {
        let start = Instant::now();
        drop(self.shutdown);
        self.thread.join().unwrap();
        (start.elapsed(), self.reports.try_iter().collect(), self.log.lines())
    }
}

/// Log lines in memory.
#[derive(Clone, Default)]
struct Log {
    written: Arc<Mutex<Vec<u8>>>,
}

impl Log {
    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.written.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
