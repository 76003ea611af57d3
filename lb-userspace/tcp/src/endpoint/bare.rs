//! Segments without a connection: answers to those that have none, or no longer.

use super::time_wait::Remains;
use crate::{Flags, Header, Options, Segment, Seq, Timestamps};

/// RST in answer to a segment of no connection (RFC 9293 §3.10.7.1). That segment must not be a RST.
pub(super) fn refusal(segment: &Segment<'_>) -> Header {
    debug_assert!(!segment.has(Flags::RST), "a RST is never answered");
    if segment.has(Flags::ACK) {
        return Header {
            seq: segment.header.ack,
            flags: Flags::RST,
            ..Header::default()
        };
    }
    Header {
        seq: Seq(0),
        ack: segment.header.seq + segment.len(),
        flags: Flags::RST | Flags::ACK,
        ..Header::default()
    }
}

/// The last acknowledgement of a connection in TIME-WAIT; `clock` is our timestamp clock towards that peer.
pub(super) fn last_acknowledgement(remains: &Remains, clock: u32) -> Header {
    Header {
        seq: remains.nxt,
        ack: remains.ack,
        flags: Flags::ACK,
        window: remains.window,
        options: Options {
            timestamps: remains
                .ts_recent()
                .map(|echo| Timestamps { value: clock, echo }),
            ..Options::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(flags: Flags, payload: &[u8], expected: (u32, u32, Flags)) {
        let header = Header {
            seq: Seq(100),
            ack: Seq(900),
            flags,
            ..Header::default()
        };
        let answer = refusal(&Segment { header, payload });
        assert_eq!((answer.seq.0, answer.ack.0, answer.flags), expected);
    }

    #[test]
    fn a_refusal_is_acceptable_to_whoever_sent_the_segment() {
        let both = Flags::RST | Flags::ACK;
        check(Flags::ACK, b"text", (900, 0, Flags::RST));
        check(Flags::SYN | Flags::ACK, b"", (900, 0, Flags::RST));
        check(Flags::FIN, b"text", (0, 105, both));
        check(Flags::SYN, b"", (0, 101, both));
        check(Flags(0), b"", (0, 100, both));
    }

    #[test]
    fn the_last_acknowledgement_has_timestamps_if_the_connection_had() {
        let remains = Remains::new(Seq(5), Seq(6), 7, Some(8));
        let header = last_acknowledgement(&remains, 9);
        let echo = Some(Timestamps { value: 9, echo: 8 });
        assert_eq!((header.seq, header.ack, header.window), (Seq(5), Seq(6), 7));
        assert_eq!(
            (header.options.timestamps, header.flags),
            (echo, Flags::ACK)
        );
        let remains = Remains::new(Seq(5), Seq(6), 7, None);
        assert_eq!(
            last_acknowledgement(&remains, 9).options,
            Options::default()
        );
    }
}
