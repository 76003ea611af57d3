//! The maps as the [`Tables`] of a decision.
#![expect(
    unsafe_code,
    reason = "map elements are memory that userspace may write at any time; see each block"
)]

use super::maps::{
    ACCESS, ANSWERS, BACKENDS, COUNTERS, FLOWS, FLOWS6, FRAGMENTS, FRAGMENTS6, HANDOVER, HASTE,
    INTERFACES, PREFILTER, REWRITE, REWRITE6, RINGS, SERVICE_COUNTERS, SERVICES, SERVICES6,
    SETTINGS, SNAT_ADDRESSES, SNAT_ADDRESSES6, STACK_FLOWS, STACK_FLOWS6, VLAN_IDS, VLANS,
};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use lb_ebpf::abi::{
    ACCESS_BITS, AccessKey, Backend, Interface, RING_SLOTS, STACK_FLOW_BEGUN, Service,
    ServiceCounters, ServiceKey, ServiceKey6, Settings, StackFlowKey, StackFlowKey6, Vlan, VlanKey,
};
use lb_ebpf::decide::{Answers, Haste, Shared, Tables};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::flow::{FlowSet, Sets};
use lb_ebpf::layout::{FragmentKey, Handover};
use lb_ebpf::nat::SourceAddresses;
use lb_ebpf::rewrite::Rewrite;
use lb_ebpf::verdict::Reason;

/// All maps; they are statics, so there is nothing to hold.
pub(super) struct Maps;

impl Shared for Maps {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        SETTINGS.get(0)
    }

    #[inline(always)]
    fn prefilter_word(&self, index: u32) -> Option<u32> {
        PREFILTER.get(index).copied()
    }

    #[inline(always)]
    fn ring_slot(&self, index: u32) -> Option<u32> {
        let slots = RINGS.get(index / RING_SLOTS)?;
        let slot = slots.get((index % RING_SLOTS) as usize)?;
        Some(u32::from(*slot))
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<&Backend> {
        BACKENDS.get(index)
    }

    #[inline(always)]
    fn interface(&self, ifindex: u32) -> Option<Interface> {
        // SAFETY: the value is copied at once; a deletion meanwhile can at worst hand us the value of
        // an interface that is just being added, which is one as well.
        unsafe { INTERFACES.get(ifindex) }.copied()
    }

    #[inline(always)]
    fn access(&self, key: &AccessKey) -> Option<u32> {
        ACCESS.get(&Key::new(ACCESS_BITS, *key)).copied()
    }

    #[inline(always)]
    fn vlan(&self, index: u32) -> Option<Vlan> {
        VLANS.get(index).copied()
    }

    #[inline(always)]
    fn vlan_index(&self, key: &VlanKey) -> Option<u32> {
        // SAFETY: as in `interface`.
        unsafe { VLAN_IDS.get(key) }.copied()
    }

    #[inline(always)]
    fn count(&self, service: u8, counters: ServiceCounters) {
        if let Some(total) = SERVICE_COUNTERS.get_ptr_mut(u32::from(service)) {
            // SAFETY: an element of a per-CPU array, in the copy of this CPU, on which no other run
            // of this program is under way; userspace only reads.
            let total = unsafe { &mut *total };
            total.packets += counters.packets;
            total.bytes += counters.bytes;
            total.flows += counters.flows;
            total.forwarded += counters.forwarded;
        }
    }

    #[inline(always)]
    fn hand_over(&self, handover: Handover) {
        if let Some(element) = HANDOVER.get_ptr_mut(0) {
            // SAFETY: as in `count`.
            unsafe { *element = handover }
        }
    }

    #[inline(always)]
    fn take_over(&self) -> Handover {
        HANDOVER
            .get_ptr_mut(0)
            .map_or(Handover::default(), |element| {
                // SAFETY: as in `count`.
                unsafe { &mut *element }.taken()
            })
    }

    #[inline(always)]
    fn answers(&self) -> Answers {
        ANSWERS
            .get_ptr_mut(0)
            .map_or(Answers::default(), |element| {
                // SAFETY: as in `count`.
                unsafe { *element }
            })
    }

    #[inline(always)]
    fn set_answers(&self, answers: Answers) {
        if let Some(element) = ANSWERS.get_ptr_mut(0) {
            // SAFETY: as in `count`.
            unsafe { *element = answers }
        }
    }

    #[inline(always)]
    fn haste(&self) -> Haste {
        HASTE.get_ptr_mut(0).map_or(Haste::default(), |element| {
            // SAFETY: as in `count`.
            unsafe { *element }
        })
    }

    #[inline(always)]
    fn set_haste(&self, haste: Haste) {
        if let Some(element) = HASTE.get_ptr_mut(0) {
            // SAFETY: as in `count`.
            unsafe { *element = haste }
        }
    }
}

/// Of an element of `STACK_FLOWS`.
#[inline(always)]
fn note_begun(value: *mut u32) {
    // SAFETY: the element is there as long as this run; it may have become another tuple's meanwhile, which is then free again
    // only when control looks. One aligned word, stored once, whatever others read and write.
    unsafe { value.write_volatile(STACK_FLOW_BEGUN) }
}

impl Tables<V4> for Maps {
    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        // SAFETY: as in `interface`.
        unsafe { SERVICES.get(key) }.copied()
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<V4>) -> Option<u32> {
        // SAFETY: as in `interface`: another datagram's ports, at worst.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey<V4>, ports: u32) {
        // If it fails, the pieces that follow are passed like those of a datagram that nobody knows.
        let _ = FRAGMENTS.insert(key, ports, 0);
    }

    #[inline(always)]
    fn is_stack_flow(&self, key: &StackFlowKey) -> bool {
        STACK_FLOWS.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn reuse_stack_flow(&self, key: &StackFlowKey) -> bool {
        STACK_FLOWS.get_ptr_mut(key).map(note_begun).is_some()
    }

    #[inline(always)]
    fn begin_stack_flow(&self, key: &StackFlowKey) -> bool {
        STACK_FLOWS.insert(key, STACK_FLOW_BEGUN, 0).is_ok()
    }

    #[inline(always)]
    fn note_rewrite(&self, rewrite: &Rewrite<V4>) {
        if let Some(element) = REWRITE.get_ptr_mut(0) {
            // SAFETY: as in `count`.
            unsafe { *element = *rewrite }
        }
    }

    #[inline(always)]
    fn noted_rewrite(&self) -> Rewrite<V4> {
        REWRITE
            .get_ptr_mut(0)
            .map_or_else(Rewrite::default, |element| {
                // SAFETY: as in `count`. Only `note_rewrite` writes it, and zeros, as it starts, are a value too.
                unsafe { *element }
            })
    }
}

impl Sets<V4> for Maps {
    #[inline(always)]
    fn flow_set(&self, index: u32) -> Option<&FlowSet> {
        FLOWS.get(index)
    }
}

impl SourceAddresses<V4> for Maps {
    #[inline(always)]
    fn snat_address(&self, index: u32) -> Option<[u8; 4]> {
        SNAT_ADDRESSES.get(index).copied()
    }
}

impl Tables<V6> for Maps {
    #[inline(always)]
    fn service(&self, key: &ServiceKey6) -> Option<Service> {
        // SAFETY: as in `interface`.
        unsafe { SERVICES6.get(key) }.copied()
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey<V6>) -> Option<u32> {
        // SAFETY: as in `interface`: another datagram's ports, at worst.
        unsafe { FRAGMENTS6.get(key) }.copied()
    }

    #[inline(always)]
    fn remember_fragment(&self, key: &FragmentKey<V6>, ports: u32) {
        // If it fails, the pieces that follow are passed like those of a datagram that nobody knows.
        let _ = FRAGMENTS6.insert(key, ports, 0);
    }

    #[inline(always)]
    fn is_stack_flow(&self, key: &StackFlowKey6) -> bool {
        STACK_FLOWS6.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn reuse_stack_flow(&self, key: &StackFlowKey6) -> bool {
        STACK_FLOWS6.get_ptr_mut(key).map(note_begun).is_some()
    }

    #[inline(always)]
    fn begin_stack_flow(&self, key: &StackFlowKey6) -> bool {
        STACK_FLOWS6.insert(key, STACK_FLOW_BEGUN, 0).is_ok()
    }

    #[inline(always)]
    fn note_rewrite(&self, rewrite: &Rewrite<V6>) {
        if let Some(element) = REWRITE6.get_ptr_mut(0) {
            // SAFETY: as in `count`.
            unsafe { *element = *rewrite }
        }
    }

    #[inline(always)]
    fn noted_rewrite(&self) -> Rewrite<V6> {
        REWRITE6
            .get_ptr_mut(0)
            .map_or_else(Rewrite::default, |element| {
                // SAFETY: as in `count`. Only `note_rewrite` writes it, and zeros, as it starts, are a value too.
                unsafe { *element }
            })
    }
}

impl Sets<V6> for Maps {
    #[inline(always)]
    fn flow_set(&self, index: u32) -> Option<&FlowSet<V6>> {
        FLOWS6.get(index)
    }
}

impl SourceAddresses<V6> for Maps {
    #[inline(always)]
    fn snat_address(&self, index: u32) -> Option<[u8; 16]> {
        SNAT_ADDRESSES6.get(index).copied()
    }
}

/// Adds one to the counter of `reason` and returns the count on this CPU.
#[inline(always)]
pub(super) fn count(reason: Reason) -> u64 {
    let Some(counter) = COUNTERS.get_ptr_mut(reason as u32) else {
        return 0;
    };
    // SAFETY: as in `Maps::count`.
    unsafe {
        *counter += 1;
        *counter
    }
}

/// Notes that userspace is gone, if it is. Not inlined: for one packet in many.
#[inline(never)]
pub(super) fn watch() {
    let Some(settings) = SETTINGS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: no arguments, no failure.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: an element of the map, valid for the whole run. Other CPUs may write the word as well, and userspace the
    // element: what is read is an aligned integer, old or new, and what is written is one, the same from everyone here.
    // Should userspace have been late and come back in this instant, its next tick writes zero again.
    unsafe {
        if (*settings).is_orphaned_at(now) {
            (&raw mut (*settings).orphaned).write_volatile(1);
        }
    }
}
