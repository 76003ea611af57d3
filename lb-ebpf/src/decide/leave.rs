//! The last step: the packet is rewritten and leaves, by an interface or by a VLAN on one.

use super::{Ingress, Shared, Tables, enter};
use crate::abi::LINK_VLAN;
use crate::family::Family;
use crate::layout::{Handover, Layout, MAX_TAGS, Tags};
use crate::rewrite::{Applied, Mode, Rewrite};
use crate::verdict::Reason::{GueChecksum, NoHeadroom, TooBig, VlanGone};
use crate::verdict::Verdict::{self, Drop, Pass};
use crate::wire::Packet;

/// Rewrites a packet of [`Stage::Leave`](crate::verdict::Stage::Leave), as the stage before has found that it must be.
#[inline(always)]
pub fn decide_leaving<F, P, T>(packet: &mut P, tables: &T, ingress: Ingress) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Tables<F>,
{
    let layout = tables.take_over().layout();
    let rewrite = tables.noted_rewrite();
    send(packet, tables, Ok(rewrite), layout, ingress)
}

/// Where a packet leaves.
#[derive(Clone, Copy)]
pub(super) struct Egress {
    ifindex: u32,
    pub(super) tags: Tags,
}

impl Egress {
    /// By an interface, without tags.
    #[inline(always)]
    pub(super) const fn plain(ifindex: u32) -> Self {
        Self {
            ifindex,
            tags: Tags::NONE,
        }
    }

    /// What a rewrite means by its link. Priority is that of the packet as it came, if it came with any, as on its way
    /// through a bridge.
    #[inline(always)]
    pub(super) fn of<P: Packet + ?Sized, T: Shared>(
        packet: &P,
        tables: &T,
        link: u32,
        network: usize,
    ) -> Option<Self> {
        if link & LINK_VLAN == 0 {
            return Some(Self::plain(link));
        }
        let vlan = tables
            .vlan(link & !LINK_VLAN)
            .filter(|vlan| vlan.count > 0)?;
        let count = (vlan.count as usize - 1) % MAX_TAGS + 1;
        let tags = Tags {
            count,
            tags: vlan.tags,
        };
        Some(Self {
            ifindex: vlan.ifindex,
            tags: tags.with_priority_of(Tags::of(packet, network)?),
        })
    }

    /// What becomes of a packet that is ready.
    #[inline(always)]
    pub(super) fn verdict(&self, ingress: Ingress) -> Verdict {
        if self.ifindex == ingress.ifindex {
            Verdict::Transmit
        } else {
            Verdict::Redirect {
                ifindex: self.ifindex,
            }
        }
    }
}

/// Rewrites a packet of any layout and says where it leaves.
#[inline(always)]
pub(super) fn send<F, P, T>(
    packet: &mut P,
    tables: &T,
    rewrite: Result<Rewrite<F>, Verdict>,
    layout: Layout,
    ingress: Ingress,
) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Shared,
{
    let rewrite = match rewrite {
        Ok(rewrite) => rewrite,
        Err(verdict) => return verdict,
    };
    if rewrite.mode == Mode::Gue && !F::has_tunnel_checksum(&layout) {
        return Pass(GueChecksum);
    }
    match Egress::of(packet, tables, rewrite.link, layout.network) {
        Some(egress) => leave(packet, tables, &rewrite, (layout, egress), ingress),
        None => Drop(VlanGone),
    }
}

#[inline(always)]
pub(super) fn leave<F, P, T>(
    packet: &mut P,
    tables: &T,
    rewrite: &Rewrite<F>,
    (layout, egress): (Layout, Egress),
    ingress: Ingress,
) -> Verdict
where
    F: Family,
    P: Packet + ?Sized,
    T: Shared,
{
    match rewrite.apply(packet, layout, egress.tags) {
        None => Drop(NoHeadroom),
        // Nothing is said about a piece that is not the first (RFC 1122 §3.2.2).
        Some(Applied::TooBig) if !layout.has_transport() => Drop(TooBig),
        Some(Applied::TooBig) => enter(tables, Handover::of(layout), F::TOO_BIG),
        Some(Applied::Done) => egress.verdict(ingress),
    }
}
