//! A timer for deadlines that are nearly always met.
//!
//! Setting and removing a timer per request costs more than looking at one that is there. This one is
//! set once, moved when it fires, and brought forward when a deadline is nearer than what it waits
//! for; a deadline that is further away costs nothing.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::time::{Sleep, sleep_until};

/// Belongs to a connection and serves one deadline after the other.
#[derive(Debug, Default)]
pub struct Watchdog {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    /// Ready once `deadline` has passed. Until then the task is woken by that time at the latest, and
    /// now and then before.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = deadline.into();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if deadline <= tokio::time::Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_are_met_in_any_order() {
        let start = tokio::time::Instant::now();
        let mut watchdog = Watchdog::default();
        let second = Duration::from_secs(1);
        // Later than the last one, earlier than what the timer waits for, and one that has passed.
        for (deadline, at) in [(5, 5), (7, 7), (6, 7), (20, 20)] {
            let deadline = start + deadline * second;
            poll_fn(|cx| watchdog.poll(cx, deadline.into_std())).await;
            assert_eq!(start.elapsed(), at * second);
        }
        // One deadline that is not waited for, then a nearer one.
        let far = poll_fn(|cx| Poll::Ready(watchdog.poll(cx, (start + 90 * second).into_std()))).await;
        assert!(far.is_pending());
        poll_fn(|cx| watchdog.poll(cx, (start + 30 * second).into_std())).await;
        assert_eq!(start.elapsed(), 30 * second);
    }
}
