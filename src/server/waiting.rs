//! How long a connection waits for a request, and when it has served enough of them.
//!
//! A request that comes whole costs no look at the clock and moves no timer: a connection has one
//! timer, which is looked at now and then, and set only for heads that come in pieces.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, RandomState},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use crate::{config, http_client::Watchdog, telemetry::dimensions::ConnectionTimeout};

/// Looks at an idle connection per idle time; it may last a quarter longer for that.
const LOOKS: u32 = 4;

/// The patience with one connection.
#[derive(Debug)]
pub(super) struct Waiting {
    timer: Watchdog,
    first_byte_by: Instant,
    head_timeout: Duration,
    /// When the head has to be whole that has come in part.
    head_by: Option<Instant>,
    next_look: Instant,
    look_every: Duration,
    /// Looks in a row that found no work.
    looks: u32,
    has_served: bool,
    old_at: Instant,
    is_old: bool,
    requests_left: u32,
}

impl Waiting {
    pub(super) fn new(settings: &config::Server) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let age = spread(settings.max_connection_age);
        let look_every = settings.idle_timeout / LOOKS;
        Self {
            timer: Watchdog::default(),
            first_byte_by: now + settings.first_byte_timeout,
            head_timeout: settings.head_timeout,
            head_by: None,
            next_look: now + look_every.min(age),
            look_every,
            // Work can have ended just after a look, or as here just at one.
            looks: 1,
            has_served: false,
            old_at: now + age,
            is_old: false,
            requests_left: settings.max_connection_requests,
        }
    }

    /// A request has come.
    pub(super) fn has_request(&mut self) {
        self.requests_left = self.requests_left.saturating_sub(1);
        self.head_by = None;
        self.has_served = true;
    }

    /// Whether a request has come before.
    pub(super) fn has_served(&self) -> bool {
        self.has_served
    }

    /// Its answer has been sent.
    pub(super) fn has_worked(&mut self) {
        self.looks = 0;
    }

    /// Whether another request may come on this connection.
    pub(super) fn may_go_on(&self) -> bool {
        self.requests_left > 0 && !self.is_old
    }

    /// Whether it has been too long, and for what; `has_begun` says that a part of a head has come.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, has_begun: bool) -> Poll<ConnectionTimeout> {
        if has_begun {
            let limit = self.head_timeout;
            let by = *self.head_by.get_or_insert_with(|| tokio::time::Instant::now().into_std() + limit);
            return self.timer.poll(cx, by).map(|()| ConnectionTimeout::Head);
        }
        if !self.has_served {
            return self.timer.poll(cx, self.first_byte_by).map(|()| ConnectionTimeout::FirstByte);
        }
        while self.timer.poll(cx, self.next_look).is_ready() {
            let now = tokio::time::Instant::now().into_std();
            self.is_old |= now >= self.old_at;
            self.looks += 1;
            if self.looks > LOOKS {
                return Poll::Ready(ConnectionTimeout::Idle);
            }
            self.next_look = now + self.look_every;
        }
        Poll::Pending
    }
}

/// A tenth more or less, so that connections that began together do not end together.
pub(super) fn spread(time: Duration) -> Duration {
    thread_local! {
        static RANDOM: RandomState = RandomState::new();
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.replace(COUNT.get().wrapping_add(1));
    let of_thousand = RANDOM.with(|random| random.hash_one(count)) % 201 + 900;
    time.mul_f64(of_thousand as f64 / 1000.0)
}
