//! What leaves next: retransmissions before new data, each only as the congestion window, the peer's window and the
//! pace allow.
//!
//! [`Sender::choose`] decides without changing anything, so that asking whether there is something and taking it
//! can't disagree.

use core::time::Duration;

use super::records::{MAX_RECORDS, Record};
use super::recovery::Phase;
use super::timers::Late;
use super::{Pending, Sender, TailProbe, Transmission};
use crate::{Env, Seq};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Syn,
    /// New data, and the FIN with `fin`.
    New {
        len: u32,
        fin: bool,
    },
    /// A record, again.
    Again {
        index: usize,
    },
    /// An empty segment that the peer has to answer.
    WindowProbe,
    Wait(Wait),
}

/// Why nothing leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// There is nothing.
    Data,
    /// The congestion window is full.
    Congestion,
    /// The peer's window is.
    Window,
    /// It is too early.
    Pace,
}

impl Sender {
    /// The next segment to send: a retransmission, new data, a probe, or none for now.
    pub(crate) fn poll_transmit(&mut self, env: &mut Env<'_>) -> Option<Transmission> {
        let choice = self.choose(env);
        let pending = core::mem::replace(&mut self.pending, Pending::Nothing);
        self.is_paced = false;
        match choice {
            Choice::Syn => Some(self.send_new(0, false, env)),
            Choice::New { len, fin } => {
                self.forget_idle_window(env);
                let transmission = self.send_new(len, fin, env);
                if pending == Pending::Tail {
                    self.on_probe_sent(false, env);
                }
                Some(transmission)
            }
            Choice::Again { index } => self.send_again(index, pending, env),
            Choice::WindowProbe => {
                env.counters.win_probes += 1;
                Some(Transmission {
                    seq: self.una() - 1,
                    ..Transmission::default()
                })
            }
            Choice::Wait(wait) => {
                self.wait(wait, env);
                None
            }
        }
    }

    /// Decides what leaves next.
    pub(super) fn choose(&self, env: &Env<'_>) -> Choice {
        if !self.syn_acked && self.records.is_empty() {
            return Choice::Syn;
        }
        match self.pending {
            Pending::Head if !self.records.is_empty() => return Choice::Again { index: 0 },
            Pending::Tail => {
                if let Some(choice) = self.choose_tail_probe() {
                    return choice;
                }
            }
            Pending::Window => {
                return match self.fit() {
                    Choice::Wait(Wait::Window) => Choice::WindowProbe,
                    choice => choice,
                };
            }
            Pending::Nothing | Pending::Head => {}
        }
        if let Some(index) = self.records.next_lost() {
            return self.choose_lost(index, env);
        }
        self.choose_new(env)
    }

    /// Whether the peer's window keeps new data back.
    pub(super) fn is_kept_back(&self, env: &Env<'_>) -> bool {
        self.choose_new(env) == Choice::Wait(Wait::Window)
    }

    /// Whether the peer's window keeps everything back, and nothing in flight will bring an acknowledgement.
    pub(super) fn must_persist(&self, env: &Env<'_>) -> bool {
        self.late == Late::Off
            && self.records.is_empty()
            && self.choose(env) == Choice::Wait(Wait::Window)
    }

    fn choose_lost(&self, index: usize, env: &Env<'_>) -> Choice {
        let Some(record) = self.records.get(index) else {
            return Choice::Wait(Wait::Data);
        };
        let len = record.len.min(self.cut(record));
        // A window that was shrunk is respected, but for the first record, which probes it (RFC 9293 §3.8.6).
        if index > 0 && (record.start + len).since(self.una()) > self.window.wnd() {
            return Choice::Wait(Wait::Window);
        }
        if !self.admits(len) {
            return Choice::Wait(Wait::Congestion);
        }
        if self.is_early(env) {
            return Choice::Wait(Wait::Pace);
        }
        Choice::Again { index }
    }

    fn choose_new(&self, env: &Env<'_>) -> Choice {
        let choice = self.fit();
        let Choice::New { len, fin } = choice else {
            return choice;
        };
        let is_worth = self
            .window
            .is_worth(len, self.waiting(), u32::from(self.mss));
        let is_bare_fin = len == 0 && fin;
        if !(is_worth || is_bare_fin) {
            return Choice::Wait(Wait::Window);
        }
        if !self.admits(len + u32::from(fin)) || self.records.len() >= MAX_RECORDS {
            return Choice::Wait(Wait::Congestion);
        }
        if self.is_early(env) {
            return Choice::Wait(Wait::Pace);
        }
        choice
    }

    /// New data as far as it goes into a segment and the peer's window, silly or not.
    fn fit(&self) -> Choice {
        let waiting = self.waiting();
        if !self.syn_acked || (waiting == 0 && !self.fin_waits()) {
            return Choice::Wait(Wait::Data);
        }
        if !self.window.is_known() {
            return Choice::Wait(Wait::Data);
        }
        let usable = self.window.usable(self.una(), self.nxt());
        let len = waiting.min(u32::from(self.mss)).min(usable);
        let fin = self.fin_waits() && len == waiting && usable > len;
        if len == 0 && !fin {
            return Choice::Wait(Wait::Window);
        }
        Choice::New { len, fin }
    }

    /// New data if there is any that the peer takes, else the last segment again (RFC 8985 §7.3).
    fn choose_tail_probe(&self) -> Option<Choice> {
        let new = self.fit();
        if matches!(new, Choice::New { .. }) && self.records.len() < MAX_RECORDS {
            return Some(new);
        }
        let index = self.records.last_unsacked()?;
        Some(Choice::Again { index })
    }

    /// Whether the congestion window has room for `len`. Small segments count like full ones too, as a router's queue
    /// counts them.
    fn admits(&self, len: u32) -> bool {
        let (pipe, cwnd) = (self.pipe(), self.cwnd());
        let fits = match self.phase {
            // PRR counts in bytes what leaves in segments: the last one may exceed what it allows, and is paid back.
            Phase::Recovery { .. } => pipe < cwnd,
            Phase::Open | Phase::Loss { .. } => pipe.saturating_add(len) <= cwnd.max(len),
        };
        let segments = self.records.in_flight().segments;
        let segments = segments.saturating_sub(self.reno.duplicates());
        fits && u64::from(segments) * u64::from(self.mss) < u64::from(cwnd)
    }

    fn is_early(&self, env: &Env<'_>) -> bool {
        env.config.pacing && !self.pacing.is_due(env.now)
    }

    fn send_new(&mut self, len: u32, fin: bool, env: &mut Env<'_>) -> Transmission {
        let seq = self.nxt();
        let syn = !self.syn_acked;
        let push = len > 0 && len == self.waiting();
        if self.records.is_empty() {
            self.silent_since = env.now;
        }
        let count = len + u32::from(fin) + u32::from(syn);
        self.records.push(count, env.now, env.pool);
        self.on_sent(count, env);
        if matches!(self.late, Late::Retransmit(_)) {
            self.arm_early(env);
        } else {
            self.arm_retransmit(env);
        }
        Transmission {
            seq,
            len: len as usize,
            syn,
            fin,
            push,
        }
    }

    fn send_again(
        &mut self,
        index: usize,
        pending: Pending,
        env: &mut Env<'_>,
    ) -> Option<Transmission> {
        let max_len = self.records.get(index).map(|record| self.cut(record))?;
        let record = self.records.resend(index, max_len, env.now)?;
        env.counters.retrans_segs += 1;
        if matches!(self.phase, Phase::Recovery { .. }) {
            env.counters.fast_retrans += 1;
        }
        self.total_retrans = self.total_retrans.saturating_add(1);
        if let Some(undo) = &mut self.undo {
            undo.on_retransmit(&record, env.now);
        }
        self.on_sent(record.len, env);
        if pending == Pending::Tail {
            self.on_probe_sent(true, env);
        } else if index == 0 {
            self.arm_retransmit(env);
        } else {
            self.arm_early(env);
        }
        Some(self.transmission(record.start, record.end()))
    }

    /// How much of a record fits into a segment: the FIN comes on top of full bytes.
    fn cut(&self, record: &Record) -> u32 {
        let mss = u32::from(self.mss);
        let fin = record.len == mss + 1 && record.end().follows(self.end);
        mss + u32::from(fin)
    }

    /// The numbers `start..end` as a segment.
    fn transmission(&self, start: Seq, end: Seq) -> Transmission {
        let syn = !self.syn_acked && start == self.una();
        let fin = end.follows(self.end);
        let len = end.since(start) - u32::from(syn) - u32::from(fin);
        Transmission {
            seq: start,
            len: len as usize,
            syn,
            fin,
            push: len > 0 && end == self.end + u32::from(fin),
        }
    }

    fn on_sent(&mut self, count: u32, env: &Env<'_>) {
        self.last_sent = env.now;
        self.round.max_flight = self.round.max_flight.max(self.pipe());
        if let Phase::Recovery { prr, .. } = &mut self.phase {
            prr.on_sent(count);
        }
        if env.config.pacing
            && let Some(srtt) = self.rtt.srtt()
        {
            let is_slow_start = self.congestion.is_slow_start();
            self.pacing
                .on_sent(count, self.cwnd(), srtt, is_slow_start, env.now);
        }
    }

    fn on_probe_sent(&mut self, is_retrans: bool, env: &mut Env<'_>) {
        env.counters.loss_probes += 1;
        self.tail = Some(TailProbe {
            end: self.nxt(),
            is_retrans,
            is_lone: is_retrans && self.is_lone(),
        });
        self.arm_retransmit(env);
    }

    /// What keeps a segment back has to end by itself, by a timer, or by an acknowledgement that will come.
    fn wait(&mut self, wait: Wait, env: &Env<'_>) {
        match wait {
            Wait::Data => {}
            Wait::Congestion => self.round.max_flight = self.round.max_flight.max(self.cwnd()),
            Wait::Pace => self.is_paced = true,
            Wait::Window => {
                if self.must_persist(env) {
                    self.begin_persist(env);
                }
            }
        }
    }

    /// A window that was not used for a timeout says nothing of the network as it is (RFC 5681 §4.1).
    fn forget_idle_window(&mut self, env: &Env<'_>) {
        let idle: Duration = env.now.since(self.last_sent);
        if !self.records.is_empty() {
            return;
        }
        self.congestion.on_resume(env.now);
        if idle > self.rtt.rto(env.config) {
            self.congestion.on_idle();
        }
    }
}
