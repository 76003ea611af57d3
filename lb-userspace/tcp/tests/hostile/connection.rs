//! Any bytes as what happens to one connection: segments, time, its user, routers. Whatever it is, every promise must hold.
//!
//! Read by position, without counts or lengths: any change of an input is another input that means nearly the same. Also a fuzz
//! target (`lb-ebpf/fuzz`), so it names nothing but the crate under test.

use std::net::SocketAddr;
use std::time::Duration;

use lb_tcp::{
    Config, Connection, Counters, Env, Failure, Flags, FlowKey, Header, Instant, Open, Options,
    Pool, SackBlocks, Segment, Seq, SeqRange, State, Timestamps, wire,
};

/// Bytes of an event.
const EVENT: usize = 10;
/// Events of an input at most.
const MAX_EVENTS: usize = 400;
/// Segments that may leave after one event: more than any window has.
const MAX_OUTPUT: usize = 10_000;

const ISS: Seq = Seq(u32::MAX - 5000);
const IRS: Seq = Seq(u32::MAX - 2000);
const MSS: usize = 1460;
const MEMORY: usize = 1 << 20;

/// Lets all of it happen.
///
/// # Panics
/// If a promise is broken.
pub(crate) fn run(bytes: &[u8]) {
    let Some((setup, rest)) = bytes.split_first() else {
        return;
    };
    let mut run = Run::new(*setup);
    for event in rest.as_chunks::<EVENT>().0.iter().take(MAX_EVENTS) {
        run.step(*event);
        run.check();
    }
    run.end();
}

struct Run {
    config: Config,
    pool: Pool,
    counters: Counters,
    now: Instant,
    connection: Connection,
    /// Numbers of the peer's text that a user has read.
    read: Seq,
    /// Whether the peer's first number is [`IRS`].
    knows_irs: bool,
    written: u64,
    state: State,
    /// Of what has left: acknowledgement, right edge, the timestamp.
    ack: Option<Seq>,
    edge: Option<Seq>,
    value: u32,
}

macro_rules! with {
    ($self:ident, |$connection:ident, $env:ident| $then:expr) => {{
        let mut env = Env {
            now: $self.now,
            config: &$self.config,
            pool: &mut $self.pool,
            counters: &mut $self.counters,
        };
        let ($env, $connection) = (&mut env, &mut $self.connection);
        $then
    }};
}

impl Run {
    /// Bits of `setup`: who opens, whether the handshake is done, options.
    fn new(setup: u8) -> Self {
        let has = |bit: u8| setup & (1 << bit) != 0;
        let config = Config {
            sack: has(2),
            timestamps: has(3),
            receive_window: if has(4) { 3000 } else { 65_536 },
            max_receive_window: 1 << 18,
            max_send_buffer: 1 << 17,
            window_scale: if has(5) { 0 } else { 7 },
            pacing: has(6),
            ..Config::default()
        };
        let mut pool = Pool::new(MEMORY);
        let mut counters = Counters::default();
        let now = Instant::from_micros(1_000_000);
        let mut env = Env {
            now,
            config: &config,
            pool: &mut pool,
            counters: &mut counters,
        };
        let open = Open {
            iss: ISS,
            timestamp_offset: u32::MAX - 2000,
            mss: MSS,
        };
        let is_active = has(0);
        let connection = if is_active {
            Connection::connect(open, &mut env)
        } else {
            Connection::accept(&peer_syn(Flags::SYN, has(7)), open, &mut env)
        };
        let mut run = Self {
            state: connection.state(),
            config,
            pool,
            counters,
            now,
            connection,
            read: IRS + 1,
            knows_irs: !is_active,
            written: 0,
            ack: None,
            edge: None,
            value: 0,
        };
        run.check();
        if has(1) {
            run.shake_hands(is_active, has(7));
        }
        run
    }

    fn shake_hands(&mut self, is_active: bool, plain: bool) {
        let segment = if is_active {
            peer_syn(Flags::SYN | Flags::ACK, plain)
        } else {
            let mut ack = peer_syn(Flags::ACK, plain);
            ack.header.seq = IRS + 1;
            ack.header.options.mss = None;
            ack
        };
        self.knows_irs = true;
        self.now += Duration::from_millis(5);
        with!(self, |it, env| it.input(&segment, env));
        assert_eq!(self.connection.state(), State::Established);
        self.check();
    }

    fn step(&mut self, event: [u8; EVENT]) {
        let [what, a, b, c, d, ..] = event;
        let wide = usize::from(u16::from_le_bytes([b, c]));
        match what & 15 {
            0..=7 => self.near(event),
            8 => self.anything(event),
            9 | 10 => {
                // Up to some minutes, every order of magnitude.
                let micros = u64::from(a) << (b % 21);
                self.now += Duration::from_micros(micros);
                with!(self, |it, env| it.on_timer(env));
            }
            11 => self.write(wide),
            12 => self.read(wide),
            13 => match a & 7 {
                0 => self.connection.shutdown(),
                1 => with!(self, |it, env| it.abort(env)),
                _ => {}
            },
            14 => {
                let quoted = ISS + u32::from(a) + u32::from(b) * 64;
                let mss = usize::from(u16::from_le_bytes([c, d]));
                with!(self, |it, env| it.packet_too_big(quoted, mss, env));
            }
            _ => {
                let quoted = ISS + u32::from(a);
                with!(self, |it, env| it.unreachable(quoted, env));
            }
        }
    }

    /// A segment that might be meant: numbers near those that count.
    fn near(&mut self, event: [u8; EVENT]) {
        let [what, flags, seq, ack, len, window, options, x, y, z] = event;
        let near = |offset: u8, fine: u8| {
            let coarse = i32::from(offset.cast_signed()) * 97;
            (coarse + i32::from(fine & 3)).cast_unsigned()
        };
        let next = self.ack.unwrap_or(IRS + 1);
        let flags = if what & 4 == 0 {
            Flags::ACK.0
        } else {
            flags & 0x3f
        };
        let mut sack = SackBlocks::default();
        if options & 4 != 0 {
            for (at, count) in [(x, y), (y, z), (z, x)] {
                let start = self.una() + u32::from(at) * 31;
                sack.push(SeqRange {
                    start,
                    end: start + u32::from(count) * 61,
                });
            }
        }
        let timestamps = self.config.timestamps ^ (options & 8 != 0);
        let header = Header {
            seq: next + near(seq, what >> 4),
            ack: self.una() + near(ack, what >> 6),
            flags: Flags(flags),
            window: u16::from(window) << (x & 8),
            options: Options {
                mss: (options & 1 != 0).then_some(u16::from_le_bytes([x, y])),
                window_scale: (options & 2 != 0).then_some(z),
                sack_permitted: options & 16 != 0,
                timestamps: timestamps.then(|| Timestamps {
                    value: self.now.millis().wrapping_add(near(x, 0)),
                    echo: self.value.wrapping_sub(u32::from(y & 31)),
                }),
                sack,
            },
        };
        self.arrive(header, usize::from(len) * 7);
    }

    /// A header of any bytes.
    fn anything(&mut self, event: [u8; EVENT]) {
        let mut bytes = vec![0; 20];
        bytes[4..14].copy_from_slice(&event);
        bytes[12] = 0x50 | (event[8] & 0xf0);
        bytes.extend_from_slice(&event.repeat(6)[..40]);
        if let Ok((_, segment)) = wire::parse(&bytes) {
            self.arrive(segment.header, segment.payload.len());
        }
    }

    fn arrive(&mut self, header: Header, len: usize) {
        let first = header.seq + u32::from(header.flags.has(Flags::SYN));
        let payload = text(first, len);
        let segment = Segment {
            header,
            payload: &payload,
        };
        with!(self, |it, env| it.input(&segment, env));
    }

    /// A number that the peer may acknowledge.
    fn una(&self) -> Seq {
        ISS + 1 + u32::try_from(self.written % (1 << 30)).expect("30 bits")
    }

    fn write(&mut self, len: usize) {
        let bytes = vec![0x55; len];
        let room = with!(self, |it, env| it.is_writable(env));
        let written = with!(self, |it, env| it.write(&bytes, env));
        assert!(!room || len == 0 || written != Ok(None), "not writable");
        if let Ok(Some(count)) = written {
            assert!(count <= len);
            self.written += count as u64;
        }
    }

    fn read(&mut self, len: usize) {
        let mut bytes = vec![0; len.max(1)];
        let ready = self.connection.is_readable();
        let result = with!(self, |it, env| it.read(&mut bytes, env));
        assert_eq!(ready, result != Ok(None), "not readable");
        if let Ok(Some(count)) = result {
            let expected = text(self.read, count);
            assert!(!self.knows_irs || bytes[..count] == expected, "wrong bytes");
            self.read += u32::try_from(count).expect("a length");
        }
    }

    /// Lets everything leave, and checks it and all that can be seen.
    fn check(&mut self) {
        let mut count = 0;
        loop {
            let wants = with!(self, |it, env| it.wants_output(env));
            let sent = with!(self, |it, env| it.poll_output(env).map(|outgoing| {
                let payload = it.payload(&outgoing);
                let mut bytes = vec![0; wire::header_len(&outgoing.header) + payload.len()];
                wire::emit(&key(), &outgoing.header, payload, &mut bytes);
                bytes
            }));
            let Some(bytes) = sent else {
                // One that has to begin to wait for a window is polled for that, once.
                assert!(
                    !with!(self, |it, env| it.wants_output(env)),
                    "wants, but gives none"
                );
                break;
            };
            assert!(wants, "gives what it doesn't want");
            count += 1;
            assert!(count < MAX_OUTPUT, "it never ends");
            self.check_sent(&bytes);
        }
        let due = with!(self, |it, env| it.next_timer(env));
        if due.is_some_and(|at| at <= self.now) {
            with!(self, |it, env| it.on_timer(env));
            let wants = with!(self, |it, env| it.wants_output(env));
            let due = with!(self, |it, env| it.next_timer(env));
            assert!(
                wants || due.is_none_or(|at| at > self.now),
                "a timer that does nothing"
            );
        }
        assert!(self.pool.lent() <= MEMORY);
        self.check_state();
    }

    fn check_sent(&mut self, bytes: &[u8]) {
        let key = key();
        assert!(wire::checksum_holds(key.local.ip(), key.remote.ip(), bytes));
        let (_, segment) = wire::parse(bytes).expect("a segment");
        let header = segment.header;
        assert!(bytes.len() <= MSS + 20, "longer than the way allows");
        assert!(
            segment.payload.iter().all(|byte| *byte == 0x55),
            "not what was written"
        );
        let timestamps = header.options.timestamps;
        if let Some(timestamps) = timestamps {
            self.value = timestamps.value;
        }
        if segment.has(Flags::RST) || !segment.has(Flags::ACK) {
            return;
        }
        let is_older = self.ack.is_some_and(|ack| header.ack.precedes(ack));
        assert!(!is_older || !self.knows_irs, "acknowledges less");
        self.ack = Some(header.ack);
        if self.connection.state() != State::Closed && !segment.has(Flags::SYN) && self.knows_irs {
            let shift = if self.scales() { 7 } else { 0 };
            let edge = header.ack + (u32::from(header.window) << shift);
            let is_left = self.edge.is_some_and(|old| edge.precedes(old));
            assert!(!is_left, "the window moved to the left");
            self.edge = Some(edge);
        }
    }

    /// The handshake of [`Run::shake_hands`] has scaling if we have it.
    fn scales(&self) -> bool {
        self.config.window_scale == 7
    }

    fn check_state(&mut self) {
        let (before, after) = (self.state, self.connection.state());
        assert!(
            before == after || order(before) < order(after),
            "{before:?} became {after:?}"
        );
        self.state = after;
        let failure = self.connection.failure();
        assert!(failure.is_none() || after == State::Closed, "{failure:?}");
        if after == State::Closed {
            assert!(with!(self, |it, env| it.next_timer(env)).is_none());
        }
    }

    /// Whatever has happened, the end is an end.
    fn end(mut self) {
        with!(self, |it, env| it.abort(env));
        self.check();
        assert!(matches!(self.connection.state(), State::Closed));
        if self.state != State::Closed {
            assert_eq!(self.connection.failure(), Some(Failure::Aborted));
        }
        with!(self, |it, env| it.release(env));
        assert_eq!(self.pool.lent(), 0, "memory is lost");
    }
}

/// States only ever go on (RFC 9293 §3.3.2, figure 5).
fn order(state: State) -> u8 {
    match state {
        State::SynSent => 0,
        State::SynReceived => 1,
        State::Established => 2,
        State::FinWait1 | State::CloseWait => 3,
        State::FinWait2 | State::Closing | State::LastAck => 4,
        State::TimeWait => 5,
        State::Closed => 6,
    }
}

fn peer_syn(flags: Flags, plain: bool) -> Segment<'static> {
    Segment {
        header: Header {
            seq: IRS,
            ack: ISS + 1,
            flags,
            window: 20_000,
            options: Options {
                mss: Some(1000),
                window_scale: Some(2),
                sack_permitted: !plain,
                timestamps: Some(Timestamps { value: 77, echo: 0 }),
                sack: SackBlocks::default(),
            },
        },
        payload: &[],
    }
}

/// The peer's bytes from a number on; the same number is always the same byte.
fn text(seq: Seq, len: usize) -> Vec<u8> {
    let byte = |at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..u32::try_from(len).expect("a length"))
        .map(|n| byte((seq + n).0))
        .collect()
}

fn key() -> FlowKey {
    let address = |text: &str| -> SocketAddr { text.parse().expect("an address") };
    FlowKey {
        local: address("192.0.2.1:443"),
        remote: address("198.51.100.7:50000"),
    }
}
