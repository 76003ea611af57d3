//! Acknowledgements: what they say of each segment, of the way, and of the peer's window.

use alloc::boxed::Box;
use core::time::Duration;

use super::cubic::Growth;
use super::rack::Rack;
use super::records::{Record, Sink};
use super::recovery::{Delivery, Phase, Prr, Undo};
use super::rtt::Rtt;
use super::timers::{Early, Late};
use super::{Ack, Pending, Round, Sender, TailProbe};
use crate::segment::{SackBlocks, SeqRange};
use crate::timestamps::TICK;
use crate::{Env, Instant, Seq};

/// What one acknowledgement says that was not known.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    /// Numbers and segments by which SND.UNA moved.
    acked: u32,
    acked_segments: u32,
    /// `DeliveredData` (RFC 9937 §6.2): numbers newly acknowledged or sacked; without SACK a duplicate stands for a segment.
    delivered: u32,
    /// Numbers newly sacked.
    sacked: u32,
    /// When the first of the segments left that are newly acknowledged and were sent once; the same of the sacked
    /// ones. Segments sent twice give no round trip (Karn's rule, RFC 6298 §3).
    acked_sent_at: Option<Instant>,
    sacked_sent_at: Option<Instant>,
    /// What the peer has received twice (RFC 2883).
    duplicate: Option<SeqRange>,
    /// `TSecr` in milliseconds.
    echo: Option<u32>,
    /// Whether a segment that was sent again is among the acknowledged ones.
    acked_retransmission: bool,
    /// Whether our SYN is.
    acked_syn: bool,
    /// A duplicate acknowledgement (RFC 5681 §2).
    is_duplicate: bool,
}

/// Collects what an acknowledgement says of each record.
struct Collect<'a> {
    news: &'a mut News,
    rack: &'a mut Rack,
    rtt: &'a Rtt,
    now: Instant,
}

impl Sink for Collect<'_> {
    fn delivered(&mut self, record: &Record, cumulative: bool) {
        self.news.delivered += record.len;
        self.rack
            .on_delivered(record, self.news.echo, self.rtt, self.now);
        let sent_at = (!record.retransmitted).then_some(record.sent_at);
        if cumulative {
            self.news.acked_segments += 1;
            self.news.acked_retransmission |= record.retransmitted;
            self.news.acked_sent_at = self.news.acked_sent_at.or(sent_at);
        } else {
            self.news.sacked += record.len;
            self.news.sacked_sent_at = self.news.sacked_sent_at.or(sent_at);
        }
    }

    fn trimmed(&mut self, bytes: u32) {
        self.news.delivered += bytes;
    }
}

impl Sender {
    /// Takes an acknowledgement.
    pub(crate) fn on_ack(&mut self, ack: &Ack<'_>, env: &mut Env<'_>) {
        let (una, nxt) = (self.una(), self.nxt());
        if ack.ack.since(una) > nxt.since(una) {
            return;
        }
        let window_changed = self.window.update(ack);
        let flight_before = nxt.since(una) - self.records.sacked().bytes;
        let mut news = self.collect(ack, env);
        news.is_duplicate = news.acked == 0 && !ack.carries_data && !window_changed;
        if news.acked > 0 {
            self.advance(news.acked, env);
        }
        self.measure(&news, ack, env);
        if let Some(duplicate) = news.duplicate {
            self.on_duplicate(duplicate, env);
        }
        self.look_for_error(una, &news, env);
        self.judge_tail(ack, &news, env);
        let recovered = self.leave_recovery();
        let lost = self.find_losses(&mut news, env);
        // What a fast recovery had to repair is no reason to grow.
        if lost || !recovered {
            self.respond(lost, flight_before, &news, env);
        }
        self.settle(&news, env);
    }

    fn collect(&mut self, ack: &Ack<'_>, env: &Env<'_>) -> News {
        let mut news = News {
            acked: ack.ack.since(self.una()),
            acked_syn: !self.syn_acked && ack.ack != self.una(),
            echo: ack
                .round_trip
                .map(|rtt| env.now.millis().wrapping_sub(millis(rtt))),
            ..News::default()
        };
        let mut collect = Collect {
            news: &mut news,
            rack: &mut self.rack,
            rtt: &self.rtt,
            now: env.now,
        };
        if collect.news.acked > 0 {
            self.records.acknowledge(ack.ack, &mut collect);
        }
        if !self.sack || !self.syn_acked {
            return news;
        }
        if ack.sack.as_slice().is_empty() {
            self.records.remember(SackBlocks::default());
            return news;
        }
        let blocks = sort_blocks(ack, self.records.nxt(), collect.news);
        for &block in blocks.as_slice() {
            self.records.sack(block, &mut collect);
        }
        self.records.remember(blocks);
        news
    }

    /// SND.UNA has moved by `acked`.
    fn advance(&mut self, acked: u32, env: &mut Env<'_>) {
        self.silent_since = env.now;
        let mut bytes = acked;
        if !self.syn_acked {
            bytes -= 1;
            self.syn_acked = true;
            self.congestion
                .on_handshake(u32::from(self.mss), self.rtt.backoff());
        }
        if self.una().follows(self.end) {
            bytes = bytes.saturating_sub(1);
        }
        self.buffer.advance(bytes as usize, env.pool);
        if self.queued() == 0 {
            self.buffer.clear(env.pool);
            self.records.release(env.pool);
        }
    }

    /// Takes round trips: by our own clock, which is finer, or else by the peer's echo (RFC 7323 §4), which tells
    /// retransmissions apart.
    fn measure(&mut self, news: &News, ack: &Ack<'_>, env: &Env<'_>) {
        // Behind a retransmission lie segments that had arrived long before.
        let acked = news.acked_sent_at.filter(|_| !news.acked_retransmission);
        let sample = match acked.or(news.sacked_sent_at) {
            Some(sent_at) => Some(env.now.since(sent_at)),
            // Within a tick of that clock: up to one.
            None if news.acked > 0 => ack.round_trip.map(|it| it.max(TICK)),
            None => None,
        };
        if let Some(sample) = sample {
            self.rtt.sample(sample, env.now);
            self.congestion.on_round_trip(sample);
        } else if news.acked_syn {
            self.rtt.on_handshake();
        }
    }

    /// The peer told of a duplicate: a retransmission of ours may have been in vain (RFC 3708).
    fn on_duplicate(&mut self, duplicate: SeqRange, env: &mut Env<'_>) {
        env.counters.dsack_received += 1;
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates > self.total_retrans {
            // The network makes duplicates, or the peer makes them up.
            return;
        }
        if self.tail.is_none_or(|tail| tail.end != duplicate.end) {
            self.rack.on_duplicate(self.una(), self.nxt());
        }
        let mss = u32::from(self.mss);
        let was_in_vain = self
            .undo
            .as_mut()
            .is_some_and(|undo| undo.on_duplicate(duplicate, mss));
        if was_in_vain {
            self.take_back(env);
        }
    }

    /// Looks whether the response to congestion was in error, by the peer's echo (RFC 3522).
    fn look_for_error(&mut self, una_before: Seq, news: &News, env: &mut Env<'_>) {
        let Some(undo) = &self.undo else {
            return;
        };
        let una = self.una();
        // In fast recovery other retransmissions may be needed all the same.
        let is_final = match self.phase {
            Phase::Recovery { .. } => self.records.resent_in_flight() == 0,
            Phase::Open | Phase::Loss { .. } => true,
        };
        if is_final && undo.is_disproved(una_before, una, news.echo) {
            self.take_back(env);
        } else if undo.is_expired(una) {
            self.undo = None;
        }
    }

    /// Takes the last response to congestion back.
    fn take_back(&mut self, env: &mut Env<'_>) {
        let Some(undo) = self.undo.take() else {
            return;
        };
        env.counters.undo += 1;
        self.congestion.undo(&undo.congestion, env.now);
        self.records.forget_losses();
        self.rtt.end_backoff();
        self.pending = Pending::Nothing;
        if !matches!(self.phase, Phase::Open) {
            self.phase = Phase::Open;
            self.rack.on_recovered();
        }
    }

    /// Whether a tail loss probe has repaired a loss that nothing else would tell of (RFC 8985 §7.4.2).
    fn judge_tail(&mut self, ack: &Ack<'_>, news: &News, env: &mut Env<'_>) {
        let Some(TailProbe {
            end,
            is_retrans,
            is_lone,
        }) = self.tail
        else {
            return;
        };
        if ack.ack.precedes(end) {
            return;
        }
        let is_told_twice = news.duplicate.is_some_and(|duplicate| duplicate.end == end);
        let is_bare_duplicate = news.is_duplicate && ack.sack.as_slice().is_empty();
        if !is_retrans || is_told_twice || is_bare_duplicate {
            self.tail = None;
            self.acks_late |= is_lone;
        } else if ack.ack.follows(end) {
            self.tail = None;
            env.counters.loss_probe_recovery += 1;
            if matches!(self.phase, Phase::Open) {
                self.congestion.on_loss();
            }
        }
    }

    /// Ends a recovery whose end is acknowledged; whether that was a fast one.
    fn leave_recovery(&mut self) -> bool {
        let (Phase::Recovery { high, .. } | Phase::Loss { high }) = self.phase else {
            return false;
        };
        if self.una().precedes(high) {
            return false;
        }
        let was_fast = matches!(self.phase, Phase::Recovery { .. });
        self.phase = Phase::Open;
        self.rack.on_recovered();
        self.reno.begin(high, true);
        let nxt = self.nxt();
        if let Some(undo) = &mut self.undo {
            undo.expire_at(nxt);
        }
        was_fast
    }

    /// Marks what is lost; whether anything newly is.
    fn find_losses(&mut self, news: &mut News, env: &mut Env<'_>) -> bool {
        if !self.syn_acked || self.records.is_empty() {
            return false;
        }
        if self.sack {
            self.find_late(env)
        } else {
            self.count_duplicates(news)
        }
    }

    /// RACK (RFC 8985 §6.2 step 5).
    fn find_late(&mut self, env: &mut Env<'_>) -> bool {
        let in_recovery = !matches!(self.phase, Phase::Open);
        let sacked = self.records.sacked().segments;
        let reo_wnd = self.rack.reo_wnd(&self.rtt, sacked, in_recovery);
        let rack = &self.rack;
        let expired = self
            .records
            .expire(env.now, |record| rack.deadline(record, reo_wnd));
        env.counters.lost_retransmit += u64::from(expired.lost);
        self.arm_reorder(expired.next, env);
        expired.lost > 0
    }

    /// The reordering timer fired: what is late is lost.
    pub(super) fn on_late_arrival(&mut self, env: &mut Env<'_>) {
        let flight = self.nxt().since(self.una()) - self.records.sacked().bytes;
        if self.find_late(env) {
            self.respond(true, flight, &News::default(), env);
        }
    }

    /// Three duplicates prove the loss of the first segment, and a partial acknowledgement that of the next (RFC 6582).
    fn count_duplicates(&mut self, news: &mut News) -> bool {
        let in_recovery = matches!(self.phase, Phase::Recovery { .. });
        if news.acked > 0 {
            self.reno.on_advance(news.acked_segments, in_recovery);
            // What the duplicates stood for was counted when they came.
            news.delivered = news.delivered.min(u32::from(self.mss));
            if in_recovery {
                self.records.mark_lost(0);
                return true;
            }
            return false;
        }
        if !news.is_duplicate {
            return false;
        }
        // More duplicates than segments, or than two windows of them, would be a peer's attempt to speed us up.
        let windows = 2 * self.congestion.cwnd() / u32::from(self.mss);
        let in_flight = self.records.in_flight().segments;
        let possible = in_flight.saturating_sub(1).min(windows);
        if self.reno.duplicates() >= possible {
            return false;
        }
        news.delivered = u32::from(self.mss);
        let is_proof = self.reno.on_duplicate(self.una());
        if is_proof && matches!(self.phase, Phase::Open) {
            self.records.mark_lost(0);
            return true;
        }
        false
    }

    /// Lets the congestion window follow.
    fn respond(&mut self, lost: bool, flight_before: u32, news: &News, env: &mut Env<'_>) {
        if lost && matches!(self.phase, Phase::Open) {
            self.enter_recovery(flight_before, env);
        }
        let delivery = Delivery {
            delivered: news.delivered,
            pipe: self.pipe(),
            ssthresh: self.congestion.ssthresh().unwrap_or(u32::MAX),
            mss: u32::from(self.mss),
            safe: news.acked > 0 && !lost,
        };
        match &mut self.phase {
            Phase::Recovery { prr, .. } => prr.on_ack(&delivery),
            Phase::Open | Phase::Loss { .. } if news.acked > 0 => self.grow(news, env),
            Phase::Open | Phase::Loss { .. } => {}
        }
    }

    fn enter_recovery(&mut self, flight_before: u32, env: &mut Env<'_>) {
        let high = self.nxt();
        self.remember();
        self.congestion.on_loss();
        self.reno.begin(high, false);
        self.tail = None;
        self.phase = Phase::Recovery {
            high,
            prr: Prr::new(flight_before),
        };
        if self.sack {
            env.counters.sack_recovery += 1;
        } else {
            env.counters.reno_recovery += 1;
        }
    }

    /// A retransmission timeout: what was sent long ago is lost, and the rest is being waited for (RFC 8985 §6.3).
    pub(super) fn enter_loss(&mut self, env: &mut Env<'_>) {
        let high = self.nxt();
        let is_first = matches!(self.phase, Phase::Open);
        if is_first {
            self.remember();
        }
        self.congestion.on_timeout(is_first);
        let is_head_sacked = self.records.get(0).is_some_and(Record::is_sacked);
        if is_head_sacked || self.rtt.backoff() > 0 {
            // The peer has thrown away what it had told us of (RFC 2018 §8), or may have.
            self.records.forget_sacks();
        }
        let in_recovery = true;
        let sacked = self.records.sacked().segments;
        let reo_wnd = self.rack.reo_wnd(&self.rtt, sacked, in_recovery);
        let (rack, sack, now) = (&self.rack, self.sack, env.now);
        let lost = self.records.mark_lost_where(|index, record| {
            index == 0 || !sack || rack.deadline_after_timeout(record, reo_wnd) <= now
        });
        env.counters.lost_retransmit += u64::from(lost);
        self.reno.begin(high, true);
        self.tail = None;
        self.early = Early::Off;
        self.phase = Phase::Loss { high };
    }

    /// Keeps how things are, for the case that the response to come is in error.
    fn remember(&mut self) {
        self.undo = Some(Box::new(Undo::new(self.congestion, self.una())));
    }

    fn grow(&mut self, news: &News, env: &Env<'_>) {
        let cwnd = self.congestion.cwnd();
        let flight = self.round.max_flight.max(self.round.max_before);
        // In slow start half of the window is use enough: it doubles before the flight does.
        let was_limit = if self.congestion.is_slow_start() {
            u64::from(cwnd) < 2 * u64::from(flight)
        } else {
            cwnd < flight.saturating_add(u32::from(self.mss))
        };
        self.congestion.on_ack(&Growth {
            acked: news.acked,
            was_limit,
            srtt: self.rtt.srtt().unwrap_or_default(),
            una: self.una(),
            nxt: self.nxt(),
            now: env.now,
        });
    }

    fn settle(&mut self, news: &News, env: &Env<'_>) {
        if !self.una().precedes(self.round.end) {
            self.round = Round {
                end: self.nxt(),
                max_flight: self.pipe(),
                max_before: self.round.max_flight,
            };
        }
        if let Late::Persist { .. } = self.late {
            // The peer lives, and may keep its window closed for as long as it likes (RFC 9293 §3.8.6.1, MUST-37).
            self.silent_since = env.now;
            if !self.is_kept_back(env) {
                self.late = Late::Off;
                self.pending = Pending::Nothing;
            }
        } else if news.acked > 0 {
            self.arm_retransmit(env);
        } else if news.sacked > 0 {
            self.arm_early(env);
        }
    }
}

/// The blocks that can be true, lowest first, so that the order of arrival can be told (RFC 8985 §6.2 step 3). A block that
/// says what was received twice goes into `news` (RFC 2883 §4).
fn sort_blocks(ack: &Ack<'_>, nxt: Seq, news: &mut News) -> SackBlocks {
    let all = ack.sack.as_slice();
    let mut blocks = [SeqRange::default(); SackBlocks::MAX];
    let mut count = 0;
    for (index, &block) in all.iter().enumerate() {
        if !block.start.precedes(block.end) || block.end.follows(nxt) {
            continue;
        }
        if index == 0 && is_duplicate(block, ack.ack, all.get(1)) {
            news.duplicate = Some(block);
            continue;
        }
        // A peer that had the byte at SEG.ACK would acknowledge it.
        if !block.start.follows(ack.ack) {
            continue;
        }
        blocks[count] = block;
        count += 1;
    }
    let blocks = &mut blocks[..count];
    blocks.sort_unstable_by_key(|block| block.start.since(ack.ack));
    let mut sorted = SackBlocks::default();
    for &block in &*blocks {
        sorted.push(block);
    }
    sorted
}

fn is_duplicate(first: SeqRange, ack: Seq, second: Option<&SeqRange>) -> bool {
    let is_within =
        |second: &SeqRange| !first.start.precedes(second.start) && !first.end.follows(second.end);
    !first.end.follows(ack) || second.is_some_and(is_within)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
