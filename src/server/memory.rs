//! How much memory there is, and how much of it the process has.

use std::{fs, path::Path};

use rustix::param::page_size;

/// Assumed where nothing can be found out.
const UNKNOWN: usize = 1 << 30;

/// What the process may take: the least of what its control groups and the machine allow. `root` is `/`
/// outside of tests.
pub(super) fn limit(root: &Path) -> usize {
    let mut limits = Vec::new();
    if let Ok(meminfo) = fs::read_to_string(root.join("proc/meminfo"))
        && let Some(total) = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))
        && let Some(kib) = total.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<usize>().ok())
    {
        limits.push(kib.saturating_mul(1024));
    }
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (folder, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let folder = root.join(folder);
        // A container sees its own group as the root; outside of one, every group above counts as well.
        let group = Path::new(group.trim_start_matches('/'));
        let texts = group.ancestors().map(|group| fs::read_to_string(folder.join(group).join(file)));
        limits.extend(texts.flatten().filter_map(|text| text.trim().parse::<usize>().ok()));
    }
    limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(UNKNOWN)
}

/// Resident memory of the process.
pub(super) fn resident() -> Option<usize> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(files: &[(&str, &str)]) -> usize {
        let number = std::sync::atomic::AtomicUsize::fetch_add(&COUNT, 1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("tollgate-memory-{}-{number}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let limit = limit(&root);
        let _gone = fs::remove_dir_all(&root).is_ok();
        limit
    }

    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    #[test]
    fn the_least_limit_counts() {
        const MIB: usize = 1 << 20;
        let machine = ("proc/meminfo", "MemTotal:        2097152 kB\nMemFree: 1 kB\n");
        assert_eq!(limit_of(&[]), UNKNOWN);
        assert_eq!(limit_of(&[machine]), 2048 * MIB);
        let second = ("proc/self/cgroup", "0::/system.slice/tollgate.service\n");
        assert_eq!(limit_of(&[machine, second]), 2048 * MIB);
        let own = ("sys/fs/cgroup/system.slice/tollgate.service/memory.max", "max\n");
        let above = ("sys/fs/cgroup/system.slice/memory.max", "536870912\n");
        assert_eq!(limit_of(&[machine, second, own, above]), 512 * MIB);
        assert_eq!(limit_of(&[machine, second, ("sys/fs/cgroup/memory.max", "268435456")]), 256 * MIB);
        let first = ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/\n");
        let own = ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_of(&[machine, first, own]), 2048 * MIB);
        let above = ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "134217728\n");
        assert_eq!(limit_of(&[machine, first, own, above]), 128 * MIB);
        assert_eq!(limit_of(&[first, ("proc/meminfo", "nonsense")]), UNKNOWN);
        assert!(resident().unwrap() > MIB);
    }
}
