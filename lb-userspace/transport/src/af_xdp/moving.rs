//! The move of connections to the kernel, in the middle of them, in the order in which no packet is lost and none is refused.
//!
//! In the driver's turn, after everything sent is on the wire, and without letting any task run:
//! 1. the connection becomes a value, and that a socket in repair. Until here nothing has happened, and any failure leaves it where it was;
//! 2. the engine forgets it: from here on what arrives for it is somebody else's, and is re-injected. The rx ring is what holds the packets
//!    meanwhile, and none is looked at by the wrong TCP;
//! 3. what the engine held behind gaps is re-injected, before anything later: the kernel takes an older timestamp after a newer one for a
//!    duplicate;
//! 4. the ring is drained, so that little is left that the next packets could overtake;
//! 5. the map turns the packets to the stack, where a socket is. That it can't is no failure: what comes here goes on being re-injected;
//! 6. the ring is drained again, of what came before 5;
//! 7. the socket leaves repair, asks the peer for its window, and the stream goes on over it.
//!
//! Packets that another CPU had under way at 5 come to the ring afterwards, and take the same way in an ordinary turn.
//!
//! Connections of one turn share their drains. Each drain is bounded: re-injected data is acknowledged, and its sender sends more.
//!
//! Deliberately not here: the socket (`lb-handover`), who may move (`moves`), the stream afterwards (`landed`).

use std::rc::Rc;
use std::time::Instant;
use std::{io, mem};

use lb_handover::{Released, Repaired, out_of_order};
use lb_tcp::{FlowId, FlowKey, Snapshot};
use tokio::net::TcpStream;

use super::core::Core;
use super::engine::{Engine, now};
use super::frames::Frames;
use super::landed::Landed;
use super::moves::Moves;
use super::residence::{Carrier, Lease, Residence};
use crate::Why;

/// Connections that move in one turn: a quarter of a millisecond.
const PER_TURN: usize = 8;

/// Bursts of one drain.
const BURSTS: usize = 4;

/// A connection that is no longer the engine's.
struct Moving {
    residence: Rc<Residence>,
    key: FlowKey,
    why: Why,
    unread: Vec<u8>,
    socket: Repaired,
}

impl<F: Frames> Engine<F> {
    /// Decides on wishes. Whether anything moved, so that frames may have been received.
    pub(super) fn move_away(&mut self) -> bool {
        let Some(moves) = self.moves.clone() else {
            return false;
        };
        let began = now();
        let moving: Vec<Moving> = (0..PER_TURN)
            .map_while(|_| moves.next_wish())
            .filter_map(|residence| self.begin(&moves, residence))
            .collect();
        if moving.is_empty() {
            return false;
        }
        self.drain();
        for it in &moving {
            moves.steer(&it.key);
        }
        self.drain();
        for it in moving {
            finish(&moves, it, began);
        }
        moves.count_turn(now().saturating_duration_since(began));
        true
    }

    /// Up to the point from which there is no way back; none if the connection stays.
    fn begin(&mut self, moves: &Rc<Moves>, residence: Rc<Residence>) -> Option<Moving> {
        let why = residence.decide()?;
        let mut carrier = residence.carrier();
        let Carrier::Engine(id) = &*carrier else {
            return None;
        };
        let mut core = self.core.borrow_mut();
        let Some((key, snapshot, socket)) = repaired(&core, moves, id, why) else {
            core.wake_writer(id);
            return None;
        };
        if let Carrier::Engine(id) = mem::replace(&mut *carrier, Carrier::Over) {
            core.give_away(id);
        }
        drop(carrier);
        moves.add(key, &residence);
        for (header, payload) in out_of_order(&snapshot) {
            moves.reinject(&key, &header, payload);
        }
        Some(Moving {
            residence,
            key,
            why,
            unread: snapshot.unread,
            socket,
        })
    }

    fn drain(&mut self) {
        for _ in 0..BURSTS {
            if !self.receive().more {
                break;
            }
        }
    }
}

/// Step 1; none if the connection stays.
fn repaired(
    core: &Core,
    moves: &Moves,
    id: &FlowId,
    why: Why,
) -> Option<(FlowKey, Snapshot, Repaired)> {
    if !moves.admit(why) {
        return None;
    }
    let Some((key, snapshot, clock)) = core.snapshot(id) else {
        moves.count(|counters| counters.refused_state += 1);
        return None;
    };
    match moves.repair(&key, &snapshot, clock) {
        Ok(socket) => Some((key, snapshot, socket)),
        Err(error) => {
            moves.count(|counters| counters.failed += 1);
            if moves.counters().failed == 1 {
                tracing::warn!(peer = %key.remote, %error, "a connection can't move to the kernel and stays; further ones are counted");
            }
            None
        }
    }
}

/// Step 7.
fn finish(moves: &Rc<Moves>, it: Moving, since: Instant) {
    let Moving {
        residence,
        key,
        why,
        unread,
        socket,
    } = it;
    let lease = Lease {
        key,
        why,
        since,
        is_passed: false,
        moves: Rc::clone(moves),
    };
    match let_go(socket) {
        Ok((socket, unsent)) => {
            residence.land(Landed::new(socket, unread, unsent), lease);
            moves.count(|counters| counters.moved[why as usize] += 1);
        }
        Err(error) => {
            tracing::warn!(peer = %key.remote, %error, "a connection got lost on its way to the kernel");
            residence.fail(error.kind());
            moves.count(|counters| counters.lost += 1);
        }
    }
}

fn let_go(socket: Repaired) -> io::Result<(TcpStream, Vec<u8>)> {
    let Released { socket, unsent } = socket.release().map_err(|error| error.source)?;
    Ok((TcpStream::from_std(socket)?, unsent))
}
