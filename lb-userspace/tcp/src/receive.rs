//! The receiving direction: what has arrived, in which order, how much more may come, and when we say so.
//!
//! Bytes behind a gap are kept where they will be read, and once told to the peer (SACK) are never forgotten (RFC 2018 §8 allows it;
//! a hand-over would lose bytes). The right edge of the window never moves left. A segment is kept whole or not at
//! all, so that memory that runs out drops a segment, as a router would, and nothing else.
//!
//! Deliberately not here: states, PAWS, what else stands in a segment.

use core::time::Duration;

use crate::buffer::Buffer;
use crate::segment::{SackBlocks, SeqRange};
use crate::{Env, Instant, Seq};

mod delay;
mod ranges;
mod snapshot;
#[cfg(test)]
mod tests;
mod window;

use delay::Delay;
use ranges::Ranges;
use window::Window;

pub(crate) use snapshot::ReceiverSnapshot;

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

/// The receiving direction of a connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    /// RCV.NXT.
    nxt: Seq,
    last_ack_sent: Seq,
    /// Number of the peer's FIN, as soon as it has come, in order or not.
    fin: Option<Seq>,
    /// Bytes before RCV.NXT that were not read. They are the first ones of the buffer.
    unread: u32,
    sack: bool,
    /// Nobody will read: text is acknowledged and forgotten.
    discards: bool,
    buffer: Buffer,
    ranges: Ranges,
    /// What came twice, until it is told.
    duplicate: Option<SeqRange>,
    delay: Delay,
    window: Window,
}

// Part of what an idle connection costs.
const _: () = assert!(size_of::<Receiver>() <= 256);

/// Text and FIN of a segment as far as they are new and within the window.
#[derive(Clone, Copy)]
struct Text<'a> {
    seq: Seq,
    payload: &'a [u8],
    fin: bool,
}

impl Text<'_> {
    /// Its numbers, that of the FIN included.
    fn range(&self) -> SeqRange {
        SeqRange {
            start: self.seq,
            end: self.fin_seq() + u32::from(self.fin),
        }
    }

    /// Where a FIN stands, or would.
    fn fin_seq(&self) -> Seq {
        self.seq + count(self.payload.len())
    }

    fn is_empty(&self) -> bool {
        self.payload.is_empty() && !self.fin
    }
}

impl Receiver {
    /// A direction whose SYN had number `irs`; `scale` is the shift that we told (0 if not negotiated).
    pub(crate) fn new(irs: Seq, scale: u8, sack: bool, env: &Env<'_>) -> Self {
        let nxt = irs + 1;
        Self {
            nxt,
            last_ack_sent: nxt,
            fin: None,
            unread: 0,
            sack,
            discards: false,
            buffer: Buffer::default(),
            ranges: Ranges::default(),
            duplicate: None,
            delay: Delay::new(),
            window: Window::new(nxt, scale, env),
        }
    }

    /// The acceptability test of RFC 9293 §3.10.7.4, first.
    ///
    /// More is accepted than there, as on Linux: a segment that begins at the right edge. It may carry an acknowledgement from a
    /// peer that has used its window up, of which we miss a part, or a FIN, which needs no window; a window of zero is a case of
    /// that, for which §3.10.7.4 asks the same. Its text is left out by [`on_segment`](Self::on_segment).
    pub(crate) fn is_acceptable(&self, seq: Seq, len: u32) -> bool {
        let ends_behind = if len == 0 {
            !seq.precedes(self.nxt)
        } else {
            (seq + len).follows(self.nxt)
        };
        ends_behind && !seq.follows(self.window.edge())
    }

    /// Takes the text of an acceptable segment and decides when it is acknowledged.
    pub(crate) fn on_segment(
        &mut self,
        seq: Seq,
        payload: &[u8],
        fin: bool,
        env: &mut Env<'_>,
    ) -> Arrival {
        self.delay.saw(payload.len());
        let text = Text { seq, payload, fin };
        let Some(text) = self.without_old(text).and_then(|text| self.within(text)) else {
            return Arrival::default();
        };
        if text.seq == self.nxt {
            self.on_text(text, env)
        } else {
            self.on_text_behind_gap(text, env);
            Arrival::default()
        }
    }

    /// An acknowledgement must leave with the next output: a challenge, a keepalive, an unacceptable segment.
    pub(crate) fn acknowledge_now(&mut self) {
        self.delay.acknowledge_now();
    }

    /// A duplicate was received in whole: told by DSACK.
    pub(crate) fn on_duplicate(&mut self, seq: Seq, len: u32) {
        let end = seq + len;
        if len > 0 && !end.follows(self.nxt) {
            self.duplicate = Some(SeqRange { start: seq, end });
        }
        self.acknowledge_now();
    }

    /// A segment with text echoes what we sent that long ago (RFC 7323): a sample for the size of the window, if there is one.
    pub(crate) fn on_round_trip(&mut self, sample: Duration) {
        self.window.on_round_trip(sample);
    }

    /// Copies bytes out in order; how many.
    pub(crate) fn read(&mut self, into: &mut [u8], env: &mut Env<'_>) -> usize {
        let len = into.len().min(self.readable());
        if len == 0 {
            return 0;
        }
        self.buffer.copy_to(0, &mut into[..len]);
        self.buffer.advance(len, env.pool);
        self.unread -= count(len);
        if self.unread == 0 && self.ranges.is_empty() {
            self.buffer.clear(env.pool);
        }
        let mss = self.delay.mss();
        self.window.on_read(count(len), mss, env);
        if self.fin.is_none() && self.window.has_opened(self.nxt, self.unread, mss, env) {
            self.acknowledge_now();
        }
        len
    }

    /// Bytes that can be read.
    pub(crate) fn readable(&self) -> usize {
        self.unread as usize
    }

    /// Whether the peer's FIN was reached (there may still be bytes to read).
    pub(crate) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.nxt.follows(fin))
    }

    /// An acknowledgement has to leave at once, with data or without: two full segments unacknowledged, something
    /// out of order, a gap filled, a window that opened by enough (RFC 9293 §3.8.6.2.2), or asked for.
    pub(crate) fn ack_is_due(&self) -> bool {
        self.delay.is_due()
    }

    /// Whether an acknowledgement would carry SACK blocks.
    pub(crate) fn has_sack(&self) -> bool {
        self.sack && (self.duplicate.is_some() || !self.ranges.is_empty())
    }

    /// What a segment that leaves now says. The delayed acknowledgement is done with it.
    pub(crate) fn acknowledgement(&mut self, env: &mut Env<'_>) -> Acknowledgement {
        let window = self
            .window
            .tell(self.nxt, self.unread, self.delay.mss(), env);
        let duplicate = self.duplicate.take();
        let sack = if self.sack {
            env.counters.dsack_sent += u64::from(duplicate.is_some());
            self.ranges.blocks(duplicate)
        } else {
            SackBlocks::default()
        };
        self.last_ack_sent = self.nxt;
        self.delay.on_sent();
        Acknowledgement {
            ack: self.nxt,
            window,
            sack,
        }
    }

    /// The segment that [`acknowledgement`](Self::acknowledgement) was for has data.
    pub(crate) fn on_data_sent(&mut self) {
        self.delay.on_data_sent();
    }

    /// Lets the delayed-acknowledgement timer fire.
    pub(crate) fn on_timer(&mut self, env: &mut Env<'_>) {
        self.delay.on_timer(env);
    }

    /// When [`on_timer`](Self::on_timer) has work.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.delay.next_timer()
    }

    /// RCV.NXT.
    pub(crate) fn nxt(&self) -> Seq {
        self.nxt
    }

    /// RCV.WND: from RCV.NXT to the right edge that the peer was told.
    pub(crate) fn wnd(&self) -> u32 {
        self.window.wnd(self.nxt)
    }

    /// The last ACK that left (`Last.ACK.sent` of RFC 7323 §4.3).
    pub(crate) fn last_ack_sent(&self) -> Seq {
        self.last_ack_sent
    }

    /// Size of window that the reader is worth now (`rcv_space` of Linux' `tcp_info`).
    pub(crate) fn space(&self) -> u32 {
        self.window.size()
    }

    /// Round trip as seen by this direction (`rcv_rtt` of Linux' `tcp_info`).
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.window.round_trip()
    }

    /// A full segment of the peer, as far as seen (`rcv_mss` of Linux' `tcp_info`).
    pub(crate) fn mss(&self) -> u32 {
        self.delay.mss()
    }

    /// Reads something of each cache line: see `Endpoint::touch`.
    pub(crate) fn touch(&self) -> u64 {
        u64::from(self.nxt.0 ^ self.window.touch())
            ^ self.buffer.touch()
            ^ self.ranges.as_slice().len() as u64
            ^ u64::from(self.delay.is_due())
    }

    /// Gives all memory back. What arrives from now on is acknowledged and forgotten.
    pub(crate) fn clear(&mut self, env: &mut Env<'_>) {
        self.discards = true;
        self.unread = 0;
        self.buffer.clear(env.pool);
    }

    /// What is left of a segment without the numbers before RCV.NXT, which are told as a duplicate.
    fn without_old<'a>(&mut self, text: Text<'a>) -> Option<Text<'a>> {
        if !text.seq.precedes(self.nxt) {
            return Some(text);
        }
        let end = text.range().end.min(self.nxt);
        self.on_duplicate(text.seq, end.since(text.seq));
        // None of an old FIN: then there is less payload than there are old numbers.
        let payload = text.payload.get(self.nxt.since(text.seq) as usize..)?;
        Some(Text {
            seq: self.nxt,
            payload,
            fin: text.fin,
        })
    }

    /// What of a segment lies in the window, and before the end if that is known. The first FIN counts, unless bytes behind it were
    /// kept already: a peer that contradicts itself is believed as far as it did not.
    fn within<'a>(&mut self, mut text: Text<'a>) -> Option<Text<'a>> {
        let end = self
            .fin
            .map_or(self.window.edge(), |fin| fin.min(self.window.edge()));
        if text.seq.follows(end) {
            self.acknowledge_now();
            return None;
        }
        if text.fin_seq().follows(end) {
            text.payload = text.payload.get(..end.since(text.seq) as usize)?;
            text.fin = false;
            self.acknowledge_now();
        }
        let contradicts = |fin: Seq| match (self.fin, self.ranges.end()) {
            (Some(known), _) => fin != known,
            (None, Some(kept)) => kept.follows(fin),
            (None, None) => false,
        };
        text.fin = text.fin && !contradicts(text.fin_seq());
        (!text.is_empty()).then_some(text)
    }

    /// Takes text that follows on what was there.
    fn on_text(&mut self, text: Text<'_>, env: &mut Env<'_>) -> Arrival {
        if !self.keep(text, env) {
            return Arrival::default();
        }
        self.duplicate = self.ranges.overlap(text.range()).or(self.duplicate);
        let had_gap = !self.ranges.is_empty();
        let end = self.ranges.take_from(text.range().end);
        let arrival = self.advance(end);
        self.window.on_arrival(self.nxt, env.now);
        if had_gap || arrival.finished {
            self.acknowledge_now();
        } else {
            let unacked = self.nxt.since(self.last_ack_sent);
            self.delay.on_text(unacked, env);
        }
        arrival
    }

    /// Takes text that leaves a gap, which is told at once: the peer learns of its loss from that (RFC 5681 §4.2).
    fn on_text_behind_gap(&mut self, text: Text<'_>, env: &mut Env<'_>) {
        self.acknowledge_now();
        let range = text.range();
        if !self.ranges.has_room_for(range) {
            env.counters.ofo_drop += 1;
        } else if self.keep(text, env) {
            env.counters.ofo_queue += 1;
            self.duplicate = self.ranges.overlap(range).or(self.duplicate);
            self.ranges.insert(range);
        }
    }

    /// Keeps the bytes of a segment where they will be read; false if there is no memory for all of them.
    fn keep(&mut self, text: Text<'_>, env: &mut Env<'_>) -> bool {
        let offset = self.readable() + text.seq.since(self.nxt) as usize;
        let kept = self.discards
            || text.payload.is_empty()
            || self.buffer.write_whole(offset, text.payload, env.pool);
        if !kept {
            env.counters.rcvq_drop += 1;
        } else if text.fin {
            self.fin = Some(text.fin_seq());
        }
        kept
    }

    /// Moves RCV.NXT. All before `end` is there.
    fn advance(&mut self, end: Seq) -> Arrival {
        let finished = self.fin.is_some_and(|fin| fin.is_within(self.nxt, end));
        let bytes = end.since(self.nxt) - u32::from(finished);
        self.nxt = end;
        if self.discards {
            return Arrival {
                readable: 0,
                finished,
            };
        }
        self.unread += bytes;
        Arrival {
            readable: bytes as usize,
            finished,
        }
    }
}

/// Bytes of a segment or a buffer as sequence numbers; windows are smaller than 2³⁰.
#[expect(
    clippy::cast_possible_truncation,
    reason = "of a segment, or of what the window let in"
)]
const fn count(len: usize) -> u32 {
    len as u32
}
