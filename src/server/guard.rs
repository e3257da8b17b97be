//! Who may connect: how many, from where, and how often with a wrong key.
//!
//! Shared by the workers and asked once per connection; a request costs it nothing.

use std::{
    cell::Cell,
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    config::{self, Network},
    telemetry::dimensions::Rejection,
};

/// Parts that the addresses are kept in, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// Addresses without a connection that a part remembers for their refused keys.
const REMEMBERED_MAX: usize = 4096;

/// Connections without a key that there is always room for, so that few file descriptors do not shut
/// everybody out.
const UNAUTHENTICATED_MIN: usize = 16;

/// Open files that are asked for where there is no limit.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Decides about connections.
#[derive(Debug)]
pub(super) struct Guard {
    max: usize,
    per_address: Option<usize>,
    max_unauthenticated: usize,
    trusted: Vec<Network>,
    /// One refused key more is forgotten in this time.
    forgiven_in: Duration,
    /// What the refused keys that an address has open may add up to.
    tolerance: Duration,
    open: AtomicUsize,
    unauthenticated: AtomicUsize,
    random: RandomState,
    shards: [Mutex<HashMap<Address, State>>; SHARDS],
}

/// An IPv4 address, or the network of an IPv6 address, which is what one customer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Address {
    V4(u32),
    V6(u64),
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    /// Until when the refused keys are remembered, as the generic cell rate algorithm has it.
    refused_until: Option<Instant>,
}

impl State {
    fn is_idle(&self, now: Instant) -> bool {
        self.open == 0 && self.refused_until.is_none_or(|until| until <= now)
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

impl Guard {
    /// For `max` connections in all.
    pub(super) fn new(settings: &config::Server, max: usize) -> Self {
        let forgiven_in = Duration::from_secs(1) / settings.auth_failures_per_second.max(1);
        Self {
            max,
            per_address: settings.max_connections_per_address,
            max_unauthenticated: settings.max_unauthenticated.unwrap_or((max / 4).max(UNAUTHENTICATED_MIN)).min(max),
            trusted: settings.trusted_proxies.clone(),
            forgiven_in,
            tolerance: forgiven_in * settings.auth_failures_burst,
            open: AtomicUsize::new(0),
            unauthenticated: AtomicUsize::new(0),
            random: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// Lets a connection in, or says why not; `address` is that of the client, if it has one.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Permit, Rejection> {
        // Counted first: workers that look at the same time do not all find the last place free.
        let permit = Permit {
            guard: Arc::clone(self),
            address,
            counted: Cell::new(None),
            standing: Cell::new(Standing::New),
            is_released: Cell::new(false),
        };
        let others = self.open.fetch_add(1, Relaxed);
        if others >= self.max {
            return Err(Rejection::Connections);
        }
        if let Some(address) = address.filter(|address| !self.is_trusted(*address)) {
            self.count(address.into())?;
            permit.counted.set(Some(address.into()));
        }
        Ok(permit)
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    fn count(&self, address: Address) -> Result<(), Rejection> {
        let now = Instant::now();
        self.with(address, now, |state| {
            if self.per_address.is_some_and(|most| state.open >= most) {
                return Err(Rejection::Address);
            }
            state.open += 1;
            Ok(())
        })
    }

    /// Changes what is known of an address, and forgets it when there is nothing to be known.
    fn with<T>(&self, address: Address, now: Instant, change: impl FnOnce(&mut State) -> T) -> T {
        let shard = self.random.hash_one(address) as usize % SHARDS;
        let [first, ..] = &self.shards;
        let mut addresses = self.shards.get(shard).unwrap_or(first).lock().unwrap_or_else(PoisonError::into_inner);
        let state = addresses.entry(address).or_default();
        let changed = change(state);
        if state.is_idle(now) {
            addresses.remove(&address);
        } else if addresses.len() > REMEMBERED_MAX && addresses.len().is_power_of_two() {
            addresses.retain(|_, state| !state.is_idle(now));
        }
        changed
    }
}

/// What a connection has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    /// It has been kept without a key.
    Unauthenticated,
    Authenticated,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    guard: Arc<Guard>,
    address: Option<IpAddr>,
    /// What the connection counts for.
    counted: Cell<Option<Address>>,
    standing: Cell<Standing>,
    is_released: Cell<bool>,
}

impl Permit {
    /// It has shown a valid key.
    pub(super) fn authenticated(&self) {
        if self.standing.replace(Standing::Authenticated) == Standing::Unauthenticated && !self.is_released.get() {
            self.guard.unauthenticated.fetch_sub(1, Relaxed);
        }
    }

    /// Whether it may be kept after its answer: those without a key have a part of the places only. What
    /// has not asked for anything yet does not count among them; it has little time to.
    pub(super) fn may_stay(&self) -> bool {
        if self.standing.get() != Standing::New {
            return true;
        }
        let guard = &self.guard;
        if guard.unauthenticated.fetch_add(1, Relaxed) < guard.max_unauthenticated {
            self.standing.set(Standing::Unauthenticated);
            return true;
        }
        guard.unauthenticated.fetch_sub(1, Relaxed);
        false
    }

    /// Whether it has ever shown a valid key.
    pub(super) fn is_authenticated(&self) -> bool {
        self.standing.get() == Standing::Authenticated
    }

    /// Gives its place away, once.
    pub(super) fn release(&self) {
        if self.is_released.replace(true) {
            return;
        }
        self.guard.open.fetch_sub(1, Relaxed);
        if self.standing.get() == Standing::Unauthenticated {
            self.guard.unauthenticated.fetch_sub(1, Relaxed);
        }
        if let Some(address) = self.counted.take() {
            self.guard.with(address, Instant::now(), |state| state.open = state.open.saturating_sub(1));
        }
    }

    /// Whose it is: a trusted proxy speaks for the last address in `forwarded` that is none of its kind.
    pub(super) fn client(&self, forwarded: Option<&[u8]>) -> Option<IpAddr> {
        let peer = self.address?;
        match forwarded {
            Some(forwarded) if self.guard.is_trusted(peer) => {
                client_of(forwarded, |proxy| self.guard.is_trusted(proxy))
            }
            _ => Some(peer),
        }
    }

    /// A key was refused; says whether the client has tried so many that it gets no answer.
    pub(super) fn refused(&self, forwarded: Option<&[u8]>) -> bool {
        let guard = &self.guard;
        let client = self.client(forwarded).filter(|client| !guard.is_trusted(*client));
        let Some(client) = client else { return false };
        let now = Instant::now();
        guard.with(client.into(), now, |state| {
            let until = state.refused_until.map_or(now, |until| until.max(now)) + guard.forgiven_in;
            // Whoever goes on waits no longer than it takes to forget one.
            state.refused_until = Some(until.min(now + guard.tolerance + guard.forgiven_in));
            until > now + guard.tolerance
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

/// The last address of `X-Forwarded-For` that is no proxy's: those in front of it are what the client
/// says itself.
fn client_of(forwarded: &[u8], is_proxy: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let forwarded = std::str::from_utf8(forwarded).ok()?;
    for address in forwarded.rsplit(',').map(str::trim) {
        let address: IpAddr = address.parse().ok()?;
        if !is_proxy(address) {
            return Some(address);
        }
    }
    None
}

/// How many connections there may be where nobody has said it: what memory and file descriptors allow.
pub(super) fn connections(settings: &config::Server, memory: usize, descriptors: usize) -> usize {
    // One for the client and up to two for providers; some are needed for everything else. Where there are
    // hardly any, most of them are for the clients' sake all the same.
    let by_descriptors = (descriptors.saturating_sub(256.min(descriptors / 2)) / 3).max(4);
    let by_memory = (memory / (256 << 10)).clamp(256, 8192);
    settings.max_connections.unwrap_or(by_memory).min(by_descriptors)
}

/// Raises the limit of open files as far as it goes, and says how many there may be.
pub(super) fn descriptors() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum && limit.current.is_some() {
        let raised = Rlimit { current: limit.maximum.or(Some(DESCRIPTORS_MAX)), ..limit };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = raised,
            Err(error) => tracing::debug!(%error, "the limit of open files could not be raised"),
        }
    }
    limit.current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Environment};

    fn settings(options: &str) -> config::Server {
        let toml = format!(
            "[server]\n{options}\n[providers.p]\nkind = \"echo\"\n[models.m]\ndeployments = [{{ provider = \"p\" }}]\n\
             [[keys]]\nname = \"k\"\nkey = \"tg-0123456789abcdefghij\"\n"
        );
        Config::parse(Path::new("t.toml"), &toml, &Environment::default()).unwrap().config.server
    }

    fn guard(options: &str, max: usize) -> Arc<Guard> {
        Arc::new(Guard::new(&settings(options), max))
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn every_count_comes_back_to_zero() {
        let guard = guard("max_connections_per_address = 2\nmax_unauthenticated = 3", 4);
        let first = guard.admit(ip("10.0.0.1")).unwrap();
        let second = guard.admit(ip("::ffff:10.0.0.1")).unwrap();
        assert_eq!(guard.admit(ip("10.0.0.1")).unwrap_err(), Rejection::Address);
        let third = guard.admit(ip("2001:db8::1")).unwrap();
        assert!([&first, &second, &third, &first].map(Permit::may_stay).iter().all(|may| *may));
        let fourth = guard.admit(ip("2001:db8::2")).unwrap();
        assert!(!fourth.may_stay(), "there are three without a key");
        first.authenticated();
        first.authenticated();
        assert!(first.may_stay() && fourth.may_stay());
        second.authenticated();
        assert_eq!(guard.admit(None).unwrap_err(), Rejection::Connections);
        drop((first, second, third));
        // The same /64 is the same client.
        let fifth = guard.admit(ip("2001:db8::3")).unwrap();
        assert_eq!(guard.admit(ip("2001:db8::ffff")).unwrap_err(), Rejection::Address);
        let other = guard.admit(ip("2001:db8:0:1::3")).unwrap();
        drop((fourth, fifth, other));
        assert_eq!((guard.open.load(Relaxed), guard.unauthenticated.load(Relaxed)), (0, 0));
        assert!(guard.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn a_trusted_proxy_is_not_counted_by_address() {
        let guard = guard("max_connections_per_address = 1\ntrusted_proxies = [\"10.0.0.0/8\"]", 9);
        let permits = [guard.admit(ip("10.1.1.1")).unwrap(), guard.admit(ip("10.1.1.1")).unwrap()];
        let own = guard.admit(ip("192.0.2.1")).unwrap();
        assert_eq!(guard.admit(ip("192.0.2.1")).unwrap_err(), Rejection::Address);
        drop((permits, own));
    }

    #[test]
    fn refused_keys_are_counted_by_client() {
        let guard =
            guard("auth_failures_per_second = 1\nauth_failures_burst = 3\ntrusted_proxies = [\"10.0.0.0/8\"]", 100);
        let client = guard.admit(ip("192.0.2.1")).unwrap();
        let refused: Vec<bool> = (0..5).map(|_| client.refused(Some(b"1.2.3.4"))).collect();
        assert_eq!(refused, [false, false, false, true, true]);
        // Somebody else at that address, who has a key, is not harmed.
        assert!(guard.admit(ip("192.0.2.1")).is_ok());
        assert!(!guard.admit(ip("192.0.2.2")).unwrap().refused(None));
        // Behind a proxy it is the client that is meant, whatever it writes in front of its address.
        let proxy = guard.admit(ip("10.0.0.1")).unwrap();
        for _ in 0..3 {
            assert!(!proxy.refused(Some(b"10.9.9.9, 203.0.113.7, 10.0.0.2")));
        }
        assert!(proxy.refused(Some(b"198.51.100.1, 203.0.113.7")));
        assert!(!proxy.refused(Some(b"203.0.113.8")));
        for nobody in [None, Some(b"unknown".as_slice()), Some(b""), Some(b"10.0.0.3"), Some(b"\xff")] {
            assert!((0..9).all(|_| !proxy.refused(nobody)), "{nobody:?}");
        }
        assert!(guard.admit(ip("203.0.113.7")).unwrap().refused(None));
    }

    #[test]
    fn the_number_of_connections_is_what_the_machine_allows() {
        let auto = settings("");
        for (memory, descriptors, expected) in [
            (256 << 20, 65_536, 1024),
            (16 << 20, 65_536, 256),
            (64 << 30, 1_000_000, 8192),
            (64 << 30, 1024, 256),
            (64 << 30, 64, 10),
            (64 << 30, 8, 4),
        ] {
            assert_eq!(connections(&auto, memory, descriptors), expected);
        }
        assert_eq!(connections(&settings("max_connections = 20000"), 1 << 20, 100_000), 20_000);
        assert_eq!(connections(&settings("max_connections = 20000"), 1 << 20, 1024), 256);
    }
}
