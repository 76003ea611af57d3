//! What comes to the tuple of a connection that has moved, or had: a SYN of the next connection, and segments that are late.

use std::net::{IpAddr, SocketAddr, TcpStream};

use lb_handover::Reinjector;
use lb_tcp::{Flags, FlowKey, Header, Seq};
use lb_tests::{
    address::{CLIENT, ipv6},
    moves::{
        Conditions, Counts, Outcome, Running,
        client::{PATIENCE, carry, end},
        request::{Kind, Order, Request},
        while_serving,
    },
    world::eventually,
};
use nix::sys::socket::{setsockopt, sockopt::TcpRepair};
use socket2::{Domain, Socket, Type};

const REQUEST: Request = Request {
    kind: Kind::Download,
    order: Order::Right,
    server_closes: true,
    length: 200_000,
    move_at: 0,
};

/// The map sends the SYN to the kernel, whose listener takes it beside the socket in TIME-WAIT.
#[test]
fn the_next_connection_between_the_same_ends_is_the_kernels() {
    let ((), served) = while_serving(Conditions::default(), |running| {
        for server in running.addresses {
            let first = once(running, server, REQUEST);
            assert!(first.moved && !first.begun, "{first:?}");
            let second = once(running, server, REQUEST);
            assert!(second.begun, "{second:?}");
        }
        Ok(())
    })
    .unwrap();
    assert_eq!((served.resets(), served.refused()), (0, 0), "{served:?}");
}

/// Once the map has forgotten them, the ends are the engine's again.
#[test]
fn a_later_connection_between_the_same_ends_is_the_engines() {
    let ((), served) = while_serving(Conditions::default(), |running| {
        let server = running.addresses[0];
        let watched = Request {
            order: Order::Watched,
            ..REQUEST
        };
        assert!(once(running, server, watched).moved);
        running.forgotten.recv_timeout(PATIENCE).unwrap();
        let second = once(running, server, REQUEST);
        assert!(!second.begun, "{second:?}");
        Ok(())
    })
    .unwrap();
    assert_eq!((served.resets(), served.refused()), (0, 0), "{served:?}");
}

/// The client forgot the first connection without a word, as one that was switched off. Its SYN meets the kernel's socket,
/// which asks what that is about (RFC 9293 §3.10.7.4) and learns that its connection is over.
#[test]
fn the_syn_of_a_client_that_forgot_meets_its_socket() {
    while_serving(Conditions::default(), |running| {
        for server in running.addresses {
            let request = Request {
                server_closes: false,
                ..REQUEST
            };
            let forgetful = running.in_client(|| {
                let stream = connect(server);
                carry(&stream, request).unwrap();
                // In repair, close says nothing.
                setsockopt(&stream, TcpRepair, &1).unwrap();
                drop(stream);
            });
            forgetful?;
            let second = once(running, server, request);
            assert!(second.begun, "{second:?}");
        }
        Ok(())
    })
    .unwrap();
}

/// A late segment of a connection that the map has forgotten comes to the engine, which gives it back. The kernel's socket is in
/// TIME-WAIT and acknowledges it; to the client, which knows no connection any more, that is news, so it resets.
#[test]
fn a_late_segment_of_a_forgotten_connection_is_the_kernels() {
    let ((), served) = while_serving(Conditions::default(), |running| {
        for (count, server) in (1..).zip(running.addresses) {
            let watched = Request {
                order: Order::Watched,
                ..REQUEST
            };
            once(running, server, watched);
            running.forgotten.recv_timeout(PATIENCE).unwrap();
            let client = running.lab.client();
            client.run(|| late(server))?;
            eventually("the client resets what was acknowledged", || {
                Ok(Counts::of(&client)?.get("OutRsts") >= count)
            })?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(served.engine.tcp.out_rsts, 0);
    assert_eq!(served.edge.get("OutRsts"), 0, "{served:?}");
    assert!(served.engine.moves.reinjected > 0, "{served:?}");
}

/// One transfer between the same ends as the last.
fn once(running: &Running<'_>, server: SocketAddr, request: Request) -> Outcome {
    let client = running.in_client(|| {
        let stream = connect(server);
        carry(&stream, request).unwrap();
        end(&stream, request).unwrap();
    });
    client.unwrap();
    let outcomes = running.outcomes.iter();
    // One whose client forgot it ends when it is asked.
    let mut outcomes = outcomes.filter(|outcome| outcome.result.is_ok());
    outcomes.next().unwrap()
}

fn connect(server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&client_of(server).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

/// The client's end.
fn client_of(server: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match server.ip() {
        IpAddr::V4(_) => CLIENT.into(),
        IpAddr::V6(_) => ipv6(CLIENT).into(),
    };
    SocketAddr::new(ip, PORT)
}

/// Sends a segment that can't be of today.
fn late(server: SocketAddr) {
    let flow = FlowKey {
        local: server,
        remote: client_of(server),
    };
    let header = Header {
        seq: Seq(1),
        ack: Seq(1),
        flags: Flags::ACK | Flags::PSH,
        window: 1000,
        options: lb_tcp::Options::default(),
    };
    Reinjector::new()
        .unwrap()
        .inject(&flow, &header, b"late")
        .unwrap();
}

/// Of the client.
const PORT: u16 = 4242;
