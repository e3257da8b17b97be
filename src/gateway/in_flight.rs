//! How many requests are under way, of all clients and of each key.
//!
//! Every worker counts its own and looks at the others' only when it has more than its share. A reload
//! counts anew: those that are under way then end beside the new ones.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crate::{
    api::error::{Error, ErrorKind},
    config,
};

/// Requests under way.
#[derive(Debug)]
pub struct InFlight {
    max: u32,
    max_per_key: u32,
    workers: Box<[OfWorker]>,
}

/// On a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct OfWorker {
    all: AtomicU32,
    keys: Box<[AtomicU32]>,
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    in_flight: Arc<InFlight>,
    worker: usize,
    key: usize,
}

impl InFlight {
    pub(super) fn new(settings: &config::Server, keys: usize) -> Arc<Self> {
        let of_worker = |_| OfWorker { all: AtomicU32::new(0), keys: (0..keys).map(|_| AtomicU32::new(0)).collect() };
        Arc::new(Self {
            max: u32::try_from(settings.max_requests).unwrap_or(u32::MAX),
            max_per_key: u32::try_from(settings.max_requests_per_key).unwrap_or(u32::MAX),
            workers: (0..settings.threads.max(1)).map(of_worker).collect(),
        })
    }

    /// How many workers there is room for.
    pub(super) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Begins a request of the key of that number on the worker of that number, or says what there are
    /// too many of.
    pub fn enter(self: &Arc<Self>, worker: usize, key: usize) -> Result<Turn, Error> {
        let turn = Turn { in_flight: Arc::clone(self), worker, key };
        turn.count(|count| count.fetch_add(1, Relaxed));
        let is_over = |max: u32, of: fn(&OfWorker, usize) -> Option<&AtomicU32>| {
            let count = |worker: &OfWorker| of(worker, key).map_or(0, |count| count.load(Relaxed));
            let own = self.workers.get(worker).map_or(0, count);
            // Where nobody has more than a share, all together have no more than there may be.
            own as usize > max as usize / self.workers.len() && self.workers.iter().map(count).sum::<u32>() > max
        };
        if is_over(self.max_per_key, |worker, key| worker.keys.get(key)) {
            let message = format!("the client key has {} requests under way already", self.max_per_key);
            return Err(Error::new(ErrorKind::KeyBusy, message));
        }
        if is_over(self.max, |worker, _| Some(&worker.all)) {
            let message = format!("the gateway has {} requests under way already", self.max);
            return Err(Error::new(ErrorKind::GatewayBusy, message));
        }
        Ok(turn)
    }
}

impl Turn {
    fn count(&self, change: impl Fn(&AtomicU32) -> u32) {
        if let Some(worker) = self.in_flight.workers.get(self.worker) {
            change(&worker.all);
            worker.keys.get(self.key).map(change);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.count(|count| count.fetch_sub(1, Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment};

    #[test]
    fn no_more_than_there_may_be_however_they_are_spread() {
        let toml = "[server]\nthreads = 3\nmax_requests = 8\nmax_requests_per_key = 5\n[providers.p]\nkind = \"echo\"\n\
                    [models.m]\ndeployments = [{ provider = \"p\" }]\n[[keys]]\nname = \"k\"\nkey = \"tg-0123456789abcdefghij\"\n";
        let settings = Config::parse(Path::new("t.toml"), toml, &Environment::default()).unwrap().config.server;
        let in_flight = InFlight::new(&settings, 2);
        for spread in [[0, 0, 0], [0, 1, 2], [2, 2, 1]] {
            let enter = |at: usize, key| in_flight.enter(spread[at % 3], key);
            let mut turns: Vec<Turn> = (0..5).map(|at| enter(at, 0).unwrap()).collect();
            assert_eq!(enter(5, 0).unwrap_err().kind, ErrorKind::KeyBusy);
            turns.extend((5..8).map(|at| enter(at, 1).unwrap()));
            assert_eq!(enter(8, 1).unwrap_err().kind, ErrorKind::GatewayBusy);
            turns.pop();
            turns.push(enter(9, 1).unwrap());
        }
        let counts = in_flight.workers.iter().flat_map(|worker| worker.keys.iter().chain([&worker.all]));
        assert_eq!(counts.map(|count| count.load(Relaxed)).sum::<u32>(), 0);
    }
}
