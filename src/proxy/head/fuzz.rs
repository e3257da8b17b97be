//! Mutated methods, targets and header lines against the rules for heads: `make fuzz`.
//!
//! The server's parser is not in front of them here, so that they also see what it would have refused.

use http::Method;

use super::{check, check_encoding, route};
use crate::{
    api::operation::Route,
    fuzz,
    message::{Head, Headers},
};

/// Heads in a notation of their own: method and target, then names and values, a line feed after each.
const CORPUS: &[&[u8]] = &[
    b"GET\n/\nhost\na",
    b"HEAD\n/healthz\nhost\n[::1]:4000\n",
    b"POST\n/v1/chat/completions\nhost\na.example:80\ncontent-encoding\nidentity",
    b"POST\n/chat/completions?x=/v1/models\nhost\n127.0.0.1\ncontent-encoding\ngzip",
    b"POST\n/v1/completions#x\nhost\na\nhost\nb",
    b"POST\n/v1/embeddings/\nhost\nu:p@a",
    b"GET\nhttp://a/v1/models\nhost\na",
    b"OPTIONS\n*\nhost\na",
    b"CONNECT\na:443\nhost\na:443",
    b"get\n/v1/models\nhost\na",
    b"GET\n//v1/models\nhost\n",
    b"GET\n/v1/./models\n",
    b"GET\n/health/liveliness\nhost\na",
    b"TRACE\n/readyz\nhost\na",
];

const PIECES: &[&[u8]] = &[
    b"\n",
    b"\nhost\n",
    b"\ncontent-encoding\n",
    b"identity",
    b"gzip",
    b"/",
    b"//",
    b"/..",
    b"/.",
    b"%2f",
    b"%2e",
    b"%00",
    b"\\",
    b"?",
    b"#",
    b"@",
    b":",
    b"[",
    b"]",
    b",",
    b" ",
    b"\t",
    b"\r",
    b"\0",
    b"\xc3\xa9",
    b"\xff",
    b"*",
    b"http://",
    b"/v1",
    b"/models",
    b"GET",
    b"POST",
];

fn parse(input: &[u8]) -> Option<Head> {
    let mut parts = input.split(|byte| *byte == b'\n');
    let method = Method::from_bytes(parts.next()?).ok()?;
    let target = std::str::from_utf8(parts.next()?).ok()?.into();
    let mut headers = Headers::default();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        headers.push(std::str::from_utf8(name).ok()?, value);
    }
    Some(Head { method, target, is_old: input.len().is_multiple_of(16), headers })
}

#[test]
fn mutated_heads_are_let_through_only_in_their_one_spelling() {
    fuzz::run("heads", CORPUS, PIECES, |input, _| {
        let Some(head) = parse(input) else { return "not a head".into() };
        let hosts: Vec<&[u8]> = head.headers.all("host").collect();
        let encodings: Vec<&[u8]> = head.headers.all("content-encoding").collect();
        if check_encoding(&head).is_ok() {
            assert!(encodings.iter().all(|encoding| encoding.eq_ignore_ascii_case(b"identity")));
        }
        if let Err(error) = check(&head) {
            assert!(hosts != [b"a"] || !is_usual(&head), "{} {}: {}", head.method, head.target, error.message);
            return error.message.into_owned();
        }
        assert!(head.target.starts_with('/') || &*head.target == "*", "{:?}", head.target);
        match hosts[..] {
            [] => assert!(head.is_old),
            [host] => {
                assert!(!host.is_empty() && host.is_ascii());
                assert!(!host.iter().any(|byte| b"/\\?#@,;%\"' \t\r\n\0".contains(byte)), "{host:?}");
            }
            _ => panic!("two hosts: {hosts:?}"),
        }
        match route(&head) {
            Ok(route) => {
                let (path, known) = (head.path(), route.as_str());
                // The one other name of the probe, and those without the version.
                let names = [known, known.strip_prefix("/v1").unwrap_or(known), "/health/liveness"];
                assert!(names.contains(&path) && Route::of(path) == Some(route), "{path:?} is taken for {known}");
                assert!(route.allow().split(", ").any(|method| head.method == method));
                format!("{} {known}", head.method)
            }
            Err(error) => {
                let is_answered = |route: Route| route.allow().split(", ").any(|method| head.method == method);
                assert!(!Route::of(head.path()).is_some_and(is_answered), "{} {}", head.method, head.target);
                error.message.into_owned()
            }
        }
    });
}

/// What nobody refuses.
fn is_usual(head: &Head) -> bool {
    ["GET", "HEAD", "POST"].contains(&head.method.as_str()) && head.target.starts_with('/')
}
