//! Runs a script against a [`Connection`].
//!
//! Every segment that leaves must be expected, at exactly its time: what a script doesn't mention must not happen. Both
//! initial sequence numbers lie just before the wrap, so that every script passes it.

use std::net::SocketAddr;
use std::time::Duration;

use lb_tcp::{
    Config, Connection, Counters, Env, Flags, FlowKey, Header, Instant, Open, Options, Pool,
    SackBlocks, Segment, Seq, SeqRange, Timestamps, wire,
};

use crate::compare::{ISS, Sent, compare, equal, low, pattern, written};
use crate::line::{Line, Shape, Stamp, What};

/// The peer's initial sequence number.
const IRS: Seq = Seq(u32::MAX - 1000);

/// With that of the handshake, the acknowledgements that leave at once when a connection is young.
const QUICK: usize = 15;

/// The peer's timestamp clock is that far ahead of ours, if the script doesn't say.
const AHEAD: u32 = 500_000;

/// MSS of the way.
const MSS: usize = 1460;

/// Runs a script: a line is a thing that happens, `#` begins a comment.
///
/// # Panics
/// At the first line that is not what happens.
#[track_caller]
pub(crate) fn script(text: &str) {
    let mut drive = Drive::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Err(why) = drive.step(&Line::read(line)) {
            panic!(
                "line {}: {line}\n  {why}\n  at {:?}\nbefore:\n{}",
                index + 1,
                drive.now.since(Instant::ZERO),
                drive.log.join("\n")
            );
        }
    }
    if let Some(sent) = drive.poll() {
        panic!("left behind the last line: {}", drive.show(&sent));
    }
}

struct Drive {
    now: Instant,
    config: Config,
    pool: Pool,
    counters: Counters,
    connection: Option<Connection>,
    /// What both offered: whether segments have timestamps.
    has_timestamps: bool,
    /// The peer's number 0.
    irs: Seq,
    last_window: u16,
    /// Timestamp of our last segment.
    to_echo: u32,
    written: u64,
    read: u64,
    log: Vec<String>,
}

/// As of [`Drive::connection`], with the rest of `self` as its environment.
macro_rules! with {
    ($self:ident, |$connection:ident, $env:ident| $then:expr) => {{
        let mut env = Env {
            now: $self.now,
            config: &$self.config,
            pool: &mut $self.pool,
            counters: &mut $self.counters,
        };
        let $env = &mut env;
        match $self.connection.as_mut() {
            Some($connection) => Ok($then),
            None => Err("there is no connection yet".to_owned()),
        }
    }};
}

impl Drive {
    fn new() -> Self {
        Self {
            now: Instant::ZERO,
            config: Config::default(),
            pool: Pool::new(64 << 20),
            counters: Counters::default(),
            connection: None,
            has_timestamps: false,
            irs: IRS,
            last_window: 65535,
            to_echo: 0,
            written: 0,
            read: 0,
            log: vec![],
        }
    }

    fn step(&mut self, line: &Line) -> Result<(), String> {
        let until = self.now + line.after;
        if let What::Out(shape) = &line.what {
            return self.expect(shape, until);
        }
        if !line.after.is_zero() {
            self.silence(until)?;
        }
        match &line.what {
            What::Given(rules) => {
                for rule in rules {
                    given(&mut self.config, rule);
                }
                Ok(())
            }
            What::Established(shape) => self.establish(shape),
            What::Connect => {
                self.start(Connection::connect);
                Ok(())
            }
            What::In(shape) => self.arrive(shape),
            What::Out(_) => Ok(()),
            What::Skip(count) => (0..*count).try_for_each(|_| {
                let sent = self.poll().ok_or("no further segment leaves")?;
                self.note(&sent);
                Ok(())
            }),
            What::Silence(how_long) => self.silence(self.now + *how_long),
            What::TooBig(seq, mss) => {
                with!(self, |it, env| it.packet_too_big(ISS + *seq, *mss, env))
            }
            What::Unreachable(seq) => with!(self, |it, env| it.unreachable(ISS + *seq, env)),
            _ => self.use_it(&line.what),
        }
    }

    /// What the user does and sees.
    fn use_it(&mut self, what: &What) -> Result<(), String> {
        match what {
            What::Writes(count, taken) => self.write(*count, *taken),
            What::Reads(count) => self.read(*count),
            What::ReadsEnd => {
                let read = with!(self, |it, env| it.read(&mut [0; 1], env))?;
                equal("read", &read, &Ok(Some(0)))
            }
            What::Closes => with!(self, |it, _env| it.shutdown()),
            What::Aborts => with!(self, |it, env| it.abort(env)),
            What::State(expected) => {
                let state = with!(self, |it, _env| it.state())?;
                equal("state", &format!("{state:?}"), expected)
            }
            What::Fails(expected) => {
                let failure = with!(self, |it, _env| it.failure())?;
                equal(
                    "failure",
                    &format!("{failure:?}"),
                    &format!("Some({expected})"),
                )
            }
            What::Counts(name, expected) => {
                let mut counters = self.counters.named();
                let found = counters.find(|(linux, _)| linux.ends_with(name.as_str()));
                let (_, count) = found.ok_or_else(|| format!("no counter {name}"))?;
                equal(name, &count, expected)
            }
            What::Memory(expected) => equal("memory", &self.pool.lent(), expected),
            What::Info(name, expected) => {
                let info = with!(self, |it, env| format!("{:?}", it.info(env)))?;
                let field = format!(" {name}: {expected}");
                let ends = [",", " "].map(|end| info.contains(&format!("{field}{end}")));
                if ends.contains(&true) {
                    Ok(())
                } else {
                    Err(format!("not {name} {expected}: {info}"))
                }
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, new: impl FnOnce(Open, &mut Env<'_>) -> Connection) {
        let open = Open {
            iss: ISS,
            timestamp_offset: 0,
            mss: MSS,
        };
        let mut env = Env {
            now: self.now,
            config: &self.config,
            pool: &mut self.pool,
            counters: &mut self.counters,
        };
        self.connection = Some(new(open, &mut env));
    }

    /// A handshake of the peer.
    fn establish(&mut self, shape: &Shape) -> Result<(), String> {
        let rtt = shape.rtt.unwrap_or(Duration::from_millis(10));
        let syn = Shape {
            flags: Flags::SYN.0,
            mss: shape.mss.or(Some(1460)),
            ..shape.clone()
        };
        let ack = Shape {
            flags: Flags::ACK.0,
            seq: 1,
            ack: Some(1),
            window: shape.window,
            ..Shape::default()
        };
        self.arrive(&syn)?;
        let sent = self.poll().ok_or("no SYN-ACK")?;
        self.note(&sent);
        self.silence(self.now + rtt)?;
        self.arrive(&ack)?;
        if shape.settled {
            self.settle()?;
        }
        self.use_it(&What::State("Established".to_owned()))
    }

    /// The peer says something and is acknowledged, often; then its numbers begin anew.
    fn settle(&mut self) -> Result<(), String> {
        let byte = Shape {
            flags: Flags::ACK.0,
            seq: 1,
            len: 1,
            ack: Some(1),
            ..Shape::default()
        };
        for _ in 0..QUICK {
            self.arrive(&byte)?;
            while let Some(sent) = self.next_sent(self.now + Duration::from_millis(40)) {
                self.note(&sent);
            }
            let _ = with!(self, |it, env| it.read(&mut [0; 1], env))?;
            self.irs += 1;
        }
        self.counters = Counters::default();
        Ok(())
    }

    fn arrive(&mut self, shape: &Shape) -> Result<(), String> {
        self.log.push(format!("  in  {shape:?}"));
        let header = self.header(shape);
        let payload: Vec<u8> = (0..shape.len).map(|n| pattern(shape.seq + n)).collect();
        let segment = Segment {
            header,
            payload: &payload,
        };
        if self.connection.is_none() && segment.opens() {
            self.has_timestamps = header.options.timestamps.is_some() && self.config.timestamps;
            self.start(|open, env| Connection::accept(&segment, open, env));
            return Ok(());
        }
        if segment.has(Flags::SYN) {
            self.has_timestamps = header.options.timestamps.is_some() && self.config.timestamps;
        }
        with!(self, |it, env| it.input(&segment, env))
    }

    fn header(&mut self, shape: &Shape) -> Header {
        let flags = Flags(shape.flags);
        let is_syn = flags.has(Flags::SYN);
        let usual = Timestamps {
            value: self.now.millis() + AHEAD,
            echo: self.to_echo,
        };
        let mut sack = SackBlocks::default();
        for (start, end) in &shape.sack {
            sack.push(SeqRange {
                start: ISS + *start,
                end: ISS + *end,
            });
        }
        if let Some(window) = shape.window {
            self.last_window = window;
        }
        Header {
            seq: self.irs + shape.seq,
            ack: shape.ack.map_or(Seq(0), |ack| ISS + ack),
            flags,
            window: self.last_window,
            options: Options {
                mss: shape.mss,
                window_scale: shape.scale,
                sack_permitted: shape.sack_permitted,
                timestamps: match shape.timestamps {
                    Stamp::None => None,
                    Stamp::Exactly(value, echo) => Some(Timestamps { value, echo }),
                    Stamp::Any | Stamp::Echo(_) => Some(usual),
                    Stamp::Usual => (self.has_timestamps && !is_syn).then_some(usual),
                },
                sack,
            },
        }
    }

    /// Nothing may leave until then, timers or not.
    fn silence(&mut self, until: Instant) -> Result<(), String> {
        match self.next_sent(until) {
            Some(sent) => Err(format!("leaves before: {}", self.show(&sent))),
            None => Ok(()),
        }
    }

    fn expect(&mut self, shape: &Shape, at: Instant) -> Result<(), String> {
        let sent = self.next_sent(at).ok_or("nothing leaves")?;
        if self.now != at {
            let early = at.since(self.now);
            return Err(format!("leaves {early:?} earlier: {}", self.show(&sent)));
        }
        self.note(&sent);
        compare(&sent, shape, self.irs).map_err(|why| format!("{why}: {}", self.show(&sent)))
    }

    /// The next segment to leave until then; the clock is at its time, or else at `until`.
    fn next_sent(&mut self, until: Instant) -> Option<Sent> {
        loop {
            if let Some(sent) = self.poll() {
                return Some(sent);
            }
            let next = with!(self, |it, env| it.next_timer(env)).ok().flatten();
            let Some(at) = next.filter(|at| *at <= until) else {
                self.now = until;
                return None;
            };
            self.now = self.now.max(at);
            with!(self, |it, env| it.on_timer(env)).ok()?;
        }
    }

    fn poll(&mut self) -> Option<Sent> {
        let bytes = with!(self, |it, env| {
            let outgoing = it.poll_output(env)?;
            let payload = it.payload(&outgoing);
            let mut bytes = vec![0; wire::header_len(&outgoing.header) + payload.len()];
            wire::emit(&key(), &outgoing.header, payload, &mut bytes);
            Some(bytes)
        });
        let bytes = bytes.ok().flatten()?;
        let (_, segment) = wire::parse(&bytes).expect("a segment");
        Some(Sent {
            header: segment.header,
            payload: segment.payload.to_vec(),
        })
    }

    fn note(&mut self, sent: &Sent) {
        if let Some(timestamps) = sent.header.options.timestamps {
            self.to_echo = timestamps.value;
        }
        let at = self.now.since(Instant::ZERO);
        let line = format!("  out {} at {at:?}", self.show(sent));
        self.log.push(line);
    }

    fn show(&self, sent: &Sent) -> String {
        let header = sent.header;
        let letters = ["F", "S", "R", "P", "A", "U"].iter().enumerate();
        let flags: String = letters
            .filter(|(bit, _)| header.flags.0 & (1 << bit) != 0)
            .map(|(_, letter)| *letter)
            .collect();
        let seq = header.seq.since(ISS);
        let end = seq + u32::try_from(sent.payload.len()).unwrap();
        let blocks = header.options.sack.as_slice().iter();
        let blocks: Vec<_> = blocks
            .map(|it| (it.start.since(self.irs), it.end.since(self.irs)))
            .collect();
        format!(
            "{flags} {seq}..{end} ack {} win {} {:?} sack {blocks:?}",
            header.ack.since(self.irs),
            header.window,
            header.options.timestamps
        )
    }

    fn write(&mut self, count: usize, taken: usize) -> Result<(), String> {
        let bytes: Vec<u8> = (1..)
            .map(|n| written(self.written, n))
            .take(count)
            .collect();
        let result = with!(self, |it, env| it.write(&bytes, env))?;
        self.written += taken as u64;
        equal("written", &result, &Ok((taken > 0).then_some(taken)))
    }

    fn read(&mut self, count: usize) -> Result<(), String> {
        let mut all = vec![];
        let mut buffer = vec![0; 1 << 16];
        while let Ok(Some(read @ 1..)) = with!(self, |it, env| it.read(&mut buffer, env))? {
            all.extend_from_slice(&buffer[..read]);
        }
        let from = self.read + 1;
        let expected = (from..from + all.len() as u64).map(|n| pattern(low(n)));
        if !expected.eq(all.iter().copied()) {
            return Err("wrong bytes".to_owned());
        }
        self.read += all.len() as u64;
        equal("bytes to read", &all.len(), &count)
    }
}

fn given(config: &mut Config, rule: &str) {
    let (name, value) = rule.split_once(' ').unwrap_or((rule, ""));
    let count = || value.parse::<usize>().expect("a number");
    match (name, value) {
        ("no", "sack") => config.sack = false,
        ("no", "timestamps") => config.timestamps = false,
        ("receive_window", _) => {
            config.receive_window = count();
            config.max_receive_window = count();
        }
        ("max_receive_window", _) => config.max_receive_window = count(),
        ("max_send_buffer", _) => config.max_send_buffer = count(),
        ("scale", _) => config.window_scale = u8::try_from(count()).expect("a scale"),
        ("keepalive", _) => config.keepalive = Duration::from_secs(count() as u64),
        ("user_timeout", _) => config.user_timeout = Duration::from_secs(count() as u64),
        _ => panic!("what is {rule:?}?"),
    }
}

fn key() -> FlowKey {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    FlowKey {
        local: address("192.0.2.1:443"),
        remote: address("198.51.100.7:50000"),
    }
}
