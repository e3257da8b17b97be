//! The peers: how each gateway is configured and started, and when it is ready.
//!
//! All do the same job for the same client: pass `POST /v1/chat/completions` on to the mock upstream. nginx does it without keys, routing
//! or metrics; tollgate does it as a user would run it, with its OTLP push on.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::process::Process;
use crate::wire::{self, Body};

/// The client key of tollgate's config; the others ignore it.
pub(crate) const KEY: &str = "sk-bench-1234";
const READY_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// `None` for the mock upstream itself.
    pub(crate) program: Option<Program>,
}

pub(crate) struct Program {
    binary: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    pub(crate) version: String,
    /// Why the version is not known.
    pub(crate) unversioned: Option<String>,
}

impl Peer {
    /// Writes the peer's config into `folder`. The error says what is missing and how to get it.
    pub(crate) fn prepare(name: &str, options: &Options, mock: SocketAddr, folder: &Path) -> Result<Self, String> {
        let address = free_address().map_err(|error| error.to_string())?;
        let (kind, path) = name.split_once(':').unwrap_or((name, ""));
        let (address, program) = match kind {
            "direct" => (mock, None),
            "nginx" => (address, Some(nginx(options, address, mock, folder)?)),
            "tollgate" => {
                let binary = if path.is_empty() { options.tollgate.clone() } else { PathBuf::from(path) };
                (address, Some(tollgate(binary, address, mock, folder)?))
            }
            _ => return Err("unknown: known are direct, nginx, tollgate, tollgate:PATH".to_owned()),
        };
        Ok(Self { name: name.to_owned(), address, program })
    }

    /// Starts the program and waits for its first answer; `None` for the mock itself.
    pub(crate) fn start(&self, core: usize) -> Result<Option<(Process, Duration)>, String> {
        let Some(program) = &self.program else { return Ok(None) };
        let mut process = program.start(core).map_err(|error| error.to_string())?;
        let mut last;
        loop {
            match ask(
                self.address,
                "POST /v1/chat/completions",
                r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#,
            ) {
                Ok((status, _)) if status.contains(" 200 ") => {
                    let took = process.started.elapsed();
                    return Ok(Some((process, took)));
                }
                Ok((status, body)) => last = format!("{status}: {body}"),
                Err(error) => last = error.to_string(),
            }
            if process.has_ended() || process.started.elapsed() > READY_WITHIN {
                return Err(format!(
                    "not ready ({last}); it said:\n{}",
                    fs::read_to_string(&program.log).unwrap_or_default().trim()
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Program {
    fn new(binary: PathBuf, arguments: Vec<String>, log: PathBuf, version_argument: &str) -> Result<Self, String> {
        let output = Command::new(&binary).arg(version_argument).output().map_err(|error| error.to_string())?;
        // nginx tells its version on standard error.
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
        let first_line = said.lines().next().unwrap_or("").replace("nginx version: ", "").replace('/', " ");
        let told = output.status.success() && !first_line.is_empty();
        let version = if told { first_line } else { format!("{} of unknown version", binary.display()) };
        let unversioned =
            (!told).then(|| format!("{}; {}", output.status, said.lines().take(2).collect::<Vec<_>>().join(" ")));
        Ok(Self { binary, arguments, log, version, unversioned })
    }

    fn start(&self, core: usize) -> io::Result<Process> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Process::start(command, core)
    }

    pub(crate) fn size_bytes(&self) -> Option<u64> {
        let in_path = || {
            let output =
                Command::new("sh").arg("-c").arg(format!("command -v '{}'", self.binary.display())).output().ok()?;
            Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
        };
        let file = if self.binary.exists() { Some(self.binary.clone()) } else { in_path() };
        Some(fs::metadata(file?).ok()?.len())
    }
}

/// As lean as nginx gets for this job: one worker, keep-alive on both sides, no log, no buffering.
fn nginx(options: &Options, address: SocketAddr, mock: SocketAddr, folder: &Path) -> Result<Program, String> {
    let config = format!(
        "worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  tcp_nodelay on;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  upstream mock {{ server {mock}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_buffering off;
      proxy_read_timeout 300s;
    }}
  }}
}}
"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config).map_err(|error| error.to_string())?;
    let arguments = ["-e", "stderr", "-p", &text(folder), "-c", &text(&file)].map(str::to_owned).to_vec();
    Program::new(PathBuf::from(&options.nginx), arguments, folder.join("nginx.log"), "-v").map_err(|error| {
        format!("{error}; install it (Debian, Ubuntu: apt-get install nginx) or set NGINX=PATH. The ratios need it")
    })
}

fn tollgate(binary: PathBuf, address: SocketAddr, mock: SocketAddr, folder: &Path) -> Result<Program, String> {
    let config = format!(
        "[server]
listen = \"{address}\"
threads = 1

[providers.mock]
base_url = \"http://{mock}/v1\"
api_key = \"sk-upstream\"

[models.gpt-4o-mini]
deployments = [{{ provider = \"mock\", model = \"gpt-4o-mini\" }}]

[[keys]]
name = \"bench\"
key = \"{KEY}\"

[telemetry]
endpoint = \"http://{mock}/v1/metrics\"
interval = \"1s\"
"
    );
    let name = format!("tollgate-{}", address.port());
    let file = folder.join(&name).with_extension("toml");
    fs::write(&file, config).map_err(|error| error.to_string())?;
    let arguments = ["serve", "-c", &text(&file)].map(str::to_owned).to_vec();
    let shown = binary.display().to_string();
    Program::new(binary, arguments, folder.join(name).with_extension("log"), "--version")
        .map_err(|error| format!("{shown}: {error}; build it (cargo build --release) or set TOLLGATE=PATH"))
}

/// Whether it is one of the builds that are compared with nginx.
pub(crate) fn is_tollgate(peer: &str) -> bool {
    peer.split(':').next() == Some("tollgate")
}

/// One request on a connection of its own: first line and body of the answer.
pub(crate) fn ask(address: SocketAddr, method_and_path: &str, body: &str) -> io::Result<(String, String)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let length = body.len();
    let request = format!(
        "{method_and_path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let asked = Instant::now();
    loop {
        let mut piece = [0; 4096];
        let read = socket.read(&mut piece)?;
        bytes.extend_from_slice(&piece[..read]);
        if let Some(head) = wire::parse_head(&bytes)? {
            let first_line = String::from_utf8_lossy(&bytes[head.first_line.clone()]).into_owned();
            let rest = &bytes[head.length..];
            // Chunks are not taken apart here: no answer that is asked for in this way has them.
            if read == 0 || matches!(head.body, Body::Length(length) if rest.len() >= length) {
                return Ok((first_line, String::from_utf8_lossy(rest).into_owned()));
            }
        }
        if read == 0 || asked.elapsed() > READY_WITHIN {
            return Err(io::Error::other("closed before the answer was complete"));
        }
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
