//! `tollgate demo`: the gateway with its built-in provider, and its metrics on the terminal.

use std::io::Write;

use clap::Args;

use super::{
    FAILED, key,
    log::{self, say},
    serve,
    supervisor::Supervisor,
};
use crate::{
    config::{Config, Environment, Listen},
    export::table::Table,
};

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Address and port to serve on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:4000", value_name = "ADDRESS")]
    listen: std::net::SocketAddr,
    #[command(flatten)]
    log: log::LogArgs,
}

/// Serves the demo until a signal.
pub(super) fn run(args: &DemoArgs, environment: &Environment, err: &mut dyn Write) -> u8 {
    let Some(key) = key::fresh() else {
        let _unwritable = writeln!(err, "the operating system gives no random numbers").is_err();
        return FAILED;
    };
    let mut loaded = match Config::demo(environment, &key) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _unwritable = writeln!(err, "{error}").is_err();
            return FAILED;
        }
    };
    if let Err(error) = log::start(&args.log, &loaded.config.log, environment) {
        let _unwritable = writeln!(err, "cannot start the log: {error}").is_err();
        return FAILED;
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    loaded.config.server.listen = vec![Listen::Tcp(args.listen)];
    let telemetry = &loaded.config.telemetry;
    let is_pushed = !telemetry.destinations.is_empty();
    let mut exports = if telemetry.console { Table::console() } else { Table::demo() };
    serve::until_signal(
        &loaded.config,
        None,
        environment,
        &Supervisor::default(),
        |places| places.iter().for_each(|place| say(&welcome(&place.to_string(), &key))),
        move |registry, report| {
            // The console exporter would show what the exports to receivers have shown.
            if report.url.is_some() || !is_pushed {
                say(&exports.render(&registry.snapshot(), report));
            }
        },
    )
}

fn welcome(address: &str, key: &str) -> String {
    format!(
        "\ntollgate is serving on http://{address} with a built-in provider. Try it from another terminal:\n\n  \
         curl -N http://{address}/v1/chat/completions \\\n    -H 'Authorization: Bearer {key}' \\\n    \
         -H 'Content-Type: application/json' \\\n    -d '{{\"model\":\"echo\",\"stream\":true,\"messages\":\
         [{{\"role\":\"user\",\"content\":\"Tokens that nobody counts are tokens that somebody pays for.\"}}]}}'\n\n\
         Every export of its metrics is shown below. Ctrl-C stops.\n"
    )
}
