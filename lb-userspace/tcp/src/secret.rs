//! Keyed numbers: initial sequence numbers, timestamp offsets, cookies, and the hash of the flow table.

use core::hash::{BuildHasher, Hash, Hasher};

use siphasher::sip::SipHasher13;

use crate::{FlowKey, Instant, Seq};

/// Random bytes of the process, from which all that a peer must not guess is derived.
#[derive(Clone, Copy)]
pub struct Secret([u8; 16]);

/// What a number is for: two uses must not tell each other's values.
#[derive(Clone, Copy, Hash)]
pub(crate) enum Purpose {
    Isn,
    TimestampOffset,
    Cookie,
    FlowTable,
}

impl Secret {
    /// From 16 random bytes of the operating system.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Initial sequence number (RFC 6528 §3): a clock of 4 µs, plus a keyed hash of both ends.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "modulo 2³² is what is wanted"
    )]
    pub(crate) fn isn(&self, key: &FlowKey, now: Instant) -> Seq {
        Seq((now.as_micros() / 4) as u32) + self.hash(Purpose::Isn, key) as u32
    }

    /// What is added to the clock of our timestamps, so that they don't tell the host's uptime, or one connection from the
    /// next (RFC 7323 §5.4).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low half of a hash is a hash"
    )]
    pub(crate) fn timestamp_offset(&self, key: &FlowKey) -> u32 {
        self.hash(Purpose::TimestampOffset, key) as u32
    }

    /// A hasher for the flow table: peers choose their addresses and ports, so it must be keyed. Kept by the table, since it is
    /// needed for every segment.
    pub(crate) fn flow_table(&self) -> SipHasher13 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        Purpose::FlowTable.hash(&mut hasher);
        hasher
    }

    pub(crate) fn hash(&self, purpose: Purpose, value: impl Hash) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        (purpose, value).hash(&mut hasher);
        hasher.finish()
    }
}

/// For maps whose keys are of our own choice: of listeners.
impl BuildHasher for Secret {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        self.flow_table()
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(..)")
    }
}
