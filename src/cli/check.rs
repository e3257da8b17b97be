//! `tollgate check`.

use std::{io, io::Write, path::PathBuf};

use clap::Args;
use tokio::task::LocalSet;

use super::{FAILED, USAGE, check_otlp::check_otlp};
use crate::config::{Config, Environment, Loaded, Setting};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Configuration file; by default $TOLLGATE_CONFIG, ./tollgate.toml or
    /// /etc/tollgate/tollgate.toml, whichever exists first.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also send one real export to each receiver and explain its answer; exits with 1 if it was
    /// not accepted.
    #[arg(long)]
    otlp: bool,
}

/// Checks a configuration.
pub(super) fn run(args: &CheckArgs, environment: &Environment, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let loaded = match Config::load(args.config.as_deref(), environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _unwritable = writeln!(err, "{error}").is_err();
            return USAGE;
        }
    };
    // What can only be seen when everything is bound, such as a host that no certificate can name.
    if let Err(why) = crate::gateway::Gateway::new(&loaded.config, &crate::telemetry::Registry::new()) {
        let _unwritable = writeln!(err, "{}: {why}", loaded.source.file.display()).is_err();
        return USAGE;
    }
    if let Some(Err(why)) = loaded.config.server.tls.as_ref().map(crate::server::Certificates::load) {
        let _unwritable = writeln!(err, "{why}").is_err();
        return USAGE;
    }
    if let Err(why) = crate::export::Exporter::new(crate::telemetry::Registry::new(), &loaded.config.telemetry) {
        let _unwritable = writeln!(err, "{why}").is_err();
        return USAGE;
    }
    if describe(&loaded, out).is_err() {
        return FAILED;
    }
    if !args.otlp {
        return 0;
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, check_otlp(&loaded.config.telemetry, out)),
        Err(error) => {
            let _unwritable = writeln!(err, "cannot start: {error}").is_err();
            FAILED
        }
    }
}

/// The effective telemetry settings, by receiver, each with where it came from.
fn settings(settings: &[Setting], out: &mut dyn Write) -> io::Result<()> {
    let mut of = None;
    let (receivers, general): (Vec<_>, Vec<_>) = settings.iter().partition(|setting| !setting.of.is_empty());
    for setting in general.into_iter().chain(receivers) {
        if of != Some(&setting.of) {
            of = Some(&setting.of);
            let name = if setting.of.is_empty() { String::new() } else { format!(" → {}", setting.of) };
            writeln!(out, "\ntelemetry{name}")?;
        }
        writeln!(out, "  {:<18} {}  ({})", setting.name, setting.value, setting.source)?;
    }
    Ok(())
}

fn describe(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let Config { server, providers, models, keys, .. } = &loaded.config;
    writeln!(out, "{}: ok\n", loaded.source.file.display())?;
    let places: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
    writeln!(out, "listen     {} with {} worker threads", places.join(" and "), server.threads)?;
    for (place, model) in models.iter().enumerate() {
        let deployments: Vec<String> = model
            .deployments
            .iter()
            .filter_map(|deployment| Some(format!("{}/{}", providers.get(deployment.provider)?.name, deployment.model)))
            .collect();
        let heading = if place == 0 { "models" } else { "" };
        writeln!(out, "{heading:<10} {} → {}", model.name, deployments.join(", then "))?;
    }
    for (place, key) in keys.iter().enumerate() {
        let allowed = match &key.models {
            None => "every model".to_owned(),
            Some(allowed) => {
                let names = allowed.iter().filter_map(|model| models.get(*model)).map(|model| model.name.as_str());
                names.collect::<Vec<_>>().join(", ")
            }
        };
        let heading = if place == 0 { "keys" } else { "" };
        writeln!(out, "{heading:<10} {} may use {allowed}", key.name)?;
    }
    settings(&loaded.settings, out)?;
    for warning in &loaded.warnings {
        writeln!(out, "\nwarning: {warning}")?;
    }
    Ok(())
}
