//! What a segment does to a connection: RFC 9293 §3.10.7.3 (SYN-SENT) and §3.10.7.4 (all others), in the order of the RFC, with the checks
//! of RFC 5961 against forged segments and of RFC 7323 against old ones.
//!
//! The urgent pointer is ignored: urgent bytes are delivered in line with the others, as RFC 6093 §6 recommends. A segment with URG is
//! otherwise like any (the sixth step does nothing).

use core::time::Duration;

use super::{Connection, Errand, Failure, Origin, State};
use crate::send::Ack;
use crate::timestamps::TICK;
use crate::{Env, Flags, Instant, Segment};

/// Challenge ACKs, and ACKs of unacceptable segments without data, leave a connection at most this often. RFC 5961 §7 asks for a limit;
/// one that all connections share can be measured by one of them (CVE-2016-5696). 500 ms as `tcp_invalid_ratelimit` on Linux: two stacks
/// that find each other's acknowledgements unacceptable don't fight.
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(500);

impl Connection {
    /// Takes a segment (checksum verified).
    pub fn input(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        match self.state {
            State::Closed => {}
            State::SynSent => self.in_syn_sent(segment, env),
            _ => self.in_other_states(segment, env),
        }
    }

    /// §3.10.7.3.
    fn in_syn_sent(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        let acknowledges = segment.has(Flags::ACK);
        if acknowledges && !self.acknowledges_our_syn(segment) {
            if !segment.has(Flags::RST) {
                self.errand = Some(Errand::Refusal(segment.header.ack));
            }
            return;
        }
        if segment.has(Flags::RST) {
            if acknowledges {
                self.fail(Failure::Refused, env);
            }
            return;
        }
        if !segment.has(Flags::SYN) {
            return;
        }
        let Segment { header, .. } = segment;
        self.on_peer_syn(header.seq, &header.options, env);
        if acknowledges {
            self.take_ack(segment, env);
            self.establish(env);
            self.receiver.acknowledge_now();
            self.on_text(segment, env);
        } else {
            // Simultaneous open (§3.5, figure 7): our SYN goes again, now with ACK.
            self.state = State::SynReceived;
            self.errand = Some(Errand::SynAck);
        }
    }

    /// §3.10.7.4.
    fn in_other_states(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        if !self.is_acceptable(segment, env) {
            return;
        }
        self.heard = env.now;
        self.probes = 0;
        if segment.has(Flags::RST) {
            self.on_reset(segment, env);
        } else if segment.has(Flags::SYN) {
            env.counters.syn_challenge += 1;
            self.challenge(env);
        } else if segment.has(Flags::ACK) && self.on_ack(segment, env) {
            self.take_timestamp(segment, env.now);
            self.on_text(segment, env);
        }
    }

    /// First: PAWS (RFC 7323 §5.3, R1), then the sequence number. What is not acceptable is acknowledged, unless it is a RST.
    fn is_acceptable(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) -> bool {
        if !self.passes_paws(segment, env) {
            return false;
        }
        let seq = segment.header.seq;
        if self.receiver.is_acceptable(seq, segment.len()) {
            return true;
        }
        if self.repeats_syn(segment) {
            self.take_timestamp(segment, env.now);
            if self.may_challenge(env.now) {
                self.errand = Some(Errand::SynAck);
            }
        } else if !segment.has(Flags::RST) {
            self.on_unacceptable(segment, env);
        }
        false
    }

    fn passes_paws(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) -> bool {
        if !self.negotiated.timestamps || segment.has(Flags::RST) {
            return true;
        }
        let Some(peer) = segment.header.options.timestamps else {
            // RFC 7323 §3.2: SHOULD be dropped, silently.
            return false;
        };
        if !self.clock.is_stale(peer.value, env.now) {
            return true;
        }
        env.counters.paws_estab += 1;
        self.on_unacceptable(segment, env);
        false
    }

    /// TS.Recent (RFC 7323 §4.3). Later than R3 of §5.3 says, as on Linux: a segment whose acknowledgement can't be right changes nothing.
    fn take_timestamp(&mut self, segment: &Segment<'_>, now: Instant) {
        let header = &segment.header;
        let timestamps = header
            .options
            .timestamps
            .filter(|_| self.negotiated.timestamps && !segment.has(Flags::RST));
        if let Some(peer) = timestamps {
            let last_ack_sent = self.receiver.last_ack_sent();
            self.clock
                .update(peer.value, header.seq, last_ack_sent, now);
        }
    }

    /// The peer did not get our SYN-ACK.
    fn repeats_syn(&self, segment: &Segment<'_>) -> bool {
        self.state == State::SynReceived
            && segment.opens()
            && segment.header.seq + 1 == self.receiver.nxt()
    }

    /// Acknowledges a segment that can't be taken. One with data or a FIN is a retransmission, whose sender waits for the answer, so only
    /// others are limited: no answer is made of data, so they alone could be answered forever.
    fn on_unacceptable(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        if segment.is_empty() || segment.has(Flags::SYN) {
            if self.may_challenge(env.now) {
                self.receiver.acknowledge_now();
            }
            return;
        }
        self.receiver
            .on_duplicate(segment.header.seq, segment.len());
        self.receiver.acknowledge_now();
    }

    /// Second. RFC 5961 §3.2: only the number that we expect next is believed.
    fn on_reset(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        if segment.header.seq != self.receiver.nxt() {
            self.challenge(env);
            return;
        }
        match (self.state, self.origin) {
            (State::SynReceived, Origin::Active) => self.fail(Failure::Refused, env),
            (State::TimeWait, _) => self.state = State::Closed,
            _ => self.fail(Failure::Reset, env),
        }
    }

    /// Fifth. Whether the segment is to be looked at further.
    fn on_ack(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) -> bool {
        let ack = segment.header.ack;
        if self.state == State::SynReceived {
            if !self.acknowledges_our_syn(segment) {
                self.errand = Some(Errand::Refusal(ack));
                return false;
            }
            self.take_ack(segment, env);
            self.establish(env);
            return true;
        }
        let una = self.sender.una();
        // RFC 5961 §5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
        if !ack.is_within(una - self.sender.max_wnd(), self.sender.nxt() + 1) {
            self.challenge(env);
            return false;
        }
        if !ack.precedes(una) {
            self.take_ack(segment, env);
            self.on_fin_acked();
        }
        true
    }

    /// SND.UNA < SEG.ACK <= SND.NXT, before our SYN was acknowledged.
    fn acknowledges_our_syn(&self, segment: &Segment<'_>) -> bool {
        let (una, nxt) = (self.sender.una(), self.sender.nxt());
        segment.header.ack.is_within(una + 1, nxt + 1)
    }

    /// Takes an acknowledgement that is acceptable and not old. The window of a SYN is not scaled (RFC 7323 §2.2).
    fn take_ack(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        let header = &segment.header;
        let shift = if segment.has(Flags::SYN) {
            0
        } else {
            self.negotiated.shifts().snd
        };
        let window = u32::from(header.window) << shift;
        self.soft_error = false;
        let timestamps = header.options.timestamps;
        let round_trip = timestamps
            .filter(|_| self.negotiated.timestamps)
            .and_then(|peer| self.clock.round_trip(peer.echo, env.now));
        // One of a single tick is some time below it: no measure of how much is read in a round trip.
        if let Some(sample) = round_trip.filter(|&it| it > TICK && !segment.payload.is_empty()) {
            self.receiver.on_round_trip(sample);
        }
        self.sender.on_ack(
            &Ack {
                ack: header.ack,
                seq: header.seq,
                window,
                sack: &header.options.sack,
                round_trip,
                carries_data: !segment.is_empty(),
            },
            env,
        );
    }

    fn on_fin_acked(&mut self) {
        if !self.sender.fin_is_acked() {
            return;
        }
        self.state = match self.state {
            State::FinWait1 => State::FinWait2,
            State::Closing => State::TimeWait,
            State::LastAck => State::Closed,
            other => other,
        };
    }

    /// Seventh and eighth. After the peer's FIN there can be neither.
    fn on_text(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        let receives = matches!(
            self.state,
            State::Established | State::FinWait1 | State::FinWait2
        );
        let fin = segment.has(Flags::FIN);
        if !receives || (segment.payload.is_empty() && !fin) {
            return;
        }
        let seq = segment.header.seq + u32::from(segment.has(Flags::SYN));
        if self
            .receiver
            .on_segment(seq, segment.payload, fin, env)
            .finished
        {
            self.on_peer_finished();
        }
    }

    fn on_peer_finished(&mut self) {
        self.receiver.acknowledge_now();
        self.state = match self.state {
            State::Established => State::CloseWait,
            State::FinWait1 => State::Closing,
            State::FinWait2 => State::TimeWait,
            other => other,
        };
    }

    /// A challenge ACK (RFC 5961): whoever is our peer answers it with a RST that only it can know, if it means it.
    fn challenge(&mut self, env: &mut Env<'_>) {
        if self.may_challenge(env.now) {
            env.counters.challenge_acks += 1;
            self.receiver.acknowledge_now();
        }
    }

    fn may_challenge(&mut self, now: Instant) -> bool {
        let may = now >= self.next_challenge;
        if may {
            self.next_challenge = now + CHALLENGE_INTERVAL;
        }
        may
    }
}
