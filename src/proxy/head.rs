//! What a request head must satisfy before anything else is looked at.
//!
//! The server has refused what is ambiguous for itself; these are rules about what it means.

use crate::{
    api::{
        error::{Error, ErrorKind},
        operation::Route,
    },
    message::Head,
};

/// The methods that a request may have at all.
const METHODS: [&str; 7] = ["POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Refuses heads that another hop may read differently (RFC 9112 §3.2), and methods that no path here
/// answers: they are those of proxies, or of somebody who tries what a parser lets through.
pub(super) fn check(head: &Head) -> Result<(), Error> {
    if !METHODS.contains(&head.method.as_str()) {
        let message = "the method is none that this gateway knows; methods are written in capitals";
        return Err(Error::new(ErrorKind::MethodRefused, message));
    }
    let mut hosts = head.headers.all("host");
    match (hosts.next(), hosts.next()) {
        (None, _) if head.is_old => {}
        (None, _) => return Err(invalid("the Host header is missing")),
        (Some(_), Some(_)) => return Err(invalid("there is more than one Host header")),
        (Some(host), None) if !is_host(host) => return Err(invalid("the Host header is no host and port")),
        (Some(_), None) => {}
    }
    if !head.target.starts_with('/') && &*head.target != "*" {
        return Err(invalid("the request target has to be a path, not a URL: this is not a forward proxy"));
    }
    Ok(())
}

/// The route, if its path exists and answers this method.
pub(super) fn route(head: &Head) -> Result<Route, Error> {
    let Some(route) = Route::of(head.path()) else {
        let message = "no such path on this gateway; it serves /v1/chat/completions, /v1/completions, /v1/embeddings \
                       and /v1/models";
        return Err(Error::new(ErrorKind::UnknownRoute, message));
    };
    if !route.allow().split(", ").any(|method| method == head.method.as_str()) {
        let message = format!("{} answers {} only", route.as_str(), route.allow());
        return Err(Error::new(ErrorKind::MethodNotAllowed, message).internal(route.allow()));
    }
    Ok(route)
}

/// Refuses compressed bodies: a bomb would have to be unpacked to be seen.
pub(super) fn check_encoding(head: &Head) -> Result<(), Error> {
    if head.headers.all("content-encoding").all(|encoding| encoding.eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let message = "the request body is compressed; send it without Content-Encoding";
    Err(Error::new(ErrorKind::UnsupportedEncoding, message))
}

/// A name or an address, and a port (RFC 9110 §7.2): nothing that a URL could have around it.
fn is_host(host: &[u8]) -> bool {
    let (name, port) = match memchr::memrchr(b':', host) {
        Some(colon) if !host.ends_with(b"]") => host.split_at(colon),
        _ => (host, [].as_slice()),
    };
    let is_name = match name.strip_prefix(b"[").map(|rest| rest.strip_suffix(b"]")) {
        None => name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)),
        Some(None) => false,
        Some(Some(address)) => address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)),
    };
    !name.is_empty() && is_name && port.iter().skip(1).all(u8::is_ascii_digit) && port.len() <= 6
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidHead, message)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in
            ["h", "h:80", "a-b.example.com:65535", "127.0.0.1:4000", "[::1]", "[::1]:4000", "[::ffff:1.2.3.4]", "h:"]
        {
            assert!(is_host(host.as_bytes()), "{host:?}");
        }
        for host in [
            "",
            ":80",
            "h/",
            "h/path",
            "u@h",
            "u:p@h:80",
            "h h",
            "h?q",
            "h#f",
            "h\\",
            "h:80:80",
            "h:http",
            "[::1",
            "::1]",
            "[h/x]",
            "[::1]x",
            "h:1234567",
            "a,b",
            "h%00",
            "h\u{e9}",
            "\"h\"",
            "h\t",
        ] {
            assert!(!is_host(host.as_bytes()), "{host:?}");
        }
    }
}
