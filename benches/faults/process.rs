//! The gateway as a process: one core, a memory-limited control group where there is one, its log in a file.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Unique, so that a search for it finds every place it got to.
pub(crate) const KEY: &str = "tg-canary-client-9f1c27e4b0aa";
/// The admin listener's token, as unique.
pub(crate) const TOKEN: &str = "tg-canary-admin-51d9e02c77bf";
/// What the gateway shows providers, as unique.
pub(crate) const PROVIDER_KEY: &str = "sk-canary-provider-3b8c6d1f90";
const MEMORY: u64 = 256 << 20;
const PATIENCE: Duration = Duration::from_secs(20);
static STARTED: AtomicUsize = AtomicUsize::new(0);

/// How to start it.
pub(crate) struct Start<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) toml: &'a str,
    /// Commands of a shell before the program takes its place, as `ulimit -n 64`.
    pub(crate) before: &'a str,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

/// A running gateway; ended when this goes.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) folder: PathBuf,
    group: Option<PathBuf>,
}

impl Gateway {
    pub(crate) fn start(start: &Start<'_>) -> io::Result<Self> {
        let number = STARTED.fetch_add(1, Relaxed);
        let name = format!("tollgate-faults-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&name);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("tollgate.toml"), start.toml)?;
        if start.toml.contains("tls.crt") {
            make_certificate(&folder)?;
        }
        let group = memory_group(&name);
        let enter =
            group.as_ref().map_or(String::new(), |group| format!("echo $$ >{}/cgroup.procs\n", group.display()));
        // Each of these takes the place of the one before, so the child's id is the gateway's.
        let script = format!("set -e\n{enter}{}\nexec taskset -c 0 \"$@\"", start.before);
        let child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(fs::canonicalize(start.binary)?)
            .args(["serve", "-c", "tollgate.toml", "--log-format", "json"])
            .args(start.arguments)
            .current_dir(&folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(start.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log"))?)
            .spawn()?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self { child, address: unknown, admin: None, folder, group };
        gateway.address = gateway.wait_for_address("serving")?;
        if start.toml.contains("[admin]") {
            gateway.admin = Some(gateway.wait_for_address("admin listener")?);
        }
        Ok(gateway)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_memory_limited(&self) -> bool {
        self.group.is_some()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn signal(&self, name: &str) {
        // One that has ended is seen by whoever waits for what the signal does.
        Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).stderr(Stdio::null()).status().ok();
    }

    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            let ended = self.has_ended();
            if ended.is_some() || Instant::now() >= end {
                return ended;
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }

    /// Seconds of CPU that its threads have used.
    pub(crate) fn cpu(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id())).into_iter().flatten().flatten();
        let nanos = threads.filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        nanos.sum::<f64>() * 1e-9
    }

    fn wait_for_address(&mut self, message: &str) -> io::Result<SocketAddr> {
        let start = Instant::now();
        loop {
            let log = self.log();
            for line in log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
                let is_it =
                    ["message", "msg"].iter().any(|name| line.get(name).and_then(|it| it.as_str()) == Some(message));
                if let (true, Some(address)) = (is_it, line.get("address").and_then(|it| it.as_str()?.parse().ok())) {
                    return Ok(address);
                }
            }
            if self.has_ended().is_some() || start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("no {message:?} from the gateway; it said:\n{log}")));
            }
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // One that has ended already is as good.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
        if let Some(group) = &self.group {
            fs::remove_dir(group).ok();
        }
    }
}

/// A certificate for localhost that has signed itself, and its key.
fn make_certificate(folder: &Path) -> io::Result<()> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    fs::write(folder.join("tls.crt"), made.cert.pem())?;
    fs::write(folder.join("tls.key"), made.signing_key.serialize_pem())?;
    fs::set_permissions(folder.join("tls.key"), Permissions::from_mode(0o600))
}

/// A control group of its own with the memory of a small machine, version 2 or 1; none without the right to make one.
fn memory_group(name: &str) -> Option<PathBuf> {
    for (root, limit) in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")] {
        let group = Path::new(root).join(name);
        if fs::create_dir(&group).is_ok() {
            if group.join(limit).exists() && fs::write(group.join(limit), MEMORY.to_string()).is_ok() {
                return Some(group);
            }
            fs::remove_dir(&group).ok();
        }
    }
    None
}
