//! Any bytes as what happens to an endpoint: segments of many peers, time, users, routers. Whatever it is, memory stays
//! bounded, and when everybody has gone nothing is left.
//!
//! Also a fuzz target (`lb-ebpf/fuzz`), so it names nothing but the crate under test.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use lb_tcp::{
    Config, Endpoint, Flags, FlowId, FlowKey, Header, Icmp, Instant, Options, Output, Payload,
    Secret, Segment, Seq, Timestamps, wire,
};

/// Bytes of an event.
const EVENT: usize = 8;
/// Events of an input at most.
const MAX_EVENTS: usize = 400;
const MAX_FLOWS: usize = 12;
const MAX_TIME_WAIT: usize = 4;
const MEMORY: usize = 1 << 18;
const MTU: usize = 1500;

/// Lets all of it happen.
///
/// # Panics
/// If a promise is broken.
pub(crate) fn run(bytes: &[u8]) {
    let mut run = Run::new();
    for event in bytes.as_chunks::<EVENT>().0.iter().take(MAX_EVENTS) {
        run.step(*event);
        run.check();
    }
    run.end();
}

struct Run {
    endpoint: Endpoint<u8, ()>,
    now: Instant,
    held: Vec<FlowId>,
    out: Out,
}

/// Takes what leaves, and remembers the last of it for each pair of ends.
struct Out {
    room: usize,
    last: HashMap<FlowKey, Header>,
    count: usize,
}

impl Output<u8> for Out {
    fn has_room(&mut self, _: &u8) -> bool {
        self.room > 0
    }

    fn mtu(&self, _: &u8) -> usize {
        MTU
    }

    fn send(&mut self, key: &FlowKey, _: &u8, header: &Header, payload: Payload<'_>) {
        assert!(self.room > 0, "sent without room");
        self.room -= 1;
        self.count += 1;
        let mut bytes = vec![0; wire::header_len(header) + payload.len()];
        wire::emit(key, header, payload, &mut bytes);
        assert!(bytes.len() + 20 <= MTU, "longer than the way allows");
        self.last.insert(*key, *header);
    }
}

impl Run {
    fn new() -> Self {
        let config = Config {
            max_flows: MAX_FLOWS,
            max_time_wait: MAX_TIME_WAIT,
            backlog: 4,
            memory: MEMORY,
            ..Config::default()
        };
        let now = Instant::from_micros(1_000_000);
        let mut endpoint = Endpoint::new(config, Secret::new([7; 16]), now);
        for port in [80, 81] {
            endpoint.listen(local(port), ()).expect("to listen");
        }
        Self {
            endpoint,
            now,
            held: vec![],
            out: Out {
                room: 0,
                last: HashMap::new(),
                count: 0,
            },
        }
    }

    fn step(&mut self, event: [u8; EVENT]) {
        let [what, a, b, c, ..] = event;
        let wide = usize::from(u16::from_le_bytes([b, c]));
        match what & 15 {
            0..=7 => self.arrive(event),
            8 => {
                let micros = u64::from(a) << (b % 21);
                self.now += Duration::from_micros(micros);
                self.endpoint.advance(self.now);
            }
            9 => {
                let accepted = self.endpoint.accept(&local(80 + u16::from(a & 1)));
                self.held.extend(accepted.map(|(id, _)| id));
            }
            10 => self.connect(key(80, a & 15)),
            11 => self.with_one(a, |endpoint, id| {
                let _ = endpoint.write(id, &vec![0; wide]);
            }),
            12 => self.with_one(a, |endpoint, id| {
                let _ = endpoint.read(id, &mut vec![0; wide.max(1)]);
            }),
            13 => self.finish(a, b),
            14 => {
                let key = key(80 + u16::from(a & 1), b & 15);
                let seq = self.out.last.get(&key).map_or(Seq(0), |last| last.seq);
                let message = if c & 1 == 0 {
                    Icmp::Unreachable
                } else {
                    Icmp::TooBig { mtu: wide }
                };
                self.endpoint.icmp(self.now, &key, seq, message);
            }
            _ => match a {
                0 => self.endpoint.stop(),
                1 => self.endpoint.unlisten(&local(81)),
                2 => self.endpoint.reset_all(),
                _ => {}
            },
        }
        // Often there is little room, sometimes none.
        self.out.room = usize::from(what >> 4);
        self.endpoint.output(&mut self.out);
    }

    fn with_one(&mut self, which: u8, then: impl FnOnce(&mut Endpoint<u8, ()>, &FlowId)) {
        if !self.held.is_empty() {
            let index = usize::from(which) % self.held.len();
            then(&mut self.endpoint, &self.held[index]);
        }
    }

    fn finish(&mut self, which: u8, how: u8) {
        if self.held.is_empty() {
            return;
        }
        let index = usize::from(which) % self.held.len();
        match how & 3 {
            0 => self.endpoint.shutdown(&self.held[index]),
            1 => self.endpoint.abort(&self.held[index]),
            2 => {
                let id = self.held.swap_remove(index);
                self.endpoint.release(id);
            }
            _ => {
                let id = self.held.swap_remove(index);
                match self.endpoint.export(id) {
                    Err(id) => self.held.push(id),
                    Ok(exported) => self.held.extend(self.endpoint.import(exported)),
                }
            }
        }
    }

    fn connect(&mut self, key: FlowKey) {
        let flow = self.endpoint.connect(key, 3, &self.out);
        self.held.extend(flow);
    }

    /// A segment of one of a few peers, with numbers that fit what it was last told, or nearly.
    fn arrive(&mut self, event: [u8; EVENT]) {
        let [what, who, flags, seq, ack, len, options, x] = event;
        let key = key(80 + u16::from(who & 1), who >> 4);
        let last = self.out.last.get(&key).copied().unwrap_or_default();
        let flags = match what & 7 {
            0 => Flags::SYN,
            1..=4 => Flags::ACK,
            _ => Flags(flags & 0x3f),
        };
        let near = |offset: u8| {
            let offset = i32::from(offset.cast_signed());
            (if offset.abs() < 64 { 0 } else { offset }).cast_unsigned()
        };
        let syn = last.flags.has(Flags::SYN);
        let header = Header {
            seq: last.ack + near(seq),
            ack: last.seq + u32::from(syn) + near(ack),
            flags,
            window: u16::from(x) << 8,
            options: Options {
                mss: flags.has(Flags::SYN).then_some(1460),
                window_scale: (options & 1 != 0).then_some(x),
                sack_permitted: options & 2 != 0,
                timestamps: (options & 4 != 0).then(|| Timestamps {
                    value: self.now.millis(),
                    echo: last.options.timestamps.map_or(0, |it| it.value),
                }),
                ..Options::default()
            },
        };
        let payload = vec![1; usize::from(len) * 5];
        let segment = Segment {
            header,
            payload: &payload,
        };
        // An answer to a segment of no connection has room, as the caller promises.
        self.out.room = 1;
        self.endpoint
            .input(self.now, &key, who, &segment, &mut self.out);
    }

    fn check(&mut self) {
        assert!(self.endpoint.flows() <= MAX_FLOWS, "too many flows");
        assert!(self.endpoint.time_wait() <= MAX_TIME_WAIT);
        assert!(self.endpoint.pool().lent() <= MEMORY, "too much memory");
        assert!(
            self.held.len() <= self.endpoint.flows(),
            "a held flow is gone"
        );
    }

    /// Everybody goes, and time passes: nothing may be left.
    fn end(mut self) {
        self.endpoint.stop();
        for id in self.held.drain(..) {
            self.endpoint.release(id);
        }
        // Nobody answers any more: retransmissions, orphans and TIME-WAIT come to their ends.
        for _ in 0..10_000 {
            self.out.room = usize::MAX;
            self.endpoint.output(&mut self.out);
            let Some(next) = self.endpoint.next_timer() else {
                break;
            };
            self.now = self.now.max(next);
            self.endpoint.advance(self.now);
        }
        self.out.room = usize::MAX;
        self.endpoint.output(&mut self.out);
        assert!(
            !self.endpoint.wants_output(),
            "somebody stands in line forever"
        );
        assert_eq!(self.endpoint.next_timer(), None, "a timer runs forever");
        assert_eq!(self.endpoint.flows(), 0, "flows are left");
        assert_eq!(self.endpoint.time_wait(), 0, "records are left");
        assert_eq!(self.endpoint.pool().lent(), 0, "memory is lost");
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn key(port: u16, client: u8) -> FlowKey {
    FlowKey {
        local: local(port),
        remote: SocketAddr::from(([198, 51, 100, 1 + (client & 3)], 1000 + u16::from(client))),
    }
}
