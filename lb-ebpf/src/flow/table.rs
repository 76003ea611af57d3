//! Finding, placing and displacing entries: four ways of a set, two sets for a key, or three in a table that was spread
//! (see `core`).
//!
//! The alternate set is searched only if the primary one is flagged as having overflowed, so that a miss
//! costs one cache line as well. The flag is never cleared by the program: a stale one costs time only.

use super::{
    BUSY, Direction, FlowEntry, FlowSet, Key, LIVE, MODE_SHIFT, Mode, REVERSE, Rewrite, TAGGED,
    Value, WAYS, mode, next, protocol,
};
use crate::abi::{CORE_FIRST, CORE_NONE, CORE_SPREAD, LINK_VLAN, Settings};
use crate::family::{Family, V4};
use core::hint;
use core::marker::PhantomData;

impl<F: Family> FlowSet<F> {
    #[inline(always)]
    pub(super) fn way(&self, way: u32) -> Option<&FlowEntry<F>> {
        self.entries.get((way & (WAYS - 1)) as usize)
    }

    #[inline(always)]
    fn find(&self, preferred: u32, key: &Key<F>) -> Option<Found<'_, F>> {
        for step in 0..WAYS {
            let entry = self.way(preferred ^ step)?;
            if let Some(version) = entry.version_of(key) {
                return Some(Found { entry, version });
            }
        }
        None
    }

    #[inline(always)]
    pub(super) fn touch(&self) {
        for entry in &self.entries {
            entry.word.load();
        }
    }

    /// Whether flows that belong here were placed elsewhere.
    #[inline(always)]
    fn overflows(&self) -> bool {
        self.way(0).is_some_and(|entry| entry.overflow.load() != 0)
    }

    #[inline(always)]
    fn claim_free(&self, preferred: u32) -> Option<Claim<'_, F>> {
        for step in 0..WAYS {
            let entry = self.way(preferred ^ step)?;
            if let Some(claim) = Claim::of(entry) {
                return Some(claim);
            }
        }
        None
    }

    /// Gives up the entry that is missed least; the key of its other direction, if it has one.
    #[inline(always)]
    fn displace(&self, tick: u32) -> Option<Key<F>> {
        // Rank and way in one number, of equal ranks the first way: one state for the verifier, not one for each pair.
        let mut best = 0;
        for way in 0..WAYS {
            let entry = self.way(way)?;
            let rank = entry.expendable(entry.word.load(), tick);
            best = best.max(rank << 2 | u64::from(way ^ (WAYS - 1)));
        }
        let [way, ..] = best.to_le_bytes();
        let entry = self.way(u32::from(way) ^ (WAYS - 1))?;
        // It may have changed since; what counts is what the word that is given up stands for.
        let word = entry.word.load();
        if entry.expendable(word, tick) == 0 {
            return None;
        }
        let peer = entry.rewrite(word).peer(protocol(word));
        if entry.release(word) { peer } else { None }
    }
}

/// A hit.
pub struct Found<'a, F: Family> {
    /// The entry, for counting and tracking.
    pub entry: &'a FlowEntry<F>,
    version: u64,
}

impl<F: Family> Found<'_, F> {
    /// What to do to the packet; `None` if the entry was given up since it was found.
    ///
    /// Not a field, and to be asked for when everything else is done: so it goes from the entry into the packet, and
    /// not by way of the stack, as what must survive a call does.
    #[inline(always)]
    pub fn rewrite(&self) -> Option<Rewrite<F>> {
        let rewrite = self.entry.rewrite(self.version);
        (self.entry.word.load() == self.version).then_some(rewrite)
    }

    /// Whether the packets of the flow leave with a VLAN tag.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        self.version & TAGGED != 0
    }

    /// How the packets of the flow are forwarded.
    #[inline(always)]
    pub fn mode(&self) -> Mode {
        mode(self.version)
    }
}

/// An entry that is ours to fill: nobody else changes a BUSY word. One that is neither published nor abandoned stays so
/// for good.
#[must_use]
pub(super) struct Claim<'a, F: Family> {
    entry: &'a FlowEntry<F>,
}

impl<'a, F: Family> Claim<'a, F> {
    /// `None` if the entry is not free.
    #[inline(always)]
    pub(super) fn of(entry: &'a FlowEntry<F>) -> Option<Self> {
        let word = entry.word.load();
        let is_free = word & (LIVE | BUSY) == 0;
        let claimed = is_free && entry.word.compare_exchange(word, next(word) | BUSY);
        claimed.then_some(Self { entry })
    }

    #[inline(always)]
    pub(super) fn publish(self, key: &Key<F>, value: &Value<F>, tick: u32) {
        self.entry.fill(key, value, tick);
        let reverse = match value.direction {
            Direction::Forward => 0,
            Direction::Reverse => REVERSE,
        };
        let mode = u64::from(value.rewrite.mode as u8) << MODE_SHIFT;
        let tagged = if value.rewrite.link & LINK_VLAN == 0 {
            0
        } else {
            TAGGED
        };
        self.entry
            .word
            .store(self.entry.word.load() & !BUSY | key.word() | reverse | mode | tagged);
    }

    #[inline(always)]
    pub(super) fn abandon(self) {
        self.entry.word.store(self.entry.word.load() & !BUSY);
    }
}

/// Where the sets are: map `FLOWS` or `FLOWS6`, or a vector.
pub trait Sets<F: Family = V4> {
    /// The set at `index`; `None` past the end.
    fn flow_set(&self, index: u32) -> Option<&FlowSet<F>>;
}

/// Not even a flow that nobody would miss could make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The table, as one packet sees it.
pub struct Table<'a, S, F: Family = V4> {
    /// The sets.
    pub sets: &'a S,
    /// Keys of the hash, tick, and number of sets.
    pub settings: &'a Settings,
    family: PhantomData<F>,
}

impl<'a, F: Family, S: Sets<F>> Table<'a, S, F> {
    /// The table in these sets, with the settings that they were filled by.
    #[inline(always)]
    pub fn new(sets: &'a S, settings: &'a Settings) -> Self {
        Self {
            sets,
            settings,
            family: PhantomData,
        }
    }

    /// The entry of `key`.
    #[inline(always)]
    pub fn find(&self, key: &Key<F>) -> Option<Found<'a, F>> {
        let (hash, set) = self.primary(key)?;
        if let Some(found) = set.find(preferred(hash), key) {
            return Some(found);
        }
        if !set.overflows() && !self.is_spread() {
            return None;
        }
        // A copy, so that what the key is part of need not be in memory for the call.
        self.find_rare(&Key {
            addresses: key.addresses,
            ports: key.ports,
            protocol: hint::black_box(key.protocol),
        })
    }

    /// As [`find`](Self::find), where little is found.
    #[inline(always)]
    pub fn find_rare(&self, key: &Key<F>) -> Option<Found<'a, F>> {
        let entry = self.find_cold(key)?;
        let version = entry.version_of(key)?;
        Some(Found { entry, version })
    }

    /// As [`find`](Self::find), out of line: for the paths that are taken once in a connection.
    #[inline(never)]
    pub fn find_cold(&self, key: &Key<F>) -> Option<&'a FlowEntry<F>> {
        let (hash, set) = self.primary(kept_whole(key))?;
        if let Some(found) = set.find(preferred(hash), kept_whole(key)) {
            return Some(found.entry);
        }
        if set.overflows() {
            let (hash, set) = self.alternate(kept_whole(key))?;
            if let Some(found) = set.find(preferred(hash), kept_whole(key)) {
                return Some(found.entry);
            }
        }
        if !self.is_spread() {
            return None;
        }
        // Placed there before the table was spread.
        let (hash, set) = self.in_core(kept_whole(key))?;
        set.find(preferred(hash), kept_whole(key))
            .map(|found| found.entry)
    }

    /// Has the processor fetch the sets in which `key` is, or would be, while it goes on with something else. BPF has no
    /// prefetch, but a load whose value nobody looks at is one: what follows doesn't wait for it.
    #[inline(never)]
    pub fn touch(&self, key: &Key<F>) {
        let key = kept_whole(key);
        if let Some((_, set)) = self.primary(key) {
            set.touch();
        }
        if self.is_spread()
            && let Some((_, set)) = self.in_core(key)
        {
            set.touch();
        }
    }

    /// Inserts both directions of a flow, or neither.
    ///
    /// The reverse entry is published first: when the first packet leaves, its answer finds its way.
    #[inline(always)]
    pub fn insert(
        &self,
        forward: &Key<F>,
        to: &Value<F>,
        reverse: &Key<F>,
        back: &Value<F>,
    ) -> Result<(), Full> {
        let reverse_claim = self.claim(reverse).ok_or(Full)?;
        let Some(forward_claim) = self.claim(forward) else {
            reverse_claim.abandon();
            return Err(Full);
        };
        reverse_claim.publish(reverse, back, self.settings.tick);
        forward_claim.publish(forward, to, self.settings.tick);
        Ok(())
    }

    /// Inserts the only direction of a flow.
    #[inline(always)]
    pub fn insert_one_way(&self, key: &Key<F>, value: &Value<F>) -> Result<(), Full> {
        let claim = self.claim(key).ok_or(Full)?;
        claim.publish(key, value, self.settings.tick);
        Ok(())
    }

    /// Gives up the entry of `key`, if there is one.
    #[inline(always)]
    pub fn remove(&self, key: &Key<F>) {
        if let Some(entry) = self.find_cold(key) {
            entry.release(entry.word.load());
        }
    }

    /// An entry for `key`, if need be in the place of a flow that nobody would miss.
    #[inline(always)]
    fn claim(&self, key: &Key<F>) -> Option<Claim<'a, F>> {
        self.claim_free(key).or_else(|| {
            self.make_room(key);
            // Unless another CPU was faster, and then it is as if there had been no room.
            self.claim_free(key)
        })
    }

    #[inline(never)]
    fn claim_free(&self, key: &Key<F>) -> Option<Claim<'a, F>> {
        let key = kept_whole(key);
        let (hash, primary) = self.primary(key)?;
        if let Some(claim) = primary.claim_free(preferred(hash)) {
            return Some(claim);
        }
        let (hash, alternate) = self.alternate(key)?;
        let claim = alternate.claim_free(preferred(hash))?;
        primary.way(0)?.overflow.store(1);
        if self.fills_core() {
            // Followed when the table is spread.
            self.in_whole(key)?.way(0)?.overflow.store(1);
        }
        Some(claim)
    }

    /// Displaces a flow from the primary set of `key`, in both directions, if there is one that nobody would miss.
    #[inline(never)]
    fn make_room(&self, key: &Key<F>) {
        let displaced = self
            .primary(kept_whole(key))
            .and_then(|(_, set)| set.displace(self.settings.tick));
        if let Some(peer) = displaced {
            self.remove(&peer);
        }
    }

    /// The slot of a Maglev ring for a new flow.
    #[inline(always)]
    pub fn slot(&self, key: &Key<F>) -> u32 {
        crate::maglev::slot(key.hashes(&self.settings.hash_key).0)
    }

    /// The first set of a key: that of the core, if that is filled first.
    #[inline(always)]
    pub(super) fn primary(&self, key: &Key<F>) -> Option<(u32, &'a FlowSet<F>)> {
        let (hash, _) = key.hashes(&self.settings.hash_key);
        self.at(hash, self.index(hash, F::core(self.settings)))
    }

    /// The second set of a key. Never the first one, unless the table has only one (or the core, by a rare chance).
    #[inline(always)]
    fn alternate(&self, key: &Key<F>) -> Option<(u32, &'a FlowSet<F>)> {
        let (first, second) = key.hashes(&self.settings.hash_key);
        let whole = self.index(first, CORE_NONE);
        if self.fills_core() && whole > F::set_mask(self.settings) >> CORE_FIRST {
            // Outside the core, and where it will be looked for first when the table is spread.
            return self.at(first, whole);
        }
        let index = self.index(second, CORE_NONE);
        let collides = u32::from(index == whole);
        self.at(second, index ^ (collides & F::set_mask(self.settings)))
    }

    #[inline(always)]
    fn fills_core(&self) -> bool {
        F::core(self.settings) == CORE_FIRST
    }

    /// The set of a key in a table without core.
    #[inline(always)]
    fn in_whole(&self, key: &Key<F>) -> Option<&'a FlowSet<F>> {
        let (hash, _) = key.hashes(&self.settings.hash_key);
        self.sets.flow_set(self.index(hash, CORE_NONE))
    }

    /// The set of a key that the core was filled with first.
    #[inline(always)]
    pub(super) fn in_core(&self, key: &Key<F>) -> Option<(u32, &'a FlowSet<F>)> {
        let (hash, _) = key.hashes(&self.settings.hash_key);
        self.at(hash, self.index(hash, CORE_FIRST))
    }

    #[inline(always)]
    pub(super) fn is_spread(&self) -> bool {
        F::core(self.settings) == CORE_SPREAD
    }

    /// The index of a set, in the core or in the whole table.
    ///
    /// The core takes other bits of the hash than the whole does: so what overflows from one set comes to many.
    #[inline(always)]
    fn index(&self, hash: u32, core: u16) -> u32 {
        let shift = u32::from(core % CORE_SPREAD);
        (hash >> (shift * 3 % u32::BITS)) & (F::set_mask(self.settings) >> (shift % u32::BITS))
    }

    #[inline(always)]
    fn at(&self, hash: u32, index: u32) -> Option<(u32, &'a FlowSet<F>)> {
        self.sets.flow_set(index).map(|set| (hash, set))
    }
}

/// The same key. LLVM would otherwise pass the fields of an IPv6 key one by one, in more registers than a BPF call has.
#[inline(always)]
fn kept_whole<F: Family>(key: &Key<F>) -> &Key<F> {
    hint::black_box(key)
}

/// The way to look at first: the two high bits of the hash, which no set index uses below 2³⁰ sets.
#[inline(always)]
pub(super) const fn preferred(hash: u32) -> u32 {
    hash >> 30
}
