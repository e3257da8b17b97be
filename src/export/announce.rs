//! What the log says about exports: changes, and little else.
//!
//! A receiver that is down for a night is one warning, a repeat every ten minutes and one line when
//! it is back, at any export interval.

use std::time::Duration;

use tokio::time::Instant;

use super::{Delivery, Report, answer::ErrorType};

/// How often the same trouble is told again.
const REPEAT: Duration = Duration::from_secs(10 * 60);

/// Remembers what the log knows already.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing has been exported so far.
    #[default]
    New,
    Well,
    /// In the same trouble since it was last told.
    Trouble {
        kind: Kind,
        told: Instant,
        since_told: u64,
        exports: u64,
    },
}

/// What makes two troubles the same: how it failed and what was advised.
type Kind = (ErrorType, &'static str);

impl Announcer {
    /// Logs what is news in `report`.
    pub(super) fn hear(&mut self, report: &Report) {
        match &report.delivery {
            Delivery::Off | Delivery::Held(_) => {}
            Delivery::Accepted => self.well(report),
            Delivery::Partial { case, rejected, sentence } => {
                self.trouble((ErrorType::Rejected, case), sentence, |repeated, sentence| {
                    tracing::warn!(rejected, repeated, "metrics were taken with a remark: {sentence}");
                });
            }
            Delivery::Failed { error, case, sentence } => {
                let points = report.points;
                self.trouble((*error, case), sentence, |repeated, sentence| {
                    let error = error.as_str();
                    tracing::warn!(error.r#type = error, points, repeated, "metrics were not exported: {sentence}");
                });
            }
        }
    }

    fn well(&mut self, report: &Report) {
        let Report { points, bytes, .. } = *report;
        let endpoint = report.url.as_deref().unwrap_or_default();
        match self.state {
            State::New => tracing::info!(endpoint, points, bytes, "metrics are being exported"),
            State::Trouble { exports, .. } => {
                tracing::info!(endpoint, points, bytes, troubled_exports = exports, "metrics are exported again");
            }
            State::Well => return,
        }
        self.state = State::Well;
    }

    fn trouble(&mut self, now: Kind, sentence: &str, warn: impl Fn(u64, &str)) {
        match &mut self.state {
            State::Trouble { kind, told, since_told, exports } if *kind == now => {
                *since_told += 1;
                *exports += 1;
                if told.elapsed() >= REPEAT {
                    warn(*since_told, sentence);
                    *told = Instant::now();
                    *since_told = 0;
                }
            }
            state => {
                let before = if let State::Trouble { exports, .. } = state { *exports } else { 0 };
                warn(0, sentence);
                *state = State::Trouble { kind: now, told: Instant::now(), since_told: 0, exports: before + 1 };
            }
        }
    }
}
