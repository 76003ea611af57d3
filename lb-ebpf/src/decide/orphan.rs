//! When userspace is gone for too long: the services that are left to the host's stack.
//!
//! Nobody looks after servers any more, and whoever runs a service may rather have the host answer by itself, or reset its
//! clients so that they look elsewhere ([`SERVICE_FLAG_PASS_IF_ORPHANED`]). Then all packets of the service are passed,
//! those of its flows and its servers' answers too. Other services go on.
//!
//! No packet of a flow may pay for it as long as userspace is there. So the program looks at the clock for one packet in
//! [`WATCH_EVERY`] only and leaves what it saw in [`Settings::orphaned`], which costs the others one comparison with a word
//! that they have at hand; and which service a packet is of is asked here, in a stage of its own.

use super::mss::{Handover, to_service};
use super::parse::parse_transport;
use super::{Tables, settings};
use crate::abi::{SERVICE_FLAG_PASS_IF_ORPHANED, SETTINGS_LIMIT_MSS, Settings};
use crate::family::Family;
use crate::flow::Table;
use crate::rewrite::Layout;
use crate::tcp::Flags;
use crate::verdict::Reason::{Malformed, Orphaned};
use crate::verdict::Stage;
use crate::verdict::Verdict::{self, Continue, Pass};
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

/// Where a packet of ours must go first, to come back from with a [`Handover`].
#[inline(always)]
pub(super) fn detour<F: Family, T: Tables<F>>(
    tables: &T,
    settings: &Settings,
    flags: Flags,
) -> Option<Stage> {
    let is_orphaned = settings.orphaned != 0;
    let limits_mss = flags.has(Flags::SYN) && settings.flags & SETTINGS_LIMIT_MSS != 0;
    if !is_orphaned && !limits_mss {
        return None;
    }
    match tables.take_over() {
        Handover::None if is_orphaned => Some(F::ORPHANED),
        Handover::None | Handover::KeptUp if limits_mss => Some(F::MSS),
        _ => None,
    }
}

/// Decides about a packet of [`Stage::Orphaned`]: for us, as it seems, while userspace is gone.
#[inline(always)]
pub fn decide_orphaned<F, P, T>(packet: &P, tables: &T) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    match is_left_to_stack::<F, P, T>(packet, tables) {
        Ok(true) => Pass(Orphaned),
        Ok(false) => {
            tables.hand_over(Handover::KeptUp);
            Continue(F::FIRST)
        }
        Err(verdict) => verdict,
    }
}

#[inline(always)]
fn is_left_to_stack<F, P, T>(packet: &P, tables: &T) -> Result<bool, Verdict>
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let layout = Layout::plain::<F>();
    let settings = settings(tables)?;
    let ip = packet
        .header::<F::Header>(layout.network)
        .ok_or(Pass(Malformed))?;
    let segment = parse_transport::<F, P>(packet, ip, layout)?;
    let table = Table::new(tables, settings);
    let service = tables.service(&to_service(&table, &segment).service());
    Ok(service.is_some_and(|service| service.flags & SERVICE_FLAG_PASS_IF_ORPHANED != 0))
}
