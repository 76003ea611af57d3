//! What one packet means and what happens to it, as a library without I/O, clock or allocation.
//!
//! The XDP program (`src/main.rs`) and the host tests call the same [`decide::decide`], so a test that
//! passes on a laptop says something about the kernel. Start reading there. Unsafe code is confined to
//! [`cell`] (memory that two CPUs touch), [`opaque`] (single instructions of inline assembly), [`wire`]'s header module (bytes seen as headers) and, for
//! userspace only, `mapped` (the flow table in its address space).
//!
//! Deliberately not here: maps, helpers and the verifier's wishes (`src/xdp`), and anything that
//! decides *which* servers are in a ring (userspace does).
#![no_std]
#![expect(
    clippy::inline_always,
    reason = "the verifier follows calls with five registers of arguments and no packet bounds; what is to be \
              one function for it must be inlined whatever LLVM thinks of the size"
)]
// Inline assembly for BPF is the only way to an atomic compare-and-swap: the target says it has none.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(any(test, feature = "fixtures", feature = "user"))]
extern crate std;

pub mod abi;
pub mod cell;
pub mod checksum;
pub mod decide;
pub mod family;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod flow;
pub mod layout;
#[cfg(feature = "replay")]
pub mod loss;
pub mod maglev;
#[cfg(feature = "user")]
pub mod mapped;
pub mod nat;
pub mod opaque;
#[cfg(feature = "replay")]
pub mod replay;
pub mod rewrite;
pub mod tcp;
pub mod verdict;
pub mod wire;
