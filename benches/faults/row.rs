//! How a row is run: a clean start, the canary beside it, a healthy call and the memory after it.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::canary::Canary;
use crate::http1::{Answer, ask, chat};
use crate::process::{Gateway, KEY, PROVIDER_KEY, Start, TOKEN};
use crate::wall::Wall;

/// Latencies below this are the machine's, not the gateway's: a wake-up on a shared core takes as long.
const NOISE: Duration = Duration::from_millis(20);

/// What a row returns: what was seen, as success or as failure.
pub(crate) type Outcome = Result<String, String>;

pub(crate) struct Row {
    pub(crate) number: u8,
    pub(crate) is_star: bool,
    pub(crate) title: &'static str,
    pub(crate) setup: Setup,
    pub(crate) run: fn(&mut Stage<'_>) -> Outcome,
}

/// What a row needs beyond the ordinary.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// Lines of `[server]`.
    pub(crate) server: &'static str,
    pub(crate) before: &'static str,
    pub(crate) canary: Beside,
    /// Everything is logged.
    pub(crate) is_traced: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Each stream connects.
    Connecting,
    /// On few connections, which may be refused or closed: there is not one for everybody.
    Refusable,
    /// The row needs the gateway for itself.
    Nothing,
}

pub(crate) const PLAIN: Setup = Setup { server: "", before: "", canary: Beside::Connecting, is_traced: false };

/// Time limits, the defaults or short ones, and how many of what is many.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) first_byte: Duration,
    pub(crate) handshake: Duration,
    pub(crate) head: Duration,
    pub(crate) body: Duration,
    pub(crate) write: Duration,
    pub(crate) http2_idle: Duration,
    /// Of a full count, this part.
    pub(crate) divisor: usize,
    pub(crate) cooldown: Duration,
    pub(crate) cooldown_max: Duration,
    /// Latencies are looked at, and memory to the letter.
    pub(crate) is_strict: bool,
}

impl Limits {
    pub(crate) const DEFAULT: Self = Self {
        first_byte: Duration::from_secs(5),
        handshake: Duration::from_secs(5),
        head: Duration::from_secs(10),
        body: Duration::from_secs(15),
        write: Duration::from_secs(30),
        http2_idle: Duration::from_secs(120),
        cooldown: Duration::from_secs(5),
        cooldown_max: Duration::from_secs(15),
        divisor: 1,
        is_strict: true,
    };
    pub(crate) const SHORT: Self = Self {
        first_byte: Duration::from_secs(1),
        handshake: Duration::from_secs(1),
        head: Duration::from_secs(2),
        body: Duration::from_secs(1),
        write: Duration::from_secs(2),
        http2_idle: Duration::from_secs(2),
        cooldown: Duration::from_millis(500),
        cooldown_max: Duration::from_millis(1_500),
        divisor: 10,
        is_strict: false,
    };

    pub(crate) fn many(&self, full: usize) -> usize {
        (full / self.divisor).max(4)
    }

    /// Nothing for the defaults, which are the gateway's own.
    fn toml(&self) -> (String, String) {
        if self.is_strict {
            return Default::default();
        }
        let ms = |time: Duration| format!("\"{}ms\"", time.as_millis());
        let server = format!(
            "first_byte_timeout = {}\nhandshake_timeout = {}\nmax_handshakes = 20\nhead_timeout = {}\nbody_timeout = {}\nwrite_timeout = {}\n",
            ms(self.first_byte),
            ms(self.handshake),
            ms(self.head),
            ms(self.body),
            ms(self.write)
        );
        (
            server,
            format!(
                "[server.http2]\nidle_timeout = {}\nstall_timeout = \"1s\"\nping_interval = \"1s\"\nping_timeout = \"1s\"\n",
                ms(self.http2_idle)
            ),
        )
    }
}

/// Where a row plays.
pub(crate) struct Stage<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) gateway: Gateway,
    /// Serves `first` alone, and is the first choice of `pair`.
    pub(crate) first: Wall,
    /// Serves the canary, and is the second choice of `pair`.
    pub(crate) second: Wall,
    pub(crate) limits: Limits,
    /// Resident memory before the row.
    pub(crate) memory: u64,
}

impl Stage<'_> {
    pub(crate) fn ask(&self, request: &[u8]) -> Result<Answer, String> {
        ask(self.gateway.address, request)
    }

    pub(crate) fn chat(&self, model: &str, is_stream: bool) -> Result<Answer, String> {
        self.ask(&chat(model, is_stream, "ab12"))
    }

    /// Growth of resident memory since before the row.
    pub(crate) fn growth(&self) -> u64 {
        self.gateway.memory().saturating_sub(self.memory)
    }

    pub(crate) fn scrape(&self) -> Result<String, String> {
        let admin = self.gateway.admin.ok_or("no admin listener")?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n");
        let answer = ask(admin, request.as_bytes())?;
        if answer.status == 200 { Ok(answer.text()) } else { Err(format!("/metrics answers {}", answer.status)) }
    }

    /// The sum of a metric's series whose labels contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> Result<f64, String> {
        let text = self.scrape()?;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }
}

/// The configuration: defaults, keys, an admin listener and two providers.
pub(crate) fn toml(limits: &Limits, setup: &Setup, walls: [&Wall; 2]) -> String {
    let (server, http2) = limits.toml();
    let [first, second] = walls.map(|wall| wall.address);
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n{server}{}\n{http2}\
         [routing]\ncooldown = \"{}ms\"\ncooldown_max = \"{}ms\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n[telemetry]\nexporters = [\"prometheus\"]\n\
         [providers.first]\nbase_url = \"http://{first}/v1\"\napi_key = \"{PROVIDER_KEY}\"\nidle_timeout = \"3s\"\n\
         [providers.second]\nbase_url = \"http://{second}/v1\"\napi_key = \"{PROVIDER_KEY}\"\n\
         [providers.nobody]\nbase_url = \"http://127.0.0.1:9/v1\"\n\
         [models.first]\ndeployments = [{{ provider = \"first\" }}]\n\
         [models.pair]\ndeployments = [{{ provider = \"first\" }}, {{ provider = \"second\" }}]\n\
         [models.nobody]\ndeployments = [{{ provider = \"nobody\" }}, {{ provider = \"nobody\", model = \"other\" }}]\n\
         [models.canary]\ndeployments = [{{ provider = \"second\" }}]\n\
         [[keys]]\nname = \"faults\"\nkey = \"{KEY}\"\n[[keys]]\nname = \"narrow\"\nkey = \"{KEY}-narrow\"\nmodels = [\"canary\"]\n",
        setup.server,
        limits.cooldown.as_millis(),
        limits.cooldown_max.as_millis()
    )
}

/// Runs a row from a clean start to the memory after it; `baseline` is the canary's p99 with nothing beside it.
pub(crate) fn run(row: &Row, binary: &Path, limits: Limits, walls: &[Wall; 2], baseline: Duration) -> Outcome {
    let [first, second] = walls.clone();
    first.reset();
    second.reset();
    let toml = toml(&limits, &row.setup, [&first, &second]);
    // Latencies are those of the default. Short rows look for secrets in everything that can be logged instead.
    let level = if limits.is_strict && !row.setup.is_traced { "info" } else { "trace" };
    let start =
        Start { binary, toml: &toml, before: row.setup.before, arguments: &["--log-level", level], environment: &[] };
    let gateway = Gateway::start(&start).map_err(|error| error.to_string())?;
    let mut stage = Stage { binary, gateway, first, second, limits, memory: 0 };
    if !row.setup.server.contains("tls") {
        warm_up(&stage)?;
    }
    stage.memory = stage.gateway.memory();
    stage.first.reset();
    stage.second.reset();
    let canary = (row.setup.canary != Beside::Nothing)
        .then(|| Canary::start(stage.gateway.address, row.setup.canary == Beside::Connecting));
    if canary.is_some() {
        sleep(Duration::from_millis(200));
    }
    let result = (row.run)(&mut stage);
    let beside = canary.map(Canary::stop);
    let mut faults = Vec::new();
    let mut seen = result.unwrap_or_else(|fault| {
        faults.push(fault);
        String::new()
    });
    if let Some(mut beside) = beside {
        let p99 = beside.p99();
        if row.setup.canary == Beside::Refusable {
            seen += &format!(" [canary: {} of {} not let in]", beside.refused, beside.asked);
        } else if beside.refused > 0 {
            beside.wrong.push(format!("{} not let in: {:?}", beside.refused, beside.first_refusal));
        }
        if let Some(wrong) = beside.wrong.first() {
            faults.push(format!("canary: {} of {} wrong, first {wrong}", beside.wrong.len(), beside.asked));
        }
        if limits.is_strict && p99 > (baseline * 3).max(NOISE) {
            faults.push(format!("canary: p99 {p99:.1?}, {baseline:.1?} without the row"));
        }
        seen += &format!(" [canary p99 {p99:.1?}]");
    }
    if row.setup.canary != Beside::Nothing {
        faults.extend(after(&mut stage));
    }
    faults.extend(leaked(&stage));
    if faults.is_empty() { Ok(seen) } else { Err(format!("{}; {seen}", faults.join("; "))) }
}

/// The canary's p99 with nothing beside it.
pub(crate) fn baseline(binary: &Path, limits: Limits, walls: &[Wall; 2]) -> Result<Duration, String> {
    let [first, second] = walls;
    let toml = toml(&limits, &PLAIN, [first, second]);
    let start = Start { binary, toml: &toml, before: "", arguments: &[], environment: &[] };
    let gateway = Gateway::start(&start).map_err(|error| error.to_string())?;
    let canary = Canary::start(gateway.address, true);
    sleep(Duration::from_secs(if limits.is_strict { 10 } else { 1 }));
    let mut seen = canary.stop();
    let is_well = seen.wrong.is_empty() && seen.refused == 0;
    ensure(is_well, || format!("the canary fails with nothing beside it: {:?} {:?}", seen.wrong, seen.first_refusal))?;
    Ok(seen.p99())
}

/// What is touched for the first time is no growth.
fn warm_up(stage: &Stage<'_>) -> Result<(), String> {
    for number in 0..20 {
        let answer = stage.chat(["first", "pair", "canary"][number % 3], number % 2 == 1)?;
        if answer.status != 200 {
            return Err(format!("not even warm: {} {}\n{}", answer.status, answer.text(), stage.gateway.log()));
        }
    }
    stage.scrape().map(|_| ())
}

/// The healthy call within 2 s, the memory within a minute.
fn after(stage: &mut Stage<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(status) = stage.gateway.has_ended() {
        return vec![format!("the gateway ended: {status}\n{}", tail(&stage.gateway.log()))];
    }
    stage.first.reset();
    let began = Instant::now();
    match stage.chat("first", false) {
        Ok(answer) if answer.status == 200 && began.elapsed() <= Duration::from_secs(2) => {}
        Ok(answer) => faults.push(format!("after: {} in {:.1?}", answer.status, began.elapsed())),
        Err(error) => faults.push(format!("after: {error} in {:.1?}", began.elapsed())),
    }
    let allowed = stage.memory + stage.memory / 10 + (if stage.limits.is_strict { 4 } else { 16 } << 20);
    let end = Instant::now() + Duration::from_secs(if stage.limits.is_strict { 60 } else { 5 });
    while stage.gateway.memory() > allowed && Instant::now() < end {
        sleep(Duration::from_millis(100));
    }
    let now = stage.gateway.memory();
    if now > allowed {
        faults.push(format!("memory: {} after {} before", mib(now), mib(stage.memory)));
    }
    faults
}

/// Secrets have to be in no log, whatever the row did.
pub(crate) fn leaked(stage: &Stage<'_>) -> Vec<String> {
    let log = stage.gateway.log();
    let secrets = [KEY, TOKEN, PROVIDER_KEY];
    let found = secrets.into_iter().filter(|secret| log.contains(secret));
    found.map(|secret| format!("{secret} is in the log")).collect()
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// An error made of `what` unless it holds.
pub(crate) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
