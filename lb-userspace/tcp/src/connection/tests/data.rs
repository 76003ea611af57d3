//! What a connection puts into segments, and whether the bytes arrive.

use super::*;

#[test]
fn options_are_part_of_the_mss() {
    for (timestamps, full) in [(true, 1448), (false, 1460)] {
        let config = Config {
            timestamps,
            ..Config::default()
        };
        let mut pair = Pair::established(config, config);
        pair.client.writes(&pattern(5000));
        let sent = pair.client.sent();
        let lens: Vec<_> = sent.iter().map(|it| it.payload.len()).collect();
        assert_eq!(lens, [full, full, full, 5000 - 3 * full]);
        assert!(sent.last().unwrap().has(Flags::PSH));
    }
}

#[test]
fn every_byte_arrives_and_no_memory_stays() {
    let mut pair = Pair::established(Config::default(), Config::default());
    pair.carries(
        &pattern(300_000),
        &pattern(200_001),
        Duration::from_secs(10),
    );
    pair.runs(Duration::from_secs(1));
    for host in [&pair.client, &pair.server] {
        assert_eq!(host.counters.retrans_segs, 0);
        assert_eq!(host.pool.lent(), 0);
        assert_eq!(host.connection.sender.queued(), 0);
    }
}

#[test]
fn every_byte_arrives_through_losses() {
    let variants = [(true, true), (true, false), (false, true), (false, false)];
    for (every, (sack, timestamps)) in [4, 7, 20]
        .into_iter()
        .flat_map(|every| variants.map(|variant| (every, variant)))
    {
        let config = Config {
            sack,
            timestamps,
            ..Config::default()
        };
        let mut pair = Pair::established(config, config);
        pair.loses(every);
        pair.carries(&pattern(100_000), &pattern(30_000), Duration::from_mins(50));
    }
}

#[test]
fn a_lonely_segment_is_acknowledged_after_a_while() {
    let mut host = Host::established();
    let early = host.answers(&text(1, 1, &pattern(100)));
    let late = host.waits(Duration::from_millis(40));
    let acks: Vec<_> = early.iter().chain(&late).collect();
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0].header.ack, IRS + 101);
}

#[test]
fn data_carries_the_acknowledgement() {
    let mut host = Host::established();
    host.gets(&text(1, 1, &pattern(100)));
    host.writes(b"answer");
    let sent = host.sent();
    assert_eq!(sent.last().unwrap().header.ack, IRS + 101);
    assert_eq!(sent.last().unwrap().payload, b"answer");
    assert!(
        host.waits(Duration::from_millis(100))
            .iter()
            .all(|it| !it.is_pure_ack())
    );
}

#[test]
fn sack_leaves_before_full_data_and_rides_on_small_data() {
    let mut host = Host::established();
    host.gets(&text(101, 1, &pattern(100)));
    host.writes(&pattern(1460 + 10));
    let sent = host.sent();
    let blocks: Vec<_> = sent
        .iter()
        .map(|it| (it.payload.len(), it.header.options.sack.as_slice().len()))
        .collect();
    assert_eq!(blocks, [(0, 1), (1460, 0), (10, 1)]);
    let block = sent[0].header.options.sack.as_slice()[0];
    assert_eq!((block.start, block.end), (IRS + 101, IRS + 201));
}

#[test]
fn sack_never_makes_a_segment_too_long() {
    let syn = Options {
        mss: Some(1460),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..Options::default()
    };
    let mut host = Host::established_with(Config::default(), &syn);
    for gap in 1..6 {
        let mut behind = text(gap * 100 + 1, 1, b"x");
        behind.header.options.timestamps = Some(Timestamps { value: 1, echo: 0 });
        let ack = host.answers(&behind);
        assert!(ack[0].header.options.sack.as_slice().len() <= 3);
    }
    for len in 1400..=1448 {
        host.writes(&pattern(len));
        for sent in host.sent() {
            let blocks = sent.header.options.sack.as_slice().len();
            let options = 12 + if blocks > 0 { 4 + 8 * blocks } else { 0 };
            assert!(options <= 40);
            assert!(options + sent.payload.len() <= MSS, "{len}");
            let mut ack = from_peer(Flags::ACK, 1, 0);
            ack.header.ack = sent.header.seq + u32::try_from(sent.payload.len()).unwrap();
            ack.header.options.timestamps = Some(Timestamps { value: 1, echo: 0 });
            host.gets(&ack);
        }
    }
}

#[test]
fn an_echo_of_the_same_millisecond_does_not_disprove_a_loss() {
    let syn = Options {
        mss: Some(1460),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..Options::default()
    };
    let mut host = Host::established_with(Config::default(), &syn);
    host.writes(&pattern(10 * 1448));
    let sent = host.sent();
    // All but the first arrive, within a millisecond; it is sent again, and what answers it echoes its own time.
    host.now += Duration::from_micros(3500);
    let echo = host.clock() - 3;
    let acks = |ack: u32, echo, sack: &[(u32, u32)]| {
        let mut ack = from_peer(Flags::ACK, 1, ack);
        ack.header.options.timestamps = Some(Timestamps { value: 1, echo });
        for &(start, end) in sack {
            let (start, end) = (ISS + start, ISS + end);
            ack.header.options.sack.push(crate::SeqRange { start, end });
        }
        ack
    };
    let again = host.answers(&acks(1, echo, &[(1449, 10 * 1448 + 1)]));
    assert_eq!(again[0].header.seq, sent[0].header.seq);
    host.now += Duration::from_micros(50);
    let echo = host.clock();
    assert_eq!(
        again[0].header.options.timestamps.map(|it| it.value),
        Some(echo)
    );
    host.gets(&acks(10 * 1448 + 1, echo, &[]));
    assert_eq!((host.counters.sack_recovery, host.counters.undo), (1, 0));
}

#[test]
fn the_receiver_learns_the_round_trip_from_text_only() {
    let syn = Options {
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..Options::default()
    };
    let mut host = Host::established_with(Config::default(), &syn);
    let echo = host.clock();
    let mut sent = text(1, 1, b"x");
    sent.header.options.timestamps = Some(Timestamps { value: 1, echo });
    host.now += Duration::from_micros(1500);
    host.gets(&sent);
    let learnt = |host: &mut Host| host.with(|connection, env| connection.info(env).rcv_rtt);
    assert_eq!(learnt(&mut host), None, "a tick, or nearly nothing");
    host.now += Duration::from_millis(30);
    let mut ack = from_peer(Flags::ACK, 2, 1);
    ack.header.options.timestamps = sent.header.options.timestamps;
    host.gets(&ack);
    assert_eq!(learnt(&mut host), None);
    sent.header.seq += 1;
    host.gets(&sent);
    assert_eq!(learnt(&mut host), Some(Duration::from_millis(31)));
}

#[test]
fn a_duplicate_is_told_by_dsack() {
    let mut host = Host::established();
    host.gets(&text(1, 1, b"hello"));
    host.waits(Duration::from_millis(50));
    let answer = host.answers(&text(1, 1, b"hello"));
    let block = answer[0].header.options.sack.as_slice()[0];
    assert_eq!((block.start, block.end), (IRS + 1, IRS + 6));
    assert_eq!(answer[0].header.ack, IRS + 6);
}

#[test]
fn what_is_told_of_a_connection_follows_it() {
    let mut host = Host::established();
    let mut small = text(1, 1, b"unread");
    small.header.window = 3000;
    host.gets(&small);
    host.writes(&pattern(4000));
    host.sent();
    host.now += Duration::from_millis(5);
    let info = host.with(|connection, env| connection.info(env));
    assert_eq!(info.state, State::Established);
    assert_eq!((info.snd_mss, info.snd_cwnd), (1460, 14_600));
    assert_eq!(
        (info.unacked, info.unacked_bytes, info.notsent_bytes),
        (2, 2920, 1080)
    );
    assert_eq!((info.rcv_unread, info.wscale), (6, None));
    assert_eq!((info.sack, info.timestamps), (true, false));
    assert_eq!(info.last_recv, Duration::from_millis(5));
}

#[test]
fn an_idle_connection_is_small_and_has_no_heap() {
    let host = Host::established();
    assert!(size_of::<Connection>() <= 700);
    assert_eq!(host.pool.lent(), 0);
}
