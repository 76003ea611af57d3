//! Integers that LLVM knows nothing about.
//!
//! Two programs look at every bounds check: LLVM, which drops one that an earlier check implies, and the kernel's verifier,
//! which can't follow why. "A packet with an IP header behind its tags has a first byte" is such a conclusion. Where
//! offsets are variables, they are made opaque, so that every check stays. Called by the frame of the XDP program.
//!
//! And two calls that differ in a constant alone are one call with a variable to LLVM. Where the kernel compiles the constant
//! to something better, as in tail calls, a mark behind each keeps them apart.
#![cfg_attr(
    target_arch = "bpf",
    expect(unsafe_code, reason = "the only way past LLVM is inline assembly")
)]

/// The same value, by a way on which LLVM loses sight of it. Costs a register move.
#[inline(always)]
#[must_use]
pub fn opaque(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: it moves a register to itself. Not less: the kernel refuses line information for no instruction.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack));
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    value
}

/// Keeps what is before it from becoming one with what is before another `PLACE`. Costs an instruction.
#[inline(always)]
pub fn apart<const PLACE: u32>() {
    #[cfg(target_arch = "bpf")]
    // SAFETY: it writes a number to a register that is free.
    unsafe {
        core::arch::asm!("{0} = {1}", out(reg) _, const PLACE, options(nomem, nostack));
    }
}
