//! Where log lines go: standard error, readable on a terminal, JSON elsewhere.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::LevelFilter;

/// Options of every command that serves.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// The least important lines to log.
    #[arg(long, value_enum, default_value_t = LogLevel::Info, env = "TOLLGATE_LOG", value_name = "LEVEL")]
    log_level: LogLevel,
    /// Log as text or JSON; by default text on a terminal and JSON elsewhere.
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Starts logging for the rest of the process.
pub(super) fn start(args: &LogArgs) {
    let level = match args.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let terminal = std::io::stderr().is_terminal();
    let format = args.log_format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // A second start, in a test, keeps the first.
    let _kept = match format {
        LogFormat::Text => builder.with_ansi(terminal).try_init().is_err(),
        LogFormat::Json => builder.json().flatten_event(true).try_init().is_err(),
    };
}
