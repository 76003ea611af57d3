//! The fault matrix: what is wrong with the link, of which the seed says how much.

use std::time::Duration;

use lb_tcp::Instant;

use crate::link::{Faults, Narrowing, Plan, Span};
use crate::rng::Rng;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing but what every link has: a rate, a delay, a queue.
    Clean,
    /// A queue of a few packets, which overflows.
    ShortQueue,
    Loss,
    Bursts,
    AckLoss,
    Reorder,
    Jitter,
    Duplication,
    Corruption,
    /// A narrower link comes into the path, and a router says so.
    Narrow,
    /// A narrower link is in the path for a time, and nobody says so.
    BlackHole,
    /// An end's machine stands still.
    Stall,
    /// The link is down for a time.
    Outage,
    /// Several of these at once.
    Everything,
}

impl Fault {
    /// `least` is the MTU that every path has.
    pub(crate) fn strike(self, links: &mut [Plan; 2], least: usize, start: Instant, rng: &mut Rng) {
        for link in links {
            self.strike_one(link, least, start, rng);
        }
    }

    fn strike_one(self, link: &mut Plan, least: usize, start: Instant, rng: &mut Rng) {
        let widths = (least, link.mtu);
        let faults = &mut link.faults;
        match self {
            Self::Clean => {}
            Self::ShortQueue => {
                link.queue = rng.size(2, 12);
                link.pushes_back = false;
            }
            Self::Loss => faults.loss = rate(rng, 150_000),
            Self::Bursts => {
                let begins = rate(rng, 30_000);
                faults.burst = Some((begins, u32::try_from(rng.range(150_000, 900_000)).unwrap()));
            }
            Self::AckLoss => faults.ack_loss = rate(rng, 250_000),
            Self::Reorder => {
                faults.reorder = rate(rng, 500_000);
                faults.reorder_by = times(link.delay, rng);
            }
            Self::Jitter => faults.jitter = times(link.delay, rng),
            Self::Duplication => faults.duplicate = rate(rng, 500_000),
            Self::Corruption => {
                faults.corrupt = rate(rng, 100_000);
                faults.corrupt_header = rate(rng, 50_000);
            }
            Self::Narrow => narrow(faults, widths, true, start, rng),
            Self::BlackHole => narrow(faults, widths, false, start, rng),
            Self::Stall => {
                for _ in 0..rng.range(1, 4) {
                    faults.stalls.push(span(start, 3_000_000, rng));
                }
            }
            // Shorter than a handshake is tried, after which one end gives up and the other may wait for ever.
            Self::Outage => faults.outages.push(span(start, 15_000_000, rng)),
            Self::Everything => everything(link, least, start, rng),
        }
    }
}

/// Each of the others with one chance in three, and a little less of it.
fn everything(link: &mut Plan, least: usize, start: Instant, rng: &mut Rng) {
    let others = [
        Fault::ShortQueue,
        Fault::Loss,
        Fault::Bursts,
        Fault::AckLoss,
        Fault::Reorder,
        Fault::Jitter,
        Fault::Duplication,
        Fault::Corruption,
        Fault::Narrow,
        Fault::Stall,
        Fault::Outage,
    ];
    for fault in others {
        if rng.chance(333_333) {
            fault.strike_one(link, least, start, rng);
        }
    }
    let faults: &mut Faults = &mut link.faults;
    // All of them at their worst would lose every second packet, and then giving up is right.
    faults.loss /= 3;
    faults.corrupt /= 3;
    faults.ack_loss /= 3;
}

fn rate(rng: &mut Rng, most: u64) -> u32 {
    u32::try_from(rng.magnitude(1000, most)).unwrap()
}

fn times(delay: Duration, rng: &mut Rng) -> Duration {
    delay * u32::try_from(rng.range(1, 40)).unwrap() / 10
}

/// Begins in the first seconds, mostly very early, since most runs are short.
fn span(start: Instant, longest: u64, rng: &mut Rng) -> Span {
    let from = start + Duration::from_micros(rng.magnitude(100, 4_000_000));
    let lasts = Duration::from_micros(rng.magnitude(1000, longest));
    Span {
        from,
        to: from + lasts,
    }
}

fn narrow(
    faults: &mut Faults,
    (least, mtu): (usize, usize),
    is_told: bool,
    start: Instant,
    rng: &mut Rng,
) {
    let longest = if is_told { 3_000_000_000 } else { 20_000_000 };
    let narrower = usize::try_from(rng.range(least as u64, mtu as u64)).unwrap();
    faults.narrowings.push(Narrowing {
        span: span(start, longest, rng),
        mtu: narrower,
        is_told,
    });
}
