//! Frames of both families, as a router sends them, and what changes when each field does.

use super::*;
use crate::af_xdp::packet::tests::{bytes, changed};
use crate::af_xdp::packet::{fold, sum};

/// From router 192.0.2.1: a segment from 10.203.1.100:443 to 10.203.1.10:40000, seq 0x01020304, 1500 bytes long, did not
/// fit into a link of MTU 1400.
const TOO_BIG_V4: &str = "020000000002 020000000001 0800 \
    4500 0038 0000 4000 40 01 6c95 c0000201 0acb0164 \
    03 04 5582 0000 0578 \
    4500 05dc 0000 4000 3d 06 2019 0acb0164 0acb010a \
    01bb 9c40 01020304";
const MESSAGE_V4: usize = 34;
const QUOTE_V4: usize = MESSAGE_V4 + 8;

/// The same from `2001:db8::1`, about one from `fd00:203:1::64` to `fd00:203:1::a`.
const TOO_BIG_V6: &str = "020000000002 020000000001 86dd \
    60000000 0038 3a 40 20010db8000000000000000000000001 fd000203000100000000000000000064 \
    02 00 be87 00000578 \
    60000000 05b4 06 3d fd000203000100000000000000000064 fd00020300010000000000000000000a \
    01bb 9c40 01020304";
const MESSAGE_V6: usize = 54;
const QUOTE_V6: usize = MESSAGE_V6 + 8;

/// The frame with other 16-bit words at even offsets of the ICMP message, whose checksum goes along (RFC 1624).
fn told(frame: &str, message: usize, words: &[(usize, u16)]) -> Vec<u8> {
    let mut frame = bytes(frame);
    for &(at, new) in words {
        assert!(at % 2 == 0 && at >= message);
        let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let (old, sum) = (word(&frame, at), word(&frame, message + 2));
        let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
        total = (total & 0xffff) + (total >> 16);
        total = (total & 0xffff) + (total >> 16);
        let sum = !u16::try_from(total).unwrap();
        frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
        frame[message + 2..message + 4].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

fn key(local: &str, remote: &str) -> FlowKey {
    FlowKey {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

#[test]
fn says_which_segment_of_ours_did_not_fit() {
    let check = |frame: &str, key| {
        let mut frame = bytes(frame);
        frame.extend([0xa5; 7]); // Ethernet padding, or more of it.
        let expected = IcmpError {
            key,
            seq: Seq(0x0102_0304),
            kind: IcmpKind::PacketTooBig { mtu: 1400 },
        };
        assert_eq!(parse_icmp(&frame), Ok(expected));
    };
    check(TOO_BIG_V4, key("10.203.1.100:443", "10.203.1.10:40000"));
    check(
        TOO_BIG_V6,
        key("[fd00:203:1::64]:443", "[fd00:203:1::a]:40000"),
    );
}

#[test]
fn kinds() {
    let v4 = |kind: u16, expected| {
        let frame = told(TOO_BIG_V4, MESSAGE_V4, &[(MESSAGE_V4, kind)]);
        assert_eq!(
            parse_icmp(&frame).map(|error| error.kind),
            expected,
            "{kind:04x}"
        );
    };
    v4(0x0300, Ok(IcmpKind::Unreachable { code: 0 }));
    v4(0x0303, Ok(IcmpKind::Unreachable { code: 3 }));
    v4(0x0304, Ok(IcmpKind::PacketTooBig { mtu: 1400 }));
    v4(0x030d, Ok(IcmpKind::Unreachable { code: 13 }));
    v4(0x0b00, Ok(IcmpKind::TimeExceeded));
    v4(0x0b01, Ok(IcmpKind::TimeExceeded));
    // Echo and its answer, source quench, redirect, parameter problem; too big, if it were ICMPv6.
    for kind in [0x0800, 0x0000, 0x0400, 0x0501, 0x0c00, 0x0200] {
        v4(kind, Err(Reject::NotTcp));
    }
    let v6 = |kind: u16, expected| {
        let frame = told(TOO_BIG_V6, MESSAGE_V6, &[(MESSAGE_V6, kind)]);
        assert_eq!(
            parse_icmp(&frame).map(|error| error.kind),
            expected,
            "{kind:04x}"
        );
    };
    v6(0x0100, Ok(IcmpKind::Unreachable { code: 0 }));
    v6(0x0104, Ok(IcmpKind::Unreachable { code: 4 }));
    v6(0x0200, Ok(IcmpKind::PacketTooBig { mtu: 1400 }));
    v6(0x0300, Ok(IcmpKind::TimeExceeded));
    // Parameter problem, echo and its answer, neighbour discovery; an error that is none yet; unreachable, if it were ICMP.
    for kind in [0x0400, 0x8000, 0x8100, 0x8700, 0x8900, 0x7f00, 0x0b00] {
        v6(kind, Err(Reject::NotTcp));
    }
}

#[test]
fn mtu_of_the_next_hop() {
    let v4 = |mtu: u16, packet: u16, expected| {
        let words = [(MESSAGE_V4 + 6, mtu), (QUOTE_V4 + 2, packet)];
        let error = parse_icmp(&told(TOO_BIG_V4, MESSAGE_V4, &words)).unwrap();
        assert_eq!(error.kind, IcmpKind::PacketTooBig { mtu: expected });
    };
    v4(1400, 1500, 1400);
    v4(65_535, 1500, 65_535);
    v4(1, 1500, 1);
    // Not told, as before RFC 1191.
    v4(0, 1500, 1492);
    v4(0, 1492, 1006);
    v4(0, 9000, 8166);
    v4(0, 65_535, 32_000);
    v4(0, 297, 296);
    v4(0, 60, 68);
    let v6 = |high: u16, low: u16| {
        let words = [(MESSAGE_V6 + 4, high), (MESSAGE_V6 + 6, low)];
        parse_icmp(&told(TOO_BIG_V6, MESSAGE_V6, &words)).map(|error| error.kind)
    };
    assert_eq!(v6(0, 1280), Ok(IcmpKind::PacketTooBig { mtu: 1280 }));
    assert_eq!(v6(1, 0), Ok(IcmpKind::PacketTooBig { mtu: 65_536 }));
    // RFC 8201 §4: to be discarded.
    assert_eq!(v6(0, 1279), Err(Reject::Malformed));
    assert_eq!(v6(0, 0), Err(Reject::Malformed));
}

#[test]
fn every_byte_that_a_checksum_covers_counts() {
    for (frame, message) in [(TOO_BIG_V4, MESSAGE_V4), (TOO_BIG_V6, MESSAGE_V6)] {
        for at in message..bytes(frame).len() {
            let old = bytes(frame)[at];
            let result = parse_icmp(&changed(frame, at, old ^ 0x10));
            assert_eq!(result, Err(Reject::Checksum), "byte {at}");
        }
    }
    // Hops of the IPv4 header, whose own checksum covers it; a source address of IPv6, which ICMPv6 covers.
    let hops = changed(TOO_BIG_V4, 22, 0x3f);
    assert_eq!(parse_icmp(&hops), Err(Reject::Checksum));
    let source = changed(TOO_BIG_V6, 30, 1);
    assert_eq!(parse_icmp(&source), Err(Reject::Checksum));
    // Those of IPv6 nothing covers.
    assert!(parse_icmp(&changed(TOO_BIG_V6, 21, 0x3f)).is_ok());
}

#[test]
fn quotes_that_are_not_about_a_segment_of_the_receiver() {
    let v4 = |at: usize, word: u16, reason| {
        let frame = told(TOO_BIG_V4, MESSAGE_V4, &[(QUOTE_V4 + at, word)]);
        assert_eq!(parse_icmp(&frame), Err(reason), "{at}: {word:04x}");
    };
    v4(0, 0x5500, Reject::Malformed);
    v4(0, 0x4400, Reject::Malformed);
    v4(0, 0x6000, Reject::Malformed);
    // Options, behind which there is no segment any more.
    v4(0, 0x4700, Reject::Malformed);
    v4(6, 0x2000, Reject::Fragment);
    v4(6, 0x0001, Reject::Fragment);
    v4(8, 0x3d11, Reject::NotTcp);
    v4(8, 0x3d01, Reject::NotTcp);
    v4(14, 0x0165, Reject::Malformed);
    let v6 = |at: usize, word: u16, reason| {
        let frame = told(TOO_BIG_V6, MESSAGE_V6, &[(QUOTE_V6 + at, word)]);
        assert_eq!(parse_icmp(&frame), Err(reason), "{at}: {word:04x}");
    };
    v6(0, 0x4500, Reject::Malformed);
    v6(6, 0x113d, Reject::NotTcp);
    v6(6, 0x2c3d, Reject::NotTcp);
    v6(6, 0x003d, Reject::NotTcp);
    v6(22, 0x0065, Reject::Malformed);
}

#[test]
fn frames_that_are_something_else() {
    let check = |frame: &[u8], reason| assert_eq!(parse_icmp(frame), Err(reason));
    check(&[], Reject::Malformed);
    check(&changed(TOO_BIG_V4, 12, 0x81), Reject::NotIp);
    check(&changed(TOO_BIG_V4, 14, 0x44), Reject::Malformed);
    check(&changed(TOO_BIG_V4, 20, 0x20), Reject::Fragment);
    check(&changed(TOO_BIG_V4, 23, 6), Reject::NotTcp);
    // The other family's ICMP.
    check(&changed(TOO_BIG_V4, 23, 58), Reject::NotTcp);
    check(&changed(TOO_BIG_V6, 20, 1), Reject::NotTcp);
    check(&changed(TOO_BIG_V6, 20, 44), Reject::NotTcp);
    let whole = bytes(TOO_BIG_V4);
    for len in 14..whole.len() {
        check(&whole[..len], Reject::Malformed);
    }
}

/// Less than RFC 792 asks for, and sound otherwise.
#[test]
fn eight_bytes_of_the_segment_are_needed() {
    let whole = bytes(TOO_BIG_V4);
    for cut in 1..=28 {
        let mut frame = whole[..whole.len() - cut].to_vec();
        let total_len = u16::try_from(frame.len() - ETHERNET_LEN).unwrap();
        frame[16..18].copy_from_slice(&total_len.to_be_bytes());
        for (at, range) in [
            (24, ETHERNET_LEN..MESSAGE_V4),
            (36, MESSAGE_V4..frame.len()),
        ] {
            frame[at..at + 2].fill(0);
            let sum = !fold(sum(&frame[range], 0));
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        assert_eq!(parse_icmp(&frame), Err(Reject::Malformed), "{cut} less");
    }
}

#[test]
fn no_frame_makes_the_parser_panic() {
    for frame in [TOO_BIG_V4, TOO_BIG_V6] {
        let whole = bytes(frame);
        for len in 0..=whole.len() {
            for at in 0..len {
                for value in [0, 1, 0x0f, 0x40, 0x60, 0x7f, 0xff] {
                    let mut frame = whole[..len].to_vec();
                    frame[at] = value;
                    let _ = parse_icmp(&frame);
                }
            }
        }
    }
}
