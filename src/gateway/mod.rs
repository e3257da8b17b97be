//! What the program runs on: the configuration with everything looked up, prepared and bound.
//!
//! A [`Gateway`] never changes; a reload makes a new one and swaps it whole, and a request sees one
//! from its first line to its last byte. Metric handles live in the objects they measure.

mod cooldown;
mod deployment;
mod in_flight;
mod key;
mod model;
mod reload;
mod retry_budget;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub use cooldown::{Availability, Cooldown};
pub use deployment::{Deployment, HttpTransport, Provider, Transport};
pub use in_flight::{InFlight, Turn};
pub use key::{ClientKey, Keys};
pub use model::Model;
pub use reload::{Part, Reloaded, Reloader};
pub use retry_budget::RetryBudget;

use crate::{
    config::{Config, Repeats},
    telemetry::{
        Registry,
        instruments::{KeyModelInstruments, ServerInstruments},
    },
};

/// The name that stands for every model that is not in the configuration.
const OTHER_MODEL: &str = "_OTHER";

/// So many times the series of a metric are the pairs of key and model that get series of their own; later ones share
/// one pair named `_OTHER`.
const KEY_MODEL_PAIRS: usize = 2;

/// Everything one request needs, immutable.
#[derive(Debug)]
pub struct Gateway {
    pub limits: Limits,
    /// Whether there is an access log.
    pub logs_access: bool,
    pub in_flight: Arc<InFlight>,
    pub retry_budget: Arc<RetryBudget>,
    pub instruments: Arc<ServerInstruments>,
    models: Vec<Model>,
    model_by_name: HashMap<String, usize>,
    keys: Keys,
}

/// What a request may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub body_bytes_max: usize,
    pub body_timeout: Duration,
    /// Attempts at deployments.
    pub max_attempts: usize,
    pub repeats: Repeats,
    /// In bytes a second.
    pub min_body_rate: usize,
    /// What a body may take before it has to.
    pub min_body_rate_after: Duration,
}

impl Gateway {
    /// Resolves a configuration, or names what in it cannot work.
    pub fn new(config: &Config, registry: &Registry) -> Result<Self, String> {
        Self::after(None, config, registry)
    }

    /// In place of another one: what is known of deployments that are in both stays known.
    fn after(previous: Option<&Self>, config: &Config, registry: &Registry) -> Result<Self, String> {
        let cooldown = config.routing.cooldown;
        let providers = deployment::providers(config, registry)?;
        let models = config
            .models
            .iter()
            .map(|model| {
                let previous = previous.and_then(|previous| previous.model(&model.name)).map(|(_, model)| model);
                Model::new(model, &providers, cooldown, previous, registry)
            })
            .collect::<Result<Vec<_>, String>>()?;
        let (retries, threads) = (config.routing.retries, config.server.threads);
        let retry_budget =
            previous.map(|previous| &previous.retry_budget).filter(|budget| budget.has(retries, threads));
        let retry_budget =
            retry_budget.map_or_else(|| Arc::new(RetryBudget::new(retries, threads, Instant::now())), Arc::clone);
        let model_by_name = models.iter().enumerate().map(|(index, model)| (model.name.clone(), index)).collect();
        Ok(Self {
            limits: Limits {
                body_bytes_max: config.server.body_bytes_max,
                body_timeout: config.server.body_timeout,
                max_attempts: config.routing.max_attempts,
                repeats: config.routing.repeats,
                min_body_rate: config.server.min_body_rate,
                min_body_rate_after: config.server.min_body_rate_after,
            },
            logs_access: config.log.access,
            retry_budget,
            in_flight: InFlight::new(&config.server, config.keys.len()),
            instruments: ServerInstruments::bind(registry, config.server.tls.is_some()),
            keys: Keys::new(config, registry),
            models,
            model_by_name,
        })
    }

    /// How many requests are under way, also those of gateways before it.
    pub fn requests_under_way(&self) -> i64 {
        self.instruments.under_way()
    }

    /// The client keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The model of that name, with its number.
    pub fn model(&self, name: &str) -> Option<(usize, &Model)> {
        let index = *self.model_by_name.get(name)?;
        Some((index, self.models.get(index)?))
    }

    /// Every model, in the order of the configuration.
    pub fn models(&self) -> impl Iterator<Item = &Model> {
        self.models.iter()
    }

    /// The names of the models that `key` may use, in the order of the configuration.
    pub fn models_of<'a>(&'a self, key: &'a ClientKey) -> impl Iterator<Item = &'a str> {
        let models = self.models.iter().enumerate();
        models.filter(|(index, _)| key.allows(*index)).map(|(_, model)| model.name.as_str())
    }
}

/// Binds the metrics of one key: one pair per model it may use, and one for everything else.
fn key_model_instruments(
    registry: &Registry,
    config: &Config,
    key: &str,
    models: &[usize],
    bound: &mut usize,
    create: bool,
) -> (Vec<Arc<KeyModelInstruments>>, Arc<KeyModelInstruments>) {
    let other = Arc::new(KeyModelInstruments::bind(registry, key, OTHER_MODEL, create));
    let pairs = models.iter().filter_map(|index| config.models.get(*index)).map(|model| {
        *bound += 1;
        if *bound > KEY_MODEL_PAIRS * registry.series_max() {
            return Arc::clone(&other);
        }
        let pair = KeyModelInstruments::bind(registry, key, &model.name, create);
        if create && model.deployments.iter().any(|deployment| deployment.price.is_some()) {
            pair.cost.create(());
        }
        Arc::new(pair)
    });
    (pairs.collect(), other)
}
