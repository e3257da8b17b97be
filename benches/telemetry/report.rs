//! The table: what each figure means, which goal it has, and whether it is met.

use std::fmt::Write;
use std::time::Duration;

use crate::machine;
use crate::spread::Spread;
use crate::workload::Figures;

/// On a quiet machine a thread waits for its core for less than this share of the time.
const WAITED_MAX: f64 = 0.01;
/// How many times faster than the SDK recording has to be.
const TIMES_FASTER: f64 = 10.0;

struct Row {
    name: &'static str,
    what: &'static str,
    digits: usize,
    /// The most it may be, in the unit of the row.
    goal: Option<f64>,
    /// Whether it has to be ten times faster than the SDK.
    tenfold: bool,
}

const ROWS: &[Row] = &[
    Row::new("counter", "counter add, 1 thread, ns", 1).at_most(10.0).tenfold(),
    Row::new("counter.same", "… 2 threads, same series, ns", 1).tenfold(),
    Row::new("counter.apart", "… 2 threads, a series each, ns", 1).tenfold(),
    Row::new("histogram", "histogram record, 1 thread, ns", 1).at_most(25.0).tenfold(),
    Row::new("histogram.same", "… 2 threads, same series, ns", 1).tenfold(),
    Row::new("histogram.apart", "… 2 threads, a series each, ns", 1).tenfold(),
    Row::new("request.whole", "all recording of one request, ns", 0).at_most(300.0).tenfold(),
    Row::new("request.stream", "… of one stream in two deliveries, ns", 0).at_most(300.0).tenfold(),
    Row::new("clocked.whole", "one request with its clock reads, ns", 0),
    Row::new("clocked.stream", "one such stream with its clock reads, ns", 0),
    Row::new("loop", "empty loop, taken off above, ns", 1),
    Row::new("snapshot.2000", "snapshot of 2,000 series, ms", 3),
    Row::new("encode.2000", "encoding it, ms", 3),
    Row::new("export.2000", "both, ms", 3).at_most(1.0),
    Row::new("gzip.2000", "gzip of it, ms", 3),
    Row::new("bytes.2000", "bytes per export", 0),
    Row::new("packed.2000", "bytes after gzip", 0),
    Row::new("snapshot.20000", "snapshot of 20,000 series, ms", 2),
    Row::new("encode.20000", "encoding it, ms", 2),
    Row::new("export.20000", "both, ms", 2),
    Row::new("gzip.20000", "gzip of it, ms", 2),
    Row::new("bytes.20000", "bytes per export", 0),
    Row::new("packed.20000", "bytes after gzip", 0),
];

impl Row {
    const fn new(name: &'static str, what: &'static str, digits: usize) -> Self {
        Self { name, what, digits, goal: None, tenfold: false }
    }

    const fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    const fn tenfold(mut self) -> Self {
        self.tenfold = true;
        self
    }

    fn verdict(&self, ours: Option<&Spread>, ratio: Option<&Spread>) -> String {
        let mut parts = Vec::new();
        let word = |met| if met { "met" } else { "**MISSED**" };
        if let (Some(goal), Some(ours)) = (self.goal, ours) {
            parts.push(format!("≤ {goal}: {}", word(ours.median <= goal)));
        }
        if let (true, Some(ratio)) = (self.tenfold, ratio) {
            parts.push(format!("≥ {TIMES_FASTER}×: {}", word(ratio.median >= TIMES_FASTER)));
        }
        parts.join(", ")
    }
}

/// The figures of every round.
pub(crate) struct Report {
    pub(crate) tollgate: Vec<Figures>,
    pub(crate) sdk: Vec<Figures>,
    /// Share of the time that other work had the core.
    pub(crate) waited: f64,
    /// Why there are none of the SDK.
    without_sdk: Option<String>,
}

impl Report {
    pub(crate) fn new(without_sdk: Option<String>) -> Self {
        Self { tollgate: Vec::new(), sdk: Vec::new(), waited: 0.0, without_sdk }
    }

    pub(crate) fn markdown(&self, rounds: usize, took: Duration) -> String {
        let mut text = String::from(
            "| what | tollgate | OpenTelemetry SDK | … with bound instruments | SDK / tollgate | goal |\n|---|---:|---:|---:|---:|---|\n",
        );
        for row in ROWS {
            let ours = spread(&self.tollgate, row.name);
            // Both of one round, because the machine changes between rounds.
            let pairs = self.sdk.iter().zip(&self.tollgate);
            let ratio =
                Spread::of(pairs.filter_map(|(sdk, tollgate)| Some(sdk.get(row.name)? / tollgate.get(row.name)?)))
                    .filter(|_| row.name != "loop");
            let show = |spread: Option<Spread>| spread.map_or("–".to_owned(), |spread| spread.show(row.digits));
            let theirs = match &self.without_sdk {
                Some(_) => "not built".to_owned(),
                None => show(spread(&self.sdk, row.name)),
            };
            let bound = show(spread(&self.sdk, &format!("bound.{}", row.name)));
            let verdict = row.verdict(ours.as_ref(), ratio.as_ref());
            let ratio = ratio.map_or("–".to_owned(), |ratio| format!("{:.1}", ratio.median));
            // Writing to a string cannot fail.
            writeln!(text, "| {} | {} | {theirs} | {bound} | {ratio} | {verdict} |", row.what, show(ours)).ok();
        }
        text.push_str("\nMedians (least–most) over rounds; the ratio is the median of those inside each round.\n");
        if self.waited > WAITED_MAX {
            let share = self.waited * 100.0;
            writeln!(text, "- **The machine was not quiet: other work had the core {share:.0} % of the time.**").ok();
        }
        if let Some(why) = &self.without_sdk {
            writeln!(text, "- OpenTelemetry SDK: {why}").ok();
        }
        text.push_str(
            "- OpenTelemetry SDK for Rust 0.33 with the same metrics, attributes and buckets; attributes prepared \
             beforehand. Bound instruments are an experimental feature of it. Its snapshot is a collection by a manual \
             reader, its encoding the conversion by opentelemetry-proto and prost.\n\
             - Series of an export: per deployment five histograms and six numbers, per key and model eight numbers; \
             a fifth of the series are histograms.\n",
        );
        let (bytes, packed) = (spread(&self.tollgate, "bytes.2000"), spread(&self.tollgate, "packed.2000"));
        if let (Some(bytes), Some(packed)) = (bytes, packed) {
            writeln!(text, "- gzip makes 2,000 series {:.1} times smaller.", bytes.median / packed.median).ok();
        }
        writeln!(text, "\n{}; {rounds} rounds, {:.0} s in all", machine::describe(), took.as_secs_f64()).ok();
        text
    }
}

fn spread(rounds: &[Figures], name: &str) -> Option<Spread> {
    Spread::of(rounds.iter().filter_map(|round| round.get(name).copied()))
}
