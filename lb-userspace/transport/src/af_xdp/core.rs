//! The engine's state, without I/O, clock or tasks: frames and times come in as arguments.
//!
//! All rules of TCP are in [`lb_tcp::Endpoint`]. Here frames become segments and back, connections get wakers, and the driver
//! is woken when somebody wants to send. Called by the driver (`engine`) for packets and time, and by `stream` for bytes.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::IoSlice;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, mem};

use lb_tcp::{
    Attachment, Disposition, Endpoint, Failure, FlowId, FlowKey, Icmp, ListenError, Secret,
    Segment, Snapshot,
};

use super::frames::{Frames, Receive, Transmit};
use super::moves::Moves;
use super::output::{AllPorts, OnePort, Port, Route};
use super::packet::icmp::{IcmpError, IcmpKind};
use super::packet::{self, Packet, Reject};
use super::residence::Residence;
use super::{Counters, EngineConfig, PortConfig};
use crate::Mover;

/// Errors about connections that are not here, kept until the driver passes them on; more in one turn are a flood.
const MAX_STRAYS: usize = 16;

pub(super) struct Core {
    endpoint: Endpoint<Route, Waiting>,
    ports: Vec<Port>,
    /// What happened to frames, beside what happened to segments.
    counters: Counters,
    /// Origin of the endpoint's time.
    epoch: Instant,
    now: lb_tcp::Instant,
    /// The driver, while it waits.
    driver: Option<Waker>,
    /// Errors about connections that are not here.
    strays: Vec<IcmpError>,
    /// Whose the frames are that come next.
    ahead: Vec<FlowKey>,
    /// If connections can move to the kernel.
    moves: Option<Rc<Moves>>,
}

/// Tasks that wait for a connection. A listener's waits as reader.
#[derive(Default)]
pub(super) struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Whose it is, if it can move.
    residence: Weak<Residence>,
}

impl Attachment for Waiting {
    fn progressed(&mut self, readable: bool, writable: bool) {
        if readable {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        if writable {
            self.writer.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Core {
    pub(super) fn new(config: EngineConfig, ports: &[PortConfig], epoch: Instant) -> Self {
        let now = lb_tcp::Instant::ZERO;
        Self {
            endpoint: Endpoint::new(config.tcp, secret(), now),
            ports: ports.iter().map(Port::new).collect(),
            counters: Counters::default(),
            epoch,
            now,
            driver: None,
            strays: Vec::new(),
            ahead: Vec::new(),
            moves: None,
        }
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            tcp: *self.endpoint.counters(),
            flows: self.endpoint.flows(),
            time_wait: self.endpoint.time_wait(),
            memory: self.endpoint.pool().lent(),
            moves: self
                .moves
                .as_ref()
                .map(|moves| moves.counters())
                .unwrap_or_default(),
            ..self.counters
        }
    }

    pub(super) fn for_each_flow(&mut self, tell: impl FnMut(&FlowKey, lb_tcp::Info)) {
        self.endpoint.for_each_flow(tell);
    }

    /// Reads what the next `count` frames will need into the cache: see [`Endpoint::touch`].
    pub(super) fn read_ahead(&mut self, rx: &mut impl Receive, count: usize) {
        self.ahead.clear();
        rx.look_ahead(count, |frame| self.ahead.extend(packet::peek_key(frame)));
        // One packet would wait here as long as it does later.
        if self.ahead.len() > 1 {
            self.endpoint.touch(&self.ahead);
        }
    }

    /// Takes a frame that arrived on `port`; gives back a segment that is not for this engine. There must be room in `tx` for an answer.
    pub(super) fn receive<'a, T: Transmit>(
        &mut self,
        port: usize,
        frame: &'a [u8],
        tx: &mut T,
    ) -> Option<(FlowKey, Segment<'a>)> {
        let PortConfig { mtu, rx_checksums } = self.ports[port].config;
        let Packet { link, key, segment } = match packet::parse(frame, rx_checksums) {
            Ok(packet) => packet,
            Err(reason) => {
                self.receive_other(frame, reason);
                return None;
            }
        };
        debug_assert_eq!(packet::peek_key(frame), Some(key), "read ahead for another");
        let mut out = OnePort {
            tx,
            mtu,
            lost: &mut self.counters.lost_output,
        };
        let route = Route { port, link };
        let disposition = self
            .endpoint
            .input(self.now, &key, route, &segment, &mut out);
        (disposition == Disposition::Elsewhere).then_some((key, segment))
    }

    /// A frame that is no segment.
    fn receive_other(&mut self, frame: &[u8], reason: Reject) {
        match reason {
            Reject::NotTcp => self.receive_error(frame),
            reason => self.count_reject(reason),
        }
    }

    /// An ICMP error, if it is one. It came by the queue that the network card chose for its sender, so the connection it
    /// is about may be another worker's.
    fn receive_error(&mut self, frame: &[u8]) {
        let error = match packet::icmp::parse_icmp(frame) {
            Ok(error) => error,
            Err(reason) => return self.count_reject(reason),
        };
        if !self.icmp(&error) && self.strays.len() < MAX_STRAYS {
            self.counters.icmp_passed_on += 1;
            self.strays.push(error);
        }
    }

    /// Tells TCP of an error. Whether the connection is here.
    pub(super) fn icmp(&mut self, error: &IcmpError) -> bool {
        let message = match error.kind {
            IcmpKind::PacketTooBig { mtu } => Icmp::TooBig { mtu },
            // RFC 1122 §4.2.3.9: time exceeded is a soft error as well.
            IcmpKind::Unreachable { .. } | IcmpKind::TimeExceeded => Icmp::Unreachable,
        };
        let is_here = self.endpoint.icmp(self.now, &error.key, error.seq, message);
        self.wake_driver();
        is_here
    }

    /// Errors since the last call about connections that are not here.
    pub(super) fn take_strays(&mut self) -> Vec<IcmpError> {
        mem::take(&mut self.strays)
    }

    /// Moves the clock and lets timers fire.
    pub(super) fn advance(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.epoch);
        self.now = lb_tcp::Instant::ZERO + since;
        self.endpoint.advance(self.now);
    }

    /// Lets each flow in line send its share, once.
    pub(super) fn send<F: Frames>(&mut self, frames: &mut [F]) {
        let mut out = AllPorts {
            frames,
            ports: &mut self.ports,
            counters: &mut self.counters,
        };
        out.depart_all();
        self.endpoint.output(&mut out);
        out.depart_all();
    }

    /// Whether a flow used up its share, or found no room, and wants more.
    pub(super) fn wants_output(&self) -> bool {
        self.endpoint.wants_output() || self.is_held()
    }

    /// Whether a port could not take what it was given.
    pub(super) fn is_held(&self) -> bool {
        self.ports.iter().any(Port::is_held)
    }

    /// When [`advance`](Self::advance) has work.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let due = self.endpoint.next_timer()?;
        self.epoch
            .checked_add(Duration::from_micros(due.as_micros()))
    }

    /// Ready when a flow stands in line; else the driver is woken when one does.
    pub(super) fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.endpoint.wants_output() {
            return Poll::Ready(());
        }
        keep(&mut self.driver, context);
        Poll::Pending
    }

    pub(super) fn count_wait(&mut self) {
        self.counters.waits_for_frames += 1;
    }

    pub(super) fn count_flush_error(&mut self) -> u64 {
        self.counters.flush_errors += 1;
        self.counters.flush_errors
    }

    /// After anything that may have put a flow in line.
    fn wake_driver(&mut self) {
        if self.endpoint.wants_output() {
            self.driver.take().into_iter().for_each(Waker::wake);
        }
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
        self.endpoint
            .listen(address, Waiting::default())
            .map_err(|error| {
                let (kind, text) = match error {
                    ListenError::Unspecified => (
                        io::ErrorKind::InvalidInput,
                        format!("{address}: expected an address and a port of this host, not 0"),
                    ),
                    ListenError::InUse => (
                        io::ErrorKind::AddrInUse,
                        format!("{address} is listened on already"),
                    ),
                };
                io::Error::new(kind, text)
            })
    }

    pub(super) fn poll_accept(
        &mut self,
        address: SocketAddr,
        context: &mut Context<'_>,
    ) -> Poll<(FlowId, FlowKey)> {
        if let Some(accepted) = self.endpoint.accept(&address) {
            return Poll::Ready(accepted);
        }
        if let Some(waiting) = self.endpoint.listener_attachment(&address) {
            keep(&mut waiting.reader, context);
        }
        Poll::Pending
    }

    /// Forgets an address and resets what was not accepted; accepted connections go on.
    pub(super) fn unlisten(&mut self, address: SocketAddr) {
        self.endpoint.unlisten(&address);
        self.wake_driver();
    }

    pub(super) fn stop(&mut self) {
        self.endpoint.stop();
        self.wake_driver();
    }

    pub(super) fn reset_all(&mut self) {
        self.endpoint.reset_all();
        self.wake_driver();
    }
}

/// What streams ask for.
impl Core {
    /// Bytes that [`poll_read`](Self::poll_read) has now.
    pub(super) fn readable(&self, id: &FlowId) -> usize {
        self.endpoint.readable(id)
    }

    pub(super) fn poll_read(
        &mut self,
        id: &FlowId,
        buffer: &mut [u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let result = self.endpoint.read(id, buffer);
        self.wake_driver();
        match result {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => {
                if let Some(waiting) = self.endpoint.attachment(id) {
                    keep(&mut waiting.reader, context);
                }
                Poll::Pending
            }
            Err(failure) => Poll::Ready(Err(kind(failure).into())),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        id: &FlowId,
        bytes: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let result = self.gather(id, bytes);
        self.wake_driver();
        match result {
            Ok(Some(0)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => {
                self.wait_to_write(id, context);
                Poll::Pending
            }
            Err(failure) => Poll::Ready(Err(kind(failure).into())),
        }
    }

    /// As [`Endpoint::write`], of bytes that lie in pieces.
    fn gather(&mut self, id: &FlowId, bytes: &[IoSlice<'_>]) -> Result<Option<usize>, Failure> {
        let mut written = 0;
        for slice in bytes.iter().filter(|slice| !slice.is_empty()) {
            match self.endpoint.write(id, slice) {
                Ok(Some(count)) => {
                    written += count;
                    if count < slice.len() {
                        break;
                    }
                }
                other if written == 0 => return other,
                _ => break,
            }
        }
        Ok(Some(written))
    }

    /// Has the task woken when a write is worth a try.
    pub(super) fn wait_to_write(&mut self, id: &FlowId, context: &Context<'_>) {
        if let Some(waiting) = self.endpoint.attachment(id) {
            keep(&mut waiting.writer, context);
        }
    }

    pub(super) fn shutdown(&mut self, id: &FlowId) {
        self.endpoint.shutdown(id);
        self.wake_driver();
    }

    /// The stream is dropped. Closes as close(2) does.
    pub(super) fn release(&mut self, id: FlowId) {
        self.endpoint.release(id);
        self.wake_driver();
    }
}

/// What moves ask for.
impl Core {
    /// From now on connections can move to the kernel.
    pub(super) fn enable(&mut self, moves: Rc<Moves>) {
        self.endpoint.share_ports();
        self.moves = Some(moves);
    }

    /// How connections move, if they can.
    pub(super) fn moves(&self) -> Option<&Rc<Moves>> {
        self.moves.as_ref()
    }

    /// A place for an accepted connection, which it may leave if there is somebody to ask.
    pub(super) fn house(&mut self, id: FlowId) -> (Rc<Residence>, Option<Mover>) {
        let Some(moves) = &self.moves else {
            return (Rc::new(Residence::new(id)), None);
        };
        let residence = Rc::new_cyclic(|home| {
            if let Some(waiting) = self.endpoint.attachment(&id) {
                waiting.residence = Weak::clone(home);
            }
            Residence::new(id)
        });
        let asks = Mover::new(Rc::clone(&residence), Rc::clone(moves));
        (residence, Some(asks))
    }

    /// Every connection that could be asked to move.
    pub(super) fn residences(&mut self) -> Vec<Rc<Residence>> {
        let attachments = self.endpoint.attachments();
        attachments
            .filter_map(|waiting| waiting.residence.upgrade())
            .collect()
    }

    /// A connection as a value, its ends, and what its next segment's timestamp is; none if it can't move.
    pub(super) fn snapshot(&self, id: &FlowId) -> Option<(FlowKey, Snapshot, u32)> {
        let (key, snapshot) = self.endpoint.snapshot(id)?;
        let offset = snapshot.timestamps.map_or(0, |(_, offset)| offset);
        Some((key, snapshot, offset.wrapping_add(self.now.millis())))
    }

    /// A connection goes on elsewhere; its tasks are told.
    pub(super) fn give_away(&mut self, id: FlowId) {
        self.endpoint.moved(id);
    }

    /// A connection stays, and can be written to again.
    pub(super) fn wake_writer(&mut self, id: &FlowId) {
        if let Some(waiting) = self.endpoint.attachment(id) {
            waiting.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    /// A connection that had moved is over.
    pub(super) fn forget_moved(&mut self, key: &FlowKey) {
        self.endpoint.forget_moved(key);
    }
}

/// Keeps a task's waker, unless that is the one that is kept: a task polls far more often than it is woken.
fn keep(slot: &mut Option<Waker>, context: &Context<'_>) {
    match slot {
        Some(kept) => kept.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
}

/// How a failure is called in `std`.
fn kind(failure: Failure) -> io::ErrorKind {
    match failure {
        Failure::Refused => io::ErrorKind::ConnectionRefused,
        Failure::Reset => io::ErrorKind::ConnectionReset,
        Failure::Aborted => io::ErrorKind::ConnectionAborted,
        Failure::TimedOut => io::ErrorKind::TimedOut,
        Failure::Unreachable => io::ErrorKind::HostUnreachable,
    }
}

/// Random bytes of the operating system. The keys of `std`'s hash maps are that, and two of them don't tell each other.
fn secret() -> Secret {
    let random = || u128::from(RandomState::new().build_hasher().finish());
    Secret::new((random() << 64 | random()).to_ne_bytes())
}
