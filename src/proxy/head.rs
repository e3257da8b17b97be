//! What a request head must satisfy before anything else is looked at.
//!
//! The server has refused what is ambiguous for itself; these are rules about what it means.

use http::{
    header::{CONTENT_ENCODING, HOST, TRANSFER_ENCODING},
    request::Parts,
};

use crate::api::{
    error::{Error, ErrorKind},
    operation::Route,
};

/// Longest request target; LLM paths are short.
const TARGET_BYTES_MAX: usize = 4096;

/// Refuses heads that another hop may read differently (RFC 9112 §3.2, §6.1).
pub(super) fn check(head: &Parts) -> Result<(), Error> {
    let mut hosts = head.headers.get_all(HOST).iter();
    if hosts.next().is_none() && head.version > http::Version::HTTP_10 {
        return Err(invalid("the Host header is missing"));
    }
    if hosts.next().is_some() {
        return Err(invalid("there is more than one Host header"));
    }
    if head.uri.authority().is_some() {
        return Err(invalid("the request target has to be a path, not a URL: this is not a forward proxy"));
    }
    if head.uri.path_and_query().is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
        return Err(invalid("the request target is longer than 4096 bytes"));
    }
    let mut encodings = head.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next()
        && (!encoding.as_bytes().eq_ignore_ascii_case(b"chunked") || encodings.next().is_some())
    {
        return Err(invalid("the only Transfer-Encoding accepted is `chunked`, once"));
    }
    Ok(())
}

/// The route, if its path exists and answers this method.
pub(super) fn route(head: &Parts) -> Result<Route, Error> {
    let path = head.uri.path();
    let Some(route) = Route::of(path) else {
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
pub(super) fn check_encoding(head: &Parts) -> Result<(), Error> {
    match head.headers.get(CONTENT_ENCODING) {
        None => Ok(()),
        Some(encoding) if encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => {
            let message = "the request body is compressed; send it without Content-Encoding";
            Err(Error::new(ErrorKind::UnsupportedEncoding, message))
        }
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidHead, message)
}
