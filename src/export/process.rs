//! The process's own numbers, read from `/proc/self` and from what it lost before each snapshot.
//!
//! What cannot be read is left out: on a kernel without `/proc` these series never come to be.

use std::{fs, time::Duration};

use tokio::time::Instant;

use crate::telemetry::{
    Counter, Gauge, Registry, UpDownCounter, catalog as metric, clock::saturating_nanos, dimensions::CpuMode,
    losses::Losses,
};

/// `/proc/self/stat` counts CPU time in USER_HZ, which Linux fixes at 100 for user space on every
/// architecture that Rust's Linux targets have (`proc_pid_stat(5)`, `include/asm-generic/param.h`).
const NANOS_PER_TICK: u64 = 10_000_000;

/// Handles of the process group.
#[derive(Debug)]
pub(super) struct Process {
    started: Instant,
    cpu: Counter<CpuMode>,
    memory: UpDownCounter,
    threads: UpDownCounter,
    descriptors: UpDownCounter,
    uptime: Gauge,
    losses: Losses,
}

impl Process {
    /// Binds them. Uptime counts from here, which is a few milliseconds into the process.
    pub(super) fn bind(registry: &Registry) -> Self {
        Self {
            started: Instant::now(),
            cpu: registry.counter(&metric::PROCESS_CPU_TIME, &[]),
            memory: registry.up_down_counter(&metric::PROCESS_MEMORY_USAGE, &[]),
            threads: registry.up_down_counter(&metric::PROCESS_THREAD_COUNT, &[]),
            descriptors: registry.up_down_counter(&metric::PROCESS_FD_COUNT, &[]),
            uptime: registry.gauge(&metric::PROCESS_UPTIME, &[]),
            losses: Losses::bind(registry),
        }
    }

    /// Reads the kernel's numbers into the registry.
    pub(super) fn observe(&self) {
        self.losses.observe();
        self.uptime.set((), clamp(saturating_nanos(self.started.elapsed())));
        if let Some((user, system)) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_time) {
            self.cpu.observe(CpuMode::User, saturating_nanos(user));
            self.cpu.observe(CpuMode::System, saturating_nanos(system));
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            if let Some(kibibytes) = field(&status, "VmRSS:") {
                self.memory.observe((), clamp(kibibytes.saturating_mul(1024)));
            }
            if let Some(threads) = field(&status, "Threads:") {
                self.threads.observe((), clamp(threads));
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // The directory that is being read has a descriptor of its own.
            let open = entries.count().saturating_sub(1);
            self.descriptors.observe((), i64::try_from(open).unwrap_or(i64::MAX));
        }
    }
}

/// User and system time from `/proc/self/stat`, fields 14 and 15 of `proc_pid_stat(5)`.
fn cpu_time(stat: &str) -> Option<(Duration, Duration)> {
    // The second field is the program's name in parentheses and may hold anything, even `)`.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    let time = |ticks: u64| Duration::from_nanos(ticks.saturating_mul(NANOS_PER_TICK));
    Some((time(user), time(system)))
}

/// The number behind `name` in `/proc/self/status`. Unlike `statm`, it does not count in pages,
/// whose size differs between machines.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_program_name() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 3 0 12345 1000 200";
        assert_eq!(cpu_time(stat), Some((Duration::from_millis(2_500), Duration::from_millis(750))));
        assert_eq!(cpu_time("7 (a) S 1"), None);
        assert_eq!(cpu_time(""), None);
    }

    #[test]
    fn fields_of_the_status_file() {
        let status = "Name:\ttollgate\nVmRSS:\t    5120 kB\nThreads:\t4\n";
        assert_eq!(field(status, "VmRSS:"), Some(5_120));
        assert_eq!(field(status, "Threads:"), Some(4));
        assert_eq!(field(status, "VmSwap:"), None);
        assert_eq!(field("VmRSS:\tmany", "VmRSS:"), None);
    }

    #[test]
    fn this_process_has_sane_numbers() {
        let registry = Registry::new();
        let process = Process::bind(&registry);
        process.observe();
        let snapshot = registry.snapshot();
        let value = |name: &str| {
            let metric = snapshot.metrics.iter().find(|metric| metric.descriptor.name == name).unwrap();
            metric.points.iter().map(|point| point.value).max().unwrap()
        };
        assert!((100_000..100_000_000_000).contains(&value("process.memory.usage")));
        assert!((1..10_000).contains(&value("process.thread.count")));
        assert!((3..10_000).contains(&value("process.unix.file_descriptor.count")));
        assert!(value("process.uptime") < 60_000_000_000);
        assert_eq!(snapshot.points(), 10);
    }
}
