//! A copy of a set that nobody else sees: for asking what *would* happen to a packet.
//!
//! Called by userspace (`lb explain`), never by the program.

use super::{BUSY, FlowEntry, FlowSet};
use crate::family::Family;

impl<F: Family> FlowSet<F> {
    /// A copy of its own: what a decision does to it changes no flow. An entry that changes while it is
    /// read is free in the copy, as it would have been a miss for a packet.
    #[must_use]
    pub fn private_copy(&self) -> Self {
        Self {
            entries: self.entries.each_ref().map(FlowEntry::private_copy),
        }
    }
}

impl<F: Family> FlowEntry<F> {
    fn private_copy(&self) -> Self {
        let word = self.word.load();
        let copy = Self::default();
        F::store(&copy.addresses, F::load(&self.addresses));
        F::store(&copy.new_addresses, F::load(&self.new_addresses));
        copy.macs_head.store(self.macs_head.load());
        copy.macs_tail.store(self.macs_tail.load());
        copy.new_ports.store(self.new_ports.load());
        copy.link.store(self.link.load());
        copy.service.store(self.service.load());
        copy.overflow.store(self.overflow.load());
        copy.seen.store(self.seen.load());
        copy.told.store(self.told.load());
        copy.tick.store(self.tick.load());
        copy.packets.store(self.packets.load());
        copy.bytes_and_backend.store(self.bytes_and_backend.load());
        if word & BUSY == 0 && self.word.load() == word {
            copy.word.store(word);
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use crate::flow::{FlowSet, Key};
    use crate::tcp::{Flags, State};

    #[test]
    fn a_copy_holds_the_same_flows_and_changes_none() {
        let key: Key = Key::new(([10, 0, 0, 1], 40_000), ([10, 0, 0, 2], 25), 6);
        let set: FlowSet = FlowSet::default();
        let entry = &set.entries()[2];
        entry.addresses.store(key.addresses);
        entry.service.store(7);
        entry.seen.store((Flags::SYN | Flags::ACK).0);
        entry.word.store(key.word());
        set.entries()[0].overflow.store(1);

        let copy = set.private_copy();
        assert_eq!(copy.entries()[2].snapshot(), entry.snapshot());
        assert_eq!(copy.entries()[0].overflow.load(), 1);
        copy.entries()[2].track(Flags::RST);
        assert_eq!(copy.entries()[2].state(), State::Closed);
        assert_eq!(entry.state(), State::Established);
    }

    #[test]
    fn an_entry_that_is_being_written_is_free_in_the_copy() {
        let set: FlowSet = FlowSet::default();
        set.entries()[0].word.store(super::BUSY);
        assert_eq!(set.private_copy().entries()[0].word.load(), 0);
    }
}
