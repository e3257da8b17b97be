//! The program as a child process, and what it prints.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const KEY: &str = "tg-process-test-key-0001";

/// The program, ended when the test is.
pub struct Tollgate {
    pub child: Child,
    lines: mpsc::Receiver<String>,
    pub folder: PathBuf,
}

impl Drop for Tollgate {
    fn drop(&mut self) {
        let _ended = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
        let _gone = fs::remove_dir_all(&self.folder).is_err();
    }
}

impl Tollgate {
    /// Starts it in a folder of its own, without any configuration from the environment.
    pub fn start(name: &str, arguments: &[&str], toml: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_with(name, arguments, toml, environment, &[])
    }

    /// As [`Self::start`], with secrets in files beside the configuration.
    pub fn start_with(
        name: &str,
        arguments: &[&str],
        toml: &str,
        environment: &[(&str, &str)],
        secrets: &[(&str, &str)],
    ) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        program.args(arguments);
        Self::run(name, program, toml, environment, secrets)
    }

    /// As [`Self::start`] with `serve`, allowed to have so many files open.
    pub fn start_with_descriptors(name: &str, most: usize, toml: &str, environment: &[(&str, &str)]) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" serve"), env!("CARGO_BIN_EXE_tollgate")]);
        Self::run(name, shell, toml, environment, &[])
    }

    fn run(
        name: &str,
        mut program: Command,
        toml: &str,
        environment: &[(&str, &str)],
        secrets: &[(&str, &str)],
    ) -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-process-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        if !toml.is_empty() {
            fs::write(folder.join("tollgate.toml"), toml).unwrap();
        }
        for (name, secret) in secrets {
            let path = folder.join(name);
            fs::write(&path, secret).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut child = program
            .current_dir(&folder)
            .env_clear()
            .env("OTEL_METRICS_EXPORTER", "none")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (send, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self { child, lines, folder }
    }

    /// The next line that contains `text`; the lines before it are dropped.
    pub fn line_with(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with {text:?}, only:\n{}", seen.join("\n")),
            }
        }
    }

    /// The address from the log line that says so.
    pub fn address(&self) -> SocketAddr {
        let line: serde_json::Value = serde_json::from_str(&self.line_with("\"serving\"")).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "did not exit");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
