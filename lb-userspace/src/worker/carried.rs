//! Connections that end here, seen from the side of whoever carries them: what the proxy says of each, and where it lives.
//!
//! [`Carried`] stands between the proxy, which says that a connection carries bulk, and the engine, which can move it. A connection
//! that began on the kernel has nowhere to go; it is only counted, because where those after it shall begin is decided by what
//! became of it. Invariant: each connection is counted once, at its end. Not here: what is bulk (`lb-proxy`), the move
//! (`lb-transport`), where connections begin (`control::begin`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lb_proxy::{Bulk, Carriage, ClientAddr};
use lb_transport::{Mover, Place, Why};

/// What has become of the connections of one service that are over, on all workers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    ended: AtomicU64,
    bulk: AtomicU64,
    moved: [AtomicU64; Why::ALL.len()],
    stayed: AtomicU64,
}

impl Tally {
    /// How many have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many of these carried bulk, wherever they were.
    pub(crate) fn bulk(&self) -> u64 {
        self.bulk.load(Ordering::Relaxed)
    }

    /// How many of these had moved, in the order of [`Why::ALL`].
    pub(crate) fn moved(&self) -> [u64; Why::ALL.len()] {
        self.moved
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed))
    }

    /// How many were to move and stayed where they were: the engine counts why.
    pub(crate) fn stayed(&self) -> u64 {
        self.stayed.load(Ordering::Relaxed)
    }
}

/// Nothing else is ordered by a count.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The connections of a worker that are on the kernel since they began.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    next: Cell<u64>,
    known: RefCell<HashMap<u64, ClientAddr>>,
}

impl Begun {
    /// Tells of each.
    pub(crate) fn for_each(&self, tell: impl FnMut(&ClientAddr)) {
        self.known.borrow().values().for_each(tell);
    }

    fn add(self: &Rc<Self>, ends: ClientAddr) -> OnKernel {
        let number = self.next.get();
        self.next.set(number + 1);
        self.known.borrow_mut().insert(number, ends);
        OnKernel {
            begun: Rc::clone(self),
            number,
        }
    }
}

/// Takes a connection off the list when it is over.
#[derive(Debug)]
struct OnKernel {
    begun: Rc<Begun>,
    number: u64,
}

impl Drop for OnKernel {
    fn drop(&mut self) {
        self.begun.known.borrow_mut().remove(&self.number);
    }
}

/// Where connections of a listener begin.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// In the worker's engine.
    AfXdp,
    /// In the kernel, and on this list.
    Kernel(Rc<Begun>),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Carried {
    tally: Arc<Tally>,
    mover: Option<Mover>,
    is_bulk: Cell<bool>,
    on_kernel: Option<OnKernel>,
}

impl Carried {
    /// A connection that began at `origin`; `mover` can move it.
    pub(super) fn new(
        tally: &Arc<Tally>,
        origin: &Origin,
        mover: Option<Mover>,
        ends: ClientAddr,
    ) -> Rc<Self> {
        let on_kernel = match origin {
            Origin::AfXdp => None,
            Origin::Kernel(begun) => Some(begun.add(ends)),
        };
        Rc::new(Self {
            tally: Arc::clone(tally),
            mover,
            is_bulk: Cell::new(false),
            on_kernel,
        })
    }
}

impl Carriage for Carried {
    fn bulk(&self, what: Bulk) {
        self.is_bulk.set(true);
        if let Some(mover) = &self.mover {
            mover.ask(match what {
                Bulk::Response(_) => Why::Response,
                Bulk::Upload(_) => Why::Upload,
                Bulk::Streamed(_) => Why::Streamed,
                Bulk::Repeated(_) => Why::Repeated,
                Bulk::Tunnel => Why::Tunnel,
            });
        }
    }

    fn place(&self) -> &'static str {
        match (self.mover.as_ref().map(Mover::place), &self.on_kernel) {
            (Some(Place::Kernel(_)), _) | (_, Some(_)) => "kernel",
            (Some(Place::AfXdp) | None, None) => "af_xdp",
        }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        count(&self.tally.ended);
        let is_bulk = self.is_bulk.get();
        if is_bulk {
            count(&self.tally.bulk);
        }
        match self.mover.as_ref().map(Mover::place) {
            Some(Place::Kernel(why)) => {
                if let Some(counter) = self.tally.moved.get(why as usize) {
                    count(counter);
                }
            }
            Some(Place::AfXdp) if is_bulk => count(&self.tally.stayed),
            Some(Place::AfXdp) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_at_its_end_and_is_listed_until_then() {
        let (tally, begun) = (Arc::new(Tally::default()), Rc::new(Begun::default()));
        let origin = Origin::Kernel(Rc::clone(&begun));
        let ends = |port| ClientAddr {
            peer: ([192, 0, 2, 1], port).into(),
            local: ([198, 51, 100, 1], 443).into(),
        };
        let listed = || {
            let mut listed = Vec::new();
            begun.for_each(|ends| listed.push(ends.peer.port()));
            listed.sort_unstable();
            listed
        };
        let [small, big] = [1, 2].map(|port| Carried::new(&tally, &origin, None, ends(port)));
        let engines = Carried::new(&tally, &Origin::AfXdp, None, ends(3));
        big.bulk(Bulk::Response(1 << 20));
        assert_eq!((tally.ended(), tally.bulk(), listed()), (0, 0, vec![1, 2]));
        drop(big);
        assert_eq!((tally.ended(), tally.bulk(), listed()), (1, 1, vec![1]));
        drop((small, engines));
        assert_eq!((tally.ended(), tally.bulk(), listed()), (3, 1, vec![]));
        assert_eq!((tally.moved(), tally.stayed()), ([0; 6], 0));
    }
}
