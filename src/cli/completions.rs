//! `tollgate completions`.

use std::io::Write;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell to complete for.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints the completion script of a command line.
pub(super) fn run(args: &CompletionsArgs, mut command: Command, out: &mut dyn Write) -> u8 {
    let name = command.get_name().to_owned();
    // The generator ends the process when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    generate(args.shell, &mut command, name, &mut script);
    u8::from(out.write_all(&script).is_err())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::cli::Arguments;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            assert_eq!(run(&CompletionsArgs { shell: *shell }, Arguments::command(), &mut out), 0);
            let script = String::from_utf8(out).unwrap();
            for command in Arguments::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(script.contains("log-format"), "{shell}");
        }
    }
}
