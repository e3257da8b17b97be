//! Where events go: those that are wanted become entries of the log.

use std::time::{Instant, SystemTime};

use tracing::{
    Event, Level, Metadata, Subscriber,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

use super::{
    budget::Budget,
    event,
    line::Shape,
    writer::{DROPS, Queue},
};
use crate::{proxy::ACCESS_LOG, telemetry::dimensions::LineDropped};

/// The log of this process.
#[derive(Debug)]
pub(super) struct Log {
    level: LevelFilter,
    shape: Shape,
    budget: Budget,
    queue: &'static Queue,
}

impl Log {
    pub(super) fn new(level: LevelFilter, shape: Shape, lines_per_second: usize, queue: &'static Queue) -> Self {
        Self { level, shape, budget: Budget::new(lines_per_second, Instant::now()), queue }
    }

    fn wants(&self, of: &Metadata<'_>) -> bool {
        let target = of.target();
        let least = match target {
            // Whoever wants the access log has asked for it by its own name.
            ACCESS_LOG => self.level.max(LevelFilter::INFO),
            DROPS => self.level.max(LevelFilter::WARN),
            // What a client does wrong is a warning to the HTTP/2 library.
            _ if self.level < LevelFilter::DEBUG && (target == "h2" || target.starts_with("h2::")) => {
                self.level.min(LevelFilter::ERROR)
            }
            _ => self.level,
        };
        of.is_event() && *of.level() <= least
    }

    fn entry(&self, level: Level, event: &Event<'_>) -> Vec<u8> {
        let mut text = self.shape.begin(level);
        event::write(&mut text, self.shape.kind, self.shape.bytes_max, SystemTime::now(), event);
        self.shape.end(level, text)
    }
}

impl Subscriber for Log {
    fn register_callsite(&self, of: &'static Metadata<'static>) -> Interest {
        if self.wants(of) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, of: &Metadata<'_>) -> bool {
        self.wants(of)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.max(LevelFilter::INFO))
    }

    fn event(&self, event: &Event<'_>) {
        let of = event.metadata();
        let level = *of.level();
        if of.target() == DROPS {
            return Queue::report(self.entry(level, event));
        }
        if !self.budget.takes(Instant::now(), level <= Level::WARN) {
            self.queue.drops(LineDropped::MaxLinesPerSecond);
        } else if !self.queue.offer(self.entry(level, event)) {
            self.queue.drops(LineDropped::QueueFull);
        }
    }

    /// No line says in what it happened: there are no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
