//! The built-in provider: answers with the words it was asked, and with usage that is true.
//!
//! For the demo, smoke tests and load tests. It is treated as any provider: its bytes pass the
//! same taps, and its tokens (words) are counted by the same code.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Sleep;

use crate::{
    api::operation::Operation,
    http_client::Watchdog,
    message::{Headers, Response},
};

/// Words in an answer; longer questions are cut.
const WORDS_MAX: usize = 512;

/// The parts of a request that are echoed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    model: String,
    messages: Vec<Message>,
    prompt: Value,
    input: Value,
    stream: Option<bool>,
    stream_options: Option<Options>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    role: String,
    content: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    include_usage: Option<bool>,
}

/// The rest of an answer, one event at a time.
#[derive(Debug)]
pub(super) struct EchoBody {
    events: std::vec::IntoIter<Bytes>,
    delay: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    watchdog: Watchdog,
}

impl EchoBody {
    /// Ready once `deadline` has passed.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.watchdog.poll(cx, deadline)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let event = self.events.next();
        if event.is_some() && !self.delay.is_zero() && self.events.len() > 0 {
            self.pause = Some(Box::pin(tokio::time::sleep(self.delay)));
        }
        Poll::Ready(event)
    }
}

/// Answers one request.
pub(super) fn answer(operation: Operation, body: &[u8], delay: Duration) -> Response<EchoBody> {
    // The body is JSON; fields of other types than expected count as empty.
    let asked: Asked = serde_json::from_slice(body).unwrap_or_default();
    let stream = asked.stream.unwrap_or_default() && operation.can_stream();
    let events = match operation {
        Operation::Embeddings => vec![embeddings(&asked)],
        Operation::Chat | Operation::TextCompletion if stream => events(operation, &asked),
        Operation::Chat | Operation::TextCompletion => vec![whole(operation, &asked)],
    };
    let content_type = if stream { "text/event-stream" } else { "application/json" };
    let body = EchoBody { events: events.into_iter(), delay, pause: None, watchdog: Watchdog::default() };
    let mut headers = Headers::default();
    headers.push("content-type", content_type.as_bytes());
    Response { status: StatusCode::OK, headers, body }
}

fn events(operation: Operation, asked: &Asked) -> Vec<Bytes> {
    let words = answer_words(operation, asked);
    let output = words.len();
    let chunk = |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": "echo", "object": object(operation, true), "created": 0, "model": asked.model, "choices": choices,
        });
        if let (Some(usage), Some(chunk)) = (usage, chunk.as_object_mut()) {
            chunk.insert("usage".into(), usage);
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let mut events = Vec::with_capacity(output + 4);
    if operation == Operation::Chat {
        let role = json!([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]);
        events.push(chunk(role, None));
    }
    for (place, word) in words.into_iter().enumerate() {
        let text = if place == 0 { word } else { format!(" {word}") };
        let choice = match operation {
            Operation::Chat => json!([{"index": 0, "delta": {"content": text}, "finish_reason": null}]),
            _ => json!([{"index": 0, "text": text, "finish_reason": null}]),
        };
        events.push(chunk(choice, None));
    }
    let last = match operation {
        Operation::Chat => json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        _ => json!([{"index": 0, "text": "", "finish_reason": "stop"}]),
    };
    events.push(chunk(last, None));
    if asked.stream_options.as_ref().is_some_and(|options| options.include_usage == Some(true)) {
        events.push(chunk(json!([]), Some(usage(input_tokens(asked), output))));
    }
    events.push(Bytes::from_static(b"data: [DONE]\n\n"));
    events
}

fn whole(operation: Operation, asked: &Asked) -> Bytes {
    let words = answer_words(operation, asked);
    let usage = usage(input_tokens(asked), words.len());
    let text = words.join(" ");
    let choice = match operation {
        Operation::Chat => {
            json!({"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"})
        }
        _ => json!({"index": 0, "text": text, "finish_reason": "stop"}),
    };
    let answer = json!({
        "id": "echo", "object": object(operation, false), "created": 0, "model": asked.model,
        "choices": [choice], "usage": usage,
    });
    answer.to_string().into()
}

fn embeddings(asked: &Asked) -> Bytes {
    let texts = match &asked.input {
        Value::Array(texts) => texts.clone(),
        one => vec![one.clone()],
    };
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            // A vector that depends on the text and on nothing else.
            let length = text_of(text).len() as f64;
            json!({"object": "embedding", "index": index, "embedding": [length, length / 2.0, 1.0]})
        })
        .collect();
    let input: usize = texts.iter().map(|text| text_of(text).split_whitespace().count()).sum();
    let usage = json!({"prompt_tokens": input, "total_tokens": input});
    json!({"object": "list", "data": data, "model": asked.model, "usage": usage}).to_string().into()
}

fn object(operation: Operation, stream: bool) -> &'static str {
    match (operation, stream) {
        (Operation::Chat, true) => "chat.completion.chunk",
        (Operation::Chat, false) => "chat.completion",
        _ => "text_completion",
    }
}

fn usage(input: usize, output: usize) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

fn answer_words(operation: Operation, asked: &Asked) -> Vec<String> {
    let text = match operation {
        Operation::Chat => {
            let last = asked.messages.iter().rfind(|message| message.role == "user");
            last.map(|message| text_of(&message.content)).unwrap_or_default()
        }
        _ => text_of(&asked.prompt),
    };
    text.split_whitespace().take(WORDS_MAX).map(str::to_owned).collect()
}

fn input_tokens(asked: &Asked) -> usize {
    let messages = asked.messages.iter().map(|message| text_of(&message.content));
    messages.chain([text_of(&asked.prompt)]).map(|text| text.split_whitespace().count()).sum()
}

/// The text of a message's content, which is a string or a list of parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str()));
            texts.collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}
