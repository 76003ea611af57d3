//! RFC 9293 §3.10.7.4 step by step, and RFC 5961 and RFC 7323 in it.

use super::*;

fn timestamped() -> Host {
    let syn = Options {
        mss: Some(1460),
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..Options::default()
    };
    Host::established_with(Config::default(), &syn)
}

fn at(mut sent: Sent, value: u32) -> Sent {
    sent.header.options.timestamps = Some(Timestamps { value, echo: 0 });
    sent
}

/// One acknowledgement that says where we are.
fn assert_acks(answers: &[Sent], seq: u32, ack: u32) {
    assert_eq!(answers.len(), 1, "{answers:?}");
    let header = answers[0].header;
    assert!(answers[0].is_pure_ack(), "{header:?}");
    assert_eq!((header.seq, header.ack), (ISS + seq, IRS + ack));
}

#[test]
fn text_outside_of_the_window_is_acknowledged_and_dropped() {
    for seq in [0, 1 + (64 << 10), 1 << 30] {
        let mut host = Host::established();
        let answers = host.answers(&text(seq, 1, b"x"));
        assert_acks(&answers, 1, 1);
        assert!(!host.connection.has_unread(), "{seq}");
    }
}

#[test]
fn text_that_begins_before_the_window_counts_from_there() {
    let mut host = Host::established();
    host.gets(&text(1, 1, b"hello"));
    host.gets(&text(3, 1, b"llo world"));
    assert_eq!(host.reads(), b"hello world");
}

#[test]
fn a_retransmission_is_always_acknowledged_but_an_old_ack_not_for_half_a_second() {
    let mut host = Host::established();
    host.gets(&text(1, 1, b"hello"));
    host.waits(Duration::from_secs(1));
    for _ in 0..3 {
        assert_acks(&host.answers(&text(1, 1, b"hello")), 1, 6);
    }
    let keepalive = from_peer(Flags::ACK, 0, 1);
    assert_acks(&host.answers(&keepalive), 1, 6);
    assert!(host.answers(&keepalive).is_empty());
    host.waits(Duration::from_millis(499));
    assert!(host.answers(&keepalive).is_empty());
    host.waits(Duration::from_millis(1));
    assert_acks(&host.answers(&keepalive), 1, 6);
    assert_eq!(host.counters.challenge_acks, 0);
}

#[test]
fn a_reset_is_believed_at_the_next_number_only() {
    // Outside of the window: nothing at all.
    for seq in [0, 1 + (64 << 10)] {
        let mut host = Host::established();
        assert!(host.answers(&from_peer(Flags::RST, seq, 0)).is_empty());
        assert_eq!(host.state(), State::Established);
    }
    // Elsewhere in it: a challenge.
    for seq in [2, 64 << 10] {
        let mut host = Host::established();
        assert_acks(&host.answers(&from_peer(Flags::RST, seq, 0)), 1, 1);
        assert_eq!(host.state(), State::Established);
        assert_eq!(host.counters.challenge_acks, 1);
    }
    let mut host = Host::established();
    host.gets(&text(1, 1, b"said before"));
    assert_eq!(host.answers(&from_peer(Flags::RST, 12, 0)).len(), 0);
    assert_eq!(host.state(), State::Closed);
    assert_eq!(host.connection.failure(), Some(Failure::Reset));
    assert_eq!(host.counters.estab_resets, 1);
    assert_eq!(host.reads(), b"said before");
    assert_eq!(host.read_result(), Err(Failure::Reset));
    let written = host.with(|connection, env| connection.write(b"x", env));
    assert_eq!(written, Err(Failure::Reset));
    assert_eq!(host.next_timer(), None);
}

#[test]
fn a_syn_on_a_connection_is_challenged() {
    for (seq, flags) in [
        (1, Flags::SYN),
        (500, Flags::SYN),
        (500, Flags::SYN | Flags::ACK),
    ] {
        let mut host = Host::established();
        assert_acks(&host.answers(&from_peer(flags, seq, 1)), 1, 1);
        assert_eq!(host.state(), State::Established);
        assert_eq!(host.counters.syn_challenge, 1);
    }
    // Outside of the window it is acknowledged as anything else is (RFC 5961 §4.2 says the same for it).
    let mut host = Host::established();
    assert_acks(&host.answers(&from_peer(Flags::SYN, 1 << 30, 1)), 1, 1);
}

#[test]
fn challenges_are_limited_per_connection() {
    let mut host = Host::established();
    let forged = [
        from_peer(Flags::RST, 2, 0),
        from_peer(Flags::SYN, 2, 0),
        from_peer(Flags::ACK, 1, 2),
        from_peer(Flags::ACK, 0, 1),
    ];
    let answers: usize = forged.iter().map(|it| host.answers(it).len()).sum();
    assert_eq!(answers, 1);
    host.waits(Duration::from_millis(500));
    assert_eq!(host.answers(&forged[0]).len(), 1);
    assert_eq!(host.counters.challenge_acks, 2);
}

#[test]
fn an_acknowledgement_must_be_of_what_was_sent_lately() {
    // Never sent.
    let mut host = Host::established();
    assert_acks(&host.answers(&text(1, 2, b"x")), 1, 1);
    assert!(!host.connection.has_unread());
    assert_eq!(host.counters.challenge_acks, 1);
    // Sent before a window ago.
    let mut host = Host::established();
    let old = u32::from(WINDOW);
    let mut ancient = text(1, 0, b"x");
    ancient.header.ack = ISS + 1 - old - 1;
    assert_acks(&host.answers(&ancient), 1, 1);
    assert!(!host.connection.has_unread());
    // Old, but within a window: its text counts.
    ancient.header.ack = ISS + 1 - old;
    host.gets(&ancient);
    assert_eq!(host.reads(), b"x");
}

#[test]
fn an_old_acknowledgement_does_not_change_the_window() {
    let mut host = Host::established();
    host.writes(b"data");
    host.sent_one();
    host.gets(&from_peer(Flags::ACK, 1, 5));
    let mut old = from_peer(Flags::ACK, 1, 1);
    old.header.window = 1;
    host.gets(&old);
    assert_eq!(host.connection.sender.una(), ISS + 5);
    assert_eq!(host.connection.sender.wnd(), u32::from(WINDOW));
}

#[test]
fn a_segment_whose_acknowledgement_is_wrong_does_not_change_what_is_echoed() {
    let mut host = timestamped();
    host.gets(&at(text(1, 2, b"forged"), 1 << 30));
    host.gets(&at(text(1, 1, b"true"), 50));
    assert_eq!(host.reads(), b"true");
}

#[test]
fn a_segment_without_ack_is_dropped() {
    let mut host = Host::established();
    let mut sent = text(1, 1, b"x");
    sent.header.flags = Flags::PSH;
    assert!(host.answers(&sent).is_empty());
    assert!(!host.connection.has_unread());
}

#[test]
fn urgent_bytes_come_in_line() {
    let mut host = Host::established();
    let mut sent = text(1, 1, b"now!");
    sent.header.flags = sent.header.flags | Flags::URG;
    host.gets(&sent);
    assert_eq!(host.reads(), b"now!");
}

#[test]
fn a_closed_window_still_takes_acknowledgements_and_resets() {
    let config = Config {
        receive_window: 4096,
        max_receive_window: 4096,
        ..plain()
    };
    let syn = Options {
        mss: Some(1460),
        ..Options::default()
    };
    let mut host = Host::established_with(config, &syn);
    let mut seq = 1;
    loop {
        let mut answers = host.answers(&text(seq, 1, &pattern(1024)));
        answers.extend(host.waits(Duration::from_millis(50)));
        let told = answers.last().unwrap().header;
        seq = told.ack.since(IRS);
        if told.window == 0 {
            break;
        }
        assert!(seq < 100_000);
    }
    host.writes(b"data");
    host.sent_one();
    let answers = host.answers(&text(seq, 5, b"x"));
    assert_acks(&answers, 5, seq);
    assert_eq!(answers[0].header.window, 0);
    assert_eq!(host.connection.sender.una(), ISS + 5);
    host.gets(&from_peer(Flags::RST, seq, 0));
    assert_eq!(host.state(), State::Closed);
}

#[test]
fn paws_drops_what_is_older_than_what_was_seen() {
    let mut host = timestamped();
    host.gets(&at(text(1, 1, b"new"), 100));
    host.waits(Duration::from_millis(100));
    assert_acks(&host.answers(&at(text(4, 1, b"old"), 99)), 1, 4);
    assert_eq!(host.counters.paws_estab, 1);
    assert_eq!(host.reads(), b"new");
    // A RST is not subject to it.
    host.gets(&from_peer(Flags::RST, 4, 0));
    assert_eq!(host.state(), State::Closed);
}

#[test]
fn a_segment_without_the_timestamps_that_were_agreed_is_dropped_silently() {
    let mut host = timestamped();
    assert!(host.answers(&text(1, 1, b"x")).is_empty());
    assert!(!host.connection.has_unread());
}

#[test]
fn every_segment_echoes_the_timestamp_of_the_text_it_acknowledges() {
    let mut host = timestamped();
    host.gets(&at(text(1, 1, b"a"), 50));
    // Out of order: SEG.SEQ is behind Last.ACK.sent, so TS.Recent stays (RFC 7323 §4.3).
    let answers = host.answers(&at(text(10, 1, b"b"), 60));
    let stamps = answers[0].header.options.timestamps;
    assert_eq!(stamps.map(|it| it.echo), Some(50));
    assert_eq!(stamps.map(|it| it.value), Some(host.clock()));
}
