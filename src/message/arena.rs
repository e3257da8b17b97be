//! Where small pieces of bodies live on their way: many in one allocation.
//!
//! A piece keeps its arena alive until it is written, so arenas are small: a thousand clients that
//! stall with one piece each hold a thousand of them at worst.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// Some forty events.
const ARENA_BYTES: usize = 8 * 1024;

/// Larger pieces get an allocation of their own.
const PIECE_MAX: usize = ARENA_BYTES / 4;

thread_local! {
    static ARENA: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// A copy of these bytes.
pub fn copy(data: &[u8]) -> Bytes {
    fill(data.len(), |out| out.extend_from_slice(data))
}

/// What `write` appends, which is no more than `bytes_max`.
pub(super) fn fill(bytes_max: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    if bytes_max > PIECE_MAX {
        // The allocator keeps blocks of each size apart: few sizes take less of its memory, and what is not
        // written to takes none.
        let mut own = BytesMut::with_capacity(bytes_max.next_power_of_two());
        write(&mut own);
        return own.freeze();
    }
    ARENA.with_borrow_mut(|arena| {
        if arena.capacity() < bytes_max {
            // Gets the same memory again if nobody holds any of it.
            arena.reserve(ARENA_BYTES);
        }
        write(arena);
        arena.split().freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_copies_and_cost_few_allocations() {
        for length in [0, 1, 200, PIECE_MAX, PIECE_MAX + 1, 3 * ARENA_BYTES] {
            let data = vec![7; length];
            assert_eq!(copy(&data), data);
        }
        let counted = allocation_counter::measure(|| {
            for number in 0..1_000_u32 {
                assert_eq!(copy(&number.to_be_bytes().repeat(50)), number.to_be_bytes().repeat(50));
            }
        });
        // Two of a thousand are those of this test.
        assert!(counted.count_total < 2_100, "{counted:?}");
    }
}
