//! One receiver: `[telemetry]` under the environment, or an entry of `[[telemetry.export]]`.

use std::{path::PathBuf, time::Duration};

use toml::Spanned;

use super::{
    Destination, OtlpEndpoint, Protocol, Secret, endpoint, file,
    otel_env::{Found, OtelEnv, is_header_allowed},
    resolve::Resolve,
    telemetry::{REQUEST_BYTES, RESPONSE_BYTES, Setting, Settings},
    value,
};
use crate::telemetry::Temporality;

/// The keys that both tables have, as they are written.
pub(super) struct Written<'a> {
    /// `telemetry` or `telemetry.export.NAME`, for messages.
    pub(super) path: String,
    pub(super) endpoint: Option<&'a Spanned<String>>,
    pub(super) protocol: Option<&'a Spanned<String>>,
    pub(super) headers: &'a file::Headers,
    pub(super) compression: Option<&'a Spanned<String>>,
    pub(super) certificate: Option<&'a Spanned<String>>,
    pub(super) client_certificate: Option<&'a Spanned<String>>,
    pub(super) client_key: Option<&'a Spanned<String>>,
    pub(super) temporality: Option<&'a Spanned<String>>,
    pub(super) timeout: Option<&'a Spanned<String>>,
    pub(super) interval: Option<&'a Spanned<String>>,
    pub(super) export_timeout: Option<&'a Spanned<String>>,
}

/// When exports start and how long they may take, where a receiver does not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) interval: Duration,
    pub(super) export_timeout: Duration,
}

impl Pace {
    /// The specification's defaults.
    pub(super) const DEFAULT: Self =
        Self { interval: Duration::from_secs(60), export_timeout: Duration::from_secs(30) };
}

/// Picks each setting from the environment, else the file, else the default, and notes where it came
/// from.
pub(super) struct Picker<'a, 'e, 'r, 'text> {
    pub(super) written: &'a Written<'a>,
    pub(super) name: &'a str,
    /// `None` for receivers that the environment has no say in.
    pub(super) env: Option<&'a mut OtelEnv<'e>>,
    pub(super) resolve: &'a mut Resolve<'r, 'text>,
    pub(super) settings: &'a mut Settings,
}

impl Picker<'_, '_, '_, '_> {
    /// The pace, which is there also where nothing is pushed.
    pub(super) fn pace(&mut self, otherwise: Pace) -> Pace {
        let found = self.env.as_mut().and_then(|env| env.interval());
        let in_file = self.file(self.written.interval, |text| match value::duration(text)? {
            Duration::ZERO => Err("a duration of zero makes no sense here".to_owned()),
            duration => Ok(duration),
        });
        let interval = self.pick("interval", found, in_file, otherwise.interval, |interval| format!("{interval:?}"));
        let found = self.env.as_mut().and_then(|env| env.timeout(&["OTEL_METRIC_EXPORT_TIMEOUT"]));
        let in_file = self.file(self.written.export_timeout, value::duration);
        let export_timeout = self.pick("export_timeout", found, in_file, otherwise.export_timeout, show_limit);
        Pace { interval, export_timeout }
    }

    /// Everything else. `None` if there is no endpoint, which is a problem only where one is asked
    /// for.
    pub(super) fn destination(&mut self, pace: Pace, is_default: bool) -> Option<Destination> {
        let found = self.env.as_mut().and_then(|env| env.protocol());
        let in_file = self.file(self.written.protocol, |text| {
            value::protocol(text)
                .ok_or_else(|| format!("{text:?} is not known: expected \"http/protobuf\", \"http/json\" or \"grpc\""))
        });
        let protocol = self.pick("protocol", found, in_file, Protocol::default(), |of| of.as_str().to_owned());
        let endpoint = self.endpoint(protocol, is_default)?;
        let found = self.env.as_mut().and_then(|env| env.headers());
        let in_file = self.headers();
        let headers = self.pick("headers", found, in_file, Vec::new(), |headers| show_headers(headers));
        let found = self.env.as_mut().and_then(|env| env.gzip());
        let in_file = self.file(self.written.compression, |text| {
            value::compression(text)
                .ok_or_else(|| format!("compression {text:?} is not known: expected \"gzip\" or \"none\""))
        });
        let show = |gzip: &bool| if *gzip { "gzip".to_owned() } else { "none".to_owned() };
        let gzip = self.pick("compression", found, in_file, false, show);
        let found = self.env.as_mut().and_then(|env| env.temporality());
        let in_file = self.file(self.written.temporality, |text| {
            Temporality::of(text)
                .ok_or_else(|| format!("{text:?} is not known: expected \"cumulative\", \"delta\" or \"lowmemory\""))
        });
        let show = |of: &Temporality| of.as_str().to_owned();
        let temporality = self.pick("temporality", found, in_file, Temporality::default(), show);
        let names = ["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let found = self.env.as_mut().and_then(|env| env.timeout(&names));
        let in_file = self.file(self.written.timeout, value::duration);
        let timeout = self.pick("timeout", found, in_file, Duration::from_secs(10), show_limit);
        let (certificate, client_certificate) = self.certificates();
        Some(Destination {
            name: self.name.to_owned(),
            endpoint,
            protocol,
            headers,
            gzip,
            temporality,
            timeout: unless_zero(timeout),
            interval: pace.interval,
            export_timeout: unless_zero(pace.export_timeout),
            max_request_bytes: REQUEST_BYTES,
            max_response_bytes: RESPONSE_BYTES,
            certificate,
            client_certificate,
        })
    }

    fn endpoint(&mut self, protocol: Protocol, is_default: bool) -> Option<OtlpEndpoint> {
        let source = format!("{}.endpoint", self.written.path);
        let in_file = self.file(self.written.endpoint, |text| endpoint::of(text, protocol, false, false, &source));
        let found = self.env.as_mut().and_then(|env| env.endpoint(protocol)).or(in_file);
        let endpoint = found.or_else(|| endpoint::default(protocol, "default").filter(|_| is_default))?;
        self.resolve.warnings.extend(endpoint::port_warning(&endpoint, protocol));
        let shown = endpoint::show(&endpoint);
        if let Some(env) = self.env.as_mut() {
            env.settle(&shown);
        }
        self.settings.push(Setting::of(self.name, "endpoint", shown, &endpoint.source));
        Some(endpoint)
    }

    fn headers(&mut self) -> Option<Vec<(String, Secret)>> {
        let mut headers = Vec::with_capacity(self.written.headers.len());
        for (name, reference) in self.written.headers {
            let Some(resolved) = self.resolve.secret(reference) else { continue };
            if is_header_allowed(name.get_ref(), resolved.secret.expose()) {
                headers.push((name.get_ref().to_ascii_lowercase(), resolved.secret));
            } else {
                let message = format!("{:?} is not a header that may be set here", name.get_ref());
                self.resolve.problems.add(name.span(), message);
            }
        }
        (!headers.is_empty()).then_some(headers)
    }

    /// Roots to trust, and a certificate of our own with its key.
    fn certificates(&mut self) -> (Option<PathBuf>, Option<(PathBuf, PathBuf)>) {
        let folder = self.resolve.resolver.folder;
        let found = self.env.as_mut().and_then(|env| env.certificate());
        let found = found.map(|(path, name)| (Some(PathBuf::from(path)), name));
        let in_file = self.written.certificate.map(|path| Some(folder.join(path.get_ref())));
        let show = |path: &Option<PathBuf>| {
            path.as_ref().map_or("built-in and system roots".into(), |path| path.display().to_string())
        };
        let certificate = self.pick("certificate", found, in_file, None, show);
        let found = self.env.as_mut().and_then(|env| env.client_certificate());
        let found = found.map(|((certificate, key), name)| (Some((certificate.into(), key.into())), name));
        let in_file = match (self.written.client_certificate, self.written.client_key) {
            (Some(certificate), Some(key)) => {
                Some(Some((folder.join(certificate.get_ref()), folder.join(key.get_ref()))))
            }
            (None, None) => None,
            (Some(alone), None) => {
                self.resolve.problems.add(alone.span(), "a client_certificate needs its client_key");
                None
            }
            (None, Some(alone)) => {
                self.resolve.problems.add(alone.span(), "a client_key needs its client_certificate");
                None
            }
        };
        let show = |files: &Option<(PathBuf, PathBuf)>| {
            files.as_ref().map_or("none".into(), |(certificate, _)| certificate.display().to_string())
        };
        (certificate, self.pick("client_certificate", found, in_file, None, show))
    }

    /// A value of the file, checked also when the environment has another.
    fn file<T>(&mut self, text: Option<&Spanned<String>>, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.resolve.parse(Some(text?), "", parse)
    }

    fn pick<T>(
        &mut self,
        key: &'static str,
        env: Found<T>,
        file: Option<T>,
        default: T,
        show: impl FnOnce(&T) -> String,
    ) -> T {
        let (value, source) = match (env, file) {
            (Some((value, variable)), _) => (value, variable.to_owned()),
            (None, Some(value)) => (value, format!("{}.{key}", self.written.path)),
            // What a further receiver does not say of its pace is said in `[telemetry]`.
            (None, None) if self.env.is_none() && ["interval", "export_timeout"].contains(&key) => {
                (default, "[telemetry]".to_owned())
            }
            (None, None) => (default, "default".to_owned()),
        };
        let shown = show(&value);
        if let Some(env) = self.env.as_mut() {
            env.settle(&shown);
        }
        self.settings.push(Setting::of(self.name, key, shown, &source));
        value
    }
}

fn show_limit(limit: &Duration) -> String {
    if limit.is_zero() { "no limit".to_owned() } else { format!("{limit:?}") }
}

fn show_headers(headers: &[(String, Secret)]) -> String {
    let names: Vec<String> = headers.iter().map(|(name, _)| format!("{name}=***")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn unless_zero(limit: Duration) -> Option<Duration> {
    (!limit.is_zero()).then_some(limit)
}
