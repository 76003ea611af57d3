//! What the sender waits for. Two timers at most run at once: one that suspects the peer or the way, and one that looks for
//! a loss earlier.

use crate::Instant;

/// The last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    Off,
    /// Something is in flight: retransmission (RFC 6298).
    Retransmit(Instant),
    /// Nothing is, because the window does not allow it: probe (RFC 9293 §3.8.6.1). `shift` doubles the interval so often.
    Persist {
        at: Instant,
        shift: u8,
    },
}

/// Looks for a loss before the last resort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Early {
    Off,
    /// The end of a flight may be lost: tail loss probe (RFC 8985 §7).
    Probe(Instant),
    /// Something that left earlier than what has arrived is late (RFC 8985 §6.2 step 5).
    Reorder(Instant),
}

impl Late {
    pub(super) fn at(self) -> Option<Instant> {
        match self {
            Self::Off => None,
            Self::Retransmit(at) | Self::Persist { at, .. } => Some(at),
        }
    }
}

impl Early {
    pub(super) fn at(self) -> Option<Instant> {
        match self {
            Self::Off => None,
            Self::Probe(at) | Self::Reorder(at) => Some(at),
        }
    }
}

/// The earlier of two times, if any.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
