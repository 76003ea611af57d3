//! The kernel side as userspace sees it: load the XDP object, attach it, write its maps, read its
//! counters. The only module that names aya.
//!
//! Invariant: a map never shows the program a half-made thing. A Maglev ring is written into the
//! half that its service does not use, and becomes live by one update of the service's entry.
//! Not here: what should be in the maps (`control` decides), and the clock (`control` ticks).

mod load;
mod maps;
mod neighbour;
mod pin;
mod stack_flows;
mod vlan;

use aya::Ebpf;

pub(crate) use load::Sizing;
pub(crate) use maps::{MapAccessError, Trial};
pub(crate) use neighbour::{Link, NextHop, NoNextHop, Resolver};
pub(crate) use pin::{Inherited, Pins, detach};
pub(crate) use stack_flows::StackFlows;
pub(crate) use vlan::VlanDevice;

/// The loaded program with its maps and attachments. Dropping it detaches the program from every
/// interface that holds no pinned link: packets then go to the stack as if `lb` had never run.
pub(crate) struct Dataplane {
    maps: maps::Maps,
    /// The program and its links.
    ebpf: Ebpf,
    /// What shall outlive the daemon, if anything.
    pins: Option<Pins>,
    /// Links that are pinned, and so don't belong to `ebpf`.
    pinned: Vec<aya::programs::links::PinnedLink>,
}

/// CPUs that the machine may have, for partitioning what two CPUs must not both choose.
pub(crate) fn possible_cpus() -> anyhow::Result<usize> {
    aya::util::nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))
}
