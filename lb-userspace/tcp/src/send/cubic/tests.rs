//! The integer curve against the formulas of RFC 9438 in floating point.

#![expect(clippy::cast_precision_loss, reason = "windows are far below 2⁵²")]

use super::*;

const MSS: u32 = 1448;
const C: f64 = 0.4;

/// `K` in seconds (RFC 9438 §4.2).
fn k(cubic: &Cubic) -> f64 {
    let delta = f64::from(cubic.w_max) - f64::from(cubic.cwnd);
    (delta / f64::from(MSS) / C).cbrt()
}

/// `W_cubic(t)` in bytes (RFC 9438 §4.2).
fn w_cubic(t: f64, k: f64, w_max: u32) -> f64 {
    C * (t - k).powi(3) * f64::from(MSS) + f64::from(w_max)
}

/// After a loss at a window of `segments`.
fn after_loss(segments: u32) -> Cubic {
    let mut cubic = Cubic::new(MSS, 10);
    cubic.cwnd = segments * MSS;
    cubic.on_loss();
    cubic
}

fn growth(acked: u32, now: Instant, srtt: Duration) -> Growth {
    Growth {
        acked,
        was_limit: true,
        srtt,
        una: Seq(0),
        nxt: Seq(0),
        now,
    }
}

/// Acknowledges a full window in each of `rounds` round trips, two segments at a time.
fn run(cubic: &mut Cubic, from: Instant, srtt: Duration, rounds: u32) -> Instant {
    let mut now = from;
    for _ in 0..rounds {
        now += srtt;
        let acks = cubic.cwnd / MSS / 2;
        for _ in 0..acks {
            cubic.on_ack(&growth(2 * MSS, now, srtt));
        }
    }
    now
}

#[test]
fn the_curve_is_that_of_the_rfc() {
    for segments in [20, 100, 1000, 50_000, 700_000] {
        let mut cubic = after_loss(segments);
        let expected_k = k(&cubic);
        cubic.begin_epoch(Instant::ZERO);
        assert!((f64::from(cubic.k) / 1e3 - expected_k).abs() <= 1e-3);
        for t in [0_i64, 1, 50, 777, 5000, 20_000, 60_000] {
            let expected = w_cubic(t as f64 / 1e3, f64::from(cubic.k) / 1e3, cubic.w_max);
            let expected = expected.clamp(0.0, f64::from(MAX_WINDOW));
            let found = f64::from(cubic.w_cubic(t));
            assert!(
                (found - expected).abs() <= 2.0,
                "{segments} {t}: {found} {expected}"
            );
        }
    }
}

#[test]
fn the_window_follows_the_curve_through_its_plateau() {
    let srtt = Duration::from_millis(100);
    let mut cubic = after_loss(1000);
    let (k, w_max) = (k(&cubic), cubic.w_max);
    let start = Instant::from_micros(1_000_000);
    cubic.on_ack(&growth(MSS, start, srtt));
    let mut now = start;
    for _ in 0..20 {
        now = run(&mut cubic, now, srtt, 10);
        let t = now.since(start).as_secs_f64();
        let (low, high) = (w_cubic(t - 0.2, k, w_max), w_cubic(t + 0.2, k, w_max));
        let cwnd = f64::from(cubic.cwnd);
        let slack = f64::from(MSS);
        assert!(
            cwnd >= low - slack && cwnd <= high + slack,
            "{t}: {low} {cwnd} {high}"
        );
    }
    assert!(cubic.cwnd > w_max, "probes above the plateau");
}

#[test]
fn a_window_grows_by_half_in_a_round_trip_at_most() {
    let srtt = Duration::from_millis(100);
    let mut cubic = after_loss(100);
    let start = Instant::from_micros(1_000_000);
    cubic.on_ack(&growth(MSS, start, srtt));
    let before = cubic.cwnd;
    // Far behind the plateau the curve is steeper than any network.
    cubic.last = start + Duration::from_secs(100);
    for _ in 0..70 {
        cubic.on_ack(&growth(MSS, cubic.last, srtt));
    }
    assert!(cubic.cwnd > before * 14 / 10 && cubic.cwnd <= before * 165 / 100);
}

#[test]
fn short_round_trips_grow_like_reno() {
    let srtt = Duration::from_millis(1);
    let mut cubic = after_loss(40);
    let first = cubic.cwnd;
    let start = Instant::from_micros(1_000_000);
    run(&mut cubic, start, srtt, 10);
    // α = 3 (1 - β) / (1 + β) = 9/17 segments per round trip.
    let expected = f64::from(first) + 10.0 * 9.0 / 17.0 * f64::from(MSS);
    assert!((f64::from(cubic.cwnd) - expected).abs() < f64::from(MSS));
    let cwnd = cubic.cwnd;
    // And one segment each once it is back.
    while cubic.cwnd < cubic.cwnd_prior {
        run(&mut cubic, start, srtt, 1);
    }
    let back = cubic.cwnd;
    run(&mut cubic, start, srtt, 10);
    assert!(back > cwnd && cubic.cwnd - back > 9 * MSS && cubic.cwnd - back < 11 * MSS);
}

#[test]
fn a_loss_takes_three_tenths_and_a_second_one_makes_room_for_others() {
    let mut cubic = after_loss(100);
    assert_eq!((cubic.cwnd, cubic.w_max), (70 * MSS, 100 * MSS));
    cubic.on_loss();
    assert_eq!((cubic.cwnd, cubic.w_max), (49 * MSS, 70 * MSS * 17 / 20));
    let mut small = after_loss(1);
    assert_eq!(small.cwnd, 2 * MSS);
    small.on_timeout(true);
    assert_eq!((small.cwnd, small.ssthresh), (MSS, 2 * MSS));
}

#[test]
fn time_without_use_does_not_count() {
    let srtt = Duration::from_millis(100);
    let mut used = after_loss(1000);
    let mut idle = after_loss(1000);
    let start = Instant::from_micros(1_000_000);
    let now = run(&mut used, start, srtt, 10);
    run(&mut idle, start, srtt, 10);
    let hour = Duration::from_hours(1);
    for _ in 0..10 {
        let unused = Growth {
            was_limit: false,
            ..growth(MSS, now + hour / 2, srtt)
        };
        idle.on_ack(&unused);
    }
    idle.on_resume(now + hour);
    run(&mut used, now, srtt, 10);
    run(&mut idle, now + hour, srtt, 10);
    assert_eq!(used.cwnd, idle.cwnd);
}

#[test]
fn undoing_restores_the_curve() {
    let srtt = Duration::from_millis(100);
    let mut cubic = after_loss(1000);
    let start = Instant::from_micros(1_000_000);
    let now = run(&mut cubic, start, srtt, 20);
    let prior = cubic;
    cubic.on_loss();
    cubic.on_timeout(false);
    cubic.undo(&prior, now + srtt);
    assert_eq!(
        (cubic.cwnd, cubic.ssthresh, cubic.w_max),
        (prior.cwnd, prior.ssthresh, prior.w_max)
    );
    let mut other = prior;
    run(&mut other, now, srtt, 10);
    run(&mut cubic, now + srtt, srtt, 10);
    assert_eq!(cubic.cwnd, other.cwnd);
}

#[test]
fn the_initial_window_is_ten_segments_or_about_fifteen_thousand_bytes() {
    let window = |mss| Cubic::new(mss, 10).cwnd();
    assert_eq!((window(1448), window(536)), (14_480, 5360));
    assert_eq!((window(4000), window(8000)), (14_600, 16_000));
}

#[test]
fn slow_start_doubles_and_a_stretched_acknowledgement_does_not_burst() {
    let mut cubic = Cubic::new(MSS, 10);
    run(&mut cubic, Instant::ZERO, Duration::from_millis(10), 1);
    assert_eq!(cubic.cwnd, 20 * MSS);
    cubic.on_ack(&growth(1 << 20, Instant::ZERO, Duration::from_millis(10)));
    assert_eq!(cubic.cwnd, 28 * MSS);
}

#[test]
fn cube_roots_are_exact() {
    for root in [0_u64, 1, 2, 3, 10, 999, 1 << 20, (1 << 21) - 1] {
        assert_eq!(u64::from(cube_root(root * root * root)), root);
        if root > 0 {
            assert_eq!(u64::from(cube_root(root * root * root - 1)), root - 1);
        }
    }
}
