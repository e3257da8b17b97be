//! The table of a run and its verdicts.

use std::fmt::Write;
use std::process::ExitStatus;
use std::time::Duration;

use crate::load::{Counts, Latencies};
use crate::machine;
use crate::spread::Spread;
use crate::totals::Line;

/// Growth of resident memory that is none.
const GROWTH_MAX_KIB: f64 = 1_024.0;
/// A connection to the receiver may be opened while the one before it is still being closed.
const DESCRIPTORS_MORE_MAX: usize = 1;
/// A p99 may be a tenth above that of the quiet slice beside it.
const LATENCY_RATIO_MAX: f64 = 1.1;
/// On a quiet machine the gateway waits for its core for less than this share of the time.
const WAITED_MAX: f64 = 0.01;

/// One stretch of load.
pub(crate) struct Slice {
    pub(crate) latencies: Latencies,
    /// KiB, several times a second.
    pub(crate) memory: Vec<u64>,
    pub(crate) descriptors: Vec<usize>,
    /// Share of one core that the gateway used.
    pub(crate) cpu: f64,
    /// Share of the time that it was ready and others had its core.
    pub(crate) waited: f64,
    pub(crate) seconds: f64,
}

/// Everything that was seen.
#[derive(Default)]
pub(crate) struct Report {
    quiet: Vec<Slice>,
    chaos: Vec<Slice>,
    /// After the warm-up.
    memory: f64,
    descriptors: usize,
    pub(crate) descriptors_at_end: usize,
    pub(crate) exit: Option<ExitStatus>,
    pub(crate) totals: Vec<Line>,
    pub(crate) exports: Vec<(String, f64)>,
    pub(crate) client: Counts,
    pub(crate) violations: Vec<String>,
    pub(crate) took: Duration,
    notes: Vec<String>,
}

/// A line of the table.
struct Row {
    what: String,
    cells: [String; 2],
    /// `None` where nothing is asked for.
    verdict: Option<(bool, String)>,
}

impl Report {
    pub(crate) fn baseline(&mut self, settled: &Slice) {
        self.memory = Spread::of(settled.memory.iter().map(|kib| *kib as f64)).map_or(0.0, |memory| memory.median);
        self.descriptors = settled.descriptors.iter().copied().max().unwrap_or_default();
    }

    pub(crate) fn add(&mut self, is_chaos: bool, slice: Slice) {
        if is_chaos { &mut self.chaos } else { &mut self.quiet }.push(slice);
    }

    pub(crate) fn note_once(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
    }

    pub(crate) fn is_passed(&self) -> bool {
        self.rows().iter().all(|row| row.verdict.as_ref().is_none_or(|(passed, _)| *passed))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::from("| what | quiet | chaos | verdict |\n|---|---:|---:|---|\n");
        for row in self.rows() {
            let verdict = row.verdict.map_or(String::new(), |(passed, why)| {
                let word = if passed { "ok" } else { "**FAILED**" };
                if why.is_empty() { word.to_owned() } else { format!("{word}: {why}") }
            });
            // Writing to a string cannot fail.
            writeln!(text, "| {} | {} | {} | {verdict} |", row.what, row.cells[0], row.cells[1]).ok();
        }
        text.push_str("\n| total | client | receiver | verdict |\n|---|---:|---:|---|\n");
        for line in &self.totals {
            let verdict = if line.agrees() { "ok" } else { "**FAILED**" };
            writeln!(text, "| {} | {} | {} | {verdict} |", line.what, line.client, line.receiver).ok();
        }
        writeln!(
            text,
            "\nMedians (least–most) over {} pairs of slices. A p99 fails when it is clearly beyond: the median of the ratios \
             inside the pairs above {LATENCY_RATIO_MAX}, and four fifths of them, too. It is not judged when other work \
             kept the gateway waiting for its core.",
            self.chaos.len()
        )
        .ok();
        let exports: Vec<String> = self.exports.iter().map(|(error, count)| format!("{error} {count}")).collect();
        writeln!(text, "- exports by error.type: {}", exports.join(", ")).ok();
        let first_error = self.client.first_error.iter().map(|error| format!("first error of the client: {error}"));
        for note in self.notes.iter().chain(&self.violations).cloned().chain(first_error) {
            writeln!(text, "- {note}").ok();
        }
        writeln!(text, "\n{}; {:.0} s in all", machine::describe(), self.took.as_secs_f64()).ok();
        text
    }

    fn rows(&self) -> Vec<Row> {
        let both = |what: &str, digits: usize, of: fn(&Slice) -> f64| Row {
            what: what.to_owned(),
            cells: [&self.quiet, &self.chaos].map(|slices| show(slices.iter().map(of), digits)),
            verdict: None,
        };
        vec![
            both("requests/s", 0, |slice| {
                (slice.latencies.whole.len() + slice.latencies.streamed.len()) as f64 / slice.seconds
            }),
            both("CPU of the gateway, % of a core", 0, |slice| slice.cpu * 100.0),
            both("it waited for its core, % of the time", 2, |slice| slice.waited * 100.0),
            both("p50 µs, whole answers", 0, |slice| percentile(&slice.latencies.whole, 50)),
            both("p50 µs, streams", 0, |slice| percentile(&slice.latencies.streamed, 50)),
            self.latency("p99 µs, whole answers", |slice| percentile(&slice.latencies.whole, 99)),
            self.latency("p99 µs, streams", |slice| percentile(&slice.latencies.streamed, 99)),
            self.memory_row(),
            self.descriptors_row(),
            self.receiver_row(),
            self.totals_row(),
        ]
    }

    fn latency(&self, what: &str, of: fn(&Slice) -> f64) -> Row {
        let ratios: Vec<f64> = self.quiet.iter().zip(&self.chaos).map(|(quiet, chaos)| of(chaos) / of(quiet)).collect();
        let above = ratios.iter().filter(|ratio| **ratio > LATENCY_RATIO_MAX).count();
        let is_clear = above * 5 >= ratios.len() * 4;
        let waited = Spread::of(self.quiet.iter().map(|slice| slice.waited)).map_or(0.0, |waited| waited.median);
        let spread = Spread::of(ratios);
        let median = spread.as_ref().map_or(f64::NAN, |spread| spread.median);
        let mut why = format!("ratio {}", spread.map_or_else(String::new, |spread| spread.show(2)));
        if waited > WAITED_MAX {
            why += ", **not judged: the machine was not quiet**";
        } else if median > LATENCY_RATIO_MAX && !is_clear {
            why += ", above a tenth, but not clearly";
        }
        let passed = median <= LATENCY_RATIO_MAX || !is_clear || waited > WAITED_MAX;
        let cells = [&self.quiet, &self.chaos].map(|slices| show(slices.iter().map(of), 0));
        Row { what: what.to_owned(), cells, verdict: Some((passed, why)) }
    }

    fn memory_row(&self) -> Row {
        let most = |slices: &[Slice]| slices.iter().flat_map(|slice| &slice.memory).copied().max().unwrap_or_default();
        let [quiet, chaos] = [&self.quiet, &self.chaos].map(|slices| most(slices) as f64);
        let growth = chaos - self.memory;
        Row {
            what: format!("RSS MiB, most (after warm-up: {:.2})", self.memory / 1_024.0),
            cells: [quiet, chaos].map(|kib| format!("{:.2}", kib / 1_024.0)),
            verdict: Some((growth <= GROWTH_MAX_KIB, format!("grew by {:.2} of 1 MiB", growth / 1_024.0))),
        }
    }

    fn descriptors_row(&self) -> Row {
        let most =
            |slices: &[Slice]| slices.iter().flat_map(|slice| &slice.descriptors).copied().max().unwrap_or_default();
        let [quiet, chaos] = [&self.quiet, &self.chaos].map(|slices| most(slices));
        let passed = chaos <= self.descriptors + DESCRIPTORS_MORE_MAX && self.descriptors_at_end <= self.descriptors;
        Row {
            what: format!("file descriptors, most (after warm-up: {})", self.descriptors),
            cells: [quiet.to_string(), chaos.to_string()],
            verdict: Some((passed, format!("{} at the end", self.descriptors_at_end))),
        }
    }

    fn receiver_row(&self) -> Row {
        let exit = self.exit.map_or("not asked to end".to_owned(), |exit| exit.to_string());
        let passed = self.violations.is_empty() && self.exit.is_some_and(|exit| exit.success());
        Row {
            what: "breaches of OTLP; end of the gateway".to_owned(),
            cells: [String::new(), self.violations.len().to_string()],
            verdict: Some((passed, exit)),
        }
    }

    fn totals_row(&self) -> Row {
        let wrong = self.totals.iter().filter(|line| !line.agrees()).count();
        let passed = wrong == 0 && self.client.errors == 0 && self.client.requests > 0;
        Row {
            what: "totals that differ; errors of the client".to_owned(),
            cells: [String::new(), format!("{wrong}; {}", self.client.errors)],
            verdict: Some((passed, format!("{} requests", self.client.requests))),
        }
    }
}

/// One line while the bench runs.
pub(crate) fn progress(slice: &Slice) -> String {
    let p99 = [&slice.latencies.whole, &slice.latencies.streamed].map(|values| percentile(values, 99));
    format!("p99 {:.0} µs, of streams {:.0} µs, waited {:.1} %", p99[0], p99[1], slice.waited * 100.0)
}

fn show(values: impl IntoIterator<Item = f64>, digits: usize) -> String {
    Spread::of(values).map_or_else(|| "–".to_owned(), |spread| spread.show(digits))
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
