//! The connections that a worker has open, and which of them can go to make room.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use tokio::task::{AbortHandle, Id};

use super::guard::Permit;

/// What a connection's task tells of itself.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) permit: Permit,
    /// Counts what became idle, which orders it in time without a look at the clock.
    count: Rc<Cell<u64>>,
    /// Since which count the connection has been idle, or new; 0 while it is not.
    idle_since: Cell<u64>,
    /// Its handshake, while that is under way.
    handshake: RefCell<Option<Handshake>>,
}

/// One of the handshakes that a worker has under way, which cost a stranger nothing and us a signature.
#[derive(Debug)]
struct Handshake(Rc<Cell<usize>>);

impl Drop for Handshake {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Activity {
    /// The handshake has been done, or has failed.
    pub(super) fn has_shaken_hands(&self) {
        self.handshake.replace(None);
    }

    /// A request has been answered, and the next one may come.
    pub(super) fn is_idle(&self) {
        let count = self.count.get() + 1;
        self.count.set(count);
        self.idle_since.set(count);
    }

    /// A request has begun.
    pub(super) fn is_busy(&self) {
        self.idle_since.set(0);
    }
}

/// So many that have gone may have left memory behind that is worth giving back.
const CROWD_MIN: usize = 16;

/// A worker's connections.
#[derive(Debug, Default)]
pub(super) struct Open {
    count: Rc<Cell<u64>>,
    handshakes: Rc<Cell<usize>>,
    connections: HashMap<Id, (Rc<Activity>, AbortHandle)>,
    crowd: Crowd,
}

/// The most connections there were since the last crowd left.
#[derive(Debug, Default)]
struct Crowd(usize);

impl Crowd {
    fn is(&mut self, count: usize) {
        self.0 = self.0.max(count);
    }

    /// Whether one has left since this was asked, with so many remaining: at least half of all, so that nobody who
    /// comes and goes makes it so.
    fn has_left(&mut self, remaining: usize) -> bool {
        let has_left = self.0 - remaining.min(self.0) >= CROWD_MIN.max(self.0.div_ceil(2));
        if has_left {
            self.0 = remaining;
        }
        has_left
    }
}

impl Open {
    /// What a new connection is to be served with.
    pub(super) fn activity(&self, permit: Permit) -> Rc<Activity> {
        let (count, handshake) = (Rc::clone(&self.count), RefCell::new(None));
        let activity = Activity { permit, count, idle_since: Cell::new(0), handshake };
        activity.is_idle();
        Rc::new(activity)
    }

    /// Counts the handshake of a new connection from here, as its task may begin much later. If there are
    /// `most` already, the oldest goes, and its connection with it: who stalls handshakes does not shut out
    /// who makes one. Says whether one had to go.
    pub(super) fn shake_hands(&mut self, activity: &Activity, most: usize) -> bool {
        let is_full = self.handshakes.get() >= most;
        if is_full {
            self.evict_from(|activity| activity.handshake.borrow().is_some());
        }
        self.handshakes.set(self.handshakes.get() + 1);
        activity.handshake.replace(Some(Handshake(Rc::clone(&self.handshakes))));
        is_full
    }

    /// Its task has begun.
    pub(super) fn add(&mut self, activity: Rc<Activity>, task: AbortHandle) {
        self.connections.insert(task.id(), (activity, task));
        self.crowd.is(self.connections.len());
    }

    /// Whether a crowd has left since this was asked.
    pub(super) fn has_crowd_left(&mut self) -> bool {
        self.crowd.has_left(self.connections.len())
    }

    /// Its task has ended.
    pub(super) fn remove(&mut self, task: Id) {
        self.connections.remove(&task);
    }

    /// Closes the connection that has been idle for the longest, if one is: first of those that have shown
    /// no key, so that nobody who opens connections shuts out those who use them.
    pub(super) fn evict(&mut self) -> bool {
        self.evict_from(|_| true)
    }

    /// The same among those that `may_go`.
    fn evict_from(&mut self, may_go: impl Fn(&Activity) -> bool) -> bool {
        let is_idle = |activity: &Activity| activity.idle_since.get() > 0 && may_go(activity);
        let idle = self.connections.iter().filter(|(_, (activity, _))| is_idle(activity));
        let order = |(_, (activity, _)): &(&Id, &(Rc<Activity>, AbortHandle))| {
            (activity.permit.is_authenticated(), activity.idle_since.get())
        };
        let Some(oldest) = idle.min_by_key(order).map(|(task, _)| *task) else { return false };
        self.close(oldest);
        true
    }

    /// Closes all that are idle, and says how many.
    pub(super) fn evict_all(&mut self) -> usize {
        let idle = |(_, (activity, _)): &(&Id, &(Rc<Activity>, AbortHandle))| activity.idle_since.get() > 0;
        let idle: Vec<Id> = self.connections.iter().filter(idle).map(|(task, _)| *task).collect();
        for task in &idle {
            self.close(*task);
        }
        idle.len()
    }

    fn close(&mut self, task: Id) {
        if let Some((activity, task)) = self.connections.remove(&task) {
            // Its place is free now, though the task ends a little later.
            activity.permit.release();
            activity.has_shaken_hands();
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_that_leaves_is_noticed_once() {
        let mut crowd = Crowd::default();
        crowd.is(100);
        assert!(!crowd.has_left(51), "not yet half");
        assert!(crowd.has_left(50));
        assert!(!crowd.has_left(50), "said already");
        crowd.is(51);
        assert!(!crowd.has_left(35), "few of those that are left");
        assert!(crowd.has_left(25));
        crowd.is(CROWD_MIN - 1 + 25);
        assert!(!crowd.has_left(25));
        let mut few = Crowd::default();
        few.is(CROWD_MIN - 1);
        assert!(!few.has_left(0), "too few to matter");
    }
}
