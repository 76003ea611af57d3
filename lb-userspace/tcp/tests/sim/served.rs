//! An [`Endpoint`] as an end of the link, with one user, who acts only when woken.

use std::collections::VecDeque;

use lb_tcp::{
    Attachment, Endpoint, Failure, FlowId, FlowKey, Header, Icmp, Instant, Output, Payload, Secret,
    Seq, State, wire,
};

use crate::host::{Host, Phase};
use crate::ours::{Setup, packet};
use crate::packet::Packet;

/// An end.
pub(crate) struct Served {
    setup: Setup,
    endpoint: Endpoint<Route, Waiting>,
    out: Out,
    flow: Option<FlowId>,
    is_listening: bool,
    was_open: bool,
}

/// There is one way, and it must be the one that segments came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route(u32);

const ROUTE: Route = Route(7);

/// Whether the user waits for a wake-up, with either half.
#[derive(Debug, Default)]
struct Waiting {
    to_read: bool,
    to_write: bool,
}

impl Attachment for Waiting {
    fn progressed(&mut self, readable: bool, writable: bool) {
        self.to_read &= !readable;
        self.to_write &= !writable;
    }
}

/// A way with room for one packet.
struct Out {
    key: FlowKey,
    mtu: usize,
    scaling: bool,
    packets: VecDeque<Packet>,
}

impl Output<Route> for Out {
    fn has_room(&mut self, _: &Route) -> bool {
        self.packets.is_empty()
    }

    fn mtu(&self, _: &Route) -> usize {
        self.mtu
    }

    fn send(&mut self, key: &FlowKey, route: &Route, header: &Header, payload: Payload<'_>) {
        assert_eq!((key, route), (&self.key, &ROUTE));
        let mut header = *header;
        if !self.scaling {
            header.options.window_scale = None;
        }
        self.packets.push_back(packet(key, &header, payload));
    }
}

impl Served {
    pub(crate) fn new(setup: Setup, mtu: usize, seed: u64, now: Instant) -> Self {
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            endpoint: Endpoint::new(setup.config, Secret::new(secret), now),
            out: Out {
                key: setup.key,
                mtu,
                scaling: setup.scaling,
                packets: VecDeque::new(),
            },
            setup,
            flow: None,
            is_listening: false,
            was_open: false,
        }
    }

    /// The user's part of a turn: the clock, and what is to be accepted.
    fn turn(&mut self, now: Instant) {
        self.endpoint.advance(now);
        if self.flow.is_none()
            && let Some((id, key)) = self.endpoint.accept(&self.setup.key.local)
        {
            assert_eq!(key, self.setup.key);
            self.flow = Some(id);
            self.was_open = true;
        }
    }

    fn state(&mut self) -> Option<State> {
        Some(self.endpoint.info(self.flow.as_ref()?)?.state)
    }
}

impl Host for Served {
    fn listen(&mut self, _: Instant) {
        let address = self.setup.key.local;
        let waiting = Waiting::default();
        self.endpoint.listen(address, waiting).expect("to listen");
        self.is_listening = true;
    }

    fn connect(&mut self, _: Instant) {
        let flow = self.endpoint.connect(self.setup.key, ROUTE, &self.out);
        self.flow = Some(flow.expect("room for a flow"));
        self.was_open = true;
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
        let key = self.setup.key;
        self.endpoint
            .input(now, &key, ROUTE, &segment, &mut self.out);
        self.turn(now);
    }

    fn too_big(&mut self, quoted: &Packet, mtu: usize, now: Instant) {
        let seq = u32::from_be_bytes(quoted.bytes[4..8].try_into().unwrap());
        let message = Icmp::TooBig { mtu };
        self.endpoint.icmp(now, &self.setup.key, Seq(seq), message);
    }

    fn on_timer(&mut self, now: Instant) {
        self.turn(now);
    }

    fn next_timer(&mut self, _: Instant) -> Option<Instant> {
        self.endpoint.next_timer()
    }

    fn transmit(&mut self, now: Instant) -> Option<Packet> {
        self.turn(now);
        if self.out.packets.is_empty() && self.endpoint.wants_output() {
            self.endpoint.output(&mut self.out);
        }
        self.out.packets.pop_front()
    }

    fn read(&mut self, into: &mut [u8], now: Instant) -> Result<Option<usize>, Failure> {
        self.turn(now);
        let Some(flow) = &self.flow else {
            return Ok(None);
        };
        if self.endpoint.attachment(flow).is_some_and(|it| it.to_read) {
            return Ok(None);
        }
        let read = self.endpoint.read(flow, into);
        if let Some(waiting) = self.endpoint.attachment(flow) {
            waiting.to_read = read == Ok(None);
        }
        read
    }

    fn write(&mut self, bytes: &[u8], now: Instant) -> Result<Option<usize>, Failure> {
        self.turn(now);
        let Some(flow) = &self.flow else {
            return Ok(None);
        };
        if self.endpoint.attachment(flow).is_some_and(|it| it.to_write) {
            return Ok(None);
        }
        let written = self.endpoint.write(flow, bytes);
        if let Some(waiting) = self.endpoint.attachment(flow) {
            waiting.to_write = written == Ok(None);
        }
        written
    }

    fn shutdown(&mut self, now: Instant) {
        self.turn(now);
        if let Some(flow) = &self.flow {
            self.endpoint.shutdown(flow);
        }
    }

    fn abort(&mut self, now: Instant) {
        self.turn(now);
        if let Some(flow) = &self.flow {
            self.endpoint.abort(flow);
        }
    }

    fn phase(&mut self) -> Phase {
        match self.state() {
            Some(State::Closed | State::TimeWait) => Phase::Over,
            Some(_) => Phase::Open,
            None if self.endpoint.flows() > 0 && self.was_open => Phase::Open,
            None if self.was_open => Phase::Over,
            None => Phase::Listening,
        }
    }

    fn memory(&self) -> usize {
        self.endpoint.pool().lent()
    }

    fn release(&mut self, now: Instant) {
        self.turn(now);
        if let Some(flow) = self.flow.take() {
            self.endpoint.release(flow);
        }
    }

    fn leftovers(&self) -> usize {
        self.endpoint.flows() + self.endpoint.time_wait()
    }

    fn describe(&mut self, _: Instant) -> String {
        let (flows, records) = (self.endpoint.flows(), self.endpoint.time_wait());
        let next = self.endpoint.next_timer();
        let info = self.flow.as_ref().map(|flow| self.endpoint.info(flow));
        format!("{flows} flows, {records} records, next {next:?}, {info:?}")
    }
}
