//! Where metrics go and what they carry: the environment first, then the file, then the defaults
//! of the specification. Every setting knows where it came from.

use std::collections::HashSet;

use toml::Spanned;

use super::{
    Destination, Telemetry,
    destination::{Pace, Picker, Written},
    endpoint, file,
    otel_env::{Exporters, OtelEnv},
    problem::did_you_mean,
    resolve::Resolve,
    resource,
};
use crate::telemetry::{
    Aggregations,
    catalog::{CATALOG, Descriptor, Kind},
    registry::SERIES_MAX,
};

/// One effective setting, for `tollgate check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The receiver it is about; empty for what concerns all of them.
    pub of: String,
    pub name: &'static str,
    /// Safe to show.
    pub value: String,
    pub source: String,
}

pub(super) type Settings = Vec<Setting>;

impl Setting {
    pub(super) fn of(of: &str, name: &'static str, value: String, source: &str) -> Self {
        Self { of: of.to_owned(), name, value, source: source.to_owned() }
    }

    pub(super) fn general(name: &'static str, value: String, source: &str) -> Self {
        Self::of("", name, value, source)
    }
}

/// The name of the receiver that `[telemetry]` itself describes.
const OWN: &str = "otlp";

/// OTLP's limit for a request.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// Largest request, unless said otherwise. Prometheus reads 32 MiB, the specification allows 64; the
/// smallest limit that is common on the way is gRPC's 4 MiB for a message.
pub(super) const REQUEST_BYTES: usize = 4 << 20;

/// What is read of an answer: a receiver has at most a partial success to tell.
pub(super) const RESPONSE_BYTES: usize = 64 << 10;

/// Most receivers: each has a connection and a reading of its own.
const DESTINATIONS_MAX: usize = 8;

/// Most buckets that an operator may ask for, the same as of an exponential histogram.
const BUCKETS_MAX: usize = 160;

/// Resolves `[telemetry]` under the environment.
pub(super) fn resolve(
    file: &file::Telemetry,
    env: &mut OtelEnv<'_>,
    resolve: &mut Resolve<'_, '_>,
    settings: &mut Settings,
) -> Telemetry {
    let exporters = exporters(file, env, resolve, settings);
    let own = own(file);
    let mut destinations = Vec::new();
    let mut picker = Picker { written: &own, name: OWN, env: Some(env), resolve, settings };
    let pace = picker.pace(Pace::DEFAULT);
    // What is written is checked also when it is switched off; then nobody is told of it.
    let before = picker.settings.len();
    destinations.extend(picker.destination(pace, file.export.is_empty()));
    if destinations.is_empty() {
        // It is no receiver itself; its pace is that of the others.
        settings.retain(|setting| setting.of != OWN || setting.name != "protocol");
        settings.iter_mut().filter(|setting| setting.of == OWN).for_each(|setting| setting.of.clear());
    }
    destinations.extend(exports(&file.export, pace, resolve, settings));
    if !exporters.otlp {
        destinations.clear();
        settings.truncate(before);
    }
    if destinations.len() > DESTINATIONS_MAX
        && let Some(export) = file.export.last()
    {
        let message = format!("there are {} receivers; {DESTINATIONS_MAX} are possible", destinations.len());
        resolve.problems.add(export.span(), message);
    }
    warn_of_twins(&destinations, resolve);
    let request_bytes =
        resolve.size_within(file.max_request_bytes.as_ref(), REQUEST_BYTES, 64 << 10..=REQUEST_BYTES_MAX);
    let response_bytes = resolve.size_within(file.max_response_bytes.as_ref(), RESPONSE_BYTES, 1 << 10..=1 << 20);
    for destination in &mut destinations {
        destination.max_request_bytes = request_bytes;
        destination.max_response_bytes = response_bytes;
    }
    let aggregations = aggregations(file, env, resolve, settings);
    let max_series = resolve.count("max_series", file.max_series.as_ref(), SERIES_MAX, 100..=100_000);
    let resource = resource::resolve(file, env, settings);
    Telemetry {
        destinations,
        console: exporters.console,
        prometheus: exporters.prometheus,
        interval: pace.interval,
        aggregations,
        max_series,
        resource,
    }
}

/// What metrics go to at all.
fn exporters(
    file: &file::Telemetry,
    env: &mut OtelEnv<'_>,
    resolve: &mut Resolve<'_, '_>,
    settings: &mut Settings,
) -> Exporters {
    let found = env.exporters();
    let in_file = file.exporters.as_ref().map(|names| {
        let mut exporters = Exporters::default();
        for name in names {
            if !exporters.add(name.get_ref()) {
                let known = ["otlp", "prometheus", "console", "none"];
                let message = format!(
                    "{:?} is not known: expected \"otlp\", \"prometheus\", \"console\" or \"none\"{}",
                    name.get_ref(),
                    did_you_mean(name.get_ref(), known)
                );
                resolve.problems.add(name.span(), message);
            }
        }
        (exporters, "telemetry.exporters")
    });
    let off = env.is_disabled().then_some((Exporters::default(), "OTEL_SDK_DISABLED"));
    let (exporters, source) = off.or(found).or(in_file).unwrap_or((Exporters::OTLP, "default"));
    settings.push(Setting::general("exporters", exporters.show(), source));
    exporters
}

fn own(file: &file::Telemetry) -> Written<'_> {
    Written {
        path: "telemetry".to_owned(),
        endpoint: file.endpoint.as_ref(),
        protocol: file.protocol.as_ref(),
        headers: &file.headers,
        compression: file.compression.as_ref(),
        certificate: file.certificate.as_ref(),
        client_certificate: file.client_certificate.as_ref(),
        client_key: file.client_key.as_ref(),
        temporality: file.temporality.as_ref(),
        timeout: file.timeout.as_ref(),
        interval: file.interval.as_ref(),
        export_timeout: file.export_timeout.as_ref(),
    }
}

/// The further receivers. Each stands alone: above all, it is never sent another one's headers.
fn exports(
    exports: &[Spanned<file::Export>],
    pace: Pace,
    resolve: &mut Resolve<'_, '_>,
    settings: &mut Settings,
) -> Vec<Destination> {
    let mut names = HashSet::from([OWN]);
    let mut destinations = Vec::with_capacity(exports.len());
    for export in exports {
        let file = export.get_ref();
        let name = file.name.get_ref();
        resolve.name("receiver", &file.name);
        if !names.insert(name) {
            let message = format!("there is another receiver named {name:?}; {OWN:?} is the one of [telemetry]");
            resolve.problems.add(file.name.span(), message);
        }
        let written = Written {
            path: format!("telemetry.export.{name}"),
            endpoint: Some(&file.endpoint),
            protocol: file.protocol.as_ref(),
            headers: &file.headers,
            compression: file.compression.as_ref(),
            certificate: file.certificate.as_ref(),
            client_certificate: file.client_certificate.as_ref(),
            client_key: file.client_key.as_ref(),
            temporality: file.temporality.as_ref(),
            timeout: file.timeout.as_ref(),
            interval: file.interval.as_ref(),
            export_timeout: file.export_timeout.as_ref(),
        };
        let mut picker = Picker { written: &written, name, env: None, resolve, settings };
        let pace = picker.pace(pace);
        destinations.extend(picker.destination(pace, false));
    }
    destinations
}

fn warn_of_twins(destinations: &[Destination], resolve: &mut Resolve<'_, '_>) {
    let mut seen = HashSet::new();
    for Destination { endpoint, name, .. } in destinations {
        if !seen.insert((endpoint.tls, &endpoint.host, endpoint.port, &endpoint.target)) {
            let url = endpoint::show(endpoint);
            resolve.warnings.push(format!("{name}: {url} is pushed to twice: it will refuse points it has already"));
        }
    }
}

/// How histograms are kept.
fn aggregations(
    file: &file::Telemetry,
    env: &mut OtelEnv<'_>,
    resolve: &mut Resolve<'_, '_>,
    settings: &mut Settings,
) -> Aggregations {
    let in_file = file.histograms.as_ref().and_then(|text| {
        resolve.parse(Some(text), "", |text| match text {
            "explicit" => Ok((false, "telemetry.histograms")),
            "exponential" => Ok((true, "telemetry.histograms")),
            _ => Err(format!("histograms {text:?} is not known: expected \"explicit\" or \"exponential\"")),
        })
    });
    let (exponential, source) = env.exponential().or(in_file).unwrap_or((false, "default"));
    let value = if exponential { "exponential" } else { "explicit" };
    env.settle(value);
    settings.push(Setting::general("histograms", value.to_owned(), source));
    let mut bounds = Vec::with_capacity(file.buckets.len());
    for (name, written) in &file.buckets {
        if let Some(metric) = histogram(name, resolve) {
            match check_bounds(written.get_ref(), metric.scale) {
                Ok(()) => {
                    let shown = format!("{}: {:?}", name.get_ref(), written.get_ref());
                    settings.push(Setting::general("buckets", shown, "telemetry.buckets"));
                    bounds.push((metric.name, written.get_ref().clone()));
                }
                Err(message) => resolve.problems.add(written.span(), message),
            }
        }
    }
    Aggregations { exponential, bounds }
}

fn histogram(name: &Spanned<String>, resolve: &mut Resolve<'_, '_>) -> Option<&'static Descriptor> {
    let mut histograms = CATALOG.iter().filter(|metric| matches!(metric.kind, Kind::Histogram(_)));
    let found = histograms.clone().find(|metric| metric.name == name.get_ref());
    if found.is_none() {
        let guess = did_you_mean(name.get_ref(), histograms.by_ref().map(|metric| metric.name));
        let message = format!("{:?} is no histogram of `tollgate metrics`{guess}", name.get_ref());
        resolve.problems.add(name.span(), message);
    }
    found.copied()
}

/// Bounds that every receiver understands and that stay apart in nanoseconds, bytes or tokens.
fn check_bounds(bounds: &[f64], scale: Option<f64>) -> Result<(), String> {
    if bounds.is_empty() || bounds.len() > BUCKETS_MAX {
        return Err(format!("there have to be from 1 to {BUCKETS_MAX} bounds, not {}", bounds.len()));
    }
    if let Some(wrong) = bounds.iter().find(|bound| !(1e-9..=1e15).contains(*bound)) {
        return Err(format!("{wrong} is no bound: it has to be from 1e-9 to 1e15; the last bucket has none"));
    }
    let recorded = |bound: f64| (bound / scale.unwrap_or(1.0)).round();
    for (lower, upper) in bounds.iter().zip(bounds.iter().skip(1)) {
        if lower >= upper {
            return Err(format!("bounds have to ascend: [{lower:?}, {upper:?}]"));
        }
        if recorded(*lower) >= recorded(*upper) {
            return Err(format!("{lower} and {upper} are the same in the unit that is recorded"));
        }
    }
    Ok(())
}
