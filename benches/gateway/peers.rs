//! The peers: which gateways there are, when each is ready, and how it is asked one thing.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::process::Process;
use crate::programs::{self, Program};
use crate::quota::Quota;
use crate::variant::Variant;
use crate::wire::{self, Body};

/// The client key of the configs that know keys; the others ignore it.
pub(crate) const KEY: &str = "sk-bench-1234";
/// LiteLLM takes ten seconds and more.
const READY_WITHIN: Duration = Duration::from_secs(120);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    threads: usize,
    /// Hundredths of a core that all of it may use.
    cpu: Option<usize>,
    /// What a request has to say besides, each line with its end.
    pub(crate) headers: String,
    /// `None` for the mock upstream itself.
    pub(crate) program: Option<Program>,
}

/// A peer's process.
pub(crate) struct Running {
    process: Process,
    /// Goes after the process.
    _quota: Option<Quota>,
}

impl Deref for Running {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Peer {
    /// Writes the peer's config into `folder`. The error says what is missing and how to get it.
    pub(crate) fn prepare(name: &str, options: &Options, mock: SocketAddr, folder: &Path) -> Result<Self, String> {
        let address = free_address().map_err(|error| error.to_string())?;
        let plain = |program: Program| Self {
            name: name.to_owned(),
            address,
            threads: 1,
            cpu: None,
            headers: String::new(),
            program: Some(program),
        };
        match name {
            "direct" => Ok(Self {
                name: name.to_owned(),
                address: mock,
                threads: 1,
                cpu: None,
                headers: String::new(),
                program: None,
            }),
            "nginx" => programs::nginx(options, address, mock, folder).map(plain),
            "haproxy" => programs::haproxy(options, address, mock, folder).map(plain),
            "litellm" => programs::litellm(options, address, mock, folder).map(plain),
            "portkey" => {
                let headers = format!("x-portkey-provider: openai\r\nx-portkey-custom-host: http://{mock}/v1\r\n");
                let program = programs::portkey(options, address, folder)?;
                Ok(Self { headers, ..plain(program) })
            }
            _ => {
                let variant = Variant::parse(name, options)?;
                let program = programs::tollgate(&variant, address, mock, folder)?;
                let cpu = variant.cpu.map(|percent| percent * variant.threads);
                Ok(Self { threads: variant.threads, cpu, ..plain(program) })
            }
        }
    }

    /// Starts the program and waits for its first answer; `None` for the mock itself.
    pub(crate) fn start(&self, options: &Options) -> Result<Option<(Running, Duration)>, String> {
        let Some(program) = &self.program else { return Ok(None) };
        let cores = [options.gateway_core, options.load_core];
        let mut process =
            program.start(&cores[..self.threads.clamp(1, cores.len())]).map_err(|error| error.to_string())?;
        let quota = self.cpu.map(|percent| Quota::of(process.id(), percent)).transpose();
        let quota = quota.map_err(|error| {
            format!("a limit of CPU time needs control groups, root, and no real-time priority (chrt -f): {error}")
        })?;
        let mut last;
        loop {
            match ask(
                self.address,
                "POST /v1/chat/completions",
                &self.headers,
                r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#,
            ) {
                Ok((status, _)) if status.contains(" 200 ") => {
                    let took = process.started.elapsed();
                    return Ok(Some((Running { process, _quota: quota }, took)));
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

/// Whether it is one of the builds that are compared with nginx.
pub(crate) fn is_tollgate(peer: &str) -> bool {
    peer.split([':', '+']).next() == Some("tollgate")
}

/// One request on a connection of its own: first line and body of the answer.
pub(crate) fn ask(
    address: SocketAddr,
    method_and_path: &str,
    headers: &str,
    body: &str,
) -> io::Result<(String, String)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let length = body.len();
    let request = format!(
        "{method_and_path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nAuthorization: Bearer {KEY}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
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
        if read == 0 || asked.elapsed() > ANSWER_WITHIN {
            return Err(io::Error::other("closed before the answer was complete"));
        }
    }
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
