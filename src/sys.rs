//! What only the C library, the allocator and the processor can be told, and the one place that speaks to them past
//! the standard library.

/// Says how names are looked up: by /etc/hosts, then by the servers of /etc/resolv.conf.
///
/// A static glibc would otherwise follow /etc/nsswitch.conf, and load the modules named there, with
/// the C library of the host, into a process that has one of its own. Has to be called before the
/// first lookup, and while there is one thread.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "no crate declares this function of glibc")]
pub(crate) fn pin_name_lookup() {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        /// In <nss.h>, and exported for programs that want exactly this.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    // SAFETY: both are strings that end with 0 and live forever; glibc reads them only, under a lock
    // of its own. It fails for want of memory or an unknown database, and `hosts` is none.
    let failed = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    debug_assert_eq!(failed, 0);
}

/// Elsewhere there is nothing to say: musl knows no modules, and a dynamic glibc loads its own.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub(crate) const fn pin_name_lookup() {}

/// Gives what the allocator keeps of freed memory back to the system.
///
/// glibc gives back what is free at the end of its heap only, and a crowd that leaves rarely leaves that: after 500 idle
/// connections of HTTP/2 it kept 13 MiB for good.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "no crate declares this function of glibc")]
pub(crate) fn give_back_memory() {
    use std::ffi::c_int;

    unsafe extern "C" {
        /// In <malloc.h>.
        fn malloc_trim(pad: usize) -> c_int;
    }
    // SAFETY: takes glibc's own locks and touches nothing that is in use, from any thread at any time.
    let _has_given = unsafe { malloc_trim(0) };
}

/// mimalloc looks at what it could give back when it is asked for memory: not at all while nothing happens.
#[cfg(target_env = "musl")]
#[expect(
    unsafe_code,
    reason = "the crate that we have mimalloc from declares this function for a feature of its own only"
)]
pub(crate) fn give_back_memory() {
    // So that it is linked where it is not the allocator, too: in tests.
    use mimalloc as _;

    unsafe extern "C" {
        /// In <mimalloc.h>.
        fn mi_collect(force: bool);
    }
    // SAFETY: looks at the heap of the thread that calls it and at pages that nobody has, from any thread at any time.
    unsafe { mi_collect(true) };
}

/// Others know best.
#[cfg(not(any(target_env = "gnu", target_env = "musl")))]
pub(crate) const fn give_back_memory() {}

/// Bytes that are looked at together.
pub(crate) const BLOCK: usize = 32;

/// What there is in a part of a JSON text, a bit for each of its bytes, the first one lowest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Does not stand for itself in a string: a quotation mark, a backslash, a control character.
    pub(crate) special: u32,
    /// Is not ASCII.
    pub(crate) high: u32,
}

impl Block {
    /// Looks at each byte by itself.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn by_bytes(bytes: &[u8; BLOCK]) -> Self {
        let mut block = Self { special: 0, high: 0 };
        for (place, byte) in bytes.iter().enumerate() {
            block.special |= u32::from(matches!(byte, b'"' | b'\\' | ..0x20)) << place;
            block.high |= u32::from(byte >> 7) << place;
        }
        block
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn of(bytes: &[u8; BLOCK]) -> Self {
        Self::by_bytes(bytes)
    }

    /// With SSE2, which a compiler that only has the loop does not find: half the time for a text with a line break
    /// every few words.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[expect(unsafe_code, reason = "the standard library has no safe way to the bits of a vector")]
    pub(crate) fn of(bytes: &[u8; BLOCK]) -> Self {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8,
        };
        let mut block = Self { special: 0, high: 0 };
        let (halves, _) = bytes.as_chunks::<16>();
        for (number, half) in halves.iter().enumerate() {
            let half = u128::from_le_bytes(*half);
            // SAFETY: none of these touches memory, and SSE2 is a part of every x86-64 processor.
            let (special, high) = unsafe {
                let half = _mm_set_epi64x((half >> 64) as i64, half as i64);
                let quotes = _mm_cmpeq_epi8(half, _mm_set1_epi8(b'"' as i8));
                let escapes = _mm_cmpeq_epi8(half, _mm_set1_epi8(b'\\' as i8));
                let controls = _mm_cmpeq_epi8(half, _mm_min_epu8(half, _mm_set1_epi8(0x1f)));
                let special = _mm_or_si128(_mm_or_si128(quotes, escapes), controls);
                (_mm_movemask_epi8(special) as u32, _mm_movemask_epi8(half) as u32)
            };
            block.special |= special << (16 * number);
            block.high |= high << (16 * number);
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_see_what_bytes_say() {
        for byte in 0..=u8::MAX {
            for place in 0..BLOCK {
                for others in [b'a', b'"', b'\\', 0, 0x1f, 0x20, 0x7f, 0x80, 0xff] {
                    let mut bytes = [others; BLOCK];
                    bytes[place] = byte;
                    assert_eq!(Block::of(&bytes), Block::by_bytes(&bytes), "{bytes:?}");
                }
            }
        }
    }
}
