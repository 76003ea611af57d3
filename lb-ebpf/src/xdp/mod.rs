//! The kernel's side of the program: context, maps, actions. The only part that knows aya.

mod frame;
mod maps;
mod tables;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_redirect};
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::warn;
use frame::{Constant, Frame, Variable};
use lb_ebpf::decide::{
    Ingress, WATCH_EVERY, answer_too_big, decide, decide_extended, decide_extended6, decide_ipv6,
    decide_leaving, decide_new, decide_orphaned, decide_unknown, limit_mss, refuse, relay_error,
};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::opaque::apart;
use lb_ebpf::verdict::{Reason, Stage, Verdict};
use maps::{PROGRAMS, XSKS};
use tables::Maps;

/// Entry point, attached to every interface that `lb` serves.
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp(context: XdpContext) -> u32 {
    let verdict = decide(
        &mut Frame::<Constant>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::Ipv6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_ipv6(context: XdpContext) -> u32 {
    let verdict = decide_ipv6(
        &mut Frame::<Constant>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::TooBig`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_too_big(context: XdpContext) -> u32 {
    let verdict = answer_too_big::<V4, _, _>(&mut Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// [`Stage::TooBig6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_too_big6(context: XdpContext) -> u32 {
    let verdict = answer_too_big::<V6, _, _>(&mut Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// [`Stage::Open`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_open(context: XdpContext) -> u32 {
    let verdict = decide_unknown::<V4, _, _>(
        &mut Frame::<Variable>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::Open6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_open6(context: XdpContext) -> u32 {
    let verdict = decide_unknown::<V6, _, _>(
        &mut Frame::<Variable>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::New`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_new(context: XdpContext) -> u32 {
    let mut frame = Frame::<Constant>::of(&context);
    finish(
        &context,
        decide_new::<V4, _, _>(&mut frame, &Maps, ingress(&context)),
    )
}

/// [`Stage::Mss`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_mss(context: XdpContext) -> u32 {
    let verdict = limit_mss::<V4, _, _>(&mut Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// [`Stage::Mss6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_mss6(context: XdpContext) -> u32 {
    let verdict = limit_mss::<V6, _, _>(&mut Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// [`Stage::Extended`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_extended(context: XdpContext) -> u32 {
    let verdict = decide_extended(
        &mut Frame::<Variable>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::Extended6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_extended6(context: XdpContext) -> u32 {
    let verdict = decide_extended6(
        &mut Frame::<Variable>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::Leave`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_leave(context: XdpContext) -> u32 {
    let mut frame = Frame::<Variable>::of(&context);
    finish(
        &context,
        decide_leaving::<V4, _, _>(&mut frame, &Maps, ingress(&context)),
    )
}

/// [`Stage::Leave6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_leave6(context: XdpContext) -> u32 {
    let mut frame = Frame::<Variable>::of(&context);
    finish(
        &context,
        decide_leaving::<V6, _, _>(&mut frame, &Maps, ingress(&context)),
    )
}

/// [`Stage::Orphaned`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_orphaned(context: XdpContext) -> u32 {
    let verdict = decide_orphaned::<V4, _, _>(&Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// [`Stage::Orphaned6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_orphaned6(context: XdpContext) -> u32 {
    let verdict = decide_orphaned::<V6, _, _>(&Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// [`Stage::Icmp`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_icmp(context: XdpContext) -> u32 {
    let verdict = relay_error::<V4, _, _>(
        &mut Frame::<Variable>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::Icmp6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_icmp6(context: XdpContext) -> u32 {
    let verdict = relay_error::<V6, _, _>(
        &mut Frame::<Variable>::of(&context),
        &Maps,
        ingress(&context),
    );
    finish(&context, verdict)
}

/// [`Stage::Refuse`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_refuse(context: XdpContext) -> u32 {
    let verdict = refuse::<V4, _, _>(&mut Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// [`Stage::Refuse6`].
#[expect(clippy::needless_pass_by_value, reason = "the macro calls it so")]
#[xdp(frags)]
pub(crate) fn lb_xdp_refuse6(context: XdpContext) -> u32 {
    let verdict = refuse::<V6, _, _>(&mut Frame::<Variable>::of(&context), &Maps);
    finish(&context, verdict)
}

/// Hands the packet on to another program, or counts it and says what the kernel shall do.
#[inline(always)]
fn finish(context: &XdpContext, verdict: Verdict) -> u32 {
    if let Verdict::Continue(stage) = verdict {
        enter(context, stage);
    }
    let (verdict, action) = act(verdict);
    let reason = verdict.reason();
    let count = tables::count(reason);
    if is_rare(reason) && count.is_power_of_two() {
        report(context, reason, count);
    }
    if count.is_multiple_of(WATCH_EVERY) {
        tables::watch();
    }
    action
}

/// Comes back only if the slot is empty. Each slot is a constant, which the kernel compiles to a jump; an index
/// that is none would be an indirect branch, with retpolines 13 ns (`tests/tests/prog_run/jumps.rs` looks for such).
#[expect(unsafe_code, reason = "aya has no safe form of a tail call")]
#[inline(always)]
fn enter(context: &XdpContext, stage: Stage) {
    macro_rules! enter {
        ($($stage:ident)*) => {
            match stage {
                $(
                    // SAFETY: nothing here has a destructor.
                    Stage::$stage => unsafe {
                        PROGRAMS.tail_call(context, Stage::$stage as u32);
                        apart::<{ Stage::$stage as u32 }>();
                    },
                )*
            }
        };
    }
    enter! {
        Ipv4 Ipv6 Extended Extended6 Open Open6 Leave Leave6 Mss Mss6 TooBig TooBig6 Orphaned Orphaned6 Icmp Icmp6
        Refuse Refuse6 New
    }
}

/// The action, and the verdict as it is then: only the kernel knows whether a worker's socket is there.
#[inline(always)]
fn act(verdict: Verdict) -> (Verdict, u32) {
    if let Verdict::Worker { slot, .. } = verdict {
        return match XSKS.redirect(slot, 0) {
            Ok(action) => (verdict, action),
            Err(_) => (
                verdict.without_worker(),
                action_of(verdict.without_worker()),
            ),
        };
    }
    (verdict, action_of(verdict))
}

#[inline(always)]
fn action_of(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass(_) | Verdict::Continue(_) => XDP_PASS,
        Verdict::Drop(_) | Verdict::Worker { .. } => XDP_DROP,
        Verdict::Transmit | Verdict::Answer(_) => XDP_TX,
        Verdict::Redirect { ifindex } => redirect(ifindex),
    }
}

/// What an operator must act on, and what a flood can also cause.
#[inline(always)]
fn is_rare(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SnatExhausted | Reason::TableFull | Reason::NoWorker
    )
}

/// Logs the 1st, 2nd, 4th, 8th … time on a CPU, so that a flood logs next to nothing.
#[inline(never)]
fn report(context: &XdpContext, reason: Reason, count: u64) {
    match reason {
        Reason::SnatExhausted => warn!(context, "no free source port, {} times on this CPU", count),
        Reason::TableFull => warn!(context, "flow table full, {} times on this CPU", count),
        _ => warn!(
            context,
            "no worker for this queue, {} times on this CPU", count
        ),
    }
}

#[expect(unsafe_code, reason = "aya has no safe form of this helper")]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the helper returns an action"
)]
#[inline(always)]
fn redirect(ifindex: u32) -> u32 {
    // SAFETY: takes two integers; an index without an interface drops the packet.
    (unsafe { bpf_redirect(ifindex, 0) }) as u32
}

#[expect(unsafe_code, reason = "fields of the context are behind a raw pointer")]
#[inline(always)]
fn ingress(context: &XdpContext) -> Ingress {
    // SAFETY: the kernel passes a valid `xdp_md` for the whole run of the program. Volatile, because
    // LLVM would otherwise hoist the loads into callers and pass parts of a pointer that the verifier
    // wants whole ("arg#0 expects pointer to ctx").
    let (ifindex, queue) = unsafe {
        (
            (&raw const (*context.ctx).ingress_ifindex).read_volatile(),
            (&raw const (*context.ctx).rx_queue_index).read_volatile(),
        )
    };
    // SAFETY: no arguments, no failure.
    let cpu = unsafe { bpf_get_smp_processor_id() } as u32;
    Ingress {
        ifindex,
        queue,
        cpu,
    }
}
