//! Where very many requests come at once, they begin in batches: what has begun is finished before more is.
//!
//! A worker that took them in their order would begin thousands of requests before it came to the first
//! provider's answer. By then the processor's caches hold nothing of that request any more, and each has a
//! provider connection of its own. So a batch begins only after everything that came before it has been
//! looked at; with 5,000 connections a request costs a fifth less (docs/performance.md).

use std::cell::Cell;

use tokio::sync::{Notify, Semaphore};

/// Requests in a batch. Fewer cost more batches, more do not fit into the caches. While fewer than that
/// wait for a provider's answer, none waits here.
const AT_ONCE: usize = 64;

/// Those of one worker thread.
#[derive(Debug)]
pub struct Batches {
    /// Requests whose provider has not begun its answer.
    begun: Cell<usize>,
    waiting: Cell<usize>,
    /// A permit for each request that may begin; who has waited longest has the first.
    next: Semaphore,
    somebody_waits: Notify,
}

/// A request that has begun, until it is dropped.
#[derive(Debug)]
pub(super) struct Begun<'a>(&'a Cell<usize>);

impl<'a> Begun<'a> {
    fn count(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Batches {
    /// Nobody has begun.
    pub fn new() -> Self {
        Self {
            begun: Cell::new(0),
            waiting: Cell::new(0),
            next: Semaphore::const_new(0),
            somebody_waits: Notify::const_new(),
        }
    }

    /// Waits until it may begin, if many have.
    pub(super) async fn begin(&self) -> Begun<'_> {
        if self.begun.get() >= AT_ONCE || self.waiting.get() != 0 {
            let _waiting = Begun::count(&self.waiting);
            self.somebody_waits.notify_one();
            // It is never closed.
            if let Ok(permit) = self.next.acquire().await {
                permit.forget();
            }
        }
        Begun::count(&self.begun)
    }

    /// Lets one batch after the other begin. Has to run on the thread of the requests, as long as there are
    /// any.
    pub async fn release(&self) {
        loop {
            self.somebody_waits.notified().await;
            while self.waiting.get() != 0 {
                // Comes back behind all that is ready now and all that the sockets have by then.
                tokio::task::yield_now().await;
                let most = self.waiting.get().min(AT_ONCE);
                self.next.add_permits(most.saturating_sub(self.next.available_permits()));
            }
        }
    }
}

impl Default for Batches {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use tokio::{
        runtime::LocalOptions,
        task::{spawn_local, yield_now},
    };

    use super::*;

    #[test]
    fn few_begin_before_everything_else_has_been_looked_at_and_nobody_is_forgotten() {
        let runtime = tokio::runtime::Builder::new_current_thread().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let batches = Rc::new(Batches::new());
            let releasing = Rc::clone(&batches);
            spawn_local(async move { releasing.release().await });
            // Numbers of requests that have begun; none stands for an answer that was looked at.
            let seen = Rc::new(RefCell::new(Vec::new()));
            let answers = Rc::clone(&seen);
            spawn_local(async move {
                loop {
                    answers.borrow_mut().push(None);
                    yield_now().await;
                }
            });
            let mut waiting = Vec::new();
            for number in 0..10 * AT_ONCE {
                let (batches, seen) = (Rc::clone(&batches), Rc::clone(&seen));
                waiting.push(spawn_local(async move {
                    let _begun = batches.begin().await;
                    seen.borrow_mut().push(Some(number));
                    // No provider answers: that keeps nobody from beginning.
                    std::future::pending::<()>().await;
                }));
            }
            yield_now().await;
            // One whose client has left meanwhile.
            waiting[2 * AT_ONCE].abort();
            while batches.begun.get() < 10 * AT_ONCE - 1 {
                assert!(seen.borrow().len() < 100 * AT_ONCE, "{} have begun", batches.begun.get());
                yield_now().await;
            }
            let seen = seen.take();
            let expected = (0..10 * AT_ONCE).filter(|number| *number != 2 * AT_ONCE);
            assert!(seen.iter().copied().flatten().eq(expected), "in the order of coming");
            let most = seen.split(Option::is_none).map(<[_]>::len).max();
            assert_eq!(most, Some(AT_ONCE));
            // Once they have ended, nobody waits.
            waiting.iter().for_each(tokio::task::JoinHandle::abort);
            for ended in waiting {
                assert!(ended.await.is_err());
            }
            assert_eq!((batches.begun.get(), batches.waiting.get()), (0, 0));
            let begun: Vec<_> = begin_at_once(&batches, AT_ONCE).await;
            assert_eq!(begun.len(), AT_ONCE);
        });
    }

    /// So many that begin without waiting.
    async fn begin_at_once(batches: &Batches, count: usize) -> Vec<Begun<'_>> {
        let mut begun = Vec::new();
        for _ in 0..count {
            tokio::select! {
                biased;
                one = batches.begin() => begun.push(one),
                () = std::future::ready(()) => panic!("it waits"),
            }
        }
        begun
    }
}
