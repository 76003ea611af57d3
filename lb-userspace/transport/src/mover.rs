//! What is above a connection may ask that the kernel's TCP take it over.
//!
//! Asking is cheap, and a wish: the engine moves the connection in its next turn, or lets it stay where it is (its budget is used up, the
//! connection is about to end, the host can't). Nobody above notices either; only the first write after the wish waits for the decision, so
//! that a big answer's first byte goes the way of the others.
//!
//! Deliberately not here: what is worth a move (`lb-proxy`), and the move itself (`af_xdp::moving`).

use std::fmt;
use std::rc::Rc;

use crate::af_xdp::moves::Moves;
use crate::af_xdp::residence::Residence;

/// Why a connection moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its response has a big body.
    Response,
    /// Its request announces one.
    Upload,
    /// Much has been streamed, of a length that nobody knew.
    Streamed,
    /// Its responses are none of them big, and big enough all together.
    Repeated,
    /// It is a tunnel.
    Tunnel,
    /// The engine will end.
    Stop,
}

impl Why {
    /// All of them, in the order of the counters.
    pub const ALL: [Self; 6] = [
        Self::Response,
        Self::Upload,
        Self::Streamed,
        Self::Repeated,
        Self::Tunnel,
        Self::Stop,
    ];
}

/// Where a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the engine.
    AfXdp,
    /// It has moved to a socket of the kernel.
    Kernel(Why),
}

/// Asks for the move of one connection. Clones are for the same one, and may outlive it.
#[derive(Clone)]
pub struct Mover {
    residence: Rc<Residence>,
    moves: Rc<Moves>,
}

impl Mover {
    pub(crate) fn new(residence: Rc<Residence>, moves: Rc<Moves>) -> Self {
        Self { residence, moves }
    }

    /// Asks. Does nothing if the connection has moved, is over, or waits for the decision on an earlier wish.
    pub fn ask(&self, why: Why) {
        self.moves.ask(&self.residence, why);
    }

    /// Where the connection lives, or did.
    pub fn place(&self) -> Place {
        self.residence.place()
    }
}

impl fmt::Debug for Mover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mover").field(&self.place()).finish()
    }
}
