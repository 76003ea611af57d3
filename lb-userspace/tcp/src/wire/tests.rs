//! Segments as bytes, by hand-made examples, by the definition of the checksum, and by any bytes at all.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{Options, SackBlocks, SeqRange, Timestamps};

/// The definition in RFC 9293 §3.1, word by word.
fn naive_checksum(source: IpAddr, destination: IpAddr, segment: &[u8]) -> u16 {
    let octets = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mut row = octets(source);
    row.extend(octets(destination));
    row.extend(u32::try_from(segment.len()).unwrap().to_be_bytes());
    row.extend([0, 0, 0, 6]);
    row.extend(segment);
    row.resize(row.len().next_multiple_of(2), 0);
    let mut sum = 0;
    for word in row.chunks(2) {
        sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn key(local: &str, remote: &str) -> FlowKey {
    FlowKey {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

fn emitted(key: &FlowKey, header: &Header, payload: Payload<'_>) -> Vec<u8> {
    let mut bytes = vec![0xaa; header_len(header) + payload.len()];
    emit(key, header, payload, &mut bytes);
    bytes
}

/// A segment with these options and flags, and no payload.
fn with_options(flags: Flags, options: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MIN_HEADER_LEN];
    bytes[12] = u8::try_from((MIN_HEADER_LEN + options.len()) / 4).unwrap() << 4;
    bytes[13] = flags.0;
    bytes.extend(options);
    bytes
}

fn options_of(flags: Flags, options: &[u8]) -> Options {
    parse(&with_options(flags, options))
        .unwrap()
        .1
        .header
        .options
}

fn block(start: u32, end: u32) -> SeqRange {
    SeqRange {
        start: Seq(start),
        end: Seq(end),
    }
}

/// The SYN of a Linux 6.12 client on a veth, options in its order.
const LINUX_SYN: [u8; 40] = [
    0xc3, 0x50, 0x00, 0x50, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0, 0, 0, 0, 0,
    2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0x10, 0x01, 0, 0, 0, 0, 1, 3, 3, 10,
];

#[test]
fn a_syn_reads_and_writes_as_linux_lays_it_out() {
    let (ports, segment) = parse(&LINUX_SYN).unwrap();
    assert_eq!((ports.source, ports.destination), (50_000, 80));
    let header = Header {
        seq: Seq(0x1234_5678),
        ack: Seq(0),
        flags: Flags::SYN,
        window: 64_240,
        options: Options {
            mss: Some(1460),
            window_scale: Some(10),
            sack_permitted: true,
            timestamps: Some(Timestamps {
                value: 0x1001,
                echo: 0,
            }),
            sack: SackBlocks::default(),
        },
    };
    assert_eq!(segment.header, header);
    let key = key("192.0.2.1:50000", "192.0.2.2:80");
    let mut bytes = emitted(&key, &header, Payload::default());
    assert!(checksum_holds(key.local.ip(), key.remote.ip(), &bytes));
    bytes[16..18].fill(0);
    assert_eq!(bytes, LINUX_SYN);
}

#[test]
fn data_carries_timestamps_on_words_and_blocks_behind_them() {
    let mut options = Options {
        timestamps: Some(Timestamps { value: 1, echo: 2 }),
        ..Options::default()
    };
    let mut header = Header {
        flags: Flags::ACK,
        options,
        ..Header::default()
    };
    let key = key("[2001:db8::1]:443", "[2001:db8::2]:5000");
    let bytes = emitted(&key, &header, Payload::new([b"abc", b"", b"defg"]));
    assert_eq!(bytes[20..32], [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!((bytes[12], &bytes[32..]), (0x80, &b"abcdefg"[..]));
    for number in 0..4 {
        options.sack.push(block(number * 10, number * 10 + 5));
    }
    header.options = options;
    let bytes = emitted(&key, &header, Payload::default());
    assert_eq!(bytes.len(), 60, "three blocks beside timestamps");
    assert_eq!(bytes[32..40], [1, 1, 5, 26, 0, 0, 0, 0]);
    let read = parse(&bytes).unwrap().1.header.options;
    assert_eq!(read.sack.as_slice(), &options.sack.as_slice()[..3]);
    header.options.timestamps = None;
    let bytes = emitted(&key, &header, Payload::default());
    assert_eq!(parse(&bytes).unwrap().1.header, header, "four without them");
}

#[test]
fn what_a_handshake_negotiates_counts_in_a_syn_only() {
    let list = [2, 4, 0x05, 0xb4, 4, 2, 1, 1, 3, 3, 7, 0];
    let syn = options_of(Flags::SYN, &list);
    assert_eq!(
        (syn.mss, syn.window_scale, syn.sack_permitted),
        (Some(1460), Some(7), true)
    );
    assert_eq!(options_of(Flags::ACK, &list), Options::default());
    let header = Header {
        flags: Flags::ACK,
        options: syn,
        ..Header::default()
    };
    assert_eq!(header_len(&header), MIN_HEADER_LEN);
}

#[test]
fn a_bad_option_ends_the_list_and_keeps_what_stood_before() {
    let mss = Options {
        mss: Some(1460),
        ..Options::default()
    };
    let after = |bytes: &[u8]| options_of(Flags::SYN, &[&[2, 4, 0x05, 0xb4], bytes].concat());
    // A length of zero or one would never end; one beyond the header is cut off; behind the end is nothing.
    for bad in [
        [4, 0, 4, 2],
        [4, 1, 4, 2],
        [8, 10, 0, 0],
        [3, 255, 4, 2],
        [0, 0, 4, 2],
        [1, 1, 1, 4],
    ] {
        assert_eq!(after(&bad), mss, "{bad:?}");
    }
    // A known kind of another length, and unknown kinds, are skipped.
    for skipped in [
        &[3, 4, 9, 9, 4, 2, 0, 0][..],
        &[8, 3, 9, 4, 2, 0, 0, 0],
        &[5, 6, 1, 1, 1, 1, 4, 2],
        &[254, 4, 9, 9, 4, 2, 1, 1],
        &[2, 4, 0, 0, 4, 2, 1, 1],
        &[34, 2, 4, 2],
    ] {
        let options = after(skipped);
        assert!(
            options.sack_permitted && options.mss == mss.mss,
            "{skipped:?}"
        );
        assert_eq!((options.window_scale, options.timestamps), (None, None));
        assert_eq!(options.sack, SackBlocks::default(), "{skipped:?}");
    }
}

#[test]
fn a_shift_above_fourteen_is_fourteen() {
    for (told, taken) in [(0, 0), (14, 14), (15, 14), (255, 14)] {
        let options = options_of(Flags::SYN, &[3, 3, told, 0]);
        assert_eq!(options.window_scale, Some(taken));
    }
}

#[test]
fn lengths_that_contradict_are_no_segment() {
    for (len, offset, error) in [
        (0, 0, Malformed::Truncated),
        (19, 0x50, Malformed::Truncated),
        (20, 0x40, Malformed::DataOffset),
        (20, 0x00, Malformed::DataOffset),
        (20, 0x60, Malformed::Truncated),
        (59, 0xf0, Malformed::Truncated),
    ] {
        let mut bytes = vec![0; len];
        if let Some(byte) = bytes.get_mut(12) {
            *byte = offset;
        }
        assert_eq!(parse(&bytes).unwrap_err(), error, "{len} {offset:#x}");
    }
}

#[test]
fn the_checksum_is_that_of_the_rfc_for_every_length_and_split() {
    let bytes: Vec<u8> = (0..300_u32)
        .map(|n| (n * n % 253).to_le_bytes()[0])
        .collect();
    for (local, remote) in [
        ("192.0.2.1:1", "198.51.100.200:65535"),
        ("[2001:db8::ffff:1]:1", "[fe80::1]:2"),
    ] {
        let key = key(local, remote);
        let (source, destination) = (key.local.ip(), key.remote.ip());
        for len in 0..bytes.len() {
            let (first, rest) = bytes[..len].split_at(len / 3);
            let (second, third) = rest.split_at(rest.len() / 2);
            let payload = Payload::new([first, second, third]);
            let mut segment = emitted(&key, &Header::default(), payload);
            assert_eq!(segment[MIN_HEADER_LEN..], bytes[..len]);
            assert!(checksum_holds(source, destination, &segment));
            let told = u16::from_be_bytes([segment[16], segment[17]]);
            segment[16..18].fill(0);
            assert_eq!(told, naive_checksum(source, destination, &segment), "{len}");
        }
    }
}

#[test]
fn sums_that_carry_often_keep_their_carries() {
    for len in [20, 1460, 9000, 65_535] {
        let mut segment = vec![0xff; len];
        segment[16..18].fill(0);
        let source = IpAddr::V6(Ipv6Addr::from([0xff; 16]));
        let sum = naive_checksum(source, source, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        assert!(checksum_holds(source, source, &segment), "{len}");
        segment[16] ^= 1;
        assert!(!checksum_holds(source, source, &segment), "{len}");
    }
}

/// How fast a full segment is written and checked:
/// `LB_ROUNDS=4000000 cargo test --release -p lb-tcp --lib wire::tests::speed -- --nocapture`.
#[test]
fn speed() {
    let key = key("192.0.2.1:1", "192.0.2.2:2");
    let header = Header {
        flags: Flags::ACK,
        options: Options {
            timestamps: Some(Timestamps::default()),
            ..Options::default()
        },
        ..Header::default()
    };
    let payload = [0x5a; 1448];
    let mut bytes = [0; 1480];
    let rounds = crate::rounds();
    let figure = |name, work: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            work();
        }
        let nanos = start.elapsed().as_secs_f64() * 1e9 / f64::from(rounds);
        std::println!("{name}: {nanos:.1} ns, {:.1} GB/s", 1448.0 / nanos);
    };
    figure("emit", &mut || {
        let payload = Payload::new([core::hint::black_box(&payload), &[], &[]]);
        emit(&key, &header, payload, core::hint::black_box(&mut bytes));
    });
    figure("checksum_holds", &mut || {
        let bytes = core::hint::black_box(&bytes);
        assert!(checksum_holds(key.local.ip(), key.remote.ip(), bytes));
    });
    figure("parse", &mut || {
        core::hint::black_box(parse(core::hint::black_box(&bytes)).unwrap());
    });
}

fn any_options() -> impl Strategy<Value = Options> {
    let sack = prop::collection::vec(any::<(u32, u32)>(), 0..=3);
    let syn = (
        any::<Option<u16>>(),
        prop::option::of(0..=14_u8),
        any::<bool>(),
    );
    (syn, any::<Option<(u32, u32)>>(), sack).prop_map(|(syn, timestamps, blocks)| {
        let mut sack = SackBlocks::default();
        for (start, end) in blocks {
            sack.push(block(start, end));
        }
        Options {
            mss: syn.0.filter(|&mss| mss != 0),
            window_scale: syn.1,
            sack_permitted: syn.2,
            timestamps: timestamps.map(|(value, echo)| Timestamps { value, echo }),
            sack,
        }
    })
}

/// A header as a connection would make one: what a handshake negotiates in a SYN, blocks in any other.
fn any_header() -> impl Strategy<Value = Header> {
    (any::<(u32, u32, u8, u16)>(), any_options()).prop_map(
        |((seq, ack, flags, window), options)| {
            let flags = Flags(flags);
            let options = if flags.has(Flags::SYN) {
                Options {
                    sack: SackBlocks::default(),
                    ..options
                }
            } else {
                Options {
                    timestamps: options.timestamps,
                    sack: options.sack,
                    ..Options::default()
                }
            };
            Header {
                seq: Seq(seq),
                ack: Seq(ack),
                flags,
                window,
                options,
            }
        },
    )
}

fn any_key() -> impl Strategy<Value = FlowKey> {
    (any::<bool>(), any::<(u128, u128)>(), any::<(u16, u16)>()).prop_map(|(v4, ips, ports)| {
        let ip = |ip: u128| {
            if v4 {
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(ip >> 96).unwrap()))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(ip))
            }
        };
        FlowKey {
            local: SocketAddr::new(ip(ips.0), ports.0),
            remote: SocketAddr::new(ip(ips.1), ports.1),
        }
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        key in any_key(),
        header in any_header(),
        pieces in any::<[Vec<u8>; 3]>(),
    ) {
        let payload = Payload::new([&pieces[0], &pieces[1], &pieces[2]]);
        let bytes = emitted(&key, &header, payload);
        prop_assert!(checksum_holds(key.local.ip(), key.remote.ip(), &bytes));
        let (ports, segment) = parse(&bytes).unwrap();
        prop_assert_eq!(ports.source, key.local.port());
        prop_assert_eq!(ports.destination, key.remote.port());
        prop_assert_eq!(segment.header, header);
        prop_assert_eq!(segment.payload, pieces.concat());
    }

    #[test]
    fn what_has_no_room_is_left_out(
        key in any_key(),
        mut options in any_options(),
        blocks: [(u32, u32); 4],
        flags: u8,
    ) {
        options.sack = SackBlocks::default();
        for (start, end) in blocks {
            options.sack.push(block(start, end));
        }
        let flags = Flags(flags);
        let header = Header { flags, options, ..Header::default() };
        let bytes = emitted(&key, &header, Payload::default());
        prop_assert!(bytes.len() <= MAX_HEADER_LEN && bytes.len() > MAX_HEADER_LEN - 8);
        let read = parse(&bytes).unwrap().1.header.options;
        prop_assert_eq!(read.timestamps, options.timestamps);
        let blocks = read.sack.as_slice();
        prop_assert!(blocks.len() >= 2 && options.sack.as_slice().starts_with(blocks));
    }

    #[test]
    fn a_bit_that_flipped_is_noticed(
        key in any_key(),
        header in any_header(),
        payload: Vec<u8>,
        at: prop::sample::Index,
    ) {
        let mut bytes = emitted(&key, &header, Payload::new([&payload, &[], &[]]));
        let at = at.index(bytes.len() * 8);
        bytes[at / 8] ^= 1 << (at % 8);
        prop_assert!(!checksum_holds(key.local.ip(), key.remote.ip(), &bytes));
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..100),
        words: prop::sample::Index,
        likely: bool,
    ) {
        // Else nearly all would be too short for what a random data offset says.
        if likely && bytes.len() >= MIN_HEADER_LEN {
            let most = (bytes.len().min(MAX_HEADER_LEN) - MIN_HEADER_LEN) / 4;
            bytes[12] = u8::try_from(5 + words.index(most + 1)).unwrap() << 4;
        }
        let parsed = parse(&bytes);
        prop_assert!(!likely || bytes.len() < MIN_HEADER_LEN || parsed.is_ok());
        if let Ok((_, segment)) = parsed {
            prop_assert!(segment.payload.len() + MIN_HEADER_LEN <= bytes.len());
            prop_assert!(header_len(&segment.header) <= MAX_HEADER_LEN);
        }
    }
}
