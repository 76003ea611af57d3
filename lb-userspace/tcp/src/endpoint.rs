//! All connections of one worker: whose a segment is, who may connect, who sends next, what memory is left.
//!
//! ```text
//!  input ──▶ index ─▶ flow ──▶ Connection        line ──▶ output: a share of segments for each flow in turn
//!              │ none                  │ settle ──▶ wheel ─▶ advance: timers
//!              ├─▶ TIME-WAIT record    └─────────▶ attachment: whoever waits to read or write
//!              └─▶ listener: new flow, cookie, nothing
//! ```
//!
//! Invariants, each kept in one place:
//! * A flow is in the index exactly while `is_indexed` is set, and a pair of ends has one such flow at most. Once its connection is
//!   over it leaves the index, and its slot too if nobody holds it (`retire`).
//! * After every call, each indexed flow that wants to send stands in line, and every other one has a timer armed no
//!   later than it needs one (`settle`).
//! * A segment is taken from a connection only when the way out has room (`output`): nothing is dropped for want of it.
//!
//! Work per call is bounded: a segment touches its own flow, a turn of [`Endpoint::output`] what stands in line, with a share of
//! segments each, [`Endpoint::advance`] a number of timers. Only reports and the end walk over all flows.
//!
//! Deliberately not here: frames, IP, tasks, wakers. The owner attaches what it needs to each flow.

mod bare;
mod flow;
mod index;
mod input;
mod listeners;
mod slab;
mod time_wait;
mod touch;
mod tuple;
mod user;
mod wheel;

#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use core::net::SocketAddr;
use core::time::Duration;

use siphasher::sip::SipHasher13;

use self::flow::{Flow, Orphan, Owner};
use self::index::{Hash, Index};
use self::listeners::Listeners;
use self::slab::Slab;
use self::time_wait::{Remains, TimeWait};
use self::tuple::Tuple;
use self::wheel::{Popped, Wheel};
use crate::{
    Config, Connection, Counters, Env, Flags, Header, Instant, Payload, Pool, Secret, State,
};

pub use self::listeners::ListenError;
pub use self::user::Exported;

/// Segments that one flow may send before the next one's turn: about 64 KiB of full ones.
const SEGMENTS_PER_TURN: usize = 45;

/// Timers that fire in one call, after which packets have their turn again.
const TIMERS_PER_TURN: usize = 1024;

/// Flows in a row that found no room, after which a turn ends: the ways are few, and full.
const FULL: usize = 16;

/// Wait before a flow that wanted to send, but didn't, is asked again.
const PAUSE: Duration = Duration::from_millis(1);

/// Both ends of a connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// The right to use a flow, from [`Endpoint::accept`] or [`Endpoint::connect`] to [`Endpoint::release`], which takes it back. There is one
/// for each flow and no copy, so no flow is used after its end, or by two.
#[derive(Debug, PartialEq, Eq)]
pub struct FlowId(u32);

/// What an owner attaches to a flow, or to a listener, to learn when it can go on.
pub trait Attachment: Default {
    /// Something happened. `readable`: a read would not wait (of a listener: [`Endpoint::accept`] has a connection);
    /// `writable`: a write would not, and is worth a wake-up.
    fn progressed(&mut self, readable: bool, writable: bool);
}

impl Attachment for () {
    fn progressed(&mut self, _: bool, _: bool) {}
}

/// Where segments go. `R` is a route: what the owner needs to find the way back to a peer (interface and Ethernet
/// header). The endpoint keeps the latest of each flow and looks into none.
pub trait Output<R> {
    /// Whether a segment can be taken now. Asked before a segment is counted as sent.
    fn has_room(&mut self, route: &R) -> bool;
    /// Bytes of an IP packet at most on this way.
    fn mtu(&self, route: &R) -> usize;
    /// Sends. Called with room only.
    fn send(&mut self, key: &FlowKey, route: &R, header: &Header, payload: Payload<'_>);
}

/// Whose a segment was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// This endpoint's: it has done with it what was to be done, which may be nothing.
    Taken,
    /// Somebody else's: of a connection that has [moved](Endpoint::moved), or, if [ports are shared](Endpoint::share_ports), of none that is
    /// known here. It was left alone and not answered.
    Elsewhere,
}

/// What a router said of a segment that we sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// It was too big: bytes of an IP packet that fit (RFC 1191, RFC 8201).
    TooBig {
        /// MTU of the next link.
        mtu: usize,
    },
    /// Its destination can't be reached (RFC 5461).
    Unreachable,
}

/// All connections of one worker. `R` is a route, see [`Output`]; `A` is what the owner attaches to each flow.
#[derive(Debug)]
pub struct Endpoint<R, A> {
    flows: Slab<Flow<R, A>>,
    index: Index,
    listeners: Listeners<A>,
    time_wait: TimeWait,
    /// Flows that may have something to send, in order. A flow can be gone while its place in line remains.
    line: VecDeque<u32>,
    wheel: Wheel,
    is_stopping: bool,
    /// See [`share_ports`](Self::share_ports).
    shares_ports: bool,
    shared: Shared,
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    now: Instant,
    config: Config,
    secret: Secret,
    /// Hasher of the index.
    keyed: SipHasher13,
    pool: Pool,
    counters: Counters,
}

impl Shared {
    fn env(&mut self) -> Env<'_> {
        Env {
            now: self.now,
            config: &self.config,
            pool: &mut self.pool,
            counters: &mut self.counters,
        }
    }

    fn tuple_and_hash(&self, key: &FlowKey) -> (Tuple, Hash) {
        let tuple = Tuple::from(key);
        let hash = Hash::of(&tuple, &self.keyed);
        (tuple, hash)
    }

    fn set_now(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// The owner of a flow that nobody holds from now on, or whose peer has just acknowledged something.
    fn nobody(&self, connection: &Connection) -> Owner {
        Owner::Nobody(Orphan {
            una: connection.una(),
            deadline: self.now + self.config.orphan_timeout,
        })
    }
}

impl<R: Clone, A: Attachment> Endpoint<R, A> {
    /// An endpoint without listeners. `now` is the first time that it will see.
    pub fn new(config: Config, secret: Secret, now: Instant) -> Self {
        Self {
            flows: Slab::default(),
            index: Index::default(),
            listeners: Listeners::new(secret),
            time_wait: TimeWait::new(config.time_wait, config.max_time_wait),
            line: VecDeque::new(),
            wheel: Wheel::new(now),
            is_stopping: false,
            shares_ports: false,
            shared: Shared {
                now,
                config,
                secret,
                keyed: secret.flow_table(),
                pool: Pool::new(config.memory),
                counters: Counters::default(),
            },
        }
    }

    /// What was done since the beginning.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Memory for bytes.
    pub fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Connections, those included that are over and still held.
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// TIME-WAIT records, and those of connections that have moved.
    pub fn time_wait(&self) -> usize {
        self.time_wait.len()
    }

    /// From now on the kernel's TCP has connections on the same addresses and ports: a segment that is of no connection and opens none may
    /// be of one of those, so it is [`Disposition::Elsewhere`] and not refused.
    pub fn share_ports(&mut self) {
        self.shares_ports = true;
    }

    /// Moves the clock and lets timers fire. If more are due than one turn may take, [`next_timer`](Self::next_timer) is in the
    /// past afterwards.
    pub fn advance(&mut self, now: Instant) {
        self.shared.set_now(now);
        let now = self.shared.now;
        self.time_wait.expire(now, &mut self.shared.counters);
        for _ in 0..TIMERS_PER_TURN {
            match self.wheel.pop(now) {
                Some(Popped::Due(id)) => self.fire(id),
                Some(Popped::Moved) => {}
                None => break,
            }
        }
    }

    /// When [`advance`](Self::advance) has work.
    pub fn next_timer(&self) -> Option<Instant> {
        let time_wait = self.time_wait.next(self.shared.now);
        [self.wheel.next(), time_wait].into_iter().flatten().min()
    }

    /// Whether a flow stands in line.
    pub fn wants_output(&self) -> bool {
        !self.line.is_empty()
    }

    /// Lets each flow in line send its share, once. Flows that want more, or found no room, stay in line.
    pub fn output(&mut self, out: &mut impl Output<R>) {
        let mut full = 0;
        for _ in 0..self.line.len() {
            let Some(id) = self.line.pop_front() else {
                break;
            };
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            flow.is_in_line = false;
            if !out.has_room(&flow.route) {
                self.stand_in_line(id);
                full += 1;
                if full == FULL {
                    break;
                }
                continue;
            }
            full = 0;
            let sent = self.turn(id, out);
            self.settle(id);
            if sent == 0 {
                self.pause(id);
            }
        }
    }

    /// One flow's share. There is room for a first segment.
    fn turn(&mut self, id: u32, out: &mut impl Output<R>) -> usize {
        let Some(flow) = self.flows.get_mut(id) else {
            return 0;
        };
        let mut sent = 0;
        while sent < SEGMENTS_PER_TURN && (sent == 0 || out.has_room(&flow.route)) {
            let Some(outgoing) = flow.connection.poll_output(&mut self.shared.env()) else {
                break;
            };
            let payload = flow.connection.payload(&outgoing);
            out.send(&flow.key, &flow.route, &outgoing.header, payload);
            sent += 1;
        }
        self.shared.counters.out_segs += sent as u64;
        sent
    }

    /// A flow that wanted to send, and with room did not, would keep the endpoint busy: never seen, but a loop without end is the
    /// wrong answer to a mistake.
    fn pause(&mut self, id: u32) {
        if let Some(flow) = self.flows.get_mut(id)
            && flow.is_in_line
        {
            self.line.pop_back();
            flow.is_in_line = false;
            let again = self.shared.now + PAUSE;
            self.wheel.arm(id, Some(again));
        }
    }

    fn fire(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let mut env = self.shared.env();
        let is_over = flow.connection.state() == State::Closed;
        if !is_over && flow.deadline().is_some_and(|deadline| deadline <= env.now) {
            flow.connection.abort(&mut env);
            env.counters.abort_on_linger += 1;
        } else if flow
            .connection
            .next_timer(&env)
            .is_some_and(|due| due <= env.now)
        {
            flow.connection.on_timer(&mut env);
        }
        self.settle(id);
    }

    /// Follows a flow's state after anything happened to it: line, timer, owner, end. It can be gone afterwards.
    fn settle(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        if flow.is_indexed {
            self.settle_owner(id);
            self.schedule(id);
        }
        if let Some(flow) = self.flows.get_mut(id) {
            let is_writable = flow.connection.is_writable(&self.shared.env());
            let is_readable = flow.connection.is_readable();
            flow.attachment.progressed(is_readable, is_writable);
        }
    }

    fn settle_owner(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        match (flow.owner, flow.connection.state()) {
            (_, State::Closed) | (Owner::Handshake(_), State::SynReceived) => {}
            (Owner::Handshake(serial), _) => self.established(id, serial),
            // Bytes that nobody will read: the peer must learn it (RFC 2525 §2.17).
            (Owner::Nobody(_), _) if flow.connection.has_unread() => {
                flow.connection.abort(&mut self.shared.env());
                self.shared.counters.abort_on_data += 1;
            }
            (Owner::Nobody(orphan), _) if flow.connection.una() != orphan.una => {
                flow.owner = self.shared.nobody(&flow.connection);
            }
            _ => {}
        }
    }

    fn established(&mut self, id: u32, serial: u32) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        match self.listeners.of(&flow.key.local, serial) {
            Some(listener) if !self.is_stopping => {
                flow.owner = Owner::Queue;
                listener.ended();
                listener.enqueue(id);
                listener.attachment.progressed(true, false);
            }
            listener => {
                flow.owner = self.shared.nobody(&flow.connection);
                if let Some(listener) = listener {
                    listener.ended();
                }
                flow.connection.abort(&mut self.shared.env());
            }
        }
    }

    /// Line, end, or timer.
    fn schedule(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let env = self.shared.env();
        if flow.connection.wants_output(&env) {
            return self.stand_in_line(id);
        }
        if matches!(flow.connection.state(), State::TimeWait | State::Closed) {
            return self.retire(id);
        }
        let timers = [flow.connection.next_timer(&env), flow.deadline()];
        self.wheel.arm(id, timers.into_iter().flatten().min());
    }

    fn stand_in_line(&mut self, id: u32) {
        if let Some(flow) = self.flows.get_mut(id)
            && !flow.is_in_line
        {
            flow.is_in_line = true;
            self.line.push_back(id);
        }
    }

    /// Takes a flow whose connection is over out of the index, and away if nobody holds it.
    fn retire(&mut self, id: u32) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.is_indexed = false;
        self.index.remove(flow.hash, id);
        self.wheel.disarm(id);
        if let Some(end) = flow.connection.time_wait() {
            let ours = self.shared.secret.timestamp_offset(&flow.key);
            // A connection that came from elsewhere has another clock, which a record has no place for.
            let ts_recent = end
                .timestamps
                .and_then(|(recent, offset)| (offset == ours).then_some(recent));
            let remains = Remains::new(end.nxt, end.ack, end.window, ts_recent);
            let key = (Tuple::from(&flow.key), flow.hash);
            let counters = &mut self.shared.counters;
            self.time_wait
                .insert(key, remains, self.shared.now, counters);
        }
        match flow.owner {
            Owner::Queue | Owner::User => {}
            Owner::Nobody(_) => self.remove(id),
            Owner::Handshake(serial) => {
                if let Some(listener) = self.listeners.of(&flow.key.local, serial) {
                    listener.ended();
                }
                self.remove(id);
            }
        }
    }

    /// Frees the slot of a flow that is not in the index.
    fn remove(&mut self, id: u32) {
        if let Some(mut flow) = self.flows.remove(id) {
            debug_assert!(
                !flow.is_indexed,
                "a flow that segments can reach is not gone"
            );
            flow.connection.release(&mut self.shared.env());
        }
    }

    /// Sends a segment that belongs to no connection. Without room it is not sent: whoever wants it will ask again, and callers
    /// see to it that there is.
    fn answer(&mut self, key: &FlowKey, route: &R, header: &Header, out: &mut impl Output<R>) {
        if out.has_room(route) {
            self.shared.counters.out_segs += 1;
            self.shared.counters.out_rsts += u64::from(header.flags.has(Flags::RST));
            out.send(key, route, header, Payload::default());
        }
    }
}
