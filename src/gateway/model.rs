//! A model: what a client asks for, and the deployments that can answer, in the order to try them.

use super::deployment::{Deployment, Provider};
use crate::{
    config,
    telemetry::{Registry, instruments::ModelInstruments},
};

/// One `[models.NAME]`.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    pub deployments: Vec<Deployment>,
    pub instruments: ModelInstruments,
}

impl Model {
    pub(super) fn new(
        model: &config::Model,
        providers: &[std::sync::Arc<Provider>],
        registry: &Registry,
    ) -> Result<Self, String> {
        let deployments = model.deployments.iter().map(|deployment| {
            let provider =
                providers.get(deployment.provider).ok_or("a deployment names a provider that is not there")?;
            Deployment::new(&model.name, deployment, provider, registry)
        });
        Ok(Self {
            name: model.name.clone(),
            deployments: deployments.collect::<Result<_, String>>()?,
            instruments: ModelInstruments::bind(registry, &model.name),
        })
    }
}
