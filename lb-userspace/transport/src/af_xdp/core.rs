//! The engine's state and rules, without I/O, clock or tasks: frames and times come in as arguments.
//!
//! Invariants: `by_key` and `flows` name the same flows; a flow whose `in_line` is set stands in `line`;
//! [`Accepting::unaccepted`] counts the flows of its address whose owner is `Handshake` or `Backlog`.
//! Called by the driver (`engine`) for packets and time, and by `stream` for bytes.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use super::device::Out;
use super::flow::{Flow, FlowId, Owner};
use super::frames::{Frames, Transmit};
use super::packet::{self, FlowKey, Link, RST, Reject, Segment};
use super::tcp::{Bare, Due, Moved, Phase, Stack, Tcb};
use super::time_wait::{Answer, TimeWait};
use super::timers::Timers;
use super::{Counters, EngineConfig, PortConfig};

/// Segments that one flow may send before the next one's turn: one send buffer of full segments, about.
const SEGMENTS_PER_TURN: usize = 45;

/// What every IPv4 host must accept (RFC 791 §3.1), and what fits a frame.
const MIN_MTU: usize = 576;
const MAX_MTU: usize = lb_xsk::FRAME_SIZE - packet::ETHERNET_LEN;

/// Wait before a flow that wanted to send, but didn't, is asked again.
const PAUSE: Duration = Duration::from_millis(1);

pub(super) struct Core {
    config: EngineConfig,
    ports: Vec<Port>,
    flows: Slab<Flow>,
    by_key: HashMap<FlowKey, FlowId>,
    listeners: HashMap<SocketAddr, Accepting>,
    /// Flows that may have something to send, in order.
    line: VecDeque<FlowId>,
    timers: Timers,
    time_wait: TimeWait,
    counters: Counters,
    /// Time of the driver's last turn.
    now: Instant,
    /// The driver, while it waits.
    driver: Option<Waker>,
}

struct Port {
    config: PortConfig,
    stack: Stack,
}

/// A listening address.
#[derive(Debug, Default)]
struct Accepting {
    established: VecDeque<FlowId>,
    unaccepted: usize,
    waker: Option<Waker>,
}

/// Result of [`Core::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nobody wants to send.
    Empty,
    /// Some flows used up their share, or found no frame, and want more.
    Waiting,
}

impl Core {
    pub(super) fn new(config: EngineConfig, ports: &[PortConfig], now: Instant) -> Self {
        let port = |config: &PortConfig| Port {
            config: *config,
            stack: Stack::new(config.mtu.clamp(MIN_MTU, MAX_MTU), now),
        };
        Self {
            config,
            ports: ports.iter().map(port).collect(),
            flows: Slab::new(),
            by_key: HashMap::new(),
            listeners: HashMap::new(),
            line: VecDeque::new(),
            timers: Timers::default(),
            time_wait: TimeWait::default(),
            counters: Counters::default(),
            now,
            driver: None,
        }
    }

    pub(super) fn counters(&self) -> Counters {
        let (flows, time_wait) = (self.flows.len(), self.time_wait.len());
        Counters {
            flows,
            time_wait,
            ..self.counters
        }
    }

    /// Takes a frame that arrived on `port`. There must be room in `tx` for an answer.
    pub(super) fn receive<T: Transmit>(&mut self, port: usize, frame: &[u8], tx: &mut T) {
        let parsed = packet::parse(frame, self.ports[port].config.rx_checksums);
        let (link, segment) = match parsed {
            Ok(parsed) => parsed,
            Err(reason) => return self.count_reject(reason),
        };
        self.counters.rx_segments += 1;
        if let Some(&id) = self.by_key.get(&segment.key) {
            return self.deliver(id, (port, link), &segment, tx);
        }
        if let Some(record) = self.time_wait.get(&segment.key) {
            match record.answer(&segment) {
                Answer::Ignore => return,
                Answer::Acknowledge => {
                    let out = Out {
                        link,
                        tx,
                        counters: &mut self.counters,
                        sent: None,
                    };
                    let (seq, ack) = (record.next, record.ack);
                    return Bare::Acknowledge { seq, ack }.send(&segment.key, out);
                }
                Answer::Reopen => self.time_wait.remove(&segment.key),
            }
        }
        if !self.listeners.contains_key(&segment.key.local) {
            self.counters.dropped_unknown_address += 1;
        } else if segment.opens() {
            self.open((port, link), &segment, tx);
        } else if !segment.has(RST) {
            let out = Out {
                link,
                tx,
                counters: &mut self.counters,
                sent: None,
            };
            Bare::refusal(&segment).send(&segment.key, out);
        }
    }

    /// Moves the clock and lets timers fire.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = now;
        self.time_wait.expire(now);
        while let Some(id) = self.timers.pop_due(now) {
            let flow = &mut self.flows[id];
            flow.armed = None;
            if flow.deadline.is_none_or(|deadline| deadline > now) {
                self.stand_in_line(id);
            } else if flow.owner == Owner::Handshake {
                // No RST: a forged SYN must not make us send to its alleged sender.
                self.counters.handshake_timeouts += 1;
                self.remove(id);
            } else {
                self.counters.orphan_timeouts += 1;
                flow.deadline = None;
                flow.tcb.abort();
                self.stand_in_line(id);
            }
        }
    }

    /// Lets each flow in line send its share, once.
    pub(super) fn send<F: Frames>(&mut self, frames: &mut [F]) -> Line {
        let mut result = Line::Empty;
        for _ in 0..self.line.len() {
            let Some(id) = self.line.pop_front() else {
                break;
            };
            // A flow can be gone while its place in line remains.
            let Some(flow) = self.flows.get_mut(id) else {
                continue;
            };
            flow.in_line = false;
            let port = flow.port;
            let (_, tx) = frames[port].split();
            let mut sent = 0;
            while sent < SEGMENTS_PER_TURN && tx.room() > 0 {
                let to = (flow.link, &mut *tx, &mut self.counters);
                if !flow.tcb.output(&mut self.ports[port].stack, self.now, to) {
                    break;
                }
                sent += 1;
            }
            let silent = sent == 0 && tx.room() > 0;
            if self.settle(id) != Due::Now {
                continue;
            }
            if silent {
                // Due, with room, but nothing sent: never seen, but a busy loop would be the wrong answer.
                self.arm(id, self.now + PAUSE);
            } else {
                self.stand_in_line(id);
                result = Line::Waiting;
            }
        }
        result
    }

    /// When [`advance`](Self::advance) has work.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        [self.timers.next(), self.time_wait.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ready when a flow stands in line; else the driver is woken when one does.
    pub(super) fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.line.is_empty() {
            return Poll::Ready(());
        }
        self.driver = Some(context.waker().clone());
        Poll::Pending
    }

    pub(super) fn count_wait(&mut self) {
        self.counters.waits_for_frames += 1;
    }

    pub(super) fn count_flush_error(&mut self) -> u64 {
        self.counters.flush_errors += 1;
        self.counters.flush_errors
    }

    fn deliver<T: Transmit>(
        &mut self,
        id: FlowId,
        (port, link): (usize, Link),
        segment: &Segment<'_>,
        tx: &mut T,
    ) {
        let flow = &mut self.flows[id];
        (flow.port, flow.link) = (port, link);
        let to = (link, tx, &mut self.counters);
        let failed = flow.tcb.failure().is_some();
        flow.tcb
            .input(&mut self.ports[port].stack, segment, self.now, to);
        self.counters.resets_received += u64::from(!failed && flow.tcb.failure().is_some());
        if self.settle(id) == Due::Now {
            self.stand_in_line(id);
        }
    }

    fn open<T: Transmit>(&mut self, from: (usize, Link), segment: &Segment<'_>, tx: &mut T) {
        let Some(listener) = self.listeners.get_mut(&segment.key.local) else {
            return;
        };
        if listener.unaccepted >= self.config.backlog {
            self.counters.syns_ignored_backlog += 1;
            return;
        }
        if self.flows.len() >= self.config.max_flows {
            self.counters.syns_ignored_flows += 1;
            return;
        }
        let Some(tcb) = Tcb::accept(&segment.key, &self.config) else {
            return;
        };
        listener.unaccepted += 1;
        let id = self.flows.insert(Flow {
            key: segment.key,
            tcb,
            port: from.0,
            link: from.1,
            owner: Owner::Handshake,
            in_line: false,
            armed: None,
            deadline: Some(self.now + self.config.handshake_timeout),
            reader: None,
            writer: None,
        });
        self.by_key.insert(segment.key, id);
        self.deliver(id, from, segment, tx);
    }

    /// Follows a flow's state after anything happened to it, and says when it wants to send. A flow that
    /// is over is gone afterwards.
    fn settle(&mut self, id: FlowId) -> Due {
        let flow = &mut self.flows[id];
        match (flow.owner, flow.tcb.phase()) {
            (Owner::Handshake | Owner::Nobody, Phase::Gone) => {
                self.remove(id);
                return Due::Never;
            }
            (Owner::Handshake, Phase::Open) => self.established(id),
            // Bytes that nobody will read: the peer must learn it (RFC 2525 §2.17).
            (Owner::Nobody, Phase::Open) if flow.tcb.has_unread() => flow.tcb.abort(),
            _ => {}
        }
        let flow = &mut self.flows[id];
        flow.wake();
        let due = flow.tcb.due(&mut self.ports[flow.port].stack, self.now);
        if due != Due::Now && flow.owner == Owner::Nobody && flow.tcb.phase() == Phase::TimeWait {
            let (key, sent) = (flow.key, flow.tcb.sent());
            self.time_wait.insert(key, sent.next, sent.ack, self.now);
            self.remove(id);
            return Due::Never;
        }
        let deadline = flow.deadline;
        if let Due::At(at) = due {
            self.arm(id, at);
        }
        if let Some(deadline) = deadline {
            self.arm(id, deadline);
        }
        due
    }

    fn established(&mut self, id: FlowId) {
        let flow = &mut self.flows[id];
        flow.owner = Owner::Backlog;
        flow.deadline = None;
        self.counters.established += 1;
        // A listener that goes takes its unaccepted flows with it, so there is one.
        if let Some(listener) = self.listeners.get_mut(&flow.key.local) {
            listener.established.push_back(id);
            listener.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    fn remove(&mut self, id: FlowId) {
        let mut flow = self.flows.remove(id);
        self.timers.disarm(id, &mut flow.armed);
        self.by_key.remove(&flow.key);
        if flow.owner == Owner::Handshake
            && let Some(listener) = self.listeners.get_mut(&flow.key.local)
        {
            listener.unaccepted -= 1;
        }
    }

    fn arm(&mut self, id: FlowId, due: Instant) {
        self.timers.arm(id, &mut self.flows[id].armed, due);
    }

    fn stand_in_line(&mut self, id: FlowId) {
        let flow = &mut self.flows[id];
        if !flow.in_line {
            flow.in_line = true;
            self.line.push_back(id);
        }
        self.driver.take().into_iter().for_each(Waker::wake);
    }

    fn count_reject(&mut self, reason: Reject) {
        let counters = &mut self.counters;
        *match reason {
            Reject::NotIp => &mut counters.dropped_not_ip,
            Reject::NotTcp => &mut counters.dropped_not_tcp,
            Reject::Fragment => &mut counters.dropped_fragment,
            Reject::Malformed => &mut counters.dropped_malformed,
            Reject::Checksum => &mut counters.dropped_checksum,
        } += 1;
    }
}

/// What listeners ask for.
impl Core {
    pub(super) fn listen(&mut self, address: SocketAddr) -> io::Result<()> {
        if address.port() == 0 || address.ip().is_unspecified() {
            let text = format!("{address}: expected an address and a port of this host, not 0");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.listeners.contains_key(&address) {
            let text = format!("{address} is listened on already");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        self.listeners.insert(address, Accepting::default());
        Ok(())
    }

    pub(super) fn poll_accept(
        &mut self,
        address: SocketAddr,
        context: &mut Context<'_>,
    ) -> Poll<(FlowId, FlowKey)> {
        let Some(listener) = self.listeners.get_mut(&address) else {
            return Poll::Pending;
        };
        let Some(id) = listener.established.pop_front() else {
            listener.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        listener.unaccepted -= 1;
        let flow = &mut self.flows[id];
        flow.owner = Owner::Stream;
        Poll::Ready((id, flow.key))
    }

    /// Forgets an address and resets what was not accepted; accepted connections go on.
    pub(super) fn unlisten(&mut self, address: SocketAddr) {
        if self.listeners.remove(&address).is_none() {
            return;
        }
        let mut unaccepted = Vec::new();
        for (id, flow) in &mut self.flows {
            if flow.key.local == address && matches!(flow.owner, Owner::Handshake | Owner::Backlog)
            {
                flow.owner = Owner::Nobody;
                flow.tcb.abort();
                unaccepted.push(id);
            }
        }
        for id in unaccepted {
            self.stand_in_line(id);
        }
    }
}

/// What streams ask for. An identity is valid from `poll_accept` until `release`.
impl Core {
    pub(super) fn poll_read(
        &mut self,
        id: FlowId,
        buffer: &mut [u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let flow = &mut self.flows[id];
        match flow.tcb.read(buffer) {
            Moved::Bytes(count) => {
                // The window may have grown enough to tell the peer.
                self.stand_in_line(id);
                Poll::Ready(Ok(count))
            }
            Moved::Nothing => {
                flow.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Moved::End => Poll::Ready(Ok(0)),
            Moved::Failed(kind) => Poll::Ready(Err(kind.into())),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        id: FlowId,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let flow = &mut self.flows[id];
        match flow.tcb.write(bytes) {
            Moved::Bytes(count) => {
                self.stand_in_line(id);
                Poll::Ready(Ok(count))
            }
            Moved::Nothing => {
                flow.writer = Some(context.waker().clone());
                Poll::Pending
            }
            Moved::End => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Moved::Failed(kind) => Poll::Ready(Err(kind.into())),
        }
    }

    pub(super) fn shutdown(&mut self, id: FlowId) {
        self.flows[id].tcb.shutdown();
        self.stand_in_line(id);
    }

    /// The stream is dropped. Closes as close(2) does: with RST if bytes were left unread (RFC 2525
    /// §2.17), else with FIN behind what was written.
    pub(super) fn release(&mut self, id: FlowId) {
        let flow = &mut self.flows[id];
        flow.owner = Owner::Nobody;
        (flow.reader, flow.writer) = (None, None);
        if flow.tcb.has_unread() {
            flow.tcb.abort();
        } else {
            flow.tcb.shutdown();
        }
        let deadline = self.now + self.config.orphan_timeout;
        flow.deadline = Some(deadline);
        self.arm(id, deadline);
        self.stand_in_line(id);
    }
}
