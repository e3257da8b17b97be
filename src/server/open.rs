//! The connections that a worker has open, and which of them can go to make room.

use std::{cell::Cell, collections::HashMap, rc::Rc};

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
}

impl Activity {
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

/// A worker's connections.
#[derive(Debug, Default)]
pub(super) struct Open {
    count: Rc<Cell<u64>>,
    connections: HashMap<Id, (Rc<Activity>, AbortHandle)>,
}

impl Open {
    /// What a new connection is to be served with.
    pub(super) fn activity(&self, permit: Permit) -> Rc<Activity> {
        let activity = Activity { permit, count: Rc::clone(&self.count), idle_since: Cell::new(0) };
        activity.is_idle();
        Rc::new(activity)
    }

    /// Its task has begun.
    pub(super) fn add(&mut self, activity: Rc<Activity>, task: AbortHandle) {
        self.connections.insert(task.id(), (activity, task));
    }

    /// Its task has ended.
    pub(super) fn remove(&mut self, task: Id) {
        self.connections.remove(&task);
    }

    /// Closes the connection that has been idle for the longest, if one is: first of those that have shown
    /// no key, so that nobody who opens connections shuts out those who use them.
    pub(super) fn evict(&mut self) -> bool {
        let idle = self.connections.iter().filter(|(_, (activity, _))| activity.idle_since.get() > 0);
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
            task.abort();
        }
    }
}
