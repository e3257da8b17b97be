//! Readings for those who fetch the numbers themselves.

use std::sync::Arc;

use super::source::Source;
use crate::telemetry::{Registry, Snapshot};

/// Takes readings of a registry at any time, without a trace in those of the exporter.
#[derive(Debug)]
pub struct Scrape {
    source: Source,
}

impl Scrape {
    /// Prepares readings of `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { source: Source::new(registry) }
    }

    /// Everything as it is now, process numbers included.
    ///
    /// Series that have ended are not part of it: how many scrapers there are is not known, so
    /// nobody could say which of them has seen the last values. Their absence is their end.
    pub fn read(&mut self) -> Snapshot {
        self.source.read().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{Counter, catalog as metric};

    #[test]
    fn a_scrape_takes_nothing_from_a_push() {
        let registry = Registry::new();
        let mut push = Source::new(Arc::clone(&registry));
        let mut scrape = Scrape::new(Arc::clone(&registry));
        let accepted: Counter = registry.counter(&metric::CONNECTIONS_ACCEPTED, &[]);
        accepted.add((), 3);
        let names =
            |snapshot: &Snapshot| snapshot.metrics.iter().map(|metric| metric.descriptor.name).collect::<Vec<_>>();
        assert_eq!(names(&scrape.read()), names(&push.read().0));
        drop(accepted);
        assert!(!names(&scrape.read()).contains(&metric::CONNECTIONS_ACCEPTED.name));
        assert!(!names(&scrape.read()).contains(&metric::CONNECTIONS_ACCEPTED.name));
        assert_eq!(push.read().1.len(), 1, "the end of a series is news to each reader");
    }
}
