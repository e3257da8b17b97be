//! Who sends the metrics: the resource attributes.

use std::fs;

use super::{
    file,
    otel_env::OtelEnv,
    telemetry::{Setting, Settings},
};

/// Most attributes, and the longest key and value in bytes.
const ATTRIBUTES_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 4096;

/// Attributes in order; a later one of the same name wins.
pub(super) fn resolve(file: &file::Telemetry, env: &mut OtelEnv<'_>, settings: &mut Settings) -> Vec<(String, String)> {
    let mut resource: Vec<(String, String, &'static str)> = Vec::new();
    let version = env!("CARGO_PKG_VERSION");
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let ours = [
        ("service.name", "tollgate"),
        ("service.version", version),
        ("telemetry.sdk.name", "tollgate"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", version),
        ("service.instance.id", &instance_id()),
        ("host.name", host.trim()),
    ];
    let ours = ours.map(|(key, value)| (key.to_owned(), value.to_owned(), "default"));
    let in_file = file.resource.iter();
    let in_file = in_file.map(|(key, value)| (key.get_ref().clone(), value.get_ref().clone(), "telemetry.resource"));
    let service_name = file.service_name.as_ref();
    let service_name =
        service_name.map(|name| ("service.name".to_owned(), name.get_ref().clone(), "telemetry.service_name"));
    let from_env = env.resource().into_iter().map(|(key, value)| (key, value, "OTEL_RESOURCE_ATTRIBUTES"));
    let env_name = env.service_name().map(|(name, source)| ("service.name".to_owned(), name.to_owned(), source));
    for (key, value, source) in ours.into_iter().chain(in_file).chain(service_name).chain(from_env).chain(env_name) {
        if let Err(why) = check(&key, &value) {
            env.warnings.push(format!("resource attribute {key:?} is left out: {why}"));
            continue;
        }
        resource.retain(|(other, _, _)| *other != key);
        resource.push((key, value, source));
    }
    resource.retain(|(_, value, _)| !value.is_empty());
    if resource.len() > ATTRIBUTES_MAX {
        let left_out = resource.len() - ATTRIBUTES_MAX;
        env.warnings.push(format!("{left_out} resource attributes are left out: there are more than {ATTRIBUTES_MAX}"));
        resource.truncate(ATTRIBUTES_MAX);
    }
    for (key, value, source) in &resource {
        settings.push(Setting::general("resource", format!("{key}={value}"), source));
    }
    resource.into_iter().map(|(key, value, _)| (key, value)).collect()
}

/// Keys that no receiver chokes on: Prometheus panics on an empty one, takes some for its own and
/// refuses requests for others.
fn check(key: &str, value: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !key.starts_with(|first: char| first.is_ascii_alphabetic()) || !key.bytes().all(allowed) {
        return Err("a key begins with a letter and has letters, digits and . _ - only".to_owned());
    }
    if ["le", "quantile", "job", "instance"].contains(&key) {
        return Err("this key means something else to Prometheus".to_owned());
    }
    if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        return Err(format!("a key has at most {KEY_BYTES_MAX} bytes and a value {VALUE_BYTES_MAX}"));
    }
    Ok(())
}

/// A random UUID (RFC 9562, version 4): receivers need to tell processes apart.
fn instance_id() -> String {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut bytes = [0_u8; 16];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        // Without randomness the process id and the time have to do.
        bytes = (u128::from(std::process::id()) << 64 | u128::from(crate::telemetry::Clock::start().now_nanos()))
            .to_be_bytes();
    }
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    let mut id = String::with_capacity(36);
    for (place, digit) in hex.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}
