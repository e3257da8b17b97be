//! `tollgate serve`.

use std::{io::Write, path::PathBuf};

use clap::Args;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::LocalSet,
};

use super::{
    FAILED, USAGE,
    log::{self, say},
    status,
    supervisor::Supervisor,
};
use crate::{
    Tollgate,
    config::{Config, Environment, Listen, Source},
    export::{Report, table::Table},
    server::Inherited,
    telemetry::Registry,
};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Configuration file; by default $TOLLGATE_CONFIG, ./tollgate.toml or
    /// /etc/tollgate/tollgate.toml, whichever exists first.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    log: log::LogArgs,
}

/// Serves until a signal.
pub(super) fn run(args: &ServeArgs, environment: &Environment, err: &mut dyn Write) -> u8 {
    let loaded = match Config::load(args.config.as_deref(), environment) {
        Ok(loaded) => loaded,
        Err(error) => {
            let _unwritable = writeln!(err, "{error}").is_err();
            return USAGE;
        }
    };
    if let Err(error) = log::start(&args.log, &loaded.config.log, environment) {
        let _unwritable = writeln!(err, "cannot start the log: {error}").is_err();
        return FAILED;
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut console = loaded.config.telemetry.console.then(Table::console);
    let observe = move |registry: &Registry, report: &Report| {
        // On standard output, whatever the log on standard error looks like: who reads one is not
        // disturbed by the other.
        if let Some(text) = console.as_mut().and_then(|table| shown(table, registry, report)) {
            say(&text);
        }
    };
    until_signal(
        &loaded.config,
        Some(&loaded.source),
        environment,
        &Supervisor::of(environment),
        |places| {
            for address in places {
                tracing::info!(%address, "serving");
            }
        },
        observe,
    )
}

/// What the console exporter prints of an export: those to receivers are not its own.
fn shown(console: &mut Table, registry: &Registry, report: &Report) -> Option<String> {
    report.url.is_none().then(|| console.render(&registry.snapshot(), report))
}

/// Runs a gateway on this thread until SIGTERM or SIGINT; a second signal cuts the drain short.
pub(super) fn until_signal(
    config: &Config,
    source: Option<&Source>,
    environment: &Environment,
    supervisor: &Supervisor,
    started: impl FnOnce(&[Listen]),
    observe: impl FnMut(&Registry, &Report) + 'static,
) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return FAILED;
        }
    };
    let code = LocalSet::new().block_on(&runtime, async {
        // Before anything else, so that no signal meets its default.
        let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = signals else {
            tracing::error!("cannot listen for signals");
            return FAILED;
        };
        let inherited = Inherited::take(environment);
        let begun = inherited.and_then(|sockets| Tollgate::start_from(config, source, sockets, observe));
        let mut gateway = match begun {
            Ok(gateway) => gateway,
            Err(why) => {
                tracing::error!("{why}");
                return USAGE;
            }
        };
        started(&gateway.places);
        if let Some(address) = &gateway.admin_place {
            tracing::info!(%address, "admin listener");
        }
        supervisor.ready(status::line(&gateway));
        let mut watchdog = tokio::time::interval(supervisor.watch_interval());
        let mut looks = tokio::time::interval(supervisor.status_interval());
        loop {
            tokio::select! {
                _ = watchdog.tick() => if gateway.beats() { supervisor.is_alive() },
                () = either(&mut terminate, &mut interrupt) => break,
                Some(()) = hangup.recv() => {
                    supervisor.reloading();
                    if gateway.reload().is_none() {
                        tracing::warn!("SIGHUP: there is no configuration file to be read again");
                    }
                    supervisor.ready(status::line(&gateway));
                }
                () = gateway.reloaded() => supervisor.status(status::line(&gateway)),
                _ = looks.tick() => supervisor.status(status::line(&gateway)),
                () = gateway.failed() => {
                    tracing::error!("a worker thread ended");
                    return FAILED;
                }
            }
        }
        supervisor.stopping();
        tracing::info!("shutting down: requests may finish, a second signal cuts them off");
        if !gateway.shutdown(either(&mut terminate, &mut interrupt)).await {
            tracing::warn!("requests were cut off");
        }
        tracing::info!("stopped");
        0
    });
    // A name that is still being looked up for the exporter must not hold up the end.
    runtime.shutdown_background();
    code
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        export::Delivery,
        telemetry::{Counter, catalog as metric},
    };

    #[test]
    fn the_console_shows_its_own_exports_only() {
        let registry = Registry::new();
        let accepted: Counter = registry.counter(&metric::CONNECTIONS_ACCEPTED, &[]);
        accepted.add((), 3);
        let mut report = Report {
            number: 1,
            points: 1,
            bytes: 0,
            attempts: 0,
            elapsed: Duration::ZERO,
            url: None,
            delivery: Delivery::Off,
        };
        let mut console = Table::console();
        let text = shown(&mut console, &registry, &report).unwrap();
        let (header, row) = text.split_once('\n').unwrap();
        assert!(header.starts_with("export #1 at ") && header.ends_with(" UTC · 1 points · console"), "{header}");
        assert_eq!(row.trim(), "tollgate.connections.accepted    3 (+3)");
        report.url = Some("http://localhost:4318/v1/metrics".into());
        report.delivery = Delivery::Accepted;
        assert_eq!(shown(&mut console, &registry, &report), None);
    }
}
