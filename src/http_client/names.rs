//! Host names to addresses: looked up once for everybody who waits, and remembered for a while.
//!
//! A name server that is silent or fails must not stop traffic to providers whose address is known:
//! an old answer serves until there is a new one (RFC 8767). The lookups themselves are the system's
//! (`getaddrinfo`), on the few blocking threads that the runtime has for them.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::Limits;

/// How long what a name server said is made use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// An answer, without asking again.
    pub fresh: Duration,
    /// A failure.
    pub failed: Duration,
    /// An answer, while no newer one is to be had.
    pub stale: Duration,
}

impl Lifetimes {
    pub const DEFAULT: Self =
        Self { fresh: Duration::from_secs(30), failed: Duration::from_secs(5), stale: Duration::from_secs(60 * 60) };
}

/// The names of one thread. There are as many as the configuration has hosts.
#[derive(Debug, Default, Clone)]
pub(super) struct Names {
    entries: Rc<RefCell<Vec<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    host: String,
    known: Option<(Rc<[IpAddr]>, Instant)>,
    failed: Option<(String, Instant)>,
    /// Since when it is being looked up, and who is told of the end.
    lookup: Option<(Instant, Rc<Notify>)>,
}

/// What is known of a name without waiting.
#[derive(Debug)]
enum Known {
    Addresses(Rc<[IpAddr]>),
    Failed(String),
    /// The end of this lookup will tell.
    Asked(Rc<Notify>),
    Unknown,
}

impl Names {
    /// The addresses of a host, waited for no longer than the limit of a lookup.
    pub(super) async fn resolve(&self, host: &str, port: u16, limits: &Limits) -> io::Result<Vec<SocketAddr>> {
        let (limit, lifetimes) = (limits.lookup, limits.addresses);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let with_port = |found: &[IpAddr]| found.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let started = Instant::now();
        loop {
            let notify = match self.known(host, Instant::now(), limit, lifetimes) {
                Known::Addresses(found) => return Ok(with_port(&found)),
                Known::Failed(why) => return Err(io::Error::other(why)),
                Known::Asked(notify) => notify,
                Known::Unknown => self.ask(host),
            };
            // Nothing has been awaited since the look, so that the end cannot have been missed.
            if tokio::time::timeout_at(started + limit, notify.notified()).await.is_ok() {
                continue;
            }
            return match self.known(host, Instant::now(), Duration::ZERO, lifetimes) {
                Known::Addresses(found) => Ok(with_port(&found)),
                _ => {
                    let why = format!("failed to lookup address of {host}: no answer within {} ms", limit.as_millis());
                    Err(io::Error::new(io::ErrorKind::TimedOut, why))
                }
            };
        }
    }

    /// What there is; a lookup that has taken longer than `patience` is not waited for where an old
    /// answer will do.
    fn known(&self, host: &str, now: Instant, patience: Duration, lifetimes: Lifetimes) -> Known {
        let entries = self.entries.borrow();
        let Some(entry) = entries.iter().find(|entry| entry.host == host) else { return Known::Unknown };
        let age = |since: &Instant| now.saturating_duration_since(*since);
        let stale = entry.known.as_ref().filter(|(_, since)| age(since) < lifetimes.stale);
        if let Some((found, since)) = stale
            && age(since) < lifetimes.fresh
        {
            return Known::Addresses(Rc::clone(found));
        }
        match (&entry.lookup, &entry.failed, stale) {
            (Some((since, _)), _, Some((found, _))) if age(since) >= patience => Known::Addresses(Rc::clone(found)),
            (Some((_, notify)), ..) => Known::Asked(Rc::clone(notify)),
            (None, Some((_, since)), Some((found, _))) if age(since) < lifetimes.failed => {
                Known::Addresses(Rc::clone(found))
            }
            (None, Some((why, since)), None) if age(since) < lifetimes.failed => Known::Failed(why.clone()),
            (None, ..) => Known::Unknown,
        }
    }

    /// Begins a lookup, which goes on when nobody waits for it any more.
    fn ask(&self, host: &str) -> Rc<Notify> {
        let notify = Rc::new(Notify::new());
        let under_way = Some((Instant::now(), Rc::clone(&notify)));
        let mut entries = self.entries.borrow_mut();
        match entries.iter_mut().find(|entry| entry.host == host) {
            Some(entry) => entry.lookup = under_way,
            None => entries.push(Entry { host: host.to_owned(), known: None, failed: None, lookup: under_way }),
        }
        drop(entries);
        let (names, host) = (self.clone(), host.to_owned());
        tokio::task::spawn_local(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await;
            names.answered(&host, found.map(|found| found.map(|address| address.ip()).collect()));
        });
        notify
    }

    fn answered(&self, host: &str, answer: io::Result<Vec<IpAddr>>) {
        let now = Instant::now();
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.iter_mut().find(|entry| entry.host == host) else { return };
        match answer {
            Ok(found) if !found.is_empty() => (entry.known, entry.failed) = (Some((found.into(), now)), None),
            Ok(_) => entry.failed = Some(("it has no address".to_owned(), now)),
            Err(error) => entry.failed = Some((error.to_string(), now)),
        }
        if let Some((_, notify)) = entry.lookup.take() {
            notify.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const LIMITS: Limits = Limits::connecting(LIMIT, LIMIT);

    fn found(known: Known) -> Result<String, String> {
        match known {
            Known::Addresses(found) => Ok(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            Known::Failed(why) => Err(why),
            Known::Asked(_) => Err("asked".into()),
            Known::Unknown => Err("unknown".into()),
        }
    }

    /// Names in which a lookup of `h` has just begun.
    fn asked(names: &Names) {
        let mut entries = names.entries.borrow_mut();
        let lookup = Some((Instant::now(), Rc::new(Notify::new())));
        match entries.first_mut() {
            Some(entry) => entry.lookup = lookup,
            None => entries.push(Entry { host: "h".into(), known: None, failed: None, lookup }),
        }
    }

    fn answer(names: &Names, answer: Result<&str, &str>) {
        asked(names);
        names.answered("h", answer.map(|address| vec![address.parse().unwrap()]).map_err(io::Error::other));
    }

    async fn after(names: &Names, seconds: u64) -> Result<String, String> {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        found(names.known("h", Instant::now(), LIMIT, Lifetimes::DEFAULT))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_used_then_renewed_and_serves_an_hour_if_it_cannot_be() {
        let names = Names::default();
        assert_eq!(after(&names, 0).await, Err("unknown".into()));
        answer(&names, Ok("192.0.2.1"));
        assert_eq!(after(&names, 29).await, Ok("192.0.2.1".into()));
        assert_eq!(after(&names, 1).await, Err("unknown".into()), "time to ask again");
        asked(&names);
        assert_eq!(after(&names, 1).await, Err("asked".into()), "a new answer is worth a moment");
        assert_eq!(after(&names, 1).await, Ok("192.0.2.1".into()), "and no longer than that");
        names.answered("h", Err(io::Error::other("SERVFAIL")));
        assert_eq!(after(&names, 4).await, Ok("192.0.2.1".into()));
        assert_eq!(after(&names, 1).await, Err("unknown".into()), "time to ask again");
        answer(&names, Ok("192.0.2.2"));
        assert_eq!(after(&names, 0).await, Ok("192.0.2.2".into()));
        answer(&names, Err("SERVFAIL"));
        assert_eq!(after(&names, 3_600).await, Err("unknown".into()), "too old");
        answer(&names, Err("SERVFAIL"));
        assert_eq!(after(&names, 0).await, Err("SERVFAIL".into()));
        assert_eq!(after(&names, 5).await, Err("unknown".into()));
        names.answered("h", Ok(vec![]));
        assert_eq!(after(&names, 0).await, Err("it has no address".into()));
    }

    #[test]
    fn those_who_wait_for_a_name_wait_for_one_lookup() {
        let local = tokio::task::LocalSet::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        local.block_on(&runtime, async {
            let names = Names::default();
            let (one, other) =
                tokio::join!(names.resolve("localhost", 1, &LIMITS), names.resolve("localhost", 2, &LIMITS));
            let (one, other) = (one.unwrap(), other.unwrap());
            assert!(one.iter().all(|address| address.ip().is_loopback() && address.port() == 1), "{one:?}");
            assert!(other.iter().all(|address| address.ip().is_loopback() && address.port() == 2), "{other:?}");
            assert_eq!(names.entries.borrow().len(), 1);
            // Reserved for names that do not exist (RFC 6761 §6.4).
            let why = names.resolve("nothing.invalid", 1, &LIMITS).await.unwrap_err().to_string();
            assert!(why.starts_with("failed to lookup address"), "{why}");
            let literal = names.resolve("192.0.2.1", 9, &Limits::connecting(LIMIT, Duration::ZERO)).await.unwrap();
            assert_eq!(literal, ["192.0.2.1:9".parse().unwrap()]);
        });
    }

    #[test]
    fn a_silent_name_server_costs_no_more_than_the_limit() {
        let local = tokio::task::LocalSet::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        local.block_on(&runtime, async {
            let names = Names::default();
            asked(&names);
            let started = Instant::now();
            let error = names.resolve("h", 1, &LIMITS).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(error.to_string().contains("within 2000 ms"), "{error}");
            assert_eq!(started.elapsed().as_secs(), 2);
        });
    }
}
