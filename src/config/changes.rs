//! What is different between two configurations, by name.

use std::{collections::BTreeMap, fmt};

use ring::digest;

use super::{Config, Secret};

/// The named things of a configuration, and a digest of what each amounts to, secrets included.
#[derive(Debug, Default)]
pub struct Inventory(BTreeMap<String, [u8; 32]>);

/// Names of what is different, such as `models.gpt-4o-mini`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    pub added: Vec<String>,
    pub changed: Vec<String>,
    pub removed: Vec<String>,
    /// Files with another content, or that were not a part of it: secrets and certificates, too.
    pub files: Vec<String>,
}

/// An option that is not in force as the file has it, for it is read at the start only. Secrets are
/// masked; `None` where it is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub option: String,
    pub in_force: Option<String>,
    pub in_file: Option<String>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, in_force, in_file } = self;
        let [in_force, in_file] = [in_force, in_file].map(|value| value.as_deref().unwrap_or("not set"));
        write!(f, "{option} (now {in_force}, then {in_file})")
    }
}

impl Inventory {
    /// Of a configuration.
    pub fn of(config: &Config) -> Self {
        let provider_name = |index: usize| config.providers.get(index).map_or("", |provider| provider.name.as_str());
        let model_name = |index: &usize| config.models.get(*index).map_or("", |model| model.name.as_str());
        let providers = config.providers.iter().map(|provider| {
            // Debug does not show it.
            let secret = provider.api_key.as_ref().map_or("", Secret::expose);
            (format!("providers.{}", provider.name), digest_of(&[&format!("{provider:?}"), secret]))
        });
        // By name, for numbers move when something is added in front.
        let models = config.models.iter().map(|model| {
            let deployments = model.deployments.iter();
            let deployments =
                deployments.map(|to| format!("{:?}", (provider_name(to.provider), &to.model, &to.price))).collect();
            let deployments: Vec<String> = deployments;
            (
                format!("models.{}", model.name),
                digest_of(&[&deployments.concat(), &format!("{:?}", model.first_content_timeout)]),
            )
        });
        let keys = config.keys.iter().map(|key| {
            let models: Option<Vec<&str>> = key.models.as_ref().map(|models| models.iter().map(model_name).collect());
            (format!("keys.{}", key.name), digest_of(&[&format!("{:?}", (key.sha256, models, key.comment_interval))]))
        });
        Self(providers.chain(models).chain(keys).collect())
    }

    /// What is different from `before`, in the order of names.
    pub fn since(&self, before: &Self) -> Changes {
        let mut changes = Changes::default();
        for (name, digest) in &self.0 {
            match before.0.get(name) {
                None => changes.added.push(name.clone()),
                Some(other) if other != digest => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        changes.removed = before.0.keys().filter(|name| !self.0.contains_key(*name)).cloned().collect();
        changes
    }
}

fn digest_of(parts: &[&str]) -> [u8; 32] {
    let mut all = digest::Context::new(&digest::SHA256);
    for part in parts {
        all.update(&part.len().to_le_bytes());
        all.update(part.as_bytes());
    }
    all.finish().as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Environment;

    fn inventory(toml: &str) -> Inventory {
        let environment = Environment::of([("SECRET", "one"), ("OTHER", "two")]);
        Inventory::of(&Config::parse(Path::new("t.toml"), toml, &environment).unwrap().config)
    }

    #[test]
    fn what_is_different_is_named_and_what_only_moved_is_not() {
        let provider = |name: &str, secret: &str| {
            format!("[providers.{name}]\nbase_url = \"https://h\"\napi_key = \"${{{secret}}}\"\n")
        };
        let model = |name: &str, provider: &str| {
            format!("[models.{name}]\ndeployments = [{{ provider = \"{provider}\", model = \"m\" }}]\n")
        };
        let key = |name: &str, models: &str| {
            format!("[[keys]]\nname = \"{name}\"\nkey = \"tg-{name}-0123456789abcdef\"\nmodels = [{models}]\n")
        };
        let before = inventory(
            &[provider("b", "SECRET"), provider("c", "SECRET"), model("n", "b"), model("o", "c"), key("k", "\"n\"")]
                .concat(),
        );
        let after = [
            // In front of the others, which move.
            provider("a", "SECRET"),
            provider("b", "OTHER"),
            model("m", "a"),
            model("n", "b"),
            key("j", "\"m\""),
            key("k", "\"n\""),
        ];
        let expected = Changes {
            added: ["keys.j", "models.m", "providers.a"].map(str::to_owned).into(),
            changed: vec!["providers.b".to_owned()],
            removed: ["models.o", "providers.c"].map(str::to_owned).into(),
            files: Vec::new(),
        };
        assert_eq!(inventory(&after.concat()).since(&before), expected);
        let other = [provider("b", "SECRET"), model("n", "b"), model("o", "b"), key("k", "\"n\", \"o\"")].concat();
        let changes = inventory(&other).since(&before);
        assert_eq!(
            (changes.changed.join(" "), changes.removed.join(" ")),
            ("keys.k models.o".into(), "providers.c".into())
        );
    }

    #[test]
    fn every_option_of_a_model_and_of_a_key_counts() {
        let toml = |model: &str, key: &str| {
            format!(
                "[providers.p]\nkind = \"echo\"\n[models.m]\n{model}deployments = [{{ provider = \"p\" }}]\n[[keys]]\nname = \"k\"\nkey = \"tg-0123456789abcdefghij\"\n{key}"
            )
        };
        let before = inventory(&toml("", ""));
        let changed = |model: &str, key: &str| inventory(&toml(model, key)).since(&before).changed;
        assert_eq!(changed("first_content_timeout = \"9s\"\n", ""), ["models.m"]);
        assert_eq!(changed("", "comment_interval = \"9s\"\n"), ["keys.k"]);
        assert_eq!(changed("first_content_timeout = \"12s\"\n", ""), [""; 0], "as by default");
    }
}
