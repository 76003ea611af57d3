//! The benchmark's own programs: the wrapper around the program under test, and the ends of a road of packets.
//!
//! Not part of the product, whose object is linked without a byte of this. `lb-tests` loads it beside the product's
//! object and puts the program under test, as it is, into slot 0 of `TARGET`. A tail call to a constant slot is
//! compiled to a jump, so the wrapper costs what [`lb_ebpf::replay`] asks of it and little more; the same wrapper
//! around `nothing` measures that cost.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    unsafe_code,
    reason = "packets and map elements are raw pointers here; the verifier checks each access"
)]
#![expect(clippy::inline_always, reason = "as in the library")]

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use lb_ebpf::replay::{ORDER_NONE, Plan, TURN_CLIENT_THEN_SERVER, TURN_SERVER, at};

#[btf_map]
static PLAN: Array<Plan, 1> = Array::new();

#[btf_map]
static TARGET: ProgramArray<1> = ProgramArray::new();

/// Interface index for `redirect`.
#[btf_map]
static OUT: Array<u32, 1> = Array::new();

/// Frames that `sink` has swallowed.
#[btf_map]
static ARRIVED: Array<u64, 1> = Array::new();

/// Prepares the frame and runs the program under test on it.
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
fn replay(context: XdpContext) -> u32 {
    if let Some(plan) = PLAN.get_ptr_mut(0) {
        // SAFETY: a map element of this type; one thread runs a benchmark, so nobody else writes it meanwhile.
        prepare(&context, unsafe { &mut *plan });
    }
    // SAFETY: nothing here has a destructor. It comes back only if the slot is empty.
    unsafe { TARGET.tail_call(&context, 0) };
    XDP_ABORTED
}

/// Instead of the program under test: what the wrapper alone costs.
#[xdp(frags)]
fn nothing(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Sends every frame out of the interface `OUT`: the floor of all forwarding, and the end of a generator.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the helper returns an action"
)]
#[xdp(frags)]
fn redirect(_context: XdpContext) -> u32 {
    // SAFETY: takes two integers; an index without an interface drops the frame.
    OUT.get(0)
        .map_or(XDP_ABORTED, |out| unsafe { bpf_redirect(*out, 0) } as u32)
}

/// Counts and swallows IPv4; lets the rest (ARP) through, without which nobody would send here.
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
fn sink(context: XdpContext) -> u32 {
    let ipv4 = field::<u16>(&context, 12)
        // SAFETY: `field` has checked the bounds.
        .is_some_and(|ethertype| unsafe { ethertype.read_unaligned() } == 0x0800_u16.to_be());
    if !ipv4 {
        return XDP_PASS;
    }
    if let Some(arrived) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: a map element; a benchmark runs on one CPU, so no count is lost.
        unsafe { arrived.write_volatile(arrived.read_volatile() + 1) };
    }
    XDP_DROP
}

#[inline(always)]
fn prepare(context: &XdpContext, plan: &mut Plan) -> Option<()> {
    match plan.turn {
        _ if plan.order == ORDER_NONE => Some(()),
        TURN_SERVER => {
            plan.turn = TURN_CLIENT_THEN_SERVER;
            answer(context)
        }
        turn => {
            if turn == TURN_CLIENT_THEN_SERVER {
                plan.turn = TURN_SERVER;
            }
            restore(context, plan)
        }
    }
}

/// Every field that the program may have changed, each in one store of the width that it is read by: a load that
/// spans two stores waits for both, and a network card leaves no such trap.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are held in wider integers"
)]
fn restore(context: &XdpContext, plan: &mut Plan) -> Option<()> {
    let fields = plan.next_client();
    let tcp_checksum = field::<u16>(context, at::TCP_CHECKSUM)?;
    let ports = field::<u32>(context, at::PORTS)?;
    let addresses = field::<u64>(context, at::ADDRESSES)?;
    let ip_checksum = field::<u16>(context, at::IP_CHECKSUM)?;
    let hop = field::<u16>(context, at::HOP)?;
    let macs_tail = field::<u32>(context, at::MACS_TAIL)?;
    let macs_head = field::<u64>(context, at::MACS_HEAD)?;
    // SAFETY: `field` has checked the bounds of each; this run alone has the frame.
    unsafe {
        macs_head.write_unaligned(plan.macs_head);
        macs_tail.write_unaligned(plan.macs_tail as u32);
        hop.write_unaligned(plan.hop as u16);
        ip_checksum.write_unaligned(u16::from_ne_bytes(fields.ip_checksum));
        addresses.write_unaligned(fields.addresses);
        ports.write_unaligned(fields.ports);
        tcp_checksum.write_unaligned(u16::from_ne_bytes(fields.tcp_checksum));
    }
    Some(())
}

/// Turns the frame round, as the server it was sent to does.
#[inline(always)]
fn answer(context: &XdpContext) -> Option<()> {
    let ports = field::<u32>(context, at::PORTS)?;
    let addresses = field::<u64>(context, at::ADDRESSES)?;
    // SAFETY: as in `restore`.
    unsafe {
        addresses.write_unaligned(addresses.read_unaligned().rotate_left(32));
        ports.write_unaligned(ports.read_unaligned().rotate_left(16));
    }
    Some(())
}

#[inline(always)]
fn field<T>(context: &XdpContext, offset: usize) -> Option<*mut T> {
    // SAFETY: the kernel passes a valid `xdp_md`. Volatile, because LLVM would otherwise hoist the loads and pass
    // parts of a pointer that the verifier wants whole.
    let (start, end) = unsafe {
        (
            (&raw const (*context.ctx).data).read_volatile() as usize,
            (&raw const (*context.ctx).data_end).read_volatile() as usize,
        )
    };
    let field = start + offset;
    (field + size_of::<T>() <= end).then_some(field as *mut T)
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// As in `main.rs`: redirect is for GPL-compatible programs only.
// SAFETY: a plain constant in a section of its own; the name clashes with no other symbol.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
