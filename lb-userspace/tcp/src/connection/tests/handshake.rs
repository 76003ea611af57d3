//! Ways into a connection.

use super::*;

fn syn_options(sent: &Sent) -> (Option<u16>, Option<u8>, bool, bool) {
    let options = sent.header.options;
    (
        options.mss,
        options.window_scale,
        options.sack_permitted,
        options.timestamps.is_some(),
    )
}

#[test]
fn a_syn_offers_everything_and_its_window_is_not_scaled() {
    let mut host = Host::connecting(Config::default());
    let syn = host.sent_one();
    assert_eq!((syn.header.flags, syn.header.seq), (Flags::SYN, ISS));
    assert_eq!(syn.header.ack, Seq(0));
    assert_eq!(syn.header.window, 65_535);
    assert_eq!(syn_options(&syn), (Some(1460), Some(10), true, true));
    assert_eq!(syn.header.options.timestamps.map(|it| it.echo), Some(0));
}

#[test]
fn a_syn_ack_mirrors_the_options_of_the_syn() {
    let all = Options {
        mss: Some(1400),
        window_scale: Some(3),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 9, echo: 0 }),
        ..Options::default()
    };
    let mut host = Host::accepting(Config::default(), &all);
    let syn_ack = host.sent_one();
    assert_eq!(syn_ack.header.flags, Flags::SYN | Flags::ACK);
    assert_eq!((syn_ack.header.seq, syn_ack.header.ack), (ISS, IRS + 1));
    assert_eq!(syn_options(&syn_ack), (Some(1460), Some(10), true, true));
    assert_eq!(syn_ack.header.options.timestamps.map(|it| it.echo), Some(9));

    let mut host = Host::accepting(Config::default(), &Options::default());
    let syn_ack = host.sent_one();
    assert_eq!(syn_options(&syn_ack), (Some(1460), None, false, false));

    let sack_only = Options {
        sack_permitted: true,
        ..Options::default()
    };
    let mut host = Host::accepting(Config::default(), &sack_only);
    assert_eq!(
        syn_options(&host.sent_one()),
        (Some(1460), None, true, false)
    );
}

#[test]
fn both_ends_open_and_agree() {
    let mut pair = Pair::established(Config::default(), Config::default());
    assert_eq!(pair.log.len(), 3, "{:?}", pair.log);
    assert_eq!(pair.client.counters.active_opens, 1);
    assert_eq!(pair.server.counters.passive_opens, 1);
    let ack = &pair.log[2].1;
    assert!(ack.is_pure_ack() && ack.header.options.timestamps.is_some());
    assert_eq!(
        pair.client.connection.negotiated,
        pair.server.connection.negotiated
    );
    assert!(
        !pair
            .client
            .with(|connection, env| connection.wants_output(env))
    );
}

#[test]
fn an_ack_of_what_was_never_sent_is_reset_during_the_handshake() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    for ack in [0, 2] {
        let reset = host.answers(&from_peer(Flags::SYN | Flags::ACK, 0, ack));
        assert_eq!(reset.len(), 1);
        assert_eq!(reset[0].header.flags, Flags::RST);
        assert_eq!(reset[0].header.seq, ISS + ack);
        assert_eq!(host.state(), State::SynSent);
    }
    // But a RST is not answered with one.
    assert!(
        host.answers(&from_peer(Flags::RST | Flags::ACK, 0, 2))
            .is_empty()
    );
    assert_eq!(host.state(), State::SynSent);

    let mut host = Host::accepting(plain(), &Options::default());
    host.sent_one();
    for ack in [0, 2] {
        let reset = host.answers(&from_peer(Flags::ACK, 1, ack));
        assert_eq!(
            (reset[0].header.flags, reset[0].header.seq),
            (Flags::RST, ISS + ack)
        );
        assert_eq!(host.state(), State::SynReceived);
    }
    assert_eq!(host.counters.out_rsts, 2);
}

#[test]
fn a_reset_refuses_a_syn_only_if_it_acknowledges_it() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    host.gets(&from_peer(Flags::RST, 0, 1));
    assert_eq!(host.state(), State::SynSent);
    host.gets(&from_peer(Flags::RST | Flags::ACK, 0, 1));
    assert_eq!(host.state(), State::Closed);
    assert_eq!(host.connection.failure(), Some(Failure::Refused));
    assert_eq!(host.counters.attempt_fails, 1);
    assert!(host.sent().is_empty());
    assert_eq!(host.read_result(), Err(Failure::Refused));
}

#[test]
fn a_segment_without_syn_or_reset_does_nothing_in_syn_sent() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    assert!(host.answers(&from_peer(Flags::ACK, 0, 1)).is_empty());
    assert!(host.answers(&from_peer(Flags::FIN, 0, 0)).is_empty());
    assert_eq!(host.state(), State::SynSent);
}

#[test]
fn syns_that_cross_open_one_connection() {
    let mut host = Host::connecting(Config::default());
    host.sent_one();
    let mut syn = from_peer(Flags::SYN, 0, 0);
    syn.header.options.mss = Some(1000);
    let answers = host.answers(&syn);
    assert_eq!(answers.len(), 1);
    let syn_ack = &answers[0].header;
    assert_eq!(syn_ack.flags, Flags::SYN | Flags::ACK);
    assert_eq!((syn_ack.seq, syn_ack.ack), (ISS, IRS + 1));
    assert_eq!(
        syn_ack.options.window_scale, None,
        "not offered by the peer"
    );
    assert_eq!(host.state(), State::SynReceived);
    // The peer does the same. Its SYN-ACK is old by its number, so it is acknowledged, and ours is by the peer.
    let answers = host.answers(&from_peer(Flags::SYN | Flags::ACK, 0, 1));
    assert!(answers[0].is_pure_ack());
    assert_eq!(answers[0].header.seq, ISS + 1);
    host.gets(&from_peer(Flags::ACK, 1, 1));
    assert_eq!(host.state(), State::Established);
    assert_eq!(host.counters.passive_opens, 0);
}

#[test]
fn two_of_us_open_at_the_same_time() {
    let mut pair = Pair::new(Config::default(), Config::default());
    pair.server = Host::new(Config::default(), |env| {
        Connection::connect(open(Seq(77)), env)
    });
    let syn = pair.log[0].1.clone();
    pair.wire
        .push((pair.client.now + ONE_WAY, End::Client, syn));
    pair.runs(Duration::from_millis(100));
    assert_eq!(pair.states(), (State::Established, State::Established));
    pair.client.writes(b"hello");
    pair.server.writes(b"world");
    pair.runs(Duration::from_millis(100));
    assert_eq!(pair.server.reads(), b"hello");
    assert_eq!(pair.client.reads(), b"world");
}

#[test]
fn a_syn_that_comes_again_is_answered_again_but_not_twice_at_once() {
    let mut host = Host::accepting(plain(), &Options::default());
    let first = host.sent_one();
    let syn = from_peer(Flags::SYN, 0, 0);
    let again = host.answers(&syn);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].header, first.header);
    assert!(host.answers(&syn).is_empty());
    host.waits(Duration::from_millis(500));
    assert_eq!(host.answers(&syn).len(), 1);
    host.gets(&from_peer(Flags::ACK, 1, 1));
    assert_eq!(host.state(), State::Established);
}

#[test]
fn a_syn_that_came_again_is_not_answered_once_the_handshake_is_over() {
    let mut host = Host::accepting(plain(), &Options::default());
    host.sent_one();
    host.gets(&from_peer(Flags::SYN, 0, 0));
    host.gets(&from_peer(Flags::ACK, 1, 1));
    assert!(host.sent().is_empty());
}

#[test]
fn a_syn_that_comes_again_does_not_count_as_a_try() {
    let mut host = Host::accepting(plain(), &Options::default());
    host.sent_one();
    for _ in 0..40 {
        host.waits(Duration::from_millis(600));
        host.answers(&from_peer(Flags::SYN, 0, 0));
    }
    assert_eq!(host.state(), State::SynReceived);
}

#[test]
fn a_syn_that_comes_again_is_echoed_by_its_own_time() {
    let syn = |value| {
        let mut syn = from_peer(Flags::SYN, 0, 0);
        syn.header.options.timestamps = Some(Timestamps { value, echo: 0 });
        syn
    };
    let mut host = Host::accepting(Config::default(), &syn(5).header.options);
    host.sent_one();
    let again = host.answers(&syn(1005));
    assert_eq!(
        again[0].header.options.timestamps.map(|it| it.echo),
        Some(1005)
    );
}

#[test]
fn a_syn_ack_without_answer_is_sent_six_times_and_then_forgotten() {
    let mut host = Host::accepting(plain(), &Options::default());
    let first = host.sent_one();
    let again = host.waits(Duration::from_mins(5));
    assert_eq!(again.len(), 5);
    assert!(again.iter().all(|sent| sent.header == first.header));
    assert_eq!(host.state(), State::Closed);
    assert_eq!(host.connection.failure(), Some(Failure::TimedOut));
    assert_eq!(host.counters.attempt_fails, 1);
    assert_eq!(host.next_timer(), None);
}

#[test]
fn a_syn_without_answer_is_tried_for_the_user_timeout() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    let again = host.waits(Duration::from_mins(3));
    assert!(again.len() >= 6 && again.iter().all(|sent| sent.has(Flags::SYN)));
    assert_eq!(host.state(), State::SynSent);
    host.waits(Duration::from_mins(5));
    assert_eq!(host.connection.failure(), Some(Failure::TimedOut));
}

#[test]
fn the_last_ack_of_the_handshake_may_get_lost() {
    let mut pair = Pair::new(Config::default(), Config::default());
    pair.losses = vec![2];
    pair.runs(Duration::from_secs(3));
    assert_eq!(pair.states(), (State::Established, State::Established));
}

#[test]
fn the_ack_of_a_handshake_may_bring_text_and_fin() {
    let mut host = Host::accepting(plain(), &Options::default());
    host.sent_one();
    let mut last = text(1, 1, b"all at once");
    last.header.flags = last.header.flags | Flags::FIN;
    let answer = host.answers(&last);
    assert_eq!(host.state(), State::CloseWait);
    assert_eq!(host.reads(), b"all at once");
    assert_eq!(answer[0].header.ack, IRS + 13);
}

#[test]
fn a_syn_ack_may_bring_text() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    let mut syn_ack = text(0, 1, b"early");
    syn_ack.header.flags = Flags::SYN | Flags::ACK;
    let answer = host.answers(&syn_ack);
    assert_eq!(host.state(), State::Established);
    assert_eq!(answer[0].header.ack, IRS + 6);
    assert_eq!(host.reads(), b"early");
}

#[test]
fn a_cookie_that_came_back_goes_on_as_if_its_syn_had_been_kept() {
    let options = Options {
        mss: Some(1000),
        window_scale: Some(2),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 5, echo: 0 }),
        ..Options::default()
    };
    let mut ack = text(1, 1, b"GET /");
    // Older than the SYN's by its number: what the cookie says of that is a guess.
    ack.header.options.timestamps = Some(Timestamps {
        value: u32::MAX,
        echo: 1_000_000,
    });
    let mut host = Host::new(Config::default(), |env| {
        Connection::resume(&ack.as_segment(), &options, open(ISS), env)
    });
    assert_eq!(host.state(), State::Established);
    assert_eq!(host.counters.passive_opens, 1);
    host.gets(&ack);
    assert_eq!(host.reads(), b"GET /");
    host.writes(&pattern(1500));
    let sent = host.sent();
    let lens: Vec<_> = sent.iter().map(|it| it.payload.len()).collect();
    assert_eq!(lens, [988, 512]);
    let first = &sent[0].header;
    assert_eq!((first.seq, first.ack), (ISS + 1, IRS + 6));
    assert_eq!(first.options.timestamps.map(|it| it.echo), Some(u32::MAX));
    assert_eq!(first.options.mss, None);
}

#[test]
fn windows_are_scaled_after_the_syns() {
    let options = Options {
        window_scale: Some(7),
        ..Options::default()
    };
    let mut host = Host::accepting(plain(), &options);
    host.sent_one();
    let mut ack = from_peer(Flags::ACK, 1, 1);
    ack.header.window = 3;
    host.gets(&ack);
    assert_eq!(host.connection.sender.max_wnd(), 3 << 7);
    let mut host = Host::accepting(plain(), &Options::default());
    host.sent_one();
    host.gets(&ack);
    assert_eq!(host.connection.sender.max_wnd(), 3);
    // RFC 7323 §2.3: a shift above 14 is taken for 14.
    let options = Options {
        window_scale: Some(200),
        ..Options::default()
    };
    let mut host = Host::accepting(plain(), &options);
    host.sent_one();
    host.gets(&ack);
    assert_eq!(host.connection.sender.max_wnd(), 3 << 14);
}

#[test]
fn the_window_of_a_syn_ack_is_not_scaled() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    let mut syn_ack = from_peer(Flags::SYN | Flags::ACK, 0, 1);
    syn_ack.header.window = 100;
    syn_ack.header.options.window_scale = Some(7);
    host.gets(&syn_ack);
    assert_eq!(host.connection.sender.wnd(), 100);
    syn_ack.header.flags = Flags::ACK;
    syn_ack.header.seq = IRS + 1;
    host.gets(&syn_ack);
    assert_eq!(host.connection.sender.wnd(), 100 << 7);
}

#[test]
fn what_is_written_during_the_handshake_waits_for_its_end() {
    let mut host = Host::connecting(plain());
    host.writes(b"request");
    host.shuts();
    assert_eq!(host.state(), State::SynSent);
    let syn = host.sent_one();
    assert!(syn.payload.is_empty() && syn.header.flags == Flags::SYN);
    let sent = host.answers(&from_peer(Flags::SYN | Flags::ACK, 0, 1));
    assert_eq!(host.state(), State::FinWait1);
    assert_eq!(sent[0].payload, b"request");
    assert!(sent.iter().any(|it| it.has(Flags::FIN)));
}

#[test]
fn a_reset_ends_a_handshake_whose_peer_thinks_better_of_it() {
    let mut host = Host::accepting(plain(), &Options::default());
    host.sent_one();
    host.gets(&from_peer(Flags::RST, 1, 0));
    assert_eq!(host.state(), State::Closed);
    assert_eq!(host.connection.failure(), Some(Failure::Reset));
    assert_eq!(host.counters.attempt_fails, 1);
    // If it was ours, it was refused (RFC 9293 §3.10.7.4, second).
    let mut host = Host::connecting(plain());
    host.sent_one();
    host.answers(&from_peer(Flags::SYN, 0, 0));
    host.gets(&from_peer(Flags::RST, 1, 0));
    assert_eq!(host.connection.failure(), Some(Failure::Refused));
}
