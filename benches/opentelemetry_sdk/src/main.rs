//! The OpenTelemetry SDK for Rust, measured as `benches/telemetry` measures tollgate's registry.
//!
//! Reads a workload from standard input, does one round, prints the figures as JSON. The SDK is used as its documentation
//! recommends: instruments are made once, attributes are prepared before they are used.

#[path = "../../telemetry/timing.rs"]
mod timing;
#[path = "../../telemetry/workload.rs"]
mod workload;

mod instruments;

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Instrument, InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream, Temporality,
};
use prost::Message;

use instruments::{Bound, Call, Instruments};
use workload::{DURATIONS, Figures, Series, Workload};

fn main() -> Result<(), Box<dyn Error>> {
    let workload: Workload = serde_json::from_reader(std::io::stdin())?;
    let mut figures = recording(&workload);
    for (series, all) in &workload.exports {
        figures.extend(exporting(&workload, *series, all)?);
    }
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// Nanoseconds of everything that happens on the path of a request.
fn recording(workload: &Workload) -> Figures {
    let (_provider, _, instruments) = start(workload);
    let durations: Vec<f64> = workload::durations().iter().map(|nanos| *nanos as f64 * 1e-9).collect();
    let duration = |turn: usize| durations[turn % DURATIONS];
    let (one, two) = (timing::alone(|_| ()), timing::together(|_, _| ()));
    let lookup = |turn| {
        black_box(duration(turn));
    };
    let (one_lookup, two_lookup) = (timing::alone(lookup), timing::together(|_, turn| lookup(turn)));
    let [counters, histograms] =
        [&workload.counters, &workload.histograms].map(|of| of.each_ref().map(|series| instruments.call(series)));
    let mut figures = Figures::from([("loop".to_owned(), one)]);
    let mut note = |name: &str, value: f64| figures.insert(name.to_owned(), value);
    note("counter", timing::alone(|_| counters[0].record(black_box(1.0))) - one);
    note("counter.same", timing::together(|_, _| counters[0].record(black_box(1.0))) - two);
    note("counter.apart", timing::together(|thread, _| counters[thread].record(black_box(1.0))) - two);
    note("histogram", timing::alone(|turn| histograms[0].record(duration(turn))) - one_lookup);
    note("histogram.same", timing::together(|_, turn| histograms[0].record(duration(turn))) - two_lookup);
    note("histogram.apart", timing::together(|thread, turn| histograms[thread].record(duration(turn))) - two_lookup);
    let [counters, histograms] = [counters, histograms].map(|calls| calls.map(|call| call.bind()));
    note("bound.counter", timing::alone(|_| counters[0].record(black_box(1.0))) - one);
    note("bound.counter.same", timing::together(|_, _| counters[0].record(black_box(1.0))) - two);
    note("bound.counter.apart", timing::together(|thread, _| counters[thread].record(black_box(1.0))) - two);
    note("bound.histogram", timing::alone(|turn| histograms[0].record(duration(turn))) - one_lookup);
    note("bound.histogram.same", timing::together(|_, turn| histograms[0].record(duration(turn))) - two_lookup);
    note("bound.histogram.apart", timing::together(|at, turn| histograms[at].record(duration(turn))) - two_lookup);
    for (name, series) in &workload.requests {
        let calls: Vec<(Call, &[f64])> =
            series.iter().map(|series| (instruments.call(series), &*series.values)).collect();
        let bound: Vec<(Bound, &[f64])> = calls.iter().map(|(call, values)| (call.bind(), *values)).collect();
        note(name, timing::alone(|_| each(&calls, Call::record)) - one);
        note(&format!("bound.{name}"), timing::alone(|_| each(&bound, Bound::record)) - one);
    }
    figures
}

fn each<T>(calls: &[(T, &[f64])], record: impl Fn(&T, f64)) {
    for (call, values) in calls {
        for value in *values {
            record(call, *value);
        }
    }
}

/// Milliseconds and bytes of an export of so many series.
fn exporting(workload: &Workload, number: usize, series: &[Series]) -> Result<Figures, Box<dyn Error>> {
    let (_provider, reader, instruments) = start(workload);
    for series in series {
        let call = instruments.call(series);
        series.values.iter().for_each(|value| call.record(*value));
    }
    let collect = || {
        let mut metrics = ResourceMetrics::default();
        reader.collect(&mut metrics).map(|()| metrics)
    };
    let metrics = collect()?;
    let request = ExportMetricsServiceRequest::from(&metrics);
    let found = points(&request);
    if found != number {
        return Err(format!("the SDK exports {found} series instead of {number}").into());
    }
    let times = if number > 10_000 { 7 } else { 25 };
    let encode = |metrics: &ResourceMetrics| ExportMetricsServiceRequest::from(metrics).encode_to_vec();
    let figures = [
        ("snapshot", timing::slow(times, collect)),
        ("encode", timing::slow(times, || encode(&metrics))),
        ("export", timing::slow(times, || collect().map(|metrics| encode(&metrics)))),
        ("bytes", request.encoded_len() as f64),
    ];
    Ok(figures.into_iter().map(|(name, value)| (format!("{name}.{number}"), value)).collect())
}

fn points(request: &ExportMetricsServiceRequest) -> usize {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    let data = scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref());
    data.map(|data| match data {
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        _ => 0,
    })
    .sum()
}

/// An SDK that keeps every series, and the reader that collects from it.
fn start(workload: &Workload) -> (SdkMeterProvider, Shared, Instruments) {
    let reader = Shared(Arc::new(ManualReader::builder().with_temporality(Temporality::Cumulative).build()));
    let attributes = [("service.name", "tollgate"), ("service.instance.id", "7f1c1a0e"), ("service.version", "0.1.0")];
    let resource = Resource::builder_empty()
        .with_attributes(attributes.map(|(key, value)| opentelemetry::KeyValue::new(key, value)))
        .build();
    let provider = SdkMeterProvider::builder()
        .with_reader(reader.clone())
        .with_resource(resource)
        // The default is 2,000 for each metric, as tollgate's.
        .with_view(|_: &Instrument| Stream::builder().with_cardinality_limit(20_000).build().ok())
        .build();
    let instruments = Instruments::new(&provider, &workload.metrics);
    (provider, reader, instruments)
}

/// The provider takes its reader away; this one stays.
#[derive(Debug, Clone)]
struct Shared(Arc<ManualReader>);

impl MetricReader for Shared {
    fn register_pipeline(&self, pipeline: std::sync::Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
