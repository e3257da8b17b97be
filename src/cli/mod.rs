//! The command line: one file per subcommand.
//!
//! Owns arguments, terminal output and exit codes: 0 for done, 1 for failed while running, 2 for a
//! wrong command line or configuration.

mod check;
mod check_otlp;
mod completions;
mod demo;
mod init;
mod key;
mod log;
mod man;
mod metrics;
mod serve;
mod status;
mod supervisor;
mod time;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::Environment;

/// Exit code for a wrong command line or configuration.
const USAGE: u8 = 2;
/// Exit code for a failure while running.
const FAILED: u8 = 1;

/// An LLM gateway that pushes complete, correct metrics over OTLP.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, max_term_width = 100, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve requests until SIGTERM or SIGINT, then drain and export once more.
    Serve(serve::ServeArgs),
    /// Check the configuration and print what it amounts to; exits with 2 if it is wrong.
    Check(check::CheckArgs),
    /// Write a commented configuration to start from.
    Init(init::InitArgs),
    /// Make client keys.
    Key(key::KeyArgs),
    /// Try the gateway with a built-in provider: no configuration, no internet.
    Demo(demo::DemoArgs),
    /// Print every metric as a Markdown table.
    Metrics,
    /// Print the completions of this command line for a shell.
    Completions(completions::CompletionsArgs),
    /// Print the manual page of this program or of a command, or write all of them to a folder.
    Man(man::ManArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    crate::sys::pin_name_lookup();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and version are messages too, for standard output and with exit code 0.
            let code = if message.use_stderr() { USAGE } else { 0 };
            return if message.print().is_ok() { code.into() } else { FAILED.into() };
        }
    };
    let environment = Environment::from_process();
    let (out, err) = (&mut std::io::stdout().lock(), &mut std::io::stderr());
    let code = match arguments.command {
        Command::Serve(args) => serve::run(&args, &environment, err),
        Command::Check(args) => check::run(&args, &environment, out, err),
        Command::Init(args) => init::run(&args, out, err),
        Command::Key(args) => key::run(&args, out, err),
        Command::Demo(args) => demo::run(&args, &environment, err),
        Command::Metrics => metrics::run(out),
        Command::Completions(args) => completions::run(&args, out),
        Command::Man(args) => man::run(&args, out, err),
    };
    // A reader that is gone (`tollgate metrics | head`) is no failure.
    let _gone = out.flush().is_err();
    log::flush();
    code.into()
}
