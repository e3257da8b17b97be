//! The tests: what each of them sends, and what its figures are divided by.

use crate::load::{Figures, Job, Stream};
use crate::options::Options;
use crate::peers::{KEY, Peer};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    /// From exec to the first 200 through the gateway.
    Startup,
    /// 64 connections, one plain request after the other.
    Thr,
    /// The same with one connection: what a lone caller feels.
    Lat,
    /// The same with five thousand connections.
    Many,
    /// One plain request after the other on 16 connections, with a prompt that makes the body 4 KB long.
    Body4K,
    /// The same with 100 KB: a coding agent's.
    Body100K,
    /// The same with 4 MB: pictures.
    Body4M,
    /// 64 streams back to back, 36 events each, written one by one without a pause.
    Sse,
    /// 64 streams, one event per 10 ms: every event is read and written alone.
    Paced,
    /// A thousand streams, one event per second: what an open stream holds.
    Slow,
}

/// Connections of the test with many.
const MANY: usize = 5_000;

/// The tests that are repeated in rounds.
pub(crate) const IN_ROUNDS: [Test; 8] =
    [Test::Thr, Test::Lat, Test::Many, Test::Body4K, Test::Body100K, Test::Body4M, Test::Sse, Test::Paced];

impl Test {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Thr => "thr",
            Self::Lat => "lat",
            Self::Many => "many",
            Self::Body4K => "body4k",
            Self::Body100K => "body100k",
            Self::Body4M => "body4m",
            Self::Sse => "sse",
            Self::Paced => "paced",
            Self::Slow => "slow",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let mut all = IN_ROUNDS.into_iter().chain([Self::Startup, Self::Slow]);
        all.find(|test| test.name() == name).ok_or_else(|| format!("unknown test {name}"))
    }

    /// The length of a request's body; as short as it gets where that does not matter.
    const fn body_bytes(self) -> usize {
        match self {
            Self::Body4K => 4_000,
            Self::Body100K => 100_000,
            Self::Body4M => 4_000_000,
            _ => 0,
        }
    }

    /// Files that the load client, the mock and a gateway open, each.
    pub(crate) const fn open_files(self, options: &Options) -> usize {
        match self {
            Self::Slow => options.slow_streams * 2 + 256,
            Self::Many => MANY * 2 + 256,
            _ => 0,
        }
    }

    /// Where the cores are mostly idle, their waking up must not be what is measured.
    pub(crate) const fn needs_awake_cores(self) -> bool {
        matches!(self, Self::Lat | Self::Paced)
    }

    /// The load, without the process to watch.
    pub(crate) fn job(self, options: &Options, peer: &Peer) -> Job {
        let (connections, stream) = match self {
            Self::Startup | Self::Lat => (1, None),
            Self::Thr => (64, None),
            Self::Many => (MANY, None),
            Self::Body4K | Self::Body100K | Self::Body4M => (16, None),
            Self::Sse => (64, Some(Stream { events: 32, gap_us: 0, once: false })),
            Self::Paced => (64, Some(Stream { events: 32, gap_us: 10_000, once: false })),
            Self::Slow => (options.slow_streams, Some(Stream { events: 14, gap_us: 1_000_000, once: true })),
        };
        Job {
            address: peer.address,
            headers: format!("Authorization: Bearer {KEY}\r\n{}", peer.headers),
            connections,
            // A slow stream takes its own time; this only limits when the last one may begin.
            seconds: if self == Self::Slow { 5.0 } else { options.seconds },
            stream,
            body_bytes: self.body_bytes(),
            watch: None,
            gateway_core: options.gateway_core,
            load_core: options.load_core,
        }
    }

    /// Microseconds of the gateway's CPU per request, or per event where the test streams.
    pub(crate) fn cpu_us(self, figures: &Figures) -> f64 {
        let count = match self {
            Self::Sse | Self::Paced | Self::Slow => figures.events,
            _ => figures.answers,
        };
        figures.cpu.total() * 1e6 / (count.max(1)) as f64
    }
}
