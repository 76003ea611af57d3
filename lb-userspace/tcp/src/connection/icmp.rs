//! What routers say: hints of strangers, believed as far as RFC 5927 goes.
//!
//! A quoted sequence number in flight is all that tells a router on the way from anybody else.

use super::{Connection, Failure, State};
use crate::{Env, Seq};

/// A smaller MSS is not believed: Linux' `min_pmtu` of 552 bytes less headers. Links below that are rarer than forged ICMP, and each
/// such message costs more packets (RFC 5927 §7.1).
const MIN_MSS: usize = 512;

impl Connection {
    /// A router says that `quoted` was too big for its link (RFC 1191, RFC 8201): `mss` is what fits, options included.
    /// Believed only if `quoted` is in flight (RFC 5927 §4).
    pub fn packet_too_big(&mut self, quoted: Seq, mss: usize, env: &mut Env<'_>) {
        if !self.is_in_flight(quoted) {
            env.counters.icmp_ignored += 1;
            return;
        }
        env.counters.path_mtu_changes += 1;
        self.sender.reduce_mss(mss.max(MIN_MSS), env);
    }

    /// A router says that the peer can't be reached: a soft error (RFC 5461), told only if the connection then times out; during
    /// a handshake it ends it.
    pub fn unreachable(&mut self, quoted: Seq, env: &mut Env<'_>) {
        if !self.is_in_flight(quoted) {
            env.counters.icmp_ignored += 1;
            return;
        }
        match self.state {
            State::SynSent | State::SynReceived => self.fail(Failure::Unreachable, env),
            _ => self.soft_error = true,
        }
    }

    fn is_in_flight(&self, quoted: Seq) -> bool {
        self.state != State::Closed && quoted.is_within(self.sender.una(), self.sender.nxt())
    }
}
