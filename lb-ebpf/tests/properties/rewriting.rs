//! There and back again: what a server sees of a client, what the client sees of its answer, and what travels in tunnels.

use crate::config;
use lb_ebpf::decide::decide_fully;
use lb_ebpf::fixtures::{
    Address, Checksum, Datagram, Endpoint, HostTables, INGRESS, Reading, Segment, World, checks,
    with_tcp_options,
};
use lb_ebpf::tcp::Flags;
use lb_ebpf::verdict::{Reason, Verdict};
use proptest::prelude::*;

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 10];
const FRONT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const BACK_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 11];
const VIP: [u8; 4] = [10, 203, 1, 100];
const VIP6: [u8; 16] = [0xfd, 0, 2, 3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100];
const SERVER: [u8; 4] = [10, 203, 2, 11];
const SERVER6: [u8; 16] = [0xfd, 0, 2, 3, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
/// Ports of [`World::of_every_mode`].
const NAT: u16 = 25;
const NAT_KEEP_SOURCE: u16 = 110;
const NAT_LIMITED: u16 = 143;
const TUNNELS: [u16; 4] = [389, 465, 587, 993];

/// A packet that a test makes in both families and protocols.
#[derive(Clone, Debug)]
struct Packet {
    protocol: Protocol,
    hops: u8,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp(Checksum),
}

fn packets() -> impl Strategy<Value = Packet> {
    let protocol = prop_oneof![
        2 => Just(Protocol::Tcp),
        1 => Just(Protocol::Udp(Checksum::Computed)),
        1 => Just(Protocol::Udp(Checksum::None)),
    ];
    let payload = proptest::collection::vec(any::<u8>(), 0..300);
    (protocol, 2_u8.., payload).prop_map(|(protocol, hops, payload)| Packet {
        protocol,
        hops,
        payload,
    })
}

impl Packet {
    fn bytes<A: Address>(
        &self,
        macs: ([u8; 6], [u8; 6]),
        source: Endpoint<A>,
        destination: Endpoint<A>,
        flags: Flags,
    ) -> Vec<u8> {
        let (ttl, payload) = (self.hops, self.payload.clone());
        match self.protocol {
            Protocol::Tcp => Segment {
                macs,
                source,
                destination,
                flags,
                ttl,
                payload,
            }
            .bytes(),
            Protocol::Udp(checksum) => Datagram {
                macs,
                source,
                destination,
                ttl,
                checksum,
                payload,
            }
            .bytes(),
        }
    }

    fn a_hop_later(&self) -> Self {
        Self {
            hops: self.hops - 1,
            ..self.clone()
        }
    }
}

fn forward(tables: &HostTables, before: &[u8]) -> (Verdict, Vec<u8>) {
    let mut after = before.to_vec();
    let verdict = decide_fully(&mut after, tables, INGRESS);
    assert_eq!(verdict.reason(), Reason::Forwarded);
    checks::packet(before, &after, verdict);
    (verdict, after)
}

/// Sender of a packet as it stands there.
fn source<A: Address + From<[u8; N]>, const N: usize>(frame: &[u8]) -> Endpoint<A> {
    let reading = Reading::of(frame).expect("whole");
    let (source, _) = reading.source_and_destination();
    let address: [u8; N] = source.try_into().expect("of that family");
    let port = [reading.segment()[0], reading.segment()[1]];
    (A::from(address), u16::from_be_bytes(port))
}

/// The server sees the client's packet with another sender and receiver, the client the server's answer with those that
/// it sent to: nothing else differs from what was sent, in no field and no sum.
fn there_and_back<A: Address + From<[u8; N]>, const N: usize>(
    client: Endpoint<A>,
    vip: Endpoint<A>,
    server: Endpoint<A>,
    [request, answer]: &[Packet; 2],
) -> Endpoint<A> {
    let tables = HostTables::with_filled_rings(&World::of_every_mode());
    let protocol = request.protocol;
    let answer = Packet {
        protocol,
        ..answer.clone()
    };

    let sent = request.bytes((FRONT_MAC, CLIENT_MAC), client, vip, Flags::SYN);
    let (verdict, arrived) = forward(&tables, &sent);
    assert_eq!(verdict, Verdict::Redirect { ifindex: 2 });
    let mapped = source::<A, N>(&arrived);
    let expected = request.a_hop_later();
    let expected = expected.bytes((SERVER_MAC, BACK_MAC), mapped, server, Flags::SYN);
    assert_eq!(arrived, expected, "as the server sees it");

    let flags = Flags::SYN | Flags::ACK;
    let sent = answer.bytes((BACK_MAC, SERVER_MAC), server, mapped, flags);
    let (verdict, arrived) = forward(&tables, &sent);
    assert_eq!(verdict, Verdict::Transmit);
    let expected = answer.a_hop_later();
    let expected = expected.bytes((CLIENT_MAC, FRONT_MAC), vip, client, flags);
    assert_eq!(arrived, expected, "as the client sees it");
    mapped
}

/// What goes into a tunnel comes out of it a hop older, and the outer sums, taken over all bytes, are right.
fn through_a_tunnel(frame: &[u8]) {
    let tables = HostTables::with_filled_rings(&World::of_every_mode());
    let (_, after) = forward(&tables, frame);
    let outer = Reading::of(&after).expect("whole");
    assert!(outer.is_sound());
    // Class and congestion bits go outwards (RFC 6040), of IPv6 the label too.
    let marks = if outer.version == 4 { 15..16 } else { 14..18 };
    assert_eq!(after[marks.clone()], frame[marks]);
    let checked = outer.protocol == 17 && outer.version == 6;
    let inner_unchecked = Reading::of(frame).expect("whole").is_unchecked();
    assert!(!checked || outer.is_unchecked() == inner_unchecked);
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn nat_there_and_back_over_ipv4(client: ([u8; 4], u16), packets in [packets(), packets()]) {
        prop_assume!(client.0 != VIP && client.0 != SERVER);
        there_and_back::<[u8; 4], 4>(client, (VIP, NAT), (SERVER, 2525), &packets);
        let kept = there_and_back::<_, 4>(client, (VIP, NAT_KEEP_SOURCE), (SERVER, 2525), &packets);
        prop_assert_eq!(kept, client);
    }

    #[test]
    fn nat_there_and_back_over_ipv6(client: ([u8; 16], u16), packets in [packets(), packets()]) {
        prop_assume!(client.0 != VIP6 && client.0 != SERVER6);
        there_and_back::<[u8; 16], 16>(client, (VIP6, NAT), (SERVER6, 2525), &packets);
        let kept = there_and_back::<_, 16>(client, (VIP6, NAT_KEEP_SOURCE), (SERVER6, 2525), &packets);
        prop_assert_eq!(kept, client);
    }

    #[test]
    fn tunnels_over_ipv4(client: ([u8; 4], u16), packet in packets(), tos: u8) {
        for port in TUNNELS {
            let macs = (FRONT_MAC, CLIENT_MAC);
            let mut frame = packet.bytes(macs, client, (VIP, port), Flags::SYN);
            frame[15] = tos;
            frame[24..26].fill(0);
            let sum = lb_ebpf::checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum);
            through_a_tunnel(&frame);
        }
    }

    /// The outer checksum of GUE is derived from a few fields of the inner header: any of them.
    #[test]
    fn tunnels_over_ipv6(client: ([u8; 16], u16), packet in packets(), class_and_label: [u8; 3]) {
        for port in TUNNELS {
            let macs = (FRONT_MAC, CLIENT_MAC);
            let mut frame = packet.bytes(macs, client, (VIP6, port), Flags::SYN);
            frame[15..18].copy_from_slice(&class_and_label);
            through_a_tunnel(&frame);
        }
    }

    /// Wherever the option stands and whatever stands before it: lowered if it is greater, and no sum gets wrong by it.
    #[test]
    fn a_lowered_mss_keeps_the_checksum(
        client: ([u8; 4], u16),
        packet in packets(),
        before in proptest::collection::vec(prop_oneof![Just(vec![1]), Just(vec![4, 2]), Just(vec![3, 3, 7])], 0..8),
        mss: u16,
    ) {
        let tables = HostTables::with_filled_rings(&World::of_every_mode());
        let tcp = Packet { protocol: Protocol::Tcp, ..packet };
        let frame = tcp.bytes((FRONT_MAC, CLIENT_MAC), client, (VIP, NAT_LIMITED), Flags::SYN);
        let mut options = before.concat();
        let at = 14 + 40 + options.len() + 2;
        options.extend([2, 4]);
        options.extend(mss.to_be_bytes());
        options.resize(options.len().next_multiple_of(4), 0);
        let frame = with_tcp_options(frame, &options);
        prop_assert!(Reading::of(&frame).expect("whole").is_sound());
        let (_, after) = forward(&tables, &frame);
        prop_assert!(Reading::of(&after).expect("whole").is_sound());
        let lowered = u16::from_be_bytes([after[at], after[at + 1]]);
        prop_assert_eq!(lowered, mss.min(1360));
    }
}
