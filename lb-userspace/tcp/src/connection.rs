//! One connection: the states of RFC 9293, and the order in which a segment is looked at (§3.10.7).
//!
//! The owner calls, in any order: [`input`](Connection::input) for each segment that arrived, [`on_timer`](Connection::on_timer) when
//! [`next_timer`](Connection::next_timer) has come, [`read`](Connection::read), [`write`](Connection::write), [`shutdown`](Connection::shutdown) and
//! [`abort`](Connection::abort) as its user likes; and after any of them [`poll_output`](Connection::poll_output) until it gives nothing, or as
//! often as there is room.
//!
//! `open` has the ways into a connection, `input` what segments do to it, `output` what leaves, `timers` what silence does, `icmp` what
//! routers say, `snapshot` the way out to another engine.
//!
//! Deliberately not here: bytes and windows (`Receiver`), loss and congestion (`Sender`), which connection a segment belongs to, TIME-WAIT
//! after its first moment, connections that nobody reads any more (all three are the endpoint's).

mod icmp;
mod info;
mod input;
mod open;
mod output;
mod snapshot;
mod timers;

#[cfg(test)]
mod tests;

pub use info::Info;
pub use open::Open;
pub use output::Outgoing;
pub use snapshot::Snapshot;

use crate::receive::Receiver;
use crate::send::Sender;
use crate::timestamps::Clock;
use crate::{Env, Instant, Seq};

/// State (RFC 9293 §3.3.2). LISTEN belongs to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Our SYN is out.
    SynSent,
    /// Both SYNs are out; ours is not acknowledged.
    SynReceived,
    /// Data flows.
    Established,
    /// We have finished.
    FinWait1,
    /// We have finished and the peer knows.
    FinWait2,
    /// The peer has finished.
    CloseWait,
    /// Both have finished at the same time; our FIN is not acknowledged.
    Closing,
    /// Both have finished, the peer first; our FIN is not acknowledged.
    LastAck,
    /// Both have finished and know it; we were first.
    TimeWait,
    /// Over.
    Closed,
}

/// How a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The peer answered our SYN with RST.
    Refused,
    /// The peer sent RST.
    Reset,
    /// We aborted.
    Aborted,
    /// The peer was silent although it owed an answer, or did not answer probes.
    TimedOut,
    /// Routers said so until the peer had been silent for too long (RFC 5461).
    Unreachable,
}

/// Which end began: a RST during the handshake means something else to each (RFC 9293 §3.10.7.4, second).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Active,
    Passive,
}

/// What both SYNs agreed on; until the peer's is here, what ours offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Negotiated {
    /// None unless both SYNs had the option (RFC 7323 §2.2).
    scale: Option<Scale>,
    sack: bool,
    timestamps: bool,
}

/// Shift counts of the windows (RFC 7323 §2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scale {
    /// Snd.Wind.Shift: of the windows that the peer tells.
    snd: u8,
    /// Rcv.Wind.Shift: of those that we tell.
    rcv: u8,
}

/// A segment that neither direction asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// We give the connection up: `<SEQ=SND.NXT><ACK=RCV.NXT><CTL=RST,ACK>`.
    Reset,
    /// The peer acknowledged what we never sent, before the connection was synchronized: `<SEQ=SEG.ACK><CTL=RST>`.
    Refusal(Seq),
    /// Our SYN-ACK (again), without the sender counting it: the peer's SYN came twice, or crossed ours.
    SynAck,
    /// Keepalive.
    Probe,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    /// Before the peer's SYN: with a number that means nothing, which only our SYN's window is asked of.
    receiver: Receiver,
    clock: Clock,
    state: State,
    failure: Option<Failure>,
    origin: Origin,
    negotiated: Negotiated,
    /// MSS option of our SYN.
    mss: u16,
    /// Waits to leave. One that comes before it has left takes its place, as if the network had lost it.
    errand: Option<Errand>,
    /// Whether [`shutdown`](Self::shutdown) was called, so that a FIN follows the handshake.
    shut: bool,
    /// A router said that the peer can't be reached, and nothing has come from it since.
    soft_error: bool,
    /// SYNs sent.
    syns: u8,
    /// Keepalive probes sent since the peer was last heard.
    probes: u8,
    /// When the peer was last heard: an acceptable segment.
    heard: Instant,
    /// When a challenge ACK may leave again (RFC 5961 §7).
    next_challenge: Instant,
}

/// What a record of TIME-WAIT needs to answer for a connection that is over (RFC 9293 §3.10.7.4, RFC 6191).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeWait {
    /// SND.NXT.
    pub(crate) nxt: Seq,
    /// RCV.NXT.
    pub(crate) ack: Seq,
    /// SEG.WND as it was last told, scaled.
    pub(crate) window: u16,
    /// TS.Recent and the offset of our clock, if timestamps are on.
    pub(crate) timestamps: Option<(u32, u32)>,
}

impl Connection {
    /// Bytes in order. `Ok(None)`: none yet; `Ok(Some(0))`: the peer has finished. What arrived before a connection failed can still be
    /// read, as on Linux, unless we aborted it.
    pub fn read(&mut self, into: &mut [u8], env: &mut Env<'_>) -> Result<Option<usize>, Failure> {
        if self.receiver.readable() > 0 {
            return Ok(Some(self.receiver.read(into, env)));
        }
        match self.failure {
            Some(failure) => Err(failure),
            None if self.receiver.is_finished() || self.state == State::Closed => Ok(Some(0)),
            None => Ok(None),
        }
    }

    /// Takes bytes to send. `Ok(None)`: no room yet; `Ok(Some(0))`: after [`shutdown`](Self::shutdown). Before the connection is
    /// established they wait (RFC 9293 §3.10.2).
    pub fn write(&mut self, bytes: &[u8], env: &mut Env<'_>) -> Result<Option<usize>, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.shut || self.state == State::Closed || bytes.is_empty() {
            return Ok(Some(0));
        }
        Ok(match self.sender.write(bytes, env) {
            0 => None,
            written => Some(written),
        })
    }

    /// FIN behind what was written. During the handshake it waits for its end (RFC 9293 §3.10.4; in SYN-SENT too, where the RFC would
    /// give the connection up: what was written is as good a request there).
    pub fn shutdown(&mut self) {
        if self.shut || self.state == State::Closed {
            return;
        }
        self.shut = true;
        self.sender.close();
        self.enter_closing();
    }

    /// RST, and everything unsent and unread forgotten (RFC 9293 §3.10.5). Nothing leaves before the peer can know of the connection. In
    /// CLOSING and LAST-ACK, where the RFC sends none either, a peer that waits for the rest of what we had to say learns that it won't come.
    pub fn abort(&mut self, env: &mut Env<'_>) {
        let told = match self.state {
            State::Closed => return,
            State::SynSent | State::TimeWait => false,
            State::SynReceived => self.syns > 0,
            _ => true,
        };
        self.fail(Failure::Aborted, env);
        self.receiver.clear(env);
        self.errand = told.then_some(Errand::Reset);
    }

    /// Gives all memory back; the connection is over.
    pub fn release(&mut self, env: &mut Env<'_>) {
        self.state = State::Closed;
        self.errand = None;
        self.sender.clear(env);
        self.receiver.clear(env);
    }

    /// State.
    pub fn state(&self) -> State {
        self.state
    }

    /// Reads something of each cache line: see `Endpoint::touch`.
    pub(crate) fn touch(&self) -> u64 {
        self.heard.as_micros() ^ self.sender.touch() ^ self.receiver.touch()
    }

    /// SND.UNA: it moves as the peer acknowledges.
    pub(crate) fn una(&self) -> Seq {
        self.sender.una()
    }

    /// How it failed, if it did.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Bytes that [`read`](Self::read) has now.
    pub fn readable(&self) -> usize {
        self.receiver.readable()
    }

    /// Bytes wait to be read.
    pub fn has_unread(&self) -> bool {
        self.receiver.readable() > 0
    }

    /// A read would not wait.
    pub fn is_readable(&self) -> bool {
        self.has_unread()
            || self.receiver.is_finished()
            || self.failure.is_some()
            || self.state == State::Closed
    }

    /// A write would not wait, and is worth a wake-up.
    pub fn is_writable(&self, env: &Env<'_>) -> bool {
        match self.state {
            State::SynSent | State::SynReceived => false,
            State::Closed => true,
            _ => self.shut || self.sender.room(env) > 0,
        }
    }

    /// What is left to remember, once [`state`](Self::state) is TIME-WAIT and nothing is to be sent.
    pub(crate) fn time_wait(&self) -> Option<TimeWait> {
        (self.state == State::TimeWait).then(|| TimeWait {
            nxt: self.sender.nxt(),
            ack: self.receiver.nxt(),
            window: self.told_window(),
            timestamps: self
                .negotiated
                .timestamps
                .then(|| (self.clock.recent(), self.clock.offset())),
        })
    }

    /// SEG.WND of what was told last.
    fn told_window(&self) -> u16 {
        let window = self.receiver.wnd() >> self.negotiated.shifts().rcv;
        u16::try_from(window).unwrap_or(u16::MAX)
    }

    /// The peer's SYN and ours have both been acknowledged.
    fn establish(&mut self, env: &mut Env<'_>) {
        debug_assert!(
            self.sender.syn_is_acked(),
            "established before the peer knows"
        );
        self.state = State::Established;
        // A SYN that came again asks for what the peer has got since.
        self.errand
            .take_if(|errand| matches!(errand, Errand::SynAck));
        if self.origin == Origin::Passive {
            env.counters.passive_opens += 1;
        }
        if self.shut {
            self.enter_closing();
        }
    }

    /// Our FIN is in the queue (RFC 9293 §3.10.4: the state changes although it may have to wait).
    fn enter_closing(&mut self) {
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            other => other,
        };
    }

    /// Ends the connection. What arrived in order stays readable.
    fn fail(&mut self, failure: Failure, env: &mut Env<'_>) {
        match self.state {
            State::SynSent | State::SynReceived => env.counters.attempt_fails += 1,
            State::Established | State::CloseWait
                if matches!(failure, Failure::Reset | Failure::Aborted) =>
            {
                env.counters.estab_resets += 1;
            }
            _ => {}
        }
        self.state = State::Closed;
        self.failure = Some(failure);
        self.errand = None;
        self.sender.clear(env);
    }
}

/// An idle connection is this (696 bytes, 400 of them the sender, 200 the receiver), and nothing on the heap.
const _: () = assert!(size_of::<Connection>() <= 700);
