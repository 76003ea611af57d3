//! Frames that the kernel holds in several buffers: of all modes, they come out as the host's, which are in one piece.

use super::{Kernel, action, pin};
use lb_ebpf::abi::Interface;
use lb_ebpf::decide::decide_fully;
use lb_ebpf::fixtures::{
    Address, Checksum, Datagram, Endpoint, ErrorMessage, HostTables, INGRESS, Segment, VIP, VIP6,
    World, checks,
};
use lb_ebpf::tcp::Flags;
use lb_ebpf::verdict::{Part, Reason, Verdict};

/// Of a jumbo frame, more than a page.
const PAYLOAD: usize = 6000;
/// NAT, NAT with the source kept, direct server return, IPIP, GUE.
const PORTS: [u16; 5] = [25, 110, 220, 389, 587];
const WORKER_PORT: u16 = 443;

fn packets<A: Address>(source: Endpoint<A>, destination: Endpoint<A>) -> [Vec<u8>; 3] {
    let macs = ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 10]);
    let segment = |flags, length| {
        Segment {
            macs,
            source,
            destination,
            flags,
            ttl: 64,
            payload: vec![0x5a; length],
        }
        .bytes()
    };
    let datagram = Datagram {
        macs,
        source,
        destination,
        ttl: 64,
        checksum: Checksum::Computed,
        payload: vec![0xa5; PAYLOAD],
    };
    [
        segment(Flags::SYN, 0),
        segment(Flags::ACK, PAYLOAD),
        datagram.bytes(),
    ]
}

#[test]
fn frames_in_several_buffers_give_the_same() {
    pin(INGRESS.cpu as usize);
    let mut world = World::of_every_mode();
    world.settings.snat_port_count = 100;
    for backend in &mut world.backends {
        backend.mtu = 9000;
    }
    let mut kernel = Kernel::load(&world);
    let host = HostTables::new(&world);
    for port in PORTS {
        let v4 = packets(([10, 203, 3, 1], 50_000), (VIP.0, port));
        // Their bits hash to the slot that there is, as those of IPv4 do with a key of zero.
        let client = [0xfd, 0, 2, 3, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let v6 = packets((client, 50_000), (VIP6.0, port));
        for packet in v4.into_iter().chain(v6) {
            let mut bytes = packet.clone();
            let verdict = decide_fully(&mut bytes, &host, INGRESS);
            let (got, reason, out) = kernel.run(&packet);
            let place = format!(
                "port {port}, {} bytes: {:02x?}",
                packet.len(),
                &packet[..54]
            );
            assert_eq!(
                (got, reason),
                (action(verdict), verdict.without_worker().reason()),
                "{place}"
            );
            assert_eq!(out.len(), bytes.len(), "{place}");
            assert!(out == bytes, "{place}");
            assert_eq!(reason, Reason::Forwarded, "{place}");
            checks::packet(&packet, &out, verdict);
        }
    }
}

/// An error about what a worker has sent, with so many bytes quoted.
fn error_to_worker(quoted: usize) -> Vec<u8> {
    let sent = Segment {
        macs: ([0; 6], [0; 6]),
        source: (VIP.0, WORKER_PORT),
        destination: ([10, 203, 3, 1], 50_000),
        flags: Flags::ACK,
        ttl: 1,
        payload: vec![0x5a; quoted],
    };
    ErrorMessage {
        macs: ([2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 10]),
        source: [192, 0, 2, 1],
        destination: VIP.0,
        kind: (3, 4),
        rest: [0, 0, 5, 0],
        ttl: 64,
        quote: sent.bytes()[14..].to_vec(),
    }
    .bytes()
}

/// Its TCP reads one buffer. Only a fragmented sender's error is so long, and the stack does nothing to it.
#[test]
fn a_worker_gets_errors_in_one_buffer_only() {
    pin(INGRESS.cpu as usize);
    let mut world = World::of_every_mode();
    let interface = Interface {
        xsk_base: 0,
        queues: 1,
    };
    world.interfaces = vec![(INGRESS.ifindex, interface)];
    let mut kernel = Kernel::load(&world);
    let mut check = |quoted, verdict: Verdict| {
        let frame = error_to_worker(quoted);
        let (got, reason, out) = kernel.run(&frame);
        assert_eq!(
            (got, reason),
            (action(verdict), verdict.without_worker().reason())
        );
        assert!(out == frame);
    };
    let worker = Verdict::Worker {
        slot: 0,
        part: Part::Connection,
    };
    check(8, worker);
    check(PAYLOAD, Verdict::Pass(Reason::WorkerIcmp));
}
