//! Headers as they are written and read: both versions, what is refused, and what is left in the stream.

use proptest::prelude::*;

use super::*;

fn client(peer: &str, local: &str) -> ClientAddr {
    ClientAddr {
        peer: peer.parse().unwrap(),
        local: local.parse().unwrap(),
    }
}

/// What is read from these bytes, and what is left behind it.
fn read_all(bytes: &[u8]) -> (io::Result<Option<ClientAddr>>, Vec<u8>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut stream = bytes;
    let outcome = runtime.block_on(read(&mut stream));
    (outcome, stream.to_vec())
}

/// The header followed by a byte that must stay.
fn reads(header: &[u8]) -> Option<ClientAddr> {
    let (outcome, rest) = read_all(&[header, b"E"].concat());
    let found = outcome.unwrap();
    assert_eq!(rest, b"E", "it takes its own bytes and no more");
    found
}

fn refused(header: &[u8]) -> String {
    let (outcome, _) = read_all(header);
    outcome.unwrap_err().to_string()
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[VERSION | command, family], &length, rest].concat()
}

const V4_ENDS: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xc0, 0x01, 0x01, 0xbb];

fn v4_client() -> ClientAddr {
    client("192.0.2.1:49153", "198.51.100.2:443")
}

#[test]
fn what_is_written_is_as_the_specification_shows_it() {
    let v4 = v4_client();
    assert_eq!(
        write(ProxyProtocol::V1, Some(v4)),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 49153 443\r\n"
    );
    let v6 = client("[2001:db8::1]:49153", "[2001:db8::2]:25");
    assert_eq!(
        write(ProxyProtocol::V1, Some(v6)),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 49153 25\r\n"
    );
    assert_eq!(
        write(ProxyProtocol::V2, Some(v4)),
        v2(PROXY, TCP4, &V4_ENDS)
    );
    assert_eq!(write(ProxyProtocol::V1, None), b"PROXY UNKNOWN\r\n");
    assert_eq!(write(ProxyProtocol::V2, None), v2(LOCAL, UNSPECIFIED, &[]));
    let mapped = client("[::ffff:192.0.2.1]:49153", "[::ffff:198.51.100.2]:443");
    assert_eq!(
        write(ProxyProtocol::V1, Some(mapped)),
        write(ProxyProtocol::V1, Some(v4))
    );
}

#[test]
fn what_is_written_is_read() {
    let clients = [
        v4_client(),
        client("[2001:db8::1]:1", "[2001:db8::2]:65535"),
    ];
    for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
        for client in clients {
            assert_eq!(
                reads(&write(version, Some(client))),
                Some(client),
                "{version:?}"
            );
        }
        assert_eq!(reads(&write(version, None)), None, "{version:?}");
    }
    // From one family to the other, through a proxy before us.
    let mixed = client("192.0.2.1:7", "[2001:db8::2]:25");
    let found = reads(&write(ProxyProtocol::V2, Some(mixed))).unwrap();
    assert_eq!(found.peer.ip().to_canonical(), mixed.peer.ip());
    assert_eq!(found.local, mixed.local);
}

#[test]
fn a_sender_may_speak_for_itself() {
    assert_eq!(reads(b"PROXY UNKNOWN ffff:f...f 1 2 whatever\r\n"), None);
    assert_eq!(reads(&v2(LOCAL, TCP4, &V4_ENDS)), None);
    // A Unix socket's, and one of a family that nobody knows: skipped by its length.
    assert_eq!(reads(&v2(PROXY, 0x31, &[7; 216])), None);
    assert_eq!(reads(&v2(PROXY, 0xff, &[7; 3])), None);
}

#[test]
fn values_are_skipped_and_a_checksum_is_checked() {
    let with = |tlvs: &[u8]| v2(PROXY, TCP4, &[&V4_ENDS, tlvs].concat());
    let alpn = [1, 0, 2, b'h', b'2'];
    assert_eq!(reads(&with(&alpn)), Some(v4_client()));
    let mut summed = with(&[&[TLV_CRC32C, 0, 4, 0, 0, 0, 0], &alpn[..]].concat());
    let sum = crc32c(summed.iter().copied()).to_be_bytes();
    summed[FIXED + 12 + 3..][..4].copy_from_slice(&sum);
    assert_eq!(reads(&summed), Some(v4_client()));
    *summed.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&summed), "a checksum that is wrong");
    assert_eq!(
        refused(&with(&[TLV_CRC32C, 0, 1, 0])),
        "a checksum that is none"
    );
    assert_eq!(
        refused(&with(&[1, 0, 2, 0])),
        "a value that is longer than the header"
    );
    assert_eq!(refused(&with(&[1, 0])), "bytes behind its last value");
}

#[test]
fn the_checksum_is_that_of_the_standard() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
}

#[test]
fn what_is_no_header_is_refused() {
    let cases: [(&[u8], &str); 12] = [
        (
            b"GET / HTTP/1.1\r\nHost: h\r\n",
            "neither of version 1 nor of version 2",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 +2\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
            "a line that makes no sense",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n\r\n",
            "more than one line",
        ),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1",
            "unexpected end of file",
        ),
        (&[b'x'; 200], "neither of version 1 nor of version 2"),
    ];
    for (bytes, why) in cases {
        let found = refused(bytes);
        assert_eq!(found, why, "{:?}", String::from_utf8_lossy(bytes));
    }
    let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
    assert_eq!(refused(&endless), "a line that doesn't end");
    assert_eq!(refused(&v2(2, TCP4, &V4_ENDS)), "an unknown command");
    assert_eq!(
        refused(&v2(PROXY, TCP4, &V4_ENDS[..11])),
        "too short for its addresses"
    );
    assert_eq!(
        refused(&v2(PROXY, TCP6, &[0; 35])),
        "too short for its addresses"
    );
    let long = [&SIGNATURE[..], &[VERSION | PROXY, TCP4, 0xff, 0xff]].concat();
    assert_eq!(refused(&long), "longer than any that makes sense");
    let mut other = v2(PROXY, TCP4, &V4_ENDS);
    other[12] = 0x11;
    assert_eq!(refused(&other), "of an unknown version");
}

proptest! {
    /// Whatever comes, reading ends, takes no more than it may, and invents no client.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (outcome, _) = read_all(&bytes);
        prop_assert!(!matches!(outcome, Ok(Some(_))), "no header begins like this");
    }

    /// A header with one byte changed is another header, or none; one that is cut is none.
    #[test]
    fn a_damaged_header_is_read_or_refused(
        version in prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)],
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let whole = write(version, Some(v4_client()));
        let at = at.index(whole.len());
        let mut changed = whole.clone();
        changed[at] = to;
        let (outcome, rest) = read_all(&[&changed, &b"EHLO h\r\n"[..]].concat());
        if changed == whole {
            prop_assert_eq!(outcome.unwrap(), Some(v4_client()));
            prop_assert_eq!(rest, b"EHLO h\r\n");
        }
        let (cut, _) = read_all(whole.get(..at).unwrap());
        prop_assert!(cut.is_err());
    }

    /// Every pair of addresses comes out as it went in.
    #[test]
    fn all_addresses_are_carried(
        version in prop_oneof![Just(ProxyProtocol::V1), Just(ProxyProtocol::V2)],
        ends in any::<([u8; 16], u16, [u8; 16], u16, bool)>(),
    ) {
        let (a, ap, b, bp, is_v4) = ends;
        let ip = |bytes: [u8; 16]| match bytes {
            [a, b, c, d, ..] if is_v4 => IpAddr::from([a, b, c, d]),
            // Not a mapped IPv4 address.
            [_, rest @ ..] => {
                let mut bytes = [0x20; 16];
                bytes[1..].copy_from_slice(&rest);
                IpAddr::from(bytes)
            }
        };
        let client = ClientAddr {
            peer: SocketAddr::new(ip(a), ap),
            local: SocketAddr::new(ip(b), bp),
        };
        prop_assert_eq!(reads(&write(version, Some(client))), Some(client));
    }
}
