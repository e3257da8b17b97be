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

use crate::{
    config::{Listen, Waiting},
    export::{Receiver, State},
    gateway::{Availability, Gateway, Reloaded, Reloader},
};

/// What can be told, and what can be asked for.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) started: Instant,
    /// As [`listener`] makes them.
    pub(super) listeners: Vec<Value>,
    pub(super) ready: Arc<AtomicBool>,
    pub(super) gateway: Arc<ArcSwap<Gateway>>,
    pub(super) reloader: Option<Rc<Reloader>>,
    pub(super) exports: State,
}

impl Status {
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
                    "deployment": deployment.label.to_str().unwrap_or_default(),
                    "provider": deployment.provider.name,
                    "model": deployment.model,
                    "in_flight": in_flight,
                    "cooldown": cooldown(deployment.cooldown.availability(Instant::now())),
                })
            });
            json!({ "name": model.name, "deployments": deployments.collect::<Vec<_>>() })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": self.is_ready(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "listeners": self.listeners,
            "requests": gateway.requests_under_way(),
            "connections": gateway.instruments.connections.value(()),
            "config": self.reloader.as_ref().map(|reloader| config(reloader)),
            "exports": self.exports.receivers().iter().map(|receiver| export(receiver)).collect::<Vec<_>>(),
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

/// A place where somebody can connect.
pub(super) fn listener((name, place, has_tls): (&str, &Listen, bool)) -> Value {
    json!({ "name": name, "address": place.to_string(), "tls": has_tls })
}

/// Why a deployment is left out, and for how long; null while it is in use.
fn cooldown(availability: Availability) -> Value {
    match availability {
        Availability::InUse => Value::Null,
        Availability::Due(reason) => json!({ "reason": reason.as_str(), "seconds_left": 0 }),
        Availability::Cooling(reason, left) => {
            json!({ "reason": reason.as_str(), "seconds_left": left.as_millis().div_ceil(1000) as u64 })
        }
    }
}

fn export(receiver: &Receiver) -> Value {
    json!({
        "name": receiver.name,
        "url": *receiver.url,
        "taken_at": receiver.taken_at().map(time),
        "failing_since": receiver.failing_since().map(time),
    })
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
        "digest": reloader.digest(),
        "waiting_for_a_restart": reloader.waiting_for_a_restart().iter().map(waiting).collect::<Vec<_>>(),
    })
}

fn waiting(waiting: &Waiting) -> Value {
    // They are JSON already, and null where they are not set.
    let value = |text: &Option<String>| text.as_deref().map(|text| serde_json::from_str::<Value>(text).ok());
    json!({
        "option": waiting.option, "in_force": value(&waiting.in_force), "in_file": value(&waiting.in_file),
    })
}

/// What came of a reload.
pub(super) fn outcome(reloaded: &Reloaded) -> Value {
    match reloaded {
        Reloaded::Applied { changes, warnings } => json!({
            "outcome": "applied",
            "added": changes.added,
            "changed": changes.changed,
            "removed": changes.removed,
            "files": changes.files,
            "warnings": warnings,
        }),
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
        Status {
            started: Instant::now(),
            listeners: Vec::new(),
            ready: Arc::new(AtomicBool::new(true)),
            gateway: Arc::new(ArcSwap::from_pointee(gateway)),
            reloader: None,
            exports: State::default(),
        }
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
