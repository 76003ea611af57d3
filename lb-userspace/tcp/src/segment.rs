//! Segments as values: what `wire` reads and writes, and all that the rest of the crate knows of a packet.

use core::ops::BitOr;

use crate::Seq;

/// Control bits (RFC 9293 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);

    /// Whether all of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A header, options included; ports and checksum belong to `wire`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; counts with [`Flags::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire, not scaled.
    pub window: u16,
    /// Options that we know.
    pub options: Options,
}

/// Options that we know; others are skipped when read, as RFC 9293 §3.1 (MUST-6) asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size (RFC 9293 §3.2); SYN only.
    pub mss: Option<u16>,
    /// Shift count of the window, at most 14 (RFC 7323 §2); SYN only.
    pub window_scale: Option<u8>,
    /// SACK permitted (RFC 2018 §2); SYN only.
    pub sack_permitted: bool,
    /// Timestamps (RFC 7323 §3).
    pub timestamps: Option<Timestamps>,
    /// Blocks received out of order, or twice (RFC 2018 §3, RFC 2883).
    pub sack: SackBlocks,
}

/// `TSval` and `TSecr` (RFC 7323 §3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// `TSval`: the sender's clock.
    pub value: u32,
    /// `TSecr`: the last `TSval` of the other side.
    pub echo: u32,
}

/// Sequence numbers `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqRange {
    /// First.
    pub start: Seq,
    /// Behind the last.
    pub end: Seq,
}

impl SeqRange {
    /// How many.
    pub const fn len(self) -> u32 {
        self.end.since(self.start)
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Up to four blocks, in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [SeqRange; Self::MAX],
    len: u8,
}

impl SackBlocks {
    /// 40 bytes of options hold four blocks of eight; with timestamps three.
    pub const MAX: usize = 4;

    /// Adds a block; one too many is left out.
    pub fn push(&mut self, block: SeqRange) {
        if let Some(free) = self.blocks.get_mut(usize::from(self.len)) {
            *free = block;
            self.len += 1;
        }
    }

    /// The blocks.
    pub fn as_slice(&self) -> &[SeqRange] {
        &self.blocks[..usize::from(self.len)]
    }

    /// Keeps the first `len` blocks.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u8::try_from(len).unwrap_or(u8::MAX));
    }
}

/// A received segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Its header.
    pub header: Header,
    /// Its payload.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// Whether `flag` is set.
    pub const fn has(&self, flag: Flags) -> bool {
        self.header.flags.has(flag)
    }

    /// SEG.LEN: sequence numbers that the segment occupies, SYN and FIN included.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an IP packet has at most 65,535 bytes"
    )]
    pub const fn len(&self) -> u32 {
        self.payload.len() as u32 + self.has(Flags::SYN) as u32 + self.has(Flags::FIN) as u32
    }

    /// Whether it occupies no sequence number: a pure acknowledgement, or a RST.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A SYN that asks for a new connection.
    pub const fn opens(&self) -> bool {
        let asked = Flags::SYN.0 | Flags::ACK.0 | Flags::RST.0 | Flags::FIN.0;
        self.header.flags.0 & asked == Flags::SYN.0
    }
}
