//! `HyStart++` (RFC 9406): leaves slow start when round trips get longer, before it has overrun the bottleneck.
//!
//! Deliberately not here: the window itself (`cubic`).

use core::time::Duration;

use crate::Seq;

/// Constants of RFC 9406 §4.3.
const MIN_RTT_THRESH: u32 = 4_000;
const MAX_RTT_THRESH: u32 = 16_000;
const MIN_RTT_DIVISOR: u32 = 8;
const N_RTT_SAMPLE: u8 = 8;
const CSS_GROWTH_DIVISOR: u32 = 4;
const CSS_ROUNDS: u8 = 5;

/// Infinity.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(super) struct HyStart {
    /// Behind the round; `None` before the first.
    window_end: Option<Seq>,
    last_round_min: u32,
    current_round_min: u32,
    samples: u8,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SlowStart,
    /// Conservative slow start: round trips got longer; `baseline` is by how much at most they may have.
    Conservative {
        baseline: u32,
        rounds: u8,
    },
    Over,
}

impl Default for HyStart {
    fn default() -> Self {
        Self {
            window_end: None,
            last_round_min: NONE,
            current_round_min: NONE,
            samples: 0,
            phase: Phase::SlowStart,
        }
    }
}

impl HyStart {
    pub(super) fn sample(&mut self, round_trip: Duration) {
        let sample = u32::try_from(round_trip.as_micros()).unwrap_or(NONE - 1);
        self.current_round_min = self.current_round_min.min(sample);
        self.samples = self.samples.saturating_add(1);
        if self.samples < N_RTT_SAMPLE {
            return;
        }
        match self.phase {
            Phase::SlowStart if self.is_slower() => {
                self.phase = Phase::Conservative {
                    baseline: self.current_round_min,
                    rounds: 0,
                };
            }
            Phase::Conservative { baseline, .. } if self.current_round_min < baseline => {
                self.phase = Phase::SlowStart;
            }
            _ => {}
        }
    }

    /// Counts rounds; by what the growth of the window is to be divided.
    pub(super) fn on_ack(&mut self, una: Seq, nxt: Seq) -> u32 {
        if self.window_end.is_none_or(|end| !una.precedes(end)) {
            self.begin_round(nxt);
        }
        match self.phase {
            Phase::SlowStart => 1,
            Phase::Conservative { .. } | Phase::Over => CSS_GROWTH_DIVISOR,
        }
    }

    /// Whether congestion avoidance shall begin.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn begin_round(&mut self, nxt: Seq) {
        if let Phase::Conservative { baseline, rounds } = self.phase {
            // The round in which it began counts half: it ends the first.
            self.phase = if rounds + 1 > CSS_ROUNDS {
                Phase::Over
            } else {
                Phase::Conservative {
                    baseline,
                    rounds: rounds + 1,
                }
            };
        }
        self.window_end = Some(nxt);
        self.last_round_min = self.current_round_min;
        self.current_round_min = NONE;
        self.samples = 0;
    }

    fn is_slower(&self) -> bool {
        if self.last_round_min == NONE || self.current_round_min == NONE {
            return false;
        }
        let threshold =
            (self.last_round_min / MIN_RTT_DIVISOR).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
        self.current_round_min >= self.last_round_min.saturating_add(threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through one round with `samples` round trips of `ms`; the growth divisor at its end.
    fn round(hystart: &mut HyStart, number: u32, ms: u64, samples: u32) -> u32 {
        let divisor = hystart.on_ack(Seq(number * 100), Seq((number + 1) * 100));
        for _ in 0..samples {
            hystart.sample(Duration::from_millis(ms));
        }
        divisor
    }

    #[test]
    fn slower_rounds_end_slow_start_by_way_of_a_conservative_one() {
        let mut hystart = HyStart::default();
        assert_eq!(round(&mut hystart, 0, 40, 8), 1);
        assert_eq!(
            round(&mut hystart, 1, 44, 8),
            1,
            "4 ms is below an eighth of 40"
        );
        assert_eq!(round(&mut hystart, 2, 50, 8), 1);
        for number in 3..8 {
            assert_eq!(round(&mut hystart, number, 60, 8), CSS_GROWTH_DIVISOR);
            assert!(!hystart.is_over());
        }
        round(&mut hystart, 8, 60, 8);
        assert!(hystart.is_over());
    }

    #[test]
    fn a_passing_delay_leads_back() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 0, 40, 8);
        round(&mut hystart, 1, 50, 8);
        assert_eq!(round(&mut hystart, 2, 41, 8), CSS_GROWTH_DIVISOR);
        assert_eq!(round(&mut hystart, 3, 41, 8), 1);
    }

    #[test]
    fn few_samples_prove_nothing() {
        let mut hystart = HyStart::default();
        round(&mut hystart, 0, 40, 8);
        round(&mut hystart, 1, 90, 7);
        assert_eq!(round(&mut hystart, 2, 90, 7), 1);
    }
}
