//! A build of tollgate and what is different about its config: `tollgate+off+names=100:PATH`.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::options::Options;
use crate::peers::KEY;

pub(crate) struct Variant {
    pub(crate) binary: PathBuf,
    pub(crate) threads: usize,
    /// Hundredths of a core that each thread may use.
    pub(crate) cpu: Option<usize>,
    /// Whether metrics are pushed.
    telemetry: bool,
    /// Models in the config, and as many keys.
    names: usize,
}

impl Variant {
    pub(crate) fn parse(name: &str, options: &Options) -> Result<Self, String> {
        let (kind, path) = name.split_once(':').unwrap_or((name, ""));
        let binary = if path.is_empty() { options.tollgate.clone() } else { PathBuf::from(path) };
        let mut variant = Self { binary, threads: 1, cpu: None, telemetry: true, names: 1 };
        let mut parts = kind.split('+');
        let mut known = parts.next() == Some("tollgate");
        for part in parts {
            let number = |digits: &str| digits.parse::<usize>().ok().filter(|number| *number > 0);
            match part.split_once('=').map_or((part, None), |(name, digits)| (name, number(digits))) {
                ("off", None) => variant.telemetry = false,
                ("names", Some(names)) => variant.names = names,
                ("threads", Some(threads)) => variant.threads = threads,
                ("cpu", Some(percent)) => variant.cpu = Some(percent),
                _ => known = false,
            }
        }
        known.then_some(variant).ok_or_else(|| {
            "unknown: known are direct, nginx, haproxy, litellm, portkey, tollgate, and tollgate followed by \
             +off, +names=N, +threads=N, +cpu=PERCENT or :PATH"
                .to_owned()
        })
    }

    pub(crate) fn config(&self, address: SocketAddr, mock: SocketAddr) -> String {
        let mut config = format!(
            "[server]
listen = \"{address}\"
threads = {}
# One client, one key, and connections that last: what bounds them is not measured here.
max_connections = 20000
max_connections_per_address = 0
max_connection_requests = 1000000000
max_requests = 100000
max_requests_per_key = 100000

[providers.mock]
base_url = \"http://{mock}/v1\"
api_key = \"sk-upstream\"

[telemetry]
",
            self.threads
        );
        // Writing to a string cannot fail.
        match self.telemetry {
            true => writeln!(config, "endpoint = \"http://{mock}/v1/metrics\"\ninterval = \"1s\""),
            false => writeln!(config, "exporters = [\"none\"]"),
        }
        .ok();
        // What is asked for stands in the middle.
        for number in 0..self.names {
            let is_asked = number == self.names / 2;
            let (model, key) = match is_asked {
                true => ("gpt-4o-mini".to_owned(), KEY.to_owned()),
                false => (format!("model-{number}"), format!("{KEY}-{number}")),
            };
            writeln!(
                config,
                "[models.{model}]\ndeployments = [{{ provider = \"mock\", model = \"{model}\" }}]\n\
                 [[keys]]\nname = \"bench-{number}\"\nkey = \"{key}\"\nmodels = [\"{model}\"]"
            )
            .ok();
        }
        config
    }
}
