//! Whether a deployment is left out for now, because it has failed or has said that it is busy.
//!
//! Failures in a row begin a cooldown; when it is over, one request is let through, and another one each
//! time as long again, until one is answered. Everything is a few atomics: a deployment that works costs
//! a request one load here and one at its end.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{
    api::error::ErrorKind,
    config,
    telemetry::{dimensions::CooldownReason, instruments::DeploymentInstruments},
};

/// What a deployment is good for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    InUse,
    /// Its cooldown, for this reason, is over: one request may find out.
    Due(CooldownReason),
    /// Left out for this reason, and so long still.
    Cooling(CooldownReason, Duration),
}

/// The state of one deployment.
#[derive(Debug)]
pub struct Cooldown {
    settings: config::Cooldown,
    /// What times here count from.
    epoch: Instant,
    /// In a row.
    failures: AtomicUsize,
    first_failure: AtomicU64,
    /// In milliseconds; 0 while it is in use.
    until: AtomicU64,
    reason: AtomicUsize,
    /// A request has been let through.
    is_probed: AtomicBool,
}

impl Cooldown {
    pub(super) fn new(settings: config::Cooldown, epoch: Instant) -> Self {
        Self {
            settings,
            epoch,
            failures: AtomicUsize::new(0),
            first_failure: AtomicU64::new(0),
            until: AtomicU64::new(0),
            reason: AtomicUsize::new(0),
            is_probed: AtomicBool::new(false),
        }
    }

    pub(super) fn has(&self, settings: config::Cooldown) -> bool {
        self.settings == settings
    }

    /// The configuration has been read again: the provider key may be another one.
    pub(super) fn has_new_credentials(&self, instruments: &DeploymentInstruments) {
        if self.reason() == CooldownReason::Credentials && self.until.swap(0, Relaxed) != 0 {
            instruments.cooling.set((), 0);
        }
    }

    /// What the deployment is good for now.
    pub fn availability(&self, now: Instant) -> Availability {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return Availability::InUse;
        }
        match until.saturating_sub(self.millis(now)) {
            0 => Availability::Due(self.reason()),
            left => Availability::Cooling(self.reason(), Duration::from_millis(left)),
        }
    }

    /// Whether the caller's request may go there; of those that come when a cooldown is over, one may.
    pub fn admits(&self, now: Instant) -> bool {
        let until = self.until.load(Relaxed);
        if until == 0 {
            return true;
        }
        let at = self.millis(now);
        if until > at {
            return false;
        }
        // As long again, whatever becomes of the one: it may be under way for minutes, or be given up.
        let again = match self.reason() {
            CooldownReason::Credentials => self.settings.credentials,
            _ => self.settings.longest,
        };
        let is_taken = self.until.compare_exchange(until, at + whole(again), Relaxed, Relaxed).is_ok();
        if is_taken {
            self.is_probed.store(true, Relaxed);
        }
        is_taken
    }

    /// Whether a request is finding out if the provider need not be spared any more.
    pub fn is_being_asked(&self) -> bool {
        self.is_probed.load(Relaxed) && self.reason() == CooldownReason::RateLimited
    }

    /// The provider has begun an answer, so that it is there.
    pub fn answers(&self, instruments: &DeploymentInstruments) {
        if self.until.load(Relaxed) == 0 {
            return;
        }
        let is_probed = self.is_probed.swap(false, Relaxed);
        // What was sent before the provider asked to be spared does not say that it is over.
        if is_probed || self.reason() == CooldownReason::Errors || self.reason() == CooldownReason::Unreachable {
            self.until.store(0, Relaxed);
            instruments.cooling.set((), 0);
        }
    }

    /// An attempt has succeeded.
    pub fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// An attempt has failed in this way, and the provider may have said when to come again. Says for
    /// how long the deployment is left out, if that begins now.
    pub fn failed(
        &self,
        now: Instant,
        kind: ErrorKind,
        retry_after: Option<Duration>,
        instruments: &DeploymentInstruments,
    ) -> Option<(CooldownReason, Duration)> {
        if self.settings.failures == 0 {
            return None;
        }
        let reason = match kind {
            ErrorKind::ProviderCredentials => CooldownReason::Credentials,
            ErrorKind::ProviderRateLimited => CooldownReason::RateLimited,
            ErrorKind::ProviderUnreachable | ErrorKind::ProviderTimeout => CooldownReason::Unreachable,
            ErrorKind::ProviderServerError
            | ErrorKind::ProviderInvalidResponse
            | ErrorKind::ProviderStreamBroken
            | ErrorKind::ProviderStreamIdle => CooldownReason::Errors,
            _ => return None,
        };
        let at = self.millis(now);
        let is_enough = self.counts(at);
        let length = match (reason, retry_after) {
            (CooldownReason::Credentials, _) => self.settings.credentials,
            (_, Some(asked)) => asked.min(self.settings.max_retry_after),
            (_, None) if is_enough => self.settings.first,
            (_, None) => return None,
        };
        let until = (at + whole(length)).max(1);
        let before = self.until.load(Relaxed);
        // One that is left out already stays so for as long as it is, or as the provider says now.
        if before != 0 && (before >= until || retry_after.is_none()) {
            return None;
        }
        self.reason.store(reason as usize, Relaxed);
        self.is_probed.store(false, Relaxed);
        self.until.store(until, Relaxed);
        instruments.cooling.set((), 1);
        instruments.cooldowns.add(reason, 1);
        Some((reason, length))
    }

    /// Counts a failure; whether there have been enough of them in a row.
    fn counts(&self, at: u64) -> bool {
        let window = whole(self.settings.window);
        if self.failures.load(Relaxed) == 0 || at.saturating_sub(self.first_failure.load(Relaxed)) > window {
            self.first_failure.store(at, Relaxed);
            self.failures.store(1, Relaxed);
            return self.settings.failures == 1;
        }
        self.failures.fetch_add(1, Relaxed) + 1 >= self.settings.failures
    }

    fn reason(&self) -> CooldownReason {
        CooldownReason::ALL.get(self.reason.load(Relaxed)).copied().unwrap_or(CooldownReason::Errors)
    }

    /// Never 0.
    fn millis(&self, now: Instant) -> u64 {
        whole(now.saturating_duration_since(self.epoch)) + 1
    }
}

fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Registry;

    const SETTINGS: config::Cooldown = config::Cooldown {
        failures: 5,
        window: Duration::from_secs(30),
        first: Duration::from_secs(5),
        longest: Duration::from_secs(15),
        credentials: Duration::from_secs(300),
        max_retry_after: Duration::from_secs(300),
    };

    struct Bench {
        cooldown: Cooldown,
        epoch: Instant,
        instruments: DeploymentInstruments,
    }

    impl Bench {
        fn new(settings: config::Cooldown) -> Self {
            let epoch = Instant::now();
            let instruments = DeploymentInstruments::bind(&Registry::new(), &[]);
            Self { cooldown: Cooldown::new(settings, epoch), epoch, instruments }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.epoch + Duration::from_secs_f64(seconds)
        }

        fn fails(&self, seconds: f64, kind: ErrorKind, retry_after: Option<u64>) -> Option<u64> {
            let retry_after = retry_after.map(Duration::from_secs);
            let begun = self.cooldown.failed(self.at(seconds), kind, retry_after, &self.instruments);
            begun.map(|(_, length)| length.as_secs())
        }

        fn admits(&self, seconds: f64) -> bool {
            self.cooldown.admits(self.at(seconds))
        }
    }

    #[test]
    fn failures_in_a_row_and_one_request_at_a_time_to_find_out() {
        let bench = Bench::new(SETTINGS);
        let error = ErrorKind::ProviderServerError;
        for second in [0.0, 1.0, 2.0, 3.0] {
            assert_eq!(bench.fails(second, error, None), None);
        }
        bench.cooldown.succeeded();
        for second in [4.0, 5.0, 6.0, 7.0] {
            assert_eq!(bench.fails(second, error, None), None);
        }
        assert!(bench.admits(8.0));
        assert_eq!(bench.fails(8.0, error, None), Some(5));
        assert_eq!(bench.fails(8.1, error, None), None, "those that were under way");
        assert_eq!(
            bench.cooldown.availability(bench.at(9.0)),
            Availability::Cooling(CooldownReason::Errors, Duration::from_secs(4))
        );
        assert!(!bench.admits(12.9));
        assert_eq!(bench.cooldown.availability(bench.at(13.0)), Availability::Due(CooldownReason::Errors));
        assert!(bench.admits(13.0));
        assert!(!bench.admits(13.0) && !bench.admits(27.9), "one at a time");
        assert_eq!(bench.fails(14.0, error, None), None);
        assert!(bench.admits(28.0));
        bench.cooldown.answers(&bench.instruments);
        assert!(bench.admits(28.1) && bench.admits(28.1));
        // It answers, and has not finished one yet.
        assert_eq!(bench.fails(28.2, error, None), Some(5));
        assert!(bench.admits(34.0));
        bench.cooldown.answers(&bench.instruments);
        bench.cooldown.succeeded();
        assert_eq!(bench.fails(35.0, error, None), None);
        assert_eq!(bench.cooldown.availability(bench.at(35.0)), Availability::InUse);
    }

    #[test]
    fn failures_far_apart_are_none_in_a_row() {
        let bench = Bench::new(SETTINGS);
        for second in 0..20 {
            assert_eq!(bench.fails(f64::from(second) * 8.0, ErrorKind::ProviderTimeout, None), None, "{second}");
        }
        assert!(bench.admits(160.0));
    }

    #[test]
    fn each_failure_has_its_length() {
        let limited = ErrorKind::ProviderRateLimited;
        for (kind, retry_after, expected) in [
            (limited, Some(2), Some(2)),
            (limited, Some(86_400), Some(300)),
            (limited, None, None),
            (ErrorKind::ProviderServerError, Some(7), Some(7)),
            (ErrorKind::ProviderCredentials, None, Some(300)),
            (ErrorKind::ProviderRejected, None, None),
            (ErrorKind::ProviderAnswerTimeout, None, None),
            (ErrorKind::ClientCancelled, None, None),
        ] {
            let bench = Bench::new(SETTINGS);
            assert_eq!(bench.fails(0.0, kind, retry_after), expected, "{kind:?}");
            assert_eq!(bench.admits(0.5), expected.is_none(), "{kind:?}");
        }
        let off = Bench::new(config::Cooldown { failures: 0, ..SETTINGS });
        assert_eq!(off.fails(0.0, limited, Some(9)), None);
        let once = Bench::new(config::Cooldown { failures: 1, ..SETTINGS });
        assert_eq!(once.fails(0.0, ErrorKind::ProviderUnreachable, None), Some(5));
    }

    #[test]
    fn who_asked_to_be_spared_is_not_asked_because_of_an_older_answer() {
        let bench = Bench::new(SETTINGS);
        assert_eq!(bench.fails(0.0, ErrorKind::ProviderRateLimited, Some(60)), Some(60));
        bench.cooldown.answers(&bench.instruments);
        assert!(!bench.admits(1.0));
        assert_eq!(bench.fails(1.0, ErrorKind::ProviderRateLimited, Some(90)), Some(90), "longer");
        assert_eq!(bench.fails(1.0, ErrorKind::ProviderRateLimited, Some(3)), None);
        assert!(bench.admits(91.1));
        bench.cooldown.answers(&bench.instruments);
        assert!(bench.admits(91.2) && bench.admits(91.2));
    }
}
