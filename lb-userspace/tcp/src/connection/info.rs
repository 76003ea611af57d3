//! What can be told of a connection, for operators.

use core::time::Duration;

use super::{Connection, State};
use crate::Env;

/// What can be told of a connection, named like Linux' `tcp_info`. Windows are in bytes, everything in flight in segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts to be shown, not states"
)]
pub struct Info {
    /// State.
    pub state: State,
    /// SRTT; none before the first sample.
    pub rtt: Option<Duration>,
    /// RTTVAR.
    pub rttvar: Duration,
    /// Least round trip of the last minutes.
    pub min_rtt: Duration,
    /// Retransmission timeout, backed off.
    pub rto: Duration,
    /// Congestion window.
    pub snd_cwnd: u32,
    /// Slow start threshold; none before the first loss.
    pub snd_ssthresh: Option<u32>,
    /// SND.WND.
    pub snd_wnd: u32,
    /// Payload of a full segment of ours.
    pub snd_mss: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Of these: sacked.
    pub sacked: u32,
    /// Of these: believed lost.
    pub lost: u32,
    /// Of these: retransmitted and on their way.
    pub retrans: u32,
    /// Retransmissions ever.
    pub total_retrans: u32,
    /// Whether a loss is being repaired (`tcpi_ca_state`).
    pub in_recovery: bool,
    /// Whether the network was seen to change the order of segments.
    pub reordering: bool,
    /// Bytes sent and not acknowledged.
    pub unacked_bytes: u32,
    /// Bytes written and not sent.
    pub notsent_bytes: u32,
    /// RCV.WND: what the peer may still send.
    pub rcv_wnd: u32,
    /// Payload of a full segment of the peer, as far as seen.
    pub rcv_mss: u32,
    /// Size of receive window that the reader is worth.
    pub rcv_space: u32,
    /// Round trip as seen by the receiver.
    pub rcv_rtt: Option<Duration>,
    /// Bytes received and not read.
    pub rcv_unread: u32,
    /// Shift counts of the peer's windows and of ours; none unless both SYNs had the option.
    pub wscale: Option<(u8, u8)>,
    /// Whether SACK is used.
    pub sack: bool,
    /// Whether timestamps are used.
    pub timestamps: bool,
    /// Time since the peer was last heard.
    pub last_recv: Duration,
    /// Keepalive probes without an answer.
    pub probes: u8,
}

impl Connection {
    /// What can be told of it now.
    pub fn info(&self, env: &Env<'_>) -> Info {
        let sending = self.sender.info(env);
        Info {
            state: self.state,
            rtt: sending.rtt,
            rttvar: sending.rttvar,
            min_rtt: sending.min_rtt,
            rto: sending.rto,
            snd_cwnd: sending.cwnd,
            snd_ssthresh: sending.ssthresh,
            snd_wnd: self.sender.wnd(),
            snd_mss: count(self.sender.mss()),
            unacked: sending.unacked,
            sacked: sending.sacked,
            lost: sending.lost,
            retrans: sending.retrans,
            total_retrans: sending.total_retrans,
            in_recovery: sending.in_recovery,
            reordering: sending.reordering,
            unacked_bytes: count(self.sender.unacked()),
            notsent_bytes: count(self.sender.unsent()),
            rcv_wnd: self.receiver.wnd(),
            rcv_mss: self.receiver.mss(),
            rcv_space: self.receiver.space(),
            rcv_rtt: self.receiver.round_trip(),
            rcv_unread: count(self.receiver.readable()),
            wscale: self.negotiated.scale.map(|scale| (scale.snd, scale.rcv)),
            sack: self.negotiated.sack,
            timestamps: self.negotiated.timestamps,
            last_recv: env.now.since(self.heard),
            probes: self.probes,
        }
    }
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
