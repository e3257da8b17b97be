//! Requests to build test cases from, and a client that sends them as they are.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::OnceLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message;
use tollgate::proto::opentelemetry::proto::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point::Value,
    },
    resource::v1::Resource,
};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
pub(crate) const CUMULATIVE: i32 = 2;

/// Nanoseconds since the epoch.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// When every sum of these messages began: the same time for all of them, as in one process.
pub(crate) fn start() -> u64 {
    static START: OnceLock<u64> = OnceLock::new();
    *START.get_or_init(|| now() - 5 * MINUTE)
}

pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const MINUTE: u64 = 60_000_000_000;

pub(crate) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

pub(crate) fn number(time: u64, value: f64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("tollgate.key", "a")],
        start_time_unix_nano: start(),
        time_unix_nano: time,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

pub(crate) fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

pub(crate) fn counter(name: &str, time: u64, value: f64) -> Metric {
    let data_points = vec![number(time, value)];
    metric(name, "{request}", Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true }))
}

pub(crate) fn gauge(name: &str, time: u64, value: f64) -> Metric {
    metric(name, "s", Data::Gauge(Gauge { data_points: vec![number(time, value)] }))
}

pub(crate) fn histogram(name: &str, time: u64) -> Metric {
    let point = HistogramDataPoint {
        attributes: vec![attribute("tollgate.key", "a")],
        start_time_unix_nano: start(),
        time_unix_nano: time,
        count: 6,
        sum: Some(2.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.005, 1.0],
        ..HistogramDataPoint::default()
    };
    metric(name, "s", Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: CUMULATIVE }))
}

pub(crate) fn exponential(name: &str, time: u64) -> Metric {
    let point = ExponentialHistogramDataPoint {
        start_time_unix_nano: start(),
        time_unix_nano: time,
        count: 4,
        zero_count: 1,
        scale: 3,
        positive: Some(Buckets { offset: 0, bucket_counts: vec![1, 2] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = ExponentialHistogram { data_points: vec![point], aggregation_temporality: CUMULATIVE };
    metric(name, "s", Data::ExponentialHistogram(data))
}

/// A request with these metrics under a complete resource.
pub(crate) fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let resource = Resource {
        attributes: vec![
            attribute("service.name", "tollgate"),
            attribute("service.instance.id", "one"),
            attribute("service.version", "0.1.0"),
        ],
        ..Resource::default()
    };
    let scope = ScopeMetrics {
        scope: Some(InstrumentationScope { name: "tollgate".to_owned(), ..InstrumentationScope::default() }),
        metrics,
        ..ScopeMetrics::default()
    };
    let resource_metrics =
        ResourceMetrics { resource: Some(resource), scope_metrics: vec![scope], ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }
}

/// The metrics of a request made by [`request`].
pub(crate) fn metrics(of: &mut ExportMetricsServiceRequest) -> &mut Vec<Metric> {
    &mut of.resource_metrics[0].scope_metrics[0].metrics
}

/// The points of a request whose first metric is a sum.
pub(crate) fn sum(of: &mut ExportMetricsServiceRequest) -> &mut Sum {
    let Some(Data::Sum(sum)) = &mut metrics(of)[0].data else { panic!("the first metric is no sum") };
    sum
}

/// The attributes of the first point of a sum.
pub(crate) fn attributes(of: &mut ExportMetricsServiceRequest) -> &mut Vec<KeyValue> {
    &mut sum(of).data_points[0].attributes
}

/// The first point of a request whose first metric is a histogram.
pub(crate) fn histogram_point(of: &mut ExportMetricsServiceRequest) -> &mut HistogramDataPoint {
    let Some(Data::Histogram(histogram)) = &mut metrics(of)[0].data else { panic!("the first metric is no histogram") };
    &mut histogram.data_points[0]
}

/// The first point of a request whose first metric is an exponential histogram.
pub(crate) fn exponential_point(of: &mut ExportMetricsServiceRequest) -> &mut ExponentialHistogramDataPoint {
    let Some(Data::ExponentialHistogram(histogram)) = &mut metrics(of)[0].data else { panic!("not exponential") };
    &mut histogram.data_points[0]
}

/// What an answer says: its status and text, or `None` if the connection was cut.
pub(crate) type Answer = Option<(u16, String)>;

/// Sends a message as a correct exporter would.
pub(crate) fn push(to: SocketAddr, message: &ExportMetricsServiceRequest) -> Answer {
    post(to, &[("Content-Type", "application/x-protobuf")], &message.encode_to_vec())
}

/// Posts a body with these headers to Prometheus's path.
pub(crate) fn post(to: SocketAddr, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    send(to, "POST", "/api/v1/otlp/v1/metrics", headers, body)
}

/// Sends any request on a connection of its own.
pub(crate) fn send(to: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // The receiver may hang up before it has read everything.
    let _cut = stream.write_all(body).is_err();
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).unwrap_or(0);
        answer.extend_from_slice(&chunk[..read]);
        if read == 0 || is_whole(&answer) {
            break;
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let location = head.lines().find_map(|line| line.strip_prefix("Location: "));
    Some((status, location.unwrap_or(text.trim_end()).to_owned()))
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    length.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| body.len() >= length)
}
