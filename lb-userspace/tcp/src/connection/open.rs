//! The ways into a connection: the peer's SYN, ours, or a cookie that came back; and what the two SYNs agree on.

use super::{Connection, Negotiated, Origin, Scale, State};
use crate::receive::Receiver;
use crate::send::Sender;
use crate::timestamps::Clock;
use crate::{Config, Env, Instant, Options, Segment, Seq};

/// Shift counts above this mean this (RFC 7323 §2.3).
const MAX_SCALE: u8 = 14;

/// MSS of a peer that told none (RFC 9293 §3.7.1, MUST-15: 536 for IPv4, 1220 for IPv6). One number serves both families here, since a
/// connection doesn't know its own: the smaller is right for one and safe for the other.
const DEFAULT_MSS: u16 = 536;

/// Bytes that timestamps take of each segment: the option and two of padding (RFC 7323, appendix A).
const TIMESTAMPS_LEN: usize = 12;

/// What a connection begins with.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Initial sequence number.
    pub iss: Seq,
    /// Offset of our timestamp clock.
    pub timestamp_offset: u32,
    /// MSS without options that the way to the peer allows: MTU less the IP and TCP headers.
    pub mss: usize,
}

impl Negotiated {
    /// What our SYN offers.
    fn offered(config: &Config) -> Self {
        Self {
            scale: Some(Scale {
                snd: 0,
                rcv: config.window_scale.min(MAX_SCALE),
            }),
            sack: config.sack,
            timestamps: config.timestamps,
        }
    }

    /// What is left of an offer when the peer's SYN is known: an option counts only if both have it, so that ours mirror the peer's.
    fn with(self, peer: &Options) -> Self {
        let scale = self.scale.zip(peer.window_scale);
        Self {
            scale: scale.map(|(own, snd)| Scale {
                snd: snd.min(MAX_SCALE),
                rcv: own.rcv,
            }),
            sack: self.sack && peer.sack_permitted,
            timestamps: self.timestamps && peer.timestamps.is_some(),
        }
    }

    /// Bytes of options in every segment.
    pub(super) fn overhead(self) -> usize {
        if self.timestamps { TIMESTAMPS_LEN } else { 0 }
    }

    /// Shift counts, none being zeros.
    pub(super) fn shifts(self) -> Scale {
        self.scale.unwrap_or_default()
    }
}

impl Connection {
    /// SYN-RECEIVED, in answer to `syn`. Text of a SYN is not taken, and so comes again after the handshake.
    pub fn accept(syn: &Segment<'_>, open: Open, env: &mut Env<'_>) -> Self {
        let mut connection = Self::new(open, true, env);
        connection.state = State::SynReceived;
        connection.origin = Origin::Passive;
        connection.on_peer_syn(syn.header.seq, &syn.header.options, env);
        connection
    }

    /// SYN-SENT.
    pub fn connect(open: Open, env: &mut Env<'_>) -> Self {
        env.counters.active_opens += 1;
        Self::new(open, true, env)
    }

    /// ESTABLISHED, from a cookie that came back: `ack` is the segment that brought it, `syn` the options of the peer's SYN that
    /// the cookie remembered. The caller gives `ack` to [`input`](Self::input) next, for its window and its text.
    pub fn resume(ack: &Segment<'_>, syn: &Options, open: Open, env: &mut Env<'_>) -> Self {
        let mut connection = Self::new(open, false, env);
        connection.origin = Origin::Passive;
        connection.on_peer_syn(ack.header.seq - 1, syn, env);
        if let Some(timestamps) = ack.header.options.timestamps {
            connection.clock.start(timestamps.value, env.now);
        }
        connection.establish(env);
        connection
    }

    pub(super) fn new(open: Open, syn: bool, env: &Env<'_>) -> Self {
        let negotiated = Negotiated::offered(env.config);
        Self {
            sender: Sender::new(open.iss, open.mss, syn, env),
            receiver: Receiver::new(Seq(0), negotiated.shifts().rcv, negotiated.sack, env),
            clock: Clock::new(open.timestamp_offset),
            state: State::SynSent,
            failure: None,
            origin: Origin::Active,
            negotiated,
            mss: u16::try_from(open.mss).unwrap_or(u16::MAX),
            errand: None,
            shut: false,
            soft_error: false,
            syns: 0,
            probes: 0,
            heard: env.now,
            next_challenge: Instant::ZERO,
        }
    }

    /// Takes the number and the options of the peer's SYN.
    pub(super) fn on_peer_syn(&mut self, irs: Seq, options: &Options, env: &Env<'_>) {
        self.negotiated = self.negotiated.with(options);
        let Negotiated {
            sack, timestamps, ..
        } = self.negotiated;
        self.receiver = Receiver::new(irs, self.negotiated.shifts().rcv, sack, env);
        if let Some(peer) = options.timestamps.filter(|_| timestamps) {
            self.clock.start(peer.value, env.now);
        }
        let peer_mss = usize::from(options.mss.unwrap_or(DEFAULT_MSS));
        self.sender
            .negotiated(peer_mss, sack, self.negotiated.overhead());
        self.heard = env.now;
    }
}
