//! What recording and exporting metrics costs: `cargo bench --bench telemetry`, or `make bench-telemetry`.
//!
//! Rounds are interleaved with those of a program that does the same with the OpenTelemetry SDK for Rust
//! (`benches/opentelemetry_sdk`, a package of its own), because the speed of a shared machine drifts.
//! Every figure is the median over the rounds; the cost of an empty loop, measured in the same round, is taken off.
//!
//! - `registry`: all that is known of the gateway's registry
//! - `workload`: what is measured, as data that the other program can read
//! - `timing`: the loops; the other program has the same
//! - `sdk`: the other program as a child
//! - `report`: the goals and the table
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table goes to standard output, progress to standard error"
)]

#[path = "../support/given.rs"]
mod given;
#[path = "../support/machine.rs"]
mod machine;
mod registry;
mod report;
mod sdk;
#[path = "../support/spread.rs"]
mod spread;
mod timing;
mod workload;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use given::Given;
use registry::{Answer, Handles};
use report::Report;
use sdk::Sdk;
use tollgate::telemetry::Registry;
use workload::Figures;

const HELP: &str = "\
Options, as NAME=value arguments after `--` or as environment variables:
  ROUNDS=8     interleaved rounds
  SDK=         the program that measures the OpenTelemetry SDK, if not where `make bench-telemetry` builds it";

/// Series of the exports that are measured, and how often each is repeated in a round.
const EXPORTS: [(usize, usize); 2] = [(2_000, 25), (20_000, 7)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    bench(&arguments).unwrap_or_else(|error| {
        eprintln!("bench: {error}");
        ExitCode::FAILURE
    })
}

fn bench(arguments: &[String]) -> Result<ExitCode, String> {
    // Cargo passes `--bench` when it benches; when it only tests, nobody wants to wait for this.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing measured: run `cargo bench --bench telemetry`\n{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let arguments: Vec<String> = arguments.iter().filter(|argument| *argument != "--bench").cloned().collect();
    let given = Given { arguments: &arguments, help: HELP };
    given.check()?;
    let rounds = given.number("ROUNDS", &8)?;
    let began = Instant::now();
    let handles = Handles::bind();
    let filled = EXPORTS.map(|(series, times)| (series, times, registry::filled(series)));
    let sdk = Sdk::find(&given.text("SDK", ""), &registry::workload(&EXPORTS.map(|(series, _)| series)));
    let mut report = Report::new(sdk.as_ref().err().cloned());
    for round in 1..=rounds {
        eprintln!("[{:>3.0} s] round {round} of {rounds}: tollgate", began.elapsed().as_secs_f64());
        let mut figures = recording(&handles);
        for (series, times, registry) in &filled {
            figures.extend(exporting(*series, *times, &registry.registry));
        }
        report.tollgate.push(figures);
        if let Ok(sdk) = &sdk {
            eprintln!("[{:>3.0} s] round {round} of {rounds}: OpenTelemetry SDK", began.elapsed().as_secs_f64());
            report.sdk.push(sdk.round()?);
        }
    }
    report.waited = waited() / began.elapsed().as_secs_f64();
    println!("{}", report.markdown(rounds, began.elapsed()));
    Ok(ExitCode::SUCCESS)
}

/// Seconds that this thread was ready to run while others had its core.
fn waited() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').nth(1).and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or_default() * 1e-9
}

/// Nanoseconds of everything that happens on the path of a request.
fn recording(handles: &Handles) -> Figures {
    // What a loop costs without what it is there for; histograms look a duration up as well.
    let (one, two) = (timing::alone(|_| ()), timing::together(|_, _| ()));
    let lookup = |turn| {
        black_box(handles.nanos(turn));
    };
    let (one_lookup, two_lookup) = (timing::alone(lookup), timing::together(|_, turn| lookup(turn)));
    let request = |answer| move |turn| handles.request_without_clock(answer, turn);
    let clocked = |answer| move |_| handles.request(answer, Instant::now);
    let figures = [
        ("loop", one),
        ("counter", timing::alone(|_| handles.count(0)) - one),
        ("counter.same", timing::together(|_, _| handles.count(0)) - two),
        ("counter.apart", timing::together(|thread, _| handles.count(thread)) - two),
        ("histogram", timing::alone(|turn| handles.observe(0, handles.nanos(turn))) - one_lookup),
        ("histogram.same", timing::together(|_, turn| handles.observe(0, handles.nanos(turn))) - two_lookup),
        ("histogram.apart", timing::together(|thread, turn| handles.observe(thread, handles.nanos(turn))) - two_lookup),
        ("request.whole", timing::alone(request(Answer::Whole)) - one),
        ("request.stream", timing::alone(request(Answer::Streamed)) - one),
        ("clocked.whole", timing::alone(clocked(Answer::Whole)) - one),
        ("clocked.stream", timing::alone(clocked(Answer::Streamed)) - one),
    ];
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Milliseconds and bytes of an export of so many series.
fn exporting(series: usize, times: usize, registry: &Arc<Registry>) -> Figures {
    let snapshot = registry::snapshot(registry);
    assert_eq!(snapshot.points(), series, "the registry is not filled as it should be");
    let body = registry::encode(&snapshot);
    let packed = registry::compress(&body).map_or(0, |packed| packed.len());
    let figures = [
        ("snapshot", timing::slow(times, || registry::snapshot(registry))),
        ("encode", timing::slow(times, || registry::encode(&snapshot))),
        ("export", timing::slow(times, || registry::encode(&registry::snapshot(registry)))),
        ("gzip", timing::slow(times, || registry::compress(&body))),
        ("bytes", body.len() as f64),
        ("packed", packed as f64),
    ];
    figures.into_iter().map(|(name, value)| (format!("{name}.{series}"), value)).collect()
}
