//! What a peer does, and what it is told then. Numbers of text count from the first byte of the stream.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::{Config, Counters, Pool};

mod acknowledge;
mod blocks;
mod finish;
mod stream;
mod window;

/// Near the wrap of sequence numbers.
const IRS: Seq = Seq(u32::MAX - 5000);

/// A receiver with all that it needs.
struct Side {
    config: Config,
    pool: Pool,
    counters: Counters,
    now: Instant,
    receiver: Receiver,
}

impl Side {
    fn new() -> Self {
        Self::with(Config::default(), Pool::new(64 << 20))
    }

    fn with(config: Config, mut pool: Pool) -> Self {
        let mut counters = Counters::default();
        let now = Instant::from_micros(1_000_000);
        let env = Env {
            now,
            config: &config,
            pool: &mut pool,
            counters: &mut counters,
        };
        let receiver = Receiver::new(IRS, config.window_scale, config.sack, &env);
        Self {
            config,
            pool,
            counters,
            now,
            receiver,
        }
    }

    /// One whose first acknowledgements, which don't wait, are over.
    fn settled() -> Self {
        let mut side = Self::new();
        for _ in 0..16 {
            side.acknowledge();
        }
        side
    }

    fn run<T>(&mut self, work: impl FnOnce(&mut Receiver, &mut Env<'_>) -> T) -> T {
        let mut env = Env {
            now: self.now,
            config: &self.config,
            pool: &mut self.pool,
            counters: &mut self.counters,
        };
        work(&mut self.receiver, &mut env)
    }

    /// Bytes `start..end` of the stream arrive.
    fn text(&mut self, start: u32, end: u32) -> Arrival {
        self.segment(start, end, false)
    }

    fn segment(&mut self, start: u32, end: u32, fin: bool) -> Arrival {
        let bytes = stream(start, end);
        self.run(|receiver, env| receiver.on_segment(seq(start), &bytes, fin, env))
    }

    /// Reads at most `len` bytes, which are the next ones of the stream.
    fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let count = self.run(|receiver, env| receiver.read(&mut bytes, env));
        bytes.truncate(count);
        bytes
    }

    fn acknowledge(&mut self) -> Acknowledgement {
        self.run(Receiver::acknowledgement)
    }

    /// The number acknowledged and the blocks told, in bytes of the stream.
    fn told(&mut self) -> (u32, Vec<(u32, u32)>) {
        let told = self.acknowledge();
        let blocks = told.sack.as_slice().iter();
        let blocks = blocks.map(|block| (place(block.start), place(block.end)));
        (place(told.ack), blocks.collect())
    }

    /// The right edge that is told now, as the peer computes it.
    fn edge(&mut self) -> u32 {
        let told = self.acknowledge();
        place(told.ack) + (u32::from(told.window) << self.config.window_scale)
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.run(Receiver::on_timer);
    }
}

/// Sequence number of a byte of the stream.
fn seq(place: u32) -> Seq {
    IRS + 1 + place
}

/// Byte of the stream that has a sequence number.
fn place(seq: Seq) -> u32 {
    seq.since(IRS + 1)
}

/// The stream: bytes that tell their place.
fn stream(start: u32, end: u32) -> Vec<u8> {
    let byte = |place: u32| place.wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
    (start..end).map(byte).collect()
}

#[test]
fn text_in_order_is_read_and_its_memory_goes_back() {
    let mut side = Side::new();
    assert_eq!(side.text(0, 1448).readable, 1448);
    assert_eq!(side.text(1448, 6000).readable, 4552);
    assert_eq!(side.receiver.readable(), 6000);
    assert_eq!(side.told(), (6000, vec![]));
    assert_eq!(side.read(100), stream(0, 100));
    assert_eq!(side.read(10_000), stream(100, 6000));
    assert_eq!((side.pool.lent(), side.read(1).len()), (0, 0));
}

#[test]
fn text_behind_a_gap_is_kept_where_it_will_be_read() {
    let mut side = Side::new();
    assert_eq!(side.text(3000, 5000), Arrival::default());
    assert_eq!(side.text(1000, 2000), Arrival::default());
    assert_eq!(side.text(0, 1000).readable, 2000);
    assert_eq!(side.read(500), stream(0, 500));
    assert_eq!(side.text(1500, 3500).readable, 3000);
    assert_eq!(side.read(9000), stream(500, 5000));
    assert_eq!((side.pool.lent(), side.counters.ofo_queue), (0, 2));
}

#[test]
fn without_memory_a_segment_is_dropped_and_not_acknowledged() {
    let mut side = Side::with(Config::default(), Pool::new(2 * 4096));
    side.text(0, 4000);
    assert_eq!(side.told(), (4000, vec![]));
    assert_eq!(side.text(4000, 9000), Arrival::default());
    assert!(!side.receiver.ack_is_due() && side.receiver.next_timer().is_none());
    side.text(8000, 8200);
    assert_eq!(side.told(), (4000, vec![]), "not told, since not kept");
    side.segment(4000, 8193, true);
    assert_eq!((side.counters.rcvq_drop, side.counters.ofo_queue), (3, 0));
    assert_eq!(side.told().0, 4000);
    assert_eq!(side.receiver.export().fin, None, "nor its FIN");
    assert_eq!(side.pool.lent(), 4096, "none is held without text");
    assert_eq!(side.read(4000), stream(0, 4000));
    let arrival = side.segment(4000, 8193, true);
    assert_eq!((arrival.readable, arrival.finished), (4193, true));
    assert_eq!(side.read(9000), stream(4000, 8193));
}

#[test]
fn one_gap_too_many_is_dropped_and_counted() {
    let mut side = Side::new();
    let most = u32::try_from(ranges::MAX).unwrap();
    for number in 1..=most + 1 {
        side.text(number * 10, number * 10 + 1);
    }
    assert_eq!(side.counters.ofo_queue, u64::from(most));
    assert_eq!(side.counters.ofo_drop, 1);
    assert_eq!(side.receiver.out_of_order().len(), ranges::MAX);
    assert_eq!(side.text(0, 10).readable, 11);
    side.text((most + 1) * 10, (most + 1) * 10 + 1);
    assert_eq!(side.receiver.out_of_order().len(), ranges::MAX);
}

#[test]
fn the_window_is_what_is_acceptable() {
    let mut side = Side::new();
    side.text(0, 1000);
    let edge = side.edge();
    for (start, len, acceptable) in [
        (1000, 0, true),
        (999, 0, false),
        (999, 1, false),
        (999, 2, true),
        (0, 1000, false),
        (0, 1001, true),
        (0, edge + 10, true),
        (edge - 1, 1, true),
        (edge - 1, 1000, true),
        // At the edge: an acknowledgement of a peer that has filled the window, or a FIN.
        (edge, 0, true),
        (edge, 1, true),
        (edge + 1, 0, false),
        (edge + 1, 1, false),
        (1 << 31, 1, false),
    ] {
        let accepted = side.receiver.is_acceptable(seq(start), len);
        assert_eq!(accepted, acceptable, "{start} {len}");
    }
}

#[test]
fn text_outside_the_window_is_cut_off() {
    let mut side = Side::new();
    let edge = side.edge();
    assert_eq!(side.text(edge, edge + 100), Arrival::default());
    assert!(side.receiver.ack_is_due());
    assert_eq!(side.segment(0, edge + 100, true).readable, edge as usize);
    assert!(!side.receiver.is_finished(), "the FIN was cut off, too");
    assert_eq!(side.read(100_000), stream(0, edge));
}

#[test]
fn nobody_reads_any_more() {
    let mut side = Side::new();
    side.text(0, 1000);
    side.text(2000, 3000);
    side.run(Receiver::clear);
    assert_eq!((side.pool.lent(), side.receiver.readable()), (0, 0));
    assert_eq!(side.text(1000, 2000), Arrival::default());
    assert_eq!(side.told(), (3000, vec![]));
    assert_eq!(side.segment(3000, 100_000, true), Arrival::default());
    assert_eq!(side.told(), (68_536, vec![]), "within the window");
    assert!(side.segment(68_536, 100_000, true).finished);
    assert_eq!((side.pool.lent(), side.read(10).len()), (0, 0));
}

#[test]
fn another_engine_goes_on_where_one_was_stopped() {
    let mut side = Side::new();
    side.text(0, 5000);
    side.read(1000);
    side.text(6000, 7000);
    side.segment(9000, 10_000, true);
    let told = side.acknowledge();
    let snapshot = side.receiver.export();
    assert_eq!(snapshot.unread, stream(1000, 5000));
    let kept = [
        (seq(6000), stream(6000, 7000)),
        (seq(9000), stream(9000, 10_000)),
    ];
    assert_eq!(snapshot.out_of_order, kept);
    assert_eq!((snapshot.nxt, snapshot.last_ack_sent), (told.ack, told.ack));
    assert_eq!(snapshot.fin, Some(seq(10_000)));
    let window = u32::from(told.window) << side.config.window_scale;
    assert_eq!(snapshot.edge, told.ack + window);

    let mut other = Side::new();
    other.receiver = other
        .run(|_, env| Receiver::import(&snapshot, env))
        .unwrap();
    assert_eq!(other.receiver.export(), snapshot);
    assert_eq!(other.told(), (5000, vec![(9000, 10_001), (6000, 7000)]));
    assert_eq!(other.text(5000, 6000).readable, 2000);
    let arrival = other.text(7000, 9000);
    assert_eq!((arrival.readable, arrival.finished), (3000, true));
    assert_eq!(other.told(), (10_001, vec![]));
    assert_eq!(other.read(20_000), stream(1000, 10_000));
}

#[test]
fn a_snapshot_tells_what_was_acknowledged_and_a_fin_without_text() {
    let mut side = Side::new();
    side.text(0, 100);
    side.acknowledge();
    side.text(100, 200);
    side.segment(300, 300, true);
    let snapshot = side.receiver.export();
    assert_eq!(snapshot.last_ack_sent, seq(100));
    assert_eq!(
        (snapshot.fin, snapshot.out_of_order.len()),
        (Some(seq(300)), 0)
    );
    let import = |_: &mut Receiver, env: &mut Env<'_>| Receiver::import(&snapshot, env);
    let mut other = Side::new();
    other.receiver = other.run(import).unwrap();
    assert_eq!(other.receiver.last_ack_sent(), seq(100));
    assert!(other.text(200, 300).finished);
}

#[test]
fn a_snapshot_that_does_not_fit_leaves_nothing_behind() {
    let mut side = Side::new();
    side.text(0, 5000);
    side.text(6000, 7000);
    let snapshot = side.receiver.export();
    let import = |snapshot: &ReceiverSnapshot, memory| {
        let mut other = Side::with(Config::default(), Pool::new(memory));
        let imported = other.run(|_, env| Receiver::import(snapshot, env));
        assert!(imported.is_some() || other.pool.lent() == 0);
        imported.is_some()
    };
    assert!(import(&snapshot, 8192));
    assert!(!import(&snapshot, 4096));
    for impossible in [seq(5000), seq(4000), snapshot.edge - 10] {
        let mut snapshot = snapshot.clone();
        snapshot.out_of_order[0].0 = impossible;
        assert!(!import(&snapshot, 1 << 20), "{impossible:?}");
    }
}

/// What a segment costs:
/// `LB_ROUNDS=2000000 cargo test --release -p lb-tcp --lib receive::tests::speed -- --nocapture`.
#[test]
fn speed() {
    let rounds = crate::rounds();
    let bytes = stream(0, 1448);
    let mut into = vec![0; 1 << 16];
    let mut figure = |name, order: [u32; 4]| {
        let mut side = Side::new();
        let start = std::time::Instant::now();
        for round in 0..rounds / 4 {
            side.run(|receiver, env| {
                for place in order {
                    let seq = seq((round * 4 + place) * 1448);
                    receiver.on_segment(seq, &bytes, false, env);
                    if receiver.ack_is_due() {
                        receiver.acknowledgement(env);
                    }
                }
                assert_eq!(receiver.read(&mut into, env), 4 * 1448);
            });
        }
        let nanos = start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds);
        std::println!("{name}: {nanos:.0} ns a segment, copied in and out");
    };
    figure("in order", [0, 1, 2, 3]);
    figure("out of order", [3, 1, 2, 0]);
}
