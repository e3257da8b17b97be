//! A model: what a client asks for, and the deployments that can answer, in the order to try them.

use std::{sync::Arc, time::Duration};

use super::deployment::{Deployment, Provider};
use crate::{
    config,
    telemetry::{Registry, instruments::ModelInstruments},
};

/// One `[models.NAME]`.
#[derive(Debug)]
pub struct Model {
    pub name: String,
    /// Longest wait for the first content of a stream while another deployment remains.
    pub first_content_timeout: Duration,
    pub deployments: Vec<Arc<Deployment>>,
    pub instruments: ModelInstruments,
}

impl Model {
    pub(super) fn new(
        model: &config::Model,
        providers: &[Arc<Provider>],
        cooldown: config::Cooldown,
        previous: Option<&Self>,
        registry: &Registry,
    ) -> Result<Self, String> {
        let deployments = model.deployments.iter().map(|deployment| {
            let provider =
                providers.get(deployment.provider).ok_or("a deployment names a provider that is not there")?;
            Deployment::new(&model.name, deployment, provider, cooldown, previous, registry).map(Arc::new)
        });
        Ok(Self {
            name: model.name.clone(),
            first_content_timeout: model.first_content_timeout,
            deployments: deployments.collect::<Result<_, String>>()?,
            instruments: ModelInstruments::bind(registry, &model.name),
        })
    }
}
