//! `tollgate completions`: the scripts of `packaging/completions`, which a test makes from the command line
//! and keeps equal.

use std::io::Write;

use clap::{Args, ValueEnum};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell to complete for.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Shells with completions.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[expect(clippy::enum_variant_names, reason = "that is its name")]
enum Shell {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Zsh,
}

impl Shell {
    fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("../../packaging/completions/tollgate.bash"),
            Self::Elvish => include_str!("../../packaging/completions/tollgate.elvish"),
            Self::Fish => include_str!("../../packaging/completions/tollgate.fish"),
            Self::PowerShell => include_str!("../../packaging/completions/tollgate.powershell"),
            Self::Zsh => include_str!("../../packaging/completions/tollgate.zsh"),
        }
    }
}

/// Prints the completion script of a command line.
pub(super) fn run(args: &CompletionsArgs, out: &mut dyn Write) -> u8 {
    u8::from(out.write_all(args.shell.script().as_bytes()).is_err())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::CommandFactory as _;
    use clap_complete::generate;

    use super::*;
    use crate::cli::Arguments;

    /// Writes the scripts anew if one has changed, and fails, so that the fix is to commit it.
    #[test]
    fn every_shell_completes_the_command_line_as_it_is() {
        let mut is_old = false;
        for shell in Shell::value_variants() {
            let name = shell.to_possible_value().unwrap().get_name().to_owned();
            let generator: clap_complete::Shell = name.parse().unwrap();
            let mut made = Vec::new();
            generate(generator, &mut Arguments::command(), "tollgate", &mut made);
            let mut out = Vec::new();
            assert_eq!(run(&CompletionsArgs { shell: *shell }, &mut out), 0);
            if out != made {
                let path = format!("{}/packaging/completions/tollgate.{name}", env!("CARGO_MANIFEST_DIR"));
                fs::write(path, made).unwrap();
                is_old = true;
            }
        }
        assert!(!is_old, "packaging/completions was out of date and has been written anew: commit it");
    }
}
