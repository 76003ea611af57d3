//! A sender against a peer that says what a test wants it to.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::segment::SeqRange;
use crate::{Config, Counters, Pool};

mod loss;
mod properties;
mod rules;
mod tail;
mod timeout;

/// Payload of a full segment here: numbers are easy to read.
const MSS: u32 = 1000;

/// Our initial sequence number, close to the wrap.
const ISS: Seq = Seq(u32::MAX - 5_000);

/// A sender and its world.
struct Rig {
    config: Config,
    pool: Pool,
    counters: Counters,
    now: Instant,
    sender: Sender,
    /// SEG.SEQ of the peer.
    peer: Seq,
    window: u32,
    /// Whether acknowledgements echo timestamps; then the echo in milliseconds.
    echo: Option<u64>,
}

macro_rules! world {
    ($rig:expr) => {
        Env {
            now: $rig.now,
            config: &$rig.config,
            pool: &mut $rig.pool,
            counters: &mut $rig.counters,
        }
    };
}
use world;

impl Rig {
    /// A sender whose handshake is still to come.
    fn closed(config: Config) -> Self {
        let mut pool = Pool::new(1 << 26);
        let mut counters = Counters::default();
        let now = Instant::from_micros(10_000_000);
        let env = Env {
            now,
            config: &config,
            pool: &mut pool,
            counters: &mut counters,
        };
        let sender = Sender::new(ISS, MSS as usize, true, &env);
        Self {
            config,
            pool,
            counters,
            now,
            sender,
            peer: Seq(77),
            window: 1 << 24,
            echo: None,
        }
    }

    /// A connection whose handshake took 100 ms, with SACK.
    fn open() -> Self {
        Self::opened(Config::default(), true)
    }

    fn opened(config: Config, sack: bool) -> Self {
        let mut rig = Self::closed(config);
        let syn = rig.poll().expect("a SYN");
        assert!(syn.syn && syn.len == 0 && syn.seq == ISS);
        rig.pass(100);
        rig.sender.negotiated(MSS as usize, sack, 0);
        rig.ack(0);
        assert!(rig.sender.syn_is_acked());
        rig
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// The number of byte `offset`.
    fn seq(offset: u32) -> Seq {
        ISS + 1 + offset
    }

    fn write(&mut self, len: u32) {
        let bytes = vec![7; len as usize];
        assert_eq!(self.sender.write(&bytes, &mut world!(self)), len as usize);
    }

    fn poll(&mut self) -> Option<Transmission> {
        let wanted = self.sender.wants_output(&world!(self));
        let transmission = self.sender.poll_transmit(&mut world!(self));
        assert!(wanted || transmission.is_none(), "not announced");
        self.check();
        transmission
    }

    /// What leaves now: offsets and lengths.
    fn send(&mut self) -> Vec<(u32, usize)> {
        let mut sent = Vec::new();
        while let Some(transmission) = self.poll() {
            assert_eq!(self.sender.payload(&transmission).len(), transmission.len);
            sent.push((transmission.seq.since(Self::seq(0)), transmission.len));
            assert!(sent.len() < 20_000, "never ends");
        }
        sent
    }

    /// Writes `count` full segments and sends them.
    fn flight(&mut self, count: u32) {
        self.write(count * MSS);
        let sent = self.send();
        assert_eq!(sent.len(), count as usize, "{sent:?}");
    }

    fn ack(&mut self, offset: u32) {
        self.sack(offset, &[]);
    }

    /// An acknowledgement up to `offset`, with blocks of offsets.
    fn sack(&mut self, offset: u32, blocks: &[(u32, u32)]) {
        let mut sack = SackBlocks::default();
        for &(start, end) in blocks {
            sack.push(SeqRange {
                start: Self::seq(start),
                end: Self::seq(end),
            });
        }
        let ack = Ack {
            ack: Self::seq(offset),
            seq: self.peer,
            window: self.window,
            sack: &sack,
            round_trip: self
                .echo
                .map(|echo| Duration::from_millis(u64::from(self.now.millis()) - echo)),
            carries_data: false,
        };
        self.sender.on_ack(&ack, &mut world!(self));
        self.check();
    }

    /// Waits for the next timer and lets it fire.
    fn fire(&mut self) -> Expiry {
        self.now = self.sender.next_timer().expect("a timer").max(self.now);
        let expiry = self.sender.on_timer(&mut world!(self));
        self.check();
        expiry
    }

    /// When the next timer fires, in milliseconds from now.
    fn timer(&self) -> Option<u64> {
        let at = self.sender.next_timer()?;
        Some(u64::try_from(at.since(self.now).as_millis()).unwrap())
    }

    fn info(&mut self) -> Info {
        self.sender.info(&world!(self))
    }

    /// What holds after every call.
    fn check(&self) {
        self.sender.records.check();
        let sender = &self.sender;
        assert!(!sender.end.precedes(sender.una() - 1));
        assert!(
            sender.records.is_empty() || sender.late.at().is_some(),
            "something is in flight and no timer runs"
        );
    }
}
