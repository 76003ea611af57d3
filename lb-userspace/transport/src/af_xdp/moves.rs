//! Connections that shall move to the kernel, and those that have: shared by the driver, streams, movers and reports.
//!
//! Invariants:
//! * A residence stands in line exactly while a wish of it is undecided, and the driver is woken when one comes. It decides on all that it
//!   takes, so no writer that waits for a decision waits for ever.
//! * A tuple is known here, and the kernel has its packets, from the moment in which the engine gives a connection away until some seconds
//!   after its socket was closed.
//!
//! Deliberately not here: the move (`moving`), a single connection's place (`residence`).

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use lb_handover::{MoveError, Options, Reinjector, Repaired};
use lb_tcp::{FlowKey, Segment, Snapshot};

use super::bucket::Bucket;
use super::engine::now;
use super::residence::{Carrier, Lease, Residence};
use crate::Why;
use crate::steering::Steering;

/// Packets of a closed socket go to the kernel for so long: its FIN and what is behind it have an answer then, in all likelihood. What comes
/// later is re-injected, which only costs more.
const LINGER: Duration = Duration::from_secs(5);

/// Re-injections in a turn of packets whose connection nobody here has ever had. More are a flood, and each costs a system call.
const STRANGERS: u32 = 16;

/// Bounds of what moves cost an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveLimits {
    /// Moves in a second, and in a row after a quiet one. Each takes about 30 µs of the worker's time. [`Why::Stop`] is exempt.
    pub per_second: u32,
    /// Connections that have moved and are still there: each has a file descriptor and an entry of the steering map.
    pub connections: usize,
}

/// What moves have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveCounters {
    /// Connections that have moved, in the order of [`Why::ALL`].
    pub moved: [u64; Why::ALL.len()],
    /// Stayed: no kernel socket could be made to go on with it.
    pub failed: u64,
    /// Ended: the kernel socket could not be let go. Its peer had reset it meanwhile, or the host is out of order.
    pub lost: u64,
    /// Stayed: too many moves at the moment.
    pub refused_rate: u64,
    /// Stayed: too many connections have moved.
    pub refused_connections: u64,
    /// Stayed: not established, or one side has finished.
    pub refused_state: u64,
    /// Packets given back to the kernel's stack.
    pub reinjected: u64,
    /// Packets that should have been, and are lost: the stack refused them, or they were too many of unknown connections.
    pub not_reinjected: u64,
    /// Packets of connections that have moved which the map did not know, so that they came here.
    pub astray: u64,
    /// Errors of the steering map; such a connection goes on by re-injection.
    pub steering_errors: u64,
    /// The longest turn in which connections moved, in microseconds.
    pub slowest_micros: u64,
    /// Connections that have moved and are there.
    pub connections: usize,
}

impl MoveCounters {
    /// Everything by its name.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let [response, upload, streamed, tunnel, stop] = self.moved;
        [
            ("LbMoved", self.moved.iter().sum()),
            ("LbMovedResponse", response),
            ("LbMovedUpload", upload),
            ("LbMovedStreamed", streamed),
            ("LbMovedTunnel", tunnel),
            ("LbMovedStop", stop),
            ("LbMovesFailed", self.failed),
            ("LbMovesLost", self.lost),
            ("LbMovesRefusedRate", self.refused_rate),
            ("LbMovesRefusedConnections", self.refused_connections),
            ("LbMovesRefusedState", self.refused_state),
            ("LbMoveSlowestMicros", self.slowest_micros),
            ("LbReinjected", self.reinjected),
            ("LbNotReinjected", self.not_reinjected),
            ("LbAstray", self.astray),
            ("LbSteeringErrors", self.steering_errors),
            (
                "LbMovedConnections",
                u64::try_from(self.connections).unwrap_or(u64::MAX),
            ),
        ]
        .into_iter()
    }
}

/// What has to do with moves in one engine.
pub(crate) struct Moves {
    steering: Box<dyn Steering>,
    reinjector: Reinjector,
    limits: MoveLimits,
    /// Of sockets.
    options: Options,
    bucket: Cell<Bucket>,
    counters: Cell<MoveCounters>,
    line: RefCell<VecDeque<Rc<Residence>>>,
    /// The driver, while it waits.
    driver: Cell<Option<Waker>>,
    /// No driver will decide any more.
    is_over: Cell<bool>,
    /// Connections that have moved.
    live: RefCell<HashMap<FlowKey, Weak<Residence>>>,
    /// Ends of closed ones, with the time at which they are forgotten; in order.
    leaving: RefCell<VecDeque<(Instant, FlowKey)>>,
    /// Unknown packets that may still be re-injected in this turn.
    strangers: Cell<u32>,
    /// Connections are on their way, whose packets the map doesn't know yet.
    is_under_way: Cell<bool>,
}

impl Moves {
    pub(super) fn new(
        steering: Box<dyn Steering>,
        limits: MoveLimits,
        options: Options,
    ) -> io::Result<Self> {
        Ok(Self {
            steering,
            reinjector: Reinjector::new()?,
            limits,
            options,
            bucket: Cell::new(Bucket::full(now())),
            counters: Cell::default(),
            line: RefCell::default(),
            driver: Cell::default(),
            is_over: Cell::new(false),
            live: RefCell::default(),
            leaving: RefCell::default(),
            strangers: Cell::new(STRANGERS),
            is_under_way: Cell::new(false),
        })
    }

    pub(super) fn counters(&self) -> MoveCounters {
        MoveCounters {
            connections: self.live.borrow().len(),
            ..self.counters.get()
        }
    }

    /// A socket that knows all of the connection, its round trip and window too.
    pub(super) fn repair(
        &self,
        key: &FlowKey,
        snapshot: &Snapshot,
        clock: u32,
    ) -> Result<Repaired, MoveError> {
        Repaired::with_history(key, snapshot, clock, &self.options, &self.reinjector)
    }

    /// Connections moved in a turn, which took so long.
    pub(super) fn count_turn(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.count(|counters| counters.slowest_micros = counters.slowest_micros.max(micros));
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut MoveCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }
}

/// Wishes.
impl Moves {
    /// See [`Mover::ask`](crate::Mover::ask).
    pub(crate) fn ask(&self, residence: &Rc<Residence>, why: Why) {
        if self.is_over.get()
            || residence.is_asked()
            || !matches!(*residence.carrier(), Carrier::Engine(_))
        {
            return;
        }
        residence.wish(why);
        self.line.borrow_mut().push_back(Rc::clone(residence));
        self.driver.take().into_iter().for_each(Waker::wake);
    }

    /// The next one to decide on.
    pub(super) fn next_wish(&self) -> Option<Rc<Residence>> {
        self.line.borrow_mut().pop_front()
    }

    /// Ready when somebody stands in line; else the driver is woken when somebody does.
    pub(super) fn poll_line(&self, context: &Context<'_>) -> Poll<()> {
        if !self.line.borrow().is_empty() {
            return Poll::Ready(());
        }
        self.driver.set(Some(context.waker().clone()));
        Poll::Pending
    }

    /// Whether there is room for one more.
    pub(super) fn admit(&self, why: Why) -> bool {
        if self.live.borrow().len() >= self.limits.connections {
            self.count(|counters| counters.refused_connections += 1);
            return false;
        }
        let mut bucket = self.bucket.get();
        let has_token = why == Why::Stop || bucket.take(self.limits.per_second, now());
        self.bucket.set(bucket);
        if !has_token {
            self.count(|counters| counters.refused_rate += 1);
        }
        has_token
    }
}

/// Connections that have moved.
impl Moves {
    /// The engine has given a connection away.
    pub(super) fn add(&self, key: FlowKey, residence: &Rc<Residence>) {
        self.is_under_way.set(true);
        let residence = Rc::downgrade(residence);
        self.live.borrow_mut().insert(key, residence);
    }

    /// Has the packets of a connection go to the stack. One for which that can't be said goes on by re-injection.
    pub(super) fn steer(&self, key: &FlowKey) {
        if let Err(error) = self.steering.to_stack(key) {
            self.count(|counters| counters.steering_errors += 1);
            if self.counters.get().steering_errors == 1 {
                tracing::warn!(%error, "a connection that has moved to the kernel can't be steered there; its packets take the long way, further errors are counted");
            }
        }
    }

    /// Tells of each.
    pub(super) fn for_each(&self, mut tell: impl FnMut(&FlowKey, Why, Duration, BorrowedFd<'_>)) {
        let now = now();
        for (key, residence) in &*self.live.borrow() {
            if let Some(residence) = residence.upgrade()
                && let Carrier::Kernel(tenancy) = &*residence.carrier()
            {
                let Lease { why, since, .. } = tenancy.lease;
                let age = now.saturating_duration_since(since);
                tell(key, why, age, tenancy.landed.as_fd());
            }
        }
    }

    /// A socket was closed.
    pub(super) fn end(&self, key: &FlowKey) {
        self.live.borrow_mut().remove(key);
        if self.is_over.get() {
            self.steering.forget(key);
        } else {
            let due = now() + LINGER;
            let mut leaving = self.leaving.borrow_mut();
            if leaving.is_empty() {
                // It may sleep, without a date.
                self.driver.take().into_iter().for_each(Waker::wake);
            }
            leaving.push_back((due, *key));
        }
    }

    /// A socket is another process's. That its ends stay in the map costs an entry, until the map forgets what it has no room for.
    pub(super) fn pass(&self, key: &FlowKey) {
        self.live.borrow_mut().remove(key);
    }

    /// When [`forget`](Self::forget) has work.
    pub(super) fn next_due(&self) -> Option<Instant> {
        Some(self.leaving.borrow().front()?.0)
    }

    /// Forgets ends of connections whose time has come; the next one.
    pub(super) fn forget(&self, now: Instant) -> Option<FlowKey> {
        loop {
            let (_, key) = self
                .leaving
                .borrow_mut()
                .pop_front_if(|(due, _)| *due <= now)?;
            // The next connection between the same ends may have moved as well.
            if !self.live.borrow().contains_key(&key) {
                self.steering.forget(&key);
                return Some(key);
            }
        }
    }

    /// The driver ends. Connections that have moved go on without it.
    pub(super) fn stop(&self) {
        self.is_over.set(true);
        for residence in self.line.borrow_mut().drain(..) {
            residence.decide();
        }
        for (_, key) in self.leaving.borrow_mut().drain(..) {
            if !self.live.borrow().contains_key(&key) {
                self.steering.forget(&key);
            }
        }
    }
}

/// Packets that are not the engine's.
impl Moves {
    pub(super) fn begin_turn(&self) {
        self.is_under_way.set(false);
        self.strangers.set(STRANGERS);
    }

    /// Gives a packet to the kernel, which knows whose it is or answers that it is nobody's.
    pub(super) fn give_back(&self, key: &FlowKey, segment: &Segment<'_>) {
        if self.live.borrow().contains_key(key) {
            if !self.is_under_way.get() {
                // The packet was when the entry was made, or the entry is gone: the map forgets what it has no room for.
                self.count(|counters| counters.astray += 1);
                self.steer(key);
            }
        } else if let Some(left) = self.strangers.get().checked_sub(1) {
            self.strangers.set(left);
        } else {
            self.count(|counters| counters.not_reinjected += 1);
            return;
        }
        self.reinject(key, &segment.header, segment.payload);
    }

    pub(super) fn reinject(&self, key: &FlowKey, header: &lb_tcp::Header, payload: &[u8]) {
        let result = self.reinjector.inject(key, header, payload);
        if let Err(error) = &result {
            // As a router that drops: TCP sends it again.
            tracing::debug!(?key, %error, "a packet can't be given to the kernel");
        }
        self.count(|counters| match result {
            Ok(()) => counters.reinjected += 1,
            Err(_) => counters.not_reinjected += 1,
        });
    }
}
