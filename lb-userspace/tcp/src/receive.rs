//! The receiving direction: what has arrived, in which order, how much more may come, and when we say so.
//!
//! Bytes behind a gap are kept where they will be read, and once told to the peer (SACK) are never forgotten (RFC 2018 §8 allows it;
//! a hand-over would lose bytes). The right edge of the window never moves left.
//!
//! Deliberately not here: states, PAWS, what else stands in a segment.

use crate::segment::SackBlocks;
use crate::{Env, Instant, Seq};

/// What a segment's text was (RFC 9293 §3.10.7.4, seventh and eighth).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// New bytes that can be read now.
    pub(crate) readable: usize,
    /// RCV.NXT has passed the peer's FIN with this segment.
    pub(crate) finished: bool,
}

/// What a segment that leaves says of this direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// SEG.ACK.
    pub(crate) ack: Seq,
    /// SEG.WND, scaled.
    pub(crate) window: u16,
    /// Blocks, the latest first, a DSACK before it (RFC 2018 §4, RFC 2883); empty if SACK isn't on.
    pub(crate) sack: SackBlocks,
}

#[derive(Debug)]
pub(crate) struct Receiver {}

impl Receiver {
    /// A direction whose SYN had number `irs`; `scale` is the shift that we told (0 if not negotiated).
    pub(crate) fn new(irs: Seq, scale: u8, sack: bool, env: &Env<'_>) -> Self {
        unimplemented!()
    }

    /// The acceptability test of RFC 9293 §3.10.7.4, first.
    pub(crate) fn is_acceptable(&self, seq: Seq, len: u32) -> bool {
        unimplemented!()
    }
    /// Takes the text of an acceptable segment and decides when it is acknowledged. `mss` is that of the peer's
    /// segments, as far as known.
    pub(crate) fn on_segment(
        &mut self,
        seq: Seq,
        payload: &[u8],
        fin: bool,
        env: &mut Env<'_>,
    ) -> Arrival {
        unimplemented!()
    }
    /// An acknowledgement must leave with the next output: a challenge, a keepalive, an unacceptable segment.
    pub(crate) fn acknowledge_now(&mut self) {
        unimplemented!()
    }
    /// A duplicate was received in whole: told by DSACK.
    pub(crate) fn on_duplicate(&mut self, seq: Seq, len: u32) {
        unimplemented!()
    }

    /// Copies bytes out in order; how many.
    pub(crate) fn read(&mut self, into: &mut [u8], env: &mut Env<'_>) -> usize {
        unimplemented!()
    }
    /// Bytes that can be read.
    pub(crate) fn readable(&self) -> usize {
        unimplemented!()
    }
    /// Whether the peer's FIN was reached (there may still be bytes to read).
    pub(crate) fn is_finished(&self) -> bool {
        unimplemented!()
    }

    /// An acknowledgement has to leave at once, with data or without: two full segments unacknowledged, something
    /// out of order, a gap filled, a window that opened by enough (RFC 9293 §3.8.6.2.2), or asked for.
    pub(crate) fn ack_is_due(&self) -> bool {
        unimplemented!()
    }
    /// What a segment that leaves now says. The delayed acknowledgement is done with it.
    pub(crate) fn acknowledgement(&mut self, env: &mut Env<'_>) -> Acknowledgement {
        unimplemented!()
    }
    /// Lets the delayed-acknowledgement timer fire.
    pub(crate) fn on_timer(&mut self, env: &mut Env<'_>) {
        unimplemented!()
    }
    /// When [`on_timer`](Self::on_timer) has work.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        unimplemented!()
    }
    /// RCV.NXT.
    pub(crate) fn nxt(&self) -> Seq {
        unimplemented!()
    }
    /// The last ACK that left (`Last.ACK.sent` of RFC 7323 §4.3).
    pub(crate) fn last_ack_sent(&self) -> Seq {
        unimplemented!()
    }
    /// Gives all memory back; what arrives from now on is not kept.
    pub(crate) fn clear(&mut self, env: &mut Env<'_>) {
        unimplemented!()
    }
    pub(crate) fn has_sack(&self) -> bool {
        unimplemented!()
    }
    pub(crate) fn wnd(&self) -> u32 {
        unimplemented!()
    }
}
