//! The XDP program: a shell around [`lb_ebpf::decide`].
//!
//! It turns the kernel's context into arguments, the verdict into an action, and counts. Built for the
//! host as well, where it does nothing, so that clippy and editors see this code.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(clippy::inline_always, reason = "as in the library")]

mod xdp;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Helpers such as redirect are open to GPL-compatible programs only; the code itself is ours to license.
#[expect(
    unsafe_code,
    reason = "the kernel reads the licence from a section of this name"
)]
// SAFETY: a plain constant in a section of its own; the name clashes with no other symbol.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
