//! smoltcp as an end of the link: a TCP that others have written, against which ours has to get along.

use std::collections::VecDeque;

use lb_tcp::{Failure, FlowKey, Instant};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Instant as Micros;
use smoltcp::wire::{HardwareAddress, IpCidr, IpProtocol, IpRepr};

use crate::host::{Host, Phase};
use crate::packet::{Packet, ip_header};

/// An end.
pub(crate) struct Smol {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    line: Line,
    key: FlowKey,
    was_open: bool,
    /// Asked for before the connection was established, when it would end it.
    shall_close: bool,
}

/// The packet that has arrived, and those that leave.
struct Line {
    arrived: Option<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
    mtu: usize,
}

/// Packets that leave in a turn.
const ROOM: usize = 64;

impl Smol {
    /// With buffers of `buffer` bytes; above 65,535 it scales its window.
    pub(crate) fn new(key: FlowKey, buffer: usize, mtu: usize, seed: u64) -> Self {
        let mut line = Line {
            arrived: None,
            leaving: VecDeque::new(),
            mtu,
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut line, Micros::ZERO);
        let prefix = IpCidr::new(key.local.ip().into(), 8);
        interface.update_ip_addrs(|list| list.push(prefix).unwrap());
        let new = || SocketBuffer::new(vec![0; buffer]);
        let socket = Socket::new(new(), new());
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self {
            interface,
            sockets,
            handle,
            line,
            key,
            was_open: false,
            shall_close: false,
        }
    }

    fn socket(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn poll(&mut self, now: Instant) {
        self.interface
            .poll(micros(now), &mut self.line, &mut self.sockets);
        self.was_open |= self.socket().may_send() || self.socket().may_recv();
        self.close_if_open();
    }

    fn close_if_open(&mut self) {
        if self.shall_close && self.was_open {
            self.shall_close = false;
            self.socket_mut().close();
        }
    }
}

fn micros(at: Instant) -> Micros {
    Micros::from_micros(at.as_micros().cast_signed())
}

impl Host for Smol {
    fn listen(&mut self, _: Instant) {
        let port = self.key.local.port();
        self.socket_mut().listen(port).unwrap();
    }

    fn connect(&mut self, _: Instant) {
        let (local, remote) = (self.key.local, self.key.remote);
        let context = self.interface.context();
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        socket.connect(context, remote, local).unwrap();
    }

    fn receive(&mut self, packet: &Packet, now: Instant) {
        let (from, to) = (packet.source.ip().into(), packet.destination.ip().into());
        let ip = IpRepr::new(from, to, IpProtocol::Tcp, packet.bytes.len(), 64);
        let mut bytes = vec![0; ip.header_len()];
        ip.emit(&mut bytes[..], &ChecksumCapabilities::default());
        bytes.extend_from_slice(&packet.bytes);
        self.line.arrived = Some(bytes);
        self.poll(now);
    }

    fn too_big(&mut self, _: &Packet, _: usize, _: Instant) {}

    fn on_timer(&mut self, now: Instant) {
        self.poll(now);
    }

    fn next_timer(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(micros(now), &self.sockets)?;
        let at = Instant::from_micros(at.total_micros().cast_unsigned());
        // What it could do now, it has done; if it doesn't say so, it is asked again a little later.
        (self.phase() != Phase::Listening)
            .then(|| at.max(now + std::time::Duration::from_micros(100)))
    }

    fn transmit(&mut self, now: Instant) -> Option<Packet> {
        if self.line.leaving.is_empty() {
            self.poll(now);
        }
        let packet = self.line.leaving.pop_front()?;
        let bytes = packet[ip_header(self.key.local)..].to_vec();
        Some(Packet::new(&self.key, bytes))
    }

    fn read(&mut self, into: &mut [u8], _: Instant) -> Result<Option<usize>, Failure> {
        match self.socket_mut().recv_slice(into) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(RecvError::Finished) => Ok(Some(0)),
            Err(RecvError::InvalidState) if self.was_open => Err(Failure::Reset),
            Err(RecvError::InvalidState) => Ok(None),
        }
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> Result<Option<usize>, Failure> {
        match self.socket_mut().send_slice(bytes) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(_) if self.was_open => Err(Failure::Reset),
            Err(_) => Ok(None),
        }
    }

    fn shutdown(&mut self, _: Instant) {
        self.shall_close = true;
        self.close_if_open();
    }

    fn abort(&mut self, _: Instant) {
        self.socket_mut().abort();
    }

    fn phase(&mut self) -> Phase {
        match self.socket().state() {
            State::Listen => Phase::Listening,
            State::Closed | State::TimeWait => Phase::Over,
            _ => Phase::Open,
        }
    }

    /// Its buffers are its own.
    fn memory(&self) -> usize {
        0
    }

    fn release(&mut self, _: Instant) {}

    fn leftovers(&self) -> usize {
        0
    }

    fn describe(&mut self, _: Instant) -> String {
        format!("smoltcp {}", self.socket().state())
    }
}

impl Device for Line {
    type RxToken<'a> = Received;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Micros) -> Option<(Received, Leaving<'_>)> {
        let packet = self.arrived.take()?;
        Some((Received(packet), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: Micros) -> Option<Leaving<'_>> {
        (self.leaving.len() < ROOM).then_some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(crate) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, then: F) -> R {
        then(&self.0)
    }
}

pub(crate) struct Leaving<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, then: F) -> R {
        let mut packet = vec![0; len];
        let result = then(&mut packet);
        self.0.push_back(packet);
        result
    }
}
