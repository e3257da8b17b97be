//! Processes: starting them on a core, stopping them, and what they used, read from `/proc`.
//!
//! Nothing here knows gateways or tests. Linux only, as the tools it borrows from util-linux: `taskset`, `chrt`, `prlimit`.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// USER_HZ, the unit of CPU time in `/proc`: 100 in the ABI of every architecture that this runs on.
const TICKS_PER_SECOND: f64 = 100.0;
/// After this long a spinner is certainly forgotten.
const SPIN_LIFETIME: Duration = Duration::from_secs(60);

/// A child that is stopped when it goes out of scope, so that no error path leaves one behind.
pub(crate) struct Process {
    child: Child,
    pub(crate) started: Instant,
}

impl Process {
    pub(crate) fn start(mut command: Command, cores: &[usize]) -> io::Result<Self> {
        // A child inherits the core of the thread that starts it. Going through `taskset COMMAND` instead would put a second
        // exec into the start-up time.
        std::thread::scope(|scope| {
            let starter = scope.spawn(|| {
                pin_this_thread(cores)?;
                let started = Instant::now();
                Ok(Self { child: command.spawn()?, started })
            });
            starter.join().map_err(|_| io::Error::other("the starting thread panicked"))?
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn output(&mut self) -> Option<impl Read + use<>> {
        self.child.stdout.take()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Roles of this program end with their input.
        drop(self.child.stdin.take());
        let tree = tree(self.id());
        signal("TERM", &[self.id()]);
        let asked = Instant::now();
        while !self.has_ended() {
            if asked.elapsed() > Duration::from_secs(5) {
                signal("KILL", &tree);
                self.child.wait().ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Stops the gateways if this program is killed before it can do so itself: a role of its own that ends with its input.
pub(crate) struct Guard(#[expect(dead_code, reason = "held to be dropped")] Process);

impl Guard {
    pub(crate) fn start(program: &Path, processes: &[u32], core: usize) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg("guard").args(processes.iter().map(u32::to_string)).stdin(Stdio::piped());
        Process::start(command, &[core]).map(Self)
    }
}

/// The guard's own side.
pub(crate) fn guard(processes: &[String]) -> io::Result<ExitCode> {
    io::stdin().read_exact(&mut [0]).ok();
    // They cannot have been replaced by others: as long as the parent lives, what has ended keeps its number.
    signal("TERM", &processes.iter().filter_map(|process| process.parse().ok()).collect::<Vec<_>>());
    Ok(ExitCode::SUCCESS)
}

/// The standard library can only kill, and nginx's master must be asked so that it ends its worker.
fn signal(name: &str, processes: &[u32]) {
    let list: Vec<String> = processes.iter().map(u32::to_string).collect();
    Command::new("sh").arg("-c").arg(format!("kill -{name} {}", list.join(" "))).stderr(Stdio::null()).status().ok();
}

pub(crate) fn pin_this_thread(cores: &[usize]) -> io::Result<()> {
    let list: Vec<String> = cores.iter().map(usize::to_string).collect();
    let thread = fs::read_link("/proc/thread-self")?;
    let id = thread.file_name().unwrap_or_default();
    run_tool(Command::new("taskset").arg("-c").arg("-p").arg(list.join(",")).arg(id))
}

/// Lets this process and its children hold `files` open files. The soft limit is often 1,024.
pub(crate) fn allow_open_files(files: usize) -> io::Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let mut numbers =
        limits.lines().filter_map(|line| line.strip_prefix("Max open files")).flat_map(str::split_whitespace);
    let (soft, hard) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
    if soft.parse().unwrap_or(usize::MAX) >= files {
        return Ok(());
    }
    let wanted = format!("--nofile={files}:{hard}");
    run_tool(Command::new("prlimit").arg("--pid").arg(std::process::id().to_string()).arg(wanted))
}

fn run_tool(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::other(format!("{name} (util-linux): {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// Keep a core from halting at the lowest priority there is, while they live. On a virtual machine the wake-up of a halted core
/// costs more than a gateway does, and would be all that the tests with few requests see.
pub(crate) struct Spinners(#[expect(dead_code, reason = "held to be dropped")] Vec<Process>);

impl Spinners {
    pub(crate) fn start(program: &Path, cores: &[usize]) -> io::Result<Self> {
        let start = |core: &usize| {
            let mut command = Command::new("nice");
            // Nice time is counted apart in /proc/stat; so the spinners do not look like work.
            command
                .args(["-n", "19", "chrt", "-i", "0"])
                .arg(program)
                .arg("spin")
                .stdin(Stdio::piped())
                .stdout(Stdio::null());
            let mut process = Process::start(command, &[*core])?;
            std::thread::sleep(Duration::from_millis(20));
            match process.has_ended() {
                true => Err(io::Error::other("chrt (util-linux) did not start the spinner")),
                false => Ok(process),
            }
        };
        cores.iter().map(start).collect::<io::Result<_>>().map(Self)
    }
}

/// The spinner's own side: ends with its input.
pub(crate) fn spin() -> io::Result<ExitCode> {
    let input = std::thread::spawn(|| io::stdin().read_exact(&mut [0]));
    let start = Instant::now();
    while !input.is_finished() && start.elapsed() < SPIN_LIFETIME {
        // Not `spin_loop`: its PAUSE makes some hypervisors take the core away, which is what this is here to prevent.
        for turn in 0..1_000_000 {
            std::hint::black_box(turn);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Seconds of CPU time of a process tree.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct CpuTime {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl CpuTime {
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }

    pub(crate) fn total(&self) -> f64 {
        self.user + self.system
    }
}

/// What the tree has used so far, children that have ended included.
pub(crate) fn cpu_time(root: u32) -> CpuTime {
    let mut time = CpuTime::default();
    for process in tree(root) {
        let fields = stat_fields(process);
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        // utime and cutime, stime and cstime; counted from the field after the name.
        time.user += (ticks(11) + ticks(13)) / TICKS_PER_SECOND;
        time.system += (ticks(12) + ticks(14)) / TICKS_PER_SECOND;
    }
    time
}

/// RSS of the tree in KiB; pages shared by two processes count twice. `None` when all of it has ended.
pub(crate) fn memory(root: u32) -> Option<u64> {
    let of = |process: u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    tree(root).into_iter().filter_map(of).reduce(|sum, one| sum + one)
}

/// A process and all that descend from it.
fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = stat_fields(process).get(1).and_then(|field| field.parse().ok()) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(process).unwrap_or_default());
        next += 1;
    }
    found
}

/// The fields of `/proc/PID/stat` after the name, which is the only one that may hold spaces.
fn stat_fields(process: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().map(str::to_owned).collect()
}

/// Seconds that a core has spent, by what on.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct CoreTime {
    pub(crate) all: f64,
    /// Idle or waiting for a disk. Nice work is not free time: it holds the core, and delays what is measured.
    pub(crate) free: f64,
    /// The hypervisor ran somebody else.
    pub(crate) stolen: f64,
}

impl CoreTime {
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self { all: self.all - earlier.all, free: self.free - earlier.free, stolen: self.stolen - earlier.stolen }
    }

    pub(crate) fn busy_share(&self) -> f64 {
        (self.all - self.free) / self.all.max(1e-9)
    }
}

pub(crate) fn core_time(core: usize) -> CoreTime {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or("");
    let ticks: Vec<f64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    let seconds = |index: usize| ticks.get(index).copied().unwrap_or(0.0) / TICKS_PER_SECOND;
    // user nice system idle iowait irq softirq steal
    CoreTime { all: (0..8).map(seconds).sum(), free: seconds(3) + seconds(4), stolen: seconds(7) }
}
