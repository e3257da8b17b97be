//! gRPC by the byte: frames, statuses, details, times.

use super::*;
use crate::proto::opentelemetry::proto::collector::metrics::v1::ExportMetricsPartialSuccess;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

/// An answer as gRPC servers give it.
fn reply(body: &[u8], trailers: &[(&'static str, &str)]) -> Reply {
    Reply {
        status: StatusCode::OK,
        headers: headers(&[("content-type", "application/grpc+proto")]),
        body: body.to_vec(),
        is_cut_off: false,
        trailers: headers(trailers),
    }
}

fn refused(code: Code, retry_after: Option<Duration>, text: &str) -> Answer {
    Answer::RefusedGrpc { code, retry_after, text: text.into() }
}

fn answer(reply: &Reply) -> Answer {
    read(reply, &Redactor::default())
}

fn not_otlp(what: &'static str) -> Answer {
    Answer::Failed(Failure::NotOtlp(what))
}

fn encode(status: &Status) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = status.encode_to_vec();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().chain([0; 2].iter()).take(3).fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

#[test]
fn a_message_has_a_flag_and_its_length_in_front() {
    assert_eq!(frame(b"", false).unwrap(), &b"\0\0\0\0\0"[..]);
    assert_eq!(frame(b"abc", true).unwrap(), &b"\x01\0\0\0\x03abc"[..]);
    assert_eq!(frame(&[7; 300], false).unwrap()[..6], [0, 0, 0, 1, 44, 7]);
}

#[test]
fn a_unary_answer_has_one_message() {
    for (body, expected) in [
        (&b"\0\0\0\0\0"[..], Ok(&b""[..])),
        (b"\0\0\0\0\x02ab", Ok(b"ab")),
        (b"", Err("no message")),
        (b"\0\0\0", Err("half a message")),
        (b"\0\0\0\0\x03ab", Err("half a message")),
        (b"\0\xff\xff\xff\xffab", Err("half a message")),
        (b"\0\0\0\0\x01ab", Err("more than one message")),
        (b"\0\0\0\0\0\0\0\0\0\0", Err("more than one message")),
        (b"\x01\0\0\0\x02ab", Err("a compressed message, which it was not asked for")),
        (b"HTTP/1.1 200", Err("something that is not gRPC")),
    ] {
        assert_eq!(message(body), expected, "{body:?}");
        let whole = expected.map_or_else(not_otlp, |_| Answer::Accepted);
        assert_eq!(answer(&reply(body, &[("grpc-status", "0")])), whole, "{body:?}");
    }
}

#[test]
fn a_partial_success_is_read() {
    let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points: 3, error_message: "old".into() });
    let message = ExportMetricsServiceResponse { partial_success }.encode_to_vec();
    let read = answer(&reply(&frame(&message, false).unwrap(), &[("grpc-status", "0")]));
    assert_eq!(read, Answer::Partial { rejected: 3, message: "old".into() });
    let undecodable = reply(&frame(b"\xff\xff", false).unwrap(), &[("grpc-status", "0")]);
    assert_eq!(answer(&undecodable), Answer::Accepted, "it said that it took everything");
}

#[test]
fn every_code_has_its_name_and_its_number() {
    for (place, code) in Code::ALL.into_iter().enumerate() {
        assert_eq!(code as usize, place + 1);
        let status = (place + 1).to_string();
        assert_eq!(answer(&reply(b"", &[("grpc-status", &status)])), refused(code, None, ""));
        let spelled = format!("{code:?}").to_uppercase();
        assert_eq!(code.as_str().replace('_', ""), spelled);
    }
    for odd in ["17", "-1", "OK", "", "99999999999999999999999"] {
        assert_eq!(answer(&reply(b"", &[("grpc-status", odd)])), refused(Code::Unknown, None, ""), "{odd:?}");
    }
}

#[test]
fn the_status_is_in_the_trailers_or_in_the_head() {
    let only = Reply {
        headers: headers(&[
            ("content-type", "application/grpc"),
            ("grpc-status", "12"),
            ("grpc-message", "unknown service %e2%82%ac%0a"),
        ]),
        ..reply(b"", &[])
    };
    assert_eq!(answer(&only), refused(Code::Unimplemented, None, "unknown service €"));
    // The text of a receiver is a stranger's also here.
    let redactor = Redactor::new([crate::config::Secret::new("Bearer s3cr3t")].iter());
    let echo = reply(b"", &[("grpc-status", "16"), ("grpc-message", "no such token s3cr%33t")]);
    assert_eq!(read(&echo, &redactor), refused(Code::Unauthenticated, None, "no such token ***"));
}

#[test]
fn an_answer_without_a_status_is_judged_by_http() {
    let http = |status: u16, content_type: &str, body: &str| {
        let head = headers(&[("content-type", content_type)]);
        let status = StatusCode::from_u16(status).unwrap();
        answer(&Reply { status, headers: head, body: body.into(), is_cut_off: false, trailers: HeaderMap::new() })
    };
    for (status, code) in [
        (400, Code::Internal),
        (401, Code::Unauthenticated),
        (403, Code::PermissionDenied),
        (404, Code::Unimplemented),
        (405, Code::Unknown),
        (429, Code::Unavailable),
        (500, Code::Unknown),
        (502, Code::Unavailable),
        (503, Code::Unavailable),
        (504, Code::Unavailable),
        (302, Code::Unknown),
    ] {
        let text = format!("HTTP {status}: no luck");
        assert_eq!(http(status, "text/plain", "no luck\n"), refused(code, None, &text));
    }
    assert_eq!(http(503, "application/grpc", ""), refused(Code::Unavailable, None, "HTTP 503"));
    assert_eq!(http(200, "application/grpc", ""), not_otlp("no gRPC status"));
    assert_eq!(http(200, "text/html; charset=utf-8", "<html>"), not_otlp("an HTML page"));
    assert_eq!(http(200, "application/json", "{}"), not_otlp("something that is not gRPC"));
    assert_eq!(http(200, "", ""), not_otlp("something that is not gRPC"));
    let cut_off = Reply { is_cut_off: true, ..reply(b"\0\0\xff\xff\xff", &[]) };
    assert_eq!(answer(&cut_off), not_otlp("more than 64 KiB"));
}

#[test]
fn a_retry_info_is_found_among_the_details() {
    let retry = |delay: Option<(i64, i32)>| {
        let retry_delay = delay.map(|(seconds, nanos)| Delay { seconds, nanos });
        let value = RetryInfo { retry_delay }.encode_to_vec();
        let other = Any { type_url: "type.googleapis.com/google.rpc.DebugInfo".into(), value: b"\xff".to_vec() };
        let info = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value };
        let status = Status { code: 8, message: "slow down".into(), details: vec![other, info] };
        answer(&reply(b"", &[("grpc-status", "8"), ("grpc-status-details-bin", &encode(&status))]))
    };
    let after = |millis| refused(Code::ResourceExhausted, Some(Duration::from_millis(millis)), "slow down");
    assert_eq!(retry(Some((1, 500_000_000))), after(1_500));
    assert_eq!(retry(Some((0, 0))), after(0));
    assert_eq!(retry(None), after(0));
    assert_eq!(retry(Some((-5, -1))), after(0));
    assert_eq!(retry(Some((i64::MAX, i32::MAX))), after(300_000), "capped");
    for garbage in ["!!", "AAA=A", "/////w", ""] {
        let answer = answer(&reply(b"", &[("grpc-status", "8"), ("grpc-status-details-bin", garbage)]));
        assert_eq!(answer, refused(Code::ResourceExhausted, None, ""), "{garbage}");
    }
}

#[test]
fn base64_is_read_with_padding_and_without() {
    for (text, bytes) in [
        ("", &b""[..]),
        ("Zg", b"f"),
        ("Zg==", b"f"),
        ("Zm8", b"fo"),
        ("Zm8=", b"fo"),
        ("Zm9v", b"foo"),
        ("Zm9vYmE=", b"fooba"),
        ("Zm9vYmFy", b"foobar"),
        ("+/+/", b"\xfb\xff\xbf"),
    ] {
        assert_eq!(base64(text.as_bytes()).as_deref(), Some(bytes), "{text}");
    }
    for wrong in ["Z", "Zm9vY", "Zg=", "Zg===", "====", "=", "Z g=", "Zm-_", "Zm8=Zm8="] {
        assert_eq!(base64(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn percent_encoding_is_undone_where_there_is_any() {
    for (text, decoded) in [
        ("plain", "plain"),
        ("100%25 %E2%82%ac", "100% €"),
        ("%", "%"),
        ("%4", "%4"),
        ("%zz%41", "%zzA"),
        ("%+1", "%+1"),
        ("a+b", "a+b"),
    ] {
        assert_eq!(percent_decode(text.as_bytes()), decoded.as_bytes(), "{text}");
    }
    assert_eq!(percent_decode(b"%ff"), [0xff]);
}

#[test]
fn a_timeout_has_at_most_eight_digits() {
    for (limit, text) in [
        (Duration::ZERO, "1u"),
        (Duration::from_nanos(1), "1u"),
        (Duration::from_secs(10), "10000000u"),
        (Duration::from_micros(99_999_999), "99999999u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(600), "600000m"),
        (Duration::from_secs(86_400), "86400000m"),
        (Duration::from_millis(100_000_001), "100001S"),
        (Duration::from_secs(99_999_999), "99999999S"),
        (Duration::MAX, "99999999S"),
    ] {
        assert_eq!(timeout(limit), text, "{limit:?}");
    }
}

#[test]
fn resets_stand_for_codes() {
    for (reset, code) in [
        (0x0, Code::Internal),
        (0x1, Code::Internal),
        (0x2, Code::Internal),
        (0x5, Code::Unknown),
        (0x7, Code::Unavailable),
        (0x8, Code::Cancelled),
        (0xb, Code::ResourceExhausted),
        (0xc, Code::PermissionDenied),
        (0xffff, Code::Internal),
    ] {
        assert_eq!(Code::of_reset(reset), code, "{reset}");
    }
}
