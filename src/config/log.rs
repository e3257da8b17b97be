//! `[log]`: what is written to standard error, how, and how much of it.

use super::{file, problem::did_you_mean, resolve::Resolve};

/// Shortest limit of a line, in bytes: what a line says first has to fit.
const LINE_BYTES_MIN: usize = 256;
/// Longest limit of a line, in bytes: what journald takes as one (`LineMax=48K`).
const LINE_BYTES_MAX: usize = 48 << 10;

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important lines that are written.
    pub level: LogLevel,
    pub format: LogFormat,
    /// One line for every request that ends.
    pub access: bool,
    /// Longer lines are cut.
    pub max_line_bytes: usize,
    /// Of more lines in a second only some are written.
    pub max_lines_per_second: usize,
}

/// `log.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, what journald reads where it listens, JSON elsewhere.
    Auto,
    Text,
    Json,
    /// Text without the time, each line with its priority in front (`<4>`), as journald reads it.
    Journal,
}

impl LogLevel {
    /// Every level, the most important first.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Text, Self::Json, Self::Journal];

    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
            Self::Journal => "journal",
        }
    }
}

pub(super) fn resolve(file: &file::Log, resolve: &mut Resolve<'_, '_>) -> Log {
    let level = resolve.parse(file.level.as_ref(), "info", |text| {
        one_of("level", text, LogLevel::ALL.map(|level| (level.as_str(), level)))
    });
    let format = resolve.parse(file.format.as_ref(), "auto", |text| {
        one_of("format", text, LogFormat::ALL.map(|format| (format.as_str(), format)))
    });
    Log {
        level: level.unwrap_or(LogLevel::Info),
        format: format.unwrap_or(LogFormat::Auto),
        access: file.access.unwrap_or(false),
        max_line_bytes: resolve.size_within(file.max_line_bytes.as_ref(), 4 << 10, LINE_BYTES_MIN..=LINE_BYTES_MAX),
        max_lines_per_second: resolve.count(
            "max_lines_per_second",
            file.max_lines_per_second.as_ref(),
            1000,
            10..=1_000_000,
        ),
    }
}

/// The one of these values that has that name.
fn one_of<T: Copy, const N: usize>(what: &str, text: &str, values: [(&str, T); N]) -> Result<T, String> {
    let found = values.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names = values.map(|(name, _)| name);
        let quoted = names.map(|name| format!("{name:?}")).join(", ");
        format!("{what} {text:?} is not known: expected one of {quoted}{}", did_you_mean(text, names.into_iter()))
    })
}
