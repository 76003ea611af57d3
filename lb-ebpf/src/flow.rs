//! The flow table: who talks to which server, and what to write into their packets.
//!
//! An array of sets of four entries, each entry one cache line (IPv6: two) with the finished [`Rewrite`] in it, so
//! that an established packet costs one memory access whose address follows from its hash alone. Both
//! directions of a connection have an entry of their own; either leads to the other through its
//! rewritten tuple, and no link is stored.
//!
//! As long as the flows are few, a sixteenth of a large table is filled first, so that they share its pages (`core`).
//!
//! Where the server answers its client itself (direct server return, tunnels), only one direction comes by, and
//! has the only entry.
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
//! are a byte of their own for that reason. A packet whose entry is given up under it may still count,
//! or leave a flag, in the entry's next flow: that flow can then be reused early, and is forwarded as well.
//!
//! Two CPUs may insert the same key in two ways at once only if one tuple arrives on both; receive-side
//! scaling rules that out for a client's tuple, and [`crate::nat`] for the port it is given. The second
//! entry would be unreachable until it is swept.
//!
//! Deliberately not in the program: idle timeouts. Userspace calls [`Table::sweep`]; the program only
//! reuses what it must.

#[cfg(any(test, feature = "user"))]
mod copy;
mod core;
mod sweep;
mod table;
mod vacancy;

pub use core::{core_is_crowded, initial_core};
pub use sweep::{Fate, Timeouts};
pub use table::{Found, Full, Sets, Table};
pub use vacancy::Vacancies;

use crate::abi::HASH_KEYS;
use crate::cell::{Cell8, Cell32, Cell64};
use crate::family::{Family, V4, V6};
use crate::rewrite::{Macs, Mode, Rewrite};
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
/// How the packets of the flow are forwarded: three bits, [`Mode`].
const MODE_SHIFT: u32 = 43;
/// The packets of the flow leave with a VLAN tag: their link is none of the kernel's interfaces.
const TAGGED: u64 = 1 << 46;
const GENERATION_SHIFT: u32 = 48;
/// Ports, protocol, and that the entry is valid.
const MATCH: u64 = 0xff_ffff_ffff | LIVE | BUSY;
const BACKEND_SHIFT: u32 = 48;

/// A tuple as it stands in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key<F: Family = V4> {
    /// Source and destination address.
    pub addresses: F::Addresses,
    /// Source and destination port as in [`crate::wire::Tcp::ports`].
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl<F: Family> Key<F> {
    /// The tuple of packets from one address and port to another.
    #[inline(always)]
    pub fn new(source: (F::Address, u16), destination: (F::Address, u16), protocol: u8) -> Self {
        let ([p, q], [r, s]) = (source.1.to_be_bytes(), destination.1.to_be_bytes());
        Self {
            addresses: F::join(source.0, destination.0),
            ports: u32::from_ne_bytes([p, q, r, s]),
            protocol,
        }
    }

    /// The tuple of the packets that answer.
    #[inline(always)]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            addresses: F::swapped(self.addresses),
            ports: self.ports.rotate_left(16),
            protocol: self.protocol,
        }
    }

    /// Source address and port.
    #[inline(always)]
    pub fn source(self) -> (F::Address, u16) {
        self.reversed().destination()
    }

    /// Destination address and port.
    #[inline(always)]
    pub fn destination(self) -> (F::Address, u16) {
        let [.., high, low] = self.ports.to_ne_bytes();
        (
            F::destination(self.addresses),
            u16::from_be_bytes([high, low]),
        )
    }

    /// Two keyed hashes. No pseudo-random functions, so neither must ever be shown to anyone.
    #[inline(always)]
    pub(crate) fn hashes(&self, keys: &[u64; HASH_KEYS]) -> (u32, u32) {
        F::hashes(keys, self.addresses, self.ports)
    }

    #[inline(always)]
    fn word(&self) -> u64 {
        u64::from(self.ports) | u64::from(self.protocol) << PROTOCOL_SHIFT | LIVE
    }
}

/// Word and bit of an address in map `PREFILTER`. Two addresses may share a bit: a packet that the
/// filter lets through is still looked up.
#[inline(always)]
pub fn prefilter_bit(address: [u8; 4]) -> (u32, u32) {
    // Fibonacci hashing; the filter is no defence, so the multiplier may be known.
    let bit = u32::from_ne_bytes(address).wrapping_mul(0x9e37_79b1) >> (32 - PREFILTER_BITS);
    (bit / 32, 1 << (bit % 32))
}

/// As [`prefilter_bit`], of an IPv6 address.
#[inline(always)]
pub fn prefilter_bit6(address: [u8; 16]) -> (u32, u32) {
    let [first, second, third, fourth] = words(address);
    let folded = first ^ second.rotate_left(8) ^ third.rotate_left(16) ^ fourth.rotate_left(24);
    prefilter_bit(folded.to_ne_bytes())
}

#[expect(clippy::many_single_char_names, reason = "bytes in their order")]
#[inline(always)]
const fn words(address: [u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}

const PREFILTER_BITS: u32 = (crate::abi::PREFILTER_WORDS * 32).ilog2();

/// What an entry holds besides its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<F: Family = V4> {
    /// What to do to the packets.
    pub rewrite: Rewrite<F>,
    /// Which way they go.
    pub direction: Direction,
    /// Flags already seen in this direction.
    pub seen: Flags,
    /// Index of the service's counters.
    pub service: u8,
    /// Index of the server in map `BACKENDS`.
    pub backend: u16,
}

/// One direction of one flow: one cache line for IPv4, two for IPv6.
#[repr(C, align(64))]
#[derive(Default)]
pub struct FlowEntry<F: Family = V4> {
    addresses: F::Cells,
    /// Ports 0–31, protocol 32–39, LIVE, BUSY, REVERSE, generation 48–63.
    word: Cell64,
    new_addresses: F::Cells,
    macs_head: Cell64,
    macs_tail: Cell32,
    new_ports: Cell32,
    link: Cell32,
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

/// The element of maps `FLOWS` and `FLOWS6`.
#[repr(C)]
#[derive(Default)]
pub struct FlowSet<F: Family = V4> {
    entries: [FlowEntry<F>; WAYS as usize],
}

impl<F: Family> FlowSet<F> {
    /// The entries, for sweeping and listing.
    pub fn entries(&self) -> &[FlowEntry<F>] {
        &self.entries
    }
}

// The model checker's cells hold more than their value.
const _: () = assert!(cfg!(loom) || size_of::<FlowEntry>() == 64 && align_of::<FlowEntry>() == 64);
const _: () = assert!(cfg!(loom) || size_of::<FlowSet>() == 256);
const _: () =
    assert!(cfg!(loom) || size_of::<FlowEntry<V6>>() == 128 && size_of::<FlowSet<V6>>() == 512);
const _: () = assert!(crate::abi::MAX_SERVICES <= 1 << 8 && crate::abi::MAX_BACKENDS <= 1 << 16);

impl<F: Family> FlowEntry<F> {
    /// The version of this entry, if it is that of `key`.
    #[inline(always)]
    fn version_of(&self, key: &Key<F>) -> Option<u64> {
        let word = self.word.load();
        let matches = word & MATCH == key.word() && F::holds(&self.addresses, key.addresses);
        matches.then_some(word)
    }

    #[inline(always)]
    fn rewrite(&self, word: u64) -> Rewrite<F> {
        Rewrite {
            mode: mode(word),
            addresses: F::load(&self.new_addresses),
            ports: self.new_ports.load(),
            macs: Macs {
                head: self.macs_head.load(),
                tail: self.macs_tail.load(),
            },
            link: self.link.load(),
        }
    }

    /// Stores everything but the word.
    #[inline(always)]
    fn fill(&self, key: &Key<F>, value: &Value<F>, tick: u32) {
        F::store(&self.addresses, key.addresses);
        F::store(&self.new_addresses, value.rewrite.addresses);
        self.new_ports.store(value.rewrite.ports);
        self.macs_head.store(value.rewrite.macs.head);
        self.macs_tail.store(value.rewrite.macs.tail);
        self.link.store(value.rewrite.link);
        self.service.store(value.service);
        self.seen.store(value.seen.0);
        self.told.store(0);
        self.tick.store(tick);
        self.packets.store(0);
        self.bytes_and_backend
            .store(u64::from(value.backend) << BACKEND_SHIFT);
    }

    /// Index of the service's counters.
    #[inline(always)]
    pub fn service(&self) -> u8 {
        self.service.load()
    }

    /// Which way its packets go.
    #[inline(always)]
    pub fn direction(&self) -> Direction {
        direction(self.word.load())
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
        let bytes = self
            .bytes_and_backend
            .load()
            .wrapping_add(u64::from(length));
        self.bytes_and_backend.store(bytes);
    }

    /// Remembers the flags of a packet; returns those that the other direction's entry must be told.
    #[inline(always)]
    pub fn track(&self, flags: Flags) -> Flags {
        let seen = Flags(self.seen.load());
        let news = flags.tracked().without(seen);
        if news == Flags::default() {
            return news;
        }
        self.seen.store((seen | news).0);
        news.told_to_peer(direction(self.word.load()))
    }

    /// Learns the flags that the other direction has seen.
    #[inline(always)]
    pub fn tell(&self, flags: Flags) {
        self.told.store(self.told.load() | flags.0);
    }

    /// How willingly the entry of this word is given up for a new flow: 0 never (it is being written, or in use), 1 if
    /// it is idle, 2 if half-open, 3 if closed.
    ///
    /// [`State::of`] in sums and shifts: of branches, the verifier would follow each through each way of a set.
    #[inline(always)]
    fn expendable(&self, word: u64, tick: u32) -> u64 {
        let (seen, told) = (u64::from(self.seen.load()), u64::from(self.told.load()));
        let (both, reverse) = (seen | told, (word / REVERSE) & 1);
        let client = seen ^ (seen ^ told) & reverse.wrapping_neg();
        let last = u64::from(self.tick.load()) + u64::from(DISPLACE_AFTER);
        let idle = last.wrapping_sub(u64::from(tick)) >> 63;
        let closed = (bit(both, Flags::RST) | bit(seen & told, Flags::FIN)) & 1;
        let used = (bit(client, Flags::ACK) | bit(both, Flags::FIN)) & 1;
        let open = closed ^ 1;
        let rank = (closed * 3) | (open * (used ^ 1) * 2) | (open * used * idle);
        rank * (((word / BUSY) & 1) ^ 1)
    }

    /// Gives the entry up, if its version is still `version`; says whether it did.
    #[inline(always)]
    pub fn release(&self, version: u64) -> bool {
        version & (LIVE | BUSY) == LIVE && self.word.compare_exchange(version, next(version))
    }

    /// A consistent copy for userspace; `None` if the entry is free or changes while it is read.
    pub fn snapshot(&self) -> Option<FlowSnapshot<F>> {
        let word = self.word.load();
        if word & (LIVE | BUSY) != LIVE {
            return None;
        }
        let [a, b, c, d, protocol, ..] = word.to_le_bytes();
        let rewrite = self.rewrite(word);
        let bytes_and_backend = self.bytes_and_backend.load();
        let [.., low, high] = bytes_and_backend.to_le_bytes();
        let snapshot = FlowSnapshot {
            version: word,
            key: Key {
                addresses: F::load(&self.addresses),
                ports: u32::from_le_bytes([a, b, c, d]),
                protocol,
            },
            rewritten: Key {
                addresses: rewrite.addresses,
                ports: rewrite.ports,
                protocol,
            },
            mode: rewrite.mode,
            direction: direction(word),
            state: self.state(),
            link: rewrite.link,
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
pub struct FlowSnapshot<F: Family = V4> {
    /// For [`FlowEntry::release`]: gives up this flow and no later one in its place.
    pub version: u64,
    /// The tuple of its packets as they arrive.
    pub key: Key<F>,
    /// The tuple as they leave; in a tunnel, the outer addresses and [`crate::rewrite::tunnel_ports`].
    pub rewritten: Key<F>,
    /// How they are forwarded.
    pub mode: Mode,
    /// Which way they go.
    pub direction: Direction,
    /// Where the connection stands.
    pub state: State,
    /// Link they leave by, as in a [`Rewrite`].
    pub link: u32,
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

impl<F: Family> FlowSnapshot<F> {
    /// The key of the other direction's entry; `None` if only one direction comes by here.
    #[inline(always)]
    pub fn peer(&self) -> Option<Key<F>> {
        self.mode.is_two_way().then(|| self.rewritten.reversed())
    }
}

/// The lowest bit says whether the flag is set.
#[inline(always)]
const fn bit(flags: u64, flag: Flags) -> u64 {
    flags >> flag.0.trailing_zeros()
}

#[inline(always)]
const fn direction(word: u64) -> Direction {
    if word & REVERSE == 0 {
        Direction::Forward
    } else {
        Direction::Reverse
    }
}

#[expect(clippy::cast_possible_truncation, reason = "three bits are meant")]
#[inline(always)]
const fn mode(word: u64) -> Mode {
    Mode::of_bits((word >> MODE_SHIFT) as u8)
}

#[inline(always)]
const fn protocol(word: u64) -> u8 {
    let [_, _, _, _, protocol, ..] = word.to_le_bytes();
    protocol
}

/// The word of the following generation: free, of nobody.
#[inline(always)]
const fn next(word: u64) -> u64 {
    ((word >> GENERATION_SHIFT).wrapping_add(1)) << GENERATION_SHIFT
}

#[cfg(test)]
mod tests;
