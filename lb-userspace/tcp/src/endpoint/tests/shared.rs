//! Segments that are not the endpoint's: of connections that have moved, and where the kernel has some on the same ports.

use super::*;
use crate::Disposition;

impl Bench {
    fn whose(&mut self, port: u16, flags: Flags) -> Disposition {
        let segment = Segment {
            header: header(flags, 5000, 6000),
            payload: b"",
        };
        self.endpoint
            .input(self.now, &key(port), 1, &segment, &mut self.wire)
    }

    fn sharing() -> Self {
        let mut bench = Self::new(Config::default());
        bench.endpoint.share_ports();
        bench
    }
}

#[test]
fn a_copy_takes_nothing_away() {
    let mut bench = Bench::new(Config::default());
    let (mut peer, id) = bench.accepted(1);
    bench.endpoint.write(&id, b"answer").unwrap();
    bench.say(&peer, Flags::ACK, b"question");
    peer.seq += 8;
    let before = std::format!("{:?}", bench.endpoint);
    let (ends, snapshot) = bench.endpoint.snapshot(&id).unwrap();
    assert_eq!(ends, key(1));
    assert_eq!(
        (&snapshot.unread[..], &snapshot.send_queue[..]),
        (&b"question"[..], &b"answer"[..])
    );
    assert_eq!(std::format!("{:?}", bench.endpoint), before);
    bench.endpoint.shutdown(&id);
    assert_eq!(bench.endpoint.snapshot(&id), None, "it has finished");
}

#[test]
fn who_waits_for_a_connection_learns_that_it_has_moved() {
    let mut bench = Bench::new(Config::default());
    let (_, id) = bench.accepted(1);
    let before = bench.endpoint.attachment(&id).unwrap().readable;
    assert_eq!(before, 0);
    bench.endpoint.moved(id);
    // The attachment is gone with its wakers: that they were called shows in `lb-transport`.
    assert_eq!(
        (bench.endpoint.flows(), bench.endpoint.pool().lent()),
        (0, 0)
    );
}

#[test]
fn segments_of_a_moved_connection_are_elsewhere_until_it_is_over() {
    let mut bench = Bench::new(Config::default());
    let (_, id) = bench.accepted(1);
    bench.endpoint.moved(id);
    for flags in [Flags::ACK, Flags::SYN, RST_ACK, FIN_ACK] {
        assert_eq!(bench.whose(1, flags), Disposition::Elsewhere, "{flags:?}");
    }
    assert!(bench.output().is_empty(), "answered");
    bench.endpoint.forget_moved(&key(1));
    assert_eq!(bench.whose(1, Flags::SYN), Disposition::Taken);
    assert_eq!(flags(&bench.output()), [Flags::SYN | Flags::ACK]);
}

#[test]
fn what_opens_nothing_is_elsewhere_only_where_ports_are_shared() {
    let strays = [Flags::ACK, Flags::RST, FIN_ACK, Flags::SYN | Flags::ACK];
    let mut alone = Bench::new(Config::default());
    let mut sharing = Bench::sharing();
    for stray in strays {
        assert_eq!(alone.whose(1, stray), Disposition::Taken, "{stray:?}");
        assert_eq!(sharing.whose(1, stray), Disposition::Elsewhere, "{stray:?}");
    }
    assert_eq!(
        alone.output().len(),
        strays.len() - 1,
        "all but RST refused"
    );
    assert!(sharing.output().is_empty());
    assert_eq!(sharing.whose(1, Flags::SYN), Disposition::Taken);
}

#[test]
fn a_bad_cookie_is_elsewhere_and_a_good_one_is_not() {
    let mut bench = Bench::new(Config {
        backlog: 2,
        ..Config::default()
    });
    bench.endpoint.share_ports();
    bench.syn(1);
    let [cookie] = &bench.syn(2)[..] else {
        panic!("no answer");
    };
    let ack = cookie.header.seq + 1;
    assert_eq!(bench.counters().syncookies_sent, 1);
    assert_eq!(bench.whose(3, Flags::ACK), Disposition::Elsewhere);
    let segment = Segment {
        header: header(Flags::ACK, 101, ack.0),
        payload: b"",
    };
    let whose = bench
        .endpoint
        .input(bench.now, &key(2), 1, &segment, &mut bench.wire);
    assert_eq!(whose, Disposition::Taken);
    assert_eq!(bench.counters().syncookies_received, 1);
}

#[test]
fn our_own_time_wait_is_not_elsewhere() {
    let mut bench = Bench::sharing();
    let (mut peer, id) = bench.accepted(1);
    bench.endpoint.release(id);
    bench.output();
    peer.ack += 1;
    bench.say(&peer, FIN_ACK, b"");
    assert_eq!(bench.endpoint.time_wait(), 1);
    assert_eq!(bench.whose(1, FIN_ACK), Disposition::Taken);
    assert_eq!(flags(&bench.output()), [Flags::ACK]);
}

#[test]
fn an_address_that_nobody_listens_on_is_the_kernels_but_new_clients_wait_for_the_next_process() {
    let mut bench = Bench::sharing();
    bench.endpoint.unlisten(&server());
    for flags in [Flags::ACK, Flags::SYN] {
        assert_eq!(bench.whose(1, flags), Disposition::Elsewhere, "{flags:?}");
    }
    bench.endpoint.stop();
    assert_eq!(bench.whose(1, Flags::ACK), Disposition::Elsewhere);
    assert_eq!(bench.whose(1, Flags::SYN), Disposition::Taken);
    assert!(bench.output().is_empty());
}
