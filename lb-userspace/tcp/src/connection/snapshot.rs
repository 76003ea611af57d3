//! The way out to another engine or to a kernel socket, and in again.
//!
//! All that the peer was told, or knows of us, is in a [`Snapshot`]: no byte and no promise is lost. What was in flight is sent again
//! only if it gets lost; what a round trip and the congestion window were is a hint to go on with.
//!
//! Deliberately not here: both ends' addresses and the way back to the peer, which the endpoint knows.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Connection, Negotiated, Open, Scale, State};
use crate::receive::{Receiver, ReceiverSnapshot};
use crate::send::{Sender, SenderSnapshot};
use crate::{Env, Seq};

/// Everything of a connection that another engine, or a kernel socket, needs to go on with it: an ESTABLISHED one, so no FIN of
/// ours is among it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// SND.UNA.
    pub una: Seq,
    /// SND.NXT.
    pub nxt: Seq,
    /// SND.WND.
    pub wnd: u32,
    /// MAX.SND.WND.
    pub max_wnd: u32,
    /// SND.WL1.
    pub wl1: Seq,
    /// SND.WL2.
    pub wl2: Seq,
    /// What was written and not acknowledged. The first SND.NXT - SND.UNA bytes were sent.
    pub send_queue: Vec<u8>,
    /// MSS that the peer and the way to it allow, without options.
    pub mss: u16,
    /// SRTT, if there was a round trip.
    pub srtt: Option<Duration>,
    /// RTTVAR.
    pub rttvar: Duration,
    /// Congestion window.
    pub cwnd: u32,
    /// Slow start threshold, if there was a loss.
    pub ssthresh: Option<u32>,
    /// RCV.NXT.
    pub rcv_nxt: Seq,
    /// Last.ACK.sent.
    pub last_ack_sent: Seq,
    /// RCV.NXT + RCV.WND as the peer was told: the right edge of the window.
    pub rcv_edge: Seq,
    /// What was received in order and not read.
    pub unread: Vec<u8>,
    /// What was received behind gaps, with the number of each first byte, in order. It may have been sacked.
    pub out_of_order: Vec<(Seq, Vec<u8>)>,
    /// Number of the peer's FIN, if that was received behind a gap.
    pub fin: Option<Seq>,
    /// Snd.Wind.Shift and Rcv.Wind.Shift; none unless both SYNs had the option.
    pub shifts: Option<(u8, u8)>,
    /// Whether SACK is used.
    pub sack: bool,
    /// TS.Recent and the offset of our clock, which counts milliseconds, if timestamps are used.
    pub timestamps: Option<(u32, u32)>,
    /// MSS option of our SYN.
    pub own_mss: u16,
}

impl Connection {
    /// Takes the connection out, whole. `None` if it is not ESTABLISHED, and nothing is changed then. Otherwise it is over here: nothing
    /// leaves any more.
    pub fn export(&mut self, env: &mut Env<'_>) -> Option<Snapshot> {
        let snapshot = self.snapshot()?;
        self.release(env);
        Some(snapshot)
    }

    /// The connection as a value, which goes on here as if nobody had looked. `None` if it is not ESTABLISHED.
    pub fn snapshot(&self) -> Option<Snapshot> {
        if self.state != State::Established {
            return None;
        }
        let sending = self.sender.export();
        let receiving = self.receiver.export();
        let Negotiated {
            scale,
            sack,
            timestamps,
        } = self.negotiated;
        Some(Snapshot {
            una: sending.una,
            nxt: sending.nxt,
            wnd: sending.wnd,
            max_wnd: sending.max_wnd,
            wl1: sending.wl1,
            wl2: sending.wl2,
            send_queue: sending.queue,
            mss: sending.mss,
            srtt: sending.srtt,
            rttvar: sending.rttvar,
            cwnd: sending.cwnd,
            ssthresh: sending.ssthresh,
            rcv_nxt: receiving.nxt,
            last_ack_sent: receiving.last_ack_sent,
            rcv_edge: receiving.edge,
            unread: receiving.unread,
            out_of_order: receiving.out_of_order,
            fin: receiving.fin,
            shifts: scale.map(|scale| (scale.snd, scale.rcv)),
            sack,
            timestamps: timestamps.then(|| (self.clock.recent(), self.clock.offset())),
            own_mss: self.mss,
        })
    }

    /// Goes on with a connection, which is ESTABLISHED. `None` if there is no memory for its bytes, or if the snapshot can't be true.
    pub fn import(snapshot: Snapshot, env: &mut Env<'_>) -> Option<Self> {
        if snapshot.rcv_edge.precedes(snapshot.rcv_nxt) {
            return None;
        }
        let (recent, offset) = snapshot.timestamps.unwrap_or_default();
        let open = Open {
            iss: snapshot.una - 1,
            timestamp_offset: offset,
            mss: usize::from(snapshot.own_mss),
        };
        let mut connection = Self::new(open, false, env);
        connection.state = State::Established;
        connection.negotiated = Negotiated {
            scale: snapshot.shifts.map(|(snd, rcv)| Scale { snd, rcv }),
            sack: snapshot.sack,
            timestamps: snapshot.timestamps.is_some(),
        };
        connection.clock.start(recent, env.now);
        let (sending, receiving) = snapshot.into_directions();
        let overhead = connection.negotiated.overhead();
        connection.receiver = Receiver::import(&receiving, env)?;
        if let Some(sender) = Sender::import(&sending, overhead, env) {
            connection.sender = sender;
        } else {
            connection.receiver.clear(env);
            return None;
        }
        if receiving.last_ack_sent != receiving.nxt {
            // The timer of the delayed acknowledgement is not in the snapshot.
            connection.receiver.acknowledge_now();
        }
        Some(connection)
    }
}

impl Snapshot {
    fn into_directions(self) -> (SenderSnapshot, ReceiverSnapshot) {
        let sending = SenderSnapshot {
            una: self.una,
            nxt: self.nxt,
            wnd: self.wnd,
            max_wnd: self.max_wnd,
            wl1: self.wl1,
            wl2: self.wl2,
            queue: self.send_queue,
            mss: self.mss,
            sack: self.sack,
            srtt: self.srtt,
            rttvar: self.rttvar,
            cwnd: self.cwnd,
            ssthresh: self.ssthresh,
        };
        let receiving = ReceiverSnapshot {
            nxt: self.rcv_nxt,
            last_ack_sent: self.last_ack_sent,
            edge: self.rcv_edge,
            scale: self.shifts.map_or(0, |(_, rcv)| rcv),
            sack: self.sack,
            fin: self.fin,
            unread: self.unread,
            out_of_order: self.out_of_order,
        };
        (sending, receiving)
    }
}
