//! SYN cookies: a half-open connection that is kept by its peer (RFC 4987 §3.6).
//!
//! Our initial sequence number says that we got this SYN of this peer not long ago, and which MSS it told: 29 bits of a keyed hash,
//! and 3 bits of a table. What else the SYN told goes into the low bits of our timestamp, which the peer echoes; the hash covers
//! that, too. Without timestamps there is no place for it, and such a connection has neither SACK nor a window scale.
//!
//! A number that was guessed passes once in 2²⁸ tries: eight sizes and two times of 2³² numbers are good.
//!
//! Deliberately not here: when cookies are sent and which acknowledgements are asked for one; the MSS that we tell.

use crate::secret::Purpose;
use crate::segment::Timestamps;
use crate::timestamps::Clock;
use crate::{Config, Flags, FlowKey, Header, Instant, Options, Secret, Seq};

/// Seconds of a count. A cookie is good in the count in which it was made, and in the next one: Linux has 60.
const COUNT_SECONDS: u64 = 64;

/// What a cookie can say of an MSS, that of the SYN rounded down: the least that we send, those of RFC 9293 §3.7.1, of tunnels,
/// IPv6, Ethernet, and jumbo frames.
const SIZES: [u16; 8] = [216, 536, 1220, 1360, 1400, 1440, 1460, 8960];

/// Bits of a cookie for the index of a size.
const SIZE_MASK: u32 = 7;

/// Bits of a timestamp for what else the SYN told: a shift count, or [`NO_SCALE`], and [`SACK`].
const TOLD_MASK: u32 = 0x1f;
const NO_SCALE: u32 = 0x0f;
const SACK: u32 = 0x10;

/// The answer to a SYN, with a cookie as its number and without an MSS. Its window is not scaled.
pub(crate) fn make(
    secret: &Secret,
    key: &FlowKey,
    syn: &Header,
    now: Instant,
    config: &Config,
) -> Header {
    let (told, timestamps) = match syn.options.timestamps {
        Some(peer) if config.timestamps => {
            let told = fold(&syn.options, config);
            let clock = Clock::new(secret.timestamp_offset(key));
            let value = carrying(told, clock.option(now).value);
            let echo = peer.value;
            (Some(told), Some(Timestamps { value, echo }))
        }
        _ => (None, None),
    };
    let known = told.map(unfold).unwrap_or_default();
    let size = size_index(syn.options.mss, key);
    let window = config.receive_window.min(usize::from(u16::MAX));
    Header {
        seq: number(secret, key, syn.seq, count(now), size, told),
        ack: syn.seq + 1,
        flags: Flags::SYN | Flags::ACK,
        window: u16::try_from(window).unwrap_or(u16::MAX),
        options: Options {
            window_scale: known.window_scale.map(|_| config.window_scale),
            sack_permitted: known.sack_permitted,
            timestamps,
            ..Options::default()
        },
    }
}

/// What the SYN told, as far as it was kept, if `ack` acknowledges a cookie that is not too old: the first segment of the peer,
/// or its first text.
pub(crate) fn check(
    secret: &Secret,
    key: &FlowKey,
    ack: &Header,
    now: Instant,
    config: &Config,
) -> Option<Options> {
    let unfit = ack.flags.has(Flags::SYN) || ack.flags.has(Flags::RST);
    if unfit || !ack.flags.has(Flags::ACK) {
        return None;
    }
    let timestamps = ack.options.timestamps.filter(|_| config.timestamps);
    let told = timestamps.map(|peer| peer.echo & TOLD_MASK);
    let cookie = ack.ack - 1;
    let size = cookie.0 & SIZE_MASK;
    let count = count(now);
    // In the first count of all there is none before it.
    let before = count.checked_sub(1);
    let good = [Some(count), before]
        .into_iter()
        .flatten()
        .any(|count| number(secret, key, ack.seq - 1, count, size, told) == cookie);
    good.then(|| Options {
        mss: SIZES.get(size as usize).copied(),
        timestamps,
        ..told.map(unfold).unwrap_or_default()
    })
}

/// The number of a cookie. The index of the size is hashed and stands in the low bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "as many bits of the hash as there is room for"
)]
fn number(
    secret: &Secret,
    key: &FlowKey,
    irs: Seq,
    count: u64,
    size: u32,
    told: Option<u32>,
) -> Seq {
    let hash = secret.hash(Purpose::Cookie, (key, irs, count, size, told));
    Seq((hash as u32) & !SIZE_MASK | size)
}

/// The index of the largest size that is not above the peer's.
fn size_index(mss: Option<u16>, key: &FlowKey) -> u32 {
    // RFC 9293 §3.7.1, MUST-15.
    let without = if key.remote.is_ipv4() { 536 } else { 1220 };
    let mss = mss.unwrap_or(without);
    let above = SIZES.partition_point(|&size| size <= mss);
    u32::try_from(above.saturating_sub(1)).unwrap_or_default()
}

/// What is negotiated with a peer that told `options`, in bits.
fn fold(options: &Options, config: &Config) -> u32 {
    let scale = options.window_scale.map_or(NO_SCALE, u32::from);
    let sack = if options.sack_permitted && config.sack {
        SACK
    } else {
        0
    };
    scale.min(NO_SCALE) | sack
}

fn unfold(told: u32) -> Options {
    let scale = told & NO_SCALE;
    Options {
        window_scale: u8::try_from(scale).ok().filter(|_| scale != NO_SCALE),
        sack_permitted: told & SACK != 0,
        ..Options::default()
    }
}

/// The latest time up to `value` whose low bits are `told`: not a later one, since what we send next must not be older.
const fn carrying(told: u32, value: u32) -> u32 {
    value.wrapping_sub(value.wrapping_sub(told) & TOLD_MASK)
}

const fn count(now: Instant) -> u64 {
    now.as_micros() / 1_000_000 / COUNT_SECONDS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000_000_000);

    /// The count in which NOW lies began so long before.
    const SINCE_COUNT: u64 = 1_000_000_000_000 % (COUNT_SECONDS * 1_000_000);

    fn secret(byte: u8) -> Secret {
        Secret::new([byte; 16])
    }

    fn key() -> FlowKey {
        FlowKey {
            local: "192.0.2.1:443".parse().unwrap(),
            remote: "198.51.100.7:50000".parse().unwrap(),
        }
    }

    fn syn(options: Options) -> Header {
        Header {
            seq: Seq(0x1234_5678),
            flags: Flags::SYN,
            options,
            ..Header::default()
        }
    }

    fn usual() -> Options {
        Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps {
                value: 5000,
                echo: 0,
            }),
            ..Options::default()
        }
    }

    fn made(options: Options) -> Header {
        make(&secret(1), &key(), &syn(options), NOW, &Config::default())
    }

    /// What a peer answers.
    fn answer(syn: &Header, syn_ack: &Header) -> Header {
        Header {
            seq: syn.seq + 1,
            ack: syn_ack.seq + 1,
            flags: Flags::ACK,
            options: Options {
                timestamps: syn_ack.options.timestamps.map(|ours| Timestamps {
                    value: ours.echo.wrapping_add(3),
                    echo: ours.value,
                }),
                ..Options::default()
            },
            ..Header::default()
        }
    }

    fn checked(ack: &Header, now: Instant) -> Option<Options> {
        check(&secret(1), &key(), ack, now, &Config::default())
    }

    #[test]
    fn a_cookie_brings_back_what_the_syn_told() {
        let syn_ack = made(usual());
        assert_eq!((syn_ack.ack, syn_ack.window), (Seq(0x1234_5679), 65_535));
        assert_eq!(syn_ack.flags, Flags::SYN | Flags::ACK);
        assert_eq!(syn_ack.options.window_scale, Some(10), "ours");
        let back = checked(&answer(&syn(usual()), &syn_ack), NOW).unwrap();
        let timestamps = back.timestamps.unwrap();
        assert_eq!(timestamps.value, 5003);
        let expected = Options {
            timestamps: Some(timestamps),
            ..usual()
        };
        assert_eq!(back, expected);
    }

    #[test]
    fn without_timestamps_there_is_neither_sack_nor_scale() {
        let bare = Options {
            timestamps: None,
            ..usual()
        };
        let syn_ack = made(bare);
        assert_eq!(syn_ack.options, Options::default(), "none is offered");
        let back = checked(&answer(&syn(bare), &syn_ack), NOW).unwrap();
        let expected = Options {
            mss: Some(1460),
            ..Options::default()
        };
        assert_eq!(back, expected);
        // As little if we have switched them off.
        let config = Config {
            timestamps: false,
            ..Config::default()
        };
        let syn_ack = make(&secret(1), &key(), &syn(usual()), NOW, &config);
        assert_eq!(syn_ack.options, Options::default());
        let mut ack = answer(&syn(usual()), &syn_ack);
        // Nor do they count when a peer sends them nevertheless.
        ack.options.timestamps = Some(Timestamps { value: 1, echo: 9 });
        let back = check(&secret(1), &key(), &ack, NOW, &config);
        assert_eq!(back, Some(expected));
    }

    #[test]
    fn an_mss_is_rounded_down_to_one_of_the_table() {
        for (told, kept) in [
            (Some(1), 216),
            (Some(535), 216),
            (None, 536),
            (Some(1380), 1360),
            (Some(1452), 1440),
            (Some(1460), 1460),
            (Some(8959), 1460),
            (Some(65_535), 8960),
        ] {
            let options = Options {
                mss: told,
                ..usual()
            };
            let back = checked(&answer(&syn(options), &made(options)), NOW);
            assert_eq!(back.unwrap().mss, Some(kept), "{told:?}");
        }
        let mut key = key();
        key.remote = "[2001:db8::1]:5".parse().unwrap();
        assert_eq!(SIZES[size_index(None, &key) as usize], 1220);
    }

    #[test]
    fn a_cookie_is_good_in_its_count_and_the_next() {
        let ack = answer(&syn(usual()), &made(usual()));
        let second = 1_000_000;
        let at = |micros: u64| {
            let start = NOW.as_micros() - SINCE_COUNT;
            checked(&ack, Instant::from_micros(start + micros)).is_some()
        };
        assert!(at(0) && at(64 * second) && at(128 * second - 1));
        assert!(!at(128 * second), "too old");
        let before = Instant::from_micros(NOW.as_micros() - SINCE_COUNT - 1);
        assert!(checked(&ack, before).is_none(), "of the future");
        let first = Instant::from_micros(5);
        let syn_ack = make(&secret(1), &key(), &syn(usual()), first, &Config::default());
        assert!(checked(&answer(&syn(usual()), &syn_ack), first).is_some());
    }

    #[test]
    fn nothing_else_is_a_cookie() {
        let good = answer(&syn(usual()), &made(usual()));
        assert!(checked(&good, NOW).is_some());
        let wrong = |change: &dyn Fn(&mut Header)| {
            let mut ack = good;
            change(&mut ack);
            checked(&ack, NOW).is_none()
        };
        assert!(wrong(&|ack| ack.ack += 1));
        assert!(wrong(&|ack| ack.ack += 8));
        assert!(wrong(&|ack| ack.seq += 1));
        assert!(wrong(&|ack| ack.options.timestamps = None));
        assert!(wrong(&|ack| ack.flags = Flags::default()));
        assert!(wrong(&|ack| ack.flags = Flags::ACK | Flags::RST));
        assert!(wrong(&|ack| ack.flags = Flags::ACK | Flags::SYN));
        // A scale or SACK that was not told.
        for bit in [1, 2, 4, 8, 16] {
            let flip = |ack: &mut Header| {
                let timestamps = ack.options.timestamps.as_mut().unwrap();
                timestamps.echo ^= bit;
            };
            assert!(wrong(&flip), "{bit}");
        }
        let config = Config::default();
        assert!(check(&secret(2), &key(), &good, NOW, &config).is_none());
        for (local, remote) in [
            ("192.0.2.1:443", "198.51.100.7:50001"),
            ("192.0.2.1:443", "198.51.100.8:50000"),
            ("192.0.2.1:80", "198.51.100.7:50000"),
            ("192.0.2.2:443", "198.51.100.7:50000"),
        ] {
            let other = FlowKey {
                local: local.parse().unwrap(),
                remote: remote.parse().unwrap(),
            };
            assert!(check(&secret(1), &other, &good, NOW, &config).is_none());
        }
    }

    /// One in 2²⁸ passes, so of 2¹⁶ none is expected; with 16 bits less of hash it would be 16.
    #[test]
    fn guessed_numbers_do_not_pass() {
        let mut ack = answer(&syn(usual()), &made(usual()));
        let good = ack.ack;
        let mut passed = 0;
        for guess in 0..1_u32 << 16 {
            // All sizes, spread over all numbers.
            ack.ack = Seq(guess.wrapping_mul(0x9e37_79b1));
            passed += u32::from(ack.ack != good && checked(&ack, NOW).is_some());
        }
        assert_eq!(passed, 0);
    }

    /// Cookies of neighbours share nothing: each bit of the hash is one in half of them.
    #[test]
    fn numbers_tell_nothing_of_others() {
        let mut ones = [0_i32; 32];
        for port in 1..=4096 {
            let mut key = key();
            key.remote.set_port(port);
            let syn_ack = make(&secret(1), &key, &syn(usual()), NOW, &Config::default());
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += i32::from(syn_ack.seq.0 >> bit & 1 == 1);
            }
        }
        for (bit, count) in ones.iter().enumerate().skip(3) {
            // Six standard deviations of 4096 tosses.
            assert!((count - 2048).abs() < 192, "{bit}: {count}");
        }
    }

    proptest! {
        #[test]
        fn any_syn_comes_back_as_far_as_there_is_room(
            seq: u32,
            mss: Option<u16>,
            window_scale in prop::option::of(0..=14_u8),
            sack_permitted: bool,
            value: u32,
            millis in 0..1_u64 << 40,
            wait in 0..64_000_u64,
        ) {
            let options = Options {
                mss,
                window_scale,
                sack_permitted,
                timestamps: Some(Timestamps { value, echo: 0 }),
                ..Options::default()
            };
            let syn = Header { seq: Seq(seq), ..syn(options) };
            let now = Instant::from_micros(millis * 1000);
            let syn_ack = make(&secret(1), &key(), &syn, now, &Config::default());
            let clock = Clock::new(secret(1).timestamp_offset(&key()));
            let sent = syn_ack.options.timestamps.unwrap().value;
            let early = clock.option(now).value.wrapping_sub(sent);
            prop_assert!(early < 32, "our clock never goes back");
            let later = Instant::from_micros((millis + wait) * 1000);
            let back = checked(&answer(&syn, &syn_ack), later).unwrap();
            prop_assert_eq!(back.window_scale, window_scale);
            prop_assert_eq!(back.sack_permitted, sack_permitted);
            prop_assert!(back.mss.unwrap() <= mss.unwrap_or(536).max(216));
        }
    }
}
