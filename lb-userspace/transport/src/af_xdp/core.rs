//! The engine's state, without I/O, clock or tasks: frames and times come in as arguments.
//!
//! All rules of TCP are in [`lb_tcp::Endpoint`]. Here frames become segments and back, connections get wakers, and the driver
//! is woken when somebody wants to send. Called by the driver (`engine`) for packets and time, and by `stream` for bytes.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use std::{io, mem};

use lb_tcp::{Attachment, Endpoint, Failure, FlowId, FlowKey, Icmp, ListenError, Secret};

use super::frames::{Frames, Receive, Transmit};
use super::output::{AllPorts, OnePort, Port, Route};
use super::packet::icmp::{IcmpError, IcmpKind};
use super::packet::{self, Packet, Reject};
use super::{Counters, EngineConfig, PortConfig};

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
}

/// Tasks that wait for a connection. A listener's waits as reader.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
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
        }
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            tcp: *self.endpoint.counters(),
            flows: self.endpoint.flows(),
            time_wait: self.endpoint.time_wait(),
            memory: self.endpoint.pool().lent(),
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

    /// Takes a frame that arrived on `port`. There must be room in `tx` for an answer.
    pub(super) fn receive<T: Transmit>(&mut self, port: usize, frame: &[u8], tx: &mut T) {
        let PortConfig { mtu, rx_checksums } = self.ports[port].config;
        let Packet { link, key, segment } = match packet::parse(frame, rx_checksums) {
            Ok(packet) => packet,
            Err(Reject::NotTcp) => return self.receive_error(frame),
            Err(reason) => return self.count_reject(reason),
        };
        debug_assert_eq!(packet::peek_key(frame), Some(key), "read ahead for another");
        let mut out = OnePort {
            tx,
            mtu,
            lost: &mut self.counters.lost_output,
        };
        let route = Route { port, link };
        self.endpoint
            .input(self.now, &key, route, &segment, &mut out);
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
            waiting.reader = Some(context.waker().clone());
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
                    waiting.reader = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Err(failure) => Poll::Ready(Err(kind(failure).into())),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        id: &FlowId,
        bytes: &[u8],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let result = self.endpoint.write(id, bytes);
        self.wake_driver();
        match result {
            Ok(Some(0)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => {
                if let Some(waiting) = self.endpoint.attachment(id) {
                    waiting.writer = Some(context.waker().clone());
                }
                Poll::Pending
            }
            Err(failure) => Poll::Ready(Err(kind(failure).into())),
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
