//! Client keys: who calls, and what they may use.
//!
//! Keys are compared by their whole SHA-256 digest; the plain text is not kept. Order of work and
//! time do not depend on how much of a wrong key is right.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
    time::Duration,
};

use ring::digest;

use crate::{
    api::error::{Error, ErrorKind},
    config::Config,
    message::Headers,
    telemetry::{Registry, dimensions::AuthDecision, instruments::KeyModelInstruments},
};

/// Where clients of any vendor put their key, besides `Authorization: Bearer`.
const KEY_HEADERS: [&[u8]; 3] = [b"x-api-key", b"api-key", b"x-goog-api-key"];

/// Every client key.
#[derive(Debug)]
pub struct Keys {
    by_digest: HashMap<[u8; 32], ClientKey, BuildHasherDefault<DigestHasher>>,
}

/// One `[[keys]]` entry.
#[derive(Debug)]
pub struct ClientKey {
    pub name: String,
    /// How often a stream that is silent is given a comment.
    pub comment_interval: Option<Duration>,
    /// Its place among the keys.
    pub number: usize,
    /// Ascending model numbers; `None` for all.
    models: Option<Vec<usize>>,
    /// In the order of `models`, or of all models.
    instruments: Vec<Arc<KeyModelInstruments>>,
    /// For requests to models that are unknown or not allowed.
    other: Arc<KeyModelInstruments>,
}

/// A digest is as good as random already, and who chooses keys to make theirs alike has no say in which
/// keys there are.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Keys {
    pub(super) fn new(config: &Config, registry: &Registry) -> Self {
        let all: Vec<usize> = (0..config.models.len()).collect();
        // Series are created ahead only if all of them fit: otherwise idle pairs would take the
        // place of busy ones.
        let token_types = 5;
        let pairs: usize =
            config.keys.iter().map(|key| key.models.as_ref().map_or(all.len(), Vec::len).saturating_add(1)).sum();
        let create = pairs.saturating_mul(token_types) <= registry.series_max();
        let mut bound = 0;
        let keys = config.keys.iter().enumerate().map(|(number, key)| {
            let models = key.models.as_deref().unwrap_or(&all);
            let (instruments, other) =
                super::key_model_instruments(registry, config, &key.name, models, &mut bound, create);
            (
                key.sha256,
                ClientKey {
                    name: key.name.clone(),
                    comment_interval: key.comment_interval,
                    number,
                    models: key.models.clone(),
                    instruments,
                    other,
                },
            )
        });
        Self { by_digest: keys.collect() }
    }

    /// The key that a request's headers carry, or why there is none.
    pub fn authenticate(&self, headers: &Headers) -> Result<&ClientKey, (AuthDecision, Error)> {
        let mut presented: Option<&[u8]> = None;
        for (name, value) in headers {
            let credential = match name {
                b"authorization" => bearer_token(value),
                name if KEY_HEADERS.contains(&name) => Some(value),
                _ => continue,
            };
            let Some(credential) = credential else {
                return Err(invalid("the Authorization header has to be `Bearer <client key>`"));
            };
            let credential = credential.trim_ascii();
            match presented {
                Some(first) if first != credential => return Err(conflicting()),
                _ => presented = Some(credential),
            }
        }
        let Some(credential) = presented.filter(|credential| !credential.is_empty()) else { return Err(missing()) };
        let digest = digest::digest(&digest::SHA256, credential);
        let found = <[u8; 32]>::try_from(digest.as_ref()).ok().and_then(|digest| self.by_digest.get(&digest));
        found.ok_or_else(|| invalid("the client key is not known to this gateway"))
    }
}

impl ClientKey {
    /// Whether it may use the model of that number.
    pub fn allows(&self, model: usize) -> bool {
        self.models.as_ref().is_none_or(|models| models.binary_search(&model).is_ok())
    }

    /// Its handles for a model that it may use, or those for all others.
    pub fn instruments(&self, model: Option<usize>) -> &Arc<KeyModelInstruments> {
        let place = match (&self.models, model) {
            (_, None) => None,
            (None, Some(model)) => Some(model),
            (Some(models), Some(model)) => models.binary_search(&model).ok(),
        };
        place.and_then(|place| self.instruments.get(place)).unwrap_or(&self.other)
    }
}

/// The token of `Bearer <token>` (RFC 6750 §2.1; the scheme's case does not matter, RFC 9110 §11.1).
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    (scheme.eq_ignore_ascii_case(b"bearer") && token.first() == Some(&b' ')).then_some(token)
}

fn missing() -> (AuthDecision, Error) {
    let message = "no client key: send it as `Authorization: Bearer <key>` or as `x-api-key: <key>`";
    (AuthDecision::MissingKey, Error::new(ErrorKind::MissingKey, message))
}

fn invalid(message: &'static str) -> (AuthDecision, Error) {
    (AuthDecision::InvalidKey, Error::new(ErrorKind::InvalidKey, message))
}

fn conflicting() -> (AuthDecision, Error) {
    let message = "two different client keys in one request: send one, in one header";
    (AuthDecision::ConflictingKeys, Error::new(ErrorKind::ConflictingKeys, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        for (value, token) in [
            ("Bearer abc", Some(" abc")),
            ("bearer  abc", Some("  abc")),
            ("Basic abc", None),
            ("Bearer", None),
            ("Bearerabc", None),
            ("", None),
        ] {
            assert_eq!(bearer_token(value.as_bytes()), token.map(str::as_bytes), "{value:?}");
        }
    }
}
