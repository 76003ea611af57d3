//! What routers say.

use super::*;

fn quotes(host: &mut Host, seq: u32, mss: usize) {
    host.with(|connection, env| connection.packet_too_big(ISS + seq, mss, env));
}

#[test]
fn a_narrower_way_is_believed_of_segments_in_flight_only() {
    let mut host = Host::established();
    host.writes(&pattern(1460));
    assert_eq!(host.sent_one().payload.len(), 1460);
    for seq in [0, 1461] {
        quotes(&mut host, seq, 1000);
    }
    assert_eq!(host.counters.icmp_ignored, 2);
    assert!(host.sent().is_empty());
    quotes(&mut host, 1, 1000);
    assert_eq!(host.counters.path_mtu_changes, 1);
    let again = host.sent();
    assert!(!again.is_empty());
    assert!(again.iter().all(|it| it.payload.len() <= 1000), "{again:?}");
    assert_eq!(
        again[0].payload[..],
        pattern(1460)[..again[0].payload.len()]
    );
}

#[test]
fn no_way_is_as_narrow_as_a_forged_message_says() {
    let mut host = Host::established();
    host.writes(&pattern(1460));
    host.sent_one();
    quotes(&mut host, 1, 1);
    let again = host.sent();
    assert!(again.iter().all(|it| it.payload.len() >= 436), "{again:?}");
}

#[test]
fn an_unreachable_peer_ends_a_handshake() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    host.with(|connection, env| connection.unreachable(ISS + 1, env));
    assert_eq!(host.state(), State::SynSent, "not in flight");
    host.with(|connection, env| connection.unreachable(ISS, env));
    assert_eq!(host.connection.failure(), Some(Failure::Unreachable));
}

#[test]
fn an_unreachable_peer_is_a_reason_only_if_it_stays_silent() {
    let mut host = Host::established();
    host.writes(b"x");
    host.sent_one();
    host.with(|connection, env| connection.unreachable(ISS + 1, env));
    assert_eq!(host.state(), State::Established);
    let mut silent = Host::established();
    silent.writes(b"x");
    silent.sent_one();
    silent.with(|connection, env| connection.unreachable(ISS + 1, env));
    silent.waits(Duration::from_mins(10));
    assert_eq!(silent.connection.failure(), Some(Failure::Unreachable));
    // Heard again: forgotten.
    host.gets(&from_peer(Flags::ACK, 1, 2));
    host.writes(b"y");
    host.sent_one();
    host.waits(Duration::from_mins(10));
    assert_eq!(host.connection.failure(), Some(Failure::TimedOut));
}
