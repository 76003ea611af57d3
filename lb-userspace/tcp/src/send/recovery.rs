//! What a loss leads to: the phases of recovery, how much may leave meanwhile (PRR, RFC 9937), duplicate
//! acknowledgements of a peer without SACK (RFC 6582), and how all of it is taken back.
//!
//! Deliberately not here: how a loss is found (`rack`), what is sent again (`records`).

use super::cubic::Cubic;
use super::records::Record;
use crate::segment::SeqRange;
use crate::{Instant, Seq};

/// Duplicate acknowledgements that prove a loss (RFC 5681 §3.2).
const DUP_THRESH: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Nothing is known to be lost.
    Open,
    /// Fast recovery, until `high` (`RecoveryPoint`) is acknowledged.
    Recovery { high: Seq, prr: Prr },
    /// After a retransmission timeout, until `high` is acknowledged.
    Loss { high: Seq },
}

/// Proportional rate reduction (RFC 9937): what may leave in a recovery is a share of what arrives, so that the flight
/// ends at ssthresh.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prr {
    /// `RecoverFS`: the flight at the beginning.
    recover_fs: u32,
    /// `prr_delivered` and `prr_out`.
    delivered: u32,
    out: u32,
    /// `cwnd` of the recovery.
    cwnd: u32,
}

/// What an acknowledgement in a recovery says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// `DeliveredData`: bytes newly acknowledged or sacked.
    pub(super) delivered: u32,
    /// Bytes in the network.
    pub(super) pipe: u32,
    pub(super) ssthresh: u32,
    pub(super) mss: u32,
    /// `safeACK`: SND.UNA moved and no further loss was found.
    pub(super) safe: bool,
}

impl Prr {
    pub(super) fn new(recover_fs: u32) -> Self {
        Self {
            recover_fs: recover_fs.max(1),
            ..Self::default()
        }
    }

    pub(super) fn cwnd(&self) -> u32 {
        self.cwnd
    }

    pub(super) fn on_sent(&mut self, bytes: u32) {
        self.out = self.out.saturating_add(bytes);
    }

    /// RFC 9937 §6.2.
    pub(super) fn on_ack(&mut self, ack: &Delivery) {
        if ack.delivered == 0 && self.cwnd != 0 {
            return;
        }
        self.delivered = self.delivered.saturating_add(ack.delivered);
        let mut count = if ack.pipe > ack.ssthresh {
            let share = u64::from(self.delivered) * u64::from(ack.ssthresh);
            let share = share.div_ceil(u64::from(self.recover_fs));
            u32::try_from(share)
                .unwrap_or(u32::MAX)
                .saturating_sub(self.out)
        } else {
            let arrived = self.delivered.saturating_sub(self.out).max(ack.delivered);
            let bonus = if ack.safe { ack.mss } else { 0 };
            (ack.ssthresh - ack.pipe).min(arrived.saturating_add(bonus))
        };
        if self.out == 0 && count == 0 {
            // The first retransmission leaves at once.
            count = ack.mss;
        }
        self.cwnd = ack.pipe.saturating_add(count);
    }
}

/// How things were before a response to congestion, until it is known whether that was right.
#[derive(Clone, Debug)]
pub(super) struct Undo {
    pub(super) congestion: Cubic,
    /// SND.UNA at the beginning: a duplicate before that is none of this recovery.
    marker: Seq,
    /// What was retransmitted first, and when by the clock of timestamps.
    first: Option<(SeqRange, u32)>,
    /// Retransmissions that the peer has not said to be duplicates.
    outstanding: u32,
    /// Set when the recovery is over: once this is acknowledged, no duplicate will be told any more.
    expires: Option<Seq>,
}

impl Undo {
    pub(super) fn new(congestion: Cubic, marker: Seq) -> Self {
        Self {
            congestion,
            marker,
            first: None,
            outstanding: 0,
            expires: None,
        }
    }

    pub(super) fn on_retransmit(&mut self, record: &Record, now: Instant) {
        let range = SeqRange {
            start: record.start,
            end: record.end(),
        };
        self.first.get_or_insert((range, now.millis()));
        self.outstanding = self.outstanding.saturating_add(1);
    }

    /// The peer had `duplicate` already. Whether all retransmissions are thereby known to have been in vain
    /// (RFC 3708).
    pub(super) fn on_duplicate(&mut self, duplicate: SeqRange, mss: u32) -> bool {
        if self.first.is_none() || duplicate.start.precedes(self.marker) {
            return false;
        }
        let segments = duplicate.len().div_ceil(mss.max(1));
        self.outstanding = self.outstanding.saturating_sub(segments);
        self.outstanding == 0
    }

    /// Eifel detection (RFC 3522): the acknowledgement that first covers the first retransmission echoes a time
    /// before it, so the original has arrived.
    pub(super) fn is_disproved(&self, una_before: Seq, una: Seq, echo: Option<u32>) -> bool {
        let (Some((first, at)), Some(echo)) = (self.first, echo) else {
            return false;
        };
        !first.start.precedes(una_before) && !una.precedes(first.end) && Seq(echo).precedes(Seq(at))
    }

    pub(super) fn expire_at(&mut self, nxt: Seq) {
        self.expires = Some(nxt);
    }

    pub(super) fn is_expired(&self, una: Seq) -> bool {
        self.expires.is_some_and(|expires| !una.precedes(expires))
    }
}

/// Duplicate acknowledgements of a peer without SACK (RFC 6582): each says that a segment has left the network,
/// but not which.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewReno {
    /// Duplicates since SND.UNA moved.
    duplicates: u32,
    /// `recover`: duplicates for what was sent before may be echoes of our own retransmissions.
    recover: Seq,
}

impl NewReno {
    pub(super) const fn new(iss: Seq) -> Self {
        Self {
            duplicates: 0,
            recover: iss,
        }
    }

    /// Segments that are known to have left the network.
    pub(super) fn duplicates(self) -> u32 {
        self.duplicates
    }

    /// A duplicate. Whether it proves a loss at `una`.
    pub(super) fn on_duplicate(&mut self, una: Seq) -> bool {
        self.duplicates += 1;
        self.duplicates >= DUP_THRESH && una.follows(self.recover)
    }

    /// SND.UNA moved over `segments`: one of them filled the hole, the others had been duplicates.
    pub(super) fn on_advance(&mut self, segments: u32, in_recovery: bool) {
        self.duplicates = if in_recovery {
            self.duplicates.saturating_sub(segments.saturating_sub(1))
        } else {
            0
        };
    }

    /// A recovery begins with `high` as SND.NXT; after a timeout (`forget`) duplicates count no more.
    pub(super) fn begin(&mut self, high: Seq, forget: bool) {
        self.recover = high;
        if forget {
            self.duplicates = 0;
        }
    }
}

#[cfg(test)]
mod tests;
