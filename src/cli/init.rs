//! `tollgate init`.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::PathBuf,
};

use clap::Args;

use super::FAILED;

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// File to write.
    #[arg(short, long, default_value = "tollgate.toml", value_name = "FILE")]
    config: PathBuf,
    /// Overwrite the file if it exists.
    #[arg(long)]
    force: bool,
    /// Print to standard output and write no file.
    #[arg(long)]
    stdout: bool,
}

/// A configuration that works once two variables are set.
pub(crate) const STARTER: &str = include_str!("starter.toml");

/// Writes the starter configuration.
pub(super) fn run(args: &InitArgs, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
    if args.stdout {
        return u8::from(out.write_all(STARTER.as_bytes()).is_err());
    }
    let file = args.config.display();
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(&args.config).and_then(|mut opened| opened.write_all(STARTER.as_bytes()));
    let (message, code) = match written {
        Ok(()) => {
            let next = format!(
                "wrote {file}\n\nNext:\n  export OPENAI_API_KEY=…            # the provider's key\n  \
                 export TOLLGATE_KEY=…              # a client key; `tollgate key new` makes one\n  \
                 tollgate check -c {file}\n  tollgate serve -c {file}"
            );
            return u8::from(writeln!(out, "{next}").is_err());
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            (format!("{file} exists and was left as it is; --force overwrites it, -c FILE names another"), FAILED)
        }
        Err(error) => (format!("cannot write {file}: {error}"), FAILED),
    };
    let _unwritable = writeln!(err, "{message}").is_err();
    code
}
