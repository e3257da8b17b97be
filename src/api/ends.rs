//! The two ends of a long text that is read in pieces: its usage stands at one of them.

/// The beginning and the end of what was fed, with one zero byte for what is missing between them, which
/// no JSON reaches across.
#[derive(Debug)]
pub struct Ends {
    /// How much is kept of each end.
    end_bytes: usize,
    kept: Vec<u8>,
}

impl Ends {
    /// So much of each end; up to three times that is kept as it is.
    pub fn of(end_bytes: usize) -> Self {
        Self { end_bytes, kept: Vec::new() }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let end_bytes = self.end_bytes;
        // The end may grow to twice its size, so that small pieces move it now and then only.
        if self.kept.len() + piece.len() <= 3 * end_bytes {
            self.kept.extend_from_slice(piece);
            return;
        }
        let (first, rest) = piece.split_at(end_bytes.saturating_sub(self.kept.len()).min(piece.len()));
        self.kept.extend_from_slice(first);
        let last = rest.get(rest.len().saturating_sub(end_bytes)..).unwrap_or_default();
        let end = (self.kept.len() + last.len()).saturating_sub(end_bytes).clamp(end_bytes, self.kept.len());
        self.kept.splice(end_bytes..end, [0]);
        self.kept.extend_from_slice(last);
    }

    /// Whether nothing was fed.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// What was kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_BYTES: usize = 16 * 1024;

    #[test]
    fn both_ends_of_any_length_in_any_pieces_are_kept() {
        for length in [0, 1, 50, END_BYTES, 2 * END_BYTES, 3 * END_BYTES, 3 * END_BYTES + 1, 10 * END_BYTES + 7] {
            let text: Vec<u8> = (0..length).map(|at| (at % 251) as u8 + 1).collect();
            for size in [1_000, 4_096, END_BYTES - 1, END_BYTES, 64 * 1024, 5 * END_BYTES, usize::MAX] {
                let mut ends = Ends::of(END_BYTES);
                for piece in text.chunks(size) {
                    ends.feed(piece);
                    assert!(ends.kept.len() <= 3 * END_BYTES + 1);
                }
                let kept = ends.as_bytes();
                match kept.iter().position(|byte| *byte == 0) {
                    None => assert_eq!(kept, text, "{length} in pieces of {size}"),
                    Some(gap) => {
                        assert_eq!(gap, END_BYTES);
                        assert!(text.len() > 3 * END_BYTES);
                        assert_eq!(kept[..gap], text[..gap]);
                        let end = &kept[gap + 1..];
                        assert!(end.len() >= END_BYTES && text.ends_with(end), "{length} in pieces of {size}");
                    }
                }
            }
        }
    }
}
