//! Any segments in any order: the stream arrives whole, and all that is told is true.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Bytes of a stream: less than twice the window, up to which its edge never retreats.
const LEN: u32 = 16_000;

/// The window.
const WINDOW: usize = 9000;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A segment of so many bytes, that far from what is missing first.
    Segment {
        ahead: i32,
        len: u32,
    },
    Read(usize),
    Acknowledge,
    /// Another engine goes on.
    Move,
}

fn any_step() -> impl Strategy<Value = Step> {
    let segment = |ahead, len| (ahead, len).prop_map(|(ahead, len)| Step::Segment { ahead, len });
    prop_oneof![
        8 => segment(-1000..4000_i32, 1..500_u32),
        2 => segment(-100..100_i32, 1..100_u32),
        2 => segment(-9000..12_000_i32, 1..12_000_u32),
        3 => (1..5000_usize).prop_map(Step::Read),
        4 => Just(Step::Acknowledge),
        1 => Just(Step::Move),
    ]
}

/// A receiver beside what a peer knows of it.
struct Model {
    side: Side,
    /// Bytes that were delivered within the window.
    kept: Vec<bool>,
    /// First byte that is missing.
    nxt: u32,
    read: u32,
    /// The right edge as told.
    edge: u32,
    /// Place of the segment that came last.
    last: Option<u32>,
}

impl Model {
    fn new() -> Self {
        let config = Config {
            receive_window: WINDOW,
            ..Config::default()
        };
        let mut side = Side::with(config, Pool::new(1 << 20));
        Self {
            edge: side.edge(),
            side,
            kept: vec![false; LEN as usize],
            nxt: 0,
            read: 0,
            last: None,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Segment { ahead, len } => {
                let start = self.nxt.saturating_add_signed(ahead).min(LEN - 1);
                self.segment(start, LEN.min(start + len));
            }
            Step::Read(len) => self.read(len),
            Step::Acknowledge => self.acknowledge(),
            Step::Move => {
                let snapshot = self.side.receiver.export();
                self.side.run(Receiver::clear);
                let import = |_: &mut Receiver, env: &mut Env<'_>| Receiver::import(&snapshot, env);
                self.side.receiver = self.side.run(import).unwrap();
                self.last = None;
            }
        }
        assert_eq!(self.side.receiver.nxt(), seq(self.nxt));
        let readable = (self.nxt - self.read) as usize;
        assert_eq!(self.side.receiver.readable(), readable);
    }

    fn segment(&mut self, start: u32, end: u32) {
        let before = self.nxt;
        let acceptable = self.side.receiver.is_acceptable(seq(start), end - start);
        assert_eq!(acceptable, end > before && start <= self.edge);
        if !acceptable {
            return;
        }
        let arrival = self.side.text(start, end);
        for place in start..end.min(self.edge) {
            self.kept[place as usize] = true;
        }
        while self.kept.get(self.nxt as usize) == Some(&true) {
            self.nxt += 1;
        }
        self.last = (start < self.edge).then_some(start.max(before));
        assert_eq!(arrival.readable, (self.nxt - before) as usize);
    }

    fn read(&mut self, len: usize) {
        let bytes = self.side.read(len);
        let end = self.read + u32::try_from(bytes.len()).unwrap();
        assert_eq!(bytes, stream(self.read, end));
        self.read = end;
    }

    fn acknowledge(&mut self) {
        let twice = self.side.receiver.duplicate.is_some();
        let (ack, blocks) = self.side.told();
        assert_eq!(ack, self.nxt);
        if twice {
            let (start, end) = blocks[0];
            assert!(start < end && (start..end).all(|place| self.kept[place as usize]));
        }
        self.check_blocks(ack, &blocks[usize::from(twice)..], twice);
        let edge = ack + self.side.receiver.wnd();
        assert_eq!(edge, self.side.edge(), "what is told is what is accepted");
        assert!(edge >= self.edge, "{edge} < {}", self.edge);
        self.edge = edge;
    }

    /// Blocks are runs of kept bytes, as long as they are, none twice, all if there is room, and that of the last segment first.
    fn check_blocks(&self, ack: u32, blocks: &[(u32, u32)], twice: bool) {
        let kept = |place: u32| self.kept.get(place as usize).copied().unwrap_or(false);
        for &(start, end) in blocks {
            assert!(ack < start && start < end, "{start} {end}");
            assert!((start..end).all(kept) && !kept(start - 1) && !kept(end));
        }
        let runs = (ack + 1..LEN).filter(|&place| kept(place) && !kept(place - 1));
        let distinct: BTreeSet<_> = blocks.iter().collect();
        assert_eq!(distinct.len(), runs.count().min(4 - usize::from(twice)));
        if let Some(last) = self.last.filter(|&last| last > ack) {
            let (start, end) = blocks[0];
            assert!((start..end).contains(&last), "{last} is not in {blocks:?}");
        }
    }

    /// The peer sends what is missing until nothing is.
    fn finish(mut self) {
        while self.read < LEN {
            let start = self.nxt;
            if start < LEN {
                self.segment(start, LEN.min(start + 1448));
            }
            self.read(LEN as usize);
            self.acknowledge();
        }
        assert_eq!(self.side.pool.lent(), 0);
        assert!(self.side.receiver.out_of_order().is_empty());
    }
}

proptest! {
    #[test]
    fn the_stream_arrives_whole_and_what_is_told_is_true(
        steps in prop::collection::vec(any_step(), 0..80),
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.finish();
    }

    #[test]
    fn scarce_memory_costs_time_and_no_byte(
        segments in prop::collection::vec((0..30_000_u32, 1..9000_u32, any::<bool>()), 0..60),
        chunks in 3..6_usize,
    ) {
        let mut side = Side::with(Config::default(), Pool::new(chunks * 4096));
        let mut read = 0;
        let mut told = 0;
        for (start, len, reads) in segments {
            let end = 30_000.min(start + len);
            side.segment(start, end, end == 30_000);
            prop_assert!(side.pool.lent() <= chunks * 4096);
            let ack = side.told().0;
            prop_assert!(ack >= told);
            told = ack;
            if reads {
                let bytes = side.read(5000);
                let end = read + u32::try_from(bytes.len()).unwrap();
                prop_assert_eq!(bytes, stream(read, end));
                read = end;
            }
        }
        // What is kept behind gaps is kept for good, so there may be no memory for a gap; what was read has its own.
        let text = side.receiver.export();
        let kept: usize = text.out_of_order.iter().map(|(_, bytes)| bytes.len()).sum();
        prop_assert!(text.unread.len() + kept <= chunks * 4096);
        prop_assert_eq!(text.unread, stream(read, told.min(30_000)));
        for (first, bytes) in text.out_of_order {
            let start = place(first);
            prop_assert_eq!(&bytes, &stream(start, start + u32::try_from(bytes.len()).unwrap()));
        }
    }
}
