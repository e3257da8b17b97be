//! The few protobuf wire types that OTLP metrics need, written straight into a buffer.
//!
//! Owns the encoding rules (protobuf.dev, "Encoding") and nothing of OTLP's meaning.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

/// An integer, enum or bool field; 0 is the default and is left out.
pub(super) fn integer(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        integer_always(out, field, value);
    }
}

/// An integer field inside a `oneof`, where 0 must be written.
pub(super) fn integer_always(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    varint(out, value);
}

/// A `fixed64`, `sfixed64` or `double` field by its bits, written even when 0.
pub(super) fn fixed64(out: &mut Vec<u8>, field: u32, bits: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&bits.to_le_bytes());
}

/// A string, bytes or message field.
pub(super) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// A packed repeated `fixed64` or `double` field.
pub(super) fn packed_fixed64(out: &mut Vec<u8>, field: u32, bits: impl ExactSizeIterator<Item = u64>) {
    tag(out, field, BYTES);
    varint(out, 8 * bits.len() as u64);
    for value in bits {
        out.extend_from_slice(&value.to_le_bytes());
    }
}

/// A packed repeated `uint64` field; left out when there is nothing in it.
pub(super) fn packed_varint(out: &mut Vec<u8>, field: u32, values: &[u64]) {
    if !values.is_empty() {
        message(out, field, |out| values.iter().for_each(|value| varint(out, *value)));
    }
}

/// A signed number as `sint32` has it: small ones of either sign are short.
pub(super) fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)).cast_unsigned())
}

/// Writes a message field whose content `write` produces.
///
/// The content goes to the end of `out` first and is moved up by the few bytes its length takes:
/// one short `memmove` instead of a second pass that only measures.
pub(super) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, BYTES);
    // One byte holds lengths below 128, which most points' inner messages have.
    let length_at = out.len();
    out.push(0);
    let content_at = out.len();
    write(out);
    let length = out.len() - content_at;
    let prefix = (usize::BITS - length.leading_zeros()).div_ceil(7).max(1) as usize;
    if prefix > 1 {
        out.resize(out.len() + prefix - 1, 0);
        out.copy_within(content_at..content_at + length, length_at + prefix);
    }
    let mut rest = length;
    for (at, byte) in out.iter_mut().skip(length_at).take(prefix).enumerate() {
        *byte = (rest & 0x7f) as u8 | if at + 1 < prefix { 0x80 } else { 0 };
        rest >>= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_length_has_its_length_in_front() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 2_097_152] {
            let mut expected = Vec::new();
            bytes(&mut expected, 3, &vec![7; length]);
            let mut out = Vec::new();
            message(&mut out, 3, |out| out.resize(out.len() + length, 7));
            assert!(out == expected, "length {length}");
        }
    }
}
