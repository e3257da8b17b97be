//! The rows of the table: which figure of which test, and whether it is compared with nginx.

use crate::load::Figures;
use crate::spread::Spread;
use crate::test::Test;

/// A line of the table that comes from rounds.
pub(crate) struct Row {
    pub(crate) test: Test,
    pub(crate) what: &'static str,
    pub(crate) digits: usize,
    /// Whether less is better, so that a ratio to nginx means something.
    pub(crate) compared: bool,
    pub(crate) value: Value,
}

/// From a run and the `direct` run of the same round.
type Value = fn(&Figures, Option<&Figures>) -> Option<f64>;

pub(crate) const ROWS: &[Row] = &[
    Row::shown(Test::Thr, "requests/s, 64 connections", 0, |run, _| Some(run.answers as f64 / run.seconds)),
    Row::compared(Test::Thr, "CPU µs per request", 1, |run, _| cpu_us(Test::Thr, run)),
    Row::compared(Test::Thr, "… of it in user mode", 1, |run, _| user_us(Test::Thr, run)),
    Row::shown(Test::Lat, "p50 µs, 1 connection", 0, |run, _| Some(run.latency[0])),
    Row::compared(Test::Lat, "… added to direct", 0, |run, direct| added(run, direct, |run| run.latency[0])),
    Row::shown(Test::Lat, "p99 µs", 0, |run, _| Some(run.latency[1])),
    Row::compared(Test::Lat, "CPU µs per request", 1, |run, _| cpu_us(Test::Lat, run)),
    Row::compared(Test::Many, "CPU µs per request, 5,000 connections", 1, |run, _| cpu_us(Test::Many, run)),
    Row::compared(Test::Body4K, "CPU µs per request of 4 KB", 1, |run, _| cpu_us(Test::Body4K, run)),
    Row::compared(Test::Body100K, "CPU µs per request of 100 KB", 0, |run, _| cpu_us(Test::Body100K, run)),
    Row::compared(Test::Body4M, "CPU µs per request of 4 MB", 0, |run, _| cpu_us(Test::Body4M, run)),
    Row::shown(Test::Sse, "events/s, 64 streams", 0, |run, _| Some(run.events as f64 / run.seconds)),
    Row::compared(Test::Sse, "CPU µs per event", 2, |run, _| cpu_us(Test::Sse, run)),
    Row::compared(Test::Sse, "… of it in user mode", 2, |run, _| user_us(Test::Sse, run)),
    Row::shown(Test::Sse, "reads per stream at the client", 1, |run, _| Some(run.reads as f64 / run.answers as f64)),
    Row::shown(Test::Sse, "first event p50 µs", 0, |run, _| Some(run.first_event[0])),
    Row::compared(Test::Paced, "CPU µs per event", 1, |run, _| cpu_us(Test::Paced, run)),
    Row::shown(Test::Paced, "transit p50 µs", 0, |run, _| Some(run.transit[0])),
    Row::compared(Test::Paced, "… added to direct", 0, |run, direct| added(run, direct, |run| run.transit[0])),
    Row::shown(Test::Paced, "transit p99 µs", 0, |run, _| Some(run.transit[1])),
    Row::shown(Test::Paced, "first event p50 µs", 0, |run, _| Some(run.first_event[0])),
    Row::compared(Test::Slow, "RSS MB with all streams open", 1, |run, _| slow_memory(run)),
    Row::compared(Test::Slow, "CPU µs per event", 1, |run, _| cpu_us(Test::Slow, run)),
];

impl Row {
    const fn shown(test: Test, what: &'static str, digits: usize, value: Value) -> Self {
        Self { test, what, digits, compared: false, value }
    }

    const fn compared(test: Test, what: &'static str, digits: usize, value: Value) -> Self {
        Self { test, what, digits, compared: true, value }
    }
}

fn cpu_us(test: Test, run: &Figures) -> Option<f64> {
    (run.cpu.total() > 0.0).then(|| test.cpu_us(run))
}

fn user_us(test: Test, run: &Figures) -> Option<f64> {
    cpu_us(test, run).map(|all| all * run.cpu.user / run.cpu.total())
}

fn added(run: &Figures, direct: Option<&Figures>, figure: fn(&Figures) -> f64) -> Option<f64> {
    let direct = direct?;
    (run.cpu.total() > 0.0).then(|| figure(run) - figure(direct))
}

/// Without the first seconds, in which streams still begin, and the last, in which they end.
fn slow_memory(run: &Figures) -> Option<f64> {
    let steady = run.memory.get(3..run.memory.len().checked_sub(2)?)?;
    Some(Spread::of(steady.iter().map(|kib| megabytes(*kib)))?.median)
}

pub(crate) fn megabytes(kib: u64) -> f64 {
    kib as f64 * 1024.0 / 1e6
}
