//! What a flow entry remembers of TCP, per direction: enough to know when the entry may be reused.
//!
//! ```text
//!  client SYN ──▶ HalfOpen ──client ACK──▶ Established ──FIN either way──▶ Closing ──FIN other way──▶ Closed
//!                     └──────────────────────── RST either way ─────────────────────────────────────▶ Closed
//! ```
//!
//! A load balancer in the middle cannot check sequence numbers cheaply, so a forged RST can mark a flow
//! closed. That is harmless by design: a closed flow is still forwarded; it may only be *reused*, by a
//! new SYN of the same tuple or under pressure. Deliberately not here: timeouts (userspace sweeps).

use core::ops::BitOr;

/// Control bits of a segment (RFC 9293 §3.1), those that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Start of a connection.
    pub const SYN: Self = Self(0x02);
    /// The connection is gone.
    pub const RST: Self = Self(0x04);
    /// The acknowledgement number counts.
    pub const ACK: Self = Self(0x10);

    /// What a UDP datagram counts as. So the second of a client, which most clients send only after an
    /// answer, makes its flow one that is in use ([`State::Established`]), and it never ends but by time.
    pub const DATAGRAM: Self = Self::ACK;

    /// Whether the segment asks for a new connection: SYN without ACK, RST or FIN.
    #[inline(always)]
    pub fn opens(self) -> bool {
        self.0 & (Self::FIN | Self::SYN | Self::RST | Self::ACK).0 == Self::SYN.0
    }

    /// Whether all of `other` are set.
    #[inline(always)]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits that a flow entry keeps.
    #[inline(always)]
    #[must_use]
    pub fn tracked(self) -> Self {
        Self(self.0 & (Self::FIN | Self::SYN | Self::RST | Self::ACK).0)
    }

    /// The bits of `self` that `other` lacks.
    #[inline(always)]
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The bits that the entry of the other direction must learn. An ACK counts from the client only:
    /// the server's SYN-ACK proves nothing about a client that may be forged.
    #[inline(always)]
    #[must_use]
    pub fn told_to_peer(self, direction: Direction) -> Self {
        match direction {
            Direction::Forward => Self(self.0 & (Self::FIN | Self::RST | Self::ACK).0),
            Direction::Reverse => Self(self.0 & (Self::FIN | Self::RST).0),
        }
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which way the packets of an entry go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Forward,
    /// From the server to the client.
    Reverse,
}

/// Where a connection stands, as far as a bystander can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The client has not yet acknowledged anything: it may not exist.
    HalfOpen,
    /// The client has answered the server.
    Established,
    /// One side has sent FIN.
    Closing,
    /// Both sides have sent FIN, or one RST.
    Closed,
}

impl State {
    /// From the flags that `direction` has shown itself and those that it was told of by the other.
    #[inline(always)]
    pub fn of(direction: Direction, seen: Flags, told: Flags) -> Self {
        let both = seen | told;
        let client = match direction {
            Direction::Forward => seen,
            Direction::Reverse => told,
        };
        if both.has(Flags::RST) || (seen.has(Flags::FIN) && told.has(Flags::FIN)) {
            Self::Closed
        } else if both.has(Flags::FIN) {
            Self::Closing
        } else if client.has(Flags::ACK) {
            Self::Established
        } else {
            Self::HalfOpen
        }
    }

    /// The name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Forward, Reverse};
    use super::{Flags, State};

    const NONE: Flags = Flags(0);

    #[test]
    fn only_a_bare_syn_opens() {
        assert!(Flags::SYN.opens());
        assert!(
            Flags(0xc2).opens(),
            "ECN setup (RFC 3168 §6.1.1) is a SYN like another"
        );
        for other in [Flags::ACK, Flags::RST, Flags::FIN] {
            assert!(!(Flags::SYN | other).opens());
        }
        assert!(!NONE.opens());
    }

    #[test]
    fn states() {
        let check = |direction, seen, told, expected| {
            assert_eq!(
                State::of(direction, seen, told),
                expected,
                "{direction:?} {seen:?} {told:?}"
            );
        };
        let (syn, ack, fin, rst) = (Flags::SYN, Flags::ACK, Flags::FIN, Flags::RST);
        check(Forward, syn, NONE, State::HalfOpen);
        check(Reverse, syn | ack, NONE, State::HalfOpen);
        check(Forward, syn | ack, NONE, State::Established);
        check(Reverse, syn | ack, ack, State::Established);
        check(Forward, syn | ack | fin, NONE, State::Closing);
        check(Forward, syn | ack, fin, State::Closing);
        check(Forward, syn | ack | fin, fin, State::Closed);
        check(Forward, syn, rst, State::Closed);
        check(Reverse, rst | ack, NONE, State::Closed);
    }

    #[test]
    fn a_syn_ack_does_not_prove_the_client() {
        assert_eq!((Flags::SYN | Flags::ACK).told_to_peer(Reverse), NONE);
        assert_eq!(Flags::ACK.told_to_peer(Forward), Flags::ACK);
    }
}
