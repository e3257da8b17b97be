//! A new configuration in place of the old one, while requests go on.
//!
//! Everything is read and resolved first; only what works as a whole is put in place, with one store.
//! Whatever is wrong leaves the old one as it is. Requests under way keep the gateway that they began
//! with, connections to providers stay open, and so do the series of all that is in both.

use std::{
    cell::{Cell, RefCell},
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::Gateway;
use crate::{
    config::{Changes, Config, Files, Inventory, Loaded, Look, Source, Waiting},
    telemetry::{Registry, dimensions::Reload},
};

/// What came of looking at the configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// It is in force: what is different, and what the operator should know.
    Applied { changes: Changes, warnings: Vec<String> },
    /// Nothing is different.
    Unchanged,
    /// The old one stays, for this reason.
    Rejected { why: String },
}

/// What else is read again with the configuration, such as certificates: whether there was anything
/// new, or why it cannot be used. Nothing may be in force before `commit`.
pub trait Part: fmt::Debug {
    /// Reads it and keeps it ready.
    fn prepare(&self, loaded: &Loaded) -> Result<bool, String>;
    /// Puts in force what was prepared last.
    fn commit(&self);
}

/// A configuration in force.
#[derive(Debug)]
struct Running {
    source: Source,
    digest: [u8; 32],
    inventory: Inventory,
}

impl Running {
    fn new(config: &Config, source: Source) -> Self {
        Self { digest: source.digest(), inventory: Inventory::of(config), source }
    }
}

/// Reads the configuration again when told to. Lives on the control thread.
#[derive(Debug)]
pub struct Reloader {
    started: Source,
    /// What is in force.
    running: RefCell<Running>,
    registry: Arc<Registry>,
    gateway: Arc<ArcSwap<Gateway>>,
    parts: Vec<Box<dyn Part>>,
    /// What a configuration was made of that could not be used: it may be about to be put right.
    rejected: RefCell<Files>,
    last: RefCell<Option<(SystemTime, Reloaded)>>,
    applied: Cell<SystemTime>,
    has_reloaded: Notify,
}

impl Reloader {
    /// For a gateway that runs on `config`, which came from `source`.
    pub fn new(
        config: &Config,
        source: Source,
        registry: Arc<Registry>,
        gateway: Arc<ArcSwap<Gateway>>,
        parts: Vec<Box<dyn Part>>,
    ) -> Self {
        Self {
            started: source.clone(),
            running: RefCell::new(Running::new(config, source)),
            registry,
            gateway,
            parts,
            rejected: RefCell::default(),
            last: RefCell::default(),
            applied: Cell::new(SystemTime::now()),
            has_reloaded: Notify::new(),
        }
    }

    /// Reads everything again and puts it in force if it works; counts and logs what came of it.
    pub fn reload(&self) -> Reloaded {
        let reloaded = self.attempt();
        let outcome = match &reloaded {
            Reloaded::Applied { changes, warnings } => {
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                tracing::info!(
                    file = %self.started.file.display(),
                    digest = self.digest(),
                    added = changes.added.join(" "),
                    changed = changes.changed.join(" "),
                    removed = changes.removed.join(" "),
                    "the new configuration is in force"
                );
                self.applied.set(SystemTime::now());
                Reload::Applied
            }
            Reloaded::Unchanged => {
                tracing::info!(file = %self.started.file.display(), "the configuration has not changed");
                Reload::Unchanged
            }
            Reloaded::Rejected { why } => {
                tracing::error!("the configuration cannot be used, the old one stays in force: {why}");
                Reload::Rejected
            }
        };
        self.gateway.load().instruments.reloads.add(outcome, 1);
        *self.last.borrow_mut() = Some((SystemTime::now(), reloaded.clone()));
        self.has_reloaded.notify_one();
        reloaded
    }

    /// Waits until the configuration has been read again, whoever had it read.
    pub async fn reloaded(&self) {
        self.has_reloaded.notified().await;
    }

    fn attempt(&self) -> Reloaded {
        let rejected = |why: String| Reloaded::Rejected { why };
        let mut loaded = match self.started.load() {
            Ok(loaded) => loaded,
            Err(error) => {
                let why = error.to_string();
                *self.rejected.borrow_mut() = error.seen();
                return rejected(why);
            }
        };
        *self.rejected.borrow_mut() = Files::default();
        let mut has_changed = loaded.source.digest() != self.running.borrow().digest;
        for part in &self.parts {
            match part.prepare(&loaded) {
                Ok(is_new) => has_changed |= is_new,
                Err(why) => return rejected(why),
            }
        }
        if !has_changed {
            return Reloaded::Unchanged;
        }
        // There are as many threads as were started, whatever the file says by now.
        loaded.config.server.threads = self.gateway.load().in_flight.workers();
        let gateway = match Gateway::after(Some(&self.gateway.load()), &loaded.config, &self.registry) {
            Ok(gateway) => gateway,
            Err(why) => return rejected(format!("{}: {why}", loaded.source.file.display())),
        };
        self.parts.iter().for_each(|part| part.commit());
        self.gateway.store(Arc::new(gateway));
        let Loaded { config, source, mut warnings, .. } = loaded;
        let waiting: Vec<String> =
            source.waiting_for_a_restart(&self.started).iter().map(ToString::to_string).collect();
        if !waiting.is_empty() {
            warnings.push(format!("these options take effect at the next start: {}", waiting.join(", ")));
        }
        let running = Running::new(&config, source);
        let before = self.running.replace(running);
        let running = self.running.borrow();
        let mut changes = running.inventory.since(&before.inventory);
        changes.changed.extend(running.source.changed_options(&before.source));
        changes.files = running.source.changed_files(&before.source);
        Reloaded::Applied { changes, warnings }
    }

    /// What is in force.
    pub fn source(&self) -> Source {
        self.running.borrow().source.clone()
    }

    /// The options in force that are not those of the file, for they were read at the start.
    pub fn waiting_for_a_restart(&self) -> Vec<Waiting> {
        self.running.borrow().source.waiting_for_a_restart(&self.started)
    }

    /// Tells the configuration in force from others: the beginning of a SHA-256 over all files that it
    /// was made of, in hexadecimal digits.
    pub fn digest(&self) -> String {
        self.running.borrow().digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// When the configuration in force was put there.
    pub fn applied(&self) -> SystemTime {
        self.applied.get()
    }

    /// What came of the last reload, if there was one.
    pub fn last(&self) -> Option<(SystemTime, Reloaded)> {
        self.last.borrow().clone()
    }

    fn look(&self) -> Look {
        self.running.borrow().source.look().and(self.rejected.borrow().look())
    }

    /// Reloads when a file has changed and stayed as it is for a whole interval: who writes in pieces is
    /// not read in the middle. `reloaded` is told what came of it.
    pub async fn watch(&self, interval: Duration) {
        let mut seen = self.running.borrow().source.seen();
        let mut changed = None;
        loop {
            tokio::time::sleep(interval).await;
            let look = self.look();
            if look == seen {
                changed = None;
            } else if changed.as_ref() == Some(&look) {
                changed = None;
                let outcome = self.reload();
                // Other files may be a part of it from now on.
                let running = self.running.borrow().source.seen();
                let of_running =
                    if matches!(outcome, Reloaded::Applied { .. }) { running } else { look.as_many_as(&running) };
                seen = of_running.and(self.rejected.borrow().seen());
            } else {
                changed = Some(look);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::Environment;

    #[test]
    fn there_is_room_for_as_many_workers_as_were_started() {
        let folder = std::env::temp_dir().join(format!("tollgate-reload-threads-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tollgate.toml");
        let write = |threads: u32| {
            let toml = format!(
                "[server]\nthreads = {threads}\n[providers.p]\nkind = \"echo\"\n[models.m]\n\
                 deployments = [{{ provider = \"p\" }}]\n[[keys]]\nname = \"k\"\nkey = \"tg-0123456789abcdefghij\"\n"
            );
            fs::write(&path, toml).unwrap();
        };
        write(3);
        let loaded = Config::load(Some(&path), &Environment::default()).unwrap();
        let registry = Registry::new();
        let gateway = Arc::new(ArcSwap::from_pointee(Gateway::new(&loaded.config, &registry).unwrap()));
        let reloader = Reloader::new(&loaded.config, loaded.source, registry, Arc::clone(&gateway), Vec::new());
        for threads in [1, 200] {
            write(threads);
            assert!(matches!(reloader.reload(), Reloaded::Applied { .. }));
            assert_eq!(gateway.load().in_flight.workers(), 3);
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn who_is_left_out_stays_so_unless_the_key_was_what_was_wrong() {
        use crate::{api::error::ErrorKind, gateway::Availability};
        let folder = std::env::temp_dir().join(format!("tollgate-reload-cooldown-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tollgate.toml");
        let write = |more: &str| {
            let toml = format!(
                "[providers.p]\nkind = \"echo\"\n[models.m]\ndeployments = [{{ provider = \"p\", model = \"a\" }}, \
                 {{ provider = \"p\", model = \"b\" }}]\n[[keys]]\nname = \"k\"\nkey = \"tg-0123456789abcdefghij\"\n{more}"
            );
            fs::write(&path, toml).unwrap();
        };
        write("");
        let loaded = Config::load(Some(&path), &Environment::default()).unwrap();
        let registry = Registry::new();
        let gateway = Arc::new(ArcSwap::from_pointee(Gateway::new(&loaded.config, &registry).unwrap()));
        let reloader = Reloader::new(&loaded.config, loaded.source, registry, Arc::clone(&gateway), Vec::new());
        let now = std::time::Instant::now();
        let minute = Some(Duration::from_secs(60));
        let (_, before) =
            gateway.load_full().model("m").map(|(index, model)| (index, model.deployments.clone())).unwrap();
        for (deployment, kind) in before.iter().zip([ErrorKind::ProviderRateLimited, ErrorKind::ProviderCredentials]) {
            assert!(deployment.cooldown.failed(now, kind, minute, &deployment.instruments).is_some());
        }
        let are_left_out = || {
            let gateway = gateway.load_full();
            let (_, model) = gateway.model("m").unwrap();
            let is_left_out = |at: usize| model.deployments[at].cooldown.availability(now) != Availability::InUse;
            [is_left_out(0), is_left_out(1)]
        };
        assert_eq!(are_left_out(), [true, true]);
        for (more, expected) in
            [("[log]\naccess = true\n", [true, false]), ("[routing]\ncooldown = \"6s\"\n", [false, false])]
        {
            write(more);
            assert!(matches!(reloader.reload(), Reloaded::Applied { .. }));
            assert_eq!(are_left_out(), expected, "{more}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
