//! What all workers share of the state of the process: whether memory is short, and how much of it the
//! bodies of requests have.

use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

use crate::api::error::{Error, ErrorKind};

/// Memory for bodies is taken in such steps.
const STEP: usize = 64 * 1024;

/// Worth giving back when there is time for it, in bytes.
const WORTHWHILE: usize = 1 << 20;

thread_local! {
    static FREED: Rc<Freed> = Rc::default();
}

/// What bodies of this thread had that are gone. The allocator keeps it.
#[derive(Debug, Default)]
pub struct Freed {
    bytes: Cell<usize>,
    is_much: Notify,
}

impl Freed {
    /// That of this thread.
    pub fn of_this_thread() -> Rc<Self> {
        FREED.with(Rc::clone)
    }

    /// Waits until it is so much that it is missing elsewhere.
    pub async fn is_much(&self) {
        self.is_much.notified().await;
    }

    /// Whether giving it back is worthwhile; from then on it is taken to be given back.
    pub fn take(&self) -> bool {
        self.bytes.take() >= WORTHWHILE
    }

    fn add(&self, bytes: usize, much: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() >= much {
            self.is_much.notify_one();
        }
    }
}

/// The state of the process.
#[derive(Debug)]
pub struct Load {
    is_short: AtomicBool,
    bodies_max: usize,
    bodies: AtomicUsize,
    /// What a worker may keep of the memory of bodies that are gone.
    freed_max: usize,
}

impl Load {
    /// With so much memory for the request bodies of so many workers together.
    pub fn new(bodies_max: usize, workers: usize) -> Arc<Self> {
        let freed_max = bodies_max / 4 / workers.max(1);
        Arc::new(Self { is_short: AtomicBool::new(false), bodies_max, bodies: AtomicUsize::new(0), freed_max })
    }

    /// Refuses new requests, or takes them again.
    pub fn set_short(&self, is_short: bool) {
        self.is_short.store(is_short, Relaxed);
    }

    /// Whether new requests are refused because memory is short.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Relaxed)
    }

    /// Refuses a new request while memory is short.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.is_short() {
            return Err(Error::new(ErrorKind::Overloaded, "the gateway is short of memory; try again in a moment"));
        }
        Ok(())
    }
}

/// What one body has of the memory for all, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    load: Arc<Load>,
    taken: usize,
}

impl Share {
    /// Nothing yet.
    pub(super) fn of(load: &Arc<Load>) -> Self {
        Self { load: Arc::clone(load), taken: 0 }
    }

    /// Takes what a body of this length needs, or fails: waiting for others, who may be waiting as well,
    /// would hold on to what there is.
    pub(super) fn grow_to(&mut self, length: usize) -> Result<(), Error> {
        while self.taken < length {
            let before = self.load.bodies.fetch_add(STEP, Relaxed);
            self.taken += STEP;
            if before + STEP > self.load.bodies_max {
                let message = "the request bodies under way take all the memory there is for them \
                               (`server.body_memory`); try again in a moment";
                return Err(Error::new(ErrorKind::Overloaded, message));
            }
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // The thread may be about to end, and what it kept with it.
        let _ended = FREED.try_with(|freed| freed.add(self.taken, self.load.freed_max)).is_err();
        self.load.bodies.fetch_sub(self.taken, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_share_what_there_is() {
        let load = Load::new(4 * STEP, 1);
        let (mut one, mut other) = (Share::of(&load), Share::of(&load));
        one.grow_to(2 * STEP + 1).unwrap();
        one.grow_to(10).unwrap();
        other.grow_to(1).unwrap();
        assert_eq!(other.grow_to(STEP + 1).unwrap_err().kind, ErrorKind::Overloaded);
        drop(other);
        one.grow_to(4 * STEP).unwrap();
        assert_eq!(load.bodies.load(Relaxed), 4 * STEP);
        drop(one);
        assert_eq!(load.bodies.load(Relaxed), 0);
    }
}
