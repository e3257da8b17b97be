//! What happens when memory runs short: first what is free is given back to the system, then new requests are
//! refused, then new connections.
//!
//! A thread of its own looks at the memory of the process four times a second, also while every worker
//! is busy.

use std::{
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::memory;
use crate::{gateway::Gateway, proxy::Load};

/// So many looks, and memory is given back again while it is short.
const LOOKS_PER_RECLAIM: u32 = 4;

/// Parts of the limit, in percent, at which a pressure begins; it ends a little below.
const RECLAIMING_AT: usize = 70;
const BELOW: usize = 3;

/// What is too much memory: a limit in bytes, and percents of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marks {
    pub(super) limit: usize,
    pub(super) refusing_at: usize,
    pub(super) closed_at: usize,
    /// From one look to the next.
    pub(super) interval: Duration,
}

/// What there is too little memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pressure {
    None,
    /// What the allocator keeps of freed memory is given back, again and again.
    Reclaiming,
    /// New requests are refused, and idle connections closed.
    Refusing,
    /// No connection is accepted, either.
    Closed,
}

impl Pressure {
    /// What follows from a part of the limit, given what is.
    fn next(self, percent: usize, marks: Marks) -> Self {
        let holds =
            |pressure, begins: usize| percent >= if self >= pressure { begins.saturating_sub(BELOW) } else { begins };
        if holds(Self::Closed, marks.closed_at) {
            Self::Closed
        } else if holds(Self::Refusing, marks.refusing_at) {
            Self::Refusing
        } else if holds(Self::Reclaiming, RECLAIMING_AT) {
            Self::Reclaiming
        } else {
            Self::None
        }
    }
}

/// Starts to look, for as long as there is a server.
pub(super) fn start(
    marks: Marks,
    load: &Arc<Load>,
    gateway: &Arc<ArcSwap<Gateway>>,
) -> std::io::Result<watch::Receiver<Pressure>> {
    let (sender, pressure) = watch::channel(Pressure::None);
    let (load, gateway) = (Arc::downgrade(load), Arc::downgrade(gateway));
    // Nobody is served before the first look.
    look(marks, &load, &gateway, &sender);
    thread::Builder::new().name("governor".to_owned()).stack_size(256 * 1024).spawn(move || {
        let mut looks = 0_u32;
        let mut is_there = Some(());
        while is_there.is_some() {
            thread::sleep(marks.interval);
            looks = looks.wrapping_add(1);
            is_there = look(marks, &load, &gateway, &sender);
            if looks.is_multiple_of(LOOKS_PER_RECLAIM) {
                // Who waits for a change sees one, and gives back what has become free meanwhile.
                sender.send_if_modified(|pressure| *pressure != Pressure::None);
            }
        }
    })?;
    Ok(pressure)
}

/// One look; `None` when the server is gone.
fn look(
    marks: Marks,
    load: &Weak<Load>,
    gateway: &Weak<ArcSwap<Gateway>>,
    sender: &watch::Sender<Pressure>,
) -> Option<()> {
    let (load, gateway, limit) = (load.upgrade()?, gateway.upgrade()?, marks.limit);
    // It cannot be told, as where /proc is missing: then nothing is refused for it.
    let resident = memory::resident().unwrap_or_default();
    let of_billion = resident.saturating_mul(1_000_000) / (limit / 1_000).max(1);
    gateway.load().instruments.memory_pressure.set((), i64::try_from(of_billion).unwrap_or(i64::MAX));
    let before = *sender.borrow();
    let pressure = before.next(resident.saturating_mul(100) / limit.max(1), marks);
    if pressure != before {
        load.set_short(pressure >= Pressure::Refusing);
        sender.send_replace(pressure);
        if pressure >= Pressure::Refusing {
            tracing::warn!(resident, limit, ?pressure, "memory is short");
        } else if before >= Pressure::Refusing {
            tracing::info!(resident, limit, "memory suffices again");
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressure_begins_at_its_part_and_ends_a_little_below() {
        let mut pressure = Pressure::None;
        for (percent, expected) in [
            (69, Pressure::None),
            (70, Pressure::Reclaiming),
            (67, Pressure::Reclaiming),
            (66, Pressure::None),
            (84, Pressure::Reclaiming),
            (85, Pressure::Refusing),
            (83, Pressure::Refusing),
            (82, Pressure::Refusing),
            (81, Pressure::Reclaiming),
            (100, Pressure::Closed),
            (92, Pressure::Closed),
            (91, Pressure::Refusing),
            (94, Pressure::Refusing),
            (95, Pressure::Closed),
            (10, Pressure::None),
        ] {
            pressure =
                pressure.next(percent, Marks { limit: 0, refusing_at: 85, closed_at: 95, interval: Duration::ZERO });
            assert_eq!(pressure, expected, "{percent} %");
        }
    }
    #[test]
    fn the_parts_may_be_others() {
        let marks = Marks { limit: 0, refusing_at: 50, closed_at: 60, interval: Duration::ZERO };
        let of = |percent| Pressure::None.next(percent, marks);
        assert_eq!(
            [49, 50, 59, 60].map(of),
            [Pressure::None, Pressure::Refusing, Pressure::Refusing, Pressure::Closed]
        );
    }
}
