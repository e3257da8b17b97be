//! The other peers: llama.cpp's server as provider, the OpenAI SDK as client, tollgate between them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    http,
    process::{Process, TempFolder},
};

pub const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers");
/// The key with which the gateway, and nobody else, may use llama.cpp.
const LLAMA_KEY: &str = "llama-key-of-the-tests";
const ECHO: &str = "[providers.echo]\nkind = \"echo\"\n[models.echo]\ndeployments = [{ provider = \"echo\" }]\n";

// Names of peers, as tests/peers/install has them.
pub const PROMETHEUS: &str = "prometheus";
pub const VICTORIA_METRICS: &str = "victoria-metrics";
pub const COLLECTOR: &str = "collector";
pub const LLAMA: &str = "llama.cpp";
pub const OPENAI: &str = "openai";
pub const OPENTELEMETRY_PYTHON: &str = "opentelemetry-python";
pub const CURL: &str = "curl";
pub const NGHTTP2: &str = "nghttp2";
pub const TESTSSL: &str = "testssl";

/// The folders of the peers that a test needs, or `None` to leave the test out.
pub fn peers<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let folders: Result<Vec<PathBuf>, String> = names.into_iter().map(find).collect();
    match folders {
        Ok(folders) => Some(folders.try_into().unwrap()),
        Err(why) => {
            let required = std::env::var_os("TOLLGATE_PEERS").is_some_and(|mode| mode == "required");
            assert!(!required, "{why}");
            println!("left out: {why}");
            None
        }
    }
}

fn find(peer: &str) -> Result<PathBuf, String> {
    let output = Command::new(format!("{SCRIPTS}/install")).args(["--where", peer]).output();
    let output = output.map_err(|error| format!("{peer}: tests/peers/install does not run: {error}"))?;
    let folder = String::from_utf8(output.stdout).unwrap();
    let why = || format!("{peer}: not installed, or left out by TOLLGATE_PEERS; tests/peers/install gets it");
    if output.status.success() { Ok(PathBuf::from(folder.trim_end())) } else { Err(why()) }
}

/// llama.cpp's server, which counts every token it reads and writes.
pub struct Llama {
    pub address: String,
    _process: Process,
}

impl Llama {
    pub fn start(peer: &Path) -> Self {
        let mut command = Command::new(peer.join("bin/python"));
        command.arg(format!("{SCRIPTS}/llama_server.py")).arg(peer.join("tiny.gguf"));
        command.args(["--api-key", LLAMA_KEY, "--follow-stdin"]);
        let mut process = Process::start("llama.cpp", &mut command, &[]);
        let address = process.line("its address", |line| Some(line.strip_prefix("listening ")?.to_owned()));
        Self { address, _process: process }
    }

    /// One of its own metrics.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, text) = http::get(&self.address, "/metrics", LLAMA_KEY).unwrap();
        assert_eq!(status, 200, "{text}");
        let prefix = format!("llamacpp:{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }

    /// Tokens it read. The OpenAI API counts those it found in its cache as read, llama.cpp counts
    /// them apart.
    pub fn input_tokens(&self) -> f64 {
        self.metric("prompt_tokens_total") + self.cached_tokens()
    }

    pub fn cached_tokens(&self) -> f64 {
        self.metric("prompt_tokens_cached_total")
    }

    pub fn output_tokens(&self) -> f64 {
        self.metric("tokens_predicted_total")
    }
}

/// The program under test.
pub struct Tollgate {
    pub address: String,
    pub process: Process,
    _folder: TempFolder,
}

impl Tollgate {
    /// Serves `models`, each from its server, for `keys`, given as name and key; metrics go where
    /// `environment` says.
    pub fn start(models: &[(&str, &Llama)], keys: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let mut config = String::new();
        for (model, llama) in models {
            config += &format!(
                "[providers.{model}]\nbase_url = \"http://{}/v1\"\napi_key = \"${{LLAMA_KEY}}\"\n\
                 [models.{model}]\ndeployments = [{{ provider = \"{model}\", model = \"tiny\" }}]\n",
                llama.address
            );
        }
        let mut environment = environment.to_vec();
        environment.push(("LLAMA_KEY", LLAMA_KEY));
        Self::start_with(&config, keys, &environment)
    }

    /// Serves the model `echo` from the built-in provider.
    pub fn start_echo(keys: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        Self::start_with(ECHO, keys, environment)
    }

    /// Serves what `models` configures: providers, models, and more if a test needs it.
    pub fn start_with(models: &str, keys: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let tollgate = Self::launch(models, keys, environment);
        let ready = http::get(&tollgate.address, "/readyz", "").unwrap();
        assert_eq!(ready.0, 200, "{ready:?}");
        tollgate
    }

    /// Serves the model `echo` with what else `server` says, of which TLS is part; says nothing of metrics.
    pub fn start_https(server: &str, keys: &[(&str, &str)]) -> Self {
        Self::launch(&format!("{server}{ECHO}"), keys, &[("OTEL_METRICS_EXPORTER", "none")])
    }

    fn launch(rest: &str, keys: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let mut config = format!("[server]\nlisten = \"127.0.0.1:0\"\nauth_failures_burst = 1000000\n{rest}");
        let mut environment = environment.to_vec();
        let variables: Vec<String> = (0..keys.len()).map(|number| format!("KEY_{number}")).collect();
        for ((name, key), variable) in keys.iter().zip(&variables) {
            config += &format!("[[keys]]\nname = \"{name}\"\nkey = \"${{{variable}}}\"\n");
            environment.push((variable, key));
        }
        let folder = TempFolder::new();
        let file = folder.file("tollgate.toml", &config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(["serve", "-c"]).arg(file);
        let mut process = Process::start("tollgate", &mut command, &environment);
        let address = process.line("its address", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["address"].as_str().filter(|_| line["message"] == "serving")?.to_owned())
        });
        Self { address, process, _folder: folder }
    }

    /// Has one short chat, and answers with the usage it reports.
    pub fn chat(&self, model: &str, key: &str) -> Value {
        let body = format!(r#"{{"model":"{model}","max_tokens":8,"messages":[{{"role":"user","content":"hello"}}]}}"#);
        let (status, body) = http::post(&self.address, "/v1/chat/completions", key, &body).unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["usage"].take()
    }

    /// Ends it as an init system does, and waits until it is gone.
    pub fn stop(&mut self) {
        self.process.terminate();
        let status = self.process.end();
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

/// The OpenAI SDK at work.
pub struct Chats {
    process: Process,
}

/// What its user saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub chats: f64,
    pub completed: f64,
    pub cancelled: f64,
    pub unknown_model: f64,
    pub bad_key: f64,
    /// Tokens of the chats whose usage reached the client.
    pub input_tokens: f64,
    pub output_tokens: f64,
}

impl Chats {
    pub fn start(peer: &Path, gateway: &Tollgate, key: &str, chats: u32, seed: u32) -> Self {
        let mut command = Command::new(peer.join("bin/python"));
        command.arg(format!("{SCRIPTS}/openai_chats.py"));
        command.arg("--base-url").arg(format!("http://{}/v1", gateway.address));
        command.args(["--key", key, "--model", "tiny", "--endless-model", "endless"]);
        command.args(["--chats", &chats.to_string(), "--seed", &seed.to_string()]);
        Self { process: Process::start("the OpenAI SDK", &mut command, &[]) }
    }

    /// Waits for the last chat. Each must have ended the way its kind has to.
    pub fn finish(mut self) -> Seen {
        let summary = self.process.line("its summary", |line| serde_json::from_str::<Value>(line).ok());
        let problems: BTreeMap<String, Value> = serde_json::from_value(summary["problems"].clone()).unwrap();
        assert!(problems.is_empty() && summary["failed"] == 0, "{problems:#?}");
        assert!(self.process.end().success());
        let count = |value: &Value| value.as_f64().unwrap();
        Seen {
            chats: count(&summary["chats"]),
            completed: count(&summary["completed"]),
            cancelled: count(&summary["cancelled"]),
            unknown_model: count(&summary["unknown_model"]),
            bad_key: count(&summary["bad_key"]),
            input_tokens: count(&summary["usage"]["input"]),
            output_tokens: count(&summary["usage"]["output"]),
        }
    }
}
