//! A wire in memory, with the engine's port at one end and a smoltcp client at the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lb_tcp::Header;
use lb_xsk::{Cut, Flushed};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant as Micros;
use smoltcp::wire::{
    HardwareAddress, IpCidr, IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use crate::af_xdp::frames::{Frames, Receive, Slot, Transmit};
use crate::af_xdp::packet::{self, ETHERNET_LEN, RxChecksums};

pub(super) const MTU: usize = 1500;
/// MAC addresses of the engine and of the client.
const TO_ENGINE: [u8; 12] = *b"\x02engin\x02clien";
const TO_CLIENT: [u8; 12] = *b"\x02clien\x02engin";

#[derive(Default)]
struct Lines {
    to_engine: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    /// Sent by the engine, not flushed yet.
    queued: VecDeque<Vec<u8>>,
    waker: Option<Waker>,
    /// Frames came since the engine last asked. Told once, as an `AF_XDP` socket does.
    news: bool,
    carried: usize,
    /// Every so many frames one is lost, in either direction. 0: never.
    lose_every: usize,
    /// Every second flush finds the device busy.
    is_slow: bool,
    flushes: usize,
    /// The device cuts super-segments.
    cuts: bool,
}

/// Both ends of a wire.
#[derive(Clone, Default)]
pub(super) struct Wire(Rc<RefCell<Lines>>);

impl Wire {
    pub(super) fn lose_every(&self, frames: usize) {
        self.0.borrow_mut().lose_every = frames;
    }

    pub(super) fn slow_down(&self) {
        self.0.borrow_mut().is_slow = true;
    }

    pub(super) fn cut(&self) {
        self.0.borrow_mut().cuts = true;
    }

    /// Puts a frame on the wire towards the engine.
    pub(super) fn inject(&self, frame: Vec<u8>) {
        let mut lines = self.0.borrow_mut();
        if !lines.loses_this_one() {
            lines.to_engine.push_back(frame);
        }
        lines.news = true;
        lines.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Takes a frame that the engine sent.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let mut lines = self.0.borrow_mut();
        loop {
            let frame = lines.to_client.pop_front()?;
            if !lines.loses_this_one() {
                return Some(frame);
            }
        }
    }

    /// The engine's end, with so many frames for sending.
    pub(super) fn port(&self, tx_frames: usize) -> Port {
        Port {
            rx: Rx(self.clone()),
            tx: Tx {
                wire: self.clone(),
                frames: tx_frames,
            },
        }
    }
}

impl Lines {
    fn loses_this_one(&mut self) -> bool {
        self.carried += 1;
        self.lose_every != 0 && self.carried.is_multiple_of(self.lose_every)
    }
}

pub(super) struct Port {
    rx: Rx,
    tx: Tx,
}

pub(super) struct Rx(Wire);

pub(super) struct Tx {
    wire: Wire,
    frames: usize,
}

pub(super) struct TxSlot<'a> {
    wire: &'a Wire,
    bytes: Vec<u8>,
}

impl Frames for Port {
    type Rx = Rx;
    type Tx = Tx;

    fn split(&mut self) -> (&mut Rx, &mut Tx) {
        (&mut self.rx, &mut self.tx)
    }

    fn flush(&mut self) -> io::Result<Flushed> {
        let lines = &mut *self.tx.wire.0.borrow_mut();
        lines.flushes += 1;
        if lines.is_slow && lines.flushes.is_multiple_of(2) {
            return Ok(Flushed::Later);
        }
        lines.to_client.append(&mut lines.queued);
        Ok(Flushed::Done)
    }

    fn cuts(&self) -> bool {
        self.tx.wire.0.borrow().cuts
    }

    fn send_cut(&mut self, head: &[u8], payload: &[u8], cut: Cut) -> io::Result<Flushed> {
        let lines = &mut *self.tx.wire.0.borrow_mut();
        lines.flushes += 1;
        if lines.is_slow && lines.flushes.is_multiple_of(2) {
            return Ok(Flushed::Later);
        }
        assert!(lines.queued.is_empty(), "a train overtakes frames");
        lines
            .to_client
            .extend(super::cut::pieces(head, payload, cut));
        Ok(Flushed::Done)
    }

    fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut lines = self.rx.0.0.borrow_mut();
        if std::mem::take(&mut lines.news) {
            return Poll::Ready(Ok(()));
        }
        lines.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Receive for Rx {
    type Packet<'a> = Vec<u8>;

    fn receive(&mut self) -> Option<Vec<u8>> {
        self.0.0.borrow_mut().to_engine.pop_front()
    }

    fn look_ahead(&mut self, count: usize, see: impl FnMut(&[u8])) {
        let wire = self.0.0.borrow();
        let next = wire.to_engine.iter().take(count);
        next.map(Vec::as_slice).for_each(see);
    }
}

impl Transmit for Tx {
    type Slot<'a> = TxSlot<'a>;

    fn room(&mut self) -> usize {
        self.frames - self.wire.0.borrow().queued.len()
    }

    fn reserve(&mut self, len: usize) -> Option<TxSlot<'_>> {
        let room = self.room() > 0 && len <= ETHERNET_LEN + MTU;
        room.then(|| TxSlot {
            wire: &self.wire,
            bytes: vec![0; len],
        })
    }
}

impl Deref for TxSlot<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for TxSlot<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Slot for TxSlot<'_> {
    fn send(self) {
        self.wire.0.borrow_mut().queued.push_back(self.bytes);
    }
}

/// An independent TCP, which only knows how to open connections.
pub(super) struct Client {
    interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    wire: Wire,
    address: IpAddr,
    next_port: u16,
}

impl Client {
    pub(super) fn new(wire: &Wire, address: IpAddr) -> Self {
        let mut wire_end = wire.clone();
        let config = Config::new(HardwareAddress::Ip);
        let mut interface = Interface::new(config, &mut wire_end, Micros::ZERO);
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        interface.update_ip_addrs(|list| list.push(IpCidr::new(address.into(), prefix)).unwrap());
        let sockets = SocketSet::new(Vec::new());
        Self {
            interface,
            sockets,
            wire: wire_end,
            address,
            next_port: 40_000,
        }
    }

    pub(super) fn connect(&mut self, to: SocketAddr) -> SocketHandle {
        let buffer = || SocketBuffer::new(vec![0; 60_000]);
        let mut socket = Socket::new(buffer(), buffer());
        let from = SocketAddr::new(self.address, self.next_port);
        self.next_port += 1;
        socket.connect(self.interface.context(), to, from).unwrap();
        self.sockets.add(socket)
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(super) fn poll(&mut self) {
        let now = tokio::time::Instant::now() - *START.get_or_init(tokio::time::Instant::now);
        let now = Micros::from_micros(i64::try_from(now.as_micros()).unwrap());
        self.interface.poll(now, &mut self.wire, &mut self.sockets);
    }

    /// Lets both ends work until `done` gives a result. Time is virtual, so waiting is free; the bound
    /// only turns an endless wait into a failure.
    pub(super) async fn until<R>(&mut self, mut done: impl FnMut(&mut Self) -> Option<R>) -> R {
        for _ in 0..1_000_000 {
            self.poll();
            if let Some(result) = done(self) {
                return result;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        panic!("the other end never got there");
    }
}

static START: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Wire;

    fn receive(&mut self, _: Micros) -> Option<(Received, Wire)> {
        let frame = self.take()?;
        assert_eq!(
            frame[..12],
            TO_CLIENT,
            "answers go where questions came from"
        );
        // The client's checksum verification is on: it checks those of the engine.
        Some((Received(frame[ETHERNET_LEN..].to_vec()), self.clone()))
    }

    fn transmit(&mut self, _: Micros) -> Option<Wire> {
        Some(self.clone())
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Wire {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut ip = vec![0; len];
        let result = f(&mut ip);
        self.inject(frame(&ip));
        result
    }
}

/// An IP packet in a frame to the engine.
fn frame(ip: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if ip[0] >> 4 == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    [&TO_ENGINE[..], &ethertype, ip].concat()
}

/// A segment with an empty payload from `from` to `to`.
pub(super) fn raw_segment(
    from: SocketAddr,
    to: SocketAddr,
    control: TcpControl,
    (seq, ack): (i32, Option<i32>),
) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: ack.map(TcpSeqNumber),
        window_len: 1000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let (source, destination) = (from.ip().into(), to.ip().into());
    let ip = IpRepr::new(source, destination, IpProtocol::Tcp, tcp.buffer_len(), 64);
    let checksums = ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.header_len() + tcp.buffer_len()];
    ip.emit(&mut bytes[..], &checksums);
    let mut packet = TcpPacket::new_unchecked(&mut bytes[ip.header_len()..]);
    tcp.emit(&mut packet, &source, &destination, &checksums);
    frame(&bytes)
}

/// Reads a frame that the engine sent, and checks its checksums.
pub(super) fn read_frame(frame: &[u8]) -> Header {
    let packet = packet::parse(frame, RxChecksums::Verify).unwrap();
    packet.segment.header
}
