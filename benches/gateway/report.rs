//! The report: medians over rounds, ratios to nginx inside each round, one Markdown table.
//!
//! A spread stands behind every median: two peers whose ratios overlap 1 are equal as far as this machine can tell.

use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

use crate::load::Figures;
use crate::machine;
use crate::options::Options;
use crate::peers::{Peer, is_tollgate};
use crate::rows::{ROWS, Row, megabytes};
use crate::spread::Spread;
use crate::test::Test;

/// From here on the load client's core, and not the gateway, limits the rate.
const LOAD_CORE_FULL: f64 = 0.94;

/// A quiet machine stays below this in every run.
const FOREIGN_WORK_PERCENT: f64 = 10.0;
const DISTURBED: &str = "**The machine was not quiet: other work ran on the gateway's core (last line). Rates and latencies mean nothing, ratios little; repeat before quoting.**";

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) peers: Vec<Measured>,
    pub(crate) notes: Vec<String>,
    starts_ms: Vec<(String, Vec<f64>)>,
    left_out: Vec<String>,
    machine: String,
}

/// What is known of one peer.
pub(crate) struct Measured {
    name: String,
    is_tollgate: bool,
    binary_bytes: Option<u64>,
    /// RSS in KiB.
    pub(crate) memory_idle: Option<u64>,
    pub(crate) memory_after: Option<u64>,
    pub(crate) runs: Vec<(Test, Figures)>,
}

impl Measured {
    pub(crate) fn new(peer: &Peer) -> Self {
        Self {
            name: peer.name.clone(),
            is_tollgate: is_tollgate(&peer.name),
            binary_bytes: peer.program.as_ref().and_then(|program| program.size_bytes()),
            memory_idle: None,
            memory_after: None,
            runs: Vec::new(),
        }
    }

    fn of(&self, test: Test) -> impl Iterator<Item = &Figures> {
        self.runs.iter().filter(move |(of, _)| *of == test).map(|(_, figures)| figures)
    }

    /// One value per round.
    fn values(&self, row: &Row, direct: Option<&Self>) -> Vec<Option<f64>> {
        let direct: Vec<&Figures> = direct.map(|direct| direct.of(row.test).collect()).unwrap_or_default();
        let value = |(round, run): (usize, &Figures)| {
            let ran = run.answers + run.events > 0;
            ran.then(|| (row.value)(run, direct.get(round).copied())).flatten()
        };
        self.of(row.test).enumerate().map(value).collect()
    }

    fn errors(&self) -> u64 {
        self.runs.iter().map(|(_, run)| run.errors).sum()
    }
}

impl Report {
    /// Figures of answers that were wrong mean nothing, nor does a run without what was to be measured.
    pub(crate) fn is_sound(&self) -> bool {
        self.peers.iter().all(|peer| peer.errors() == 0) && !self.left_out.iter().any(|peer| is_tollgate(peer))
    }

    pub(crate) fn starts(&mut self, peer: &str) -> &mut Vec<f64> {
        let at = self.starts_ms.iter().position(|(name, _)| name == peer).unwrap_or_else(|| {
            self.starts_ms.push((peer.to_owned(), Vec::new()));
            self.starts_ms.len() - 1
        });
        &mut self.starts_ms[at].1
    }

    pub(crate) fn leave_out(&mut self, peer: &str, why: &str) {
        self.left_out.push(peer.to_owned());
        self.note_once(&format!("{peer} was left out: {why}"));
    }

    pub(crate) fn note_once(&mut self, note: &str) {
        if !self.notes.iter().any(|known| known == note) {
            self.notes.push(note.to_owned());
        }
    }

    /// `counts` are the mock's: exports and their bytes.
    pub(crate) fn note_exports(&mut self, counts: &str) {
        if !self.peers.iter().any(|peer| peer.is_tollgate) {
            return;
        }
        self.notes.push(match counts.split_once(' ') {
            Some((exports, bytes)) if exports != "0" => {
                format!("tollgate pushed {exports} OTLP exports ({bytes} bytes) while it was measured")
            }
            _ => "tollgate pushed no OTLP export: its figures are without telemetry".to_owned(),
        });
    }

    pub(crate) fn describe_machine(&mut self, options: &Options, peers: &[Peer], took: Duration) {
        let date = Command::new("date").arg("+%F %R").output().map(|output| output.stdout).unwrap_or_default();
        let programs = peers.iter().filter_map(|peer| peer.program.as_ref());
        let versions: String = programs.map(|program| format!(", {}", program.version)).collect();
        let runs = || self.peers.iter().flat_map(|peer| &peer.runs);
        let (all, stolen) = runs().fold((0.0, 0.0), |(all, stolen), (_, run)| {
            (all + run.gateway_core.all + run.load_core.all, stolen + run.gateway_core.stolen + run.load_core.stolen)
        });
        // Where no spinner ran: whatever else the gateway's core did was not the gateway.
        let loaded = runs().filter(|(test, run)| !test.needs_awake_cores() && run.cpu.total() > 0.0);
        let foreign =
            Spread::of(loaded.map(|(_, run)| {
                (1.0 - (run.gateway_core.free + run.cpu.total()) / run.gateway_core.all).max(0.0) * 100.0
            }));
        let quiet = foreign.as_ref().is_none_or(|share| share.most <= FOREIGN_WORK_PERCENT);
        self.machine = format!(
            "{}, {}{versions}; {} rounds of {} s, {:.0} s in all; stolen by the hypervisor {:.1} %, other work on the gateway's core {} %",
            machine::describe(),
            String::from_utf8_lossy(&date).trim(),
            options.rounds,
            options.seconds,
            took.as_secs_f64(),
            stolen / f64::max(all, 1e-9) * 100.0,
            foreign.map_or_else(|| "?".to_owned(), |share| share.show(0)),
        );
        if !quiet {
            self.notes.insert(0, DISTURBED.to_owned());
        }
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let compared: Vec<&Measured> = self.peers.iter().filter(|peer| peer.is_tollgate).collect();
        let compared = if self.nginx().is_some() { compared } else { Vec::new() };
        let heads = self.peers.iter().map(|peer| format!(" {} |", peer.name));
        let heads: String = heads.chain(compared.iter().map(|peer| format!(" {} / nginx |", peer.name))).collect();
        // Writing to a string cannot fail.
        writeln!(text, "| test | figure |{heads}\n|---|---|{}", "---:|".repeat(self.peers.len() + compared.len())).ok();
        for row in ROWS.iter().filter(|row| self.peers.iter().any(|peer| peer.of(row.test).next().is_some())) {
            self.write_row(&mut text, row, &compared);
        }
        self.write_once_figures(&mut text, &compared);
        if text.contains('†') {
            text.push_str(
                "\n† the load core was full: the harness limits this rate, not the peer. Compare CPU time.\n",
            );
        }
        text.push_str(
            "\nMedians (least–most) over rounds; ratios are taken inside each round; RSS sums the process tree.\n",
        );
        for note in &self.notes {
            writeln!(text, "- {note}").ok();
        }
        for peer in &self.peers {
            if let Some(error) = peer.runs.iter().find_map(|(_, run)| run.first_error.as_ref()) {
                writeln!(text, "- first error of {}: {error}", peer.name).ok();
            }
        }
        writeln!(text, "\n{}", self.machine).ok();
        text
    }

    fn write_row(&self, text: &mut String, row: &Row, compared: &[&Measured]) {
        let is_rate = row.what.contains("/s,");
        let cells = self.peers.iter().map(|peer| {
            let cell = show(peer.values(row, self.direct()).into_iter().flatten(), row.digits);
            if is_rate && load_core_share(peer, row.test) >= LOAD_CORE_FULL { format!("{cell}†") } else { cell }
        });
        let ratios = compared.iter().map(|peer| if row.compared { self.ratio(row, peer) } else { String::new() });
        let cells: Vec<String> = cells.chain(ratios).collect();
        writeln!(text, "| {} | {} | {} |", row.test.name(), row.what, cells.join(" | ")).ok();
    }

    /// Figures that have no rounds.
    fn write_once_figures(&self, text: &mut String, compared: &[&Measured]) {
        type Figure<'a> = (&'static str, &'static str, usize, Box<dyn Fn(&Measured) -> Vec<f64> + 'a>);
        let starts = |peer: &Measured| {
            self.starts_ms.iter().find(|(name, _)| *name == peer.name).map(|(_, ms)| ms.clone()).unwrap_or_default()
        };
        let figures: [Figure<'_>; 4] = [
            ("startup", "ms from exec to the first 200", 1, Box::new(starts)),
            ("idle", "RSS MB", 1, Box::new(|peer| peer.memory_idle.map(megabytes).into_iter().collect())),
            ("after load", "RSS MB", 1, Box::new(|peer| peer.memory_after.map(megabytes).into_iter().collect())),
            (
                "binary",
                "MB, without shared libraries",
                2,
                Box::new(|peer| peer.binary_bytes.map(|bytes| bytes as f64 / 1e6).into_iter().collect()),
            ),
        ];
        for (name, what, digits, values) in figures {
            if self.peers.iter().all(|peer| values(peer).is_empty()) {
                continue;
            }
            let cells = self.peers.iter().map(|peer| show(values(peer), digits));
            let ratios = compared.iter().map(|peer| {
                let of = |peer: &Measured| Spread::of(values(peer)).map(|spread| spread.median);
                let ratio =
                    of(peer).zip(self.nginx().and_then(of)).map(|(ours, nginx)| format!("**{:.2}**", ours / nginx));
                ratio.unwrap_or_else(|| "–".to_owned())
            });
            writeln!(text, "| {name} | {what} | {} |", cells.chain(ratios).collect::<Vec<_>>().join(" | ")).ok();
        }
        let errors: Vec<String> = self.peers.iter().map(|peer| peer.errors().to_string()).collect();
        writeln!(text, "| all | errors | {} |{}", errors.join(" | "), " |".repeat(compared.len())).ok();
    }

    fn ratio(&self, row: &Row, peer: &Measured) -> String {
        let nginx = self.nginx().map(|nginx| nginx.values(row, self.direct())).unwrap_or_default();
        let ours = peer.values(row, self.direct());
        let ratios = ours.iter().zip(nginx).filter_map(|(ours, nginx)| Some((*ours)? / nginx?));
        Spread::of(ratios).map_or_else(
            || "–".to_owned(),
            |spread| format!("**{:.2}** ({:.2}–{:.2})", spread.median, spread.least, spread.most),
        )
    }

    fn nginx(&self) -> Option<&Measured> {
        self.peers.iter().find(|peer| peer.name == "nginx")
    }

    fn direct(&self) -> Option<&Measured> {
        self.peers.iter().find(|peer| peer.name == "direct")
    }
}

fn load_core_share(peer: &Measured, test: Test) -> f64 {
    Spread::of(peer.of(test).map(|run| run.load_core.busy_share())).map_or(0.0, |share| share.median)
}

fn show(values: impl IntoIterator<Item = f64>, digits: usize) -> String {
    Spread::of(values).map_or_else(|| "–".to_owned(), |spread| spread.show(digits))
}

/// One line while the bench runs.
pub(crate) fn progress(test: Test, peer: &str, run: &Figures) -> String {
    let unit = if run.events > 0 { "event" } else { "request" };
    let rate = run.events.max(run.answers) as f64 / run.seconds.max(1e-9);
    let mut line = format!(
        "{:5} {peer:8} {rate:8.0} {unit}s/s, p50 {:.0} µs, {:.2} CPU µs per {unit}",
        test.name(),
        run.latency[0],
        test.cpu_us(run),
    );
    if !test.needs_awake_cores() {
        let (gateway, load) = (run.gateway_core.busy_share() * 100.0, run.load_core.busy_share() * 100.0);
        write!(line, ", gateway core {gateway:.0} %, load core {load:.0} %").ok();
    }
    if let Some(error) = &run.first_error {
        write!(line, ", {} ERRORS, the first: {error}", run.errors).ok();
    }
    line
}
