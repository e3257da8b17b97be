//! Which deployment next: those of a model in their order, without those that are left out for now.
//!
//! Knows nothing of requests and answers. Where all are left out, those that answer, if with errors,
//! are asked all the same, for their errors say more than ours; those that cannot be reached or have
//! asked to be spared are not.

mod retry;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    api::error::{Error, ErrorKind},
    gateway::{Availability, Deployment, Limits},
    telemetry::dimensions::CooldownReason,
};

/// The deployments that are tried for one request.
#[derive(Debug)]
pub struct Candidates<'a> {
    deployments: &'a [Arc<Deployment>],
    next: usize,
    /// Attempts that there may still be.
    left: usize,
    rounds: retry::Rounds,
    /// None was in use: those are tried that answer.
    is_last_resort: bool,
}

/// One that is to be tried.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    pub deployment: &'a Arc<Deployment>,
    /// There is none after it.
    pub is_last: bool,
}

impl<'a> Candidates<'a> {
    /// Of these deployments, as often as the limits allow.
    pub fn new(deployments: &'a [Arc<Deployment>], limits: &Limits) -> Self {
        let rounds = retry::Rounds::new(limits.repeats);
        Self { deployments, next: 0, left: limits.max_attempts, rounds, is_last_resort: false }
    }

    /// The next one, as things stand now.
    pub fn next(&mut self, now: Instant) -> Option<Candidate<'a>> {
        self.left = self.left.checked_sub(1)?;
        let found = self.find(now).or_else(|| {
            self.is_last_resort = self.next == 0;
            self.is_last_resort.then(|| self.find(now)).flatten()
        });
        let deployment = self.deployments.get(found?)?;
        self.next = found? + 1;
        let is_last = self.left == 0 || !self.rest().iter().any(|deployment| self.is_good(deployment, now));
        Some(Candidate { deployment, is_last })
    }

    fn rest(&self) -> &'a [Arc<Deployment>] {
        self.deployments.get(self.next..).unwrap_or_default()
    }

    fn find(&self, now: Instant) -> Option<usize> {
        let admitted = |deployment: &Arc<Deployment>| match self.is_last_resort {
            true => self.is_good(deployment, now),
            // Who has waited as long as the provider asked for need not wait for another one's answer too.
            false => deployment.cooldown.admits(now) || self.rounds.is_later() && deployment.cooldown.is_being_asked(),
        };
        self.rest().iter().position(admitted).map(|place| self.next + place)
    }

    fn is_good(&self, deployment: &Deployment, now: Instant) -> bool {
        match deployment.cooldown.availability(now) {
            Availability::InUse | Availability::Due(_) => true,
            Availability::Cooling(CooldownReason::Errors | CooldownReason::Credentials, _) => self.is_last_resort,
            Availability::Cooling(CooldownReason::Unreachable | CooldownReason::RateLimited, _) => false,
        }
    }
}

/// What a client is told where there was no candidate at all, and when it may come again.
pub fn none_left(deployments: &[Arc<Deployment>], now: Instant) -> Error {
    let mut soonest = Duration::MAX;
    let mut kind = ErrorKind::ProviderUnavailable;
    for deployment in deployments {
        if let Availability::Cooling(reason, left) = deployment.cooldown.availability(now) {
            soonest = soonest.min(left);
            if reason == CooldownReason::RateLimited {
                kind = ErrorKind::ProviderRateLimited;
            }
        }
    }
    let seconds = if soonest == Duration::MAX { 1 } else { soonest.as_millis().div_ceil(1000).max(1) };
    let why = match kind {
        ErrorKind::ProviderRateLimited => "has asked the gateway to wait",
        _ => "could not be reached lately",
    };
    let message = format!("every provider of the model {why}; the next attempt is in {seconds} s");
    Error::new(kind, message).retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
}
