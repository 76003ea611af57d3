//! What silence does: retransmission and user timeout (the sender's timers), handshakes that nobody completes, keepalive.
//!
//! TIME-WAIT and orphans have no timer here: the endpoint replaces the one and resets the other.

use super::{Connection, Errand, Failure, State};
use crate::send::Expiry;
use crate::{Config, Env, Instant};

impl Connection {
    /// Lets timers that are due fire.
    pub fn on_timer(&mut self, env: &mut Env<'_>) {
        if self.state == State::Closed {
            return;
        }
        if is_due(self.sender.next_timer(), env.now) {
            let expiry = self.sender.on_timer(env);
            if expiry == Expiry::GiveUp || self.handshake_is_hopeless(env) {
                self.give_up(env);
                return;
            }
        }
        if is_due(self.receiver.next_timer(), env.now) {
            self.receiver.on_timer(env);
        }
        if is_due(self.next_keepalive(env.config), env.now) {
            self.on_keepalive(env);
        }
    }

    /// When [`on_timer`](Self::on_timer) has work.
    pub fn next_timer(&self, env: &Env<'_>) -> Option<Instant> {
        if self.state == State::Closed {
            return None;
        }
        let timers = [
            self.sender.next_timer(),
            self.receiver.next_timer(),
            self.next_keepalive(env.config),
        ];
        timers.into_iter().flatten().min()
    }

    /// A SYN-ACK is due once more than is worth it. A SYN of ours is retried until the user timeout instead (RFC 9293 §3.8.3, MUST-23:
    /// at least 3 minutes).
    fn handshake_is_hopeless(&self, env: &Env<'_>) -> bool {
        self.state == State::SynReceived
            && u32::from(self.syns) > env.config.syn_ack_retries
            && self.sender.wants_output(env)
    }

    /// The peer is gone. Nothing is sent: there is nobody to tell, or, in a handshake, nobody who ever was.
    fn give_up(&mut self, env: &mut Env<'_>) {
        if !matches!(self.state, State::SynSent | State::SynReceived) {
            env.counters.abort_on_timeout += 1;
        }
        let failure = if self.soft_error {
            Failure::Unreachable
        } else {
            Failure::TimedOut
        };
        self.fail(failure, env);
    }

    /// When to probe next (RFC 9293 §3.8.4): the peer was silent for long, and nothing is on its way that it would answer anyway.
    fn next_keepalive(&self, config: &Config) -> Option<Instant> {
        let synchronized = !matches!(
            self.state,
            State::SynSent | State::SynReceived | State::TimeWait | State::Closed
        );
        if !synchronized || !self.sender.is_idle() || config.keepalive.is_zero() {
            return None;
        }
        let probed = config.keepalive_interval * u32::from(self.probes);
        Some(self.heard + config.keepalive + probed)
    }

    /// Probes, or gives up with a RST as Linux does: a peer that came back with the wrong state shall not wait as well.
    fn on_keepalive(&mut self, env: &mut Env<'_>) {
        if u32::from(self.probes) < env.config.keepalive_probes {
            self.probes += 1;
            self.errand = Some(Errand::Probe);
            return;
        }
        self.give_up(env);
        self.errand = Some(Errand::Reset);
    }
}

fn is_due(timer: Option<Instant>, now: Instant) -> bool {
    timer.is_some_and(|at| at <= now)
}
