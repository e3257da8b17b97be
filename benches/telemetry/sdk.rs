//! The program that measures the OpenTelemetry SDK, started anew in every round.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::workload::{Figures, Workload};

/// Where `make bench-telemetry` builds it, from the folder that Cargo builds into.
const BUILT: &str = "opentelemetry_sdk/release/opentelemetry_sdk_bench";

pub(crate) struct Sdk {
    program: PathBuf,
    workload: Vec<u8>,
}

impl Sdk {
    /// Looks for the program at `path` or, if that is empty, where it is built; the error says what to do.
    pub(crate) fn find(path: &str, workload: &Workload) -> Result<Self, String> {
        let program = match path {
            "" => built().ok_or("where this program lies is not known")?,
            path => PathBuf::from(path),
        };
        if !program.exists() {
            return Err("not built: `make bench-telemetry` builds it, which needs the network once".to_owned());
        }
        let workload = serde_json::to_vec(workload).map_err(|error| error.to_string())?;
        Ok(Self { program, workload })
    }

    pub(crate) fn round(&self) -> Result<Figures, String> {
        let say = |error: &dyn std::fmt::Display| format!("{}: {error}", self.program.display());
        let mut command = Command::new(&self.program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| say(&error))?;
        if let Some(mut input) = child.stdin.take() {
            // If it ended early, its exit status says more than a broken pipe.
            input.write_all(&self.workload).ok();
        }
        let output = child.wait_with_output().map_err(|error| say(&error))?;
        if !output.status.success() {
            return Err(say(&output.status));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| say(&error))
    }
}

/// This program is `TARGET/release/deps/telemetry-HASH`.
fn built() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.ancestors().nth(3).map(|target: &Path| target.join(BUILT))
}
