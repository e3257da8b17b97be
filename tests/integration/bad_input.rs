//! What clients send wrong: every row is a request and the exact answer.

use std::io::Write;

use crate::support::{Gateway, Provider, chat, client, client::KEY, eventually, gateway::KEYS, provider::json};

/// A row: its name, the request, the status, `error.code`, `error.param`, `error.message`.
type Row = (&'static str, Vec<u8>, u16, &'static str, Option<&'static str>, &'static str);

fn raw(head: &str, body: &[u8]) -> Vec<u8> {
    let mut request = head.replace('\n', "\r\n").into_bytes();
    request.extend_from_slice(b"\r\n\r\n");
    request.extend_from_slice(body);
    request
}

fn with_body(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\nHost: t\nAuthorization: Bearer {KEY}\nContent-Length: {}",
        body.len()
    );
    raw(&head, body)
}

fn with_headers(headers: &str) -> Vec<u8> {
    raw(&format!("POST /v1/chat/completions HTTP/1.1\nHost: t\n{headers}\nContent-Length: 13"), br#"{"model":"m"}"#)
}

fn with_line(line: &str) -> Vec<u8> {
    raw(&format!("{line}\nHost: t\nAuthorization: Bearer {KEY}"), b"")
}

const NO_KEY: &str = "no client key: send it as `Authorization: Bearer <key>` or as `x-api-key: <key>`";
const UNKNOWN_KEY: &str = "the client key is not known to this gateway";
const BEARER: &str = "the Authorization header has to be `Bearer <client key>`";
const TWO_KEYS: &str = "two different client keys in one request: send one, in one header";
const NO_PATH: &str =
    "no such path on this gateway; it serves /v1/chat/completions, /v1/completions, /v1/embeddings and /v1/models";
const BAD_METHOD: &str = "the method is none that this gateway knows; methods are written in capitals";
const BAD_HOST: &str = "the Host header is no host and port";
const BAD_CODING: &str = "the only Transfer-Encoding accepted is `chunked`, once";
const POST_ONLY: &str = "/v1/chat/completions answers POST only";
const TOO_LARGE: &str = "the request body is larger than 1024 bytes (`server.body_bytes_max`)";

#[rustfmt::skip]
fn body_rows() -> Vec<Row> {
    let b = |name, body: &[u8], code, param, message| (name, with_body(body), 400, code, param, message);
    vec![
        b("empty body", b"", "invalid_json", None, "the request body is not a JSON object: EOF while parsing a value at line 1 column 0"),
        b("not JSON", b"hello", "invalid_json", None, "the request body is not a JSON object: expected value at line 1 column 1"),
        b("an array", b"[]", "invalid_json", None, "the request body is not a JSON object: invalid type: sequence, expected a JSON object at line 1 column 0"),
        b("a string", b"\"m\"", "invalid_json", None, "the request body is not a JSON object: invalid type: string \"m\", expected a JSON object at line 1 column 3"),
        b("cut off", b"{\"model\":\"m\"", "invalid_json", None, "the request body is not a JSON object: EOF while parsing an object at line 1 column 12"),
        b("single quotes", b"{'model':'m'}", "invalid_json", None, "the request body is not a JSON object: key must be a string at line 1 column 2"),
        b("trailing comma", b"{\"model\":\"m\",}", "invalid_json", None, "the request body is not a JSON object: trailing comma at line 1 column 14"),
        b("two values", b"{\"model\":\"m\"}{}", "invalid_json", None, "the request body is not a JSON object: trailing characters at line 1 column 14"),
        b("not UTF-8", b"{\"model\":\"m\",\"x\":\"\xff\"}", "invalid_json", None, "the request body is not UTF-8: invalid byte at offset 18"),
        b("UTF-16", b"\xff\xfe{\0", "invalid_json", None, "the request body is not UTF-8: invalid byte at offset 0"),
        b("byte order mark", b"\xef\xbb\xbf{\"model\":\"m\"}", "invalid_json", None, "the request body starts with a byte order mark; send plain UTF-8"),
        b("a raw line break in a string", b"{\"model\":\"a\nb\"}", "invalid_json", None, "the request body is not a JSON object: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 11"),
        b("no model", b"{}", "invalid_field", Some("model"), "`model` is missing: name one of the models of GET /v1/models"),
        b("model null", b"{\"model\":null}", "invalid_field", Some("model"), "`model` has to be a string"),
        b("model a number", b"{\"model\":4}", "invalid_field", Some("model"), "`model` has to be a string"),
        b("model empty", b"{\"model\":\"\"}", "invalid_field", Some("model"), "`model` is empty: name one of the models of GET /v1/models"),
        b("model twice", b"{\"model\":\"m\",\"model\":\"other\"}", "duplicate_field", Some("model"), "`model` appears more than once in the request body; send it once"),
        b("model twice, escaped", b"{\"model\":\"m\",\"\\u006dodel\":\"other\"}", "duplicate_field", Some("model"), "`model` appears more than once in the request body; send it once"),
        b("stream twice", b"{\"model\":\"m\",\"stream\":true,\"stream\":false}", "duplicate_field", Some("stream"), "`stream` appears more than once in the request body; send it once"),
        b("stream a string", b"{\"model\":\"m\",\"stream\":\"true\"}", "invalid_field", Some("stream"), "`stream` has to be true or false"),
        b("stream a number", b"{\"model\":\"m\",\"stream\":1}", "invalid_field", Some("stream"), "`stream` has to be true or false"),
        b("stream_options a list", b"{\"model\":\"m\",\"stream_options\":[]}", "invalid_field", Some("stream_options"), "`stream_options` has to be an object"),
        b("stream_options twice", b"{\"model\":\"m\",\"stream_options\":{},\"stream_options\":{}}", "duplicate_field", Some("stream_options"), "`stream_options` appears more than once in the request body; send it once"),
        b("include_usage twice", b"{\"model\":\"m\",\"stream_options\":{\"include_usage\":true,\"include_usage\":false}}", "duplicate_field", Some("stream_options"), "`stream_options.include_usage` appears more than once; send it once"),
        b("include_usage a string", b"{\"model\":\"m\",\"stream_options\":{\"include_usage\":\"yes\"}}", "invalid_field", Some("stream_options"), "`stream_options.include_usage` has to be true or false"),
        ("too deep", with_body(format!("{{\"model\":\"m\",\"x\":{}{}}}", "[".repeat(129), "]".repeat(129)).as_bytes()), 400, "invalid_json", None, "the request body is nested deeper than 128 levels"),
        ("model of 257 bytes", with_body(format!("{{\"model\":\"{}\"}}", "m".repeat(257)).as_bytes()), 400, "invalid_field", Some("model"), "`model` is 257 bytes long; the limit is 256"),
        ("unknown model", with_body(b"{\"model\":\"gpt-9\"}"), 404, "model_not_found", Some("model"), "model \"gpt-9\" is not configured; GET /v1/models lists what this key may use"),
        ("unknown model with control bytes", with_body(b"{\"model\":\"a\\r\\n\\u001b[31m\"}"), 404, "model_not_found", Some("model"), "model \"a\\r\\n\\u{1b}[31m\" is not configured; GET /v1/models lists what this key may use"),
        ("model in other letters", with_body(b"{\"model\":\"M\"}"), 404, "model_not_found", Some("model"), "model \"M\" is not configured; GET /v1/models lists what this key may use"),
    ]
}

#[rustfmt::skip]
fn head_rows() -> Vec<Row> {
    let chat = "POST /v1/chat/completions HTTP/1.1";
    let auth = format!("Authorization: Bearer {KEY}");
    vec![
        ("no key", with_headers("X-Other: 1"), 401, "missing_api_key", None, NO_KEY),
        ("empty x-api-key", with_headers("x-api-key: "), 401, "missing_api_key", None, NO_KEY),
        ("unknown key", with_headers("Authorization: Bearer nobody"), 401, "invalid_api_key", None, UNKNOWN_KEY),
        ("the provider's key", with_headers("Authorization: Bearer sk-upstream-0"), 401, "invalid_api_key", None, UNKNOWN_KEY),
        ("a part of the key", with_headers(&format!("x-api-key: {}", &KEY[..KEY.len() - 1])), 401, "invalid_api_key", None, UNKNOWN_KEY),
        ("Basic", with_headers("Authorization: Basic dTpw"), 401, "invalid_api_key", None, BEARER),
        ("no scheme", with_headers(&format!("Authorization: {KEY}")), 401, "invalid_api_key", None, BEARER),
        ("two different keys", with_headers(&format!("{auth}\nx-api-key: other")), 400, "conflicting_api_keys", None, TWO_KEYS),
        ("two different keys in one kind of header", with_headers(&format!("{auth}\nAuthorization: Bearer other")), 400, "conflicting_api_keys", None, TWO_KEYS),
        ("two keys, the right one second", with_headers(&format!("api-key: other\nx-goog-api-key: {KEY}")), 400, "conflicting_api_keys", None, TWO_KEYS),
        ("GET on chat", with_line("GET /v1/chat/completions HTTP/1.1"), 405, "method_not_allowed", None, POST_ONLY),
        ("PUT on chat", with_line("PUT /chat/completions HTTP/1.1"), 405, "method_not_allowed", None, POST_ONLY),
        ("lower-case method", with_line("post /v1/chat/completions HTTP/1.1"), 405, "method_refused", None, BAD_METHOD),
        ("TRACE", with_line("TRACE /v1/models HTTP/1.1"), 405, "method_refused", None, BAD_METHOD),
        ("the preface of HTTP/2 in pieces", with_line("PRI /v1/models HTTP/1.1"), 405, "method_refused", None, BAD_METHOD),
        ("POST on models", raw(&format!("POST /v1/models HTTP/1.1\nHost: t\n{auth}\nContent-Length: 0"), b""), 405, "method_not_allowed", None, "/v1/models answers GET, HEAD only"),
        ("POST on a probe", raw("POST /healthz HTTP/1.1\nHost: t\nContent-Length: 0", b""), 405, "method_not_allowed", None, "/healthz answers GET, HEAD only"),
        ("unknown path", with_line("GET /v1/nothing HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("trailing slash", with_line("POST /v1/chat/completions/ HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("double slash", with_line("POST //v1/chat/completions HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("dot segments", with_line("POST /v1/../v1/chat/completions HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("encoded slash", with_line("POST /v1%2fchat/completions HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("metrics", with_line("GET /metrics HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("OPTIONS *", with_line("OPTIONS * HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("no Host", raw(&format!("{chat}\n{auth}\nContent-Length: 0"), b""), 400, "invalid_request_head", None, "the Host header is missing"),
        ("two Hosts", raw(&format!("{chat}\nHost: a\nHost: b\n{auth}\nContent-Length: 0"), b""), 400, "invalid_request_head", None, "there is more than one Host header"),
        ("absolute form", with_line("POST http://169.254.169.254/v1/chat/completions HTTP/1.1"), 400, "invalid_request_head", None, "the request target has to be a path, not a URL: this is not a forward proxy"),
        ("CONNECT", with_line("CONNECT 127.0.0.1:22 HTTP/1.1"), 405, "method_refused", None, BAD_METHOD),
        ("a long target", with_line(&format!("POST /v1/chat/completions?{} HTTP/1.1", "q".repeat(4100))), 414, "request_target_too_long", None, "the request target is over 4096 bytes (`server.max_target_bytes`)"),
        ("a Host with a path", raw(&format!("{chat}\nHost: t/v1\n{auth}\nContent-Length: 0"), b""), 400, "invalid_request_head", None, BAD_HOST),
        ("a Host with a user", raw(&format!("{chat}\nHost: u@t\n{auth}\nContent-Length: 0"), b""), 400, "invalid_request_head", None, BAD_HOST),
        ("a Host of two names", raw(&format!("{chat}\nHost: a b\n{auth}\nContent-Length: 0"), b""), 400, "invalid_request_head", None, BAD_HOST),
        ("an empty Host", raw(&format!("{chat}\nHost:\n{auth}\nContent-Length: 0"), b""), 400, "invalid_request_head", None, BAD_HOST),
        ("a backslash", with_line("POST /v1\\chat/completions HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("an encoded zero", with_line("POST /v1/chat/completions%00 HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("raw UTF-8", with_line("POST /v1/chat/completions\u{e9} HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("dot segments to the admin", with_line("GET /v1/../admin HTTP/1.1"), 404, "unknown_route", None, NO_PATH),
        ("another expectation", with_headers(&format!("{auth}\nExpect: 100-continue, x")), 417, "expectation_failed", None, "the only expectation that can be met is 100-continue"),
        ("chunked twice", with_headers_chunked("chunked\nTransfer-Encoding: chunked"), 400, "invalid_request_head", None, BAD_CODING),
        ("chunked, chunked", with_headers_chunked("chunked, chunked"), 400, "invalid_request_head", None, BAD_CODING),
        ("chunked and a tab", with_headers_chunked("chunked,\t"), 400, "invalid_request_head", None, BAD_CODING),
        ("xchunked", with_headers_chunked("xchunked"), 400, "invalid_request_head", None, BAD_CODING),
        ("identity", with_headers_chunked("identity"), 400, "invalid_request_head", None, BAD_CODING),
        ("a length and chunks", with_headers(&format!("{auth}\nTransfer-Encoding: chunked")), 400, "invalid_request_head", None, "the request head is ambiguous: it has both Transfer-Encoding and Content-Length"),
        ("a signed length", raw(&format!("{chat}\nHost: t\n{auth}\nContent-Length: +1"), b"x"), 400, "invalid_request_head", None, "Content-Length is no number"),
        ("a list of lengths", raw(&format!("{chat}\nHost: t\n{auth}\nContent-Length: 1, 1"), b"x"), 400, "invalid_request_head", None, "Content-Length is no number"),
        ("a coding behind none", with_headers(&format!("{auth}\nContent-Encoding: identity\nContent-Encoding: gzip")), 415, "unsupported_content_encoding", None, "the request body is compressed; send it without Content-Encoding"),
        ("gzip, chunked", with_headers_chunked("gzip, chunked"), 400, "invalid_request_head", None, BAD_CODING),
        ("compressed body", with_headers(&format!("{auth}\nContent-Encoding: gzip")), 415, "unsupported_content_encoding", None, "the request body is compressed; send it without Content-Encoding"),
        ("announced too large", raw(&format!("{chat}\nHost: t\n{auth}\nContent-Length: 1025"), b""), 413, "request_too_large", None, TOO_LARGE),
        ("announced far too large", raw(&format!("{chat}\nHost: t\n{auth}\nContent-Length: 99999999999999"), b""), 413, "request_too_large", None, TOO_LARGE),
        ("too large in chunks", raw(&format!("{chat}\nHost: t\n{auth}\nTransfer-Encoding: chunked"), format!("400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(1024)).as_bytes()), 413, "request_too_large", None, TOO_LARGE),
        ("a chunk larger than everything", raw(&format!("{chat}\nHost: t\n{auth}\nTransfer-Encoding: chunked"), b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), 400, "incomplete_body", None, "the request body ended early or its chunked framing is broken"),
        ("broken chunk size", raw(&format!("{chat}\nHost: t\n{auth}\nTransfer-Encoding: chunked"), b"0x5\r\nhello\r\n0\r\n\r\n"), 400, "incomplete_body", None, "the request body ended early or its chunked framing is broken"),
        ("a body that stalls", raw(&format!("{chat}\nHost: t\n{auth}\nContent-Length: 20"), b"{\"model\":"), 408, "request_body_timeout", None, "the request body stalled for 1 s"),
    ]
}

fn with_headers_chunked(encoding: &str) -> Vec<u8> {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\nHost: t\nAuthorization: Bearer {KEY}\nTransfer-Encoding: {encoding}"
    );
    raw(&head, b"0\r\n\r\n")
}

#[test]
fn every_wrong_request_gets_its_exact_answer() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::run(&format!(
        "[server]\nthreads = 1\nbody_bytes_max = 1024\nbody_timeout = \"1s\"\n[providers.p]\nbase_url = \"http://{}/v1\"\napi_key = \"sk-upstream-0\"\n\
         [models.m]\ndeployments = [{{ provider = \"p\" }}]\n{KEYS}",
        provider.address
    ));
    let rows: Vec<Row> = body_rows().into_iter().chain(head_rows()).collect();
    assert!(rows.len() >= 40, "only {} rows", rows.len());
    let mut failures = Vec::new();
    for (name, request, status, code, param, message) in &rows {
        let reply = client::send(gateway.address, request);
        let class = match status {
            401 | 403 => "authentication_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let expected = serde_json::json!({"error": {"message": message, "type": class, "param": param, "code": code}});
        let got: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let retry = if *status == 408 { "true" } else { "false" };
        if reply.status != *status || got != expected || reply.header("x-should-retry") != Some(retry) {
            failures.push(format!(
                "{name}: expected {status} {expected}, got {} {:?} {}",
                reply.status,
                reply.headers,
                reply.text()
            ));
        }
        assert!(reply.header("x-request-id").is_some(), "{name}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(provider.received().is_empty(), "a wrong request reached the provider");
    // It loses nothing: every one is counted, and the gateway serves on.
    eventually("every error is counted", || gateway.metric("tollgate.errors", &[]) == rows.len() as f64);
    assert_eq!(chat(gateway.address, r#"{"model":"m"}"#).status, 200);
}

#[test]
fn what_is_no_http_at_all_is_refused_and_hurts_nobody() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::over(&[provider.address], "");
    let many_headers = format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "a: b\r\n".repeat(200));
    let long_header = format!("GET / HTTP/1.1\r\nHost: t\r\na: {}\r\n\r\n", "b".repeat(100 * 1024));
    let cases: [(&str, &[u8], &[u16]); 9] = [
        ("noise", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", &[400]),
        ("HTTP/0.9", b"GET /\r\n\r\n", &[400]),
        ("HTTP/3.0", b"GET / HTTP/3.0\r\nHost: t\r\n\r\n", &[400]),
        ("NUL in a header", b"GET / HTTP/1.1\r\nHost: t\r\na: \0\r\n\r\n", &[400]),
        ("space before the colon", b"GET / HTTP/1.1\r\nHost : t\r\n\r\n", &[400]),
        ("folded header", b"GET / HTTP/1.1\r\nHost: t\r\na: b\r\n c\r\n\r\n", &[400]),
        ("two lengths", b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", &[400]),
        ("200 headers", many_headers.as_bytes(), &[431]),
        ("100 KiB of header", long_header.as_bytes(), &[431]),
    ];
    for (name, request, statuses) in cases {
        let mut socket = client::connect(gateway.address);
        let _refused = socket.write_all(request).is_err();
        let reply = client::read_reply(&mut socket, false);
        assert!(statuses.contains(&reply.status), "{name}: {}", reply.status);
    }
    assert_eq!(chat(gateway.address, r#"{"model":"m"}"#).status, 200);
}

#[test]
fn a_refused_request_leaves_its_connection_usable() {
    let provider = Provider::answering(json("200 OK", "{}"));
    let gateway = Gateway::over(&[provider.address], "");
    let length = 40_000;
    for (name, line, status) in [
        ("wrong key", "POST /v1/chat/completions", 401),
        ("no such path", "POST /v1/nothing", 404),
        ("wrong method", "PUT /v1/chat/completions", 405),
    ] {
        let mut socket = client::connect(gateway.address);
        let head = format!("{line} HTTP/1.1\r\nHost: t\r\nx-api-key: wrong\r\nContent-Length: {length}\r\n\r\n");
        socket.write_all(head.as_bytes()).unwrap();
        // The gateway has the head, and in a segment of its own comes the body, as SDKs send it.
        eventually("the request is seen", || gateway.metric("http.server.active_requests", &[]) == 1.0);
        socket.write_all(&vec![b' '; length]).unwrap();
        let reply = client::read_reply(&mut socket, false);
        assert_eq!((reply.status, reply.header("connection")), (status, None), "{name}");
        socket.write_all(&client::post_bytes("/v1/chat/completions", r#"{"model":"m"}"#)).unwrap();
        assert_eq!(client::read_reply(&mut socket, false).status, 200, "{name}");
    }
}

#[test]
fn a_refused_body_that_is_large_slow_or_waited_for_is_not_read() {
    let gateway = Gateway::over(&[Provider::absent()], "");
    for (name, headers) in [
        ("large", "Content-Length: 70000"),
        ("slow", "Content-Length: 10"),
        ("waited for", "Content-Length: 10\r\nExpect: 100-continue"),
    ] {
        let request = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nx-api-key: wrong\r\n{headers}\r\n\r\n");
        let reply = client::send(gateway.address, request.as_bytes());
        assert_eq!((reply.status, reply.header("connection")), (401, Some("close")), "{name}");
        assert_eq!(reply.header("x-saw-continue"), None, "{name}");
    }
}
