//! `tollgate key`.

use std::{fmt::Write as _, io::Write};

use clap::{Args, Subcommand};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};

use super::FAILED;

/// Arguments of `key`.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Print a fresh client key once, and the lines that make the gateway accept it. The key
    /// itself is stored nowhere; the configuration holds its SHA-256.
    New {
        /// Name of the key in the configuration, in logs and on metrics.
        #[arg(default_value = "team-a")]
        name: String,
    },
}

/// Runs `key`.
pub(super) fn run(args: &KeyArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    let KeyCommand::New { name } = &args.command;
    let Some(key) = fresh() else {
        let _unwritable = writeln!(err, "the operating system gives no random numbers").is_err();
        return FAILED;
    };
    let digest = hex(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    let printed = writeln!(
        out,
        "The key, shown this once; give it to the client:\n\n  {key}\n\n\
         For tollgate.toml:\n\n  [[keys]]\n  name   = {name:?}\n  sha256 = \"{digest}\""
    );
    u8::from(printed.is_err())
}

/// A key of 256 random bits.
pub(super) fn fresh() -> Option<String> {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(format!("tg-{}", hex(&random)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _infallible = write!(text, "{byte:02x}").is_err();
        text
    })
}
