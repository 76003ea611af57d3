//! Where a connection lives: what its stream, its movers and the driver share of it.
//!
//! Invariant: it begins in the engine, moves once at most, and is over when its stream is dropped.
//! Deliberately not here: who may move (`moves`), how (`moving`).

use std::cell::{Cell, RefCell, RefMut};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use lb_tcp::{FlowId, FlowKey};

use super::landed::Landed;
use super::moves::Moves;
use crate::{Place, Why};

/// Where a connection lives: what its stream, its movers and the driver share.
pub(crate) struct Residence {
    carrier: RefCell<Carrier>,
    place: Cell<Place>,
    asked: Cell<Option<Why>>,
}

/// What carries the bytes.
pub(super) enum Carrier {
    /// The engine.
    Engine(FlowId),
    /// The kernel.
    Kernel(Box<Tenancy>),
    /// Nothing any more: it got lost on its way.
    Failed(io::ErrorKind),
    /// Nothing any more: its stream was dropped.
    Over,
}

impl Residence {
    pub(super) fn new(id: FlowId) -> Self {
        Self {
            carrier: RefCell::new(Carrier::Engine(id)),
            place: Cell::new(Place::AfXdp),
            asked: Cell::new(None),
        }
    }

    pub(crate) fn place(&self) -> Place {
        self.place.get()
    }

    pub(super) fn carrier(&self) -> RefMut<'_, Carrier> {
        self.carrier.borrow_mut()
    }

    /// A wish, to be decided on.
    pub(super) fn wish(&self, why: Why) {
        self.asked.set(Some(why));
    }

    /// Whether a wish is undecided.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.get().is_some()
    }

    /// The wish, which is decided from now on.
    pub(super) fn decide(&self) -> Option<Why> {
        self.asked.take()
    }

    /// The kernel's from now on.
    pub(super) fn land(&self, landed: Landed, lease: Lease) {
        self.place.set(Place::Kernel(lease.why));
        *self.carrier() = Carrier::Kernel(Box::new(Tenancy { landed, lease }));
    }

    /// It got lost.
    pub(super) fn fail(&self, kind: io::ErrorKind) {
        *self.carrier() = Carrier::Failed(kind);
    }

    /// The stream is dropped.
    pub(super) fn leave(&self) -> Carrier {
        self.carrier.replace(Carrier::Over)
    }
}

/// A socket, and its right to packets, which outlives it: fields are dropped in order.
pub(super) struct Tenancy {
    pub(super) landed: Landed,
    pub(super) lease: Lease,
}

impl Tenancy {
    /// As [`Landed::pass`]; the right to packets goes along.
    pub(super) fn pass(&mut self) -> Option<(OwnedFd, Vec<u8>)> {
        let passed = self.landed.pass()?;
        self.lease.is_passed = true;
        Some(passed)
    }
}

/// The right of a socket to the packets between its ends.
pub(super) struct Lease {
    pub(super) key: FlowKey,
    pub(super) why: Why,
    pub(super) since: Instant,
    /// Another process goes on with the connection, and its packets go to the stack for as long as that takes.
    pub(super) is_passed: bool,
    pub(super) moves: Rc<Moves>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.is_passed {
            self.moves.pass(&self.key);
        } else {
            self.moves.end(&self.key);
        }
    }
}
