//! One connection: the states of RFC 9293, and the order in which a segment is looked at (§3.10.7).
//!
//! The owner calls, in any order: [`input`](Connection::input) for each segment that arrived, [`on_timer`](Connection::on_timer) when
//! [`next_timer`](Connection::next_timer) has come, [`read`](Connection::read), [`write`](Connection::write), [`shutdown`](Connection::shutdown) and
//! [`abort`](Connection::abort) as its user likes; and after any of them [`poll_output`](Connection::poll_output) until it gives nothing, or as
//! often as there is room.

use crate::pool::Payload;
use crate::{Env, Header, Instant, Segment, Seq};

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

/// A segment that shall leave now; counted as sent. Its payload is [`Connection::payload`]'s.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Its header.
    pub header: Header,
    pub(crate) transmission: crate::send::Transmission,
}

/// Everything of a connection that another engine, or a kernel socket, needs to go on with it.
#[derive(Clone, Debug)]
pub struct Snapshot {}

/// What can be told of a connection, named like Linux' `tcp_info`.
#[derive(Clone, Copy, Debug)]
pub struct Info {}

/// One connection.
#[derive(Debug)]
pub struct Connection {}

#[expect(unused_variables, missing_docs, reason = "the skeleton")]
impl Connection {
    /// SYN-RECEIVED, in answer to `syn`.
    pub fn accept(syn: &Segment<'_>, open: Open, env: &mut Env<'_>) -> Self {
        unimplemented!()
    }
    /// SYN-SENT.
    pub fn connect(open: Open, env: &mut Env<'_>) -> Self {
        unimplemented!()
    }
    /// ESTABLISHED, from a cookie that came back: `ack` is the segment that brought it, `syn` the options of the peer's SYN that
    /// the cookie remembered.
    pub fn resume(ack: &Segment<'_>, syn: &crate::Options, open: Open, env: &mut Env<'_>) -> Self {
        unimplemented!()
    }

    /// Takes a segment (checksum verified).
    pub fn input(&mut self, segment: &Segment<'_>, env: &mut Env<'_>) {
        unimplemented!()
    }
    /// The next segment to send.
    pub fn poll_output(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        unimplemented!()
    }
    pub fn payload(&self, outgoing: &Outgoing) -> Payload<'_> {
        unimplemented!()
    }
    /// Whether [`poll_output`](Self::poll_output) would give something; cheap.
    pub fn wants_output(&self, env: &Env<'_>) -> bool {
        unimplemented!()
    }
    pub fn on_timer(&mut self, env: &mut Env<'_>) {
        unimplemented!()
    }
    pub fn next_timer(&self, env: &Env<'_>) -> Option<Instant> {
        unimplemented!()
    }

    /// Bytes in order. `Ok(None)`: none yet; `Ok(Some(0))`: the peer has finished.
    pub fn read(&mut self, into: &mut [u8], env: &mut Env<'_>) -> Result<Option<usize>, Failure> {
        unimplemented!()
    }
    /// Takes bytes to send. `Ok(None)`: no room yet; `Ok(Some(0))`: after [`shutdown`](Self::shutdown).
    pub fn write(&mut self, bytes: &[u8], env: &mut Env<'_>) -> Result<Option<usize>, Failure> {
        unimplemented!()
    }
    /// FIN behind what was written.
    pub fn shutdown(&mut self, env: &mut Env<'_>) {
        unimplemented!()
    }
    /// RST, and everything unsent forgotten.
    pub fn abort(&mut self, env: &mut Env<'_>) {
        unimplemented!()
    }
    /// Gives all memory back; the connection is over.
    pub fn release(&mut self, env: &mut Env<'_>) {
        unimplemented!()
    }

    pub fn state(&self) -> State {
        unimplemented!()
    }
    pub fn failure(&self) -> Option<Failure> {
        unimplemented!()
    }
    /// Bytes wait to be read.
    pub fn has_unread(&self) -> bool {
        unimplemented!()
    }
    /// A read would not wait.
    pub fn is_readable(&self) -> bool {
        unimplemented!()
    }
    /// A write would not wait, and is worth a wake-up.
    pub fn is_writable(&self, env: &Env<'_>) -> bool {
        unimplemented!()
    }
    pub fn info(&self, env: &Env<'_>) -> Info {
        unimplemented!()
    }

    /// A router says that `quoted` was too big for its link (RFC 1191, RFC 8201): `mss` is what fits, options included.
    /// Believed only if `quoted` is in flight (RFC 5927 §4).
    pub fn packet_too_big(&mut self, quoted: Seq, mss: usize, env: &mut Env<'_>) {
        unimplemented!()
    }
    /// A router says that the peer can't be reached: a soft error (RFC 5461), told only if the connection then times out; during
    /// a handshake it ends it.
    pub fn unreachable(&mut self, quoted: Seq, env: &mut Env<'_>) {
        unimplemented!()
    }

    /// Takes the connection out, whole. `None` if it is not ESTABLISHED, and nothing is changed then.
    pub fn export(&mut self, env: &mut Env<'_>) -> Option<Snapshot> {
        unimplemented!()
    }
    /// Goes on with a connection.
    pub fn import(snapshot: Snapshot, env: &mut Env<'_>) -> Self {
        unimplemented!()
    }
}
