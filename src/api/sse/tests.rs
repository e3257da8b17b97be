//! The tap over captured streams, in every split.

use bytes::Bytes;
use proptest::prelude::*;

use super::Tap;

const EVENT_BYTES_MAX: usize = 64 * 1024;
use crate::api::usage::Usage;

const OPENAI: &str = concat!(
    "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a \\\"usage\\\" b\"},\"finish_reason\":null}],\"usage\":null}\n\n",
    "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
);
const USAGE_EVENT: &str = "data: {\"id\":\"c1\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32,\"total_tokens\":51}}\n\n";
const DONE: &str = "data: [DONE]\n\n";
const USAGE: Usage = Usage { input: 19, output: 32, cache_read: 0, cache_write: 0, reasoning: 0, cost_nanos: None };

fn run(stream: &[u8], strip: bool, cuts: &[usize]) -> (Vec<u8>, Tap) {
    let mut tap = Tap::new(strip, EVENT_BYTES_MAX);
    let mut out = Vec::new();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([stream.len()]) {
        let cut = cut.clamp(from, stream.len());
        out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(&stream[from..cut])));
        from = cut;
    }
    out.extend_from_slice(&tap.finish());
    (out, tap)
}

fn every_byte(stream: &[u8]) -> Vec<usize> {
    (1..stream.len()).collect()
}

#[test]
fn the_usage_event_alone_is_taken_out() {
    let stream = [OPENAI, USAGE_EVENT, DONE].concat();
    for cuts in [vec![], every_byte(stream.as_bytes())] {
        let (out, tap) = run(stream.as_bytes(), true, &cuts);
        assert_eq!(String::from_utf8(out).unwrap(), [OPENAI, DONE].concat());
        assert_eq!(tap.usage(), Some(USAGE));
        assert!(tap.is_done() && tap.is_complete() && tap.at_event_boundary());
    }
}

#[test]
fn without_stripping_nothing_is_held_back() {
    let stream = [OPENAI, USAGE_EVENT, DONE].concat();
    let mut tap = Tap::new(false, EVENT_BYTES_MAX);
    for byte in stream.as_bytes() {
        assert_eq!(tap.feed(&Bytes::copy_from_slice(&[*byte])).as_ref(), [*byte]);
    }
    assert_eq!(tap.usage(), Some(USAGE));
}

#[test]
fn a_chunk_that_needs_no_change_is_not_copied() {
    let chunk = Bytes::from([OPENAI, DONE].concat());
    let out = Tap::new(true, EVENT_BYTES_MAX).feed(&chunk);
    assert_eq!(out.as_ptr(), chunk.as_ptr());
    assert_eq!(out.len(), chunk.len());
}

#[test]
fn usage_beside_content_is_read_and_stays() {
    // LiteLLM's mock and vLLM's continuous_usage_stats put usage beside choices; the last counts.
    let stream = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":1}}\n\n",
        "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32}}\n\n",
        "data: [DONE]\n\n"
    );
    let (out, tap) = run(stream.as_bytes(), true, &[]);
    assert_eq!(out, stream.as_bytes());
    assert_eq!(tap.usage(), Some(USAGE));
}

#[test]
fn line_endings_comments_and_spelling() {
    #[rustfmt::skip]
    let cases: &[(&str, &str, Option<Usage>)] = &[
        // CRLF.
        ("data: {\"choices\":[{}]}\r\n\r\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32}}\r\n\r\ndata: [DONE]\r\n\r\n",
         "data: {\"choices\":[{}]}\r\n\r\ndata: [DONE]\r\n\r\n", Some(USAGE)),
        // Lone CR.
        ("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32}}\r\rdata: [DONE]\r\r", "data: [DONE]\r\r", Some(USAGE)),
        // OpenRouter's comments, before and between events.
        (": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32,\"cost\":0.1}}\n\ndata: [DONE]\n\n",
         ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: [DONE]\n\n", Some(Usage { cost_nanos: Some(100_000_000), ..USAGE })),
        // No space after the colon, keys in another order, white space in the JSON.
        ("data:{ \"usage\" : { \"completion_tokens\" : 32 , \"prompt_tokens\" : 19 } , \"choices\" : [ ] }\n\ndata:[DONE]\n\n", "data:[DONE]\n\n", Some(USAGE)),
        // Groq.
        ("data: {\"choices\":[{\"delta\":{}}],\"x_groq\":{\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32}}}\n\n",
         "data: {\"choices\":[{\"delta\":{}}],\"x_groq\":{\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":32}}}\n\n", Some(USAGE)),
        // The word in the text only.
        ("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":1\"}}]}\n\n", "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":1\"}}]}\n\n", None),
        // No line end after the last line.
        ("data: {\"choices\":[{}]}\n\ndata: [DONE]", "data: {\"choices\":[{}]}\n\ndata: [DONE]", None),
    ];
    for (stream, expected, usage) in cases {
        for cuts in [vec![], every_byte(stream.as_bytes())] {
            let (out, tap) = run(stream.as_bytes(), true, &cuts);
            assert_eq!(String::from_utf8(out).unwrap(), *expected);
            assert_eq!(tap.usage(), *usage, "{stream}");
        }
    }
}

#[test]
fn what_cannot_be_read_passes_and_is_said() {
    let stream = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":\n\n";
    let (out, tap) = run(stream.as_bytes(), true, &[]);
    assert_eq!(out, stream.as_bytes());
    assert!(tap.is_unreadable() && tap.usage().is_none());
}

#[test]
fn a_giant_event_passes_in_bounded_memory() {
    let giant =
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(3 * EVENT_BYTES_MAX));
    let stream = [&giant, USAGE_EVENT, DONE].concat();
    let mut tap = Tap::new(true, EVENT_BYTES_MAX);
    let mut out = Vec::new();
    for chunk in stream.as_bytes().chunks(1000) {
        out.extend_from_slice(&tap.feed(&Bytes::copy_from_slice(chunk)));
        assert!(tap.held.len() <= EVENT_BYTES_MAX && tap.line.len() <= EVENT_BYTES_MAX);
    }
    out.extend_from_slice(&tap.finish());
    assert_eq!(out, [&giant, DONE].concat().as_bytes());
    assert_eq!(tap.usage(), Some(USAGE));
}

#[test]
fn a_cut_stream_is_not_complete() {
    let (_, tap) = run(&OPENAI.as_bytes()[..OPENAI.find("finish_reason\":\"stop").unwrap()], true, &[]);
    assert!(!tap.is_complete());
    let (_, tap) = run(b"data: {\"error\":{\"message\":\"boom\"}}\n\n", false, &[]);
    assert!(tap.has_error() && !tap.is_complete());
}

fn piece() -> impl Strategy<Value = String> {
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r")];
    let line = prop_oneof![
        Just(": comment".to_owned()),
        Just("event: x".to_owned()),
        Just("data: [DONE]".to_owned()),
        Just(String::new()),
        "[a-z\"{}: ]{0,20}",
        (0_u64..50, 0_u64..50, any::<bool>()).prop_map(|(input, output, alone)| format!(
            "data: {{\"choices\":[{}],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output}}}}}",
            if alone { "" } else { "{}" }
        )),
    ];
    (line, end).prop_map(|(line, end)| line + end)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(
        pieces in prop::collection::vec(piece(), 0..20),
        mut cuts in prop::collection::vec(0_usize..400, 0..40),
        strip in any::<bool>(),
    ) {
        let stream = pieces.concat();
        cuts.sort_unstable();
        let (whole, one) = run(stream.as_bytes(), strip, &[]);
        let (split, many) = run(stream.as_bytes(), strip, &cuts);
        prop_assert_eq!(String::from_utf8(whole), String::from_utf8(split));
        prop_assert_eq!(one.usage(), many.usage());
        prop_assert_eq!(one.is_complete(), many.is_complete());
        if !strip {
            prop_assert_eq!(run(stream.as_bytes(), false, &cuts).0, stream.as_bytes());
        }
    }
}
