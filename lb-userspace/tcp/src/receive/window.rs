//! How much more may come: the right edge that the peer was told, and the size of window that its bytes are worth.
//!
//! Invariant: what was told is accepted. The right edge never moves left (RFC 9293 §3.8.6), neither when memory gets scarce nor by
//! rounding to the unit of the scale: windows are rounded up. Only a peer that fills more than twice the window with segments
//! smaller than that unit, unread, sees it rounded down (RFC 7323 §2.4 allows that): it could widen its window without end.
//!
//! The size follows the reader ("dynamic right-sizing", Fisk and Feng 2001; `tcp_rcv_space_adjust` on Linux): twice what
//! it took within a round trip, so that a sender that doubles its window in each is never held back by ours.
//!
//! Deliberately not here: the bytes. A window that memory had closed is not announced when there is memory again: the peer asks.

use core::num::NonZeroU32;
use core::time::Duration;

use crate::pool::Pressure;
use crate::{Config, Env, Instant, Seq};

/// Segments that the size allows for beyond twice the last round trip, for a reader that pauses: as on Linux.
const SPARE_SEGMENTS: u64 = 16;

/// Segments that are enough when memory is scarce: as on Linux.
const SCARCE_SEGMENTS: u32 = 4;

/// Bytes within a round trip that are no reason to grow: ten segments, an initial window of the peer.
const FIRST_SPACE: u32 = 14_600;

/// The field of the header counts units up to this.
const MAX_FIELD: u32 = 65_535;

/// The largest shift count (RFC 7323 §2.3).
const MAX_SCALE: u8 = 14;

/// A round trip that is being measured without timestamps.
#[derive(Clone, Copy, Debug)]
struct Lap {
    /// When the peer was told that it may send `beyond` what it could before.
    start: Instant,
    beyond: Seq,
}

/// The receive window of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// RCV.NXT + RCV.WND: the first number that the peer must not send.
    edge: Seq,
    /// RCV.BUFF: unread bytes and window together.
    size: u32,
    /// Rcv.Wind.Shift.
    scale: u8,
    /// What the header said last.
    field: u16,
    /// Round trip in µs as seen by the receiver.
    round_trip: Option<NonZeroU32>,
    lap: Option<Lap>,
    /// What the reader took since `drained_since`.
    drained: u32,
    drained_since: Instant,
    /// Most that it took in a round trip.
    space: u32,
}

impl Window {
    /// Reads a field: see `Endpoint::touch`.
    pub(super) fn touch(&self) -> u32 {
        self.drained
    }

    /// A window after a SYN, which told at most 65,535 bytes as it has no scale (RFC 7323 §2.2).
    pub(super) fn new(nxt: Seq, scale: u8, env: &Env<'_>) -> Self {
        let scale = scale.min(MAX_SCALE);
        // Less than a unit could never be told, and the peer would probe a closed window for ever.
        let size = bytes(env.config.receive_window)
            .min(most(env.config, scale))
            .max(1 << scale);
        let told = size.min(MAX_FIELD);
        Self {
            edge: nxt + told,
            size,
            scale,
            field: u16::try_from(told >> scale).unwrap_or(u16::MAX),
            round_trip: None,
            lap: None,
            drained: 0,
            drained_since: env.now,
            space: FIRST_SPACE.min(size),
        }
    }

    /// With an edge that was told by another engine.
    pub(super) fn with_edge(mut self, edge: Seq) -> Self {
        self.edge = edge;
        self
    }

    pub(super) const fn edge(&self) -> Seq {
        self.edge
    }

    pub(super) const fn scale(&self) -> u8 {
        self.scale
    }

    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
            .map(|micros| Duration::from_micros(micros.get().into()))
    }

    /// RCV.WND: what was told, less what came.
    pub(super) const fn wnd(&self, nxt: Seq) -> u32 {
        self.edge.since(nxt)
    }

    /// The field of a header that leaves now. The edge moves right by enough or not at all: the receiver's part in avoiding silly
    /// windows (RFC 9293 §3.8.6.2.2).
    pub(super) fn tell(&mut self, nxt: Seq, unread: u32, mss: u32, env: &mut Env<'_>) -> u16 {
        let told = self.edge;
        let wanted = self.wanted(unread, mss, env);
        if wanted >= self.wnd(nxt).saturating_add(self.least_step(mss)) {
            self.edge = nxt + wanted;
        }
        let wnd = self.wnd(nxt);
        let rounded = wnd.next_multiple_of(self.unit());
        if unread.saturating_add(rounded) <= self.size.saturating_mul(2) {
            self.edge = nxt + rounded;
        }
        if self.lap.is_none() && self.edge.follows(told) {
            self.lap = Some(Lap {
                start: env.now,
                beyond: told,
            });
        }
        let units = (self.wnd(nxt) >> self.scale).min(MAX_FIELD);
        let field = u16::try_from(units).unwrap_or(u16::MAX);
        if field == 0 && self.field != 0 {
            env.counters.to_zero_window += 1;
        }
        self.field = field;
        field
    }

    /// Whether the window that could be told is worth a segment of its own: twice the present one, as on Linux.
    pub(super) fn has_opened(&self, nxt: Seq, unread: u32, mss: u32, env: &Env<'_>) -> bool {
        // A window that was rounded down is smaller to the peer than to us.
        let wnd = self.wnd(nxt).min(u32::from(self.field) << self.scale);
        let wanted = self.wanted(unread, mss, env);
        wanted >= wnd.saturating_mul(2) && wanted >= wnd.saturating_add(self.least_step(mss))
    }

    /// RCV.NXT moved to `nxt`.
    pub(super) fn on_arrival(&mut self, nxt: Seq, now: Instant) {
        // A FIN needs no window, so it may come one number beyond it.
        self.edge = self.edge.max(nxt);
        if let Some(lap) = self.lap.take_if(|lap| nxt.follows(lap.beyond)) {
            // A peer that was not waiting for window took its time, so this is no more than a bound.
            let lap = micros(now.since(lap.start));
            self.round_trip = Some(self.round_trip.map_or(lap, |known| lap.min(known)));
        }
    }

    /// A round trip by timestamps. The peer may have been idle between its acknowledgement and its data, so the least one counts
    /// most.
    pub(super) fn on_round_trip(&mut self, sample: Duration) {
        let sample = micros(sample);
        let known = self.round_trip.unwrap_or(sample);
        let grown = known.saturating_add(sample.get().saturating_sub(known.get()) / 8);
        self.round_trip = Some(sample.min(grown));
    }

    /// The reader took `count` bytes: once in a round trip the size follows.
    pub(super) fn on_read(&mut self, count: u32, mss: u32, env: &Env<'_>) {
        let Some(round_trip) = self.round_trip else {
            return;
        };
        self.drained = self.drained.saturating_add(count);
        let elapsed = micros(env.now.since(self.drained_since));
        if elapsed < round_trip {
            return;
        }
        // A reader that comes seldom takes much at once, which is not much in a round trip.
        let drained = u64::from(self.drained) * u64::from(round_trip.get());
        let drained = drained / u64::from(elapsed.get());
        self.grow(u32::try_from(drained).unwrap_or(u32::MAX), mss, env);
        self.drained = 0;
        self.drained_since = env.now;
    }

    fn grow(&mut self, drained: u32, mss: u32, env: &Env<'_>) {
        if drained <= self.space {
            return;
        }
        if env.pool.pressure() == Pressure::None {
            let size = right_size(drained, self.space, mss);
            self.size = size.min(most(env.config, self.scale)).max(self.size);
        }
        self.space = drained;
    }

    /// The window that would be told if nothing had been told yet, in whole units.
    fn wanted(&self, unread: u32, mss: u32, env: &Env<'_>) -> u32 {
        let size = match env.pool.pressure() {
            Pressure::None => self.size,
            // Less than a unit would be no window at all.
            _ => (SCARCE_SEGMENTS * mss).max(self.unit()).min(self.size),
        };
        size.saturating_sub(unread) >> self.scale << self.scale
    }

    const fn unit(&self) -> u32 {
        1 << self.scale
    }

    fn least_step(&self, mss: u32) -> u32 {
        mss.min(self.size / 2).max(1)
    }
}

/// Twice what was read in the last round trip, and up to twice that while it grows beyond `space`, what it was before: the next one
/// may bring twice as much.
fn right_size(drained: u32, space: u32, mss: u32) -> u32 {
    // More than any window is no more of a reason, and can't overflow.
    let drained = u64::from(drained.min(MAX_FIELD << MAX_SCALE));
    let space = u64::from(space.max(1));
    let size = 2 * drained + SPARE_SEGMENTS * u64::from(mss);
    let growth = size * drained.saturating_sub(space) / space;
    u32::try_from(size + growth.min(size)).unwrap_or(u32::MAX)
}

/// The largest size: what the rules allow and the field can say.
fn most(config: &Config, scale: u8) -> u32 {
    bytes(config.max_receive_window).min(MAX_FIELD << scale)
}

fn bytes(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn micros(duration: Duration) -> NonZeroU32 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    NonZeroU32::new(micros).unwrap_or(NonZeroU32::MIN)
}
