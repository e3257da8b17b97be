//! Values as an operator writes them: durations, sizes, URLs, digests, names.

use std::time::Duration;

use super::{BaseUrl, Protocol};
use crate::api::cost;

/// Highest price, in USD per million tokens: 10,000 is more than ten times what the dearest ask.
const PRICE_MAX: f64 = 10_000.0;

/// `"15s"`, `"500ms"`, `"2m"`, `"1h"`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a duration: write a whole number and a unit, such as \"15s\", \"500ms\", \"2m\" or \"1h\""
        )
    };
    let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => number,
        "s" => number.saturating_mul(1_000),
        "m" => number.saturating_mul(60_000),
        "h" => number.saturating_mul(3_600_000),
        _ => return Err(wrong()),
    };
    if milliseconds > 30 * 24 * 3_600_000 {
        return Err(format!("{text:?} is longer than 30 days"));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// `"32MiB"`, `"1KiB"`, `"4MB"`, `"1024"`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || {
        format!("{text:?} is not a size: write bytes as a whole number, or with a unit, such as \"32MiB\" or \"64KiB\"")
    };
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: usize = number.parse().map_err(|_| wrong())?;
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).ok_or_else(wrong)
}

/// An `http` or `https` URL without user, query and fragment.
pub(super) fn base_url(text: &str) -> Result<BaseUrl, String> {
    let (url, query) = url(text)?;
    if query.is_some() {
        return Err(format!("{text:?} has a query; a base URL ends with its path"));
    }
    Ok(BaseUrl { path: url.path.trim_end_matches('/').to_owned(), ..url })
}

/// A URL taken apart, its path as it stands, and its query.
pub(super) fn url(text: &str) -> Result<(BaseUrl, Option<&str>), String> {
    let (tls, rest) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        _ => return Err(format!("{text:?} is not a URL: it has to begin with http:// or https://")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if authority.contains('@') {
        return Err("a URL must not carry a user or password: use api_key or a header".to_owned());
    }
    if target.contains('#') {
        return Err(format!("{text:?} has a fragment, which servers never see"));
    }
    let invalid = |character: char| !character.is_ascii_graphic();
    if authority.is_empty() || text.contains(invalid) {
        return Err(format!("{text:?} has no valid host name, such as in https://api.example.com/v1"));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or_else(|| format!("{text:?}: the port has to be a number from 1 to 65535"))?)
        }
        _ => (authority, if tls { 443 } else { 80 }),
    };
    if host.is_empty() {
        return Err(format!("{text:?} has no host name"));
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Ok((BaseUrl { tls, host: host.to_owned(), port, path: path.to_owned() }, query))
}

/// A protocol by the specification's name, in any case.
pub(super) fn protocol(text: &str) -> Option<Protocol> {
    let all = [Protocol::HttpProtobuf, Protocol::HttpJson, Protocol::Grpc];
    all.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(text))
}

/// Whether `gzip` is asked for, or `none`.
pub(super) fn compression(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "gzip" => Some(true),
        "none" => Some(false),
        _ => None,
    }
}

/// USD per million tokens, as nano-USD per million tokens.
pub(super) fn price(usd: f64) -> Result<u64, String> {
    cost::nanos(usd, PRICE_MAX)
        .ok_or_else(|| format!("{usd:?} is no price: it has to be from 0 to {PRICE_MAX}, in USD per million tokens"))
}

/// 64 hexadecimal digits.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], String> {
    let wrong = || "sha256 has to be 64 hexadecimal digits; `tollgate key new` prints them".to_owned();
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (byte, place) in digest.iter_mut().zip((0..64).step_by(2)) {
        let digits = text.get(place..place + 2).ok_or_else(wrong)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(digest)
}

/// A name that can stand in a header and as an attribute value.
pub(super) fn name(what: &str, text: &str, bytes_max: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("a {what} needs a name"));
    }
    if text.len() > bytes_max {
        return Err(format!("the name of a {what} has at most {bytes_max} bytes; this one has {}", text.len()));
    }
    let allowed = |character: char| character.is_ascii_alphanumeric() || "._:/@+-".contains(character);
    match text.chars().find(|character| !allowed(*character)) {
        None => Ok(()),
        Some(wrong) => {
            Err(format!("{wrong:?} cannot stand in the name of a {what}: use letters, digits and . _ : / @ + -"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [("15s", 15_000), ("500ms", 500), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in ["", "15", "s", "1.5s", "-1s", "15 s", "1d", "9999999999999999999s", "9999h"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("7", 7), ("1KiB", 1024), ("32MiB", 32 << 20), ("4MB", 4_000_000), ("1 GiB", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1mb", "99999999999999GiB"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn urls() {
        let parse = |text| base_url(text).map(|url| (url.tls, url.host, url.port, url.path));
        let ok = |tls, host: &str, port, path: &str| Ok((tls, host.to_owned(), port, path.to_owned()));
        assert_eq!(parse("https://openrouter.ai/api/v1"), ok(true, "openrouter.ai", 443, "/api/v1"));
        assert_eq!(parse("http://127.0.0.1:8080"), ok(false, "127.0.0.1", 8080, ""));
        assert_eq!(parse("http://[::1]:8080/v1/"), ok(false, "[::1]", 8080, "/v1"));
        assert_eq!(parse("HTTP://h"), ok(false, "h", 80, ""));
        for text in [
            "",
            "h",
            "ftp://h",
            "http://",
            "http://:80",
            "http://h:0",
            "http://h:x",
            "http://h:70000",
            "http://u:p@h/",
            "http://h/?a=b",
            "http://h/#f",
            "http://h h/",
            "http:///v1",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
