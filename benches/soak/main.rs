//! The gateway under everything at once for a long time: `cargo bench --bench soak`, or `make soak MINUTES=30`.
//!
//! Chats and streams whose every byte is compared, providers that fail and break off, clients that leave, read slowly, say
//! nothing or nonsense, and reloads with good and bad files. At the end resident memory has to be level, the number of file
//! descriptors the same, and no byte wrong.
//!
//! - `load`: the clients and the provider
//! - `judge`: memory and file descriptors over time
//! - the rest is the kit of `benches/faults`
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the report goes to standard output, progress to standard error"
)]

#[path = "../support/given.rs"]
mod given;
#[expect(dead_code, reason = "the board of faults has more use for it")]
#[path = "../faults/http1.rs"]
mod http1;
mod judge;
mod load;
#[path = "../support/machine.rs"]
mod machine;
#[expect(dead_code, reason = "the board of faults has more use for it")]
#[path = "../faults/process.rs"]
mod process;
mod run;
#[expect(dead_code, reason = "the board of faults has more use for it")]
#[path = "../faults/wall.rs"]
mod wall;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use given::Given;

/// Cargo builds the gateway before it benches, so what runs is never stale.
const BUILT: &str = match option_env!("CARGO_BIN_EXE_tollgate") {
    Some(path) => path,
    None => "target/release/tollgate",
};

const HELP: &str = "\
Options, as NAME=value arguments after `--` or as environment variables:
  MINUTES=30         of load
  TOLLGATE=target/release/tollgate";

const MIB_PER_HOUR_MAX: f64 = 1.0;
/// In a short time a straight line through noise is steep; then growth is looked at.
const GROWTH_MIB_MAX: f64 = 0.5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo passes `--bench` when it benches; when it only tests, minutes of load are not what was asked for.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing run: run `cargo bench --bench soak`\n{HELP}");
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = arguments.into_iter().filter(|argument| argument != "--bench").collect();
    soak(&arguments).unwrap_or_else(|error| {
        eprintln!("soak: {error}");
        ExitCode::FAILURE
    })
}

fn soak(arguments: &[String]) -> Result<ExitCode, String> {
    let given = Given { arguments, help: HELP };
    given.check()?;
    let time = Duration::from_secs_f64(60.0 * given.number("MINUTES", &30.0_f64)?);
    let binary: PathBuf = given.text("TOLLGATE", BUILT).into();
    println!("{}\n", machine::describe());
    // Every pool, series and page has been used once by then.
    let warm_up = (time / 4).min(Duration::from_secs(300));
    let found = run::run(&binary, time, |sample| {
        eprintln!(
            "[{:>5.0} s] {:.1} MiB, {} file descriptors",
            sample.at.as_secs_f64(),
            sample.memory as f64 / f64::from(1 << 20),
            sample.descriptors
        );
    })?;
    for (kind, count) in &found.counts {
        println!("{count:>9}  {kind}");
    }
    let judged = judge::judge(&found.samples, warm_up);
    let (before, after) = judged.descriptors;
    let is_long = time >= Duration::from_secs(30 * 60);
    let is_level = judged.mib_per_hour <= MIB_PER_HOUR_MAX || (!is_long && judged.growth_mib <= GROWTH_MIB_MAX);
    let is_flat = after <= before + 3;
    println!(
        "\nresident memory: {:+.2} MiB/h by a line through {:.0?} after {warm_up:.0?} of warm-up ({:+.2} MiB in that time)",
        judged.mib_per_hour,
        time.saturating_sub(warm_up),
        judged.growth_mib
    );
    println!("file descriptors: {before} in the first third, {after} in the last");
    println!("wrong: {}", found.wrong.len());
    for wrong in found.wrong.iter().take(10) {
        println!("  {wrong}");
    }
    println!("ended: {}", found.end);
    let is_good = is_level && is_flat && found.wrong.is_empty() && found.is_ended_well;
    println!("{}", if is_good { "passed" } else { "FAILED" });
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
