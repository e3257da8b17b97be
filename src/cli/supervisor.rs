//! What a supervisor such as systemd is told (sd_notify(3)), if there is one that listens.

use std::{
    cell::RefCell,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

use crate::config::Environment;

/// Longest wait for room in the supervisor's socket.
const SENDING_MAX: Duration = Duration::from_secs(1);

/// From one look at the status to the next, at most: every change is a message to the supervisor.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The socket that news goes to.
#[derive(Debug, Default)]
pub(super) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How often it wants to hear that all is well.
    watchdog: Option<Duration>,
    /// The status that it was told last.
    status: RefCell<String>,
}

impl Supervisor {
    /// The one that `$NOTIFY_SOCKET` and `$WATCHDOG_USEC` speak of.
    pub(super) fn of(environment: &Environment) -> Self {
        let socket = environment.get("NOTIFY_SOCKET").and_then(|name| match connect(name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "the supervisor at $NOTIFY_SOCKET cannot be reached");
                None
            }
        });
        let is_ours = environment.get("WATCHDOG_PID").is_none_or(|pid| *pid == std::process::id().to_string());
        let limit = environment.get("WATCHDOG_USEC").filter(|_| is_ours).and_then(|limit| limit.parse().ok());
        // Twice within the limit, as sd_watchdog_enabled(3) recommends.
        let watchdog = limit.filter(|limit| *limit > 0).map(|limit| Duration::from_micros(limit) / 2);
        Self { socket, watchdog, status: RefCell::default() }
    }

    pub(super) fn ready(&self, status: String) {
        self.say(&format!("READY=1\nSTATUS={status}"));
        self.status.replace(status);
    }

    /// What there is to know about the service, if it has changed.
    pub(super) fn status(&self, status: String) {
        if *self.status.borrow() != status {
            self.say(&format!("STATUS={status}"));
            self.status.replace(status);
        }
    }

    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=finishing requests");
    }

    /// All is well.
    pub(super) fn is_alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// How often to say so. Where nobody asks, looking once an hour costs nothing.
    pub(super) fn watch_interval(&self) -> Duration {
        self.watchdog.filter(|_| self.socket.is_some()).unwrap_or(Duration::from_secs(3_600))
    }

    /// How often to look whether the status has changed.
    pub(super) fn status_interval(&self) -> Duration {
        self.watch_interval().min(if self.socket.is_some() { STATUS_INTERVAL } else { Duration::MAX })
    }

    fn say(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!(%error, "the supervisor was not told");
        }
    }
}

fn connect(name: &str) -> std::io::Result<UnixDatagram> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A supervisor that is busy is waited for, but not for ever.
    socket.set_write_timeout(Some(SENDING_MAX))?;
    Ok(socket)
}
