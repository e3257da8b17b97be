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

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn failed(error: ErrorType, case: &'static str) -> Delivery {
        Delivery::Failed { error, case, sentence: format!("because of {case}") }
    }

    /// What is logged for these deliveries, one every 15 s.
    async fn told(deliveries: impl IntoIterator<Item = Delivery>) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let mut announcer = Announcer::default();
        for (number, delivery) in (1..).zip(deliveries) {
            let elapsed = Duration::ZERO;
            let url = Some("http://p".into());
            announcer.hear(&Report { number, points: 57, bytes: 9_000, attempts: 1, elapsed, url, delivery });
            tokio::time::advance(Duration::from_secs(15)).await;
        }
        let written = log.0.lock().unwrap().clone();
        String::from_utf8(written).unwrap().lines().map(|line| line.trim().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn success_is_told_once() {
        let lines = told(vec![Delivery::Accepted; 1_000]).await;
        assert_eq!(lines, [r#"INFO metrics are being exported endpoint="http://p" points=57 bytes=9000"#]);
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_is_repeated_every_ten_minutes_with_a_count() {
        let an_hour = vec![failed(ErrorType::Connect, "connection_refused"); 240];
        let lines = told(an_hour.into_iter().chain([Delivery::Accepted])).await;
        assert_eq!(lines.len(), 7, "{lines:#?}");
        assert_eq!(
            lines[0],
            r#"WARN metrics were not exported: because of connection_refused error.type="connect" points=57 repeated=0"#
        );
        assert!(lines[1..6].iter().all(|line| line.contains("repeated=40")), "{lines:#?}");
        assert!(lines[6].contains("INFO metrics are exported again"), "{lines:#?}");
        assert!(lines[6].ends_with("troubled_exports=240"), "{lines:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_trouble_is_told_at_once() {
        let same_status =
            [failed(ErrorType::BadRequest, "out_of_order"), failed(ErrorType::BadRequest, "out_of_bounds")];
        assert_eq!(told(same_status).await.len(), 2);
        let same_case = [failed(ErrorType::BadGateway, "proxy"), failed(ErrorType::GatewayTimeout, "proxy")];
        assert_eq!(told(same_case).await.len(), 2);
        let held = [failed(ErrorType::ServiceUnavailable, "x"), Delivery::Held(Duration::ZERO), Delivery::Off];
        assert_eq!(told(held).await.len(), 1);
    }
}
