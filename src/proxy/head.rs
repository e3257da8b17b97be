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

/// Longest request target; LLM paths are short.
const TARGET_BYTES_MAX: usize = 4096;

/// Refuses heads that another hop may read differently (RFC 9112 §3.2).
pub(super) fn check(head: &Head) -> Result<(), Error> {
    let hosts = head.headers.all("host").count();
    if hosts == 0 && !head.is_old {
        return Err(invalid("the Host header is missing"));
    }
    if hosts > 1 {
        return Err(invalid("there is more than one Host header"));
    }
    if !head.target.starts_with('/') && &*head.target != "*" {
        return Err(invalid("the request target has to be a path, not a URL: this is not a forward proxy"));
    }
    if head.target.len() > TARGET_BYTES_MAX {
        return Err(invalid("the request target is longer than 4096 bytes"));
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
    match head.headers.get("content-encoding") {
        None => Ok(()),
        Some(encoding) if encoding.eq_ignore_ascii_case(b"identity") => Ok(()),
        Some(_) => {
            let message = "the request body is compressed; send it without Content-Encoding";
            Err(Error::new(ErrorKind::UnsupportedEncoding, message))
        }
    }
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidHead, message)
}
