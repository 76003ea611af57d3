//! When userspace is gone for too long: the services that are left to the host's stack.
//!
//! Nobody looks after servers any more, and whoever runs a service may rather have the host answer by itself, or reset its
//! clients so that they look elsewhere ([`SERVICE_FLAG_PASS_IF_ORPHANED`]). Then all packets of the service are passed,
//! those of its flows and its servers' answers too. Other services go on.
//!
//! No packet of a flow may pay for it as long as userspace is there. So the program looks at the clock for one packet in
//! [`WATCH_EVERY`] only and leaves what it saw in [`Settings::orphaned`], which costs the others one comparison with a word
//! that they have at hand; and which service a packet is of is asked here, in a stage of its own.

use super::mss::service_of;
use super::{Tables, enter};
use crate::abi::{SERVICE_FLAG_PASS_IF_ORPHANED, SETTINGS_LIMIT_MSS, Settings};
use crate::family::Family;
use crate::layout::{HANDOVER_KEPT_UP, HANDOVER_MSS_LIMITED, Handover, Layout};
use crate::tcp::Flags;
use crate::verdict::Reason::Orphaned;
use crate::verdict::Verdict::{self, Pass};
use crate::wire::Packet;

/// Of so many packets with one reason on one CPU, one looks at the clock, which costs as much as forwarding it. A power of
/// two.
pub const WATCH_EVERY: u64 = 64;

impl Settings {
    /// Whether userspace is gone at `now`, in nanoseconds of the clock of [`alive_until`](Self::alive_until).
    #[inline(always)]
    pub fn is_orphaned_at(&self, now: u64) -> bool {
        self.alive_until != 0 && self.alive_until < now
    }
}

/// Whether any packet has to go elsewhere first.
#[inline(always)]
pub(super) fn may_detour(settings: &Settings) -> bool {
    settings.orphaned != 0 || settings.flags & SETTINGS_LIMIT_MSS != 0
}

/// Sends a packet of ours where it must go first, to come back from with a flag in its note that says so.
#[inline(always)]
pub(super) fn detour<F: Family, T: Tables<F>>(
    tables: &T,
    settings: &Settings,
    flags: Flags,
    note: Handover,
) -> Result<(), Verdict> {
    let still = |flag| note.flags & flag == 0;
    if settings.orphaned != 0 && still(HANDOVER_KEPT_UP) {
        return Err(enter(tables, note, F::ORPHANED));
    }
    let limits_mss = flags.has(Flags::SYN) && settings.flags & SETTINGS_LIMIT_MSS != 0;
    if limits_mss && still(HANDOVER_MSS_LIMITED) {
        return Err(enter(tables, note, F::MSS));
    }
    Ok(())
}

/// Decides about a packet of [`Stage::Orphaned`](crate::verdict::Stage::Orphaned): for us, as it seems, while userspace is gone.
#[inline(always)]
pub fn decide_orphaned<F, P, T>(packet: &P, tables: &T) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let note = tables.take_over();
    match is_left_to_stack::<F, P, T>(packet, tables, note.layout()) {
        Ok(true) => Pass(Orphaned),
        Ok(false) => enter(tables, note.with_flag(HANDOVER_KEPT_UP), F::FIRST),
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn is_left_to_stack<F, P, T>(packet: &P, tables: &T, layout: Layout) -> Result<bool, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let service = service_of::<F, P, T>(packet, tables, layout)?;
    Ok(service.is_some_and(|service| service.flags & SERVICE_FLAG_PASS_IF_ORPHANED != 0))
}
