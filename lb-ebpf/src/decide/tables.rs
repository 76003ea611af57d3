//! What a decision asks of the maps.
//!
//! The program answers from kernel maps, tests from vectors, `lb explain` from copies of the live maps. Deliberately not
//! here: the flow table, which is asked by [`crate::flow`].

use super::{Answers, Haste};
use crate::abi::{
    AccessKey, Backend, Interface, Service, ServiceCounters, Settings, Vlan, VlanKey,
};
use crate::family::Family;
use crate::flow::Sets;
use crate::layout::{FragmentKey, Handover};
use crate::nat::SourceAddresses;
use crate::rewrite::Rewrite;

/// What userspace has told us, whatever the family: maps in the kernel, vectors in tests. `None` means "no such
/// element".
pub trait Shared {
    /// Map `SETTINGS`.
    fn settings(&self) -> Option<&Settings>;
    /// Map `PREFILTER`.
    fn prefilter_word(&self, index: u32) -> Option<u32>;
    /// Map `RINGS`: index of a server.
    fn ring_slot(&self, index: u32) -> Option<u32>;
    /// Map `BACKENDS`.
    fn backend(&self, index: u32) -> Option<&Backend>;
    /// Map `INTERFACES`.
    fn interface(&self, ifindex: u32) -> Option<Interface>;
    /// Map `ACCESS`: what the longest prefix of the key that is there says.
    fn access(&self, key: &AccessKey) -> Option<u32>;
    /// Map `VLANS`.
    fn vlan(&self, index: u32) -> Option<Vlan>;
    /// Map `VLAN_IDS`.
    fn vlan_index(&self, key: &VlanKey) -> Option<u32>;
    /// Adds to map `SERVICE_COUNTERS`.
    fn count(&self, service: u8, counters: ServiceCounters);
    /// Leaves a note for the next stage of the packet.
    fn hand_over(&self, handover: Handover);
    /// Takes the note of the stage before.
    fn take_over(&self) -> Handover;
    /// Map `ANSWERS`, of this CPU.
    fn answers(&self) -> Answers;
    /// Writes map `ANSWERS`.
    fn set_answers(&self, answers: Answers);
    /// Map `HASTE`, of this CPU.
    fn haste(&self) -> Haste;
    /// Writes map `HASTE`.
    fn set_haste(&self, haste: Haste);
}

/// What userspace has told us about one family.
pub trait Tables<F: Family>: Shared + Sets<F> + SourceAddresses<F> {
    /// Map `SERVICES` or `SERVICES6`.
    fn service(&self, key: &F::ServiceKey) -> Option<Service>;
    /// Map `FRAGMENTS` or `FRAGMENTS6`: the ports of a datagram whose first piece has come by.
    fn fragment(&self, key: &FragmentKey<F>) -> Option<u32>;
    /// Writes to that map.
    fn remember_fragment(&self, key: &FragmentKey<F>, ports: u32);
    /// Whether map `STACK_FLOWS` or `STACK_FLOWS6` holds a connection.
    fn is_stack_flow(&self, key: &F::StackFlowKey) -> bool;
    /// As [`is_stack_flow`](Self::is_stack_flow), where a new connection begins between the same ends; it is then noted as one that began
    /// on the stack.
    fn reuse_stack_flow(&self, key: &F::StackFlowKey) -> bool;
    /// Adds one that begins on the stack to that map; `false` if that failed, and the connection must begin elsewhere.
    fn begin_stack_flow(&self, key: &F::StackFlowKey) -> bool;
    /// Leaves what is to become of the packet to [`Stage::Leave`](crate::verdict::Stage::Leave), in map `REWRITE` or `REWRITE6`.
    fn note_rewrite(&self, rewrite: &Rewrite<F>);
    /// What was noted last.
    fn noted_rewrite(&self) -> Rewrite<F>;
}
