//! What arrives: whose a segment is, and what becomes of one that is nobody's.

use core::net::IpAddr;

use super::bare::{last_acknowledgement, refusal};
use super::flow::{Flow, Owner};
use super::index::Hash;
use super::listeners::Admission;
use super::time_wait::Answer;
use super::tuple::Tuple;
use super::{Attachment, Disposition, Endpoint, FlowKey, Icmp, Output, Shared};
use crate::connection::Open;
use crate::{Connection, Flags, Instant, Pressure, Segment, Seq, cookie};

/// How far a connection that takes another's place begins above its numbers, as on Linux: more than a window without scaling.
const REOPEN_GAP: u32 = 65_537;

const TCP_HEADER: usize = 20;

/// Bytes of a packet that every IPv4 path is taken to carry, as Linux' `min_pmtu`: RFC 791 says 68, and whoever says less than this
/// is an attacker (RFC 5927 §7).
const MIN_MTU_V4: usize = 552;
/// Bytes of a packet that every IPv6 path carries (RFC 8200 §5, RFC 8201 §4).
const MIN_MTU_V6: usize = 1280;

/// A segment, whose it says that it is, and the way that it came.
pub(super) struct Arrival<'a, R> {
    key: &'a FlowKey,
    tuple: Tuple,
    hash: Hash,
    route: R,
    segment: &'a Segment<'a>,
}

impl<R: Clone, A: Attachment> Endpoint<R, A> {
    /// Takes a segment (checksum verified) that arrived by `route`, if it is for this endpoint. `out` must have room for an answer
    /// to segments of no connection; whatever a connection has to say it says in [`output`](Self::output).
    pub fn input(
        &mut self,
        now: Instant,
        key: &FlowKey,
        route: R,
        segment: &Segment<'_>,
        out: &mut impl Output<R>,
    ) -> Disposition {
        self.shared.set_now(now);
        self.shared.counters.in_segs += 1;
        let (tuple, hash) = self.shared.tuple_and_hash(key);
        let arrival = Arrival {
            key,
            tuple,
            hash,
            route,
            segment,
        };
        match self.find(key, hash) {
            Some(id) => {
                self.deliver(id, arrival);
                Disposition::Taken
            }
            None => self.late(&arrival, out),
        }
    }

    /// A router says something of a segment that we sent, of whose TCP header it quotes the number. Whether the connection is
    /// here; one that has moved is not.
    pub fn icmp(&mut self, now: Instant, key: &FlowKey, quoted: Seq, message: Icmp) -> bool {
        self.shared.set_now(now);
        let (_, hash) = self.shared.tuple_and_hash(key);
        let Some(id) = self.find(key, hash) else {
            return false;
        };
        let Some(flow) = self.flows.get_mut(id) else {
            return false;
        };
        let mut env = self.shared.env();
        match message {
            Icmp::Unreachable => flow.connection.unreachable(quoted, &mut env),
            Icmp::TooBig { mtu } => {
                let least = if is_v4(key) { MIN_MTU_V4 } else { MIN_MTU_V6 };
                let mss = mtu.max(least) - overhead(key);
                flow.connection.packet_too_big(quoted, mss, &mut env);
            }
        }
        self.settle(id);
        true
    }

    pub(super) fn find(&self, key: &FlowKey, hash: Hash) -> Option<u32> {
        self.index.find(hash, |id| {
            self.flows.get(id).is_some_and(|flow| flow.key == *key)
        })
    }

    fn deliver(&mut self, id: u32, arrival: Arrival<'_, R>) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        let segment = arrival.segment;
        if let Owner::Handshake(serial) = flow.owner
            && segment.has(Flags::ACK)
            && !segment.has(Flags::RST)
            && let Some(listener) = self.listeners.of(&flow.key.local, serial)
            && listener.is_full(self.shared.config.backlog)
        {
            // Nobody accepts: the handshake stays open, and the client's next try may find room.
            self.overflow();
            return;
        }
        flow.route = arrival.route;
        flow.connection.input(segment, &mut self.shared.env());
        self.settle(id);
    }

    /// A segment without connection: of one that is over, or has moved, or of none.
    fn late(&mut self, arrival: &Arrival<'_, R>, out: &mut impl Output<R>) -> Disposition {
        let Arrival { key, segment, .. } = *arrival;
        let place = (&arrival.tuple, arrival.hash);
        let answer = self
            .time_wait
            .answer(place, segment, &mut self.shared.counters);
        match answer {
            None => return self.unknown(arrival, out),
            Some((Answer::Forward, _)) => return Disposition::Elsewhere,
            Some((Answer::Ignore, _)) => {}
            Some((Answer::Acknowledge, remains)) => {
                let offset = self.shared.secret.timestamp_offset(key);
                let clock = self.shared.now.millis().wrapping_add(offset);
                let header = last_acknowledgement(&remains, clock);
                self.answer(key, &arrival.route, &header, out);
            }
            Some((Answer::Reopen, remains)) => self.open(arrival, Some(remains.nxt), out),
        }
        Disposition::Taken
    }

    fn unknown(&mut self, arrival: &Arrival<'_, R>, out: &mut impl Output<R>) -> Disposition {
        let Arrival { key, segment, .. } = *arrival;
        let Some(listener) = self.listeners.get_mut(&key.local) else {
            return self.nobodys(arrival);
        };
        if segment.opens() {
            self.open(arrival, None, out);
            return Disposition::Taken;
        }
        let may_be_cookie =
            segment.has(Flags::ACK) && !segment.has(Flags::SYN) && !segment.has(Flags::RST);
        if may_be_cookie && listener.expects_cookies(self.shared.now) {
            return self.cookie_came_back(arrival, out);
        }
        self.refuse(arrival, out)
    }

    /// A segment for an address that is not listened on.
    fn nobodys(&mut self, arrival: &Arrival<'_, R>) -> Disposition {
        // A SYN would wait there for who comes after us; here it is ignored, so that it finds the next process as well.
        let is_for_the_next = self.is_stopping && arrival.segment.opens();
        if self.shares_ports && !is_for_the_next {
            return Disposition::Elsewhere;
        }
        self.shared.counters.no_listener += 1;
        Disposition::Taken
    }

    /// A segment that opens nothing, of no connection. A RST is never answered (RFC 9293 §3.10.7.1).
    fn refuse(&mut self, arrival: &Arrival<'_, R>, out: &mut impl Output<R>) -> Disposition {
        if self.shares_ports {
            return Disposition::Elsewhere;
        }
        if !arrival.segment.has(Flags::RST) {
            let header = refusal(arrival.segment);
            self.answer(arrival.key, &arrival.route, &header, out);
        }
        Disposition::Taken
    }

    /// A SYN. `above` is where the numbers of the connection end that it takes the place of.
    fn open(&mut self, arrival: &Arrival<'_, R>, above: Option<Seq>, out: &mut impl Output<R>) {
        let Arrival { key, segment, .. } = *arrival;
        let Some(listener) = self.listeners.get_mut(&key.local) else {
            self.shared.counters.no_listener += 1;
            return;
        };
        if self.is_stopping {
            self.shared.counters.listen_drops += 1;
            return;
        }
        if self.flows.len() >= self.shared.config.max_flows
            || self.shared.pool.pressure() == Pressure::RefuseConnections
        {
            return self.no_memory();
        }
        match listener.admit(self.shared.config.backlog, above.is_some()) {
            Admission::Overflow => self.overflow(),
            Admission::Cookie => {
                listener.sent_cookie(self.shared.now);
                self.send_cookie(arrival, out);
            }
            Admission::Open => {
                listener.began();
                let owner = Owner::Handshake(listener.serial);
                let open = self.numbers(arrival, above, out);
                let connection = Connection::accept(segment, open, &mut self.shared.env());
                self.add(arrival, owner, connection);
            }
        }
    }

    fn send_cookie(&mut self, arrival: &Arrival<'_, R>, out: &mut impl Output<R>) {
        let Arrival { key, segment, .. } = *arrival;
        let shared = &self.shared;
        let syn = &segment.header;
        let mut header = cookie::make(&shared.secret, key, syn, shared.now, &shared.config);
        header.options.mss = u16::try_from(mss(key, out.mtu(&arrival.route))).ok();
        self.shared.counters.syncookies_sent += 1;
        self.answer(key, &arrival.route, &header, out);
    }

    /// The acknowledgement of a SYN-ACK that we kept nothing of, perhaps.
    fn cookie_came_back(
        &mut self,
        arrival: &Arrival<'_, R>,
        out: &mut impl Output<R>,
    ) -> Disposition {
        let Arrival { key, segment, .. } = *arrival;
        let Shared {
            now,
            config,
            secret,
            counters,
            pool,
            ..
        } = &mut self.shared;
        let Some(syn) = cookie::check(secret, key, &segment.header, *now, config) else {
            counters.syncookies_failed += 1;
            return self.refuse(arrival, out);
        };
        if self.flows.len() >= config.max_flows || pool.pressure() == Pressure::RefuseConnections {
            self.no_memory();
            return Disposition::Taken;
        }
        let Some(listener) = self.listeners.get_mut(&key.local) else {
            return Disposition::Taken;
        };
        if self.is_stopping || listener.is_full(config.backlog) {
            self.overflow();
            return Disposition::Taken;
        }
        counters.syncookies_received += 1;
        listener.began();
        let owner = Owner::Handshake(listener.serial);
        let open = Open {
            iss: segment.header.ack - 1,
            ..self.numbers(arrival, None, out)
        };
        let connection = Connection::resume(segment, &syn, open, &mut self.shared.env());
        if let Some(id) = self.add(arrival, owner, connection) {
            self.deliver_text(id, segment);
        }
        Disposition::Taken
    }

    /// The segment that brought a cookie may carry text, or a FIN.
    fn deliver_text(&mut self, id: u32, segment: &Segment<'_>) {
        if !segment.is_empty()
            && let Some(flow) = self.flows.get_mut(id)
        {
            flow.connection.input(segment, &mut self.shared.env());
            self.settle(id);
        }
    }

    fn numbers(&self, arrival: &Arrival<'_, R>, above: Option<Seq>, out: &impl Output<R>) -> Open {
        let Shared { secret, now, .. } = &self.shared;
        let iss = secret.isn(arrival.key, *now);
        let above = above.map_or(iss, |end| iss.max(end + REOPEN_GAP));
        Open {
            iss: above,
            timestamp_offset: secret.timestamp_offset(arrival.key),
            mss: mss(arrival.key, out.mtu(&arrival.route)),
        }
    }

    fn add(
        &mut self,
        arrival: &Arrival<'_, R>,
        owner: Owner,
        connection: Connection,
    ) -> Option<u32> {
        let id = self.flows.insert(Flow {
            hash: arrival.hash,
            key: *arrival.key,
            owner,
            is_in_line: false,
            is_indexed: true,
            connection,
            route: arrival.route.clone(),
            attachment: A::default(),
        })?;
        self.index.insert(arrival.hash, id);
        self.settle(id);
        Some(id)
    }

    fn overflow(&mut self) {
        self.shared.counters.listen_overflows += 1;
        self.shared.counters.listen_drops += 1;
    }

    fn no_memory(&mut self) {
        self.shared.counters.memory_drops += 1;
        self.shared.counters.listen_drops += 1;
    }
}

/// MSS without options that an MTU allows.
pub(super) fn mss(key: &FlowKey, mtu: usize) -> usize {
    mtu.saturating_sub(overhead(key))
}

fn overhead(key: &FlowKey) -> usize {
    TCP_HEADER + if is_v4(key) { 20 } else { 40 }
}

fn is_v4(key: &FlowKey) -> bool {
    matches!(key.local.ip(), IpAddr::V4(_))
}
