//! Whether a connection is at work: what tells its server how long it has been idle.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

/// Looks at an idle connection per idle time; it may last a quarter longer for that.
const LOOKS: u32 = 4;

/// What is known of one connection.
#[derive(Debug)]
pub struct Activity {
    /// Requests whose answers have not ended.
    at_work: Cell<usize>,
    /// Work has ended since somebody looked.
    has_worked: Cell<bool>,
}

/// A request at work; dropping it ends it.
#[derive(Debug)]
pub struct Busy(Rc<Activity>);

impl Activity {
    /// A connection that has just been opened.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { at_work: Cell::new(0), has_worked: Cell::new(false) })
    }

    /// A request begins.
    pub fn begin(self: &Rc<Self>) -> Busy {
        self.at_work.set(self.at_work.get() + 1);
        Busy(Rc::clone(self))
    }

    /// Waits until the connection has been without work for so long.
    ///
    /// No clock is read and no timer moved per request: the connection is looked at now and then.
    pub async fn idle_for(&self, limit: Duration) {
        let mut since = Instant::now();
        loop {
            let over = since + limit;
            let look = Instant::now() + limit / LOOKS;
            sleep_until(over.min(look).into()).await;
            let has_worked = self.has_worked.replace(false);
            if has_worked || self.at_work.get() > 0 {
                since = Instant::now();
            } else if Instant::now() >= over {
                return;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.at_work.set(self.0.at_work.get().saturating_sub(1));
        self.0.has_worked.set(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unused_connection_lasts_as_long_as_it_may_and_work_makes_it_last() {
        let limit = Duration::from_millis(80);
        let begun = Instant::now();
        let activity = Activity::new();
        activity.idle_for(limit).await;
        let took = begun.elapsed();
        assert!(took >= limit && took < limit * 2, "{took:?}");

        let begun = Instant::now();
        let busy = activity.begin();
        let ending = async {
            tokio::time::sleep(limit * 2).await;
            drop(busy);
        };
        tokio::join!(activity.idle_for(limit), ending);
        assert!(begun.elapsed() >= limit * 3, "{:?}", begun.elapsed());
    }
}
