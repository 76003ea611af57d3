//! A snapshot as values of socket options: pure, so that each rule of the kernel's can be tested without one.
//!
//! Invariant: the kernel takes a plan. What it would refuse, or worse, take and understand differently, is refused or put right here.
//! Deliberately not here: system calls (`repaired`).

use std::time::Duration;

use lb_tcp::{Seq, Snapshot};

use crate::error::{MoveError, Step};
use crate::history::History;

/// What a moved socket is told beside its connection's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `TCP_CONGESTION`; none: what the system prefers. Cubic, because BBR takes the unknown round trip of a moved connection for
    /// 1 ms and paces its first windows by that.
    pub congestion: Option<String>,
    /// Probes of an idle peer, if any.
    pub keepalive: Option<Keepalive>,
    /// `TCP_USER_TIMEOUT`; zero: as the system does.
    pub user_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            congestion: Some("cubic".to_owned()),
            keepalive: None,
            user_timeout: Duration::ZERO,
        }
    }
}

/// Probes of an idle peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first one.
    pub idle: Duration,
    /// Silence before each further one.
    pub interval: Duration,
    /// Probes without an answer before the peer is given up.
    pub probes: u32,
}

/// Values for the options of a socket in repair, in the order in which they are set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// `SO_SNDBUFFORCE`, if the bytes in flight may not fit a new socket's buffer.
    pub(crate) send_buffer: Option<u32>,
    /// `TCP_QUEUE_SEQ` of the send queue: SND.UNA, or before it if the socket learns of the past.
    pub(crate) start: u32,
    /// `TCP_QUEUE_SEQ` of the receive queue.
    pub(crate) rcv_nxt: u32,
    /// `TCP_MAXSEG`. Before `connect`: the MSS among the repair options doesn't reach the size that segments are cut to, which stays
    /// 536 less options until something else recomputes it.
    pub(crate) mss: u32,
    /// `TCP_REPAIR_OPTIONS`.
    pub(crate) negotiated: Negotiated,
    /// `TCP_TIMESTAMP`.
    pub(crate) clock: Option<u32>,
    /// `TCP_REPAIR_WINDOW`.
    pub(crate) windows: Windows,
    /// What the socket learns of what was before SND.UNA.
    pub(crate) past: Past,
    /// Bytes in flight.
    pub(crate) sent: &'a [u8],
    /// Bytes that wait.
    pub(crate) unsent: &'a [u8],
}

/// What a socket learns of a connection's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// Nothing.
    Untold,
    /// That these segments were acknowledged.
    Acknowledged(History),
    /// The round trip, without timestamps: the peer acknowledges the octet before SND.UNA again.
    Octet,
}

impl Past {
    /// Bytes before SND.UNA that the socket takes for its own.
    const fn len(&self) -> u32 {
        match self {
            Self::Untold => 0,
            Self::Acknowledged(history) => history.len,
            Self::Octet => 1,
        }
    }
}

/// What both SYNs agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// MSS.
    pub(crate) mss: u16,
    /// Snd.Wind.Shift and Rcv.Wind.Shift; zeroes if not negotiated, which must be said: the socket has chosen a shift of its own at
    /// `connect`, and would divide the windows that it tells by it.
    pub(crate) shifts: (u8, u8),
    /// Whether SACK is used.
    pub(crate) sack: bool,
    /// Whether timestamps are used.
    pub(crate) timestamps: bool,
}

/// `struct tcp_repair_window`, as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Windows {
    /// SND.WL1.
    pub(crate) snd_wl1: u32,
    /// SND.WND.
    pub(crate) snd_wnd: u32,
    /// MAX.SND.WND.
    pub(crate) max_window: u32,
    /// The window that the peer was told, from `rcv_wup` on.
    pub(crate) rcv_wnd: u32,
    /// RCV.NXT when it was told.
    pub(crate) rcv_wup: u32,
}

/// A new socket takes that many bytes whatever `tcp_wmem` says: its first value is 16 KiB unless somebody has made it smaller, and it
/// grows to ten segments with their overhead at `connect`.
const ALWAYS_FITS: usize = 8 << 10;

/// The largest shift count (RFC 7323 §2.3).
const MAX_SHIFT: u8 = 14;

impl<'a> Plan<'a> {
    /// `clock` is the `TSval` that the connection would send now.
    pub(crate) fn new(snapshot: &'a Snapshot, clock: u32) -> Result<Self, MoveError> {
        let sent = snapshot.nxt.since(snapshot.una) as usize;
        let (sent, unsent) = snapshot
            .send_queue
            .split_at_checked(sent)
            .ok_or_else(|| Step::refused("more was sent than is in the queue"))?;
        let shifts = snapshot.shifts.unwrap_or_default();
        if shifts.0 > MAX_SHIFT || shifts.1 > MAX_SHIFT {
            return Err(Step::refused("a window scale above 14"));
        }
        Ok(Self {
            send_buffer: send_buffer(sent.len()),
            start: snapshot.una.0,
            rcv_nxt: snapshot.rcv_nxt.0,
            mss: snapshot.mss.into(),
            negotiated: Negotiated {
                mss: snapshot.mss,
                shifts,
                sack: snapshot.sack,
                timestamps: snapshot.timestamps.is_some(),
            },
            clock: snapshot.timestamps.map(|_| even(clock)),
            windows: Windows::new(snapshot)?,
            past: Past::Untold,
            sent,
            unsent,
        })
    }

    /// With what the peer has acknowledged last, if that says something.
    pub(crate) fn with_history(mut self, snapshot: &Snapshot) -> Self {
        self.past = match self.clock {
            Some(clock) => History::new(snapshot, clock).map_or(Past::Untold, Past::Acknowledged),
            None if snapshot.wnd > 0 => Past::Octet,
            // It would wait, and what is in flight would come behind it.
            None => Past::Untold,
        };
        let len = self.past.len();
        self.start = (snapshot.una - len).0;
        self.send_buffer = send_buffer(len as usize + self.sent.len());
        self
    }
}

impl Windows {
    /// Within the conditions of `tcp_repair_set_window`: `max_window >= snd_wnd`, `rcv_wup` not after RCV.NXT, `snd_wl1` not after
    /// RCV.NXT + `rcv_wnd`.
    fn new(snapshot: &Snapshot) -> Result<Self, MoveError> {
        let nxt = snapshot.rcv_nxt;
        if snapshot.rcv_edge.precedes(nxt) {
            return Err(Step::refused("more was received than there was window"));
        }
        let told_at = snapshot.last_ack_sent.min(nxt);
        let rcv_wnd = snapshot.rcv_edge.since(told_at);
        Ok(Self {
            snd_wl1: in_window(snapshot.wl1, nxt, rcv_wnd).0,
            snd_wnd: snapshot.wnd,
            max_window: snapshot.max_wnd.max(snapshot.wnd),
            rcv_wnd,
            rcv_wup: told_at.0,
        })
    }
}

/// SND.WL1, which a segment behind a gap may have moved. One beyond the window is of an older half of the number space: then the
/// next segment is as good as any.
fn in_window(wl1: Seq, nxt: Seq, wnd: u32) -> Seq {
    if wl1.follows(nxt + wnd) { nxt } else { wl1 }
}

/// The kernel counts what a buffer costs, not what is in it, and doubles what it is told for that: twice the bytes are enough for
/// segments of any size that it makes of them.
fn send_buffer(sent: usize) -> Option<u32> {
    (sent > ALWAYS_FITS).then(|| u32::try_from(2 * sent).unwrap_or(u32::MAX / 4))
}

/// The next even value: the kernel takes an odd one as a wish for timestamps in microseconds (`tcp_usec_ts`, Linux 6.7), and a value
/// rounded down could be one that the peer has seen the next of (PAWS).
const fn even(clock: u32) -> u32 {
    clock.wrapping_add(clock & 1)
}
