//! What the peer has acknowledged last, once more: from it a socket learns the round trip, and how much may be in flight.
//!
//! A socket in repair knows neither: its congestion window is ten segments, its retransmission timeout the one of a first SYN (so a loss among
//! the first segments after a move costs a second or three), and no option sets them. But it believes what it is told by TCP. So it is
//! told that a few segments before SND.UNA were sent, and then the acknowledgement of SND.UNA is re-injected, which the peer did
//! send: with an echo as old as the round trip that we know.
//!
//! The bytes of these segments are zeros, not those that were sent, which nobody keeps. They can't do harm: the peer has had these numbers,
//! and drops what comes for them again. Nothing comes, as they are acknowledged before the socket sends anything.
//!
//! Not here: the slow start threshold, which can't be told so. A socket that goes on where there was a loss starts slowly from the window that
//! it is told, and learns again where it ends.

use lb_tcp::{Flags, Header, Options, Snapshot, Timestamps};

/// Segments that a socket begins with by itself (RFC 6928).
const INITIAL_WINDOW: u32 = 10;

/// Segments that are made up at most. Each costs a copy of its bytes, and what the window lacks it doubles in a round trip.
const MOST: u32 = 128;

/// Bytes of timestamps in each segment.
const TIMESTAMPS_LEN: u32 = 12;

/// Segments before SND.UNA, and their acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History {
    /// Bytes of the segments.
    pub(crate) len: u32,
    /// From the peer.
    pub(crate) acknowledgement: Header,
}

impl History {
    /// `clock` is what the socket's clock is set to. None without timestamps, of which a socket takes the round trip, and without a round
    /// trip.
    pub(crate) fn new(snapshot: &Snapshot, clock: u32) -> Option<Self> {
        let (recent, _) = snapshot.timestamps?;
        let round_trip = u32::try_from(snapshot.srtt?.as_millis()).ok()?;
        // An echo of zero is none.
        let echo = clock.wrapping_sub(round_trip);
        let echo = if echo == 0 { u32::MAX } else { echo };
        Some(Self {
            len: len(snapshot),
            acknowledgement: Header {
                seq: snapshot.rcv_nxt,
                ack: snapshot.una,
                flags: Flags::ACK,
                window: window(snapshot),
                options: Options {
                    timestamps: Some(Timestamps {
                        value: recent,
                        echo,
                    }),
                    ..Options::default()
                },
            },
        })
    }
}

/// In slow start the window grows by what is acknowledged. One byte is enough for the round trip.
fn len(snapshot: &Snapshot) -> u32 {
    let size = u32::from(snapshot.mss)
        .saturating_sub(TIMESTAMPS_LEN)
        .max(1);
    let window = snapshot.cwnd / size;
    match window.saturating_sub(INITIAL_WINDOW).min(MOST) {
        0 => 1,
        segments => segments * size,
    }
}

/// SND.WND as the peer has told it.
pub(crate) fn window(snapshot: &Snapshot) -> u16 {
    let shift = snapshot.shifts.map_or(0, |(send, _)| send);
    u16::try_from(snapshot.wnd >> shift).unwrap_or(u16::MAX)
}
