//! What a receiver in trouble costs the gateway's clients: `cargo bench --bench chaos`, or `make chaos`.
//!
//! The gateway serves its built-in provider on one core and pushes its metrics every second; the client sends at a fixed
//! rate from another. Slices with a receiver that is well and slices with one that is not take turns, because the speed of
//! a shared machine drifts. At the end everything that the client has counted must have arrived, to the last token.
//!
//! - `cycle`: what the receiver does wrong; the receiver itself is the strict one of `tests/support`
//! - `load`: the client, on `wire`, the HTTP of `benches/gateway`
//! - `gateway`: the process and its memory
//! - `totals`: what arrived beside what was counted
//! - `report`: the table and the verdicts
//!
//! `tests/chaos.rs` has the first four as well.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table goes to standard output, progress to standard error"
)]

mod cycle;
mod gateway;
#[path = "../support/given.rs"]
mod given;
mod load;
#[path = "../support/machine.rs"]
mod machine;
#[expect(dead_code, reason = "the bench beside nginx has more use for it")]
#[path = "../gateway/process.rs"]
mod process;
mod report;
#[path = "../support/spread.rs"]
mod spread;
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    unused_imports,
    reason = "the receiver of the tests, whose way to complain is to panic"
)]
#[path = "../../tests/support"]
mod support {
    pub(crate) mod receiver;
}
mod totals;
#[expect(dead_code, reason = "the bench beside nginx has more use for it")]
#[path = "../gateway/wire.rs"]
mod wire;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cycle::{Cycle, Trouble};
use gateway::Gateway;
use given::Given;
use load::Client;
use process::{Guard, Spinners};
use report::{Report, Slice};
use support::receiver::{Receiver, Version};
use totals::Arrived;

/// Cargo builds the gateway before it benches, so what runs is never stale.
const BUILT: &str = match option_env!("CARGO_BIN_EXE_tollgate") {
    Some(path) => path,
    None => "target/release/tollgate",
};

const HELP: &str = "\
Options, as NAME=value arguments after `--` or as environment variables:
  SECONDS=60         of load with the receiver in trouble, and as many with it well
  PAIRS=10           slices that this is cut into
  RATE=3500          requests per second; half of them stream
  CONNECTIONS=4      of the client
  TOLLGATE=target/release/tollgate
  GATEWAY_CORE=0     the gateway runs here
  LOAD_CORE=1        the client and the receiver run here";

const INTERVAL_MS: u64 = 1_000;
/// Long enough for two or three exports each.
const TROUBLE: Duration = Duration::from_millis(2_600);
const PAUSE: Duration = Duration::from_millis(900);
/// Every trouble once, shorter: what is touched the first time is no growth.
const WARM_UP: Duration = Duration::from_millis(1_500);
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

struct Options {
    seconds: f64,
    pairs: usize,
    rate: f64,
    connections: usize,
    tollgate: PathBuf,
    gateway_core: usize,
    load_core: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("guard") => process::guard(&arguments[1..]).map_err(|error| error.to_string()),
        Some("spin") => process::spin().map_err(|error| error.to_string()),
        _ => bench(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("chaos: {error}");
        ExitCode::FAILURE
    })
}

fn bench(arguments: &[String]) -> Result<ExitCode, String> {
    // Cargo passes `--bench` when it benches; when it only tests, minutes of load are not what was asked for.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench --bench chaos`\n{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<String> = arguments.iter().filter(|argument| *argument != "--bench").cloned().collect();
    let given = Given { arguments: &arguments, help: HELP };
    given.check()?;
    let options = Options {
        seconds: given.number("SECONDS", &60.0)?,
        pairs: given.number("PAIRS", &10)?,
        rate: given.number("RATE", &3_500.0)?,
        connections: given.number("CONNECTIONS", &4)?,
        tollgate: given.text("TOLLGATE", BUILT).into(),
        gateway_core: given.number("GATEWAY_CORE", &0)?,
        load_core: given.number("LOAD_CORE", &1)?,
    };
    let report = run(&options).map_err(|error| error.to_string())?;
    println!("{}", report.markdown());
    Ok(if report.is_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(options: &Options) -> io::Result<Report> {
    let began = Instant::now();
    let say = |what: &str| eprintln!("[{:>3.0} s] {what}", began.elapsed().as_secs_f64());
    let program = std::env::current_exe()?;
    process::pin_this_thread(&[options.load_core])?;
    // The receiver's threads inherit this core, the gateway that of the thread that starts it.
    let receiver = Receiver::start(Version::V3_14);
    let mut gateway = std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            process::pin_this_thread(&[options.gateway_core])?;
            Gateway::start(&options.tollgate, &receiver.url(), INTERVAL_MS)
        });
        starter.join().map_err(|_| io::Error::other("the starting thread panicked"))?
    })?;
    let guard = Guard::start(&program, &[gateway.id()], options.load_core)?;
    let mut client = Client::connect(gateway.address, options.connections)?;
    let mut report = Report::default();

    say("warm-up: every trouble once");
    let mut short = Cycle::new(WARM_UP, PAUSE / 2);
    let time = (WARM_UP + PAUSE / 2) * u32::try_from(Trouble::ALL.len()).unwrap_or_default();
    slice(&gateway, &mut client, options.rate, time, |end| short.run(&receiver, end, |_| ()));
    let settled = slice(&gateway, &mut client, options.rate, Duration::from_secs(3), |_| ());
    report.baseline(&settled);

    let mut cycle = Cycle::new(TROUBLE, PAUSE);
    // Spinners end after a minute.
    let pairs = options.pairs.max((options.seconds / 50.0).ceil() as usize);
    let time = Duration::from_secs_f64(options.seconds / pairs as f64);
    for (pair, is_chaos) in (0..pairs).flat_map(|pair| [(pair, pair % 2 == 1), (pair, pair % 2 == 0)]) {
        let spinners = Spinners::start(&program, &[options.gateway_core, options.load_core]);
        if let Err(error) = &spinners {
            report.note_once(&format!("without spinners, so waking a halted core is in the latencies: {error}"));
        }
        say(&format!("pair {} of {pairs}: {}", pair + 1, if is_chaos { "chaos" } else { "quiet" }));
        let found = slice(&gateway, &mut client, options.rate, time, |end| {
            if is_chaos {
                cycle.run(&receiver, end, |trouble| say(&format!("  {}", trouble.name())));
            }
        });
        say(&format!("  {}", report::progress(&found)));
        report.add(is_chaos, found);
    }

    say("the receiver is well; last export");
    sleep(Duration::from_millis(2 * INTERVAL_MS));
    report.descriptors_at_end = gateway.descriptors().unwrap_or_default();
    drop(guard);
    report.exit = Some(gateway.stop()?);
    let messages: Vec<_> = receiver.requests().into_iter().filter_map(|request| request.message).collect();
    let arrived = Arrived::from(&messages);
    report.totals = arrived.compare(&client.counts);
    report.exports = arrived.exports_by_error();
    report.client = client.counts.clone();
    report.violations = receiver.take_violations();
    report.took = began.elapsed();
    Ok(report)
}

/// Load for so long beside what happens to the receiver, and what the gateway needs meanwhile.
fn slice(
    gateway: &Gateway,
    client: &mut Client,
    rate: f64,
    time: Duration,
    trouble: impl FnOnce(Instant) + Send,
) -> Slice {
    let start = Instant::now();
    let end = start + time;
    let (cpu, waited_before) = (process::cpu_time(gateway.id()), waited(gateway.id()));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let samples = scope.spawn(|| {
            let (mut memory, mut descriptors) = (Vec::new(), Vec::new());
            while !done.load(Relaxed) {
                memory.extend(gateway.memory());
                descriptors.extend(gateway.descriptors());
                sleep(SAMPLE_EVERY);
            }
            (memory, descriptors)
        });
        scope.spawn(move || trouble(end));
        let latencies = client.run(rate, end);
        done.store(true, Relaxed);
        let (memory, descriptors) = samples.join().unwrap_or_default();
        let seconds = start.elapsed().as_secs_f64();
        let cpu = process::cpu_time(gateway.id()).since(&cpu).total() / seconds;
        let waited = (waited(gateway.id()) - waited_before) / seconds;
        Slice { latencies, memory, descriptors, cpu, waited, seconds }
    })
}

/// Seconds that the threads of a process were ready to run while others had their core.
fn waited(process: u32) -> f64 {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').nth(1)?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() * 1e-9
}
