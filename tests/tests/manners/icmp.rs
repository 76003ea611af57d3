//! ICMP errors reach whom they are for, and clients that can't be served are told.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
};

use lb_ebpf::fixtures::{Address, ErrorMessage, Segment, edited};
use lb_ebpf::tcp::Flags;
use lb_tests::{
    address::{CLIENT, SNAT, VIP_SMTP},
    forwarding::{self, Family, Forward, Stage},
    witness,
    world::eventually,
};

use crate::wire::{Capture, send_icmp};

/// Nobody listens there, on no server.
const NOBODY: u16 = 7001;
/// Less than any link of the lab takes, and as much as each must (RFC 8200 §5).
const MTU: u16 = 1280;

/// The server's kernel says "port unreachable" to the address that NAT gave to the client; the client's kernel hears of
/// its own socket.
#[test]
fn a_client_is_told_that_nobody_listens() {
    for family in Family::ALL {
        for forward in [Forward::Nat, Forward::SourceKept] {
            let listen = SocketAddr::new(family.of(VIP_SMTP), NOBODY);
            let keys = match forward {
                Forward::Nat => "source = \"nat\"",
                _ => "source = \"client\"",
            };
            let mut text = forwarding::configuration(family, forward, 1);
            text.push_str(&forwarding::service(
                "nobody",
                "udp",
                listen,
                keys,
                (family, 1),
            ));
            let mut stage = Stage::with(family, forward, 1, &text).unwrap();
            // Before, the edge itself would say so: the address is its own.
            stage.until_served().unwrap();
            let socket = witness::datagram_socket(listen).unwrap();
            socket.connect(listen).unwrap();
            stage
                .balancer()
                .eventually(&format!("{family:?} {forward:?}: refused"), || {
                    // The error may be that of an earlier datagram, which is then not sent.
                    let sent = socket.send(b"anybody there?").map(drop);
                    let heard = sent.and_then(|()| socket.recv(&mut [0; 100]).map(drop));
                    Ok(heard.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
                })
                .unwrap();
        }
    }
}

/// A router on the client's side says that what the server sends is too big: the server's kernel believes it, for the
/// message is about its own connection, and keeps to it.
#[test]
fn a_server_is_told_that_less_fits() {
    for family in Family::ALL {
        for forward in [
            Forward::Nat,
            Forward::SourceKept,
            Forward::Dsr,
            Forward::Ipip,
            Forward::Gue,
        ] {
            let stage = Stage::start(family, forward, 1).unwrap();
            let peer = match forward {
                Forward::Nat => family.of(SNAT),
                _ => family.of(CLIENT),
            };
            assert_eq!(route_mtu(&stage, peer), None, "{family:?} {forward:?}");
            let capture = Capture::start(&stage.world().lab().client());
            let connection = witness::connect(family.service()).unwrap();
            let message = too_big(&capture, &connection);
            let client = stage.world().lab().client();
            send_icmp(&client, family, &message, family.service().ip());
            eventually(&format!("{family:?} {forward:?}: the server knows"), || {
                Ok(route_mtu(&stage, peer) == Some(MTU))
            })
            .unwrap();
            // And the connection goes on.
            let seen = witness::finish(connection).unwrap();
            assert_eq!(seen.peer.ip(), peer, "{family:?} {forward:?}");
        }
    }
}

/// Of the way from the server to `peer`, if its kernel has learnt one.
fn route_mtu(stage: &Stage, peer: IpAddr) -> Option<u16> {
    let pool = stage.world().lab().pool(1);
    let source = stage.family().service().ip();
    let mut command = pool.command("ip");
    command.args(["route", "get", &peer.to_string()]);
    if stage.world().lab().pool(1) == pool && owns(stage, source) {
        command.args(["from", &source.to_string()]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace();
    words.find(|word| *word == "mtu")?;
    words.next()?.parse().ok()
}

/// Whether the server has the virtual address itself.
fn owns(stage: &Stage, address: IpAddr) -> bool {
    let mut command = stage.world().lab().pool(1).command("ip");
    let output = command
        .args(["address", "show", "dev", "lo"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.contains(&address.to_string())
}

/// The message of a router for which the server's next segment of `connection` is too big.
fn too_big(capture: &Capture, connection: &TcpStream) -> Vec<u8> {
    let (client, service) = (
        connection.local_addr().unwrap(),
        connection.peer_addr().unwrap(),
    );
    let header = if client.is_ipv4() { 20 } else { 40 };
    let tcp = 14 + header;
    let ports = [service.port().to_be_bytes(), client.port().to_be_bytes()].concat();
    let syn_ack = capture.find("SYN-ACK", |frame| {
        frame.len() >= tcp + 20
            && frame[tcp..tcp + 4] == ports[..]
            && frame[tcp + 13] & 0x12 == 0x12
    });
    let field =
        |at: usize| u32::from_be_bytes(core::array::from_fn(|index| syn_ack[tcp + at + index]));
    // A kernel takes errors about what it has in flight only (RFC 5927 §4.1); after the SYN that is the next byte.
    let sequence = field(4).wrapping_add(1).to_be_bytes();
    let frame = match (client.ip(), service.ip()) {
        (IpAddr::V4(to), IpAddr::V4(from)) => error_about(
            from.octets(),
            to.octets(),
            (service, client),
            (3, 4),
            &sequence,
        ),
        (IpAddr::V6(to), IpAddr::V6(from)) => error_about(
            from.octets(),
            to.octets(),
            (service, client),
            (2, 0),
            &sequence,
        ),
        _ => panic!("of two families"),
    };
    frame[tcp..].to_vec()
}

fn error_about<A: Address>(
    from: A,
    to: A,
    (service, client): (SocketAddr, SocketAddr),
    kind: (u8, u8),
    sequence: &[u8],
) -> Vec<u8> {
    let segment = Segment {
        macs: ([0; 6], [0; 6]),
        source: (from, service.port()),
        destination: (to, client.port()),
        flags: Flags::ACK,
        ttl: 60,
        payload: vec![0; 1400],
    };
    let segment = segment.bytes();
    let tcp = segment.len() - 1400 - 20;
    let quoted = edited(segment, tcp + 4, sequence);
    let [high, low] = MTU.to_be_bytes();
    ErrorMessage {
        macs: ([0; 6], [0; 6]),
        source: to,
        destination: from,
        kind,
        rest: [0, 0, high, low],
        ttl: 64,
        quote: quoted[14..14 + 500].to_vec(),
    }
    .bytes()
}

/// A connection for which there is no port fails at once, and the others go on.
#[test]
fn a_client_is_told_that_there_is_no_port() {
    for family in Family::ALL {
        // Each CPU has one port to the only server.
        let ports = u16::try_from(possible_cpus().next_power_of_two()).unwrap();
        let mut text = forwarding::nat(family, 40_000, 40_000 + ports - 1);
        let service = family.service();
        let keys = "source = \"nat\"";
        text.push_str(&forwarding::service(
            "tcp",
            "tcp",
            service,
            keys,
            (family, 1),
        ));
        let mut stage = Stage::with(family, Forward::Nat, 1, &text).unwrap();
        let mut connections = vec![];
        stage
            .balancer()
            .eventually("the first connection", || {
                connections.extend(witness::connect(service).ok());
                Ok(!connections.is_empty())
            })
            .unwrap();
        // The first of those that share its CPU is refused, at the latest when all CPUs have had theirs.
        let refused = (0..ports).find_map(|_| match witness::connect(service) {
            Ok(connection) => {
                connections.push(connection);
                None
            }
            Err(error) => Some(error),
        });
        let refused = refused.expect("more connections than ports");
        let cause = refused.root_cause().downcast_ref::<std::io::Error>();
        let kind = cause.map(std::io::Error::kind);
        assert_eq!(kind, Some(ErrorKind::HostUnreachable), "{refused:#}");
        assert!(stage.counter("snat_exhausted").unwrap() > 0);
        for connection in connections {
            assert_eq!(witness::finish(connection).unwrap().server, 1);
        }
    }
}

/// As `lb` counts them, to deal out ports.
fn possible_cpus() -> usize {
    aya::util::nr_cpus().unwrap()
}
