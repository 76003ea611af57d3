//! Where in a frame its headers are, and what stands before them on the link.
//!
//! Most frames are plain: Ethernet, an IP header of constant length, TCP or UDP. Then every offset is a constant and
//! costs nothing. Tags, options, extension headers and fragments move them; who has found out where to (the stage for such
//! frames, [`crate::decide`]) leaves the [`Layout`] to the next stage in a [`Handover`], so that it is found once.
//!
//! Deliberately not here: reading it out of a frame (`decide::extended`).

use crate::family::Family;
use crate::wire::{Eth, Ethertype, Packet, Tag};

/// Where the headers of a frame start, in bytes, and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The network header.
    pub network: usize,
    /// The transport header; of a later piece of a datagram, what stands in its place.
    pub transport: usize,
    /// Protocol of the transport header.
    pub protocol: u8,
    /// Which part of its datagram the packet is.
    pub piece: Piece,
    /// Of a fragment, the identification that all of them share; of a later one whose first one is known, its ports. Not a
    /// part of [`Piece`]: what a whole packet has there would be undefined, and LLVM would have it read.
    pub shared: u32,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Piece {
    /// All of it.
    Whole = 0,
    /// The first fragment, which has the transport header.
    First = 1,
    /// Another fragment.
    Later = 2,
}

impl Layout {
    /// Of a frame without tags, options, extension headers or fragments.
    #[inline(always)]
    #[must_use]
    pub const fn plain<F: Family>(protocol: u8) -> Self {
        Self {
            network: Eth::LEN,
            transport: Eth::LEN + size_of::<F::Header>(),
            protocol,
            piece: Piece::Whole,
            shared: 0,
        }
    }

    /// Whether it is that of [`plain`](Self::plain).
    #[inline(always)]
    #[must_use]
    pub fn is_plain<F: Family>(&self) -> bool {
        *self == Self::plain::<F>(self.protocol)
    }

    /// Whether the transport header is in the packet.
    #[inline(always)]
    #[must_use]
    pub const fn has_transport(&self) -> bool {
        !matches!(self.piece, Piece::Later)
    }
}

/// What one stage leaves for the next one of the same packet: the element of the per-CPU map `HANDOVER`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handover {
    network: u16,
    transport: u16,
    protocol: u8,
    piece: u8,
    /// Bits `HANDOVER_*`.
    pub flags: u16,
    shared: u32,
    /// What the transport header says, for the stage that opens flows: ports as in [`crate::wire::Tcp::ports`].
    pub ports: u32,
    /// Length of the frame, in bytes.
    pub length: u32,
    /// Link that it came by: the kernel index of an interface, or [`LINK_VLAN`](crate::abi::LINK_VLAN) and a VLAN.
    pub link: u32,
    /// Control bits.
    pub control: u8,
    /// Hops left.
    pub hops: u8,
    /// Always zero.
    pub zero: u16,
}

/// The MSS of this SYN has been limited.
pub const HANDOVER_MSS_LIMITED: u16 = 1;
/// Userspace is gone, but the packet's service is kept up.
pub const HANDOVER_KEPT_UP: u16 = 2;

const WHOLE: u8 = Piece::Whole as u8;
const FIRST: u8 = Piece::First as u8;

/// Offsets end below these, whatever a map holds: the verifier can't know who wrote it.
const NETWORK_MASK: usize = 31;
pub(crate) const TRANSPORT_MASK: usize = 255;

impl Handover {
    /// The note about a packet of this layout.
    #[inline(always)]
    #[must_use]
    pub fn of(layout: Layout) -> Self {
        Self {
            network: narrow(layout.network),
            transport: narrow(layout.transport),
            protocol: layout.protocol,
            piece: layout.piece as u8,
            shared: layout.shared,
            ..Self::default()
        }
    }

    /// With one more of the bits `HANDOVER_*`.
    #[inline(always)]
    #[must_use]
    pub fn with_flag(self, flag: u16) -> Self {
        Self {
            flags: self.flags | flag,
            ..self
        }
    }

    /// Takes the note and leaves none: the next packet must not find it. Only what says that there is one is cleared: for
    /// all of it, LLVM calls a loop over its bytes.
    #[inline(always)]
    #[must_use]
    pub fn taken(&mut self) -> Self {
        let note = *self;
        self.transport = 0;
        self.flags = 0;
        note
    }

    /// Whether nobody has left a note.
    #[inline(always)]
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.transport == 0
    }

    /// The layout in it.
    #[inline(always)]
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            network: usize::from(self.network) & NETWORK_MASK,
            transport: usize::from(self.transport) & TRANSPORT_MASK,
            protocol: self.protocol,
            piece: match self.piece {
                WHOLE => Piece::Whole,
                FIRST => Piece::First,
                _ => Piece::Later,
            },
            shared: self.shared,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "offsets are below 256")]
#[inline(always)]
const fn narrow(offset: usize) -> u16 {
    offset as u16
}

/// The pieces of one datagram (RFC 791 §3.2, RFC 8200 §4.5): key of maps `FRAGMENTS` and `FRAGMENTS6`, whose values are
/// ports as in [`crate::wire::Tcp::ports`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FragmentKey<F: Family> {
    /// Source and destination.
    pub addresses: F::Addresses,
    /// What tells the datagrams of two hosts apart.
    pub identification: u32,
    /// Protocol of the transport header.
    pub protocol: u32,
}

/// The VLAN tags of a frame (IEEE 802.1Q, 802.1ad).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// Those that count, [`MAX_TAGS`] at most.
    pub count: usize,
    /// As they stand in the frame, the outermost in the first four bytes; zero in the place of one that isn't there. One
    /// integer, because LLVM would make misaligned stores to the stack of an array of bytes, which the verifier refuses.
    pub tags: u64,
}

/// Tags that a frame may have: one of the customer in one of the provider.
pub const MAX_TAGS: usize = 2;

/// The four bits of each tag (IEEE 802.1Q §9.6) that don't tell its VLAN: priority and drop eligibility.
const PRIORITIES: u64 = u64::from_le_bytes([0, 0, 0xf0, 0, 0, 0, 0xf0, 0]);
const OUTER_PRIORITY: u64 = u64::from_le_bytes([0, 0, 0xf0, 0, 0, 0, 0, 0]);

impl Tags {
    /// No tags.
    pub const NONE: Self = Self { count: 0, tags: 0 };

    /// Where the network header of a frame with these tags starts.
    #[inline(always)]
    #[must_use]
    pub const fn network(&self) -> usize {
        Eth::LEN + self.count * Tag::LEN
    }

    /// The tags of a frame whose network header starts at `network`.
    #[inline(always)]
    pub fn of<P: Packet + ?Sized>(packet: &P, network: usize) -> Option<Self> {
        if network < Eth::LEN + Tag::LEN {
            return Some(Self::NONE);
        }
        let outer = packet.header::<Tag>(Tag::FIRST)?.long();
        if network < Eth::LEN + 2 * Tag::LEN {
            return Some(Self {
                count: 1,
                tags: outer,
            });
        }
        let inner = packet.header::<Tag>(Tag::FIRST + Tag::LEN)?.long();
        Some(Self {
            count: 2,
            tags: outer | inner << 32,
        })
    }

    /// The same VLANs with the priority of the outermost of `other`.
    #[inline(always)]
    #[must_use]
    pub const fn with_priority_of(self, other: Self) -> Self {
        Self {
            tags: self.tags | other.tags & OUTER_PRIORITY,
            ..self
        }
    }

    /// The VLANs without the priorities, by which a link is known.
    #[inline(always)]
    #[must_use]
    pub const fn vlans(&self) -> u64 {
        self.tags & !PRIORITIES
    }

    /// Writes the tags and what follows them; the frame has the room.
    #[inline(always)]
    pub fn write<P: Packet + ?Sized>(&self, packet: &mut P, ethertype: [u8; 2]) -> Option<()> {
        if self.count > 0 {
            *packet.header_mut(Tag::FIRST)? = Tag::of_long(self.tags);
        }
        if self.count > 1 {
            *packet.header_mut(Tag::FIRST + Tag::LEN)? = Tag::of_long(self.tags >> 32);
        }
        let at = Tag::FIRST + self.count * Tag::LEN;
        *packet.header_mut(at)? = Ethertype(ethertype);
        Some(())
    }
}
