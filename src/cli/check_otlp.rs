//! `tollgate check --otlp`: one real export, and what its answer means.

use std::io::Write;

use tokio::task::LocalSet;

use crate::{
    config::Telemetry,
    export::{Delivery, Exporter, Report},
    telemetry::{Attribute, Gauge, Registry, catalog as metric},
};

/// Exports the process's own numbers and the version once to each receiver, without retries, and
/// explains the answers. 0 if every receiver took them, else 1.
///
/// It exports under an instance id of its own: under the gateway's, its points would be newer than
/// some that a running gateway has yet to send.
pub(crate) async fn check_otlp(telemetry: &Telemetry, out: &mut dyn Write) -> u8 {
    let mut telemetry = telemetry.clone();
    for (key, value) in &mut telemetry.resource {
        if key == "service.instance.id" {
            value.push_str("-check");
        }
    }
    if telemetry.destinations.is_empty() {
        let nothing = "otlp: nothing is exported: set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or telemetry.endpoint, and \
                       see that neither OTEL_SDK_DISABLED nor OTEL_METRICS_EXPORTER switches it off";
        return say(out, nothing, 1);
    }
    let registry = Registry::with(telemetry.max_series, telemetry.aggregations.clone());
    let version = [Attribute::text("service.version", env!("CARGO_PKG_VERSION"))];
    let build_info: Gauge = registry.gauge(&metric::BUILD_INFO, &version);
    build_info.set((), 1);
    let exporter = match Exporter::new(registry, &telemetry) {
        Ok(exporter) => exporter,
        Err(why) => return say(out, &format!("otlp: {why}"), 1),
    };
    let reports = LocalSet::new().run_until(exporter.once()).await;
    let mut code = 0;
    for (destination, report) in telemetry.destinations.iter().zip(reports) {
        let (sentence, failed) = explain(report);
        code |= say(out, &format!("{}: {sentence}", destination.name), failed);
    }
    code
}

/// What a receiver answered, and 1 if that was not what it should.
fn explain(report: Report) -> (String, u8) {
    let Report { points, elapsed, url, delivery, .. } = report;
    match delivery {
        Delivery::Accepted => {
            (format!("{} took {points} points in {} ms", url.as_deref().unwrap_or_default(), elapsed.as_millis()), 0)
        }
        Delivery::Partial { sentence, rejected, .. } => (sentence, u8::from(rejected > 0)),
        Delivery::Failed { sentence, .. } => (sentence, 1),
        Delivery::Off | Delivery::Held(_) => ("nothing was sent".to_owned(), 1),
    }
}

/// Writes a line. The exit code is all that is left to say it with when nobody reads it.
fn say(out: &mut dyn Write, line: &str, code: u8) -> u8 {
    if writeln!(out, "{line}").is_ok() { code } else { 1 }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        time::Duration,
    };

    use super::*;
    use crate::{
        config::{Destination, OtlpEndpoint, Protocol},
        telemetry::{Aggregations, Temporality},
    };

    /// Checks against a receiver that gives this answer; returns the exit code and the line.
    async fn check(answer: &'static str) -> (u8, String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let receiver = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 64 * 1024];
            while !request.windows(21).any(|window| window == b"0123456789abcdef-chec") {
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "the request ended before the instance id");
                request.extend_from_slice(&buffer[..read]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request).into_owned()
        });
        let endpoint = OtlpEndpoint {
            tls: false,
            host: "127.0.0.1".into(),
            port,
            target: "/api/v2/otlp/v1/metrics".into(),
            source: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT".into(),
        };
        let mut out = Vec::new();
        let code = check_otlp(&telemetry(Some(endpoint)), &mut out).await;
        (code, String::from_utf8(out).unwrap(), receiver.join().unwrap())
    }

    fn telemetry(endpoint: Option<OtlpEndpoint>) -> Telemetry {
        let destination = endpoint.map(|endpoint| Destination {
            name: "otlp".into(),
            endpoint,
            protocol: Protocol::HttpProtobuf,
            headers: Vec::new(),
            gzip: false,
            temporality: Temporality::Cumulative,
            timeout: Some(Duration::from_secs(10)),
            interval: Duration::from_secs(60),
            export_timeout: Some(Duration::from_secs(30)),
            max_request_bytes: 4 << 20,
            max_response_bytes: 64 << 10,
            certificate: None,
            client_certificate: None,
        });
        Telemetry {
            destinations: destination.into_iter().collect(),
            console: false,
            prometheus: false,
            interval: Duration::from_secs(60),
            aggregations: Aggregations::default(),
            max_series: 2_000,
            resource: vec![
                ("service.name".into(), "test".into()),
                ("service.instance.id".into(), "0123456789abcdef".into()),
            ],
        }
    }

    #[tokio::test]
    async fn an_accepted_export_is_exit_0() {
        let (code, line, request) = check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(code, 0, "{line}");
        assert!(line.starts_with("otlp: http://127.0.0.1:") && line.contains(" points in "), "{line}");
        assert!(request.contains("tollgate.build.info"));
    }

    #[tokio::test]
    async fn a_refused_export_is_exit_1_with_the_sentence_that_helps() {
        let (code, line, _) = check("HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n").await;
        assert_eq!(code, 1);
        assert!(line.contains("answered 404 \"404 page not found\": "), "{line}");
        assert!(line.contains("set OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://127.0.0.1:"), "{line}");
        assert!(line.ends_with("/api/v1/otlp/v1/metrics\n"), "{line}");
    }

    #[tokio::test]
    async fn nothing_to_check_is_exit_1() {
        let mut out = Vec::new();
        assert_eq!(check_otlp(&telemetry(None), &mut out).await, 1);
        assert!(String::from_utf8(out).unwrap().starts_with("otlp: nothing is exported"));
    }
}
