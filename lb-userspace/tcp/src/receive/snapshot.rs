//! The receiving direction as a value, for another engine or a kernel socket to go on with.
//!
//! Everything that the peer was told is in it: what was acknowledged and not read, what was told in SACK blocks, and the right
//! edge. What only this engine knows of the reader and the round trip is not: it is learnt again.

use alloc::vec;
use alloc::vec::Vec;

use super::Receiver;
use super::delay::Delay;
use super::ranges::Ranges;
use super::window::Window;
use crate::buffer::Buffer;
use crate::segment::SeqRange;
use crate::{Env, Seq};

/// The receiving direction, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceiverSnapshot {
    /// RCV.NXT.
    pub(crate) nxt: Seq,
    /// The last ACK that left.
    pub(crate) last_ack_sent: Seq,
    /// The right edge that the peer was told. Less `last_ack_sent` it is the window that was told (`rcv_wnd`, `rcv_wup`).
    pub(crate) edge: Seq,
    /// Shift of our window.
    pub(crate) scale: u8,
    /// Whether SACK was negotiated.
    pub(crate) sack: bool,
    /// Number of the peer's FIN, if it has come; RCV.NXT may be behind it.
    pub(crate) fin: Option<Seq>,
    /// Bytes before RCV.NXT that nobody read.
    pub(crate) unread: Vec<u8>,
    /// Bytes behind gaps with the number of the first, sorted.
    pub(crate) out_of_order: Vec<(Seq, Vec<u8>)>,
}

impl Receiver {
    /// The direction as a value. The bytes are copied; [`clear`](Self::clear) gives back their memory.
    pub(crate) fn export(&self) -> ReceiverSnapshot {
        let bytes_of = |range: &SeqRange| {
            let len = self.bytes_in(*range);
            let offset = self.readable() + range.start.since(self.nxt) as usize;
            let mut bytes = vec![0; len as usize];
            self.buffer.copy_to(offset, &mut bytes);
            (range.start, bytes)
        };
        let mut unread = vec![0; self.readable()];
        self.buffer.copy_to(0, &mut unread);
        ReceiverSnapshot {
            nxt: self.nxt,
            last_ack_sent: self.last_ack_sent,
            edge: self.window.edge(),
            scale: self.window.scale(),
            sack: self.sack,
            fin: self.fin,
            unread,
            out_of_order: self
                .out_of_order()
                .iter()
                .filter(|&&range| self.bytes_in(range) > 0)
                .map(bytes_of)
                .collect(),
        }
    }

    /// Goes on from a value; none if there is no memory for its bytes, or if it can't be true.
    pub(crate) fn import(snapshot: &ReceiverSnapshot, env: &mut Env<'_>) -> Option<Self> {
        let mut receiver = Self::new(snapshot.nxt - 1, snapshot.scale, snapshot.sack, env);
        receiver.window = Window::new(snapshot.nxt, snapshot.scale, env).with_edge(snapshot.edge);
        receiver.last_ack_sent = snapshot.last_ack_sent;
        receiver.delay = Delay::new();
        receiver.fin = snapshot.fin;
        if receiver.restore(snapshot, env) {
            return Some(receiver);
        }
        receiver.buffer.clear(env.pool);
        None
    }

    /// Ranges of what is behind gaps, a FIN included.
    pub(crate) fn out_of_order(&self) -> &[SeqRange] {
        self.ranges.as_slice()
    }

    fn restore(&mut self, snapshot: &ReceiverSnapshot, env: &mut Env<'_>) -> bool {
        let Ok(unread) = u32::try_from(snapshot.unread.len()) else {
            return false;
        };
        let mut buffer = Buffer::default();
        core::mem::swap(&mut buffer, &mut self.buffer);
        let mut fits = buffer.write_whole(0, &snapshot.unread, env.pool);
        let mut ranges = Ranges::default();
        for (seq, bytes) in &snapshot.out_of_order {
            let range = SeqRange {
                start: *seq,
                end: *seq + super::count(bytes.len()),
            };
            let within = seq.follows(snapshot.nxt) && !range.end.follows(snapshot.edge);
            let offset = snapshot.unread.len() + seq.since(snapshot.nxt) as usize;
            fits = fits
                && within
                && ranges.has_room_for(range)
                && buffer.write_whole(offset, bytes, env.pool);
            ranges.insert(range);
        }
        if let Some(fin) = snapshot.fin.filter(|&fin| fin.follows(snapshot.nxt)) {
            ranges.insert(SeqRange {
                start: fin,
                end: fin + 1,
            });
        }
        (self.buffer, self.ranges, self.unread) = (buffer, ranges, unread);
        fits
    }

    /// Bytes of a range, which a FIN is not.
    fn bytes_in(&self, range: SeqRange) -> u32 {
        let has_fin = self
            .fin
            .is_some_and(|fin| fin.is_within(range.start, range.end));
        range.len() - u32::from(has_fin)
    }
}
