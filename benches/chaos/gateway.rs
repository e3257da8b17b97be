//! The gateway as a process: built-in provider, one worker, a push to the receiver at a short interval.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub(crate) const KEY: &str = "tg-chaos-test-key-0001";
const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway; ended when this goes.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
}

impl Gateway {
    pub(crate) fn start(binary: &Path, receiver: &str, interval_ms: u64) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("tollgate-chaos-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nthreads = 1\nmax_connection_requests = 1000000000\nmax_connections_per_address = 0\nmax_requests_per_key = 4096\n[providers.echo]\nkind = \"echo\"\n\
             [models.echo]\ndeployments = [{{ provider = \"echo\" }}]\n[[keys]]\nname = \"chaos\"\nkey = \"{KEY}\"\n\
             [telemetry]\nendpoint = \"{receiver}\"\ninterval = \"{interval_ms}ms\"\ntimeout = \"{interval_ms}ms\"\n"
        );
        fs::write(folder.join("tollgate.toml"), config)?;
        let child = Command::new(binary)
            .args(["serve", "-c", "tollgate.toml", "--log-format", "json"])
            .current_dir(&folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log"))?)
            .spawn()?;
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut gateway = Self { child, address: unknown, folder };
        gateway.address = gateway.wait_for_address()?;
        Ok(gateway)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Asks it to end, as an operator does, and waits until it has.
    pub(crate) fn stop(&mut self) -> io::Result<ExitStatus> {
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if asked.elapsed() > PATIENCE {
                return Err(io::Error::other("the gateway did not end when it was asked to"));
            }
            sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// File descriptors it has open.
    pub(crate) fn descriptors(&self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.id())).ok()?.count())
    }

    fn wait_for_address(&mut self) -> io::Result<SocketAddr> {
        let start = Instant::now();
        loop {
            let log = self.log();
            let serving = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let mut addresses = serving.filter_map(|line| line.get("address")?.as_str()?.parse().ok());
            if let Some(address) = addresses.next() {
                return Ok(address);
            }
            if self.child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("the gateway does not serve; it said:\n{log}")));
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
    }
}
