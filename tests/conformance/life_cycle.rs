//! Cases 38 to 45: pace, end, trouble and restart. Case 43 needs real receivers and stands with them.

use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    time::{Duration, Instant},
};

use tollgate::{
    export::Delivery,
    telemetry::{Counter, Histogram, Registry, catalog},
};

use super::shared::{
    Capture, Fault, Program, RETRIES, Receiver, Running, Version, eventually, registry, start, telemetry,
};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
const INTERVAL: &str = "OTEL_METRIC_EXPORT_INTERVAL";
const REFUSED: (&str, &[(&str, &str)]) = ("tollgate_errors_total", &[("error_type", "client_missing_key")]);

#[test]
fn case_38_one_export_at_a_time_and_none_is_queued() {
    let (receiver, registry, _counter, mut telemetry) = start();
    telemetry.destinations[0].interval = Duration::from_millis(100);
    let running = Running::start(&registry, &telemetry);
    receiver.wait_for_stored(4);
    let at: Vec<Instant> = receiver.requests().iter().map(|request| request.at).collect();
    // From start to start; the first comes at once, on whatever side of a tick that is.
    let average = (at[3] - at[1]) / 2;
    assert!(average >= Duration::from_millis(70) && average < Duration::from_millis(300), "{average:?}");

    receiver.always(Fault::Slow(Duration::from_millis(250)));
    let before = receiver.requests().len();
    let begun = Instant::now();
    receiver.wait_for_stored(before + 4);
    assert!(begun.elapsed() >= Duration::from_millis(3 * 250), "{:?}", begun.elapsed());
    receiver.always(None);
    let healed = receiver.requests().len();
    std::thread::sleep(Duration::from_millis(250));
    // One that was under way and those of these ticks, none for the ticks that were missed.
    assert!(receiver.requests().len() <= healed + 5, "{}", receiver.requests().len() - healed);
    assert_eq!(receiver.in_flight_max(), 1);
    running.stop();
}

#[test]
fn case_39_the_last_increments_arrive_and_a_dead_receiver_delays_the_end_little() {
    let receiver = Receiver::start(Version::V3_14);
    let mut program = Program::start(&[(ENDPOINT, &receiver.url()), (INTERVAL, "3600000")]);
    receiver.wait_for_stored(1);
    program.refused_chat();
    program.signal();
    let (status, took) = program.end();
    assert!(status.success() && took < Duration::from_secs(3), "{status} {took:?}");
    assert_eq!(receiver.value(REFUSED.0, REFUSED.1), 1.0);

    let hanging = Receiver::start(Version::V3_14);
    hanging.always(Fault::Hang);
    let mut program = Program::start(&[(ENDPOINT, &hanging.url()), (INTERVAL, "3600000")]);
    hanging.wait_for_request_in_flight();
    program.signal();
    let (status, took) = program.end();
    assert!(status.success() && took < Duration::from_secs(6), "{status} {took:?}");

    let mut program = Program::start(&[(ENDPOINT, &hanging.url()), (INTERVAL, "3600000")]);
    eventually("a request in flight", || (hanging.connections() > 1).then_some(()));
    program.signal();
    eventually("the beginning of the end", || program.log().contains("shut").then_some(()));
    program.signal();
    let (_, took) = program.end();
    assert!(took < Duration::from_secs(1), "a second signal ends it at once: {took:?}");
}

#[test]
fn case_40_a_black_hole_costs_no_memory_and_no_data() {
    let receiver = Receiver::start(Version::V3_14);
    receiver.always(Fault::Hang);
    let timeout = ("OTEL_EXPORTER_OTLP_TIMEOUT", "30");
    let mut program = Program::start(&[(ENDPOINT, &receiver.url()), (INTERVAL, "50"), timeout]);
    for _ in 0..50 {
        program.refused_chat();
    }
    receiver.wait_for_requests(5);
    let before = program.memory();
    for _ in 0..200 {
        program.refused_chat();
    }
    let tried = receiver.requests().len();
    receiver.wait_for_requests(tried + 20);
    let grown = program.memory().saturating_sub(before);
    assert!(grown <= 1 << 20, "{grown} bytes");
    receiver.always(None);
    receiver.wait_for_stored(1);
    program.signal();
    program.end();
    assert_eq!(receiver.value(REFUSED.0, REFUSED.1), 250.0);
}

#[test]
fn case_41_recording_allocates_nothing() {
    let registry = Registry::new();
    let counter: Counter = registry.counter(&catalog::RETRIES, &[]);
    let histogram: Histogram = registry.histogram(&catalog::OVERHEAD, &[]);
    counter.create(());
    histogram.create(());
    let record = || {
        for value in 0..1_000 {
            counter.add((), value);
            histogram.record((), value);
            histogram.record_duration((), Duration::from_nanos(value));
        }
    };
    let counted = allocation_counter::measure(record);
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "{counted:?}");
    // That the measure measures: what is new is allocated.
    let fresh = allocation_counter::measure(|| registry.counter::<()>(&catalog::FALLBACKS, &[]).create(()));
    assert!(fresh.count_total > 0);
}

#[test]
fn case_42_a_restart_begins_new_series() {
    let receiver = Receiver::start(Version::V3_14);
    for _ in 0..2 {
        let stored = receiver.requests().len();
        let mut program = Program::start(&[(ENDPOINT, &receiver.url()), (INTERVAL, "3600000")]);
        receiver.wait_for_stored(stored + 1);
        program.refused_chat();
        program.signal();
        program.end();
    }
    // Two instances, each from 0 to 1: what increase() needs.
    let series: Vec<_> = receiver
        .series()
        .into_iter()
        .filter(|labels| labels["__name__"] == "tollgate_connections_accepted_total")
        .collect();
    assert_eq!(series.len(), 2, "{series:#?}");
    assert_ne!(series[0]["instance"], series[1]["instance"]);
    for labels in &series {
        let samples = receiver.samples(REFUSED.0, &[REFUSED.1[0], ("instance", &labels["instance"])]);
        let values: Vec<f64> = samples.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [0.0, 1.0]);
    }
    let starts: Vec<u64> = receiver
        .requests()
        .iter()
        .map(|request| {
            let message = request.message.as_ref().unwrap();
            let metrics = message.resource_metrics.iter().flat_map(|of| &of.scope_metrics).flat_map(|of| &of.metrics);
            let errors = metrics.filter(|metric| metric.name == "tollgate.errors");
            errors.map(start_of).next().unwrap()
        })
        .collect();
    assert!(starts[0] == starts[1] && starts[1] < starts[2] && starts[2] == starts[3], "{starts:?}");
}

fn start_of(metric: &tollgate::proto::opentelemetry::proto::metrics::v1::Metric) -> u64 {
    use tollgate::proto::opentelemetry::proto::metrics::v1::metric::Data;
    let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?}") };
    sum.data_points[0].start_time_unix_nano
}

#[test]
fn case_44_the_exporter_counts_itself_once_per_export() {
    const EXPORTED: &str = "otel_sdk_exporter_metric_data_point_exported_total";
    let (receiver, registry, _counter, mut telemetry) = start();
    telemetry.destinations[0].interval = Duration::from_millis(500);
    receiver.script([Fault::status(503, "").header("Retry-After", "0"), Fault::status(400, "no")]);
    let running = Running::start(&registry, &telemetry);
    let reports: Vec<_> = std::iter::repeat_with(|| running.report()).take(4).collect();
    running.stop();
    let well = reports.iter().filter(|report| report.delivery == Delivery::Accepted);
    let (mut points, mut exports) = (0, 0);
    for report in well {
        points += report.points;
        exports += 1;
    }
    // The last export of all tells of those before it.
    assert_eq!(receiver.value(EXPORTED, &[]) - receiver.value(EXPORTED, &[("error_type", "400")]), points as f64);
    let duration = "otel_sdk_exporter_operation_duration_seconds_count";
    let failed = receiver.value(duration, &[("error_type", "400")]);
    assert_eq!((receiver.value(duration, &[]) - failed, failed), (f64::from(exports), 1.0));
    assert_eq!(receiver.value("otel_sdk_exporter_metric_data_point_inflight", &[]), 0.0, "nothing was under way");
    assert!(reports.iter().any(|report| report.attempts == 2));
}

#[test]
fn case_45_a_name_is_looked_up_for_every_connection() {
    let (registry, counter) = registry();
    let first = Receiver::start(Version::V3_14);
    let port = first.address().port();
    let mut telemetry = telemetry(first.address());
    "localhost".clone_into(&mut telemetry.destinations[0].endpoint.host);
    let running = Running::start(&registry, &telemetry);
    first.wait_for_stored(1);
    first.refuse_connections();
    running.report_where(|report| matches!(report.delivery, Delivery::Failed { .. }));
    // The same name, another of its addresses, as after a change of its records.
    let names: Vec<SocketAddr> = ("localhost", port).to_socket_addrs().unwrap().collect();
    let moved = names.iter().find(|address| address.is_ipv6()).and_then(|address| TcpListener::bind(address).ok());
    match moved {
        Some(listener) => {
            listener.set_nonblocking(true).unwrap();
            let taken = eventually("a connection over IPv6", || listener.accept().ok());
            assert!(taken.1.is_ipv6());
        }
        // Here localhost is no name of an IPv6 address: the old one comes back.
        None => {
            first.listen();
            counter.add((), 1);
            running.report_where(|report| report.delivery == Delivery::Accepted);
            assert_eq!(first.value(RETRIES, &[]), 1.0);
        }
    }
    running.stop();

    // Proxies are none of an exporter's business: these variables belong to others.
    let capture = Capture::start(None, Vec::new());
    let direct = format!("http://{}/v1/metrics", capture.address());
    let nowhere = "http://127.0.0.1:9";
    let mut program = Program::start(&[
        (ENDPOINT, &direct),
        ("HTTP_PROXY", nowhere),
        ("http_proxy", nowhere),
        ("ALL_PROXY", nowhere),
    ]);
    capture.request();
    program.signal();
    assert!(program.end().0.success());
}

#[test]
fn an_exporter_that_is_off_costs_no_snapshot() {
    let registry = Registry::new();
    let mut telemetry = telemetry("127.0.0.1:9".parse().unwrap());
    telemetry.destinations.clear();
    let running = Running::start(&registry, &telemetry);
    let report = running.report();
    assert_eq!((report.attempts, report.delivery), (0, Delivery::Off));
    running.stop();
}
