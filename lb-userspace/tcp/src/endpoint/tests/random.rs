//! Whatever peers send and users do, in whatever order: the endpoint's books are right, and at the end nothing is left.

use std::collections::BTreeMap;
use std::vec;

use proptest::prelude::*;

use super::*;

const PORTS: u16 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A segment with numbers that are right, or off by something.
    Segment {
        port: u16,
        flags: u8,
        seq_off: i32,
        ack_off: i32,
        len: usize,
    },
    Accept,
    Read(usize),
    Write(usize, usize),
    Shutdown(usize),
    Abort(usize),
    Release(usize),
    Export(usize),
    Icmp(u16, usize),
    Sleep(u64),
    Output(usize),
    Relisten,
}

fn step() -> impl Strategy<Value = Step> {
    let off = prop_oneof![8 => Just(0), 1 => -3000..3000_i32, 1 => any::<i32>()];
    let flags = prop_oneof![
        2 => Just(Flags::SYN.0),
        6 => Just(Flags::ACK.0),
        2 => Just(FIN_ACK.0),
        1 => prop_oneof![Just(Flags::RST.0), Just(RST_ACK.0)],
        1 => any::<u8>(),
    ];
    let len = prop_oneof![Just(0), Just(0), 1..3000_usize];
    let segment = (1..=PORTS, flags, off.clone(), off, len).prop_map(
        |(port, flags, seq_off, ack_off, len)| Step::Segment {
            port,
            flags,
            seq_off,
            ack_off,
            len,
        },
    );
    prop_oneof![
        12 => segment,
        2 => Just(Step::Accept),
        2 => any::<usize>().prop_map(Step::Read),
        3 => (any::<usize>(), 0..40_000_usize).prop_map(|(n, len)| Step::Write(n, len)),
        1 => any::<usize>().prop_map(Step::Shutdown),
        1 => any::<usize>().prop_map(Step::Abort),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Export),
        1 => (1..=PORTS, 0..3000_usize).prop_map(|(port, mtu)| Step::Icmp(port, mtu)),
        3 => prop_oneof![0..50_u64, 0..100_000_u64].prop_map(Step::Sleep),
        6 => prop_oneof![Just(0), Just(1), Just(1000)].prop_map(Step::Output),
        1 => Just(Step::Relisten),
    ]
}

/// What each peer would say next: behind what it said, and of all that it heard.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    seq: Seq,
    ack: Seq,
}

struct World {
    bench: Bench,
    peers: BTreeMap<u16, Numbers>,
    held: Vec<FlowId>,
}

impl World {
    fn new() -> Self {
        let bench = Bench::new(Config {
            backlog: 3,
            max_flows: 6,
            memory: 256 << 10,
            max_time_wait: 3,
            ..Config::default()
        });
        Self {
            bench,
            peers: BTreeMap::new(),
            held: Vec::new(),
        }
    }

    fn hear(&mut self, sent: &[Sent]) {
        for sent in sent {
            let peer = self.peers.entry(sent.key.remote.port()).or_default();
            let flags = sent.header.flags;
            let len = sent.payload.len()
                + usize::from(flags.has(Flags::SYN))
                + usize::from(flags.has(Flags::FIN));
            peer.ack = sent.header.seq + u32::try_from(len).unwrap();
        }
    }

    fn take(&mut self, step: Step) {
        let pick = |held: &[FlowId], n: usize| (!held.is_empty()).then(|| n % held.len());
        let endpoint = &mut self.bench.endpoint;
        match step {
            Step::Segment {
                port,
                flags,
                seq_off,
                ack_off,
                len,
            } => self.segment(port, Flags(flags), (seq_off, ack_off), len),
            Step::Accept => self
                .held
                .extend(endpoint.accept(&server()).map(|(id, _)| id)),
            Step::Read(n) => {
                if let Some(n) = pick(&self.held, n) {
                    let _ = endpoint.read(&self.held[n], &mut [0; 2000]);
                }
            }
            Step::Write(n, len) => {
                if let Some(n) = pick(&self.held, n) {
                    let _ = endpoint.write(&self.held[n], &vec![1; len]);
                }
            }
            Step::Shutdown(n) => {
                if let Some(n) = pick(&self.held, n) {
                    endpoint.shutdown(&self.held[n]);
                }
            }
            Step::Abort(n) => {
                if let Some(n) = pick(&self.held, n) {
                    endpoint.abort(&self.held[n]);
                }
            }
            Step::Release(n) => {
                if let Some(n) = pick(&self.held, n) {
                    endpoint.release(self.held.swap_remove(n));
                }
            }
            Step::Export(n) => {
                if let Some(n) = pick(&self.held, n) {
                    match endpoint.export(self.held.swap_remove(n)) {
                        Ok(exported) => self.held.extend(endpoint.import(exported)),
                        Err(id) => self.held.push(id),
                    }
                }
            }
            Step::Icmp(port, mtu) => {
                let quoted = self.peers.get(&port).map_or(Seq(0), |peer| peer.ack - 1);
                let message = if mtu < 500 {
                    Icmp::Unreachable
                } else {
                    Icmp::TooBig { mtu }
                };
                endpoint.icmp(self.bench.now, &key(port), quoted, message);
            }
            Step::Sleep(millis) => {
                let sent = self.bench.sleep(Duration::from_millis(millis));
                self.hear(&sent);
            }
            Step::Output(room) => {
                self.bench.wire.room = room;
                let sent = self.bench.output();
                self.bench.wire.room = 10_000;
                self.hear(&sent);
            }
            Step::Relisten => {
                endpoint.unlisten(&server());
                endpoint.listen(server(), Told::default()).unwrap();
            }
        }
    }

    fn segment(&mut self, port: u16, flags: Flags, off: (i32, i32), len: usize) {
        let peer = self.peers.entry(port).or_default();
        let seq = peer.seq.0.wrapping_add_signed(off.0);
        let ack = peer.ack.0.wrapping_add_signed(off.1);
        let segment = Segment {
            header: header(flags, seq, ack),
            payload: &vec![2; len],
        };
        if off.0 == 0 && !flags.has(Flags::RST) {
            peer.seq = Seq(seq) + segment.len();
        }
        self.bench.endpoint.input(
            self.bench.now,
            &key(port),
            1,
            &segment,
            &mut self.bench.wire,
        );
        let sent = core::mem::take(&mut self.bench.wire.sent);
        self.hear(&sent);
    }

    /// The invariants of the module.
    fn check(&mut self) {
        let endpoint = &mut self.bench.endpoint;
        let (mut indexed, mut half_open, mut lined) = (0, 0, 0);
        let listener = endpoint.listeners.get_mut(&server()).unwrap();
        let serial = listener.serial;
        let places_taken = listener.half_open();
        let env = endpoint.shared.env();
        for (id, flow) in endpoint.flows.iter_mut() {
            indexed += usize::from(flow.is_indexed);
            half_open += usize::from(flow.owner == Owner::Handshake(serial));
            lined += usize::from(flow.is_in_line);
            assert!(!flow.is_in_line || endpoint.line.contains(&id));
            assert!(flow.is_indexed || matches!(flow.owner, Owner::User | Owner::Queue));
            if flow.is_indexed && flow.connection.wants_output(&env) {
                assert!(flow.is_in_line || endpoint.wheel.is_armed(id), "{flow:?}");
            }
            let needs_timer = flow.connection.next_timer(&env).is_some();
            if flow.is_indexed && needs_timer {
                assert!(flow.is_in_line || endpoint.wheel.is_armed(id), "{flow:?}");
            }
        }
        assert_eq!(endpoint.index.len(), indexed);
        assert!(endpoint.line.len() >= lined && endpoint.flows.len() <= 6);
        assert_eq!(half_open, places_taken);
        assert!(endpoint.time_wait.len() <= 3);
        assert!(endpoint.shared.pool.lent() <= 256 << 10);
    }

    /// Everybody leaves; after that and a while nothing is left.
    fn end(mut self) {
        for id in self.held {
            self.bench.endpoint.release(id);
        }
        self.bench.endpoint.unlisten(&server());
        self.bench.output();
        self.bench.sleep(Duration::from_mins(10));
        let endpoint = &self.bench.endpoint;
        assert_eq!((endpoint.flows(), endpoint.time_wait()), (0, 0));
        assert_eq!((endpoint.index.len(), endpoint.pool().lent()), (0, 0));
        assert!(!endpoint.wants_output());
        assert_eq!(endpoint.next_timer(), None);
    }
}

proptest! {
    #[test]
    fn the_books_are_right_and_nothing_is_left(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.end();
    }
}
