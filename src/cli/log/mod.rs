//! The log: lines on standard error, readable on a terminal, JSON or journald's own elsewhere.
//!
//! Nobody who logs ever waits: lines go through a queue that has an end to a thread that writes
//! them, and what does not fit, or is too much in one second, is counted instead.

mod budget;
mod event;
mod line;
mod subscriber;
mod writer;

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    panic::{self, PanicHookInfo},
    sync::OnceLock,
    time::Duration,
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use tracing::level_filters::LevelFilter;

use self::{
    line::{Kind, Shape},
    subscriber::Log,
    writer::Queue,
};
use crate::{
    config::{self, Environment, LogFormat, LogLevel},
    telemetry::losses,
};

/// Longest wait for the last lines to be taken when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The queue to standard error, once there is one.
static STDERR: OnceLock<Queue> = OnceLock::new();
/// The queue to standard output, once somebody has said something there.
static STDOUT: OnceLock<Option<Queue>> = OnceLock::new();

/// Options of every command that serves.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// The least important lines to log, whatever the configuration says.
    #[arg(long, env = "TOLLGATE_LOG", value_name = "LEVEL", value_parser = levels())]
    log_level: Option<LogLevel>,
    /// How lines are written, whatever the configuration says; auto is text on a terminal, journal
    /// where standard error goes to journald, and JSON elsewhere.
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    log_format: Option<LogFormat>,
}

fn levels() -> impl clap::builder::TypedValueParser<Value = LogLevel> {
    PossibleValuesParser::new(LogLevel::ALL.map(LogLevel::as_str)).map(|name| {
        let level = LogLevel::ALL.into_iter().find(|level| level.as_str() == name);
        level.unwrap_or(LogLevel::Info)
    })
}

fn formats() -> impl clap::builder::TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(LogFormat::ALL.map(LogFormat::as_str)).map(|name| {
        let format = LogFormat::ALL.into_iter().find(|format| format.as_str() == name);
        format.unwrap_or(LogFormat::Auto)
    })
}

/// Starts logging for the rest of the process.
pub(super) fn start(args: &LogArgs, log: &config::Log, environment: &Environment) -> io::Result<()> {
    let level = match args.log_level.unwrap_or(log.level) {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let is_terminal = io::stderr().is_terminal();
    let has_colours = is_terminal && environment.get("NO_COLOR").is_none_or(str::is_empty);
    let kind = match args.log_format.unwrap_or(log.format) {
        LogFormat::Text => Kind::Text { has_colours },
        LogFormat::Json => Kind::Json,
        LogFormat::Journal => Kind::Journal,
        LogFormat::Auto if is_terminal => Kind::Text { has_colours },
        LogFormat::Auto if is_read_by_journald(environment) => Kind::Journal,
        LogFormat::Auto => Kind::Json,
    };
    let queue = Queue::start("log", io::stderr())?;
    // A second start, in a test, keeps the first.
    let queue = STDERR.get_or_init(|| queue);
    let shape = Shape { kind, bytes_max: log.max_line_bytes };
    let log = Log::new(level, shape, log.max_lines_per_second, queue);
    let _kept = tracing::subscriber::set_global_default(log).is_err();
    panic::set_hook(Box::new(panicked));
    Ok(())
}

/// Waits for a moment until everything that was logged and said is written.
pub(super) fn flush() {
    for queue in [STDERR.get(), STDOUT.get().and_then(Option::as_ref)].into_iter().flatten() {
        queue.flush(FLUSH_TIMEOUT);
    }
}

/// Prints for the person at the terminal, who may have closed it or may not look: neither stops the
/// gateway.
pub(super) fn say(text: &str) {
    let queue = STDOUT.get_or_init(|| {
        // The lock of standard output is held for as long as a command runs.
        let out = io::stdout().as_fd().try_clone_to_owned().ok()?;
        Queue::start("console", File::from(out)).ok()
    });
    if let Some(queue) = queue {
        let mut line = Vec::with_capacity(text.len() + 1);
        line.extend_from_slice(text.as_bytes());
        line.push(b'\n');
        // The next table has everything that this one had.
        let _unread = !queue.offer(line);
    }
}

/// Whether standard error is the stream that systemd connected to journald, which may have been
/// redirected since (`systemd.exec(5)`, `$JOURNAL_STREAM`).
fn is_read_by_journald(environment: &Environment) -> bool {
    let Some((device, inode)) = environment.get("JOURNAL_STREAM").and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    let Ok(stream) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    let found = File::from(stream).metadata();
    found.is_ok_and(|found| device.parse() == Ok(found.dev()) && inode.parse() == Ok(found.ino()))
}

/// Logs and counts a panic, which ends one task at most.
fn panicked(panic: &PanicHookInfo<'_>) {
    losses::panicked();
    let message = panic.payload_as_str().unwrap_or("no message");
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(at, panic = message, "panicked: this is a bug in tollgate, please report it");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_error_of_a_test_is_not_journald_s() {
        assert!(!is_read_by_journald(&Environment::default()));
        for stream in ["", "1", "a:b", "1:1"] {
            assert!(!is_read_by_journald(&Environment::of([("JOURNAL_STREAM", stream)])), "{stream:?}");
        }
    }
    #[test]
    fn a_panic_is_counted() {
        let registry = crate::telemetry::Registry::new();
        let losses = losses::Losses::bind(&registry);
        let panics = || {
            losses.observe();
            registry
                .snapshot()
                .metrics
                .iter()
                .find(|metric| metric.descriptor.name == "tollgate.panics")
                .unwrap()
                .points[0]
                .value
        };
        let before = panics();
        let hook = panic::take_hook();
        panic::set_hook(Box::new(panicked));
        let ended = panic::catch_unwind(|| panic!("on purpose"));
        panic::set_hook(hook);
        assert!(ended.is_err() && panics() > before);
    }
}
