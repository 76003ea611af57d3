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

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::{Array, ProgramArray};
use aya_ebpf::helpers::{bpf_redirect, bpf_xdp_adjust_head};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;
use core::hint::black_box;
use lb_ebpf::replay::{
    ORDER_NONE, PLANS as PLAN_COUNT, Plan, SHAPE_IPV4_TCP, SHAPE_IPV4_UDP, SHAPE_IPV6_TCP,
    TURN_CLIENT_THEN_SERVER, TURN_SERVER, at,
};
use lb_ebpf::rewrite::Macs;

#[btf_map]
static PLANS: Array<Plan, { PLAN_COUNT as usize }> = Array::new();

/// Which plan is the next frame's.
#[btf_map]
static NEXT: Array<u64, 1> = Array::new();

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
    prepare(&context);
    // SAFETY: nothing here has a destructor. It comes back only if the slot is empty.
    unsafe { TARGET.tail_call(&context, 0) };
    XDP_ABORTED
}

/// Instead of the program under test: what the wrapper alone costs.
#[xdp(frags)]
fn nothing(_context: XdpContext) -> u32 {
    XDP_PASS
}

/// Sends every frame, as it is, out of the interface `OUT`: the end of a generator.
#[xdp(frags)]
fn redirect(_context: XdpContext) -> u32 {
    to_out()
}

/// Sends every frame out of the interface `OUT`, with its hardware addresses swapped: the floor of all forwarding.
/// Without other addresses than it came with, no frame would arrive on a real link.
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
fn forward(context: XdpContext) -> u32 {
    match swap_macs(&context) {
        Some(()) => to_out(),
        None => XDP_ABORTED,
    }
}

/// As `forward`, back out of the interface that it came from: the floor of one-armed forwarding.
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
fn transmit(context: XdpContext) -> u32 {
    swap_macs(&context).map_or(XDP_ABORTED, |()| XDP_TX)
}

/// Counts and swallows IPv4; lets the rest (ARP) through, without which nobody would send here. What has no data is
/// not counted: the stack's answers to what should have been forwarded.
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
fn sink(context: XdpContext) -> u32 {
    let ipv4 = field::<u16>(&context, 12)
        // SAFETY: `field` has checked the bounds.
        .is_some_and(|ethertype| unsafe { ethertype.read_unaligned() } == 0x0800_u16.to_be());
    if !ipv4 {
        return XDP_PASS;
    }
    let has_data = field::<u8>(&context, LONGEST_WITHOUT_DATA).is_some();
    if let Some(arrived) = ARRIVED.get_ptr_mut(0).filter(|_| has_data) {
        // SAFETY: a map element; a benchmark runs on one CPU, so no count is lost.
        unsafe { arrived.write_volatile(arrived.read_volatile() + 1) };
    }
    XDP_DROP
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the helper returns an action"
)]
#[inline(always)]
fn to_out() -> u32 {
    // SAFETY: takes two integers; an index without an interface drops the frame.
    OUT.get(0)
        .map_or(XDP_ABORTED, |out| unsafe { bpf_redirect(*out, 0) } as u32)
}

/// The product's own code for this, in an answer.
#[inline(always)]
fn swap_macs(context: &XdpContext) -> Option<()> {
    let tail = field::<u32>(context, at::MACS_TAIL)?;
    let head = field::<u64>(context, at::MACS_HEAD)?;
    // SAFETY: as in `restore_ipv4`.
    unsafe {
        let macs = Macs {
            head: head.read_unaligned(),
            tail: tail.read_unaligned(),
        }
        .swapped();
        head.write_unaligned(macs.head);
        tail.write_unaligned(macs.tail);
    }
    Some(())
}

/// Bytes of an Ethernet frame that is padded.
const LONGEST_WITHOUT_DATA: usize = 60;

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are held in wider integers"
)]
fn prepare(context: &XdpContext) -> Option<()> {
    let next = NEXT.get_ptr_mut(0)?;
    // SAFETY: map elements of these types; one thread runs a benchmark, so nobody else writes them meanwhile.
    let (next, plan) = unsafe {
        let index = *next as u32;
        (&mut *next, &mut *PLANS.get_ptr_mut(index)?)
    };
    if plan.order == ORDER_NONE {
        return Some(());
    }
    let changes_hands = *next != plan.next;
    *next = plan.next;
    if plan.length != 0 {
        strip(context, plan)?;
    }
    if plan.turn == TURN_SERVER {
        plan.turn = TURN_CLIENT_THEN_SERVER;
        return answer(context, plan);
    }
    if plan.turn == TURN_CLIENT_THEN_SERVER {
        plan.turn = TURN_SERVER;
    }
    if changes_hands {
        set_control(context, plan)?;
    }
    restore(context, plan)
}

/// Takes off what the last run has put in front.
///
/// The helper is called even if there is nothing, with zero: its cost is the same, so the empty program pays for the
/// undoing too, and only for that. What the program under test pays for its own call is not subtracted.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a frame is at most a page"
)]
fn strip(context: &XdpContext, plan: &Plan) -> Option<()> {
    let (start, end) = bounds(context);
    // LLVM would otherwise add the length to a pointer, which the verifier allows only if it knows a bound.
    let longer = black_box(end - start) as i32 - plan.length as i32;
    // SAFETY: the context is that of this run, and nobody holds a pointer into the frame.
    let refused = unsafe { bpf_xdp_adjust_head(context.ctx, longer) };
    (refused == 0).then_some(())
}

/// Where two plans take turns, their frames differ in this as well.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are held in wider integers"
)]
fn set_control(context: &XdpContext, plan: &Plan) -> Option<()> {
    let control = match plan.shape {
        SHAPE_IPV4_TCP => field::<u16>(context, at::ipv4::CONTROL)?,
        SHAPE_IPV6_TCP => field::<u16>(context, at::ipv6::CONTROL)?,
        _ => return Some(()),
    };
    // SAFETY: as in `restore_ipv4`.
    unsafe { control.write_unaligned(plan.control as u16) };
    Some(())
}

#[inline(always)]
fn restore(context: &XdpContext, plan: &mut Plan) -> Option<()> {
    match plan.shape {
        SHAPE_IPV4_TCP => restore_ipv4::<{ at::ipv4::TCP_CHECKSUM }>(context, plan),
        SHAPE_IPV4_UDP => restore_ipv4::<{ at::ipv4::UDP_CHECKSUM }>(context, plan),
        SHAPE_IPV6_TCP => restore_ipv6::<{ at::ipv6::TCP_CHECKSUM }>(context, plan),
        _ => restore_ipv6::<{ at::ipv6::UDP_CHECKSUM }>(context, plan),
    }
}

/// Every field that the program may have changed, each in one store of the width that it is read by: a load that
/// spans two stores waits for both, and a network card leaves no such trap.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are held in wider integers"
)]
fn restore_ipv4<const CHECKSUM: usize>(context: &XdpContext, plan: &mut Plan) -> Option<()> {
    let fields = plan.next_client();
    let checksum = field::<u16>(context, CHECKSUM)?;
    let ports = field::<u32>(context, at::ipv4::PORTS)?;
    let addresses = field::<u64>(context, at::ipv4::ADDRESSES)?;
    let ip_checksum = field::<u16>(context, at::ipv4::CHECKSUM)?;
    let hop = field::<u16>(context, at::ipv4::HOP)?;
    // SAFETY: `field` has checked the bounds of each; this run alone has the frame.
    unsafe {
        hop.write_unaligned(plan.hop as u16);
        ip_checksum.write_unaligned(u16::from_ne_bytes(fields.ip_checksum));
        addresses.write_unaligned(fields.client);
        ports.write_unaligned(fields.ports);
        checksum.write_unaligned(u16::from_ne_bytes(fields.checksum));
    }
    restore_ethernet(context, plan)
}

/// As [`restore_ipv4`].
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are held in wider integers"
)]
fn restore_ipv6<const CHECKSUM: usize>(context: &XdpContext, plan: &mut Plan) -> Option<()> {
    let fields = plan.next_client();
    let [network, _, server, host] = plan.addresses;
    let [a, b, c, d] = addresses_ipv6(context)?;
    let checksum = field::<u16>(context, CHECKSUM)?;
    let ports = field::<u32>(context, at::ipv6::PORTS)?;
    let hop = field::<u16>(context, at::ipv6::HOP)?;
    // SAFETY: as in `restore_ipv4`.
    unsafe {
        hop.write_unaligned(plan.hop as u16);
        a.write_unaligned(network);
        b.write_unaligned(fields.client);
        c.write_unaligned(server);
        d.write_unaligned(host);
        ports.write_unaligned(fields.ports);
        checksum.write_unaligned(u16::from_ne_bytes(fields.checksum));
    }
    restore_ethernet(context, plan)
}

/// The type as well: the headers of a tunnel are written over it.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fields are held in wider integers"
)]
fn restore_ethernet(context: &XdpContext, plan: &Plan) -> Option<()> {
    let ethertype = field::<u16>(context, at::ETHERTYPE)?;
    let tail = field::<u32>(context, at::MACS_TAIL)?;
    let head = field::<u64>(context, at::MACS_HEAD)?;
    // SAFETY: as in `restore_ipv4`.
    unsafe {
        head.write_unaligned(plan.macs_head);
        tail.write_unaligned(plan.macs_tail as u32);
        ethertype.write_unaligned(plan.ethertype as u16);
    }
    Some(())
}

/// Turns the frame round, as the server it was sent to does.
#[inline(always)]
fn answer(context: &XdpContext, plan: &Plan) -> Option<()> {
    match plan.shape {
        SHAPE_IPV4_TCP | SHAPE_IPV4_UDP => {
            let addresses = field::<u64>(context, at::ipv4::ADDRESSES)?;
            // SAFETY: as in `restore_ipv4`.
            unsafe { addresses.write_unaligned(addresses.read_unaligned().rotate_left(32)) };
            swap_ports(field::<u32>(context, at::ipv4::PORTS)?);
        }
        _ => {
            let [a, b, c, d] = addresses_ipv6(context)?;
            // SAFETY: as in `restore_ipv4`.
            unsafe {
                let (source, host) = (a.read_unaligned(), b.read_unaligned());
                a.write_unaligned(c.read_unaligned());
                b.write_unaligned(d.read_unaligned());
                c.write_unaligned(source);
                d.write_unaligned(host);
            }
            swap_ports(field::<u32>(context, at::ipv6::PORTS)?);
        }
    }
    Some(())
}

#[inline(always)]
fn swap_ports(ports: *mut u32) {
    // SAFETY: comes from `field`, as in `restore_ipv4`.
    unsafe { ports.write_unaligned(ports.read_unaligned().rotate_left(16)) };
}

#[inline(always)]
fn addresses_ipv6(context: &XdpContext) -> Option<[*mut u64; 4]> {
    let [a, b, c, d] = at::ipv6::ADDRESSES;
    Some([
        field(context, a)?,
        field(context, b)?,
        field(context, c)?,
        field(context, d)?,
    ])
}

#[inline(always)]
fn field<T>(context: &XdpContext, offset: usize) -> Option<*mut T> {
    let (start, end) = bounds(context);
    let field = start + offset;
    (field + size_of::<T>() <= end).then_some(field as *mut T)
}

#[inline(always)]
fn bounds(context: &XdpContext) -> (usize, usize) {
    // SAFETY: the kernel passes a valid `xdp_md`. Volatile, because LLVM would otherwise hoist the loads and pass
    // parts of a pointer that the verifier wants whole.
    unsafe {
        (
            (&raw const (*context.ctx).data).read_volatile() as usize,
            (&raw const (*context.ctx).data_end).read_volatile() as usize,
        )
    }
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
