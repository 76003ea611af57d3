//! Whatever happens in whatever order, no byte is lost and every sum holds.
//!
//! The peer is honest about bytes (it acknowledges what it has) but may be told to lie in blocks, to forget what
//! it had sacked, and to shrink its window. Sums and cursors are checked after every call (`Rig::check`).

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Write(u32),
    /// Segments leave; bit n says whether the n-th of them arrives.
    Send(u32),
    /// The peer acknowledges what it has.
    Ack,
    /// The same with a block of its own invention, from SND.UNA on.
    Lie(u32, u32),
    /// An acknowledgement as it was some time ago.
    OldAck(usize),
    Pass(u64),
    Fire,
    Window(u32),
    Mss(usize),
    /// The peer forgets what it has behind a gap.
    Renege,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..20_000_u32).prop_map(Step::Write),
        6 => any::<u32>().prop_map(Step::Send),
        3 => Just(Step::Send(u32::MAX)),
        6 => Just(Step::Ack),
        1 => (0..30_000_u32, 0..30_000_u32).prop_map(|(start, end)| Step::Lie(start, end)),
        1 => (0..8_usize).prop_map(Step::OldAck),
        4 => (0..300_u64).prop_map(Step::Pass),
        2 => Just(Step::Fire),
        1 => prop_oneof![Just(0), 0..3000_u32, Just(1 << 24)].prop_map(Step::Window),
        1 => (400..1000_usize).prop_map(Step::Mss),
        1 => Just(Step::Renege),
        1 => Just(Step::Close),
    ]
}

/// The other side: which numbers have arrived, as ranges in order that do not touch.
#[derive(Default)]
struct Peer {
    ranges: Vec<(u32, u32)>,
    history: Vec<(u32, Vec<(u32, u32)>)>,
}

impl Peer {
    fn take(&mut self, start: u32, end: u32) {
        if start == end {
            return;
        }
        self.ranges.push((start, end));
        self.ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for &(start, end) in &self.ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        self.ranges = merged;
    }

    /// What it acknowledges, and the first blocks behind.
    fn says(&mut self) -> (u32, Vec<(u32, u32)>) {
        let next = match self.ranges.first() {
            Some(&(0, end)) => end,
            _ => 0,
        };
        let blocks = self.ranges.iter().copied().filter(|r| r.0 > next);
        let said = (next, blocks.take(4).collect::<Vec<_>>());
        self.history.push(said.clone());
        said
    }

    fn renege(&mut self) {
        self.ranges.retain(|r| r.0 == 0);
    }
}

/// A sender, its peer, and what was written so far.
struct World {
    rig: Rig,
    peer: Peer,
    written: u32,
    closed: bool,
    una: Seq,
}

impl World {
    fn new(sack: bool) -> Self {
        let rig = Rig::opened(Config::default(), sack);
        let una = rig.sender.una();
        Self {
            rig,
            peer: Peer::default(),
            written: 0,
            closed: false,
            una,
        }
    }

    /// Does a step; false when the peer was given up.
    fn step(&mut self, step: &Step) -> bool {
        match *step {
            Step::Write(len) => self.write(len),
            Step::Send(arrives) => {
                self.send(arrives);
            }
            Step::Ack => self.ack(),
            Step::Lie(start, end) => {
                let (next, mut blocks) = self.peer.says();
                blocks.truncate(2);
                blocks.insert(0, (next.wrapping_add(start), next.wrapping_add(end)));
                self.rig.sack(next, &blocks);
            }
            Step::OldAck(back) => {
                let history = &self.peer.history;
                if let Some((next, blocks)) = history.iter().rev().nth(back).cloned() {
                    self.rig.sack(next, &blocks);
                }
            }
            Step::Pass(ms) => self.rig.pass(ms),
            Step::Fire => return self.fire(),
            Step::Window(window) => {
                self.rig.window = window;
                self.rig.peer += 1;
                self.ack();
            }
            Step::Mss(mss) => self.rig.sender.reduce_mss(mss, &mut world!(self.rig)),
            Step::Renege => self.peer.renege(),
            Step::Close => {
                self.rig.sender.close();
                self.closed = true;
            }
        }
        self.check();
        true
    }

    fn write(&mut self, len: u32) {
        let bytes: Vec<u8> = (self.written..self.written + len).map(pattern).collect();
        let count = self.rig.sender.write(&bytes, &mut world!(self.rig));
        assert!(!self.closed || count == 0);
        self.written += u32::try_from(count).unwrap();
    }

    /// How many segments left.
    fn send(&mut self, arrives: u32) -> u32 {
        let mut count = 0;
        while let Some(sent) = self.rig.poll() {
            let start = sent.seq.since(Rig::seq(0));
            let len = u32::try_from(sent.len).unwrap();
            let payload = self.rig.sender.payload(&sent);
            for (offset, byte) in (0..len).zip(payload.slices().flatten()) {
                assert_eq!(
                    *byte,
                    pattern(start + offset),
                    "other bytes than were written"
                );
            }
            assert!(sent.len <= self.rig.sender.mss());
            let ends = len > 0 && start + len == self.written;
            assert!(sent.push == ends && (!sent.fin || start + len == self.written));
            let end = start.wrapping_add(len) + u32::from(sent.fin);
            if arrives >> (count % 32) & 1 == 1 && start <= end {
                self.peer.take(start, end);
            }
            count += 1;
            assert!(count < 10_000, "never ends");
        }
        count
    }

    fn ack(&mut self) {
        let (next, blocks) = self.peer.says();
        self.rig.sack(next, &blocks);
    }

    fn fire(&mut self) -> bool {
        self.rig.sender.next_timer().is_none() || self.rig.fire() == Expiry::Handled
    }

    fn check(&mut self) {
        let sender = &self.rig.sender;
        assert!(!sender.una().precedes(self.una), "SND.UNA went back");
        self.una = sender.una();
        assert!(
            !sender
                .nxt()
                .follows(Rig::seq(self.written) + u32::from(self.closed))
        );
        let (next, _) = self.peer.says();
        assert!(
            !self.una.follows(Rig::seq(next)),
            "acknowledged and not received"
        );
        assert_eq!(sender.unacked() + sender.unsent(), sender.queued());
    }

    /// From now on nothing is lost: everything arrives, in a bounded number of steps.
    fn heal(&mut self) -> bool {
        self.rig.window = 1 << 24;
        self.rig.peer += 1;
        for _ in 0..400 {
            let sent = self.send(u32::MAX);
            self.rig.pass(50);
            self.ack();
            self.check();
            if self.rig.sender.is_idle() {
                return true;
            }
            if sent == 0 && !self.rig.sender.wants_output(&world!(self.rig)) {
                assert!(self.rig.sender.next_timer().is_some(), "stuck");
                if !self.fire() {
                    return false;
                }
            }
        }
        panic!("not over: {:?}", self.rig.info());
    }
}

fn pattern(offset: u32) -> u8 {
    u8::try_from(offset % 251).unwrap()
}

proptest! {
    #[test]
    fn no_byte_is_lost(sack: bool, steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(sack);
        if !steps.iter().all(|step| world.step(step)) {
            return Ok(());
        }
        if world.heal() {
            let end = world.written + u32::from(world.closed);
            prop_assert_eq!(world.peer.says().0, end);
            prop_assert_eq!(world.rig.pool.lent(), 0);
            prop_assert_eq!(world.rig.sender.fin_is_acked(), world.closed);
        }
    }
}
