//! Ways to choose among servers that could all do it.
//!
//! Each takes the candidates with their weights of the moment and gives an index. Invariant: none of them chooses a
//! server that is no candidate, and each finds one if there is any. Not here: who is a candidate ([`super`]).

use std::cell::{Cell, RefCell};
use std::hash::Hasher as _;
use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use siphasher::sip::SipHasher13;

/// How a route's requests are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// In turn, as often as their weights say.
    #[default]
    RoundRobin,
    /// To the one that is used least for its weight.
    LeastConnections,
    /// Each client address to the same one.
    SourceHash,
    /// Each value of a header to the same one; without the header, as [`Method::SourceHash`].
    HeaderHash(HeaderName),
}

/// A server that could be chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) index: usize,
    /// Never 0.
    pub(super) weight: u64,
    pub(super) in_use: u32,
    pub(super) address: SocketAddr,
}

/// Smooth weighted round robin: over any run of picks with the same candidates each gets its share, and picks of
/// a heavy server are spread out instead of bunched. State is a worker's own.
#[derive(Debug)]
pub(super) struct Turns {
    /// Credit of each server: grows by its weight at each pick, and pays the total when picked.
    credit: RefCell<Vec<i64>>,
}

impl Turns {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            credit: RefCell::new(vec![0; servers]),
        }
    }

    pub(super) fn pick(&self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let mut credits = self.credit.borrow_mut();
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for Candidate { index, weight, .. } in candidates {
            let Some(credit) = credits.get_mut(index) else {
                continue;
            };
            let weight = i64::try_from(weight).unwrap_or(i64::MAX);
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (index, _) = best?;
        if let Some(credit) = credits.get_mut(index) {
            *credit -= total;
        }
        Some(index)
    }
}

/// Least used for its weight. Of equals, the next after the one that was chosen last: else the first server of an idle pool
/// would get everything.
#[derive(Debug, Default)]
pub(super) struct Least {
    last: Cell<usize>,
}

impl Least {
    pub(super) fn pick(&self, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
        let last = self.last.get();
        // What each would have with one more; compared without division.
        let one_more = |c: &Candidate| u128::from(c.in_use) + 1;
        let best = candidates.min_by(|a, b| {
            let (left, right) = (
                one_more(a) * u128::from(b.weight),
                one_more(b) * u128::from(a.weight),
            );
            let after = |c: &Candidate| (c.index <= last, c.index);
            left.cmp(&right).then_with(|| after(a).cmp(&after(b)))
        })?;
        self.last.set(best.index);
        Some(best.index)
    }
}

/// Weighted rendezvous hashing: each candidate draws a number from the key and its own address, and the best draw wins. If
/// a server goes, only its keys move; if it comes back, they return. Every worker and every host agrees without a word.
pub(super) fn rendezvous(key: u64, candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    let draws = candidates.map(|candidate| (draw(key, &candidate), candidate.index));
    // Of equal draws, which 53 bits make rare, the first wins.
    let best = draws.min_by(|(a, _), (b, _)| a.total_cmp(b))?;
    Some(best.1)
}

/// Exponentially distributed with the weight as its rate: the smallest of several is a server's with the probability that
/// its weight gives it (Efraimidis and Spirakis 2006).
fn draw(key: u64, candidate: &Candidate) -> f64 {
    let mut hasher = SipHasher13::new();
    hasher.write_u64(key);
    write_address(&mut hasher, candidate.address.ip());
    hasher.write_u16(candidate.address.port());
    #[expect(
        clippy::cast_precision_loss,
        reason = "53 bits of a hash and a weight are exact in a double"
    )]
    let (uniform, weight) = (
        ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64,
        candidate.weight as f64,
    );
    -uniform.ln() / weight
}

/// What a client address is hashed to. An IPv6 client is known by its /64: within one, addresses are the client's choice
/// and change by the day (RFC 8981).
pub(super) fn key_of_client(client: IpAddr) -> u64 {
    let mut hasher = SipHasher13::new();
    match client.to_canonical() {
        IpAddr::V6(address) => hasher.write(&address.octets()[..8]),
        ip @ IpAddr::V4(_) => write_address(&mut hasher, ip),
    }
    hasher.finish()
}

/// What the value of a header is hashed to.
pub(super) fn key_of_value(value: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(value);
    hasher.finish()
}

fn write_address(hasher: &mut SipHasher13, ip: IpAddr) {
    match ip {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
}

#[cfg(test)]
mod tests;
