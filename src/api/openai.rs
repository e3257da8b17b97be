//! Bodies that the gateway makes itself, in the OpenAI shape.

use super::error::Error;

/// `{"error":{…}}`, as the OpenAI API documents it.
pub fn error_body(error: &Error) -> Vec<u8> {
    let face = error.kind.face();
    let error_class = match face.status {
        401 | 403 => "authentication_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let body = serde_json::json!({"error": {
        "message": error.message,
        "type": error_class,
        "param": error.param,
        "code": face.code,
    }});
    body.to_string().into_bytes()
}

/// The same as an event of a stream that has already begun.
pub fn error_event(error: &Error) -> Vec<u8> {
    let mut event = b"data: ".to_vec();
    event.extend_from_slice(&error_body(error));
    event.extend_from_slice(b"\n\n");
    event
}

/// The answer of `GET /v1/models`.
pub fn model_list<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let data: Vec<_> = names
        .map(|name| serde_json::json!({"id": name, "object": "model", "created": 0, "owned_by": "tollgate"}))
        .collect();
    serde_json::json!({"object": "list", "data": data}).to_string().into_bytes()
}
