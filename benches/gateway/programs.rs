//! How each gateway is configured and started.
//!
//! All do the same job for the same client: pass `POST /v1/chat/completions` on to the mock upstream. nginx and haproxy do it without
//! keys, routing or metrics; tollgate does it as a user would run it, with its OTLP push on.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::options::Options;
use crate::peers::KEY;
use crate::process::Process;
use crate::variant::Variant;

pub(crate) struct Program {
    binary: PathBuf,
    arguments: Vec<String>,
    environment: &'static [(&'static str, &'static str)],
    pub(crate) log: PathBuf,
    pub(crate) version: String,
    /// Why the version is not known.
    pub(crate) unversioned: Option<String>,
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
        Ok(Self { binary, arguments, environment: &[], log, version, unversioned })
    }

    pub(crate) fn start(&self, cores: &[usize]) -> io::Result<Process> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        Process::start(command, cores)
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

/// As lean as nginx gets for this job: one worker, keep-alive on both sides, no log, no buffering of answers. Bodies of any size
/// that is sent here stay in memory.
pub(crate) fn nginx(
    options: &Options,
    address: SocketAddr,
    mock: SocketAddr,
    folder: &Path,
) -> Result<Program, String> {
    let config = format!(
        "worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 32768; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  tcp_nodelay on;
  client_max_body_size 0; client_body_buffer_size 8m;
  keepalive_timeout 300s;
  keepalive_requests 1000000000;
  upstream mock {{ server {mock}; keepalive 8192; keepalive_requests 1000000000; }}
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
    let file = written(folder, "nginx.conf", &config)?;
    let arguments = ["-e", "stderr", "-p", &text(folder), "-c", &file].map(str::to_owned).to_vec();
    Program::new(PathBuf::from(&options.nginx), arguments, folder.join("nginx.log"), "-v").map_err(|error| {
        format!("{error}; install it (Debian, Ubuntu: apt-get install nginx) or set NGINX=PATH. The ratios need it")
    })
}

/// The same for haproxy.
pub(crate) fn haproxy(
    options: &Options,
    address: SocketAddr,
    mock: SocketAddr,
    folder: &Path,
) -> Result<Program, String> {
    let config = format!(
        "global
  nbthread 1
  maxconn 8000
defaults
  mode http
  option http-keep-alive
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend clients
  bind {address} backlog 4096
  default_backend mock
backend mock
  server mock {mock} pool-max-conn -1 pool-purge-delay 60s
"
    );
    let file = written(folder, "haproxy.cfg", &config)?;
    let arguments = ["-db", "-f", &file].map(str::to_owned).to_vec();
    Program::new(PathBuf::from(&options.haproxy), arguments, folder.join("haproxy.log"), "-v")
        .map_err(|error| format!("{error}; install it (Debian, Ubuntu: apt-get install haproxy) or set HAPROXY=PATH"))
}

/// LiteLLM's proxy with one worker and as little as it can do.
pub(crate) fn litellm(
    options: &Options,
    address: SocketAddr,
    mock: SocketAddr,
    folder: &Path,
) -> Result<Program, String> {
    let config = format!(
        "model_list:
  - model_name: gpt-4o-mini
    litellm_params: {{model: openai/gpt-4o-mini, api_base: \"http://{mock}/v1\", api_key: sk-upstream}}
general_settings: {{master_key: {KEY}}}
litellm_settings: {{telemetry: false, num_retries: 0}}
"
    );
    let file = written(folder, "litellm.yaml", &config)?;
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let arguments = ["--config", &file, "--host", &host, "--port", &port, "--num_workers", "1"];
    let program = Program::new(
        PathBuf::from(&options.litellm),
        arguments.map(str::to_owned).to_vec(),
        folder.join("litellm.log"),
        "--version",
    );
    let mut program = program.map_err(|error| {
        format!("{error}; install it (pip install 'litellm[proxy]' in a virtual environment) or set LITELLM=PATH")
    })?;
    program.environment =
        &[("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_LOG", "ERROR"), ("LITELLM_MODE", "PRODUCTION")];
    Ok(program)
}

/// Portkey's gateway, which takes the provider from the request.
pub(crate) fn portkey(options: &Options, address: SocketAddr, folder: &Path) -> Result<Program, String> {
    let arguments = vec![options.portkey.clone(), format!("--port={}", address.port()), "--headless".to_owned()];
    if !Path::new(&options.portkey).exists() {
        return Err("set PORTKEY to the build/start-server.js of an installed @portkey-ai/gateway".to_owned());
    }
    let mut program = Program::new(PathBuf::from("node"), arguments, folder.join("portkey.log"), "--version")?;
    program.environment = &[("NODE_ENV", "production"), ("TRUSTED_CUSTOM_HOSTS", "127.0.0.1,localhost")];
    Ok(program)
}

/// A build of ours, as a user would run it.
pub(crate) fn tollgate(
    variant: &Variant,
    address: SocketAddr,
    mock: SocketAddr,
    folder: &Path,
) -> Result<Program, String> {
    let name = format!("tollgate-{}", address.port());
    let file = written(folder, &format!("{name}.toml"), &variant.config(address, mock))?;
    let arguments = ["serve", "-c", &file].map(str::to_owned).to_vec();
    let shown = variant.binary.display().to_string();
    Program::new(variant.binary.clone(), arguments, folder.join(name).with_extension("log"), "--version")
        .map_err(|error| format!("{shown}: {error}; build it (cargo build --release) or set TOLLGATE=PATH"))
}

fn written(folder: &Path, name: &str, config: &str) -> Result<String, String> {
    let file = folder.join(name);
    fs::write(&file, config).map_err(|error| error.to_string())?;
    Ok(text(&file))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
