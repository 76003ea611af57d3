//! The sending direction: what was written, what of it is in flight, what was lost, and how much may be.
//!
//! Sequence space of this direction: the SYN (if we send one), the bytes, the FIN; SYN and FIN are retransmitted like bytes
//! and are `Record`s like any other. Whatever has left and is not acknowledged has a record of when it left and what
//! became of it.
//!
//! * `input` takes acknowledgements, `output` chooses what leaves, `expiry` lets timers fire.
//! * `records` is the scoreboard, `rack` finds losses, `recovery` answers them, `cubic` (with `hystart`) says how much
//!   may be in flight, `window` how much the peer takes, `rtt` and `timers` when to worry, `pacing` spreads.
//!
//! Invariant: SND.UNA only moves forward, and each number from there to the end of what was written is in flight,
//! sacked, lost (and then sent again) or unsent.
//!
//! Deliberately not here: states, flags other than SYN, FIN and PSH, what acknowledgements we send.

mod cubic;
mod expiry;
mod hystart;
mod input;
mod output;
mod pacing;
mod rack;
mod records;
mod recovery;
mod rtt;
mod snapshot;
mod timers;
mod window;

use alloc::boxed::Box;
use core::time::Duration;

use self::cubic::Cubic;
use self::output::{Choice, Wait};
use self::pacing::Pacing;
use self::rack::Rack;
use self::records::Records;
use self::recovery::{NewReno, Phase, Undo};
use self::rtt::Rtt;
use self::timers::{Early, Late};
use self::window::PeerWindow;

pub(crate) use self::records::Record;
pub(crate) use self::snapshot::SenderSnapshot;
use crate::buffer::Buffer;
use crate::pool::{CHUNK, Payload, Pressure};
use crate::segment::SackBlocks;
use crate::{Env, Instant, Seq};

/// Payload of a segment at least, whatever the peer says (Linux: `TCP_MIN_SND_MSS`): a segment that is all header lets
/// a peer buy much work with few bytes.
const MIN_MSS: usize = 48;

/// Payload of a segment at most: a [`Payload`] has three slices, so that many bytes fit wherever they begin in a chunk.
const MAX_MSS: usize = 2 * CHUNK;

/// Bytes that can be written however small the congestion window.
const MIN_SEND_BUFFER: usize = 64 << 10;

/// What an incoming acknowledgement says, validated and unscaled.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "SEG.ACK is its name")]
pub(crate) struct Ack<'a> {
    /// SEG.ACK, between SND.UNA and SND.NXT.
    pub(crate) ack: Seq,
    /// SEG.SEQ, for SND.WL1 (RFC 9293 §3.10.7.4).
    pub(crate) seq: Seq,
    /// SEG.WND in bytes.
    pub(crate) window: u32,
    /// SACK blocks, a DSACK possibly first.
    pub(crate) sack: &'a SackBlocks,
    /// Round trip by timestamp (RFC 7323 §4), if the segment carries a usable echo: whole milliseconds of the clock of
    /// timestamps, so that `now` less it is the echo.
    pub(crate) round_trip: Option<Duration>,
    /// Whether the segment carries data, SYN or FIN: then it can't be a duplicate acknowledgement.
    pub(crate) carries_data: bool,
}

/// A segment that shall leave now. The sender counts it as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transmission {
    pub(crate) seq: Seq,
    /// Payload bytes.
    pub(crate) len: usize,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) push: bool,
}

/// What became of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Handled; [`Sender::poll_transmit`] may have something.
    Handled,
    /// The peer has been silent for longer than the user timeout.
    GiveUp,
}

/// What can be told of this direction, in the terms of Linux' `tcp_info`. Windows are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// SRTT; `None` before the first sample.
    pub(crate) rtt: Option<Duration>,
    pub(crate) rttvar: Duration,
    pub(crate) min_rtt: Duration,
    pub(crate) rto: Duration,
    pub(crate) cwnd: u32,
    /// `None` before the first loss.
    pub(crate) ssthresh: Option<u32>,
    /// Segments in flight, sacked ones and lost ones included.
    pub(crate) unacked: u32,
    pub(crate) sacked: u32,
    pub(crate) lost: u32,
    /// Retransmissions in flight.
    pub(crate) retrans: u32,
    /// Retransmissions ever.
    pub(crate) total_retrans: u32,
    /// Whether a loss is being repaired.
    pub(crate) in_recovery: bool,
    /// Whether the network was seen to change the order of segments.
    pub(crate) reordering: bool,
}

/// What the next [`Sender::poll_transmit`] must send beside the rules, because a timer said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// The first record, whatever the congestion window (RFC 6298 §5.4).
    Head,
    /// A tail loss probe (RFC 8985 §7.3).
    Tail,
    /// A probe of the peer's window (RFC 9293 §3.8.6.1), or a segment that is too small to be worth it otherwise.
    Window,
}

/// A tail loss probe in flight (RFC 8985 §7.4): `TLP.end_seq` and `TLP.is_retrans`.
#[derive(Clone, Copy, Debug)]
struct TailProbe {
    end: Seq,
    is_retrans: bool,
    /// It repeats the only segment that was in flight.
    is_lone: bool,
}

/// The most that was in flight in this round trip and the one before: whether the congestion window was the limit (as in RFC 7661 §4.2).
#[derive(Clone, Copy, Debug)]
struct Round {
    end: Seq,
    max_flight: u32,
    max_before: u32,
}

#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent of each other, each true or not in every state of the others"
)]
pub(crate) struct Sender {
    buffer: Buffer,
    records: Records,
    window: PeerWindow,
    rtt: Rtt,
    rack: Rack,
    reno: NewReno,
    congestion: Cubic,
    phase: Phase,
    undo: Option<Box<Undo>>,
    round: Round,
    tail: Option<TailProbe>,
    late: Late,
    early: Early,
    pacing: Pacing,
    /// Since when the peer owes an answer; counts while `late` runs.
    silent_since: Instant,
    /// When something left last.
    last_sent: Instant,
    /// Behind the last byte written.
    end: Seq,
    /// MSS that the way allows, without options.
    path_mss: u16,
    /// Payload of a full segment.
    mss: u16,
    /// Bytes of options in every segment.
    overhead: u8,
    pending: Pending,
    /// A segment waits for the pace.
    is_paced: bool,
    sack: bool,
    syn_acked: bool,
    /// The peer was seen to delay the acknowledgement of a lone segment for longer than is usual.
    acks_late: bool,
    /// A FIN follows the bytes.
    fin: bool,
    total_retrans: u32,
    /// Duplicates that the peer told of.
    duplicates: u32,
}

impl Sender {
    /// A direction whose first number is `iss`; `mss` is what the way from here allows. With `syn` the
    /// SYN is to be sent, else (a cookie came back) it was sent and acknowledged.
    pub(crate) fn new(iss: Seq, mss: usize, syn: bool, env: &Env<'_>) -> Self {
        let una = if syn { iss } else { iss + 1 };
        let mss = clamp_mss(mss);
        Self {
            buffer: Buffer::default(),
            records: Records::new(una),
            window: PeerWindow::new(),
            rtt: Rtt::new(),
            rack: Rack::new(una),
            reno: NewReno::new(iss),
            congestion: Cubic::new(u32::from(mss), env.config.initial_window),
            phase: Phase::Open,
            undo: None,
            round: Round {
                end: una,
                max_flight: 0,
                max_before: 0,
            },
            tail: None,
            late: Late::Off,
            early: Early::Off,
            pacing: Pacing::default(),
            silent_since: env.now,
            last_sent: env.now,
            end: iss + 1,
            path_mss: mss,
            mss,
            overhead: 0,
            pending: Pending::Nothing,
            is_paced: false,
            sack: false,
            syn_acked: !syn,
            acks_late: false,
            fin: false,
            total_retrans: 0,
            duplicates: 0,
        }
    }

    /// What the peer's SYN allows: its MSS option (536 or 1220 without, RFC 9293 §3.7.1), SACK; `overhead` is the
    /// bytes of options in every segment (12 with timestamps), which the payload loses.
    pub(crate) fn negotiated(&mut self, peer_mss: usize, sack: bool, overhead: usize) {
        self.path_mss = self.path_mss.min(clamp_mss(peer_mss));
        self.overhead = u8::try_from(overhead).unwrap_or(u8::MAX);
        self.sack = sack;
        self.mss = clamp_mss(usize::from(self.path_mss).saturating_sub(overhead));
        // A lost SYN was counted by the backoff; a SYN-ACK that is yet to be sent was not.
        self.congestion
            .on_handshake(u32::from(self.mss), self.rtt.backoff());
    }

    /// Takes bytes to send; how many, 0 when the buffer is full.
    pub(crate) fn write(&mut self, bytes: &[u8], env: &mut Env<'_>) -> usize {
        let count = bytes.len().min(self.room(env));
        let written = self
            .buffer
            .write_at(self.queued(), &bytes[..count], env.pool);
        self.end += u32::try_from(written).unwrap_or(0);
        written
    }

    /// A FIN behind what was written; nothing can be written any more.
    pub(crate) fn close(&mut self) {
        self.fin = true;
    }

    /// Bytes that could be written now: twice the congestion window, so that the window stays full while the writer
    /// is woken; less when memory is scarce.
    pub(crate) fn room(&self, env: &Env<'_>) -> usize {
        if self.fin {
            return 0;
        }
        let wanted = match env.pool.pressure() {
            Pressure::None => 2 * self.cwnd() as usize,
            Pressure::ShrinkWindows | Pressure::RefuseConnections => 0,
        };
        wanted
            .max(MIN_SEND_BUFFER)
            .min(env.config.max_send_buffer)
            .saturating_sub(self.queued())
    }

    /// Bytes written and not acknowledged.
    pub(crate) fn queued(&self) -> usize {
        let first = self.first_byte();
        if self.end.precedes(first) {
            return 0;
        }
        self.end.since(first) as usize
    }

    /// The bytes of a transmission.
    pub(crate) fn payload(&self, transmission: &Transmission) -> Payload<'_> {
        if transmission.len == 0 {
            return Payload::default();
        }
        let offset = transmission.seq.since(self.first_byte()) as usize;
        self.buffer.payload(offset, transmission.len)
    }

    /// When [`on_timer`](Self::on_timer) has work.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        let probe = timers::earlier(self.late.at(), self.early.at());
        timers::earlier(probe, self.is_paced.then(|| self.pacing.due_at()))
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would give something, cheaply. Also true when that has to begin to wait
    /// for the peer's window or for its time: who asks may have had no room for a second call.
    pub(crate) fn wants_output(&self, env: &Env<'_>) -> bool {
        match self.choose(env) {
            Choice::Wait(Wait::Pace) => !self.is_paced,
            Choice::Wait(_) => self.must_persist(env),
            _ => true,
        }
    }

    /// The way got narrower (RFC 1191, RFC 8201): `mss` without options; what is in flight and larger is lost, which is no
    /// sign of congestion (RFC 1191 §6.5).
    pub(crate) fn reduce_mss(&mut self, mss: usize, env: &mut Env<'_>) {
        let path_mss = clamp_mss(mss);
        if path_mss >= self.path_mss {
            return;
        }
        self.path_mss = path_mss;
        self.mss = clamp_mss(usize::from(path_mss).saturating_sub(usize::from(self.overhead)));
        let mss = u32::from(self.mss);
        self.congestion.set_mss(mss);
        let lost = self.records.mark_lost_where(|_, record| record.len > mss);
        if lost > 0 {
            self.tail = None;
            self.arm_early(env);
        }
    }

    /// SND.UNA.
    pub(crate) fn una(&self) -> Seq {
        self.records.una()
    }

    /// SND.NXT.
    pub(crate) fn nxt(&self) -> Seq {
        self.records.nxt()
    }

    /// SND.WND.
    pub(crate) fn wnd(&self) -> u32 {
        self.window.wnd()
    }

    /// Max(SND.WND).
    pub(crate) fn max_wnd(&self) -> u32 {
        self.window.max_wnd()
    }

    /// Payload of a full segment.
    pub(crate) fn mss(&self) -> usize {
        usize::from(self.mss)
    }

    /// Whether our SYN was acknowledged.
    pub(crate) fn syn_is_acked(&self) -> bool {
        self.syn_acked
    }

    /// Whether our FIN was sent and acknowledged.
    pub(crate) fn fin_is_acked(&self) -> bool {
        self.una().follows(self.end)
    }

    /// Whether nothing is in flight and nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.records.is_empty() && self.waiting() == 0 && !self.fin_waits()
    }

    /// Bytes sent and not acknowledged.
    pub(crate) fn unacked(&self) -> usize {
        self.queued() - self.unsent()
    }

    /// Bytes written and not sent.
    pub(crate) fn unsent(&self) -> usize {
        self.waiting() as usize
    }

    /// What can be told of this direction.
    pub(crate) fn info(&self, env: &Env<'_>) -> Info {
        Info {
            rtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            min_rtt: self.rtt.min(),
            rto: self.rtt.rto(env.config),
            cwnd: self.cwnd(),
            ssthresh: self.congestion.ssthresh(),
            unacked: u32::try_from(self.records.len()).unwrap_or(u32::MAX),
            sacked: self.records.sacked().segments,
            lost: self.records.lost().segments,
            retrans: self.records.resent_in_flight(),
            total_retrans: self.total_retrans,
            in_recovery: !matches!(self.phase, Phase::Open),
            reordering: self.rack.reordering_seen(),
        }
    }

    /// Reads something of each cache line: see `Endpoint::touch`.
    pub(crate) fn touch(&self) -> u64 {
        let words = [self.cwnd(), self.una().0, self.end.0, self.total_retrans];
        words.into_iter().fold(0, |sum, word| sum ^ u64::from(word))
            ^ self.buffer.touch()
            ^ self.records.len() as u64
            ^ self.congestion.touch()
            ^ self.last_sent.as_micros()
            ^ u64::from(self.early == Early::Off)
            ^ u64::from(self.late == Late::Off)
            ^ u64::from(self.rtt.backoff())
    }

    /// Gives all memory back; nothing is sent any more.
    pub(crate) fn clear(&mut self, env: &mut Env<'_>) {
        self.buffer.clear(env.pool);
        self.records.clear();
        self.undo = None;
        self.tail = None;
        self.late = Late::Off;
        self.early = Early::Off;
        self.is_paced = false;
        self.pending = Pending::Nothing;
        self.phase = Phase::Open;
        if !self.fin_is_acked() {
            self.end = self.una();
        }
        self.fin = false;
        self.syn_acked = true;
    }

    /// The congestion window now.
    fn cwnd(&self) -> u32 {
        match &self.phase {
            Phase::Recovery { prr, .. } => prr.cwnd(),
            Phase::Open | Phase::Loss { .. } => self.congestion.cwnd(),
        }
    }

    /// Bytes in the network, as far as we know ("pipe" of RFC 6675).
    fn pipe(&self) -> u32 {
        let in_flight = self.records.in_flight().bytes;
        in_flight.saturating_sub(self.reno.duplicates() * u32::from(self.mss))
    }

    /// The number of the first byte that the buffer holds.
    fn first_byte(&self) -> Seq {
        if self.syn_acked {
            self.una()
        } else {
            self.una() + 1
        }
    }

    /// Bytes that were not sent (D of RFC 9293 §3.8.6.2.1).
    fn waiting(&self) -> u32 {
        let from = self.nxt().max(self.first_byte());
        if self.end.precedes(from) {
            return 0;
        }
        self.end.since(from)
    }

    /// Whether a FIN is to be sent.
    fn fin_waits(&self) -> bool {
        self.fin && !self.nxt().follows(self.end)
    }
}

fn clamp_mss(mss: usize) -> u16 {
    u16::try_from(mss.clamp(MIN_MSS, MAX_MSS)).unwrap_or(u16::MAX)
}

/// An idle connection has to fit into 1 KB with everything.
const _: () = assert!(size_of::<Sender>() <= 432);

#[cfg(test)]
mod tests;
