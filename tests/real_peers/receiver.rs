//! A receiver of metrics that a test can stop and start again: same addresses, same data.

use std::{
    net::TcpListener,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU16, Ordering::Relaxed},
};

use crate::process::{Process, TempFolder, eventually};

/// Ports below those that Linux gives to outgoing connections (32768 and above). While a receiver
/// is stopped, nobody gets its port by chance, and a client that tries it cannot meet itself.
const PORTS: std::ops::Range<u16> = 16_000..32_000;

/// What the program is started with: its folder and its addresses.
type Build = Box<dyn Fn(&Path, &[String]) -> Command>;

pub struct Receiver {
    name: &'static str,
    /// In the line that says that it serves.
    ready: &'static str,
    build: Build,
    addresses: Vec<String>,
    folder: TempFolder,
    process: Option<Process>,
}

impl Receiver {
    /// Starts what `build` makes of a folder and of so many addresses, and waits until it prints a
    /// line with `ready` in it.
    pub fn start(
        name: &'static str,
        ready: &'static str,
        addresses: usize,
        build: impl Fn(&Path, &[String]) -> Command + 'static,
    ) -> Self {
        let (build, folder) = (Box::new(build), TempFolder::new());
        let mut receiver = Self { name, ready, build, addresses: Vec::new(), folder, process: None };
        eventually(&format!("{name} gets ports that nobody else takes"), || {
            receiver.addresses = (0..addresses).map(|_| free_address()).collect();
            receiver.try_to_run().then_some(())
        });
        receiver
    }

    /// One of its addresses, as `host:port`.
    pub fn address(&self, number: usize) -> &str {
        &self.addresses[number]
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends it as an init system does; from then on its addresses refuse connections.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.terminate();
        let status = process.end();
        assert!(status.success(), "{}: {status}", self.name);
    }

    /// Starts it again after [`Self::stop`].
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "{} still runs", self.name);
        assert!(self.try_to_run(), "{} does not start again", self.name);
    }

    /// Says whether it serves; if not, it has ended.
    fn try_to_run(&mut self) -> bool {
        let mut command = (self.build)(self.folder.path(), &self.addresses);
        let mut process = Process::start(self.name, &mut command, &[]);
        let ready = process.line_before_end("that it is ready", |line| line.contains(self.ready).then_some(()));
        self.process = ready.map(|()| process);
        self.process.is_some()
    }
}

/// An address of this machine that nobody listens on.
fn free_address() -> String {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Test programs that run at the same time begin at different ports.
    let begin = std::process::id().wrapping_mul(61);
    let mut ports = std::iter::repeat_with(|| {
        let place = begin.wrapping_add(TRIED.fetch_add(1, Relaxed).into()) % u32::try_from(PORTS.len()).unwrap();
        format!("127.0.0.1:{}", PORTS.start + u16::try_from(place).unwrap())
    });
    ports.find(|address| TcpListener::bind(address).is_ok()).unwrap()
}
