//! An error about any packet that was rewritten, translated back, is about the packet as it was.

use super::super::decide_fully;
use crate::abi::RING_SIZE;
use crate::checksum;
use crate::fixtures::{
    Address, Checksum, Datagram, Endpoint, ErrorMessage, HostTables, INGRESS, Segment, VIP, VIP6,
    World, world, world6,
};
use crate::tcp::Flags;
use crate::verdict::Reason;
use crate::wire::{PROTOCOL_ICMPV6, PROTOCOL_UDP};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const MACS: ([u8; 6], [u8; 6]) = ([2; 6], [4; 6]);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp(Checksum),
}

/// What differs from case to case.
#[derive(Clone, Debug)]
struct Case<A> {
    client: Endpoint<A>,
    router: A,
    kind: Kind,
    payload: Vec<u8>,
    /// Bytes quoted of the transport header and what follows, at most.
    quoted: usize,
}

fn case<A: Arbitrary>() -> impl Strategy<Value = Case<A>> {
    let kinds = [
        Kind::Tcp,
        Kind::Udp(Checksum::Computed),
        Kind::Udp(Checksum::None),
    ];
    // Half a checksum can't be translated.
    let quoted = (8..80_usize).prop_filter("half a checksum", |quoted| *quoted != 17);
    let client = (any::<A>(), 1..=u16::MAX);
    let payload = prop::collection::vec(any::<u8>(), 0..60);
    let rest = (any::<A>(), prop::sample::select(kinds.to_vec()), quoted);
    (client, payload, rest).prop_map(|(client, payload, (router, kind, quoted))| Case {
        client,
        router,
        kind,
        payload,
        quoted,
    })
}

impl<A: Address> Case<A> {
    fn packet(&self, source: Endpoint<A>, destination: Endpoint<A>, ttl: u8) -> Vec<u8> {
        let payload = self.payload.clone();
        match self.kind {
            Kind::Tcp => Segment {
                macs: MACS,
                source,
                destination,
                flags: Flags::SYN,
                ttl,
                payload,
            }
            .bytes(),
            Kind::Udp(checksum) => Datagram {
                macs: MACS,
                source,
                destination,
                ttl,
                checksum,
                payload,
            }
            .bytes(),
        }
    }

    fn header(&self) -> usize {
        if self.router.as_ref().len() == 4 {
            20
        } else {
            40
        }
    }

    fn quote(&self, frame: &[u8]) -> Vec<u8> {
        let end = (14 + self.header() + self.quoted).min(frame.len());
        frame[14..end].to_vec()
    }

    /// An error about `frame`, to its sender.
    fn error(&self, frame: &[u8], sender: A) -> Vec<u8> {
        let kind = if self.header() == 20 { 3 } else { 1 };
        ErrorMessage {
            macs: MACS,
            source: self.router,
            destination: sender,
            kind: (kind, 1),
            rest: [1, 2, 3, 4],
            ttl: 64,
            quote: self.quote(frame),
        }
        .bytes()
    }

    /// Ends of a frame, whose headers have the lengths of this case.
    fn ends(&self, frame: &[u8]) -> [Endpoint<A>; 2]
    where
        A: for<'a> TryFrom<&'a [u8]>,
    {
        let (length, ports) = (size_of::<A>(), 14 + self.header());
        let addresses = ports - 2 * length;
        [0, 1].map(|index| {
            let (at, port) = (addresses + index * length, ports + 2 * index);
            let address = A::try_from(&frame[at..at + length]);
            let address = address.unwrap_or_else(|_| unreachable!("of that length"));
            (address, u16::from_be_bytes([frame[port], frame[port + 1]]))
        })
    }

    /// Both directions: what the client has sent and what the server answers meet an error behind us.
    fn check(&self, world: &World, vip: Endpoint<A>) -> Result<(), TestCaseError>
    where
        A: for<'a> TryFrom<&'a [u8]> + PartialEq + core::fmt::Debug,
    {
        let tables = HostTables::new(world);
        let there = forwarded(&tables, self.packet(self.client, vip, 64))?;
        let [mapped, server] = self.ends(&there);
        let told = forwarded(&tables, self.error(&there, mapped.0))?;
        self.is_about(
            &told,
            &self.packet(self.client, vip, 63),
            vip.0,
            self.client.0,
        )?;

        let back = forwarded(&tables, self.packet(server, mapped, 64))?;
        let told = forwarded(&tables, self.error(&back, vip.0))?;
        self.is_about(&told, &self.packet(server, mapped, 63), mapped.0, server.0)
    }

    /// Whether `frame` is a sound error from `source` to `destination` about `original`.
    fn is_about(
        &self,
        frame: &[u8],
        original: &[u8],
        source: A,
        destination: A,
    ) -> Result<(), TestCaseError> {
        let message = 14 + self.header();
        prop_assert_eq!(&frame[message + 8..], &self.quote(original)[..]);
        prop_assert_eq!(&frame[message + 4..message + 8], &[1, 2, 3, 4]);
        let addresses = [source.as_ref(), destination.as_ref()].concat();
        prop_assert_eq!(&frame[message - addresses.len()..message], &addresses[..]);
        prop_assert!(is_sound(frame));
        Ok(())
    }
}

fn forwarded(tables: &HostTables, mut frame: Vec<u8>) -> Result<Vec<u8>, TestCaseError> {
    let verdict = decide_fully(&mut frame, tables, INGRESS);
    prop_assert_eq!(verdict.reason(), Reason::Forwarded);
    Ok(frame)
}

/// Whether header and message of an error without padding sum up.
fn is_sound(frame: &[u8]) -> bool {
    if frame[14] == 0x45 {
        return checksum::of(&frame[14..34]) == [0, 0] && checksum::of(&frame[34..]) == [0, 0];
    }
    let mut covered = frame[22..54].to_vec();
    covered.extend([0, PROTOCOL_ICMPV6]);
    covered.extend(&frame[18..20]);
    covered.extend(&frame[54..]);
    checksum::of(&covered) == [0, 0]
}

fn with_datagrams() -> World {
    let mut world = world();
    let (mut key, service) = world.services[0];
    key.protocol = PROTOCOL_UDP;
    world.services.push((key, service));
    world
}

/// Bytes of an error over IPv4 that decide nothing: its checksum and second word; of the quote, lengths and checksum.
const NOT_LOOKED_AT: [usize; 12] = [36, 37, 38, 39, 40, 41, 44, 45, 46, 47, 52, 53];

proptest! {
    #[test]
    fn what_comes_back_is_about_what_was_sent(case in case::<[u8; 4]>()) {
        case.check(&with_datagrams(), VIP)?;
    }

    /// Whatever was wrong with an error is wrong with it as much afterwards: nobody can be told that it was right.
    #[test]
    fn damage_stays(
        case in case::<[u8; 4]>(),
        at in prop::sample::select(NOT_LOOKED_AT.to_vec()),
        damage in 1..=255_u8,
    ) {
        let tables = HostTables::new(&with_datagrams());
        let there = forwarded(&tables, case.packet(case.client, VIP, 64))?;
        let [mapped, _] = case.ends(&there);
        let error = case.error(&there, mapped.0);
        let mut damaged = error.clone();
        damaged[at] ^= damage;
        prop_assert!(!is_sound(&damaged));
        prop_assert!(is_sound(&forwarded(&tables, error)?));
        prop_assert!(!is_sound(&forwarded(&tables, damaged)?));
    }
}

/// As [`world6`], whatever the client hashes to.
fn with_a_full_ring() -> World {
    let mut world = world6(0);
    world.rings = (RING_SIZE..2 * RING_SIZE).map(|slot| (slot, 2)).collect();
    world
}

proptest! {
    // Each case fills a ring.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_comes_back_is_about_what_was_sent_over_ipv6(case in case::<[u8; 16]>()) {
        case.check(&with_a_full_ring(), VIP6)?;
    }
}

#[test]
fn so_many_answers_in_a_tick_and_no_more() {
    use super::super::Answers;
    let in_tick = |mut answers: Answers, tick| {
        let mut sent = vec![];
        while let Some(more) = answers.one_more(tick) {
            answers = more;
            sent.push(more);
        }
        (sent.len(), answers)
    };
    let (first, answers) = in_tick(Answers::default(), 7);
    assert_eq!(first, Answers::PER_TICK as usize);
    let (second, _) = in_tick(answers, 8);
    assert_eq!(second, Answers::PER_TICK as usize);
}
