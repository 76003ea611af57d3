//! What happens when nothing comes.

use super::*;

fn quick_keepalive() -> Config {
    Config {
        keepalive: Duration::from_secs(100),
        keepalive_interval: Duration::from_secs(10),
        keepalive_probes: 3,
        ..plain()
    }
}

fn idle() -> Host {
    Host::established_with(quick_keepalive(), &Options::default())
}

#[test]
fn an_idle_peer_is_probed_with_a_number_it_has_acknowledged() {
    let mut host = idle();
    assert!(host.waits(Duration::from_secs(99)).is_empty());
    let probes = host.waits(Duration::from_secs(1));
    assert_eq!(probes.len(), 1);
    assert!(probes[0].is_pure_ack());
    assert_eq!((probes[0].header.seq, probes[0].header.ack), (ISS, IRS + 1));
    assert_eq!(host.counters.keepalives, 1);
    // An answer begins the time anew.
    host.gets(&from_peer(Flags::ACK, 1, 1));
    assert!(host.waits(Duration::from_secs(99)).is_empty());
    assert_eq!(host.waits(Duration::from_secs(1)).len(), 1);
}

#[test]
fn a_peer_that_answers_no_probe_is_given_up_with_a_reset() {
    let mut host = idle();
    let sent = host.waits(Duration::from_secs(130));
    assert_eq!(sent.len(), 4);
    assert!(sent[3].has(Flags::RST));
    assert_eq!(host.connection.failure(), Some(Failure::TimedOut));
    assert_eq!(host.counters.abort_on_timeout, 1);
    assert_eq!(host.next_timer(), None);
}

#[test]
fn nothing_is_probed_while_data_is_on_its_way() {
    let mut host = idle();
    host.writes(b"x");
    let sent = host.sent_one();
    let again = host.waits(Duration::from_secs(200));
    assert!(
        again.iter().all(|it| it.payload == sent.payload),
        "{again:?}"
    );
    assert_eq!(host.counters.keepalives, 0);
}

#[test]
fn keepalive_can_be_off() {
    let config = Config {
        keepalive: Duration::ZERO,
        ..plain()
    };
    let mut host = Host::established_with(config, &Options::default());
    assert_eq!(host.next_timer(), None);
}

#[test]
fn our_probe_is_answered_by_us() {
    let mut pair = Pair::established(quick_keepalive(), quick_keepalive());
    pair.runs(Duration::from_secs(1000));
    assert_eq!(pair.states(), (State::Established, State::Established));
    assert!(pair.client.counters.keepalives >= 4);
}

#[test]
fn a_peer_that_owes_an_answer_is_given_up_after_the_user_timeout() {
    let mut host = Host::established();
    host.writes(b"x");
    host.sent_one();
    host.waits(Duration::from_secs(299));
    assert_eq!(host.state(), State::Established);
    // The timer of the retransmission after it says so.
    let sent = host.waits(Duration::from_secs(200));
    assert!(sent.iter().all(|it| !it.has(Flags::RST)));
    assert_eq!(host.connection.failure(), Some(Failure::TimedOut));
    assert_eq!(host.counters.abort_on_timeout, 1);
    assert_eq!(host.next_timer(), None);
    assert_eq!(host.read_result(), Err(Failure::TimedOut));
}

#[test]
fn a_window_of_zero_is_probed_for_as_long_as_the_peer_answers() {
    let mut host = Host::established();
    let mut closed = from_peer(Flags::ACK, 1, 1);
    closed.header.window = 0;
    host.gets(&closed);
    host.writes(b"waiting");
    assert!(host.sent().is_empty());
    let mut probes = 0;
    for _ in 0..200 {
        for sent in host.waits(Duration::from_secs(5)) {
            probes += 1;
            assert!(sent.payload.len() <= 1, "{sent:?}");
            host.gets(&closed);
        }
    }
    assert!(probes > 5, "{probes}");
    assert_eq!(host.state(), State::Established);
    let mut opened = from_peer(Flags::ACK, 1, 1);
    opened.header.window = 1000;
    let sent = host.answers(&opened);
    let all: Vec<u8> = sent.iter().flat_map(|it| it.payload.clone()).collect();
    assert_eq!(all, b"waiting");
}

#[test]
fn a_reader_that_wakes_up_opens_the_window_again() {
    let config = Config {
        receive_window: 20_000,
        max_receive_window: 20_000,
        ..Config::default()
    };
    let mut pair = Pair::established(Config::default(), config);
    let bytes = pattern(60_000);
    pair.client.writes(&bytes);
    pair.runs(Duration::from_secs(20));
    assert!(pair.server.counters.to_zero_window > 0 || pair.client.counters.win_probes > 0);
    let mut all = Vec::new();
    for _ in 0..200 {
        all.extend(pair.server.reads());
        pair.runs(Duration::from_secs(1));
    }
    assert_eq!(all.len(), bytes.len());
    assert_eq!(all, bytes);
}

#[test]
fn nothing_leaves_a_connection_that_was_reset_while_a_probe_was_waiting() {
    let mut host = idle();
    host.now += Duration::from_secs(100);
    host.with(Connection::on_timer);
    assert_eq!(host.answers(&from_peer(Flags::RST, 1, 0)).len(), 0);
    assert_eq!(host.state(), State::Closed);
}
