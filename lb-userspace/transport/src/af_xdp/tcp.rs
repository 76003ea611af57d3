//! TCP of one connection, by smoltcp; with `device` the only file that names it.
//!
//! The face is that of a sans-IO engine: packets in, packets out, a time to be called at, bytes to read and
//! write; time is an argument. One `Interface` per port is shared by all its flows, which smoltcp allows because
//! each flow brings its own socket set with a single socket.
//!
//! Invariant: [`Tcb::output`] is only called with room to send. smoltcp changes some state before it asks for
//! a frame, so a refusal there could lose a retransmission.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::TxToken as _;
use smoltcp::socket::tcp::{CongestionControl, RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant as Micros;
use smoltcp::wire::{
    HardwareAddress, IpEndpoint, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::device::{Closed, OnePacket, Out, OutToken, Sent, tx_checksums};
use super::frames::Transmit;
use super::packet::{ACK, FlowKey, Link, RST, Segment};
use super::{Counters, EngineConfig};

/// What all flows of one port share.
pub(super) struct Stack {
    interface: Interface,
    mtu: usize,
    epoch: Instant,
}

impl Stack {
    /// `mtu` is that of IP packets; `epoch` is not after any later time.
    pub(super) fn new(mtu: usize, epoch: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        // Initial sequence numbers come from this seed; std's hash keys come from the operating system.
        config.random_seed = RandomState::new().build_hasher().finish();
        let mut interface = Interface::new(config, &mut Closed { mtu }, Micros::ZERO);
        // Which addresses are ours is decided before a packet gets here.
        interface.set_any_ip(true);
        Self {
            interface,
            mtu,
            epoch,
        }
    }

    fn micros(&self, time: Instant) -> Micros {
        let micros = time.saturating_duration_since(self.epoch).as_micros();
        Micros::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// State of a connection as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake is under way.
    Opening,
    /// Bytes, FINs or their acknowledgements may still flow.
    Open,
    /// Both sides are done; late segments may come.
    TimeWait,
    /// Aborted by us; the RST is not sent yet.
    Resetting,
    /// Over.
    Gone,
}

/// When a flow wants [`Tcb::output`] to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
    Never,
}

/// Result of [`Tcb::read`] and [`Tcb::write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    Bytes(usize),
    /// Nothing to read, or no room to write, for now.
    Nothing,
    /// The other side has finished, or this side may not write any more.
    End,
    /// The connection failed.
    Failed(io::ErrorKind),
}

/// One connection.
pub(super) struct Tcb {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    sent: Sent,
    failure: Option<io::ErrorKind>,
}

impl Tcb {
    /// A connection that waits for the SYN of its client. `None` if `local` has port 0.
    pub(super) fn accept(key: &FlowKey, config: &EngineConfig) -> Option<Self> {
        let receive = SocketBuffer::new(vec![0; config.receive_buffer]);
        let send = SocketBuffer::new(vec![0; config.send_buffer]);
        let mut socket = Socket::new(receive, send);
        socket.set_congestion_control(CongestionControl::Cubic);
        // As TCP_NODELAY: what the proxy writes is a message or a large part of one.
        socket.set_nagle_enabled(false);
        socket.set_keep_alive(Some(duration(config.keepalive)));
        socket.set_timeout(Some(duration(config.user_timeout)));
        socket.set_hop_limit(Some(HOP_LIMIT));
        socket.listen(IpEndpoint::from(key.local)).ok()?;
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        Some(Self {
            sockets,
            handle,
            sent: Sent::default(),
            failure: None,
        })
    }

    /// Takes a segment of this connection, and may answer at once.
    pub(super) fn input<T: Transmit>(
        &mut self,
        stack: &mut Stack,
        segment: &Segment<'_>,
        now: Instant,
        (link, tx, counters): (Link, &mut T, &mut Counters),
    ) {
        let before = self.phase();
        let now = stack.micros(now);
        let out = Out {
            link,
            tx,
            counters,
            sent: Some(&mut self.sent),
        };
        let mut device = OnePacket {
            input: Some(segment.ip),
            out,
            mtu: stack.mtu,
        };
        stack
            .interface
            .poll_ingress_single(now, &mut device, &mut self.sockets);
        if segment.has(RST) && before == Phase::Open && self.phase() == Phase::Gone {
            self.failure = Some(io::ErrorKind::ConnectionReset);
        }
    }

    /// Sends at most one segment and does what timers demand. False if there was nothing to send.
    pub(super) fn output<T: Transmit>(
        &mut self,
        stack: &mut Stack,
        now: Instant,
        (link, tx, counters): (Link, &mut T, &mut Counters),
    ) -> bool {
        let before = self.phase();
        let now = stack.micros(now);
        let out = Out {
            link,
            tx,
            counters,
            sent: Some(&mut self.sent),
        };
        let mut device = OnePacket {
            input: None,
            out,
            mtu: stack.mtu,
        };
        let result = stack
            .interface
            .poll_egress(now, &mut device, &mut self.sockets);
        if before == Phase::Open && matches!(self.phase(), Phase::Resetting | Phase::Gone) {
            self.failure = Some(io::ErrorKind::TimedOut);
        }
        result == PollResult::SocketStateChanged
    }

    /// When to call [`output`](Self::output).
    pub(super) fn due(&self, stack: &mut Stack, now: Instant) -> Due {
        let micros = stack.micros(now);
        match stack.interface.poll_at(micros, &self.sockets) {
            None => Due::Never,
            Some(at) if at <= micros => Due::Now,
            Some(at) => Due::At(now + Duration::from_micros((at - micros).total_micros())),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        let socket = self.socket();
        match socket.state() {
            State::SynReceived => Phase::Opening,
            State::TimeWait => Phase::TimeWait,
            State::Closed if socket.remote_endpoint().is_some() => Phase::Resetting,
            // A RST during the handshake takes smoltcp back to LISTEN; this listener is for one client.
            State::Closed | State::Listen => Phase::Gone,
            _ => Phase::Open,
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Moved {
        match self.socket_mut().recv_slice(buffer) {
            Ok(0) => Moved::Nothing,
            Ok(count) => Moved::Bytes(count),
            Err(RecvError::Finished) => Moved::End,
            Err(RecvError::InvalidState) => {
                Moved::Failed(self.failure.unwrap_or(io::ErrorKind::NotConnected))
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Moved {
        if let Some(failure) = self.failure {
            return Moved::Failed(failure);
        }
        match self.socket_mut().send_slice(bytes) {
            Ok(0) => Moved::Nothing,
            Ok(count) => Moved::Bytes(count),
            Err(_) => Moved::End,
        }
    }

    /// FIN behind what is written.
    pub(super) fn shutdown(&mut self) {
        let socket = self.socket_mut();
        socket.close();
        // The peer's FIN must be acknowledged before the flow gives way to its TIME-WAIT record.
        socket.set_ack_delay(None);
    }

    /// RST, and everything unsent forgotten.
    pub(super) fn abort(&mut self) {
        self.socket_mut().abort();
    }

    /// Bytes wait to be read.
    pub(super) fn has_unread(&self) -> bool {
        self.socket().can_recv()
    }

    /// A read would not wait.
    pub(super) fn is_readable(&self) -> bool {
        self.socket().can_recv() || !self.socket().may_recv()
    }

    /// A write would not wait, and is worth a wake-up: a quarter of the buffer is free.
    pub(super) fn is_writable(&self) -> bool {
        let socket = self.socket();
        let free = socket.send_capacity() - socket.send_queue();
        !socket.may_send() || free >= socket.send_capacity() / 4
    }

    pub(super) fn failure(&self) -> Option<io::ErrorKind> {
        self.failure
    }

    pub(super) fn sent(&self) -> Sent {
        self.sent
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

/// A segment without payload and without a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bare {
    /// RST in answer to an acknowledgement of something never sent.
    Reset { seq: u32 },
    /// RST in answer to anything else.
    ResetAndAcknowledge { ack: u32 },
    /// The last word of a closed connection.
    Acknowledge { seq: u32, ack: u32 },
}

impl Bare {
    /// The answer to a segment of no connection (RFC 9293 §3.10.7.1), which must not be an RST itself.
    pub(super) fn refusal(segment: &Segment<'_>) -> Self {
        if segment.has(ACK) {
            Self::Reset { seq: segment.ack }
        } else {
            Self::ResetAndAcknowledge {
                ack: segment.seq.wrapping_add(segment.seq_len),
            }
        }
    }

    pub(super) fn send<T: Transmit>(self, key: &FlowKey, out: Out<'_, T>) {
        let (control, seq, ack) = match self {
            Self::Reset { seq } => (TcpControl::Rst, seq, None),
            Self::ResetAndAcknowledge { ack } => (TcpControl::Rst, 0, Some(ack)),
            Self::Acknowledge { seq, ack } => (TcpControl::None, seq, Some(ack)),
        };
        let tcp = TcpRepr {
            src_port: key.local.port(),
            dst_port: key.remote.port(),
            control,
            seq_number: TcpSeqNumber(seq.cast_signed()),
            ack_number: ack.map(|ack| TcpSeqNumber(ack.cast_signed())),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (local, remote) = (key.local.ip().into(), key.remote.ip().into());
        let ip = IpRepr::new(local, remote, IpProtocol::Tcp, tcp.buffer_len(), HOP_LIMIT);
        let checksums = tx_checksums();
        let header_len = ip.header_len();
        OutToken { out }.consume(header_len + tcp.buffer_len(), |bytes| {
            ip.emit(&mut *bytes, &checksums);
            let mut packet = TcpPacket::new_unchecked(&mut bytes[header_len..]);
            tcp.emit(&mut packet, &local, &remote, &checksums);
        });
    }
}

/// As Linux' `ip_default_ttl`.
const HOP_LIMIT: u8 = 64;

fn duration(from: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_micros(u64::try_from(from.as_micros()).unwrap_or(u64::MAX))
}
