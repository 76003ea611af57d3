//! Ways out of a connection.

use super::*;

fn fin(seq: u32, ack: u32) -> Sent {
    from_peer(Flags::FIN | Flags::ACK, seq, ack)
}

#[test]
fn we_finish_first() {
    let mut host = Host::established();
    host.shuts();
    assert_eq!(host.state(), State::FinWait1);
    let ours = host.sent_one();
    assert!(ours.has(Flags::FIN | Flags::ACK));
    assert_eq!(ours.header.seq, ISS + 1);
    host.gets(&from_peer(Flags::ACK, 1, 2));
    assert_eq!(host.state(), State::FinWait2);
    host.gets(&text(1, 2, b"more"));
    assert_eq!(host.reads(), b"more");
    let ack = host.answers(&fin(5, 2));
    assert_eq!(host.state(), State::TimeWait);
    assert_eq!((ack[0].header.seq, ack[0].header.ack), (ISS + 2, IRS + 6));
    assert_eq!(host.read_result(), Ok(Some(0)));
    let record = host.connection.time_wait().unwrap();
    assert_eq!((record.nxt, record.ack), (ISS + 2, IRS + 6));
    assert_eq!(record.timestamps, None);
    // Until the endpoint has taken it over, a FIN that comes again is acknowledged.
    assert_eq!(host.answers(&fin(5, 2)).len(), 1);
}

#[test]
fn the_peer_finishes_first() {
    let mut host = Host::established();
    let mut last = text(1, 1, b"bye");
    last.header.flags = last.header.flags | Flags::FIN;
    let ack = host.answers(&last);
    assert_eq!(ack[0].header.ack, IRS + 5);
    assert_eq!(host.state(), State::CloseWait);
    assert!(host.connection.is_readable());
    assert_eq!(host.reads(), b"bye");
    assert_eq!(host.read_result(), Ok(Some(0)));
    host.writes(b"bye too");
    host.shuts();
    assert_eq!(host.state(), State::LastAck);
    let sent = host.sent();
    assert_eq!(sent[0].payload, b"bye too");
    assert!(sent.last().unwrap().has(Flags::FIN));
    host.gets(&from_peer(Flags::ACK, 5, 9));
    assert_eq!(host.state(), State::Closed);
    assert_eq!(host.connection.failure(), None);
    assert!(host.connection.time_wait().is_none());
    assert_eq!(host.read_result(), Ok(Some(0)));
    assert!(host.sent().is_empty());
    assert_eq!(host.next_timer(), None);
}

#[test]
fn both_finish_at_the_same_time() {
    let mut host = Host::established();
    host.shuts();
    host.sent_one();
    let ack = host.answers(&fin(1, 1));
    assert_eq!(host.state(), State::Closing);
    assert_eq!(ack[0].header.ack, IRS + 2);
    host.gets(&from_peer(Flags::ACK, 2, 2));
    assert_eq!(host.state(), State::TimeWait);
}

#[test]
fn a_fin_that_acknowledges_ours_goes_to_time_wait_at_once() {
    let mut host = Host::established();
    host.shuts();
    host.sent_one();
    host.gets(&fin(1, 2));
    assert_eq!(host.state(), State::TimeWait);
}

#[test]
fn a_fin_waits_for_the_text_before_it() {
    let mut host = Host::established();
    host.gets(&fin(4, 1));
    assert_eq!(host.state(), State::Established);
    assert_eq!(host.read_result(), Ok(None));
    host.gets(&text(1, 1, b"abc"));
    assert_eq!(host.state(), State::CloseWait);
    assert_eq!(host.reads(), b"abc");
    assert_eq!(host.read_result(), Ok(Some(0)));
}

#[test]
fn text_behind_a_fin_is_not_taken() {
    let mut host = Host::established();
    host.gets(&fin(1, 1));
    host.gets(&text(2, 1, b"x"));
    assert!(!host.connection.has_unread());
    assert_eq!(host.state(), State::CloseWait);
}

#[test]
fn nothing_can_be_written_after_shutdown() {
    let mut host = Host::established();
    host.shuts();
    host.shuts();
    let written = host.with(|connection, env| connection.write(b"x", env));
    assert_eq!(written, Ok(Some(0)));
    assert!(host.with(|connection, env| connection.is_writable(env)));
    assert_eq!(host.sent().len(), 1);
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut host = Host::established();
    host.shuts();
    let first = host.sent_one();
    let again = host.waits(Duration::from_secs(2));
    assert!(!again.is_empty());
    assert!(again.iter().all(|it| it.header == first.header));
}

#[test]
fn an_abort_tells_the_peer_and_forgets_everything() {
    let mut host = Host::established();
    host.gets(&text(1, 1, b"unread"));
    host.writes(b"unsent");
    host.aborts();
    assert!(host.with(|connection, env| connection.wants_output(env)));
    let reset = host.sent_one();
    assert_eq!(reset.header.flags, Flags::RST | Flags::ACK);
    assert_eq!((reset.header.seq, reset.header.ack), (ISS + 1, IRS + 7));
    assert_eq!(host.read_result(), Err(Failure::Aborted));
    assert_eq!(host.pool.lent(), 0);
    assert_eq!(host.counters.out_rsts, 1);
    host.aborts();
    assert!(host.sent().is_empty());
}

#[test]
fn an_abort_is_not_told_to_a_peer_that_knows_of_no_connection() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    host.aborts();
    assert!(host.sent().is_empty());
    // A half-open one is told: the peer may believe it established.
    let mut host = Host::accepting(plain(), &Options::default());
    host.sent_one();
    host.aborts();
    let reset = host.sent_one();
    assert_eq!(
        (reset.header.flags, reset.header.seq),
        (Flags::RST | Flags::ACK, ISS + 1)
    );
}

#[test]
fn a_reset_carries_timestamps_once_they_were_agreed() {
    let syn = Options {
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..Options::default()
    };
    let mut host = Host::established_with(Config::default(), &syn);
    host.aborts();
    let expected = Timestamps {
        value: host.clock(),
        echo: 1,
    };
    assert_eq!(host.sent_one().header.options.timestamps, Some(expected));
}

#[test]
fn a_reset_in_time_wait_is_no_failure() {
    let mut host = Host::established();
    host.shuts();
    host.sent_one();
    host.answers(&fin(1, 2));
    assert_eq!(host.state(), State::TimeWait);
    host.gets(&from_peer(Flags::RST, 2, 0));
    assert_eq!(
        (host.state(), host.connection.failure()),
        (State::Closed, None)
    );
}

#[test]
fn a_reset_ends_a_connection_that_is_closing() {
    let mut host = Host::established();
    host.shuts();
    host.sent_one();
    host.gets(&from_peer(Flags::ACK, 1, 2));
    host.gets(&from_peer(Flags::RST, 1, 0));
    assert_eq!(host.connection.failure(), Some(Failure::Reset));
    assert_eq!(host.counters.estab_resets, 0, "it was established no more");
}

#[test]
fn two_of_us_close_in_every_order() {
    let orders: [&[End]; 3] = [
        &[End::Client, End::Server],
        &[End::Server, End::Client],
        &[End::Client],
    ];
    for (lost, order) in (0..9).flat_map(|lost| orders.map(|order| (lost, order))) {
        let mut pair = Pair::established(Config::default(), Config::default());
        pair.losses = vec![pair.log.len() + lost];
        pair.client.writes(b"ping");
        pair.runs(Duration::from_millis(1));
        for &end in order {
            pair.host(end).shuts();
            pair.runs(Duration::from_millis(3));
        }
        pair.runs(Duration::from_secs(5));
        assert_eq!(pair.server.reads(), b"ping", "{lost} {order:?}");
        if order.len() == 1 {
            assert_eq!(pair.states(), (State::FinWait2, State::CloseWait));
            assert_eq!(pair.server.read_result(), Ok(Some(0)));
            pair.server.writes(&pattern(5000));
            pair.runs(Duration::from_secs(2));
            assert_eq!(
                pair.client.reads(),
                pattern(5000),
                "half open still carries"
            );
            pair.server.shuts();
            pair.runs(Duration::from_secs(5));
        }
        let (client, server) = pair.states();
        let over = |state| matches!(state, State::TimeWait | State::Closed);
        assert!(
            over(client) && over(server),
            "{lost} {order:?}: {client:?} {server:?}"
        );
        assert!(client == State::TimeWait || server == State::TimeWait);
        assert_eq!(pair.client.connection.failure(), None);
        assert_eq!(pair.server.connection.failure(), None);
    }
}
