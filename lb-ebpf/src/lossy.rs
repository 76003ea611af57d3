//! A wire that loses TCP segments: an XDP program in front of a stack or of another XDP program.
//!
//! Not part of the product. On the client's interface it loses what the edge sends; on the edge's, in front of the
//! product's program in slot 0 of `TARGET`, what the client sends. How many is in `LOSS`; which, in [`lb_ebpf::loss`].
//! Packets that it does not understand get through: IPv4 options, IPv6 extension headers, VLAN tags, fragments.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    unsafe_code,
    reason = "packets and map elements are raw pointers here; the verifier checks each access"
)]
#![expect(clippy::inline_always, reason = "as in the library")]

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{PerCpuArray, ProgramArray};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_ebpf::loss::{Loss, Segment};

#[btf_map]
static LOSS: PerCpuArray<Loss, 1> = PerCpuArray::new();

#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();

/// Loses some, and hands the others on: to `TARGET`, or to the stack if that is empty.
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
fn lossy(context: XdpContext) -> u32 {
    if is_lost(&context) == Some(true) {
        return XDP_DROP;
    }
    // SAFETY: nothing here has a destructor. It comes back only if the slot is empty.
    unsafe { TARGET.tail_call(&context, 0) };
    XDP_PASS
}

#[inline(always)]
fn is_lost(context: &XdpContext) -> Option<bool> {
    let segment = match u16::from_be(load(context, 12)?) {
        0x0800 => over_ipv4(context)?,
        0x86dd => over_ipv6(context)?,
        _ => return None,
    };
    let loss = LOSS.get_ptr_mut(0)?;
    // SAFETY: an element of this CPU's own; no program interrupts another one on a CPU.
    Some(unsafe { &mut *loss }.loses(segment))
}

#[inline(always)]
fn over_ipv4(context: &XdpContext) -> Option<Segment> {
    let without_options = load::<u8>(context, 14)? == 0x45;
    without_options.then_some(())?;
    Some(Segment {
        protocol: load(context, 23)?,
        // Not the frame's length, which counts padding.
        length: u16::from_be(load(context, 16)?).wrapping_sub(20),
        offset: load(context, 46)?,
    })
}

#[inline(always)]
fn over_ipv6(context: &XdpContext) -> Option<Segment> {
    Some(Segment {
        protocol: load(context, 20)?,
        length: u16::from_be(load(context, 18)?),
        offset: load(context, 66)?,
    })
}

#[inline(always)]
fn load<T: Copy>(context: &XdpContext, offset: usize) -> Option<T> {
    // SAFETY: the kernel passes a valid `xdp_md`. Volatile, because LLVM would otherwise hoist the loads and pass
    // parts of a pointer that the verifier wants whole.
    let (start, end) = unsafe {
        (
            (&raw const (*context.ctx).data).read_volatile() as usize,
            (&raw const (*context.ctx).data_end).read_volatile() as usize,
        )
    };
    let field = start + offset;
    // SAFETY: inside the packet; `T` is an integer here.
    (field + size_of::<T>() <= end).then(|| unsafe { (field as *const T).read_unaligned() })
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// As in `main.rs`.
// SAFETY: a plain constant in a section of its own; the name clashes with no other symbol.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
