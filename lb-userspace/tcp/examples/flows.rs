//! What a packet costs, and what an idle connection keeps, with 1,024, 65,536 and 1,048,576 connections in one endpoint:
//!
//! ```text
//! cargo run --release -p lb-tcp --example flows
//! ```
//!
//! A round is a request of 100 bytes to a connection, read and answered with 100 bytes that acknowledge it, and the peer's
//! acknowledgement of those: three packets, everything of theirs included but IP and Ethernet. All connections have their
//! turn before one has the next, in an order without locality, so that caches help as little as they can.
//!
//! A worker takes packets in bursts: so do the rounds of the first figure, 64 at a time, all requests before the first answer and
//! all answers before the first acknowledgement. The second is that of the same rounds one after the other, as if packets came
//! singly. Bytes are those asked of the allocator, by everything that the endpoint has, its tables included.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time;

use lb_tcp::{
    Config, Endpoint, Flags, FlowId, FlowKey, Header, Instant, Options, Output, Payload, Secret,
    Segment, Seq, Timestamps, wire,
};

/// Bytes of a request, and of an answer.
const LEN: u32 = 100;
const ROUNDS: u32 = 1_000_000;
/// Packets of a round.
const PACKETS: f64 = 3.0;
/// Packets that a worker takes at a time.
const BURST: u32 = 64;

fn main() {
    println!(
        "connections  bytes each  ns per packet in bursts  one by one  of that reading and writing headers"
    );
    let mut costs = vec![];
    for flows in [1 << 10, 1 << 16, 1 << 20] {
        let before = ALLOCATED.load(Ordering::Relaxed);
        let mut bench = Bench::new(flows);
        let each = (ALLOCATED.load(Ordering::Relaxed) - before - bench.own_bytes()) / flows;
        let [bursts, single] = [BURST, 1].map(|burst| {
            bench.rounds(ROUNDS / 4, burst);
            bench.rounds(ROUNDS, burst) / PACKETS
        });
        println!(
            "{flows:11}  {each:10}  {bursts:23.0}  {single:10.0}  {:.0}",
            bench.wire_only()
        );
        costs.push(bursts);
    }
    let ratio = costs[costs.len() - 1] / costs[0];
    println!("in bursts, the last is {ratio:.1} times the first");
}

/// An endpoint, and all of its peers.
struct Bench {
    endpoint: Endpoint<(), ()>,
    peers: Vec<Peer>,
    out: Out,
    start: time::Instant,
    now: Instant,
    /// Whose turn it was last.
    last: usize,
    burst: Vec<usize>,
    keys: Vec<FlowKey>,
}

/// What a peer of ours needs to know.
struct Peer {
    id: FlowId,
    /// What it sends next, and what it expects.
    nxt: Seq,
    ack: Seq,
    echo: u32,
}

/// Writes segments as they would leave.
#[derive(Default)]
struct Out {
    sent: Vec<Header>,
    buffer: Vec<u8>,
}

impl Output<()> for Out {
    fn has_room(&mut self, (): &()) -> bool {
        true
    }

    fn mtu(&self, (): &()) -> usize {
        1500
    }

    fn send(&mut self, key: &FlowKey, (): &(), header: &Header, payload: Payload<'_>) {
        self.sent.push(*header);
        let len = wire::header_len(header) + payload.len();
        self.buffer.resize(len, 0);
        wire::emit(key, header, payload, &mut self.buffer);
    }
}

impl Bench {
    fn new(flows: usize) -> Self {
        let now = Instant::from_micros(0);
        let config = Config {
            backlog: 4,
            ..Config::default()
        };
        let mut endpoint = Endpoint::new(config, Secret::new([9; 16]), now);
        endpoint.listen(local(), ()).expect("a fresh address");
        let mut bench = Self {
            endpoint,
            peers: Vec::with_capacity(flows),
            out: Out::default(),
            start: time::Instant::now(),
            now,
            last: 0,
            burst: vec![],
            keys: vec![],
        };
        (0..flows).for_each(|index| bench.connect(index));
        bench
    }

    fn connect(&mut self, index: usize) {
        let mut syn = header(Flags::SYN, Seq(0), Seq(0), 0);
        syn.options.mss = Some(1460);
        syn.options.window_scale = Some(7);
        syn.options.sack_permitted = true;
        self.advance();
        self.arrive(index, syn, &[]);
        self.endpoint.output(&mut self.out);
        let answer = self.out.sent.pop().expect("a SYN-ACK");
        let iss = answer.seq;
        let echo = answer.options.timestamps.map_or(0, |it| it.value);
        self.arrive(index, header(Flags::ACK, Seq(1), iss + 1, echo), &[]);
        let (id, _) = self.endpoint.accept(&local()).expect("a connection");
        self.peers.push(Peer {
            id,
            nxt: Seq(1),
            ack: iss + 1,
            echo,
        });
    }

    /// Nanoseconds for each, in bursts of so many.
    fn rounds(&mut self, count: u32, burst: u32) -> f64 {
        let start = time::Instant::now();
        for _ in 0..count / burst {
            self.burst.clear();
            for _ in 0..burst {
                let next = self.next();
                self.burst.push(next);
            }
            self.round();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(count / burst * burst)
    }

    /// What the worker does with a burst of requests, and then with one of acknowledgements.
    fn round(&mut self) {
        let burst = std::mem::take(&mut self.burst);
        self.advance();
        self.touch(&burst);
        for &index in &burst {
            let peer = &mut self.peers[index];
            let header = header(Flags::ACK | Flags::PSH, peer.nxt, peer.ack, peer.echo);
            peer.nxt += LEN;
            self.arrive(index, header, &[0x41; LEN as usize]);
        }
        for &index in &burst {
            self.serve(index);
        }
        self.advance();
        self.endpoint.output(&mut self.out);
        assert_eq!(self.out.sent.len(), burst.len());
        self.advance();
        self.touch(&burst);
        for (n, &index) in burst.iter().enumerate() {
            let answer = self.out.sent[n];
            let peer = &mut self.peers[index];
            assert_eq!((answer.seq, answer.ack), (peer.ack, peer.nxt));
            peer.ack += LEN;
            peer.echo = answer.options.timestamps.map_or(0, |it| it.value);
            let acknowledgement = header(Flags::ACK, peer.nxt, peer.ack, peer.echo);
            self.arrive(index, acknowledgement, &[]);
        }
        self.endpoint.output(&mut self.out);
        assert_eq!(self.out.sent.len(), burst.len(), "nothing is left to say");
        self.out.sent.clear();
        self.burst = burst;
    }

    /// What a task does that a request has woken.
    fn serve(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        let mut bytes = [0; LEN as usize];
        let read = self.endpoint.read(&peer.id, &mut bytes);
        assert_eq!(read, Ok(Some(LEN as usize)));
        let written = self.endpoint.write(&peer.id, &bytes);
        assert_eq!(written, Ok(Some(LEN as usize)));
    }

    fn touch(&mut self, burst: &[usize]) {
        if burst.len() > 1 {
            // Its own misses are not what is measured.
            let own = burst
                .iter()
                .map(|&index| self.peers[index].nxt.0 ^ self.peers[index].echo);
            std::hint::black_box(own.fold(0, |sum, word| sum ^ word));
            self.keys.clear();
            self.keys.extend(burst.iter().map(|&index| key(index)));
            self.endpoint.touch(&self.keys);
        }
    }

    /// A worker looks at the clock once for each burst.
    fn advance(&mut self) {
        self.now = Instant::ZERO + self.start.elapsed();
        self.endpoint.advance(self.now);
    }

    fn arrive(&mut self, index: usize, header: Header, payload: &[u8]) {
        let segment = Segment { header, payload };
        self.endpoint
            .input(self.now, &key(index), (), &segment, &mut self.out);
    }

    /// Nanoseconds to write a segment of this size.
    fn wire_only(&mut self) -> f64 {
        let start = time::Instant::now();
        let header = header(Flags::ACK, Seq(1), Seq(1), 1);
        for _ in 0..ROUNDS {
            self.out.sent.clear();
            self.out.send(&key(1), &(), &header, Payload::default());
            std::hint::black_box(wire::parse(&self.out.buffer)).ok();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS)
    }

    fn own_bytes(&self) -> usize {
        self.peers.capacity() * size_of::<Peer>()
            + self.out.buffer.capacity()
            + self.out.sent.capacity() * size_of::<Header>()
    }

    /// A step of a generator whose period is the number of peers, a power of two (Hull and Dobell 1962).
    fn next(&mut self) -> usize {
        let step = self.last.wrapping_mul(6_364_136_223_846_793_005);
        self.last = step.wrapping_add(1_442_695_040_888_963_407) % self.peers.len();
        self.last
    }
}

fn header(flags: Flags, seq: Seq, ack: Seq, echo: u32) -> Header {
    Header {
        seq,
        ack,
        flags,
        window: 500,
        options: Options {
            timestamps: Some(Timestamps { value: 1, echo }),
            ..Options::default()
        },
    }
}

fn local() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 443))
}

#[expect(clippy::cast_possible_truncation, reason = "bits of an index")]
fn key(index: usize) -> FlowKey {
    let port = 1024 + (index & 0x3fff) as u16;
    let host = [
        10,
        (index >> 30) as u8,
        (index >> 22) as u8,
        (index >> 14) as u8,
    ];
    FlowKey {
        local: local(),
        remote: SocketAddr::from((host, port)),
    }
}

/// Counts what is asked of the system's allocator.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

#[expect(
    unsafe_code,
    reason = "JUSTIFICATION: there is no safe way to see what is allocated, and this is a program that measures"
)]
// SAFETY: every call is the system allocator's; counting touches nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}
