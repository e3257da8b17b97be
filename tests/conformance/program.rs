//! The program as its user starts it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A gateway with the built-in provider, ended with the test.
pub(crate) struct Program {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Program {
    /// Starts it with nothing but this in its environment.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tollgate-conformance-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tollgate.toml"), super::shared::CONFIG).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("serve").current_dir(&folder).env_clear().envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (errors, collected) = (child.stderr.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                collected.lock().unwrap().push(line);
            }
        });
        let mut program = Self { child, lines, folder, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        program.address = eventually("the address in the log", || {
            let lines = program.lines.lock().unwrap();
            let line = lines.iter().find(|line| line.contains("\"serving\""))?;
            serde_json::from_str::<serde_json::Value>(line).unwrap()["address"].as_str().unwrap().parse().ok()
        });
        program
    }

    /// Sends a chat with a key that nobody has: the shortest way to something that is counted.
    pub(crate) fn refused_chat(&self) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket
            .write_all(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            )
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }

    /// What it has open that begins like this, such as `socket:`.
    pub(crate) fn open(&self, kind: &str) -> usize {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let links = folder.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with(kind)).count()
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    pub(crate) fn signal(&self) {
        let kill = Command::new("/bin/sh").args(["-c", "kill -TERM $0", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for its end and says how long that took.
    pub(crate) fn end(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        let child = &mut self.child;
        (eventually("the end of the program", || child.try_wait().unwrap()), begun.elapsed())
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
        let _left = std::fs::remove_dir_all(&self.folder).is_err();
        if std::thread::panicking() {
            eprintln!("--- the program's log:\n{}", self.log());
        }
    }
}
