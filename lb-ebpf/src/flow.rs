//! The flow table: who talks to which server, and what to write into their packets.
//!
//! An array of sets of four entries, each entry one cache line with the finished [`Rewrite`] in it, so
//! that an established packet costs one memory access whose address follows from its hash alone. Both
//! directions of a connection have an entry of their own; either leads to the other through its
//! rewritten tuple, and no link is stored.
//!
//! # Memory model
//!
//! The word of an entry is its key, its state and its version. A writer takes an entry by
//! compare-and-swap to BUSY with the generation advanced, stores the fields, and stores the LIVE word
//! last. A reader loads the word, the fields, and the word again: the same value twice means that no
//! writer was in between, because each writer advances the generation (to be fooled, the same key must
//! return after exactly 65,536 writers within one packet). A torn read counts as a miss, which is what
//! it is: the entry was given up in this instant. All fields are [`crate::cell`]s, so
//! nothing here is a data race, and the module contains no unsafe code.
//!
//! Counters and flags are loads and stores, not atomic additions: a direction of a flow stays on one
//! receive queue, and when it moves a few counts are lost. The flags that the *other* direction writes
//! are a byte of their own for that reason.
//!
//! Two CPUs may insert the same key in two ways at once only if one tuple arrives on both; receive-side
//! scaling rules that out for a client's tuple, and [`crate::nat`] for the port it is given. The second
//! entry would be unreachable until it is swept.
//!
//! Deliberately not here: idle timeouts. Userspace sweeps with [`FlowEntry::snapshot`] and
//! [`FlowEntry::release`]; the program only reuses what it must.

use crate::cell::{Cell8, Cell32, Cell64};
use crate::rewrite::{Macs, Rewrite};
use crate::tcp::{Direction, Flags, State};

/// Entries of a set.
pub const WAYS: u32 = 4;

/// Ticks without a packet after which an established flow may be displaced by a new one when the table
/// is full: longer than the keep-alive pauses of mail clients, shorter than any NAT timeout (RFC 5382
/// REQ-5 asks for two hours *unless* resources are short).
pub const DISPLACE_AFTER: u32 = 300;

const PROTOCOL_SHIFT: u32 = 32;
const LIVE: u64 = 1 << 40;
const BUSY: u64 = 1 << 41;
const REVERSE: u64 = 1 << 42;
const GENERATION_SHIFT: u32 = 48;
/// Ports, protocol, and that the entry is valid.
const MATCH: u64 = 0xff_ffff_ffff | LIVE | BUSY;
const BACKEND_SHIFT: u32 = 48;

/// A tuple as it stands in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Source and destination address as in [`crate::wire::Ipv4::addresses`].
    pub addresses: u64,
    /// Source and destination port as in [`crate::wire::Tcp::ports`].
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl Key {
    /// The tuple of the packets that answer.
    #[inline(always)]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            addresses: self.addresses.rotate_left(32),
            ports: self.ports.rotate_left(16),
            protocol: self.protocol,
        }
    }

    /// Source address and port.
    #[inline(always)]
    pub fn source(self) -> ([u8; 4], u16) {
        self.reversed().destination()
    }

    /// Destination address and port.
    #[inline(always)]
    pub fn destination(self) -> ([u8; 4], u16) {
        let [.., a, b, c, d] = self.addresses.to_ne_bytes();
        let [.., high, low] = self.ports.to_ne_bytes();
        ([a, b, c, d], u16::from_be_bytes([high, low]))
    }

    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self.ports) | u64::from(self.protocol) << PROTOCOL_SHIFT | LIVE
    }
}

/// Keyed multilinear hash `(k0 + k1·source + k2·destination + k3·ports) >> 32`: strongly universal
/// (Lemire and Kaser, "Strongly universal string hashing is fast", 2014) and the cheapest measured on
/// BPF. It is no pseudo-random function, so a hash value must never be shown to anyone.
#[inline(always)]
pub fn hash(keys: [u64; 4], flow: Key) -> u32 {
    let [k0, k1, k2, k3] = keys;
    let sum = k0
        .wrapping_add(k1.wrapping_mul(flow.addresses & 0xffff_ffff))
        .wrapping_add(k2.wrapping_mul(flow.addresses >> 32))
        .wrapping_add(k3.wrapping_mul(u64::from(flow.ports)));
    (sum >> 32) as u32
}

/// Word and bit of an address in map `PREFILTER`. Two addresses may share a bit: a packet that the
/// filter lets through is still looked up.
#[inline(always)]
pub fn prefilter_bit(address: [u8; 4]) -> (u32, u32) {
    // Fibonacci hashing; the filter is no defence, so the multiplier may be known.
    let bit = u32::from_ne_bytes(address).wrapping_mul(0x9e37_79b1) >> (32 - PREFILTER_BITS);
    (bit / 32, 1 << (bit % 32))
}

const PREFILTER_BITS: u32 = (crate::abi::PREFILTER_WORDS * 32).ilog2();

/// What an entry holds besides its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// What to do to the packets.
    pub rewrite: Rewrite,
    /// Which way they go.
    pub direction: Direction,
    /// Flags already seen in this direction.
    pub seen: Flags,
    /// Index of the service's counters.
    pub service: u8,
    /// Index of the server in map `BACKENDS`.
    pub backend: u16,
}

/// One direction of one flow: one cache line.
#[repr(C, align(64))]
#[derive(Default)]
pub struct FlowEntry {
    addresses: Cell64,
    /// Ports 0–31, protocol 32–39, LIVE, BUSY, REVERSE, generation 48–63.
    word: Cell64,
    new_addresses: Cell64,
    macs_head: Cell64,
    macs_tail: Cell32,
    new_ports: Cell32,
    ifindex: Cell32,
    service: Cell8,
    /// In the first way of a set: entries of this set were placed in their alternate set.
    overflow: Cell8,
    seen: Cell8,
    /// Written by the packets of the other direction.
    told: Cell8,
    tick: Cell32,
    packets: Cell32,
    /// Bytes in the low 48 bits (281 TB), server in the high 16, so that one line holds both.
    bytes_and_backend: Cell64,
}

/// The element of map `FLOWS`.
#[repr(C)]
#[derive(Default)]
pub struct FlowSet {
    entries: [FlowEntry; WAYS as usize],
}

const _: () = assert!(size_of::<FlowEntry>() == 64 && align_of::<FlowEntry>() == 64);
const _: () = assert!(size_of::<FlowSet>() == 256);
const _: () = assert!(crate::abi::MAX_SERVICES <= 1 << 8 && crate::abi::MAX_BACKENDS <= 1 << 16);

impl FlowEntry {
    /// The rewrite for `key`, if this entry is its and did not change under the read.
    #[inline(always)]
    fn read(&self, key: Key) -> Option<Rewrite> {
        let word = self.word.load();
        if word & MATCH != key.word() || self.addresses.load() != key.addresses {
            return None;
        }
        let rewrite = self.rewrite();
        (self.word.load() == word).then_some(rewrite)
    }

    #[inline(always)]
    fn rewrite(&self) -> Rewrite {
        Rewrite {
            addresses: self.new_addresses.load(),
            ports: self.new_ports.load(),
            macs: Macs {
                head: self.macs_head.load(),
                tail: self.macs_tail.load(),
            },
            ifindex: self.ifindex.load(),
        }
    }

    /// Index of the service's counters.
    #[inline(always)]
    pub fn service(&self) -> u8 {
        self.service.load()
    }

    /// Where the connection stands.
    #[inline(always)]
    pub fn state(&self) -> State {
        let direction = direction(self.word.load());
        State::of(direction, Flags(self.seen.load()), Flags(self.told.load()))
    }

    /// Counts a packet of `length` bytes at `tick`.
    #[inline(always)]
    pub fn count(&self, length: u32, tick: u32) {
        self.tick.store(tick);
        self.packets.store(self.packets.load().wrapping_add(1));
        let bytes = self.bytes_and_backend.load().wrapping_add(u64::from(length));
        self.bytes_and_backend.store(bytes);
    }

    /// Remembers the flags of a packet; returns those that the other direction's entry must be told.
    #[inline(always)]
    pub fn track(&self, flags: Flags) -> Flags {
        let seen = Flags(self.seen.load());
        let news = flags.tracked().without(seen);
        if news != Flags::default() {
            self.seen.store((seen | news).0);
        }
        news.told_to_peer(direction(self.word.load()))
    }

    /// Learns the flags that the other direction has seen.
    #[inline(always)]
    pub fn tell(&self, flags: Flags) {
        self.told.store(self.told.load() | flags.0);
    }

    /// How willingly the entry is given up for a new flow: 0 never, 3 gladly.
    #[inline(always)]
    fn expendable(&self, tick: u32) -> u32 {
        let idle = tick.wrapping_sub(self.tick.load());
        match self.state() {
            State::Closed => 3,
            State::HalfOpen => 2,
            State::Established | State::Closing if idle > DISPLACE_AFTER => 1,
            State::Established | State::Closing => 0,
        }
    }

    /// Gives the entry up, if its version is still `version`; says whether it did.
    #[inline(always)]
    pub fn release(&self, version: u64) -> bool {
        version & (LIVE | BUSY) == LIVE && self.word.compare_exchange(version, next(version))
    }

    /// A consistent copy for userspace; `None` if the entry is free or changes while it is read.
    pub fn snapshot(&self) -> Option<FlowSnapshot> {
        let word = self.word.load();
        if word & (LIVE | BUSY) != LIVE {
            return None;
        }
        let [a, b, c, d, protocol, ..] = word.to_le_bytes();
        let rewrite = self.rewrite();
        let bytes_and_backend = self.bytes_and_backend.load();
        let [.., low, high] = bytes_and_backend.to_le_bytes();
        let snapshot = FlowSnapshot {
            version: word,
            key: Key {
                addresses: self.addresses.load(),
                ports: u32::from_le_bytes([a, b, c, d]),
                protocol,
            },
            rewritten: Key {
                addresses: rewrite.addresses,
                ports: rewrite.ports,
                protocol,
            },
            direction: direction(word),
            state: self.state(),
            ifindex: rewrite.ifindex,
            last_tick: self.tick.load(),
            packets: self.packets.load(),
            bytes: bytes_and_backend & ((1 << BACKEND_SHIFT) - 1),
            service: self.service(),
            backend: u16::from_le_bytes([low, high]),
        };
        (self.word.load() == word).then_some(snapshot)
    }
}

/// One entry as userspace sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowSnapshot {
    /// For [`FlowEntry::release`]: gives up this flow and no later one in its place.
    pub version: u64,
    /// The tuple of its packets as they arrive.
    pub key: Key,
    /// The tuple as they leave. Its reverse is the key of the other direction's entry.
    pub rewritten: Key,
    /// Which way they go.
    pub direction: Direction,
    /// Where the connection stands.
    pub state: State,
    /// Interface they leave by.
    pub ifindex: u32,
    /// [`crate::abi::Settings::tick`] at the last packet.
    pub last_tick: u32,
    /// Packets so far, modulo 2³².
    pub packets: u32,
    /// Bytes so far, Ethernet header included, modulo 2⁴⁸.
    pub bytes: u64,
    /// Index of the service's counters.
    pub service: u8,
    /// Index of the server in map `BACKENDS`.
    pub backend: u16,
}

impl FlowSet {
    /// The entries, for sweeping and listing.
    pub fn entries(&self) -> &[FlowEntry] {
        &self.entries
    }

    #[inline(always)]
    fn way(&self, way: u32) -> Option<&FlowEntry> {
        self.entries.get((way & (WAYS - 1)) as usize)
    }

    #[inline(always)]
    fn find(&self, preferred: u32, key: Key) -> Option<Found<'_>> {
        for step in 0..WAYS {
            let entry = self.way(preferred ^ step)?;
            if let Some(rewrite) = entry.read(key) {
                return Some(Found { entry, rewrite });
            }
        }
        None
    }

    #[inline(always)]
    fn claim_free(&self, preferred: u32) -> Option<Claim<'_>> {
        for step in 0..WAYS {
            let entry = self.way(preferred ^ step)?;
            let word = entry.word.load();
            if word & (LIVE | BUSY) == 0 {
                let busy = next(word) | BUSY;
                if entry.word.compare_exchange(word, busy) {
                    return Some(Claim { entry, busy });
                }
            }
        }
        None
    }

    /// Takes the entry that is missed least, and with it the tuple of its other direction.
    #[inline(always)]
    fn displace(&self, tick: u32) -> Option<(Claim<'_>, Key)> {
        let mut victim = None;
        let mut best = 0;
        for way in 0..WAYS {
            let entry = self.way(way)?;
            let word = entry.word.load();
            let rank = entry.expendable(tick);
            if word & BUSY == 0 && rank > best {
                best = rank;
                victim = Some((entry, word));
            }
        }
        let (entry, word) = victim?;
        let busy = next(word) | BUSY;
        entry.word.compare_exchange(word, busy).then(|| {
            let rewritten = Key {
                addresses: entry.new_addresses.load(),
                ports: entry.new_ports.load(),
                protocol: protocol(word),
            };
            (Claim { entry, busy }, rewritten.reversed())
        })
    }
}

/// A hit.
pub struct Found<'a> {
    /// The entry, for counting and tracking.
    pub entry: &'a FlowEntry,
    /// Its rewrite, read consistently.
    pub rewrite: Rewrite,
}

/// An entry that is ours to fill. One that is neither published nor abandoned stays BUSY for good.
#[must_use]
struct Claim<'a> {
    entry: &'a FlowEntry,
    busy: u64,
}

impl Claim<'_> {
    #[inline(always)]
    fn publish(self, key: Key, value: &Value, tick: u32) {
        let entry = self.entry;
        entry.addresses.store(key.addresses);
        entry.new_addresses.store(value.rewrite.addresses);
        entry.new_ports.store(value.rewrite.ports);
        entry.macs_head.store(value.rewrite.macs.head);
        entry.macs_tail.store(value.rewrite.macs.tail);
        entry.ifindex.store(value.rewrite.ifindex);
        entry.service.store(value.service);
        entry.seen.store(value.seen.0);
        entry.told.store(0);
        entry.tick.store(tick);
        entry.packets.store(0);
        entry.bytes_and_backend.store(u64::from(value.backend) << BACKEND_SHIFT);
        let reverse = match value.direction {
            Direction::Forward => 0,
            Direction::Reverse => REVERSE,
        };
        entry.word.store(self.busy & !BUSY | key.word() | reverse);
    }

    #[inline(always)]
    fn abandon(self) {
        self.entry.word.store(self.busy & !BUSY);
    }
}

/// Where the sets are: map `FLOWS`, or a vector.
pub trait Sets {
    /// The set at `index`; `None` past the end.
    fn flow_set(&self, index: u32) -> Option<&FlowSet>;
}

/// Not even a flow that nobody would miss could make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The table, as one packet sees it.
pub struct Table<'a, S> {
    /// The sets.
    pub sets: &'a S,
    /// Keys of the hash, tick, and number of sets.
    pub settings: &'a crate::abi::Settings,
}

impl<'a, S: Sets> Table<'a, S> {
    /// The entry of `key`.
    #[inline(always)]
    pub fn find(&self, key: Key) -> Option<Found<'a>> {
        let (hash, set) = self.primary(key)?;
        if let Some(found) = set.find(preferred(hash), key) {
            return Some(found);
        }
        if set.way(0)?.overflow.load() == 0 {
            return None;
        }
        let (hash, set) = self.alternate(key)?;
        set.find(preferred(hash), key)
    }

    /// As [`find`](Self::find), out of line: for the paths that are taken once in a connection.
    #[inline(never)]
    pub fn find_cold(&self, key: &Key) -> Option<&'a FlowEntry> {
        self.find(*key).map(|found| found.entry)
    }

    /// Inserts both directions of a flow, or neither.
    ///
    /// The reverse entry is published first: when the first packet leaves, its answer finds its way.
    #[inline(always)]
    pub fn insert(&self, forward: Key, to: &Value, reverse: Key, back: &Value) -> Result<(), Full> {
        let reverse_claim = self.claim(&reverse).ok_or(Full)?;
        let Some(forward_claim) = self.claim(&forward) else {
            reverse_claim.abandon();
            return Err(Full);
        };
        reverse_claim.publish(reverse, back, self.settings.tick);
        forward_claim.publish(forward, to, self.settings.tick);
        Ok(())
    }

    /// Gives up the entry of `key`, if there is one.
    #[inline(always)]
    pub fn remove(&self, key: &Key) {
        if let Some(entry) = self.find_cold(key) {
            entry.release(entry.word.load());
        }
    }

    #[inline(never)]
    fn claim(&self, key: &Key) -> Option<Claim<'a>> {
        let (hash, primary) = self.primary(*key)?;
        if let Some(claim) = primary.claim_free(preferred(hash)) {
            return Some(claim);
        }
        let (hash, alternate) = self.alternate(*key)?;
        if let Some(claim) = alternate.claim_free(preferred(hash)) {
            primary.way(0)?.overflow.store(1);
            return Some(claim);
        }
        let (claim, peer) = primary.displace(self.settings.tick)?;
        self.remove(&peer);
        Some(claim)
    }

    /// The slot of a Maglev ring for a new flow.
    #[inline(always)]
    pub fn slot(&self, key: Key) -> u32 {
        let [k0, k1, k2, k3, ..] = self.settings.hash_key;
        crate::maglev::slot(hash([k0, k1, k2, k3], key))
    }

    #[inline(always)]
    fn primary(&self, key: Key) -> Option<(u32, &'a FlowSet)> {
        let [k0, k1, k2, k3, ..] = self.settings.hash_key;
        self.at(hash([k0, k1, k2, k3], key), 0)
    }

    /// The second set of a key. Never the first one, unless the table has only one.
    #[inline(always)]
    fn alternate(&self, key: Key) -> Option<(u32, &'a FlowSet)> {
        let [k0, k1, k2, k3, l0, l1, l2, l3] = self.settings.hash_key;
        let (first, second) = (hash([k0, k1, k2, k3], key), hash([l0, l1, l2, l3], key));
        let collision = (first ^ second) & self.settings.flow_set_mask == 0;
        self.at(second, u32::from(collision))
    }

    #[inline(always)]
    fn at(&self, hash: u32, flip: u32) -> Option<(u32, &'a FlowSet)> {
        let index = (hash ^ flip) & self.settings.flow_set_mask;
        self.sets.flow_set(index).map(|set| (hash, set))
    }
}

/// The way to look at first: the two high bits of the hash, which no set index uses below 2³⁰ sets.
#[inline(always)]
const fn preferred(hash: u32) -> u32 {
    hash >> 30
}

#[inline(always)]
const fn direction(word: u64) -> Direction {
    if word & REVERSE == 0 {
        Direction::Forward
    } else {
        Direction::Reverse
    }
}

#[inline(always)]
const fn protocol(word: u64) -> u8 {
    (word >> PROTOCOL_SHIFT) as u8
}

/// The word of the following generation: free, of nobody.
#[inline(always)]
const fn next(word: u64) -> u64 {
    ((word >> GENERATION_SHIFT).wrapping_add(1)) << GENERATION_SHIFT
}
