//! What a configuration was read from: to be read again, watched, compared and shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use ring::digest;
use serde_json::{Map, Value};
use toml::de::DeTable;

use super::{Config, ConfigError, Environment, Loaded, Waiting, table::table_json};

/// Sections that are no lists of named things. Their options are read once, at the start, but for those in
/// [`LIVE`].
const SECTIONS: [&str; 6] = ["server", "routing", "admin", "telemetry", "log", "reload"];

/// Options, and whole sections, that a reload puts in force.
const LIVE: [&str; 8] = [
    "server.body_bytes_max",
    "server.body_timeout",
    "server.min_body_rate",
    "server.min_body_rate_after",
    "server.max_requests",
    "server.max_requests_per_key",
    "routing",
    "log.access",
];

fn is_live(option: &str) -> bool {
    let section = option.split('.').next().unwrap_or(option);
    LIVE.contains(&option) || LIVE.contains(&section)
}

/// Names of values that are secrets, or from which one could be found.
const SECRET: [&str; 5] = ["api_key", "key", "sha256", "token", "headers"];

/// The text of a configuration and the files that it was made of.
#[derive(Clone)]
pub struct Source {
    /// The configuration file.
    pub file: PathBuf,
    pub(super) environment: Environment,
    pub(super) text: String,
    /// Everything that was read, the configuration file first.
    pub(super) files: Vec<Seen>,
}

/// The files as they were at some moment, as far as that shows without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look(Vec<Option<Traits>>);

/// What changes when a file does: device, inode, size, times, mode.
type Traits = [u64; 6];

/// A file, and what it was just before it was read: what happens afterwards shows.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    path: PathBuf,
    traits: Option<Traits>,
    /// SHA-256 of what was read.
    digest: Option<[u8; 32]>,
}

impl Seen {
    /// With the digest of what was read of it.
    pub(super) fn read(self, content: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, content);
        Self { digest: digest.as_ref().try_into().ok(), ..self }
    }

    /// Reads a file that somebody else reads as well, for its digest.
    pub(super) fn and_read(path: &Path) -> Self {
        let seen = Self::at(path);
        match fs::read(path) {
            Ok(content) => seen.read(&content),
            Err(_) => seen,
        }
    }

    /// Looks at a file, through symbolic links: who swaps a link swaps the file.
    pub(super) fn at(path: &Path) -> Self {
        let traits = fs::metadata(path).ok().map(|found| {
            let [modified, changed] =
                [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())].map(|(seconds, nanos)| {
                    // Only compared: how it wraps does not matter.
                    seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos).cast_unsigned()
                });
            [found.dev(), found.ino(), found.size(), modified, changed, u64::from(found.mode())]
        });
        Self { path: path.to_owned(), traits, digest: None }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Text and environment may hold secrets.
        f.debug_struct("Source").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Files that were read, each with what it was then.
#[derive(Debug, Default)]
pub struct Files(pub(super) Vec<Seen>);

impl Files {
    /// As they were when they were read.
    pub fn seen(&self) -> Look {
        Look(self.0.iter().map(|seen| seen.traits).collect())
    }

    /// As they are.
    pub fn look(&self) -> Look {
        Look(self.0.iter().map(|seen| Seen::at(&seen.path).traits).collect())
    }
}

impl Look {
    /// This and another behind it.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The first of them, as many as `other` has.
    pub fn as_many_as(mut self, other: &Self) -> Self {
        self.0.truncate(other.0.len());
        self
    }
}

impl Source {
    /// Reads and resolves the same file once more.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        Config::load(Some(&self.file), &self.environment)
    }

    /// The files as they were when they were read.
    pub fn seen(&self) -> Look {
        Look(self.files.iter().map(|seen| seen.traits).collect())
    }

    /// The files as they are.
    pub fn look(&self) -> Look {
        Look(self.files.iter().map(|seen| Seen::at(&seen.path).traits).collect())
    }

    /// SHA-256 over all that was read, as it was then.
    pub fn digest(&self) -> [u8; 32] {
        let mut all = digest::Context::new(&digest::SHA256);
        for file in &self.files {
            all.update(&file.digest.unwrap_or_default());
            all.update(file.path.as_os_str().as_encoded_bytes());
        }
        all.finish().as_ref().try_into().unwrap_or_default()
    }

    /// The options that differ from those in `started` and take effect at the next start only.
    pub fn waiting_for_a_restart(&self, started: &Self) -> Vec<Waiting> {
        let (then, now) = (options(&started.text), options(&self.text));
        // Certificates may change while there are some.
        let has_tls = [&then, &now].iter().all(|options| options.contains_key("server.tls.cert"));
        let is_live = |name: &str| is_live(name) || has_tls && name.starts_with("server.tls.");
        let waiting = different(&then, &now).filter(|(name, ..)| !is_live(name));
        waiting.map(|(option, in_force, in_file)| Waiting { option, in_force, in_file }).collect()
    }

    /// The options that differ from those in `before` and that a reload puts in force.
    pub fn changed_options(&self, before: &Self) -> Vec<String> {
        let (then, now) = (options(&before.text), options(&self.text));
        let names = different(&then, &now).map(|(name, ..)| name);
        names.filter(|name| is_live(name)).collect()
    }

    /// The files that were read with another content than in `before`, or not at all there.
    pub fn changed_files(&self, before: &Self) -> Vec<String> {
        let digest_in =
            |files: &[Seen], path: &Path| files.iter().find(|seen| seen.path == path).map(|seen| seen.digest);
        let is_new = |seen: &&Seen| digest_in(&before.files, &seen.path) != Some(seen.digest);
        self.files.iter().filter(is_new).map(|seen| seen.path.display().to_string()).collect()
    }

    /// The file as JSON, with every secret masked.
    pub fn masked(&self) -> Value {
        let mut table = table(&self.text);
        mask(&mut table);
        table
    }
}

fn table(text: &str) -> Value {
    // It was read before, or there would be no source.
    DeTable::parse(text).map_or_else(|_| Value::Object(Map::new()), |table| table_json(table.get_ref()))
}

/// The options of the sections that are not lists of named things.
fn options(text: &str) -> BTreeMap<String, Value> {
    let mut options = BTreeMap::new();
    let table = table(text);
    for name in SECTIONS {
        if let Some(section) = table.get(name) {
            flatten(name, section, &mut options);
        }
    }
    options
}

/// Names and values of the options that are not the same in both, in the order of names.
fn different<'a>(
    then: &'a BTreeMap<String, Value>,
    now: &'a BTreeMap<String, Value>,
) -> impl Iterator<Item = (String, Option<String>, Option<String>)> {
    let names: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    names.into_iter().filter(|name| then.get(*name) != now.get(*name)).map(move |name| {
        let [then, now] = [then, now].map(|options| {
            let mut shown =
                Value::Object([(last_part(name).to_owned(), options.get(name)?.clone())].into_iter().collect());
            mask(&mut shown);
            serde_json::to_string(shown.get(last_part(name))?).ok()
        });
        (name.clone(), then, now)
    })
}

/// What an option is called within its section: secrets are known by that.
fn last_part(name: &str) -> &str {
    match name.split_once(".headers.") {
        Some(_) => "headers",
        None => name.rsplit('.').next().unwrap_or(name),
    }
}

fn flatten(name: &str, value: &Value, to: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(key, value)| flatten(&format!("{name}.{key}"), value, to)),
        value => {
            to.insert(name.to_owned(), value.clone());
        }
    }
}

fn mask(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(mask),
        Value::Object(table) => {
            for (name, value) in table {
                if SECRET.contains(&name.as_str()) && !is_reference(value) {
                    *value = Value::String("***".into());
                } else if let Value::String(text) = value
                    && let Some((before, _)) = text.split_once('?').filter(|(before, _)| before.contains("://"))
                {
                    // Some receivers are told their key in the query.
                    *text = format!("{before}?***");
                } else {
                    mask(value);
                }
            }
        }
        _ => {}
    }
}

/// Whether a value only says where a secret is. A text with anything around its `${NAME}` may not.
fn is_reference(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let variable = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            text.starts_with("os.environ/") || variable.is_some_and(|name| !name.contains([':', '$', '}']))
        }
        Value::Object(table) => table.keys().all(|key| key == "file" || key == "credential") && !table.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { file: "t.toml".into(), environment: Environment::default(), text: text.into(), files: Vec::new() }
    }

    #[test]
    fn options_of_routing_are_in_force_after_a_reload_and_named() {
        let before = source("[routing]\nmax_attempts = 2\n[server]\nbody_timeout = \"1s\"\nthreads = 1\n");
        let now = source("[routing]\ncooldown = \"6s\"\n[server]\nbody_timeout = \"2s\"\nthreads = 2\n");
        assert_eq!(now.changed_options(&before), ["routing.cooldown", "routing.max_attempts", "server.body_timeout"]);
        let waiting = now.waiting_for_a_restart(&before);
        assert_eq!(waiting.iter().map(|waiting| &*waiting.option).collect::<Vec<_>>(), ["server.threads"]);
    }

    #[test]
    fn options_that_wait_for_a_restart_are_named() {
        let started =
            source("[server]\nlisten = \"127.0.0.1:1\"\nbody_timeout = \"1s\"\n[telemetry]\ninterval = \"1s\"\n");
        assert_eq!(started.waiting_for_a_restart(&started), []);
        let now = source(
            "[server]\nlisten = \"127.0.0.1:2\"\nbody_timeout = \"2s\"\nthreads = 2\n[models.m]\ndeployments = []\n\
             [admin]\ntoken = \"canary\"\n[telemetry]\nheaders = { x = \"canary\" }\nendpoint = \"http://h/?k=canary\"\n",
        );
        let waiting = now.waiting_for_a_restart(&started).into_iter().map(|waiting| {
            let [before, after] = [waiting.in_force, waiting.in_file].map(|value| value.unwrap_or("-".into()));
            format!("{} {before} {after}", waiting.option)
        });
        assert_eq!(
            waiting.collect::<Vec<_>>(),
            [
                "admin.token - \"***\"",
                "server.listen \"127.0.0.1:1\" \"127.0.0.1:2\"",
                "server.threads - 2",
                "telemetry.endpoint - \"http://h/?***\"",
                "telemetry.headers.x - \"***\"",
                "telemetry.interval \"1s\" -",
            ]
        );
        assert_eq!(now.changed_options(&started), ["server.body_timeout"]);
    }

    #[test]
    fn secrets_are_masked_and_references_are_not() {
        let shown = source(
            "[admin]\ntoken = \"canary-1\"\n[providers.a]\nbase_url = \"http://h\"\napi_key = \"pre-${A}canary-2\"\n\
             [providers.b]\napi_key = { file = \"/run/b\" }\n[providers.c]\napi_key = \"${NAME}\"\n[providers.d]\n\
             api_key = \"${NAME:-canary-3}\"\n[[keys]]\nname = \"k\"\nkey = \"canary-4\"\n[[keys]]\nname = \"l\"\nsha256 = \"canary-5\"\n\
             [telemetry]\nheaders = { x = \"canary-6\" }\n[[telemetry.export]]\nheaders = \"a=canary-7\"\nendpoint = \"https://h/v1?api_key=canary-8\"\n",
        )
        .masked();
        assert!(!shown.to_string().contains("canary"), "{shown}");
        assert_eq!(shown["providers"]["b"]["api_key"]["file"], "/run/b");
        assert_eq!(shown["providers"]["c"]["api_key"], "${NAME}");
        assert_eq!(shown["providers"]["a"]["base_url"], "http://h");
        assert_eq!(shown["keys"][0]["name"], "k");
    }
}
