//! Out of one engine and into another, in the middle of everything.

use super::*;

impl Host {
    /// Goes on elsewhere.
    fn moves(&mut self) {
        let snapshot = self.with(Connection::export).unwrap();
        assert_eq!(self.state(), State::Closed);
        assert!(self.sent().is_empty());
        assert_eq!((self.pool.lent(), self.next_timer()), (0, None));
        let imported = self.with(|_, env| Connection::import(snapshot.clone(), env));
        self.connection = imported.unwrap();
        // The same comes out again, but for what can't be known.
        let mut env = Env {
            now: self.now,
            config: &self.config,
            pool: &mut Pool::new(8 << 20),
            counters: &mut Counters::default(),
        };
        let mut again = Connection::import(snapshot.clone(), &mut env).unwrap();
        assert_eq!(again.export(&mut env), Some(snapshot));
    }
}

#[test]
fn a_snapshot_says_everything_in_the_terms_of_the_rfc() {
    let syn = Options {
        mss: Some(1000),
        window_scale: Some(2),
        sack_permitted: true,
        timestamps: Some(Timestamps { value: 1, echo: 0 }),
        ..Options::default()
    };
    let at = |mut sent: Sent, value| {
        sent.header.options.timestamps = Some(Timestamps { value, echo: 0 });
        sent
    };
    let mut host = Host::established_with(Config::default(), &syn);
    host.gets(&at(text(1, 1, b"unread"), 5));
    host.gets(&at(text(107, 1, b"behind a gap"), 6));
    let told = host.sent_one().header;
    host.writes(b"sent");
    host.sent_one();
    let snapshot = host.with(Connection::export).unwrap();
    let expected = Snapshot {
        una: ISS + 1,
        nxt: ISS + 5,
        wnd: u32::from(WINDOW) << 2,
        max_wnd: u32::from(WINDOW) << 2,
        wl1: IRS + 107,
        wl2: ISS + 1,
        send_queue: b"sent".to_vec(),
        mss: 1000,
        rcv_nxt: IRS + 7,
        last_ack_sent: IRS + 7,
        rcv_edge: IRS + 7 + (u32::from(told.window) << 10),
        unread: b"unread".to_vec(),
        out_of_order: vec![(IRS + 107, b"behind a gap".to_vec())],
        fin: None,
        shifts: Some((2, 10)),
        sack: true,
        timestamps: Some((5, 7_000_000)),
        own_mss: 1460,
        ..snapshot.clone()
    };
    assert_eq!(snapshot, expected);
    assert!(snapshot.srtt.is_some() && snapshot.cwnd >= 9880);
}

#[test]
fn only_an_established_connection_can_be_taken_out() {
    let mut host = Host::connecting(plain());
    host.sent_one();
    assert_eq!(host.with(Connection::export), None);
    let mut host = Host::established();
    host.shuts();
    assert_eq!(host.with(Connection::export), None);
    assert!(host.sent_one().has(Flags::FIN), "nothing has changed");
}

#[test]
fn no_byte_is_lost_on_the_way_whenever_it_is_gone() {
    let (up, down) = (pattern(120_000), pattern(90_000));
    // Not more often than a retransmission timeout, which begins anew with each move.
    for (phase, every) in (0..40).flat_map(|phase| [(phase, 5), (phase, 100_000)]) {
        let mut pair = Pair::established(Config::default(), Config::default());
        pair.loses(every);
        let (mut up_written, mut down_written) = (0, 0);
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        for turn in 0..20_000 {
            up_written += pair.client.writes_some(&up[up_written..]);
            down_written += pair.server.writes_some(&down[down_written..]);
            pair.runs(Duration::from_millis(7));
            if turn % 100 == phase {
                pair.client.moves();
            }
            if turn % 100 == 2 * phase {
                pair.server.moves();
            }
            at_server.extend(pair.server.reads());
            at_client.extend(pair.client.reads());
            if at_server.len() == up.len() && at_client.len() == down.len() {
                break;
            }
        }
        let read = (at_server.len(), at_client.len());
        assert_eq!(read, (up.len(), down.len()), "{phase} {every}");
        assert!(at_server == up && at_client == down);
    }
}

#[test]
fn what_is_in_flight_is_not_sent_again_at_once() {
    let mut host = Host::established();
    host.writes(&pattern(3000));
    host.sent();
    host.moves();
    assert!(host.sent().is_empty());
    host.gets(&from_peer(Flags::ACK, 1, 3001));
    assert!(host.waits(Duration::from_mins(1)).is_empty());
    // But it is if nobody acknowledges it.
    host.writes(&pattern(3000));
    host.sent();
    host.moves();
    let again = host.waits(Duration::from_secs(10));
    assert!(!again.is_empty());
    assert_eq!(
        again[0].payload[..],
        pattern(3000)[3000 - again[0].payload.len()..]
    );
}

#[test]
fn what_was_in_flight_gives_no_round_trip() {
    let mut host = Host::established();
    host.writes(b"x");
    host.sent();
    host.waits(Duration::from_millis(1));
    let before = host.with(|connection, env| connection.info(env).rtt);
    host.moves();
    host.now += Duration::from_millis(100);
    host.gets(&from_peer(Flags::ACK, 1, 2));
    let after = host.with(|connection, env| connection.info(env).rtt);
    assert_eq!(before, after);
}

#[test]
fn an_acknowledgement_that_was_delayed_leaves_after_the_move() {
    let mut host = Host::established();
    let mut seq = 1;
    while !host.answers(&text(seq, 1, b"x")).is_empty() {
        seq += 1;
    }
    host.moves();
    assert_eq!(host.sent_one().header.ack, IRS + seq + 1);
}

#[test]
fn a_closed_window_is_still_probed_after_the_move() {
    let mut host = Host::established();
    let mut closed = from_peer(Flags::ACK, 1, 1);
    closed.header.window = 0;
    host.gets(&closed);
    host.writes(b"waiting");
    assert!(host.sent().is_empty());
    host.moves();
    assert!(host.sent().is_empty());
    assert!(!host.waits(Duration::from_secs(10)).is_empty());
}

#[test]
fn a_snapshot_that_cannot_be_true_is_refused_and_costs_nothing() {
    let mut host = Host::established();
    host.gets(&text(1, 1, b"unread"));
    host.writes(b"unsent");
    let snapshot = host.with(Connection::export).unwrap();
    let refused = [
        Snapshot {
            nxt: snapshot.una + 7,
            ..snapshot.clone()
        },
        Snapshot {
            nxt: snapshot.una - 1,
            ..snapshot.clone()
        },
        Snapshot {
            rcv_edge: snapshot.rcv_nxt - 1,
            ..snapshot.clone()
        },
        Snapshot {
            out_of_order: vec![(snapshot.rcv_nxt - 1, vec![1])],
            ..snapshot.clone()
        },
    ];
    for snapshot in refused {
        let imported = host.with(|_, env| Connection::import(snapshot.clone(), env));
        assert!(imported.is_none(), "{snapshot:?}");
        assert_eq!(host.pool.lent(), 0);
    }
    host.pool = Pool::new(4096);
    let imported = host.with(|_, env| Connection::import(snapshot, env));
    assert!(imported.is_none(), "no memory");
    assert_eq!(host.pool.lent(), 0);
}
