//! Round trips, and the retransmission timeout made of them (RFC 6298).
//!
//! Deliberately not here: which samples are usable (Karn's rule is kept where they are taken, in `input`).

use core::time::Duration;

use crate::{Config, Instant};

/// For how many seconds a minimum is believed: ways change (RFC 8985 §6.2 step 1 leaves the length open; Linux has 300 s).
const MIN_WINDOW: u32 = 300;

/// Retransmission timeout after a handshake that had to be repeated and gave no round trip (RFC 6298 §5.7).
const RTO_AFTER_LOST_SYN: Duration = Duration::from_secs(3);

/// Samples above this are no round trips but clocks gone wrong; it also keeps the sums below within 32 bits.
const MAX_SAMPLE: Duration = Duration::from_secs(256);

#[derive(Clone, Copy, Debug)]
pub(super) struct Rtt {
    /// Eight times SRTT in microseconds, so that what a shift would cut off is kept. 0 before the first sample.
    srtt8: u32,
    /// Four times RTTVAR in microseconds.
    rttvar4: u32,
    /// Least sample since second `window`, and in the window before. Microseconds.
    min: u32,
    min_before: u32,
    window: u32,
    /// Timeouts in a row: RTO is doubled so often (RFC 6298 §5.5).
    backoff: u8,
    /// The handshake was repeated and gave no sample.
    lost_syn: bool,
}

impl Rtt {
    pub(super) const fn new() -> Self {
        Self {
            srtt8: 0,
            rttvar4: 0,
            min: u32::MAX,
            min_before: u32::MAX,
            window: 0,
            backoff: 0,
            lost_syn: false,
        }
    }

    /// Takes a sample (RFC 6298 §2.2 and §2.3). A valid sample ends the backoff (§5.7, Karn).
    pub(super) fn sample(&mut self, round_trip: Duration, now: Instant) {
        let sample = micros(round_trip.min(MAX_SAMPLE)).max(1);
        if self.srtt8 == 0 {
            self.srtt8 = sample * 8;
            self.rttvar4 = sample * 2;
        } else {
            let error = (self.srtt8 / 8).abs_diff(sample);
            self.rttvar4 = self.rttvar4 - self.rttvar4 / 4 + error;
            self.srtt8 = self.srtt8 - self.srtt8 / 8 + sample;
        }
        self.backoff = 0;
        let second = u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX);
        if second - self.window.min(second) > MIN_WINDOW {
            self.min_before = self.min;
            self.min = sample;
            self.window = second;
        } else {
            self.min = self.min.min(sample);
        }
    }

    /// With what another engine had measured.
    pub(super) fn resume(&mut self, srtt: Duration, rttvar: Duration) {
        self.srtt8 = micros(srtt.min(MAX_SAMPLE)).max(1) * 8;
        self.rttvar4 = micros(rttvar.min(MAX_SAMPLE)) * 4;
    }

    /// SRTT, once there was a sample.
    pub(super) fn srtt(&self) -> Option<Duration> {
        (self.srtt8 != 0).then(|| Duration::from_micros(u64::from(self.srtt8 / 8)))
    }

    /// RTTVAR; zero before the first sample.
    pub(super) fn rttvar(&self) -> Duration {
        Duration::from_micros(u64::from(self.rttvar4 / 4))
    }

    /// The least round trip of the last minutes; zero before the first sample.
    pub(super) fn min(&self) -> Duration {
        if self.srtt8 == 0 {
            return Duration::ZERO;
        }
        Duration::from_micros(u64::from(self.min.min(self.min_before)))
    }

    /// RTO (RFC 6298 §2), backed off.
    pub(super) fn rto(&self, config: &Config) -> Duration {
        let shift = u32::from(self.backoff).min(16);
        (self.base(config) * (1 << shift)).min(config.max_rto)
    }

    /// RTO without the backoff. `config.min_rto` stands for the clock granularity G of RFC 6298 §2.2, as on Linux: a
    /// floor below the variance and not below the sum, so that a peer that delays its acknowledgements by as much
    /// does not meet it.
    fn base(&self, config: &Config) -> Duration {
        match self.srtt() {
            Some(srtt) => srtt + (self.rttvar() * 4).max(config.min_rto),
            None if self.lost_syn => config.initial_rto.max(RTO_AFTER_LOST_SYN),
            None => config.initial_rto,
        }
    }

    /// A timeout happened.
    pub(super) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The timeouts were in error.
    pub(super) fn end_backoff(&mut self) {
        self.backoff = 0;
    }

    /// Timeouts in a row.
    pub(super) fn backoff(&self) -> u8 {
        self.backoff
    }

    /// The handshake is over.
    pub(super) fn on_handshake(&mut self) {
        self.lost_syn = self.srtt8 == 0 && self.backoff > 0;
        self.backoff = 0;
    }
}

/// Microseconds, at most `u32::MAX` of them.
fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn rtt(samples: &[u64]) -> Rtt {
        let mut rtt = Rtt::new();
        for &sample in samples {
            rtt.sample(ms(sample), Instant::ZERO);
        }
        rtt
    }

    #[test]
    fn estimates_follow_the_rfc() {
        let config = Config::default();
        assert_eq!(Rtt::new().rto(&config), ms(1000));
        let first = rtt(&[800]);
        assert_eq!((first.srtt(), first.rttvar()), (Some(ms(800)), ms(400)));
        assert_eq!(first.rto(&config), ms(800 + 4 * 400));
        // RTTVAR = 3/4 * 400 + 1/4 * |800 - 400|, SRTT = 7/8 * 800 + 1/8 * 400.
        let second = rtt(&[800, 400]);
        assert_eq!((second.srtt(), second.rttvar()), (Some(ms(750)), ms(400)));
        assert_eq!(second.min(), ms(400));
    }

    #[test]
    fn the_floor_holds_and_small_round_trips_lose_nothing_to_rounding() {
        let config = Config::default();
        let mut rtt = Rtt::new();
        for _ in 0..100 {
            rtt.sample(Duration::from_micros(50), Instant::ZERO);
        }
        assert_eq!(rtt.srtt(), Some(Duration::from_micros(50)));
        assert_eq!(rtt.rto(&config), ms(200) + Duration::from_micros(50));
    }

    #[test]
    fn backoff_doubles_up_to_the_maximum_and_ends_with_a_sample() {
        let config = Config::default();
        let mut rtt = rtt(&[100]);
        let base = rtt.rto(&config);
        for n in 1..=12 {
            rtt.back_off();
            assert_eq!(rtt.rto(&config), (base * (1 << n)).min(config.max_rto));
        }
        rtt.sample(ms(100), Instant::ZERO);
        assert!(rtt.rto(&config) <= base);
    }

    #[test]
    fn a_repeated_handshake_without_a_sample_makes_the_first_timeout_long() {
        let config = Config::default();
        let mut rtt = Rtt::new();
        rtt.back_off();
        rtt.on_handshake();
        assert_eq!(rtt.rto(&config), ms(3000));
        rtt.sample(ms(10), Instant::ZERO);
        assert!(rtt.rto(&config) < ms(1000));
    }

    #[test]
    fn the_minimum_is_forgotten_after_two_windows() {
        let mut rtt = rtt(&[10]);
        rtt.sample(ms(30), Instant::ZERO + Duration::from_secs(301));
        assert_eq!(rtt.min(), ms(10));
        rtt.sample(ms(20), Instant::ZERO + Duration::from_secs(602));
        assert_eq!(rtt.min(), ms(20));
    }
}
