//! Cases 1 to 10: what the environment asks for.

use std::net::TcpListener;

use tollgate::{
    config::Protocol,
    export::{Delivery, ErrorType},
};

use super::shared::{
    Capture, Program, Receiver, Running, Version, destination, eventually, failed, load, registry, telemetry, url,
};
use crate::support::{grpc::GrpcReceiver, tls::Authority};

const METRICS: &str = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT";
const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_METRICS_HEADERS";
const BASE_HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";

#[test]
fn case_01_an_endpoint_for_metrics_is_used_as_it_is() {
    for (given, used) in [
        ("http://p:9090/api/v1/otlp/v1/metrics", "http://p:9090/api/v1/otlp/v1/metrics"),
        ("http://h:4318", "http://h:4318/"),
        ("http://h:4318/x/", "http://h:4318/x/"),
        ("https://h/x?token=1", "https://h:443/x?token=1"),
    ] {
        assert_eq!(url(&[(METRICS, given), (BASE, "http://other:1/base")]), used);
    }
}

#[test]
fn case_02_a_base_endpoint_gets_the_path_of_metrics() {
    for (given, used) in [
        ("http://h:4318", "http://h:4318/v1/metrics"),
        ("http://h:4318/", "http://h:4318/v1/metrics"),
        ("http://h:4318/base", "http://h:4318/base/v1/metrics"),
        ("http://h:4318/base/", "http://h:4318/base/v1/metrics"),
    ] {
        assert_eq!(url(&[(BASE, given)]), used);
    }
}

#[test]
fn case_03_an_empty_variable_is_as_good_as_none() {
    const NAMES: [&str; 37] = [
        "OTEL_SDK_DISABLED",
        "OTEL_METRICS_EXPORTER",
        "OTEL_SERVICE_NAME",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_METRIC_EXPORT_TIMEOUT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_INSECURE",
        "OTEL_EXPORTER_OTLP_METRICS_INSECURE",
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "OTEL_EXPORTER_PROMETHEUS_HOST",
        "OTEL_EXPORTER_PROMETHEUS_PORT",
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "OTEL_TRACES_EXPORTER",
        "OTEL_LOGS_EXPORTER",
        "OTEL_ENDPOINT",
        "OTEL_HEADERS",
        "OTEL_EXPORTER",
        "OTEL_CONFIG_FILE",
        "OTEL_LOG_LEVEL",
        "OTEL_PROPAGATORS",
    ];
    let shown = |environment: &[(&str, &str)]| {
        let loaded = load(environment);
        // Every process has an identity of its own.
        let settings = loaded.settings.into_iter().filter(|setting| !setting.value.contains("service.instance.id"));
        (settings.collect::<Vec<_>>(), loaded.warnings)
    };
    let unset = shown(&[]);
    for name in NAMES {
        assert_eq!(shown(&[(name, "")]), unset, "{name}");
    }
    assert_eq!(shown(&NAMES.map(|name| (name, ""))), unset);
}

#[test]
fn case_04_bad_numbers_and_names_warn_with_the_value_and_what_is_used() {
    for (name, value, setting, used) in [
        ("OTEL_METRIC_EXPORT_INTERVAL", "-5", "interval", "60s"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "soon", "interval", "60s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "timeout", "10s"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "1e3", "export_timeout", "30s"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "thrift", "protocol", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli", "compression", "none"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "often", "temporality", "cumulative"),
    ] {
        let loaded = load(&[(name, value)]);
        let is = loaded.settings.iter().find(|of| of.name == setting).unwrap();
        assert_eq!(is.value, used, "{name}");
        let [warning] = &loaded.warnings[..] else { panic!("{name}: {:?}", loaded.warnings) };
        assert!(warning.contains(&format!("{name}=\"{value}\"")), "{warning}");
        assert!(warning.ends_with(&format!("; {used} is used")), "{warning}");
    }
    let endless = destination(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "0"), ("OTEL_METRIC_EXPORT_TIMEOUT", "0")]);
    assert_eq!((endless.timeout, endless.export_timeout), (None, None));
}

#[test]
fn case_05_headers_are_pairs_and_never_shown() {
    for (value, expected) in [
        ("api-key=one,x-tenant=two", &[("api-key", "one"), ("x-tenant", "two")][..]),
        ("authorization=Basic%20YTpi%3D", &[("authorization", "Basic YTpi=")]),
        ("a=b=c==", &[("a", "b=c==")]),
        (" a = b , c=d ", &[("a", "b"), ("c", "d")]),
        ("a=1,A=2", &[("a", "2")]),
        ("a=1,nonsense,=2,b=3", &[("a", "1"), ("b", "3")]),
    ] {
        let headers = destination(&[(HEADERS, value), (BASE_HEADERS, "general=1")]).headers;
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(headers, expected, "{value}");
    }
    let loaded = load(&[(HEADERS, "authorization=canary-1,canary-2 nonsense,x=%zzcanary-3")]);
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(!format!("{loaded:?}").contains("canary"), "{loaded:?}");
}

#[test]
fn case_06_the_service_name_and_the_resource() {
    let resource = |environment: &[(&str, &str)], name: &str| {
        let resource = load(environment).config.telemetry.resource;
        resource.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    };
    let some = |value: &str| Some(value.to_owned());
    let both = [("OTEL_SERVICE_NAME", "one"), (RESOURCE, "service.name=two,team=a%2Cb")];
    assert_eq!(resource(&both, "service.name"), some("one"));
    assert_eq!(resource(&both, "team"), some("a,b"));
    assert_eq!(resource(&both[1..], "service.name"), some("two"));
    for malformed in ["service.name=two,nonsense", "service.name=two,a=%zz", "service.name=two,a=%e4"] {
        assert_eq!(resource(&[(RESOURCE, malformed)], "service.name"), some("tollgate"), "{malformed}");
        assert_eq!(load(&[(RESOURCE, malformed)]).warnings.len(), 1, "{malformed}");
    }
}

#[test]
fn case_07_what_is_switched_off_opens_no_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_METRICS_EXPORTER", "none")] {
        let mut program = Program::start(&[off, (BASE, &url), ("OTEL_METRIC_EXPORT_INTERVAL", "10")]);
        let listening = program.open("socket:");
        program.refused_chat();
        // The client's own connection may be seen for a moment after its end.
        eventually("as many sockets as before", || (program.open("socket:") == listening).then_some(()));
        program.signal();
        assert!(program.end().0.success());
        assert!(listener.accept().is_err(), "{off:?}");
    }
}

#[test]
fn case_08_names_are_read_in_any_case() {
    let settings = load(&[
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "Base2_Exponential_Bucket_Histogram"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZIP"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "Http/Json"),
        ("OTEL_METRICS_EXPORTER", "OTLP,Console"),
        ("OTEL_SDK_DISABLED", "False"),
    ]);
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    let telemetry = settings.config.telemetry;
    let [receiver] = &telemetry.destinations[..] else { panic!("{telemetry:?}") };
    assert!(receiver.gzip && telemetry.console && telemetry.aggregations.exponential);
    assert_eq!((receiver.protocol, receiver.temporality.as_str()), (Protocol::HttpJson, "delta"));
}

#[test]
fn case_09_private_authorities_and_client_certificates() {
    let folder = std::env::temp_dir().join(format!("tollgate-conformance-tls-{}", std::process::id()));
    let (ours, other) = (Authority::new(&folder, "ours"), Authority::new(&folder, "other"));
    let receiver = Capture::start(Some(ours.server(&["http/1.1"], Some(&ours))), Vec::new());
    let export = |roots: &Authority, identity: Option<&Authority>| {
        let mut telemetry = telemetry(receiver.address());
        let destination = &mut telemetry.destinations[0];
        "localhost".clone_into(&mut destination.endpoint.host);
        destination.endpoint.tls = true;
        destination.certificate = Some(roots.file());
        destination.client_certificate = identity.map(Authority::client);
        let running = Running::start(&registry().0, &telemetry);
        let report = running.report();
        running.stop();
        report
    };
    for (roots, identity) in [(&other, Some(&ours)), (&ours, None), (&ours, Some(&other))] {
        assert_eq!(*failed(&export(roots, identity)).0, ErrorType::Connect);
        assert!(!receiver.has_more(), "fails closed");
    }
    assert_eq!(export(&ours, Some(&ours)).delivery, Delivery::Accepted);
    assert!(receiver.has_more());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn case_10_grpc_is_spoken_or_says_that_the_port_does_not_speak_it() {
    let (registry, _counter) = registry();
    let right = GrpcReceiver::start();
    let wrong = Receiver::start(Version::V3_14);
    for (address, works) in [(right.address(), true), (wrong.address(), false)] {
        let mut telemetry = telemetry(address);
        telemetry.destinations[0].protocol = Protocol::Grpc;
        let running = Running::start(&registry, &telemetry);
        let report = running.report();
        running.stop();
        assert_eq!(report.delivery == Delivery::Accepted, works, "{report:?}");
        assert!(works || failed(&report).1.contains("http/protobuf"), "{report:?}");
    }
}
