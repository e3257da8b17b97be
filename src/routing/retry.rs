//! Whether the deployments are gone through once more, and after which pause.
//!
//! The pause is random, up to a limit that doubles: clients whose requests failed together must not come
//! back together. Where every provider has asked to be spared, it begins when the first may be asked again.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Candidates;
use crate::{
    api::error::ErrorKind,
    config::Repeats,
    gateway::{Availability, Deployment},
    telemetry::dimensions::CooldownReason,
};

/// How often the deployments have been gone through for one request.
#[derive(Debug)]
pub(super) struct Rounds {
    limits: Repeats,
    /// Over and done with.
    past: usize,
    /// Another round may help.
    may_help: bool,
}

impl Rounds {
    pub(super) fn new(limits: Repeats) -> Self {
        Self { limits, past: 0, may_help: true }
    }

    pub(super) fn is_later(&self) -> bool {
        self.past != 0
    }
}

impl Candidates<'_> {
    /// The pause before the next round, if there may be one now that this deployment, the last one of
    /// this round, has failed in this way. `asked` is how long its provider wants to be spared.
    pub fn pause(
        &mut self,
        deployment: &Arc<Deployment>,
        kind: ErrorKind,
        asked: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        self.failed(kind);
        let Rounds { limits, past, may_help } = self.rounds;
        if !may_help || past + 1 >= limits.attempts || self.left == 0 {
            return None;
        }
        let soonest = self.deployments.iter().filter_map(|other| match other.cooldown.availability(now) {
            Availability::InUse | Availability::Due(_) if Arc::ptr_eq(other, deployment) => {
                Some(asked.unwrap_or_default())
            }
            Availability::InUse | Availability::Due(_) => Some(Duration::ZERO),
            Availability::Cooling(CooldownReason::RateLimited, left) => Some(left),
            Availability::Cooling(..) => None,
        });
        let soonest = soonest.min().filter(|soonest| *soonest <= limits.wait_max)?;
        let doubled = limits.backoff.saturating_mul(1 << past.min(16));
        Some(soonest + doubled.mul_f64(random()))
    }

    /// A deployment has failed in this way.
    pub fn failed(&mut self, kind: ErrorKind) {
        // Who was waited for in vain would be once more; and what makes no sense, or is refused, stays so.
        self.rounds.may_help &= matches!(
            kind,
            ErrorKind::ProviderUnreachable | ErrorKind::ProviderRateLimited | ErrorKind::ProviderServerError
        );
    }

    /// Begins the next round.
    pub fn begin_again(&mut self) {
        self.rounds.past += 1;
        self.next = 0;
        self.is_last_resort = false;
    }
}

/// A number in `0.0..1.0`, from the keys that the standard library makes for every hash table.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(()) >> 32;
    bits as f64 / f64::from(u32::MAX)
}
