//! `[routing]`: how many deployments are tried for a request, and which are left out for a while.

use std::time::Duration;

use toml::Spanned;

use super::{file, resolve::Resolve};

/// `[routing]`.
#[derive(Debug, Clone)]
pub struct Routing {
    /// Attempts at deployments for one request.
    pub max_attempts: usize,
    pub repeats: Repeats,
    pub retries: Retries,
    /// Longest wait for the first content of a stream while another deployment remains.
    pub first_content_timeout: Duration,
    pub cooldown: Cooldown,
}

/// Whether a deployment that has failed is tried again for the same request, and after which pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    /// How often each deployment may be tried for one request.
    pub attempts: usize,
    /// Longest pause before all are gone through again; twice as long each further time.
    pub backoff: Duration,
    /// Longest wait until a provider that has asked to be spared (`Retry-After`) may be asked again.
    pub wait_max: Duration,
}

/// How many attempts there may be after the first of a request, over all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Percent of all requests.
    pub percent: usize,
    /// And so many a second, however few requests there are.
    pub per_second: usize,
}

/// When a deployment is left out, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cooldown {
    /// Failures in a row; 0: no deployment is ever left out.
    pub failures: usize,
    /// The time that they have to fall into.
    pub window: Duration,
    /// The first time.
    pub first: Duration,
    /// From then on, until an attempt succeeds.
    pub longest: Duration,
    /// Once the provider has refused the provider key.
    pub credentials: Duration,
    /// At most, where the provider says for how long (`Retry-After`).
    pub max_retry_after: Duration,
}

pub(super) fn resolve(file: &file::Routing, resolve: &mut Resolve<'_, '_>) -> Routing {
    let routing = Routing {
        max_attempts: resolve.count("max_attempts", file.max_attempts.as_ref(), 3, 1..=100),
        repeats: Repeats {
            attempts: resolve.count("attempts_per_deployment", file.attempts_per_deployment.as_ref(), 1, 1..=100),
            backoff: resolve.duration(file.retry_backoff.as_ref(), "250ms"),
            wait_max: resolve.duration(file.max_retry_wait.as_ref(), "30s"),
        },
        retries: Retries {
            percent: resolve.count("retry_percent", file.retry_percent.as_ref(), 20, 0..=1000),
            per_second: resolve.count("retries_per_second", file.retries_per_second.as_ref(), 10, 0..=1_000_000),
        },
        first_content_timeout: resolve.duration(file.first_content_timeout.as_ref(), "12s"),
        cooldown: Cooldown {
            failures: resolve.count("cooldown_failures", file.cooldown_failures.as_ref(), 5, 0..=1_000_000),
            window: resolve.duration(file.cooldown_window.as_ref(), "30s"),
            first: resolve.duration(file.cooldown.as_ref(), "5s"),
            longest: resolve.duration(file.cooldown_max.as_ref(), "15s"),
            credentials: resolve.duration(file.cooldown_credentials.as_ref(), "5m"),
            max_retry_after: resolve.duration(file.max_retry_after.as_ref(), "5m"),
        },
    };
    let place = file.cooldown.as_ref().or(file.cooldown_max.as_ref()).map(Spanned::span);
    if let (true, Some(place)) = (routing.cooldown.first > routing.cooldown.longest, place) {
        resolve
            .problems
            .add(place, "cooldown is over cooldown_max: a deployment that fails again would come back sooner");
    }
    routing
}
