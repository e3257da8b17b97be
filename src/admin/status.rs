//! What state the process is in, as JSON for people and scripts. No secret is part of it.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Reloaded, Reloader};

/// What can be told, and what can be asked for.
#[derive(Debug)]
pub(super) struct Status {
    started: Instant,
    ready: Arc<AtomicBool>,
    gateway: Arc<ArcSwap<Gateway>>,
    reloader: Option<Rc<Reloader>>,
}

impl Status {
    pub(super) fn new(ready: Arc<AtomicBool>, gateway: Arc<ArcSwap<Gateway>>, reloader: Option<Rc<Reloader>>) -> Self {
        Self { started: Instant::now(), ready, gateway, reloader }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// Everything there is to say.
    pub(super) fn read(&self) -> Value {
        let gateway = self.gateway.load();
        let models = gateway.models().map(|model| {
            let deployments = model.deployments.iter().map(|deployment| {
                let in_flight = deployment.instruments.active.value(());
                json!({
                    "provider": deployment.provider.name, "model": deployment.model, "in_flight": in_flight,
                })
            });
            json!({ "name": model.name, "deployments": deployments.collect::<Vec<_>>() })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.is_ready(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "connections": gateway.instruments.connections.value(()),
            "config": self.reloader.as_ref().map(|reloader| config(reloader)),
            "models": models.collect::<Vec<_>>(),
        })
    }

    /// The configuration in force, secrets masked, if it came from a file.
    pub(super) fn config(&self) -> Option<Value> {
        self.reloader.as_ref().map(|reloader| reloader.source().masked())
    }

    /// Reads it again, if it did.
    pub(super) fn reload(&self) -> Option<Reloaded> {
        self.reloader.as_ref().map(|reloader| reloader.reload())
    }
}

fn config(reloader: &Reloader) -> Value {
    let last = reloader.last().map(|(at, reloaded)| {
        let mut last = outcome(&reloaded);
        last["at"] = time(at);
        last
    });
    json!({
        "file": reloader.source().file,
        "applied_at": time(reloader.applied()),
        "last_reload": last,
        "waiting_for_a_restart": reloader.waiting_for_a_restart(),
    })
}

/// What came of a reload.
pub(super) fn outcome(reloaded: &Reloaded) -> Value {
    match reloaded {
        Reloaded::Applied { warnings } => json!({ "outcome": "applied", "warnings": warnings }),
        Reloaded::Unchanged => json!({ "outcome": "unchanged" }),
        Reloaded::Rejected { why } => json!({ "outcome": "rejected", "error": why }),
    }
}

/// Seconds since 1970, as a number that every language reads.
fn time(at: SystemTime) -> Value {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        config::{Config, Environment},
        telemetry::Registry,
    };

    impl Status {
        pub(in crate::admin) fn set_ready(&self, ready: bool) {
            self.ready.store(ready, Relaxed);
        }
    }

    /// Of a process without a configuration file.
    pub(in crate::admin) fn status() -> Status {
        let loaded = Config::demo(&Environment::default(), "tg-status-test-key-00001").unwrap();
        let gateway = Gateway::new(&loaded.config, &Registry::new()).unwrap();
        Status::new(Arc::new(AtomicBool::new(true)), Arc::new(ArcSwap::from_pointee(gateway)), None)
    }

    #[test]
    fn without_a_file_there_is_nothing_to_be_read_again() {
        let status = status();
        assert_eq!(status.reload(), None);
        assert_eq!(status.config(), None);
        let all = status.read();
        assert_eq!(
            (&all["ready"], &all["config"], &all["models"][0]["name"]),
            (&true.into(), &Value::Null, &"echo".into())
        );
        assert_eq!(all["models"][0]["deployments"][0]["in_flight"], 0);
    }
}
