//! Which segments travel together, and what is made of them.

use lb_tcp::{Options, Seq, Timestamps};

use super::*;

const MSS: usize = 1448;

fn key() -> FlowKey {
    FlowKey {
        local: "10.203.1.100:443".parse().unwrap(),
        remote: "10.203.1.10:40000".parse().unwrap(),
    }
}

fn link() -> Link {
    Link::new(*b"\x02clien\x02engin\x08\x00")
}

fn header(seq: u32, flags: Flags) -> Header {
    Header {
        seq: Seq(seq),
        ack: Seq(7),
        flags,
        window: 100,
        options: Options {
            timestamps: Some(Timestamps { value: 1, echo: 2 }),
            ..Options::default()
        },
    }
}

/// A train of one full segment with sequence number 1000.
fn started() -> Train {
    let mut train = Train::default();
    let payload = [0; MSS];
    train.start(
        &key(),
        &link(),
        &header(1000, Flags::ACK),
        Payload::from(&payload[..]),
    );
    train
}

fn takes(train: &mut Train, header: &Header, len: usize) -> bool {
    let payload = [1; MSS + 1];
    train.takes(&key(), header, Payload::from(&payload[..len]))
}

const NEXT: u32 = 1000 + 1448;

#[test]
fn what_follows_and_says_the_same_travels_along() {
    let next = header(NEXT, Flags::ACK);
    assert!(takes(&mut started(), &next, MSS));
    assert!(takes(&mut started(), &next, 1), "a last, short one");
    let last = header(NEXT, Flags::ACK | Flags::PSH | Flags::FIN);
    assert!(takes(&mut started(), &last, MSS));
}

#[test]
fn everything_else_does_not() {
    let refuses = |header: Header, len: usize| {
        assert!(!takes(&mut started(), &header, len), "{header:?}, {len}");
    };
    let next = header(NEXT, Flags::ACK);
    refuses(header(NEXT + 1, Flags::ACK), MSS);
    refuses(header(1000, Flags::ACK), MSS);
    refuses(next, MSS + 1);
    refuses(next, 0);
    refuses(header(NEXT, Flags::ACK | Flags::RST), MSS);
    refuses(header(NEXT, Flags::ACK | Flags::URG), MSS);
    refuses(
        Header {
            ack: Seq(8),
            ..next
        },
        MSS,
    );
    refuses(Header { window: 99, ..next }, MSS);
    let options = Options::default();
    refuses(Header { options, ..next }, MSS);
    let other = FlowKey {
        remote: "10.203.1.10:40001".parse().unwrap(),
        ..key()
    };
    let payload = [0; MSS];
    assert!(!started().takes(&other, &next, Payload::from(&payload[..])));
    assert!(!Train::default().takes(&key(), &next, Payload::from(&payload[..])));
}

#[test]
fn nothing_follows_a_short_one_a_push_or_a_held_train() {
    let after = |len: usize| header(NEXT + u32::try_from(len).unwrap(), Flags::ACK);
    let mut train = started();
    assert!(takes(&mut train, &header(NEXT, Flags::ACK), 10));
    assert!(!takes(&mut train, &after(10), 10));
    let mut train = started();
    assert!(takes(
        &mut train,
        &header(NEXT, Flags::ACK | Flags::PSH),
        MSS
    ));
    assert!(!takes(&mut train, &after(MSS), MSS));
    let mut train = started();
    train.hold();
    assert!(!takes(&mut train, &header(NEXT, Flags::ACK), MSS));
}

#[test]
fn a_train_is_no_longer_than_a_packet() {
    let mut train = started();
    let mut seq = NEXT;
    let mut segments = 1;
    while takes(&mut train, &header(seq, Flags::ACK), MSS) {
        seq += 1448;
        segments += 1;
    }
    assert_eq!(segments, 45);
    let mut head = [0; MAX_HEAD];
    let Some(Departure::Cut(len, payload, cut)) = train.departure(&mut head) else {
        panic!("{train:?}");
    };
    assert_eq!((len, payload.len()), (14 + 20 + 32, 45 * MSS));
    assert_eq!((cut.transport, cut.tcp_header, cut.mss), (34, 32, 1448));
    let total = u16::from_be_bytes([head[16], head[17]]);
    assert_eq!(usize::from(total), 20 + 32 + payload.len());
}

#[test]
fn one_segment_alone_is_a_segment() {
    let train = started();
    let mut head = [0; MAX_HEAD];
    assert!(matches!(
        train.departure(&mut head),
        Some(Departure::Single(_, _, header, payload)) if header.seq == Seq(1000) && payload.len() == MSS
    ));
    let mut train = train;
    train.clear();
    assert!(train.is_empty() && train.departure(&mut head).is_none());
}
