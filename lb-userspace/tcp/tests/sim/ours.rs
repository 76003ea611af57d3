//! A [`Connection`] as an end of the link, with the little of an endpoint that one connection needs: it listens, and answers
//! segments of no connection with RST.
//!
//! Holds its user to the rules of wakers: after a write that had to wait, there is no other before `is_writable` says so.

use std::collections::VecDeque;

use lb_tcp::{
    Config, Connection, Counters, Env, Failure, Flags, FlowKey, Header, Instant, Open, Payload,
    Pool, Segment, Seq, State, wire,
};

use crate::host::{Host, Phase};
use crate::packet::{Packet, ip_header};

/// What an end is given.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) key: FlowKey,
    pub(crate) config: Config,
    pub(crate) open: Open,
    /// Without, window scaling is in no SYN that it sends or sees.
    pub(crate) scaling: bool,
}

/// An end.
pub(crate) struct Ours {
    setup: Setup,
    pool: Pool,
    counters: Counters,
    connection: Option<Connection>,
    replies: VecDeque<Packet>,
    must_wait: bool,
    is_passive: bool,
    was_open: bool,
}

impl Ours {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            pool: Pool::new(setup.config.memory),
            setup,
            counters: Counters::default(),
            connection: None,
            replies: VecDeque::new(),
            must_wait: false,
            is_passive: true,
            was_open: false,
        }
    }

    fn with<R>(
        &mut self,
        now: Instant,
        then: impl FnOnce(&mut Connection, &mut Env<'_>) -> R,
    ) -> Option<R> {
        let connection = self.connection.as_mut()?;
        let mut env = Env {
            now,
            config: &self.setup.config,
            pool: &mut self.pool,
            counters: &mut self.counters,
        };
        Some(then(connection, &mut env))
    }

    fn env(&mut self, now: Instant) -> Env<'_> {
        Env {
            now,
            config: &self.setup.config,
            pool: &mut self.pool,
            counters: &mut self.counters,
        }
    }

    fn is_closed(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_none_or(|it| it.state() == State::Closed)
    }

    fn handshake_failed(&self) -> bool {
        self.is_passive && !self.was_open && self.connection.is_some() && self.is_closed()
    }

    /// RST for a segment of no connection (RFC 9293 §3.10.7.1).
    fn refuse(&mut self, segment: &Segment<'_>) {
        if segment.has(Flags::RST) {
            return;
        }
        let mut header = Header {
            flags: Flags::RST,
            ..Header::default()
        };
        if segment.has(Flags::ACK) {
            header.seq = segment.header.ack;
        } else {
            header.flags = Flags::RST | Flags::ACK;
            header.ack = segment.header.seq + segment.len();
        }
        let packet = packet(&self.setup.key, &header, Payload::default());
        self.replies.push_back(packet);
    }
}

/// A segment as bytes.
pub(crate) fn packet(key: &FlowKey, header: &Header, payload: Payload<'_>) -> Packet {
    let mut bytes = vec![0; wire::header_len(header) + payload.len()];
    wire::emit(key, header, payload, &mut bytes);
    Packet::new(key, bytes)
}

impl Host for Ours {
    fn listen(&mut self, _: Instant) {}

    fn connect(&mut self, now: Instant) {
        let open = self.setup.open;
        self.is_passive = false;
        self.connection = Some(Connection::connect(open, &mut self.env(now)));
    }

    fn receive(&mut self, packet: &Packet, now: Instant) {
        if !packet.checksum_holds() {
            return;
        }
        let Ok((_, mut segment)) = wire::parse(&packet.bytes) else {
            return;
        };
        if !self.setup.scaling {
            segment.header.options.window_scale = None;
        }
        if self.handshake_failed() {
            // As a listener, which forgets it.
            self.with(now, Connection::release);
            self.connection = None;
        }
        if self.connection.is_none() && segment.opens() {
            let open = self.setup.open;
            self.connection = Some(Connection::accept(&segment, open, &mut self.env(now)));
        } else if self.is_closed() {
            self.refuse(&segment);
        } else {
            let state = self.with(now, |it, env| {
                it.input(&segment, env);
                it.state()
            });
            self.was_open |=
                state.is_some_and(|it| !matches!(it, State::SynReceived | State::Closed));
        }
    }

    fn too_big(&mut self, quoted: &Packet, mtu: usize, now: Instant) {
        let mss = mtu - ip_header(quoted.source) - 20;
        let bytes = quoted.bytes[4..8].try_into().unwrap();
        let seq = Seq(u32::from_be_bytes(bytes));
        self.with(now, |it, env| it.packet_too_big(seq, mss, env));
    }

    fn on_timer(&mut self, now: Instant) {
        self.with(now, Connection::on_timer);
    }

    fn next_timer(&mut self, now: Instant) -> Option<Instant> {
        self.with(now, |it, env| it.next_timer(env)).flatten()
    }

    fn transmit(&mut self, now: Instant) -> Option<Packet> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        let Setup { key, scaling, .. } = self.setup;
        self.with(now, |it, env| {
            let wants = it.wants_output(env);
            let outgoing = it.poll_output(env);
            // A connection that has to begin to wait for a window is polled for that, once.
            assert!(
                if outgoing.is_some() {
                    wants
                } else {
                    !it.wants_output(env)
                },
                "wants_output is not what poll_output says: {outgoing:?}"
            );
            let outgoing = outgoing?;
            let mut header = outgoing.header;
            if !scaling {
                header.options.window_scale = None;
            }
            Some(packet(&key, &header, it.payload(&outgoing)))
        })
        .flatten()
    }

    fn read(&mut self, into: &mut [u8], now: Instant) -> Result<Option<usize>, Failure> {
        let read = self.with(now, |it, env| {
            let ready = it.is_readable();
            let read = it.read(into, env);
            assert_eq!(
                ready,
                read != Ok(None),
                "is_readable is not what read says: {read:?}"
            );
            read
        });
        read.unwrap_or(Ok(None))
    }

    fn write(&mut self, bytes: &[u8], now: Instant) -> Result<Option<usize>, Failure> {
        let must_wait = self.must_wait;
        let written = self.with(now, |it, env| {
            let ready = it.is_writable(env);
            if must_wait && !ready {
                return Ok(None);
            }
            let written = it.write(bytes, env);
            assert!(
                !ready || written != Ok(None),
                "is_writable, but write has to wait"
            );
            written
        });
        let written = written.unwrap_or(Ok(None));
        self.must_wait = written == Ok(None);
        written
    }

    fn shutdown(&mut self, now: Instant) {
        self.with(now, |it, _| it.shutdown());
    }

    fn abort(&mut self, now: Instant) {
        self.with(now, Connection::abort);
    }

    fn phase(&mut self) -> Phase {
        match self.connection.as_ref().map(Connection::state) {
            None => Phase::Listening,
            Some(State::SynReceived) if self.is_passive => Phase::Listening,
            Some(State::Closed | State::TimeWait) => Phase::Over,
            Some(_) => Phase::Open,
        }
    }

    fn memory(&self) -> usize {
        self.pool.lent()
    }

    fn release(&mut self, now: Instant) {
        // What the user has written, or a RST, may still be on its way, and TIME-WAIT answers.
        let is_silent = self.with(now, |it, env| !it.wants_output(env));
        if is_silent == Some(true) && self.is_closed() {
            self.with(now, Connection::release);
        }
    }

    fn leftovers(&self) -> usize {
        0
    }

    fn describe(&mut self, _: Instant) -> String {
        let state = self.connection.as_ref().map(Connection::state);
        let failure = self.connection.as_ref().and_then(Connection::failure);
        format!("{state:?} {failure:?}, {:?}", self.connection)
    }
}
