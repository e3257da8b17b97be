//! A limit on the CPU time of a process: a control group of its own, gone with it.
//!
//! On a machine with two cores a gateway that has both leaves nothing to its load. Held to a part of each, its
//! rate is its own again, and what a second thread adds to it can be read off.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Short, so that a pause for want of time is no longer than a queue is anyway.
const PERIOD_US: u64 = 10_000;

pub(crate) struct Quota(PathBuf);

impl Quota {
    /// Holds a process to so many hundredths of a core.
    pub(crate) fn of(process: u32, percent: usize) -> io::Result<Self> {
        let quota_us = PERIOD_US * percent as u64 / 100;
        let (old, new) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        let (root, files) = match old.join("cgroup.procs").exists() {
            true => {
                (old, vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota_us.to_string())])
            }
            false if new.join("cgroup.controllers").exists() => {
                (new, vec![("cpu.max", format!("{quota_us} {PERIOD_US}"))])
            }
            false => return Err(io::Error::other("there are none in /sys/fs/cgroup")),
        };
        let group = Self(root.join(format!("tollgate-bench-{process}")));
        fs::create_dir(&group.0)?;
        for (file, value) in files {
            fs::write(group.0.join(file), value)?;
        }
        fs::write(group.0.join("cgroup.procs"), process.to_string())?;
        Ok(group)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}
