//! Bytes that this process has from its allocator.
//!
//! Resident memory can't tell what something costs as long as the allocator has pages to hand out again: it stays as it
//! is then. The allocator's own account is exact. Not here: memory beside the allocator, such as a UMEM.

#![expect(unsafe_code, reason = "glibc's account has no safe form")]

/// Bytes in use, with what the allocator adds to each piece, in all arenas and mappings of its own.
pub fn in_use() -> usize {
    // JUSTIFICATION: an allocator that counts would be in the way of what is measured for speed.
    // SAFETY: it takes nothing, and reads the allocator's state under the allocator's locks.
    let info = unsafe { nix::libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_pieces_count() {
        // Other tests allocate and free beside this one, but not so much.
        for piece in [1 << 10, 8 << 20] {
            let before = in_use();
            let pieces: Vec<Vec<u8>> = (0..(64 << 20) / piece)
                .map(|_| Vec::with_capacity(piece))
                .collect();
            let held = in_use() - before;
            assert!(held >= 48 << 20, "{held} in pieces of {piece}");
            drop(pieces);
            assert!(in_use() < before + (32 << 20), "pieces of {piece}");
        }
    }
}
