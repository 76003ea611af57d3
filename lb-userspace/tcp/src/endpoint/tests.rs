//! The endpoint against peers that say exactly what a test wants them to.

mod admission;
mod closing;
mod random;
mod sending;
mod shared;

use std::vec::Vec;

use super::*;
use crate::{Options, Segment, Seq};

const SERVER: &str = "10.203.1.100:443";
const MSS: usize = 1460;
const fn seconds(count: u64) -> Instant {
    Instant::from_micros(count * 1_000_000)
}

/// What was told to a waiting task.
#[derive(Debug, Default)]
pub(super) struct Told {
    readable: usize,
    writable: usize,
}

impl Attachment for Told {
    fn progressed(&mut self, readable: bool, writable: bool) {
        self.readable += usize::from(readable);
        self.writable += usize::from(writable);
    }
}

struct Sent {
    key: FlowKey,
    route: u8,
    header: Header,
    payload: Vec<u8>,
}

impl core::fmt::Debug for Sent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (port, len) = (self.key.remote.port(), self.payload.len());
        write!(f, "to {port}: {:?} and {len} bytes", self.header)
    }
}

/// A way out with so much room.
#[derive(Debug)]
struct Wire {
    sent: Vec<Sent>,
    room: usize,
}

impl Output<u8> for Wire {
    fn has_room(&mut self, _: &u8) -> bool {
        self.sent.len() < self.room
    }

    fn mtu(&self, _: &u8) -> usize {
        MSS + 40
    }

    fn send(&mut self, key: &FlowKey, route: &u8, header: &Header, payload: Payload<'_>) {
        assert!(self.sent.len() < self.room, "sent without room");
        self.sent.push(Sent {
            key: *key,
            route: *route,
            header: *header,
            payload: payload.slices().flatten().copied().collect(),
        });
    }
}

pub(super) struct Bench {
    pub(super) endpoint: Endpoint<u8, Told>,
    wire: Wire,
    now: Instant,
    /// Shift count that peers tell.
    scale: Option<u8>,
}

/// A peer's end of a connection: numbers that it sends and expects next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    port: u16,
    seq: Seq,
    ack: Seq,
}

impl Bench {
    pub(super) fn new(config: Config) -> Self {
        let now = seconds(1000);
        let mut endpoint = Endpoint::new(config, Secret::new([3; 16]), now);
        endpoint.listen(server(), Told::default()).unwrap();
        let wire = Wire {
            sent: Vec::new(),
            room: 10_000,
        };
        Self {
            endpoint,
            wire,
            now,
            scale: None,
        }
    }

    /// Takes a segment from `port`, sends what is to be sent, and tells what that was.
    fn exchange(&mut self, port: u16, header: Header, payload: &[u8]) -> Vec<Sent> {
        let segment = Segment { header, payload };
        self.endpoint
            .input(self.now, &key(port), 1, &segment, &mut self.wire);
        self.output()
    }

    fn output(&mut self) -> Vec<Sent> {
        self.endpoint.output(&mut self.wire);
        core::mem::take(&mut self.wire.sent)
    }

    /// Lets time pass, timer by timer; all that was sent.
    fn sleep(&mut self, duration: Duration) -> Vec<Sent> {
        let end = self.now + duration;
        let mut sent = Vec::new();
        while let Some(due) = self.endpoint.next_timer().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.endpoint.advance(self.now);
            sent.extend(self.output());
        }
        self.now = end;
        self.endpoint.advance(self.now);
        sent.extend(self.output());
        sent
    }

    fn syn(&mut self, port: u16) -> Vec<Sent> {
        let mut syn = header(Flags::SYN, 100, 0);
        syn.options.window_scale = self.scale;
        self.exchange(port, syn, b"")
    }

    /// A connection that waits to be accepted.
    fn connect(&mut self, port: u16) -> Peer {
        let answers = self.syn(port);
        let [answer] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert_eq!(answer.header.flags, Flags::SYN | Flags::ACK);
        assert_eq!(answer.header.ack, Seq(101));
        let peer = Peer {
            port,
            seq: Seq(101),
            ack: answer.header.seq + 1,
        };
        self.say(&peer, Flags::ACK, b"");
        peer
    }

    /// An accepted connection.
    pub(super) fn accepted(&mut self, port: u16) -> (Peer, FlowId) {
        let peer = self.connect(port);
        let (id, key) = self.endpoint.accept(&server()).unwrap();
        assert_eq!(key.remote.port(), port);
        (peer, id)
    }

    /// The peer's next segment.
    fn say(&mut self, peer: &Peer, flags: Flags, payload: &[u8]) -> Vec<Sent> {
        let header = header(flags, peer.seq.0, peer.ack.0);
        self.exchange(peer.port, header, payload)
    }

    fn counters(&self) -> Counters {
        *self.endpoint.counters()
    }
}

fn server() -> SocketAddr {
    SERVER.parse().unwrap()
}

pub(super) fn key(port: u16) -> FlowKey {
    FlowKey {
        local: server(),
        remote: ([10, 203, 1, 10], port).into(),
    }
}

fn header(flags: Flags, seq: u32, ack: u32) -> Header {
    Header {
        seq: Seq(seq),
        ack: Seq(ack),
        flags,
        window: 60_000,
        options: if flags.has(Flags::SYN) {
            Options {
                mss: Some(1460),
                ..Options::default()
            }
        } else {
            Options::default()
        },
    }
}

fn flags(sent: &[Sent]) -> Vec<Flags> {
    sent.iter().map(|sent| sent.header.flags).collect()
}

const RST_ACK: Flags = Flags(Flags::RST.0 | Flags::ACK.0);
const FIN_ACK: Flags = Flags(Flags::FIN.0 | Flags::ACK.0);
