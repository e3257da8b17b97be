//! A tap on a stream of events: finds usage and the end, and can take one event out.
//!
//! Works on bytes in any split (WHATWG HTML §9.2: lines end in LF, CR or CRLF, an event in an
//! empty line). JSON is parsed only in lines that name `"usage"`. Never fails and never changes a
//! byte but for the usage event that the gateway itself asked for.

mod opening;

use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memmem};
use serde::{Deserialize, de::IgnoredAny};

pub use self::opening::Opening;
use super::usage::{Usage, WireUsage};

/// Longest event that can be taken out: until its end an event is kept back and takes memory.
pub const STRIPPED_MAX: usize = 16 * 1024;

static USAGE: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"usage\""));
static FINISH_REASON: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"\"finish_reason\""));

/// What a stream has shown so far.
#[derive(Debug, Default)]
pub struct Tap {
    /// Whether to take out the usage event.
    strip: bool,
    /// Longest line that is looked into; longer ones pass.
    bytes_max: usize,
    /// The line that is not complete yet; only the first `bytes_max` bytes of it.
    line: Vec<u8>,
    line_bytes: usize,
    /// The last byte was a CR, so a LF now belongs to it.
    after_cr: bool,
    /// That CR ended an event that was taken out.
    after_cr_removed: bool,
    /// Bytes since the last event ended.
    event_bytes: usize,
    event_is_usage: bool,
    /// The event in progress, kept back while it may have to be taken out.
    held: Vec<u8>,
    usage: Option<Usage>,
    done: bool,
    finished: bool,
    errored: bool,
    unreadable: bool,
}

impl Tap {
    /// A tap that only looks, or one that also takes the usage event out; lines over `bytes_max` pass
    /// unread, and an event over [`STRIPPED_MAX`] stays.
    pub fn new(strip: bool, bytes_max: usize) -> Self {
        Self { strip, bytes_max, ..Self::default() }
    }

    /// The last usage seen.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Whether `data: [DONE]` has come.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the answer came to its own end: `[DONE]`, or a choice with a finish reason.
    pub fn is_complete(&self) -> bool {
        self.done || self.finished
    }

    /// Whether the provider reported an error inside the stream.
    pub fn has_error(&self) -> bool {
        self.errored
    }

    /// Whether an event that named usage could not be read.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Whether everything passed on so far was whole events, so that another may be added.
    pub fn at_event_boundary(&self) -> bool {
        self.event_bytes == self.held.len()
    }

    /// Takes the next bytes and gives those to pass on, which are the same unless one event has
    /// been taken out or is being kept back.
    pub fn feed(&mut self, chunk: &Bytes) -> Bytes {
        let mut out = Output::of(chunk);
        let mut at = 0;
        if self.after_cr && chunk.first() == Some(&b'\n') {
            at = 1;
            if self.event_bytes == 0 && self.after_cr_removed {
                out.skip(0, 1);
            } else if self.event_bytes > 0 {
                self.event_bytes += 1;
            }
        }
        if !chunk.is_empty() {
            self.after_cr = false;
        }
        // Where the event in progress starts in this chunk.
        let mut event_at = if self.event_bytes == 0 { at } else { 0 };
        while let Some((line_end, next)) = self.next_line(chunk, at) {
            let blank = self.end_line(chunk.get(at..line_end).unwrap_or_default());
            self.event_bytes += next - at;
            at = next;
            if blank {
                self.end_event(&mut out, event_at, at);
                event_at = at;
            }
        }
        self.partial_line(chunk.get(at..).unwrap_or_default());
        self.hold(&mut out, event_at);
        out.finish()
    }

    /// The end of the stream: gives what was kept back and looks at a last line without an end.
    pub fn finish(&mut self) -> Bytes {
        if !self.line.is_empty() && self.line_bytes <= self.bytes_max {
            let line = std::mem::take(&mut self.line);
            self.inspect(&line);
        }
        let held = std::mem::take(&mut self.held);
        if self.event_is_usage { Bytes::new() } else { held.into() }
    }

    /// The end of the line that starts or goes on at `from`, and where the next one starts.
    fn next_line(&mut self, chunk: &[u8], from: usize) -> Option<(usize, usize)> {
        let end = from + memchr2(b'\n', b'\r', chunk.get(from..)?)?;
        if chunk.get(end) == Some(&b'\n') {
            return Some((end, end + 1));
        }
        match chunk.get(end + 1) {
            Some(b'\n') => Some((end, end + 2)),
            Some(_) => Some((end, end + 1)),
            None => {
                self.after_cr = true;
                Some((end, end + 1))
            }
        }
    }

    /// Takes the rest of a line; says whether the line was empty.
    fn end_line(&mut self, rest: &[u8]) -> bool {
        let length = self.line_bytes + rest.len();
        if length <= self.bytes_max {
            if self.line.is_empty() {
                self.inspect(rest);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(rest);
                self.inspect(&line);
            }
        }
        self.line.clear();
        self.line_bytes = 0;
        length == 0
    }

    fn partial_line(&mut self, rest: &[u8]) {
        self.line_bytes += rest.len();
        self.event_bytes += rest.len();
        if self.line_bytes <= self.bytes_max {
            extend(&mut self.line, rest, self.bytes_max);
        } else {
            self.line = Vec::new();
        }
    }

    fn end_event(&mut self, out: &mut Output<'_>, from: usize, to: usize) {
        let remove = self.event_is_usage && self.strip && self.event_bytes <= STRIPPED_MAX;
        if remove {
            self.held.clear();
            out.skip(from, to);
        } else if !self.held.is_empty() {
            out.insert(from, &self.held);
            self.held.clear();
        }
        self.after_cr_removed = remove;
        self.event_bytes = 0;
        self.event_is_usage = false;
    }

    /// Keeps the unfinished event back while it may still have to be taken out.
    fn hold(&mut self, out: &mut Output<'_>, event_at: usize) {
        if !self.strip {
            return;
        }
        if self.event_bytes <= STRIPPED_MAX {
            extend(&mut self.held, out.chunk.get(event_at..).unwrap_or_default(), STRIPPED_MAX);
            out.cut(event_at);
        } else if !self.held.is_empty() {
            out.insert(event_at, &self.held);
            self.held = Vec::new();
        }
    }

    fn inspect(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let data = data.strip_prefix(b" ").unwrap_or(data);
        if data == b"[DONE]" {
            self.done = true;
        } else if data.starts_with(b"{\"error\":") && !data.starts_with(b"{\"error\":null") {
            self.errored = true;
        }
        if let Some(at) = FINISH_REASON.find(data) {
            let after = data.get(at + b"\"finish_reason\"".len()..).unwrap_or_default().trim_ascii_start();
            let value = after.strip_prefix(b":").unwrap_or_default().trim_ascii_start();
            self.finished |= value.starts_with(b"\"");
        }
        if let Some(at) = USAGE.find(data) {
            let after = data.get(at + b"\"usage\"".len()..).unwrap_or_default();
            // Chunks before the last carry "usage":null when usage was asked for.
            if !after.starts_with(b":null") || USAGE.find(after).is_some() {
                self.read_usage(data);
            }
        }
    }

    fn read_usage(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<UsageEvent>(data) else {
            self.unreadable = true;
            return;
        };
        let wire = event.usage.or(event.x_groq.and_then(|x_groq| x_groq.usage));
        let Some(wire) = wire else { return };
        match wire.resolve() {
            Some(usage) => self.usage = Some(usage),
            None => self.unreadable = true,
        }
        self.event_is_usage = event.choices.is_some_and(|choices| choices.is_empty());
    }
}

/// Appends a piece to what may become as long as `most`. What is more than little gets room for all of it at
/// once: pages that nobody has written to cost nothing, those of each size that it had before would.
fn extend(to: &mut Vec<u8>, piece: &[u8], most: usize) {
    const LITTLE: usize = 4 * 1024;
    let length = to.len() + piece.len();
    if length > LITTLE && length > to.capacity() {
        to.reserve_exact(most.max(length) - to.len());
    }
    to.extend_from_slice(piece);
}

/// The parts of an event that say whether it only reports usage.
#[derive(Deserialize)]
struct UsageEvent {
    usage: Option<WireUsage>,
    choices: Option<Vec<IgnoredAny>>,
    x_groq: Option<XGroq>,
}

#[derive(Deserialize)]
struct XGroq {
    usage: Option<WireUsage>,
}

/// A chunk on its way out: shared as it is until something in its middle has to be left out or
/// something put in.
struct Output<'a> {
    chunk: &'a Bytes,
    copied: Option<BytesMut>,
    /// Everything before it has been copied or left out.
    from: usize,
    /// Everything after it is left out.
    to: usize,
}

impl<'a> Output<'a> {
    fn of(chunk: &'a Bytes) -> Self {
        Self { chunk, copied: None, from: 0, to: chunk.len() }
    }

    /// Leaves out a part.
    fn skip(&mut self, from: usize, to: usize) {
        if self.copied.is_some() || from > self.from {
            self.copy_to(from);
        }
        self.from = to;
    }

    /// Leaves out everything from here on.
    fn cut(&mut self, at: usize) {
        self.to = at;
    }

    /// Puts bytes in.
    fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.copy_to(at);
        let room = bytes.len() + self.chunk.len() - at.min(self.chunk.len());
        self.copied.get_or_insert_with(|| BytesMut::with_capacity(room)).extend_from_slice(bytes);
        self.from = at;
    }

    fn copy_to(&mut self, to: usize) {
        let kept = self.chunk.get(self.from..to).unwrap_or_default();
        if kept.is_empty() {
            return;
        }
        self.copied.get_or_insert_default().extend_from_slice(kept);
    }

    fn finish(mut self) -> Bytes {
        if self.copied.is_some() {
            self.copy_to(self.to);
            return self.copied.unwrap_or_default().freeze();
        }
        self.chunk.slice(self.from.min(self.to)..self.to)
    }
}

#[cfg(test)]
mod tests;
