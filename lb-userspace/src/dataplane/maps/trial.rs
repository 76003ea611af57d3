//! The live maps as tables that a decision may write to without changing them.
//!
//! Small maps are read when they are asked for. What the decision writes to (flow entries) is copied
//! at the first touch and kept, so that the second packet of a trial finds the flow that the first one
//! would have opened. Counters are noted, not written.
//! Called by `explain`, through `Dataplane::trial`.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};

use aya::maps::lpm_trie::Key;
use lb_ebpf::abi::{
    ACCESS_BITS, AccessKey, Backend, Interface, Service, ServiceCounters, ServiceKey, ServiceKey6,
    Settings, StackFlowKey, StackFlowKey6, Vlan, VlanKey,
};
use lb_ebpf::decide::{Answers, Haste, Shared, Tables};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::flow::{FlowSet, Sets};
use lb_ebpf::layout::{FragmentKey, Handover};
use lb_ebpf::nat::SourceAddresses;
use lb_ebpf::rewrite::Rewrite;

use super::Maps;

/// One trial, of one packet or of several in their order.
pub(crate) struct Trial<'a> {
    maps: &'a Maps,
    settings: Settings,
    sets: Kept<FlowSet>,
    sets6: Kept<FlowSet<V6>>,
    backends: Kept<Backend>,
    noted: Cell<Noted>,
    handover: Cell<Handover>,
    fragments: RefCell<HashMap<FragmentKey<V4>, u32>>,
    fragments6: RefCell<HashMap<FragmentKey<V6>, u32>>,
    stack_flows: RefCell<HashSet<StackFlowKey>>,
    stack_flows6: RefCell<HashSet<StackFlowKey6>>,
    rewrite: Cell<Rewrite<V4>>,
    rewrite6: Cell<Rewrite<V6>>,
    answers: Cell<Answers>,
}

/// What a decision counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    /// Index of the service that the packet was counted for.
    pub(crate) service: Option<u8>,
    /// Flows that it opened.
    pub(crate) flows: u64,
}

impl<'a> Trial<'a> {
    pub(super) fn new(maps: &'a Maps, settings: Settings) -> Self {
        Self {
            maps,
            settings,
            sets: Kept::default(),
            sets6: Kept::default(),
            backends: Kept::default(),
            noted: Cell::default(),
            handover: Cell::default(),
            fragments: RefCell::default(),
            fragments6: RefCell::default(),
            stack_flows: RefCell::default(),
            stack_flows6: RefCell::default(),
            rewrite: Cell::default(),
            rewrite6: Cell::default(),
            answers: Cell::default(),
        }
    }

    /// What was counted since the last call.
    pub(crate) fn take_noted(&self) -> Noted {
        self.noted.take()
    }
}

impl Shared for Trial<'_> {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn prefilter_word(&self, index: u32) -> Option<u32> {
        self.maps.prefilter.get(&index, 0).ok()
    }

    fn ring_slot(&self, index: u32) -> Option<u32> {
        let slot = self.maps.rings.as_flattened().get(index as usize)?;
        Some(slot.load())
    }

    fn backend(&self, index: u32) -> Option<&Backend> {
        self.backends
            .get_or_read(index, || self.maps.backends.get(&index, 0).ok())
    }

    fn interface(&self, ifindex: u32) -> Option<Interface> {
        self.maps.interfaces.get(&ifindex, 0).ok()
    }

    fn access(&self, key: &AccessKey) -> Option<u32> {
        self.maps.access.get(&Key::new(ACCESS_BITS, *key), 0).ok()
    }

    fn vlan(&self, index: u32) -> Option<Vlan> {
        self.maps.vlans.get(&index, 0).ok()
    }

    fn vlan_index(&self, key: &VlanKey) -> Option<u32> {
        self.maps.vlan_ids.get(key, 0).ok()
    }

    fn count(&self, service: u8, counters: ServiceCounters) {
        self.noted.set(Noted {
            service: Some(service),
            flows: self.noted.get().flows + counters.flows,
        });
    }

    fn hand_over(&self, handover: Handover) {
        self.handover.set(handover);
    }

    fn take_over(&self) -> Handover {
        self.handover.take()
    }

    fn answers(&self) -> Answers {
        self.answers.get()
    }

    fn set_answers(&self, answers: Answers) {
        self.answers.set(answers);
    }

    /// The verdict is the same by the long way.
    fn haste(&self) -> Haste {
        Haste::default()
    }

    fn set_haste(&self, _: Haste) {}
}

impl Tables<V4> for Trial<'_> {
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.maps.services.get(key, 0).ok()
    }

    fn fragment(&self, key: &FragmentKey<V4>) -> Option<u32> {
        let tried = self.fragments.borrow().get(key).copied();
        tried.or_else(|| self.maps.fragments.get(key, 0).ok())
    }

    fn remember_fragment(&self, key: &FragmentKey<V4>, ports: u32) {
        self.fragments.borrow_mut().insert(*key, ports);
    }

    fn is_stack_flow(&self, key: &StackFlowKey) -> bool {
        self.stack_flows.borrow().contains(key) || self.maps.stack_flows.holds(key)
    }

    fn reuse_stack_flow(&self, key: &StackFlowKey) -> bool {
        // What stands there makes no difference to any packet.
        Tables::<V4>::is_stack_flow(self, key)
    }

    fn begin_stack_flow(&self, key: &StackFlowKey) -> bool {
        self.stack_flows.borrow_mut().insert(*key);
        true
    }

    fn note_rewrite(&self, rewrite: &Rewrite<V4>) {
        self.rewrite.set(*rewrite);
    }

    fn noted_rewrite(&self) -> Rewrite<V4> {
        self.rewrite.get()
    }
}

impl Tables<V6> for Trial<'_> {
    fn service(&self, key: &ServiceKey6) -> Option<Service> {
        self.maps.services6.get(key, 0).ok()
    }

    fn fragment(&self, key: &FragmentKey<V6>) -> Option<u32> {
        let tried = self.fragments6.borrow().get(key).copied();
        tried.or_else(|| self.maps.fragments6.get(key, 0).ok())
    }

    fn remember_fragment(&self, key: &FragmentKey<V6>, ports: u32) {
        self.fragments6.borrow_mut().insert(*key, ports);
    }

    fn is_stack_flow(&self, key: &StackFlowKey6) -> bool {
        self.stack_flows6.borrow().contains(key) || self.maps.stack_flows.holds6(key)
    }

    fn reuse_stack_flow(&self, key: &StackFlowKey6) -> bool {
        // What stands there makes no difference to any packet.
        Tables::<V6>::is_stack_flow(self, key)
    }

    fn begin_stack_flow(&self, key: &StackFlowKey6) -> bool {
        self.stack_flows6.borrow_mut().insert(*key);
        true
    }

    fn note_rewrite(&self, rewrite: &Rewrite<V6>) {
        self.rewrite6.set(*rewrite);
    }

    fn noted_rewrite(&self) -> Rewrite<V6> {
        self.rewrite6.get()
    }
}

impl Sets<V6> for Trial<'_> {
    fn flow_set(&self, index: u32) -> Option<&FlowSet<V6>> {
        self.sets6.get_or_read(index, || {
            self.maps.flows6.flow_set(index).map(FlowSet::private_copy)
        })
    }
}

impl SourceAddresses<V6> for Trial<'_> {
    fn snat_address(&self, index: u32) -> Option<[u8; 16]> {
        self.maps.snat_addresses6.get(&index, 0).ok()
    }
}

impl Sets<V4> for Trial<'_> {
    fn flow_set(&self, index: u32) -> Option<&FlowSet> {
        self.sets.get_or_read(index, || {
            self.maps.flows.flow_set(index).map(FlowSet::private_copy)
        })
    }
}

impl SourceAddresses<V4> for Trial<'_> {
    fn snat_address(&self, index: u32) -> Option<[u8; 4]> {
        self.maps.snat_addresses.get(&index, 0).ok()
    }
}

/// Elements of a map, each read once. They can be borrowed while others are added, because nothing
/// that is in the list ever moves or leaves; a trial looks at a few dozen, so a list will do.
struct Kept<T> {
    first: OnceCell<Box<Node<T>>>,
}

struct Node<T> {
    index: u32,
    value: T,
    next: OnceCell<Box<Node<T>>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            first: OnceCell::new(),
        }
    }
}

impl<T> Kept<T> {
    fn get_or_read(&self, index: u32, read: impl FnOnce() -> Option<T>) -> Option<&T> {
        let mut place = &self.first;
        while let Some(node) = place.get() {
            if node.index == index {
                return Some(&node.value);
            }
            place = &node.next;
        }
        let value = read()?;
        let next = OnceCell::new();
        let node = place.get_or_init(|| Box::new(Node { index, value, next }));
        Some(&node.value)
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    #[test]
    fn an_element_is_read_once_and_stays() {
        let kept = Kept::default();
        let first = kept.get_or_read(7, || Some("seven"));
        assert_eq!(kept.get_or_read(8, || None), None);
        assert_eq!(kept.get_or_read(9, || Some("nine")), Some(&"nine"));
        assert_eq!(kept.get_or_read(7, || Some("again")), Some(&"seven"));
        assert_eq!(first, Some(&"seven"));
    }
}
