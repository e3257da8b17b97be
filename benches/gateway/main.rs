//! What the gateway costs, next to nginx: `cargo bench --bench gateway`, or `make bench`.
//!
//! The gateway's process tree runs alone on one core; the mock upstream and the load client share another. What is compared is CPU time per
//! request or event, read from `/proc`: unlike a rate it does not depend on how fast the load client is. Rounds are
//! interleaved and every ratio is taken inside its round, because the speed of a shared machine drifts by more than the peers differ.
//!
//! - `options`: what to run
//! - `test`: what each test sends
//! - `peers`, `programs`, `variant`: which gateways there are, how each is configured and started
//! - `process`, `quota`: processes, cores, what they used and what they may use
//! - `upstream`, `load`: the two roles in which this program starts itself again, on `wire`, their HTTP
//! - `report`, `rows`: the table
//! - `given`, `machine`, `spread`: shared with the other benches
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table goes to standard output, progress to standard error"
)]

#[path = "../support/given.rs"]
mod given;
mod load;
#[path = "../support/machine.rs"]
mod machine;
mod options;
mod peers;
mod process;
mod programs;
mod quota;
mod report;
mod rows;
#[path = "../support/spread.rs"]
mod spread;
mod test;
mod upstream;
mod variant;
mod wire;

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use load::{Figures, Job};
use options::{HELP, Options};
use peers::{Peer, Running};
use process::{Guard, Process, Spinners};
use report::{Measured, Report};
use test::{IN_ROUNDS, Test};

const STARTS: usize = 7;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("upstream") => upstream::run().map_err(|error| error.to_string()),
        Some("load") => load::run(arguments.get(1).map_or("", String::as_str)).map_err(|error| error.to_string()),
        Some("guard") => process::guard(&arguments[1..]).map_err(|error| error.to_string()),
        Some("spin") => process::spin().map_err(|error| error.to_string()),
        _ => bench(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::FAILURE
    })
}

fn bench(arguments: &[String]) -> Result<ExitCode, String> {
    // Cargo passes `--bench` when it benches. When it only tests, minutes of load on the machine are not what was asked for.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench --bench gateway`\n{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<String> = arguments.iter().filter(|argument| *argument != "--bench").cloned().collect();
    let options = Options::read(&arguments)?;
    let report = Bench::new(options).and_then(Bench::run)?;
    println!("{}", report.markdown());
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Bench {
    options: Options,
    peers: Vec<Peer>,
    report: Report,
    mock_address: SocketAddr,
    program: PathBuf,
    began: Instant,
    // Dropped in this order: the mock stops before its folder goes.
    _mock: Process,
    _folder: Folder,
}

impl Bench {
    fn new(options: Options) -> Result<Self, String> {
        let say = |error: io::Error| error.to_string();
        let program = std::env::current_exe().map_err(say)?;
        process::pin_this_thread(&[options.load_core]).map_err(say)?;
        let mut report = Report::default();
        let files = options.tests.iter().map(|test| test.open_files(&options)).max().unwrap_or(0);
        if let Err(error) = process::allow_open_files(files) {
            report.notes.push(format!("the tests need more open files than allowed: {error}"));
        }
        let folder = Folder::create().map_err(say)?;
        let (mock, mock_address) = start_mock(&program, options.load_core).map_err(say)?;
        let mut peers = Vec::new();
        for name in &options.peers {
            match Peer::prepare(name, &options, mock_address, &folder.0) {
                Ok(peer) => {
                    if let Some(error) = peer.program.as_ref().and_then(|program| program.unversioned.as_ref()) {
                        report.notes.push(format!(
                            "{name} does not tell its version, so what was measured is not known: {error}"
                        ));
                    }
                    peers.push(peer);
                }
                Err(error) => report.leave_out(name, &error),
            }
        }
        Ok(Self { options, peers, report, mock_address, program, began: Instant::now(), _mock: mock, _folder: folder })
    }

    fn run(mut self) -> Result<Report, String> {
        if self.options.tests.contains(&Test::Startup) {
            self.start_repeatedly();
        }
        let mut running = self.start_all();
        let ids: Vec<u32> = running.iter().flatten().map(|running| running.id()).collect();
        let guard = Guard::start(&self.program, &ids, self.options.load_core).map_err(|error| error.to_string())?;
        std::thread::sleep(Duration::from_secs(1));
        for (measured, process) in self.report.peers.iter_mut().zip(&running) {
            measured.memory_idle = process.as_ref().and_then(|process| process::memory(process.id()));
        }
        for (peer, process) in running.iter().enumerate() {
            for test in [Test::Thr, Test::Sse] {
                let mut job = test.job(&self.options, &self.peers[peer]);
                job.seconds = 0.5;
                // What goes wrong here will go wrong again where it is counted.
                self.load(&job, process.as_deref()).ok();
            }
        }
        let in_rounds: Vec<Test> = IN_ROUNDS.into_iter().filter(|test| self.options.tests.contains(test)).collect();
        for round in 0..self.options.rounds {
            for test in &in_rounds {
                self.round(round, *test, &running);
            }
        }
        for (measured, process) in self.report.peers.iter_mut().zip(&running) {
            measured.memory_after = process.as_ref().and_then(|process| process::memory(process.id()));
        }
        if self.options.tests.contains(&Test::Slow) {
            for (peer, process) in running.iter().enumerate().filter(|(_, process)| process.is_some()) {
                self.measure(0, Test::Slow, peer, process.as_deref());
            }
        }
        // First the guard, while the numbers it knows are still those of our children.
        drop(guard);
        running.clear();
        let counts = peers::ask(self.mock_address, "GET /counts", "", "").map_err(|error| error.to_string())?.1;
        self.report.note_exports(&counts);
        self.report.describe_machine(&self.options, &self.peers, self.began.elapsed());
        Ok(self.report)
    }

    /// Exec to first answer, peer after peer, several times.
    fn start_repeatedly(&mut self) {
        for _ in 0..STARTS {
            for peer in &self.peers {
                if let Ok(Some((_, took))) = peer.start(&self.options) {
                    self.report.starts(&peer.name).push(took.as_secs_f64() * 1e3);
                }
            }
        }
        eprintln!("{} startup: done", self.clock());
    }

    /// Starts every peer, and forgets those that do not start.
    fn start_all(&mut self) -> Vec<Option<Running>> {
        let mut running = Vec::new();
        for peer in std::mem::take(&mut self.peers) {
            match peer.start(&self.options) {
                Ok(started) => {
                    running.push(started.map(|(process, _)| process));
                    self.report.peers.push(Measured::new(&peer));
                    self.peers.push(peer);
                }
                Err(error) => self.report.leave_out(&peer.name, &error),
            }
        }
        running
    }

    fn round(&mut self, round: usize, test: Test, running: &[Option<Running>]) {
        let cores = [self.options.gateway_core, self.options.load_core];
        let spinners = test.needs_awake_cores().then(|| Spinners::start(&self.program, &cores));
        if let Some(Err(error)) = &spinners {
            self.report.note_once(&format!(
                "`lat` and `paced` ran without spinners, so waking a halted core is in them: {error}"
            ));
        }
        for (peer, process) in running.iter().enumerate() {
            self.measure(round, test, peer, process.as_deref());
        }
    }

    fn measure(&mut self, round: usize, test: Test, peer: usize, process: Option<&Process>) {
        let job = test.job(&self.options, &self.peers[peer]);
        let figures = self.load(&job, process).unwrap_or_else(|error| Figures::failed(&error));
        eprintln!("{} round {}: {}", self.clock(), round + 1, report::progress(test, &self.peers[peer].name, &figures));
        self.report.peers[peer].runs.push((test, figures));
    }

    /// Runs the load client on its core and waits for its figures; it ends by itself.
    fn load(&self, job: &Job, process: Option<&Process>) -> io::Result<Figures> {
        let job = Job { watch: process.map(Process::id), ..job.clone() };
        let mut command = Command::new(&self.program);
        command.arg("load").arg(serde_json::to_string(&job)?).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut client = Process::start(command, &[self.options.load_core])?;
        let mut output = String::new();
        if let Some(mut pipe) = client.output() {
            pipe.read_to_string(&mut output)?;
        }
        Ok(serde_json::from_str(&output)?)
    }

    fn clock(&self) -> String {
        format!("[{:>3.0} s]", self.began.elapsed().as_secs_f64())
    }
}

fn start_mock(program: &PathBuf, core: usize) -> io::Result<(Process, SocketAddr)> {
    let mut command = Command::new(program);
    command.arg("upstream").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut mock = Process::start(command, &[core])?;
    let mut line = String::new();
    if let Some(pipe) = mock.output() {
        BufReader::new(pipe).read_line(&mut line)?;
    }
    let port: u16 = line.trim().parse().map_err(|_| io::Error::other("the mock upstream did not start"))?;
    Ok((mock, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

/// Configs and logs of the peers, gone with the run.
struct Folder(PathBuf);

impl Folder {
    fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tollgate-bench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
