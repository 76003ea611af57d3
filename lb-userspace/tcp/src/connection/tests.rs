//! Connections without a network: one that is given segments one by one ([`Host`]), and two on a wire without loss ([`Pair`]).

mod acceptability;
mod close;
mod data;
mod handover;
mod handshake;
mod hints;
mod silence;

use core::time::Duration;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::{Config, Counters, Flags, Header, Options, Pool, Segment, Timestamps};

/// Our initial number, and the peer's, in tests of one host.
const ISS: Seq = Seq(1000);
const IRS: Seq = Seq(u32::MAX - 10);
/// Window that the peer tells.
const WINDOW: u16 = 30_000;
const MSS: usize = 1460;

/// A segment that left.
#[derive(Clone, Debug)]
struct Sent {
    header: Header,
    payload: Vec<u8>,
}

impl Sent {
    fn has(&self, flags: Flags) -> bool {
        self.header.flags.has(flags)
    }

    fn is_pure_ack(&self) -> bool {
        self.header.flags == Flags::ACK && self.payload.is_empty()
    }

    fn as_segment(&self) -> Segment<'_> {
        Segment {
            header: self.header,
            payload: &self.payload,
        }
    }
}

/// A connection with what it needs around it.
struct Host {
    now: Instant,
    config: Config,
    pool: Pool,
    counters: Counters,
    connection: Connection,
}

/// What a test says about a host's rules.
fn plain() -> Config {
    Config {
        timestamps: false,
        ..Config::default()
    }
}

fn open(iss: Seq) -> Open {
    Open {
        iss,
        timestamp_offset: 7_000_000,
        mss: MSS,
    }
}

impl Host {
    fn new(config: Config, make: impl FnOnce(&mut Env<'_>) -> Connection) -> Self {
        let mut pool = Pool::new(8 << 20);
        let mut counters = Counters::default();
        let now = Instant::from_micros(1_000_000_000);
        let connection = make(&mut Env {
            now,
            config: &config,
            pool: &mut pool,
            counters: &mut counters,
        });
        Self {
            now,
            config,
            pool,
            counters,
            connection,
        }
    }

    fn connecting(config: Config) -> Self {
        Self::new(config, |env| Connection::connect(open(ISS), env))
    }

    fn accepting(config: Config, syn: &Options) -> Self {
        let header = Header {
            seq: IRS,
            flags: Flags::SYN,
            window: WINDOW,
            options: *syn,
            ..Header::default()
        };
        let syn = Segment {
            header,
            payload: &[],
        };
        Self::new(config, |env| Connection::accept(&syn, open(ISS), env))
    }

    /// ESTABLISHED by a peer whose SYN had an MSS of 1460 and SACK.
    fn established() -> Self {
        Self::established_with(
            plain(),
            &Options {
                mss: Some(1460),
                sack_permitted: true,
                ..Options::default()
            },
        )
    }

    fn established_with(config: Config, syn: &Options) -> Self {
        let mut host = Self::accepting(config, syn);
        assert!(host.sent_one().has(Flags::SYN | Flags::ACK));
        let mut ack = from_peer(Flags::ACK, 1, 1);
        if syn.timestamps.is_some() && config.timestamps {
            ack.header.options.timestamps = Some(Timestamps {
                value: 1,
                echo: host.clock(),
            });
        }
        host.gets(&ack);
        assert_eq!(host.connection.state(), State::Established);
        assert!(host.sent().is_empty());
        host
    }

    /// What our timestamp clock says.
    fn clock(&self) -> u32 {
        self.now.millis() + 7_000_000
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Connection, &mut Env<'_>) -> T) -> T {
        let mut env = Env {
            now: self.now,
            config: &self.config,
            pool: &mut self.pool,
            counters: &mut self.counters,
        };
        act(&mut self.connection, &mut env)
    }

    fn gets(&mut self, sent: &Sent) {
        self.with(|connection, env| connection.input(&sent.as_segment(), env));
    }

    /// Takes a segment and tells what it makes leave.
    fn answers(&mut self, sent: &Sent) -> Vec<Sent> {
        self.gets(sent);
        self.sent()
    }

    /// All that leaves now.
    fn sent(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        loop {
            let wanted = self.with(|connection, env| connection.wants_output(env));
            let Some(sent) = self.sent_next() else {
                return all;
            };
            assert!(wanted, "{sent:?} left without having been announced");
            all.push(sent);
            assert!(all.len() < 10_000, "output without end: {:?}", all.last());
        }
    }

    fn sent_next(&mut self) -> Option<Sent> {
        self.with(|connection, env| {
            let outgoing = connection.poll_output(env)?;
            let payload = connection.payload(&outgoing);
            Some(Sent {
                header: outgoing.header,
                payload: payload.slices().flatten().copied().collect(),
            })
        })
    }

    /// The only segment that leaves now.
    fn sent_one(&mut self) -> Sent {
        let mut all = self.sent();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn writes(&mut self, bytes: &[u8]) {
        let written = self.with(|connection, env| connection.write(bytes, env));
        assert_eq!(written, Ok(Some(bytes.len())));
    }

    /// Writes as much as is taken.
    fn writes_some(&mut self, bytes: &[u8]) -> usize {
        let written = self.with(|connection, env| connection.write(bytes, env));
        written.unwrap().unwrap_or(0)
    }

    /// All that can be read.
    fn reads(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut into = vec![0; 4000];
        while self.connection.has_unread() {
            let count = self.with(|connection, env| connection.read(&mut into, env));
            all.extend_from_slice(&into[..count.unwrap().unwrap()]);
        }
        all
    }

    fn read_result(&mut self) -> Result<Option<usize>, Failure> {
        self.with(|connection, env| connection.read(&mut [0; 10], env))
    }

    fn shuts(&mut self) {
        self.with(|connection, _| connection.shutdown());
    }

    fn aborts(&mut self) {
        self.with(Connection::abort);
    }

    /// Lets time pass; timers fire when they are due, and what leaves then is told.
    fn waits(&mut self, duration: Duration) -> Vec<Sent> {
        let end = self.now + duration;
        let mut all = Vec::new();
        while let Some(at) = self.next_timer().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.with(Connection::on_timer);
            all.extend(self.sent());
            assert!(all.len() < 10_000, "timers without end");
        }
        self.now = end;
        all
    }

    fn next_timer(&mut self) -> Option<Instant> {
        self.with(|connection, env| connection.next_timer(env))
    }

    fn state(&self) -> State {
        self.connection.state()
    }
}

/// A segment of the peer: numbers count from both initial numbers.
fn from_peer(flags: Flags, seq: u32, ack: u32) -> Sent {
    Sent {
        header: Header {
            seq: IRS + seq,
            ack: ISS + ack,
            flags,
            window: WINDOW,
            ..Header::default()
        },
        payload: Vec::new(),
    }
}

fn text(seq: u32, ack: u32, payload: &[u8]) -> Sent {
    Sent {
        payload: payload.to_vec(),
        ..from_peer(Flags::ACK | Flags::PSH, seq, ack)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// Two hosts on a wire of 10 ms each way.
struct Pair {
    client: Host,
    server: Host,
    /// When each segment arrives, at which end.
    wire: Vec<(Instant, End, Sent)>,
    /// Segments sent so far, in the order of leaving.
    log: Vec<(End, Sent)>,
    /// Which of the segments to come are lost: the number of each in `log`.
    losses: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Server,
}

const ONE_WAY: Duration = Duration::from_millis(10);

impl Pair {
    /// Both have sent nothing but the client's SYN, which has arrived.
    fn new(client: Config, server: Config) -> Self {
        let mut client = Host::connecting(client);
        let syn = client.sent_one();
        let server = Host::new(server, |env| {
            Connection::accept(&syn.as_segment(), open(Seq(77)), env)
        });
        Self {
            client,
            server,
            wire: Vec::new(),
            log: vec![(End::Client, syn)],
            losses: Vec::new(),
        }
    }

    fn established(client: Config, server: Config) -> Self {
        let mut pair = Self::new(client, server);
        pair.runs(ONE_WAY * 4);
        assert_eq!(pair.states(), (State::Established, State::Established));
        pair
    }

    fn states(&self) -> (State, State) {
        (self.client.state(), self.server.state())
    }

    fn host(&mut self, end: End) -> &mut Host {
        match end {
            End::Client => &mut self.client,
            End::Server => &mut self.server,
        }
    }

    /// Lets time pass on both sides.
    fn runs(&mut self, duration: Duration) {
        let end = self.client.now + duration;
        loop {
            self.collect();
            let Some(at) = self.next_event().filter(|&at| at <= end) else {
                break;
            };
            let at = at.max(self.client.now);
            self.client.now = at;
            self.server.now = at;
            self.deliver();
            for host in [&mut self.client, &mut self.server] {
                if host.next_timer().is_some_and(|timer| timer <= at) {
                    host.with(Connection::on_timer);
                }
            }
        }
        self.client.now = end;
        self.server.now = end;
    }

    /// Loses one in `every` of the segments to come, in no order: a regular one can meet the same retransmissions for ever.
    fn loses(&mut self, every: u32) {
        let mut state = every;
        self.losses = (self.log.len()..20_000)
            .filter(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 16).is_multiple_of(every)
            })
            .collect();
    }

    /// Sends `up` and `down` and reads both at the other end, for at most `limit`.
    fn carries(&mut self, up: &[u8], down: &[u8], limit: Duration) {
        let end = self.client.now + limit;
        let (mut up_written, mut down_written) = (0, 0);
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        while (at_server.len(), at_client.len()) != (up.len(), down.len()) {
            up_written += self.client.writes_some(&up[up_written..]);
            down_written += self.server.writes_some(&down[down_written..]);
            self.runs(Duration::from_millis(5));
            at_server.extend(self.server.reads());
            at_client.extend(self.client.reads());
            let read = (at_server.len(), at_client.len());
            assert!(self.client.now < end, "stuck at {read:?}");
        }
        assert!(at_server == up && at_client == down);
    }

    fn next_event(&mut self) -> Option<Instant> {
        let timers = [self.client.next_timer(), self.server.next_timer()];
        let arrivals = self.wire.iter().map(|&(at, ..)| at);
        timers.into_iter().flatten().chain(arrivals).min()
    }

    /// Puts on the wire what wants to leave.
    fn collect(&mut self) {
        for end in [End::Client, End::Server] {
            let arrives = self.host(end).now + ONE_WAY;
            for sent in self.host(end).sent() {
                assert!(sent.payload.len() <= MSS, "{sent:?}");
                if !self.losses.contains(&self.log.len()) {
                    self.wire.push((arrives, end, sent.clone()));
                }
                self.log.push((end, sent));
            }
        }
    }

    fn deliver(&mut self) {
        let now = self.client.now;
        let (due, later): (Vec<_>, Vec<_>) = self.wire.drain(..).partition(|&(at, ..)| at <= now);
        self.wire = later;
        for (_, from, sent) in due {
            match from {
                End::Client => self.server.gets(&sent),
                End::Server => self.client.gets(&sent),
            }
        }
    }
}
