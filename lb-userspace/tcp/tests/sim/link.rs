//! One direction of the link: a queue in front of a wire, and what goes wrong there.

use std::collections::VecDeque;
use std::time::Duration;

use lb_tcp::Instant;

use crate::packet::Packet;
use crate::rng::Rng;

/// A direction of the link, and its faults. All chances are per million packets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Bits per second.
    pub(crate) rate: u64,
    pub(crate) delay: Duration,
    /// Packets that the queue holds.
    pub(crate) queue: usize,
    /// Whether a full queue makes the sender wait, as its own NIC does, or loses packets, as a router does.
    pub(crate) pushes_back: bool,
    /// Packets arrive at multiples of this, as with interrupts that are held back; zero: when they do.
    pub(crate) grain: Duration,
    /// Bytes of an IP packet at most.
    pub(crate) mtu: usize,
    pub(crate) faults: Faults,
}

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u32,
    /// Chances that a burst of losses begins, and that it ends.
    pub(crate) burst: Option<(u32, u32)>,
    /// Pure acknowledgements are lost in addition.
    pub(crate) ack_loss: u32,
    pub(crate) duplicate: u32,
    /// A packet is held back by up to `reorder_by`, and later ones pass it.
    pub(crate) reorder: u32,
    pub(crate) reorder_by: Duration,
    /// Each packet takes up to this much longer.
    pub(crate) jitter: Duration,
    /// A bit is flipped.
    pub(crate) corrupt: u32,
    /// A bit of the TCP header is flipped.
    pub(crate) corrupt_header: u32,
    /// When packets are lost, all of them.
    pub(crate) outages: Vec<Span>,
    /// The receiver's machine stands still: what arrives waits, and so do its timers.
    pub(crate) stalls: Vec<Span>,
    pub(crate) narrowings: Vec<Narrowing>,
}

/// A time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Span {
    pub(crate) fn holds(&self, at: Instant) -> bool {
        self.from <= at && at < self.to
    }
}

/// The path becomes narrower for a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Narrowing {
    pub(crate) span: Span,
    pub(crate) mtu: usize,
    /// Whether the sender is told, or packets just vanish.
    pub(crate) is_told: bool,
}

/// What comes out of the link.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Arrival {
    /// For the receiver.
    Packet(Packet),
    /// For the sender of this packet.
    TooBig(Packet, usize),
}

/// What the link has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) carried: u64,
    pub(crate) lost: u64,
    pub(crate) tail_dropped: u64,
    pub(crate) duplicated: u64,
    pub(crate) held_back: u64,
    pub(crate) damaged: u64,
    pub(crate) too_big: u64,
}

/// A burst is over then, even if few packets come to see its end: else one could swallow every retransmission.
const LONGEST_BURST: Duration = Duration::from_secs(3);

/// Packets that arrive during a stall and are kept: a receive ring.
const RING: usize = 512;

/// A direction.
#[derive(Debug)]
pub(crate) struct Link {
    plan: Plan,
    rng: Rng,
    /// When each packet in the queue has left it.
    departures: VecDeque<Instant>,
    /// Since when a burst of losses lasts.
    burst: Option<Instant>,
    stalled: usize,
    pub(crate) tally: Tally,
}

impl Link {
    pub(crate) fn new(plan: Plan, rng: Rng) -> Self {
        Self {
            plan,
            rng,
            departures: VecDeque::new(),
            burst: None,
            stalled: 0,
            tally: Tally::default(),
        }
    }

    /// When the sender may send: now, or later if the queue is full and pushes back.
    pub(crate) fn room_at(&mut self, now: Instant) -> Instant {
        self.drain(now);
        if self.plan.pushes_back && self.departures.len() >= self.plan.queue {
            return self.departures.front().copied().unwrap_or(now);
        }
        now
    }

    /// The receiver stands still until then, if it does.
    pub(crate) fn stalled_until(&self, now: Instant) -> Option<Instant> {
        let stalls = &self.plan.faults.stalls;
        let stall = |at| stalls.iter().find(|span| span.holds(at));
        let mut end = stall(now)?.to;
        while let Some(next) = stall(end) {
            end = next.to;
        }
        Some(end)
    }

    /// Takes a packet, and says what arrives when.
    pub(crate) fn carry(&mut self, packet: Packet, now: Instant) -> Vec<(Instant, Arrival)> {
        self.tally.carried += 1;
        if let Some(answer) = self.narrowed(&packet, now) {
            return answer;
        }
        self.drain(now);
        if self.departures.len() >= self.plan.queue {
            self.tally.tail_dropped += 1;
            return vec![];
        }
        let begins = self.departures.back().copied().unwrap_or(now).max(now);
        let bits = packet.ip_len() as u64 * 8;
        let departure = begins + Duration::from_nanos(bits * 1_000_000_000 / self.plan.rate);
        self.departures.push_back(departure);
        if self.loses(&packet, now) {
            self.tally.lost += 1;
            return vec![];
        }
        self.arrivals(packet, departure)
    }

    fn drain(&mut self, now: Instant) {
        while self.departures.front().is_some_and(|at| *at <= now) {
            self.departures.pop_front();
        }
    }

    fn narrowed(&mut self, packet: &Packet, now: Instant) -> Option<Vec<(Instant, Arrival)>> {
        let narrowings = self.plan.faults.narrowings.iter();
        let narrowing = narrowings.rev().find(|it| it.span.holds(now)).copied();
        let (mtu, is_told) = narrowing.map_or((self.plan.mtu, true), |it| (it.mtu, it.is_told));
        if packet.ip_len() <= mtu {
            return None;
        }
        self.tally.too_big += 1;
        let is_lost = self.rng.chance(self.plan.faults.loss);
        let told = is_told && !is_lost;
        let at = now + self.plan.delay;
        Some(Vec::from_iter(
            told.then(|| (at, Arrival::TooBig(packet.clone(), mtu))),
        ))
    }

    fn loses(&mut self, packet: &Packet, now: Instant) -> bool {
        let faults = &self.plan.faults;
        if let Some((begins, ends)) = faults.burst {
            let is_over = |since: Instant| now.since(since) > LONGEST_BURST;
            self.burst = match self.burst {
                Some(since) if is_over(since) || self.rng.chance(ends) => None,
                None if self.rng.chance(begins) => Some(now),
                same => same,
            };
        }
        self.burst.is_some()
            || faults.outages.iter().any(|span| span.holds(now))
            || self.rng.chance(faults.loss)
            || (packet.is_pure_ack() && self.rng.chance(faults.ack_loss))
    }

    fn arrivals(&mut self, mut packet: Packet, departure: Instant) -> Vec<(Instant, Arrival)> {
        let faults = self.plan.faults.clone();
        let mut at = departure + self.plan.delay + self.up_to(faults.jitter);
        if self.rng.chance(faults.reorder) {
            self.tally.held_back += 1;
            at += self.up_to(faults.reorder_by);
        }
        let mut arrivals = vec![];
        if self.rng.chance(faults.duplicate) {
            self.tally.duplicated += 1;
            let later = at + self.up_to(self.plan.delay);
            arrivals.extend(self.arrival(packet.clone(), later));
        }
        if self.rng.chance(faults.corrupt) {
            let bits = packet.bytes.len() * 8;
            self.flip(&mut packet, bits);
        } else if self.rng.chance(faults.corrupt_header) {
            self.flip(&mut packet, 20 * 8);
        }
        arrivals.extend(self.arrival(packet, at));
        arrivals
    }

    fn arrival(&mut self, packet: Packet, at: Instant) -> Option<(Instant, Arrival)> {
        let at = round_up(at, self.plan.grain);
        let Some(later) = self.stalled_until(at) else {
            self.stalled = 0;
            return Some((at, Arrival::Packet(packet)));
        };
        self.stalled += 1;
        (self.stalled <= RING).then_some((later, Arrival::Packet(packet)))
    }

    fn flip(&mut self, packet: &mut Packet, bits: usize) {
        self.tally.damaged += 1;
        let bit = usize::try_from(self.rng.below(bits as u64)).unwrap();
        packet.bytes[bit / 8] ^= 1 << (bit % 8);
        packet.is_damaged = true;
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).unwrap();
        Duration::from_micros(self.rng.below(micros + 1))
    }
}

fn round_up(at: Instant, grain: Duration) -> Instant {
    let grain = u64::try_from(grain.as_micros()).unwrap().max(1);
    Instant::from_micros(at.as_micros().next_multiple_of(grain))
}
