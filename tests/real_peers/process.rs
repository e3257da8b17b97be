//! A peer's process: what it prints, how it ends, and that it never outlives its test.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Longest wait for anything that has to happen. Nothing takes a tenth of it on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until there is an answer; the tests' only way to wait.
pub fn eventually<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    eventually_ok(what, || answer().ok_or_else(String::new))
}

/// As [`eventually`], with what stands in the way.
pub fn eventually_ok<T>(what: &str, mut answer: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match answer() {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < deadline, "did not happen within {PATIENCE:?}: {what} {why}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running program, killed when it is dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    // Its end tells a program that watches standard input to stop, even when this process is killed.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts it with nothing of this process's environment: neither a developer's `OTEL_*` nor a
    /// proxy has a say in what the tests see.
    pub fn start(name: &'static str, command: &mut Command, environment: &[(&str, &str)]) -> Self {
        command.env_clear().envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), Arc::clone(&lines));
        collect(child.stderr.take().unwrap(), Arc::clone(&lines));
        Self { name, lines, _stdin: child.stdin.take(), child }
    }

    /// Waits for a line in which `find` sees what it looks for.
    pub fn line<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let name = self.name;
        self.line_before_end(what, find).unwrap_or_else(|| panic!("{name} ended without saying {what}"))
    }

    /// As [`Self::line`]; `None` if the program ends without such a line.
    pub fn line_before_end<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        eventually(&format!("{}: {what}", self.name), || {
            // A program that is gone will not say it any more; so look at its lines after its end.
            let gone = self.child.try_wait().unwrap().is_some();
            let found = self.lines.lock().unwrap().iter().find_map(|line| find(line));
            (found.is_some() || gone).then_some(found)
        })
    }

    /// Asks it to end, as an init system does. `kill` as a program is missing on small systems, the
    /// shell always brings its own.
    pub fn terminate(&self) {
        let kill = Command::new("/bin/sh").args(["-c", "kill -TERM $0", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success(), "{} was gone before it was asked to end", self.name);
    }

    /// Waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        eventually(&what, || child.try_wait().unwrap())
    }

    /// What it has printed so far.
    pub fn output(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
        if std::thread::panicking() {
            let lines = self.output();
            let last = lines.iter().skip(lines.len().saturating_sub(10));
            eprintln!("--- last words of {}:", self.name);
            last.for_each(|line| eprintln!("{line}"));
        }
    }
}

fn collect(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<String>>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

/// A folder that is gone after the test.
pub struct TempFolder(PathBuf);

impl TempFolder {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tollgate-real-peers-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0).is_err();
    }
}
