//! `tollgate man`: the pages of `packaging/man`, which a test makes from the command line and keeps equal.

use std::{fs, io::Write, path::PathBuf};

use clap::Args;

use super::{FAILED, USAGE};

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The command whose page to print; by default that of the program.
    #[arg(value_name = "COMMAND", conflicts_with = "directory")]
    command: Option<String>,
    /// Write every page to this folder, each to a file of its own, and print nothing.
    #[arg(short, long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
}

/// Names and texts, in order. What makes them is larger than they are.
const PAGES: &[(&str, &str)] = &[
    ("tollgate", include_str!("../../packaging/man/tollgate.1")),
    ("tollgate-check", include_str!("../../packaging/man/tollgate-check.1")),
    ("tollgate-completions", include_str!("../../packaging/man/tollgate-completions.1")),
    ("tollgate-demo", include_str!("../../packaging/man/tollgate-demo.1")),
    ("tollgate-init", include_str!("../../packaging/man/tollgate-init.1")),
    ("tollgate-key", include_str!("../../packaging/man/tollgate-key.1")),
    ("tollgate-key-new", include_str!("../../packaging/man/tollgate-key-new.1")),
    ("tollgate-man", include_str!("../../packaging/man/tollgate-man.1")),
    ("tollgate-metrics", include_str!("../../packaging/man/tollgate-metrics.1")),
    ("tollgate-serve", include_str!("../../packaging/man/tollgate-serve.1")),
];

/// Prints one page, or writes all of them.
pub(super) fn run(args: &ManArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    if let Some(folder) = &args.directory {
        for (name, text) in PAGES {
            let file = folder.join(format!("{name}.1"));
            if let Err(error) = fs::write(&file, text) {
                let _unwritable = writeln!(err, "cannot write {}: {error}", file.display()).is_err();
                return FAILED;
            }
        }
        return 0;
    }
    let wanted = args.command.as_deref().map_or("tollgate".to_owned(), |command| format!("tollgate-{command}"));
    match PAGES.iter().find(|(name, _)| *name == wanted) {
        Some((_, text)) => u8::from(out.write_all(text.as_bytes()).is_err()),
        None => {
            let known: Vec<&str> = PAGES.iter().map(|(name, _)| *name).collect();
            let _unwritable = writeln!(err, "there is no page {wanted}; there are {}", known.join(", ")).is_err();
            USAGE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory as _};
    use clap_mangen::Man;

    use super::*;
    use crate::cli::Arguments;

    /// Writes the pages anew if one has changed, and fails, so that the fix is to commit it.
    #[test]
    fn the_pages_are_the_command_line() {
        let made = pages(Arguments::command());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/man");
        let made: Vec<(String, String)> =
            made.iter().map(|page| (title(page), String::from_utf8(text(page).unwrap()).unwrap())).collect();
        let kept: Vec<(String, String)> =
            PAGES.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        if made != kept {
            for (name, text) in &made {
                fs::write(format!("{folder}/{name}.1"), text).unwrap();
            }
            let names: Vec<&String> = made.iter().map(|(name, _)| name).collect();
            panic!("packaging/man was out of date and has been written anew: commit it; PAGES has to name {names:?}");
        }
    }

    fn printed(command: Option<&str>) -> (u8, String, String) {
        let args = ManArgs { command: command.map(str::to_owned), directory: None };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run(&args, &mut out, &mut err);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_program_and_each_command_have_a_page() {
        let (code, page, _) = printed(None);
        assert_eq!(code, 0);
        assert!(page.contains(".TH tollgate 1") && page.contains(".SH SIGNALS"), "{page}");
        for command in Arguments::command().get_subcommands() {
            assert!(page.contains(&format!("tollgate\\-{}(1)", command.get_name())), "{page}");
            let (code, own, _) = printed(Some(command.get_name()));
            assert_eq!(code, 0);
            assert!(own.contains(&format!(".TH tollgate-{} 1", command.get_name())), "{own}");
            assert!(!own.contains(".SH SIGNALS"), "{own}");
        }
        assert!(printed(Some("key-new")).1.contains("[\\fINAME\\fR]"));
    }

    #[test]
    fn a_page_that_is_not_there_is_named_beside_those_that_are() {
        let (code, page, message) = printed(Some("nothing"));
        assert_eq!((code, page.as_str()), (USAGE, ""));
        assert!(
            message.starts_with("there is no page tollgate-nothing; there are tollgate, tollgate-check, "),
            "{message}"
        );
    }

    #[test]
    fn a_folder_gets_every_page() {
        let folder = std::env::temp_dir().join(format!("tollgate-man-{}", std::process::id()));
        let args = ManArgs { command: None, directory: Some(folder.clone()) };
        let mut err = Vec::new();
        assert_eq!(run(&args, &mut Vec::new(), &mut err), FAILED);
        assert!(String::from_utf8(err).unwrap().starts_with("cannot write "));
        fs::create_dir(&folder).unwrap();
        assert_eq!(run(&args, &mut Vec::new(), &mut Vec::new()), 0);
        let written = fs::read_dir(&folder).unwrap().count();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(written, PAGES.len());
    }

    /// What no option says, in the language of manual pages.
    const MORE: &str = r".SH ENVIRONMENT
.TP
TOLLGATE_CONFIG
The configuration, where \fB\-\-config\fR names none.
.TP
TOLLGATE_MAX_CONFIG_BYTES
Largest configuration file; by default 4MiB.
.TP
OTEL_*
Where and how metrics are sent; these win over the configuration.
.SH FILES
.TP
\fI/etc/tollgate/tollgate.toml\fR
The configuration, where neither \fB\-\-config\fR nor $TOLLGATE_CONFIG names one and there is no
\fI./tollgate.toml\fR.
.SH SIGNALS
.TP
SIGTERM, SIGINT
Stop accepting, let requests finish for at most server.drain_timeout, export once more and leave.
A second one cuts requests off.
.TP
SIGHUP
Read the configuration again; what is wrong changes nothing.
.SH EXIT STATUS
0 when done, 1 when something failed while running, 2 when the command line or the configuration is
wrong.
    ";

    /// A command and those below it.
    fn pages(command: Command) -> Vec<Command> {
        // The pages are the help. Building gives the commands their full names.
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let mut pages = Vec::new();
        let mut next = vec![command];
        while let Some(command) = next.pop() {
            next.extend(command.get_subcommands().cloned());
            pages.push(command);
        }
        pages.sort_by_key(title);
        pages
    }

    /// The name of a page: that of the command with hyphens, such as `tollgate-key-new`.
    fn title(command: &Command) -> String {
        command.get_bin_name().unwrap_or_else(|| command.get_name()).replace(' ', "-")
    }

    fn text(page: &Command) -> std::io::Result<Vec<u8>> {
        let is_program = page.get_name() == title(page);
        let source = concat!("tollgate ", env!("CARGO_PKG_VERSION"));
        let man = Man::new(page.clone()).title(title(page)).source(source).manual("tollgate");
        let mut text = Vec::new();
        man.render(&mut text)?;
        if is_program {
            text.extend_from_slice(MORE.as_bytes());
        }
        Ok(text)
    }
}
