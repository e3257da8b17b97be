//! `[admin]`: the listener for what is not for clients.

use super::{
    Admin, Listen, file,
    otel_env::OtelEnv,
    problem::ConfigError,
    resolve::Resolve,
    telemetry::{Setting, Settings},
};

/// The specification's port for metrics that are scraped.
pub(super) const PORT: u16 = 9464;

/// Shortest token that cannot be guessed, in bytes.
const TOKEN_BYTES_MIN: usize = 16;

/// Resolves `[admin]`; `serves_metrics` opens the listener where nothing else does.
pub(super) fn resolve(
    file: &file::Admin,
    env: &mut OtelEnv<'_>,
    resolve: &mut Resolve<'_, '_>,
    serves_metrics: bool,
    settings: &mut Settings,
) -> Result<Admin, ConfigError> {
    let in_file = file.listen.as_ref().and_then(|text| resolve.parse(Some(text), "", str::parse::<Listen>));
    let token = file.token.as_ref().and_then(|reference| {
        let secret = resolve.secret(reference)?.secret;
        if secret.expose().len() < TOKEN_BYTES_MIN {
            let message =
                format!("the token has to have at least {TOKEN_BYTES_MIN} bytes; `tollgate key new` makes one");
            resolve.problems.add(reference.span(), message);
        }
        Some(secret)
    });
    let from_env = if serves_metrics { env.prometheus() } else { None };
    let (listen, source) = match (from_env, in_file) {
        (Some((address, name)), _) => (Some(address.into()), name),
        (None, Some(address)) => (Some(address), "admin.listen"),
        (None, None) if serves_metrics && file.listen.is_none() => {
            (Some(Listen::Tcp(([127, 0, 0, 1], PORT).into())), "default")
        }
        (None, None) => (None, "default"),
    };
    let is_open = |listen: &&Listen| !listen.is_local() && token.is_none();
    if let Some(address) = listen.as_ref().filter(is_open) {
        let message = format!("{address} can be reached from other hosts: set admin.token, or listen on 127.0.0.1");
        match &file.listen {
            Some(text) if source == "admin.listen" => resolve.problems.add(text.span(), message),
            _ => return Err(ConfigError::plain(format!("{source}: {message}"))),
        }
    }
    let value = listen.as_ref().map_or_else(|| "off".to_owned(), Listen::to_string);
    env.settle(&value);
    settings.push(Setting::general("admin", value, source));
    Ok(Admin { listen, token })
}
