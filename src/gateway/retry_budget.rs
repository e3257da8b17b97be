//! How many further attempts there may be: a part of all requests, and a few a second in any case.
//!
//! Providers that fail under load must not get a multiple of it. Requests are counted by worker without
//! contention; only who needs a further attempt adds them up.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config::Retries;

/// What may be saved up, in seconds of the present rate.
const SAVED: f64 = 10.0;

/// The rate is measured over this time at least.
const MEASURED: Duration = Duration::from_secs(1);

/// The attempts that may still be made.
#[derive(Debug)]
pub struct RetryBudget {
    settings: Retries,
    requests: Box<[OfWorker]>,
    ledger: Mutex<Ledger>,
}

/// On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OfWorker(AtomicU64);

#[derive(Debug)]
struct Ledger {
    balance: f64,
    /// When the balance was that, and how many requests there had been.
    at: Instant,
    requests: u64,
    /// Requests a second, and since when they are counted for it.
    rate: f64,
    measured: (Instant, u64),
}

impl RetryBudget {
    pub(super) fn new(settings: Retries, workers: usize, now: Instant) -> Self {
        let balance = settings.per_second as f64 * SAVED;
        Self {
            settings,
            requests: (0..workers.max(1)).map(|_| OfWorker::default()).collect(),
            ledger: Mutex::new(Ledger { balance, at: now, requests: 0, rate: 0.0, measured: (now, 0) }),
        }
    }

    pub(super) fn has(&self, settings: Retries, workers: usize) -> bool {
        self.settings == settings && self.requests.len() == workers.max(1)
    }

    /// A request begins on the worker of that number.
    pub fn request(&self, worker: usize) {
        if let Some(OfWorker(count)) = self.requests.get(worker) {
            // Nobody else writes it.
            count.store(count.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Whether there may be one further attempt now.
    pub fn withdraw(&self, now: Instant) -> bool {
        let requests: u64 = self.requests.iter().map(|OfWorker(count)| count.load(Relaxed)).sum();
        let (part, floor) = (self.settings.percent as f64 / 100.0, self.settings.per_second as f64);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = now.saturating_duration_since(ledger.at).as_secs_f64();
        let new = requests.saturating_sub(ledger.requests) as f64;
        (ledger.at, ledger.requests) = (now, requests);
        let measured = now.saturating_duration_since(ledger.measured.0);
        if measured >= MEASURED {
            ledger.rate = requests.saturating_sub(ledger.measured.1) as f64 / measured.as_secs_f64();
            ledger.measured = (now, requests);
        }
        let unmeasured = requests.saturating_sub(ledger.measured.1) as f64;
        let most = SAVED * (floor + part * ledger.rate) + part * unmeasured;
        ledger.balance = (ledger.balance + floor * seconds + part * new).min(most);
        let is_there = ledger.balance >= 1.0;
        if is_there {
            ledger.balance -= 1.0;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Withdrawals that are allowed in so many seconds, of one for each of so many requests a second.
    fn allowed(settings: Retries, per_second: u32, seconds: u32) -> u32 {
        let begun = Instant::now();
        let budget = RetryBudget::new(settings, 2, begun);
        let mut allowed = 0;
        for number in 0..per_second * seconds {
            budget.request(number as usize % 2);
            let now = begun + Duration::from_secs(1) * number / per_second;
            allowed += u32::from(budget.withdraw(now));
        }
        allowed
    }

    #[test]
    fn a_part_of_all_requests_and_a_few_a_second() {
        let settings = Retries { percent: 20, per_second: 10 };
        // What was saved up at the beginning, ten a second, and a fifth.
        assert!((100 + 600 + 12_000 - 10..=100 + 600 + 12_000).contains(&allowed(settings, 1000, 60)));
        assert_eq!(allowed(settings, 5, 60), 300, "each, where there are few");
        let (none, fifth) = (Retries { percent: 0, per_second: 0 }, Retries { percent: 20, per_second: 0 });
        assert_eq!(allowed(none, 100, 10), 0);
        assert!((199..=200).contains(&allowed(fifth, 100, 10)));
        let all = Retries { percent: 100, per_second: 0 };
        assert_eq!(allowed(all, 100, 10), 1_000);
    }

    #[test]
    fn no_more_is_saved_up_than_ten_seconds_give() {
        let begun = Instant::now();
        let budget = RetryBudget::new(Retries { percent: 20, per_second: 10 }, 1, begun);
        // An hour at ten a second without a failure.
        (0..36_000).for_each(|_| budget.request(0));
        let later = begun + Duration::from_secs(3_600);
        let allowed = (0..100_000).take_while(|_| budget.withdraw(later)).count();
        assert_eq!(allowed, 120);
        let allowed = (0..100_000).take_while(|_| budget.withdraw(later + Duration::from_secs(3_600))).count();
        assert_eq!(allowed, 100, "and after an hour without a request");
    }
}
