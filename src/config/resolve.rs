//! From the file as written to the configuration as meant: every value checked, every name found.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use ring::digest;
use toml::Spanned;

use super::{
    Deployment, Key, Model, Provider, Reload, Routing, file,
    problem::{Problems, did_you_mean},
    reference::Resolver,
    table, value,
};
use crate::api::cost::Price;

/// Longest model name, in bytes; a client's request may not carry a longer one either.
const MODEL_NAME_MAX: usize = 128;
/// Longest name of a key or provider, in bytes: they are attribute values.
const NAME_MAX: usize = 64;
/// Shortest client key that is accepted, in bytes.
const KEY_BYTES_MIN: usize = 8;
/// Shorter client keys are warned about: they can be guessed.
const KEY_BYTES_SAFE: usize = 20;

/// Lower prices, in USD per million tokens, are warned about: nobody sells tokens at a thousandth of a
/// USD per million, and LiteLLM's prices are per token.
const PRICE_SAFE: f64 = 0.001;

/// Resolves one file, collecting problems and warnings.
pub(super) struct Resolve<'a, 'text> {
    pub(super) problems: &'a mut Problems<'text>,
    pub(super) warnings: &'a mut Vec<String>,
    pub(super) resolver: Resolver<'a>,
}

impl Resolve<'_, '_> {
    pub(super) fn reload(&mut self, reload: &file::Reload) -> Reload {
        let interval = self.duration(reload.interval.as_ref(), "1s");
        Reload { watch: reload.watch.unwrap_or(true).then_some(interval) }
    }

    pub(super) fn models(
        &mut self,
        models: &table::Named<file::Model>,
        providers: &[Provider],
        routing: &Routing,
    ) -> Vec<Model> {
        let mut resolved = Vec::with_capacity(models.len());
        for (name, model) in models {
            self.name("model", name);
            if model.deployments.get_ref().is_empty() {
                let message = "deployments is empty: name at least one, such as { provider = \"openai\" }";
                self.problems.add(model.deployments.span(), message);
            }
            let mut deployments = Vec::new();
            for deployment in model.deployments.get_ref() {
                if let Some(upstream) = &deployment.model {
                    self.name("model", upstream);
                }
                let price = deployment.price.as_ref().map(|price| self.price(name.get_ref(), price));
                let wanted = deployment.provider.get_ref();
                match providers.iter().position(|provider| provider.name == *wanted) {
                    Some(provider) => {
                        let model = deployment.model.as_ref().unwrap_or(name).get_ref().clone();
                        deployments.push(Deployment { provider, model, price });
                    }
                    None => {
                        let known = providers.iter().map(|provider| provider.name.as_str());
                        let message = format!(
                            "provider {wanted:?} is not configured: expected {}{}",
                            list(known.clone(), "a [providers.NAME] table"),
                            did_you_mean(wanted, known)
                        );
                        self.problems.add(deployment.provider.span(), message);
                    }
                }
            }
            let first_content_timeout = match &model.first_content_timeout {
                Some(own) => self.duration(Some(own), ""),
                None => routing.first_content_timeout,
            };
            resolved.push(Model { name: name.get_ref().clone(), first_content_timeout, deployments });
        }
        if resolved.is_empty() {
            self.problems.add(0..0, "no models: add a [models.NAME] table, such as [models.gpt-4o-mini]");
        }
        resolved
    }

    fn price(&mut self, model: &str, price: &file::Price) -> Price {
        let mut amount = |usd: &Spanned<f64>| {
            let usd_per_million = *usd.get_ref();
            if usd_per_million > 0.0 && usd_per_million < PRICE_SAFE {
                self.warnings.push(format!(
                    "models.{model}: prices are in USD per million tokens: {usd_per_million:?} looks like one per token"
                ));
            }
            value::price(usd_per_million).unwrap_or_else(|message| {
                self.problems.add(usd.span(), message);
                0
            })
        };
        let (input, output) = (amount(&price.input), amount(&price.output));
        let cache_read = price.cache_read.as_ref().map_or(input, &mut amount);
        let cache_write = price.cache_write.as_ref().map_or(input, &mut amount);
        Price { input, output, cache_read, cache_write }
    }

    pub(super) fn keys(&mut self, keys: &[Spanned<file::Key>], models: &[Model]) -> Vec<Key> {
        let mut resolved: Vec<Key> = Vec::with_capacity(keys.len());
        let mut by_digest: HashMap<[u8; 32], String> = HashMap::new();
        for entry in keys {
            let key = entry.get_ref();
            let name = key.name.get_ref();
            self.name("key", &key.name);
            if resolved.iter().any(|other| other.name == *name) {
                self.problems.add(
                    key.name.span(),
                    format!("there is another key named {name:?}: metrics could not tell them apart"),
                );
            }
            let Some(sha256) = self.digest(entry) else { continue };
            if let Some(other) = by_digest.insert(sha256, name.clone()) {
                self.problems.add(key.name.span(), format!("keys {other:?} and {name:?} are the same key"));
            }
            let models = key.models.as_ref().map(|wanted| self.key_models(wanted, models));
            let comment_interval = key.comment_interval.as_ref().map(|interval| self.duration(Some(interval), ""));
            resolved.push(Key { name: name.clone(), sha256, models, comment_interval });
        }
        if keys.is_empty() {
            self.problems
                .add(0..0, "no client keys: nobody could use this gateway; `tollgate key new` prints a [[keys]] entry");
        }
        resolved
    }

    fn key_models(&mut self, wanted: &[Spanned<String>], models: &[Model]) -> Vec<usize> {
        let mut allowed = Vec::with_capacity(wanted.len());
        for name in wanted {
            match models.iter().position(|model| model.name == *name.get_ref()) {
                Some(model) => allowed.push(model),
                None => {
                    let known = models.iter().map(|model| model.name.as_str());
                    let message = format!(
                        "model {:?} is not configured: expected {}{}",
                        name.get_ref(),
                        list(known.clone(), "a [models.NAME] table"),
                        did_you_mean(name.get_ref(), known)
                    );
                    self.problems.add(name.span(), message);
                }
            }
        }
        allowed.sort_unstable();
        allowed.dedup();
        allowed
    }

    fn digest(&mut self, entry: &Spanned<file::Key>) -> Option<[u8; 32]> {
        let key = entry.get_ref();
        match (&key.key, &key.sha256) {
            (None, Some(sha256)) => self.parse(Some(sha256), "", value::sha256),
            (Some(reference), None) => {
                let secret = self.secret(reference)?.secret;
                let length = secret.expose().len();
                if length < KEY_BYTES_MIN {
                    let message = format!(
                        "the client key has {length} bytes; it needs at least {KEY_BYTES_MIN}; `tollgate key new` makes one"
                    );
                    self.problems.add(reference.span(), message);
                } else if length < KEY_BYTES_SAFE {
                    self.warnings.push(format!(
                        "the client key {:?} is short enough to be guessed; `tollgate key new` makes one",
                        key.name.get_ref()
                    ));
                }
                <[u8; 32]>::try_from(digest::digest(&digest::SHA256, secret.expose().as_bytes()).as_ref()).ok()
            }
            (Some(_), Some(sha256)) => {
                self.problems.add(sha256.span(), "a key has either `key` or `sha256`, not both");
                None
            }
            (None, None) => {
                self.problems.add(key.name.span(), "a key needs `key` or `sha256`; `tollgate key new` prints both");
                None
            }
        }
    }

    pub(super) fn secret(
        &mut self,
        reference: &Spanned<super::reference::Reference>,
    ) -> Option<super::reference::Resolved> {
        match self.resolver.resolve(reference.get_ref()) {
            Ok(resolved) => Some(resolved),
            Err(message) => {
                self.problems.add(reference.span(), message);
                None
            }
        }
    }

    pub(super) fn name(&mut self, what: &str, name: &Spanned<String>) {
        let bytes_max = if what == "model" { MODEL_NAME_MAX } else { NAME_MAX };
        if let Err(message) = value::name(what, name.get_ref(), bytes_max) {
            self.problems.add(name.span(), message);
        }
    }

    /// A duration that may not be zero.
    pub(super) fn duration(&mut self, text: Option<&Spanned<String>>, default: &str) -> Duration {
        let parsed = self.parse(text, default, |text| match value::duration(text)? {
            Duration::ZERO => Err("a duration of zero makes no sense here".to_owned()),
            duration => Ok(duration),
        });
        parsed.unwrap_or_default()
    }

    pub(super) fn size(&mut self, size: Option<&Spanned<file::Size>>, default: usize) -> usize {
        self.size_within(size, default, 1..=usize::MAX)
    }

    /// A size that makes sense within these bounds only.
    pub(super) fn size_within(
        &mut self,
        size: Option<&Spanned<file::Size>>,
        default: usize,
        within: RangeInclusive<usize>,
    ) -> usize {
        let Some(size) = size else { return default };
        let parsed = match size.get_ref() {
            file::Size::Bytes(bytes) => usize::try_from(*bytes).map_err(|error| error.to_string()),
            file::Size::Text(text) => value::size(text),
        };
        match parsed {
            Ok(0) => self.problems.add(size.span(), "a size of zero makes no sense here"),
            Ok(bytes) if within.contains(&bytes) => return bytes,
            Ok(bytes) => {
                let message = format!("{bytes} bytes are not from {} to {}", within.start(), within.end());
                self.problems.add(size.span(), message);
            }
            Err(message) => self.problems.add(size.span(), message),
        }
        default
    }

    /// A number of things.
    pub(super) fn count(
        &mut self,
        name: &str,
        count: Option<&Spanned<i64>>,
        default: usize,
        within: RangeInclusive<i64>,
    ) -> usize {
        let Some(count) = count else { return default };
        match usize::try_from(*count.get_ref()) {
            Ok(number) if within.contains(count.get_ref()) => number,
            _ => {
                let message =
                    format!("{name} has to be from {} to {}, not {}", within.start(), within.end(), count.get_ref());
                self.problems.add(count.span(), message);
                default
            }
        }
    }

    /// Parses a value or its default; `None` after a problem.
    pub(super) fn parse<T>(
        &mut self,
        text: Option<&Spanned<String>>,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(text.map_or(default, |text| text.get_ref())) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problems.add(text.map_or(0..0, Spanned::span), message);
                None
            }
        }
    }
}

/// `"a", "b" or "c"`, or what else is expected where there is nothing to list.
fn list<'a>(names: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    let names: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    match names.as_slice() {
        [] => otherwise.to_owned(),
        [.., _] if names.len() > 8 => format!("one of the {} configured", names.len()),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
