//! OpenTelemetry's own Python: what it makes of our bytes and of environments.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{peers::SCRIPTS, process::TempFolder};

/// Decodes serialized requests; each as OTLP JSON. The error is what the decoder says.
pub fn decode(peer: &Path, bodies: &[&[u8]]) -> Result<Vec<Value>, String> {
    let mut input = Vec::new();
    for body in bodies {
        input.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        input.extend(*body);
    }
    let decoded = run(peer, "decode_otlp.py", &input)?;
    Ok(decoded.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// What the SDK takes from each of these environments.
pub fn environments(peer: &Path, environments: &Value) -> Vec<Value> {
    let answers = run(peer, "otel_environment.py", environments.to_string().as_bytes());
    serde_json::from_str(&answers.unwrap()).unwrap()
}

/// Runs one of our scripts. Its input is a file, so that neither side waits for the other.
fn run(peer: &Path, script: &str, input: &[u8]) -> Result<String, String> {
    let folder = TempFolder::new();
    let file = folder.path().join("input");
    std::fs::write(&file, input).unwrap();
    let mut command = Command::new(peer.join("bin/python"));
    command.arg(format!("{SCRIPTS}/{script}")).env_clear().stdin(Stdio::from(File::open(file).unwrap()));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}
