//! What leaves: the sender's segments with an acknowledgement on each, pure acknowledgements, probes, RST.
//!
//! SACK blocks never shorten data. When there are blocks to tell and an acknowledgement is due, it leaves by itself before the data; a data
//! segment that isn't full carries as many blocks as fit. (Linux shortens its data segments instead; then their boundaries move, and
//! retransmissions need splitting.)

use super::{Connection, Errand, State};
use crate::pool::Payload;
use crate::send::Transmission;
use crate::{Env, Flags, Header, Instant, Options, Seq};

/// Bytes of a window field.
const MAX_WINDOW: u32 = 65_535;
/// Bytes of SACK's kind and length, padded; and of each block (RFC 2018 §3).
const SACK_HEADER_LEN: usize = 4;
const SACK_BLOCK_LEN: usize = 8;
/// Bytes of options at most.
const MAX_OPTIONS_LEN: usize = 40;

/// A segment that shall leave now; counted as sent. Its payload is [`Connection::payload`]'s.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Its header.
    pub header: Header,
    pub(crate) transmission: Transmission,
}

impl Connection {
    /// The next segment to send.
    pub fn poll_output(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        match self.errand.take() {
            None => {}
            Some(Errand::Reset) => return Some(self.reset(env)),
            Some(Errand::Refusal(seq)) => return Some(self.refusal(seq, env)),
            Some(Errand::SynAck) => return Some(self.syn_again(env)),
            Some(Errand::Probe) => return Some(self.keepalive_probe(env)),
        }
        if self.state == State::Closed {
            return None;
        }
        if self.receiver.ack_is_due() && self.receiver.has_sack() {
            return Some(self.pure_ack(self.sender.nxt(), env));
        }
        if let Some(transmission) = self.sender.poll_transmit(env) {
            return Some(self.segment(transmission, env));
        }
        if self.receiver.ack_is_due() {
            return Some(self.pure_ack(self.sender.nxt(), env));
        }
        None
    }

    /// The bytes of a segment. They stay where they are until the next call of [`input`](Self::input).
    pub fn payload(&self, outgoing: &Outgoing) -> Payload<'_> {
        if outgoing.transmission.len == 0 {
            return Payload::default();
        }
        self.sender.payload(&outgoing.transmission)
    }

    /// Whether [`poll_output`](Self::poll_output) would give something; cheap.
    pub fn wants_output(&self, env: &Env<'_>) -> bool {
        self.errand.is_some()
            || self.state != State::Closed
                && (self.receiver.ack_is_due() || self.sender.wants_output(env))
    }

    /// A segment of the sender.
    fn segment(&mut self, transmission: Transmission, env: &mut Env<'_>) -> Outgoing {
        let Transmission {
            seq,
            len,
            syn,
            fin,
            push,
        } = transmission;
        let mut flags = Flags::ACK;
        if syn {
            self.syns = self.syns.saturating_add(1);
            return self.syn_segment(transmission, env);
        }
        if fin {
            flags = flags | Flags::FIN;
        }
        if push {
            flags = flags | Flags::PSH;
        }
        if len > 0 {
            self.receiver.on_data_sent();
        }
        let spare = self.sender.mss().saturating_sub(len);
        Outgoing {
            header: self.header(seq, flags, spare, env),
            transmission,
        }
    }

    /// Our SYN, with ACK once the peer's is known.
    fn syn_segment(&mut self, transmission: Transmission, env: &mut Env<'_>) -> Outgoing {
        self.errand = None;
        let mut header = self.header(transmission.seq, Flags::SYN, 0, env);
        let negotiated = self.negotiated;
        if self.state == State::SynSent {
            header.ack = Seq(0);
        } else {
            header.flags = header.flags | Flags::ACK;
        }
        // RFC 7323 §2.2: the window of a SYN is not scaled.
        let window = u32::from(header.window) << negotiated.shifts().rcv;
        header.window = u16::try_from(window.min(MAX_WINDOW)).unwrap_or(u16::MAX);
        header.options = Options {
            mss: Some(self.mss),
            window_scale: negotiated.scale.map(|scale| scale.rcv),
            sack_permitted: negotiated.sack,
            ..header.options
        };
        Outgoing {
            header,
            transmission,
        }
    }

    /// Our SYN-ACK once more. It doesn't count as a try: a peer that asks again is there, and only silence ends a handshake.
    fn syn_again(&mut self, env: &mut Env<'_>) -> Outgoing {
        // The sender may not have sent it a first time.
        if let Some(transmission) = self.sender.poll_transmit(env) {
            return self.segment(transmission, env);
        }
        let transmission = Transmission {
            seq: self.sender.una(),
            syn: true,
            ..Transmission::default()
        };
        self.syn_segment(transmission, env)
    }

    fn pure_ack(&mut self, seq: Seq, env: &mut Env<'_>) -> Outgoing {
        Outgoing {
            header: self.header(seq, Flags::ACK, MAX_OPTIONS_LEN, env),
            transmission: Transmission::default(),
        }
    }

    /// A header with all that each segment says of the receiving direction. SACK blocks get at most `spare` bytes.
    fn header(&mut self, seq: Seq, flags: Flags, spare: usize, env: &mut Env<'_>) -> Header {
        let told = self.receiver.acknowledgement(env);
        let timestamps = self.timestamps(env.now);
        let spare = spare.min(MAX_OPTIONS_LEN - self.negotiated.overhead());
        let mut sack = told.sack;
        sack.truncate(spare.saturating_sub(SACK_HEADER_LEN) / SACK_BLOCK_LEN);
        Header {
            seq,
            ack: told.ack,
            flags,
            window: told.window,
            options: Options {
                timestamps,
                sack,
                ..Options::default()
            },
        }
    }

    /// RFC 7323 §3.2: on each segment once negotiated; the echo of a SYN without ACK is 0.
    fn timestamps(&self, now: Instant) -> Option<crate::Timestamps> {
        self.negotiated.timestamps.then(|| self.clock.option(now))
    }

    /// RFC 9293 §3.8.4: a number that the peer has acknowledged, so that it must answer.
    fn keepalive_probe(&mut self, env: &mut Env<'_>) -> Outgoing {
        env.counters.keepalives += 1;
        self.pure_ack(self.sender.una() - 1, env)
    }

    fn reset(&self, env: &mut Env<'_>) -> Outgoing {
        let header = Header {
            seq: self.sender.nxt(),
            ack: self.receiver.nxt(),
            flags: Flags::RST | Flags::ACK,
            ..Header::default()
        };
        self.with_rst(header, env)
    }

    fn refusal(&self, seq: Seq, env: &mut Env<'_>) -> Outgoing {
        let header = Header {
            seq,
            flags: Flags::RST,
            ..Header::default()
        };
        self.with_rst(header, env)
    }

    /// A RST carries timestamps too (RFC 7323 §3.2: SHOULD).
    fn with_rst(&self, mut header: Header, env: &mut Env<'_>) -> Outgoing {
        env.counters.out_rsts += 1;
        header.options.timestamps = self.timestamps(env.now);
        Outgoing {
            header,
            transmission: Transmission::default(),
        }
    }
}
