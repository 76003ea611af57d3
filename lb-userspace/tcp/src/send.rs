//! The sending direction: what was written, what of it is in flight, what was lost, and how much may be.
//!
//! Sequence space of this direction: the SYN (if we send one), the bytes, the FIN; SYN and FIN are retransmitted like bytes
//! and are `Record`s like any other. Whatever has left and is not acknowledged has a record of when it left and what
//! became of it.
//!
//! Deliberately not here: states, flags other than SYN, FIN and PSH, what acknowledgements we send.

use crate::pool::Payload;
use crate::segment::SackBlocks;
use crate::{Env, Instant, Seq};

/// What an incoming acknowledgement says, validated and unscaled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack<'a> {
    /// SEG.ACK, between SND.UNA and SND.NXT.
    pub(crate) ack: Seq,
    /// SEG.SEQ, for SND.WL1 (RFC 9293 §3.10.7.4).
    pub(crate) seq: Seq,
    /// SEG.WND in bytes.
    pub(crate) window: u32,
    /// SACK blocks, a DSACK possibly first.
    pub(crate) sack: &'a SackBlocks,
    /// Round trip by timestamp (RFC 7323 §4), if the segment carries a usable echo.
    pub(crate) round_trip: Option<core::time::Duration>,
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

#[derive(Debug)]
pub(crate) struct Sender {}

impl Sender {
    /// A direction whose first number is `iss`; `mss` is what the way from here allows. With `syn` the
    /// SYN is to be sent, else (a cookie came back) it was sent and acknowledged.
    pub(crate) fn new(iss: Seq, mss: usize, syn: bool, env: &Env<'_>) -> Self {
        unimplemented!()
    }
    /// What the peer's SYN allows: its MSS option (536 or 1220 without, RFC 9293 §3.7.1), SACK; `overhead` is the
    /// bytes of options in every segment (12 with timestamps), which the payload loses.
    pub(crate) fn negotiated(&mut self, peer_mss: usize, sack: bool, overhead: usize) {
        unimplemented!()
    }

    /// Takes bytes to send; how many, 0 when the buffer is full.
    pub(crate) fn write(&mut self, bytes: &[u8], env: &mut Env<'_>) -> usize {
        unimplemented!()
    }
    /// A FIN behind what was written; nothing can be written any more.
    pub(crate) fn close(&mut self) {
        unimplemented!()
    }
    /// Bytes that could be written now.
    pub(crate) fn room(&self, env: &Env<'_>) -> usize {
        unimplemented!()
    }
    /// Bytes written and not acknowledged.
    pub(crate) fn queued(&self) -> usize {
        unimplemented!()
    }

    /// Takes an acknowledgement.
    pub(crate) fn on_ack(&mut self, ack: &Ack<'_>, env: &mut Env<'_>) {
        unimplemented!()
    }
    /// The next segment to send: a retransmission, new data, a probe, or none for now.
    pub(crate) fn poll_transmit(&mut self, env: &mut Env<'_>) -> Option<Transmission> {
        unimplemented!()
    }
    /// The bytes of a transmission.
    pub(crate) fn payload(&self, transmission: &Transmission) -> Payload<'_> {
        unimplemented!()
    }
    /// Lets timers (retransmission, tail loss probe, reordering, persist, pacing) that are due fire.
    pub(crate) fn on_timer(&mut self, env: &mut Env<'_>) -> Expiry {
        unimplemented!()
    }
    /// When [`on_timer`](Self::on_timer) has work.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        unimplemented!()
    }
    /// Whether [`poll_transmit`](Self::poll_transmit) would give something, cheaply.
    pub(crate) fn wants_output(&self, env: &Env<'_>) -> bool {
        unimplemented!()
    }
    /// The way got narrower (RFC 1191, RFC 8201): `mss` without options; what is in flight and larger is lost.
    pub(crate) fn reduce_mss(&mut self, mss: usize, env: &mut Env<'_>) {
        unimplemented!()
    }

    /// SND.UNA.
    pub(crate) fn una(&self) -> Seq {
        unimplemented!()
    }
    /// SND.NXT.
    pub(crate) fn nxt(&self) -> Seq {
        unimplemented!()
    }
    /// Whether our SYN was acknowledged.
    pub(crate) fn syn_is_acked(&self) -> bool {
        unimplemented!()
    }
    /// Whether our FIN was sent and acknowledged.
    pub(crate) fn fin_is_acked(&self) -> bool {
        unimplemented!()
    }
    /// Gives all memory back.
    pub(crate) fn clear(&mut self, env: &mut Env<'_>) {
        unimplemented!()
    }
    pub(crate) fn mss(&self) -> usize {
        unimplemented!()
    }
}
