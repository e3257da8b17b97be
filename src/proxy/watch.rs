//! What is looked for in the bytes of an answer while they pass: usage, and the end of a stream.

use bytes::Bytes;

use crate::api::{
    ends::Ends,
    sse::Tap,
    usage::{self, Usage},
};

/// What is looked for in the bytes.
#[derive(Debug)]
pub(super) enum Watch {
    Events(Tap),
    Json(Json),
}

/// A JSON answer, whose usage is at its end, or with some providers at its beginning.
#[derive(Debug)]
pub(super) struct Json {
    /// Copied, for a piece would hold the block of memory that it was read into. Empty if all of the
    /// answer came at once.
    ends: Ends,
    usage: Option<Usage>,
}

impl Watch {
    pub(super) fn json(end_bytes: usize) -> Self {
        Self::Json(Json { ends: Ends::of(end_bytes), usage: None })
    }

    pub(super) fn feed(&mut self, data: Bytes, is_last: bool) -> Bytes {
        match self {
            Self::Events(tap) => tap.feed(&data),
            Self::Json(json) => {
                json.feed(&data, is_last);
                data
            }
        }
    }

    pub(super) fn finish(&mut self) -> Bytes {
        match self {
            Self::Events(tap) => tap.finish(),
            Self::Json(..) => Bytes::new(),
        }
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        match self {
            Self::Events(tap) => tap.usage(),
            Self::Json(json) => json.usage(),
        }
    }
}

impl Json {
    fn feed(&mut self, data: &[u8], is_last: bool) {
        if is_last && self.ends.is_empty() {
            self.usage = usage::from_json_end(data);
        } else {
            self.ends.feed(data);
        }
    }

    fn usage(&self) -> Option<Usage> {
        if self.ends.is_empty() { self.usage } else { usage::from_json_end(self.ends.as_bytes()) }
    }
}
