//! `[providers.NAME]`: who answers, and what may be expected of them.

use std::time::Duration;

use toml::Spanned;

use super::{Secret, file, resolve::Resolve, table, value};
use crate::http_client::Lifetimes;

/// `[providers.NAME]`.
#[derive(Debug, Clone)]
pub struct Provider {
    pub name: String,
    pub kind: ProviderKind,
    /// `None` for the built-in provider.
    pub base_url: Option<BaseUrl>,
    pub api_key: Option<Secret>,
    /// Ask for usage in streams whose client did not, and take the extra event out again.
    pub include_usage: bool,
    /// Longest time to a connection, name lookup and TLS included.
    pub connect_timeout: Duration,
    /// Longest wait for the address of a host whose last answer is too old.
    pub dns_timeout: Duration,
    /// How long addresses are used.
    pub addresses: Lifetimes,
    pub first_byte_timeout: Duration,
    /// Longest silence within an answer.
    pub idle_timeout: Duration,
    /// Longest time for a whole answer that is not streamed.
    pub answer_timeout: Duration,
    /// Longest time for a whole stream.
    pub stream_timeout: Duration,
    /// Of the head of an answer.
    pub max_head_bytes: usize,
    pub max_headers: usize,
    /// Of an event that is looked into.
    pub max_event_bytes: usize,
    /// Of each end of an answer that is not streamed, kept to read usage from.
    pub max_usage_bytes: usize,
    /// Pause between the events of the built-in provider.
    pub echo_delay: Duration,
}

/// `kind` of a provider: the wire it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    Openai,
    Echo,
}

/// An `http` or `https` URL taken apart: no user, no query, no fragment, no trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    /// Empty or `/like/this`.
    pub path: String,
}

pub(super) fn resolve(providers: &table::Named<file::Provider>, resolve: &mut Resolve<'_, '_>) -> Vec<Provider> {
    providers.iter().map(|(name, provider)| self::provider(name, provider, resolve)).collect()
}

fn provider(name: &Spanned<String>, provider: &file::Provider, resolve: &mut Resolve<'_, '_>) -> Provider {
    resolve.name("provider", name);
    let kind = resolve.parse(provider.kind.as_ref(), "openai", |kind| match kind {
        "openai" => Ok(ProviderKind::Openai),
        "echo" => Ok(ProviderKind::Echo),
        "anthropic" | "azure" | "gemini" => {
            Err(format!("kind {kind:?} is not supported yet; use \"openai\" for an OpenAI-compatible endpoint"))
        }
        _ => Err(format!("kind {kind:?} is not known: expected \"openai\" or \"echo\"")),
    });
    let kind = kind.unwrap_or(ProviderKind::Openai);
    let base_url = provider.base_url.as_ref().and_then(|url| resolve.parse(Some(url), "", value::base_url));
    match (kind, &provider.base_url) {
        (ProviderKind::Openai, None) => {
            let message = format!(
                "provider {:?} has no base_url: add one, such as base_url = \"https://api.openai.com/v1\"",
                name.get_ref()
            );
            resolve.problems.add(name.span(), message);
        }
        (ProviderKind::Echo, Some(url)) => {
            resolve.problems.add(url.span(), "a provider of kind \"echo\" is built in: it takes no base_url");
        }
        (ProviderKind::Openai, Some(_)) | (ProviderKind::Echo, None) => {}
    }
    if let (ProviderKind::Openai, Some(delay)) = (kind, &provider.delay) {
        resolve.problems.add(delay.span(), "delay is for providers of kind \"echo\" only");
    }
    let api_key = api_key(name, provider, kind, resolve);
    if let (Some(url), Some(_)) = (&base_url, &api_key)
        && !url.tls
        && !is_loopback(url)
    {
        let name = name.get_ref();
        resolve.warnings.push(format!("providers.{name}: the provider key is sent without TLS to {}", url.host));
    }
    let addresses = Lifetimes {
        fresh: resolve.duration(provider.dns_ttl.as_ref(), "30s"),
        failed: resolve.duration(provider.dns_failure_ttl.as_ref(), "5s"),
        stale: resolve.duration(provider.dns_stale_ttl.as_ref(), "1h"),
    };
    let place = provider.dns_ttl.as_ref().or(provider.dns_stale_ttl.as_ref()).map(Spanned::span);
    if let (true, Some(place)) = (addresses.fresh > addresses.stale, place) {
        resolve
            .problems
            .add(place, "dns_ttl is over dns_stale_ttl: an address would be too old before it is asked for again");
    }
    Provider {
        name: name.get_ref().clone(),
        kind,
        base_url,
        api_key,
        include_usage: provider.include_usage.unwrap_or(true),
        connect_timeout: resolve.duration(provider.connect_timeout.as_ref(), "5s"),
        dns_timeout: resolve.duration(provider.dns_timeout.as_ref(), "2s"),
        addresses,
        first_byte_timeout: resolve.duration(provider.first_byte_timeout.as_ref(), "300s"),
        idle_timeout: resolve.duration(provider.idle_timeout.as_ref(), "120s"),
        answer_timeout: resolve.duration(provider.answer_timeout.as_ref(), "600s"),
        stream_timeout: resolve.duration(provider.stream_timeout.as_ref(), "3600s"),
        max_head_bytes: resolve.size_within(provider.max_head_bytes.as_ref(), 64 << 10, 1 << 10..=1 << 20),
        max_headers: resolve.count("max_headers", provider.max_headers.as_ref(), 100, 1..=1000),
        max_event_bytes: resolve.size_within(provider.max_event_bytes.as_ref(), 64 << 10, 1 << 10..=16 << 20),
        max_usage_bytes: resolve.size_within(provider.max_usage_bytes.as_ref(), 16 << 10, 1 << 10..=1 << 20),
        echo_delay: resolve.parse(provider.delay.as_ref(), "0ms", value::duration).unwrap_or_default(),
    }
}

fn api_key(
    name: &Spanned<String>,
    provider: &file::Provider,
    kind: ProviderKind,
    resolve: &mut Resolve<'_, '_>,
) -> Option<Secret> {
    let reference = provider.api_key.as_ref()?;
    if kind == ProviderKind::Echo {
        resolve.problems.add(reference.span(), "a provider of kind \"echo\" is built in: it takes no api_key");
        return None;
    }
    let resolved = resolve.secret(reference)?;
    if resolved.is_literal {
        let name = name.get_ref();
        resolve.warnings.push(format!(
            "providers.{name}.api_key stands in the file; \"${{NAME}}\" or {{ file = \"…\" }} keeps it out"
        ));
    }
    Some(resolved.secret)
}

fn is_loopback(url: &BaseUrl) -> bool {
    let host = url.host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
