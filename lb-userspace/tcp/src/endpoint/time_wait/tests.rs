//! The rules of TIME-WAIT, one by one.

use super::*;
use crate::{FlowKey, Header, Options, Secret, Timestamps};

const LIFETIME: Duration = Duration::from_mins(1);

const fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn key(port: u16) -> (Tuple, Hash) {
    let tuple = Tuple::from(&FlowKey {
        local: "10.203.1.100:443".parse().unwrap(),
        remote: ([10, 203, 1, 10], port).into(),
    });
    let hash = Hash::of(&tuple, &Secret::new([7; 16]).flow_table());
    (tuple, hash)
}

fn remains(ack: u32, ts_recent: Option<u32>) -> Remains {
    Remains::new(Seq(500), Seq(ack), 1, ts_recent)
}

struct Bench {
    time_wait: TimeWait,
    counters: Counters,
}

impl Bench {
    fn new(max: usize) -> Self {
        Self {
            time_wait: TimeWait::new(LIFETIME, max),
            counters: Counters::default(),
        }
    }

    fn insert(&mut self, port: u16, remains: Remains, now: Instant) {
        self.time_wait
            .insert(key(port), remains, now, &mut self.counters);
    }

    fn answer(&mut self, port: u16, header: Header, payload: &[u8]) -> Option<Answer> {
        let (tuple, hash) = key(port);
        let segment = Segment { header, payload };
        self.time_wait
            .answer((&tuple, hash), &segment, &mut self.counters)
            .map(|(answer, _)| answer)
    }

    fn expire(&mut self, now: Instant) {
        self.time_wait.expire(now, &mut self.counters);
    }
}

fn header(flags: Flags, seq: u32, value: Option<u32>) -> Header {
    Header {
        seq: Seq(seq),
        flags,
        options: Options {
            timestamps: value.map(|value| Timestamps { value, echo: 0 }),
            ..Options::default()
        },
        ..Header::default()
    }
}

#[test]
fn late_segments_are_answered_if_they_carry_something() {
    let mut bench = Bench::new(10);
    bench.insert(1, remains(1000, None), at(0));
    let fin = header(Flags::FIN | Flags::ACK, 999, None);
    assert_eq!(bench.answer(1, fin, b""), Some(Answer::Acknowledge));
    let ack = header(Flags::ACK, 1000, None);
    assert_eq!(bench.answer(1, ack, b""), Some(Answer::Ignore));
    assert_eq!(bench.answer(1, ack, b"late"), Some(Answer::Acknowledge));
    // RFC 1337.
    let rst = header(Flags::RST, 1000, None);
    assert_eq!(bench.answer(1, rst, b""), Some(Answer::Ignore));
    assert_eq!(bench.answer(2, ack, b""), None);
    assert_eq!(bench.time_wait.len(), 1);
}

#[test]
fn a_syn_reopens_by_timestamp_or_else_by_number() {
    let check = |ts_recent, seq, value, expected| {
        let mut bench = Bench::new(10);
        bench.insert(1, remains(1000, ts_recent), at(0));
        let syn = header(Flags::SYN, seq, value);
        assert_eq!(
            bench.answer(1, syn, b""),
            Some(expected),
            "{ts_recent:?} {seq} {value:?}"
        );
        let reopened = u64::from(expected == Answer::Reopen);
        assert_eq!(bench.counters.time_wait_recycled, reopened);
        assert_eq!(bench.time_wait.len() as u64, 1 - reopened);
    };
    check(None, 1001, None, Answer::Reopen);
    check(None, 1000, None, Answer::Acknowledge);
    check(None, 1001, Some(5), Answer::Reopen);
    check(Some(70), 1001, None, Answer::Reopen);
    check(Some(70), 999, None, Answer::Acknowledge);
    check(Some(70), 1, Some(71), Answer::Reopen);
    check(Some(70), 1001, Some(70), Answer::Reopen);
    check(Some(70), 1000, Some(70), Answer::Acknowledge);
    check(Some(70), 1001, Some(69), Answer::Acknowledge);
    check(Some(u32::MAX), 1, Some(3), Answer::Reopen);
}

#[test]
fn a_record_lives_its_own_life_not_that_of_its_predecessor() {
    let mut bench = Bench::new(10);
    bench.insert(1, remains(1000, None), at(0));
    let syn = header(Flags::SYN, 2000, None);
    assert_eq!(bench.answer(1, syn, b""), Some(Answer::Reopen));
    bench.insert(1, remains(3000, None), at(30));
    bench.expire(at(61));
    assert_eq!((bench.time_wait.len(), bench.counters.time_wait), (1, 0));
    assert_eq!(bench.time_wait.next(at(61)), Some(at(90)));
    bench.expire(at(90));
    assert_eq!((bench.time_wait.len(), bench.counters.time_wait), (0, 1));
    assert_eq!(bench.time_wait.next(at(90)), None);
}

#[test]
fn a_fin_that_comes_again_restarts_the_wait() {
    let mut bench = Bench::new(10);
    bench.insert(1, remains(1000, None), at(0));
    bench.insert(2, remains(1000, None), at(30));
    bench.answer(1, header(Flags::FIN, 999, None), b"");
    bench.expire(at(89));
    assert_eq!(bench.time_wait.len(), 2);
    bench.expire(at(91));
    assert_eq!(bench.answer(2, header(Flags::ACK, 1, None), b""), None);
    assert!(bench.answer(1, header(Flags::ACK, 1, None), b"").is_some());
    bench.expire(at(150));
    assert_eq!((bench.time_wait.len(), bench.counters.time_wait), (0, 2));
}

#[test]
fn the_oldest_give_way_when_there_are_too_many() {
    let mut bench = Bench::new(100);
    for port in 0..101 {
        bench.insert(port, remains(1000, None), at(0));
    }
    assert_eq!(bench.time_wait.len(), 100);
    assert_eq!(bench.counters.time_wait_overflow, 1);
    let ack = header(Flags::ACK, 1000, None);
    assert_eq!(bench.answer(0, ack, b""), None);
    assert_eq!(bench.answer(100, ack, b""), Some(Answer::Ignore));
}

#[test]
fn a_connection_that_moved_is_not_disturbed() {
    let mut bench = Bench::new(10);
    bench
        .time_wait
        .insert_moved(key(1), at(0), &mut bench.counters);
    for flags in [Flags::ACK, Flags::SYN, Flags::FIN | Flags::ACK] {
        let answer = bench.answer(1, header(flags, 5000, Some(9)), b"text");
        assert_eq!(answer, Some(Answer::Forward));
    }
    let (tuple, hash) = key(1);
    bench.time_wait.remove((&tuple, hash));
    assert_eq!(bench.answer(1, header(Flags::ACK, 1, None), b""), None);
    bench.expire(at(60));
    assert_eq!(bench.counters.time_wait, 0);
}

#[test]
fn only_what_moved_is_forgotten_when_it_has_ended_elsewhere() {
    let mut bench = Bench::new(10);
    bench
        .time_wait
        .insert_moved(key(1), at(0), &mut bench.counters);
    bench.insert(2, remains(1000, None), at(0));
    for port in [1, 2, 3] {
        let (tuple, hash) = key(port);
        bench.time_wait.remove_moved((&tuple, hash));
    }
    let ack = header(Flags::ACK, 1000, None);
    assert_eq!(bench.answer(1, ack, b""), None);
    assert_eq!(bench.answer(2, ack, b""), Some(Answer::Ignore));
}
