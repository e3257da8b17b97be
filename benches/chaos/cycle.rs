//! What the receiver does wrong, one kind after the other, with time to be well in between.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::receiver::{Fault, Receiver};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Refused,
    Blackhole,
    TooManyRequests,
    ServerError,
    TooLarge,
    Endless,
    Redirect,
}

impl Trouble {
    pub(crate) const ALL: [Self; 7] = [
        Self::Refused,
        Self::Blackhole,
        Self::TooManyRequests,
        Self::ServerError,
        Self::TooLarge,
        Self::Endless,
        Self::Redirect,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Refused => "connections refused",
            Self::Blackhole => "no answer",
            Self::TooManyRequests => "429 with Retry-After",
            Self::ServerError => "500",
            Self::TooLarge => "413",
            Self::Endless => "an answer of 10 GiB",
            Self::Redirect => "a redirect",
        }
    }

    fn begin(self, receiver: &Receiver) {
        let fault = match self {
            Self::Refused => return receiver.refuse_connections(),
            Self::Blackhole => Fault::Hang,
            Self::TooManyRequests => Fault::status(429, "slow down").header("Retry-After", "1"),
            Self::ServerError => Fault::status(500, "out of order"),
            Self::TooLarge => Fault::status(413, "too large"),
            Self::Endless => Fault::Endless,
            Self::Redirect => Fault::redirect(307, "/elsewhere"),
        };
        receiver.always(fault);
    }

    fn end(self, receiver: &Receiver) {
        match self {
            Self::Refused => receiver.listen(),
            _ => receiver.always(None),
        }
    }
}

/// Where in the sequence it is. It goes on where it stopped, so that short runs together see every kind.
pub(crate) struct Cycle {
    pub(crate) trouble: Duration,
    pub(crate) pause: Duration,
    next: usize,
}

impl Cycle {
    pub(crate) fn new(trouble: Duration, pause: Duration) -> Self {
        Self { trouble, pause, next: 0 }
    }

    /// Troubles the receiver until `end`, and leaves it well.
    pub(crate) fn run(&mut self, receiver: &Receiver, end: Instant, mut tell: impl FnMut(Trouble)) {
        let left = || end.saturating_duration_since(Instant::now());
        while !left().is_zero() {
            let trouble = Trouble::ALL[self.next % Trouble::ALL.len()];
            self.next += 1;
            tell(trouble);
            trouble.begin(receiver);
            sleep(self.trouble.min(left()));
            trouble.end(receiver);
            sleep(self.pause.min(left()));
        }
    }
}
