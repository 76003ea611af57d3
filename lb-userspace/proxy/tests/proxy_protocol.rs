//! The PROXY protocol on the wire, towards servers and from another balancer.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_proxy::{
    Access, ClientAddr, ConnectionLimits, HeaderMode, Kind, Prefix, ProxyProtocol, Service,
    proxy_header,
};
use support::{Edge, Wire, forwarding, origin, run, service, until};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What a server was told at the start of each connection, and the requests on it.
type Told = Rc<RefCell<Vec<(String, Vec<support::Message>)>>>;

/// A server that wants a line of version 1 before the first request.
async fn informed() -> (SocketAddr, Told) {
    let told = Told::default();
    let seen = Rc::clone(&told);
    let address = origin(move |mut wire, number| {
        let seen = Rc::clone(&seen);
        async move {
            let line = line(&mut wire).await?;
            seen.borrow_mut().resize(number + 1, Default::default());
            seen.borrow_mut()[number].0 = line;
            loop {
                let request = wire.message().await?;
                let close = request.path() == "/close";
                seen.borrow_mut()[number].1.push(request);
                wire.send(OK).await?;
                if close {
                    return None;
                }
            }
        }
    })
    .await;
    (address, told)
}

async fn line(wire: &mut Wire) -> Option<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(wire.exactly(1).await?);
    }
    String::from_utf8(line).ok()
}

fn local(client: &Wire) -> SocketAddr {
    client.0.get_ref().local_addr().unwrap()
}

#[test]
fn each_client_has_connections_of_its_own_that_name_it() {
    run(async {
        let (server, told) = informed().await;
        let mut service = service(&[server]);
        forwarding(&mut service).proxy_protocol = Some(ProxyProtocol::V1);
        let edge = Edge::start(service).await;
        let mut expected = Vec::new();
        for _ in 0..3 {
            let mut client = edge.client().await;
            for _ in 0..2 {
                assert_eq!(client.get("/", "").await.unwrap().status(), 200);
            }
            let (from, to) = (local(&client).port(), edge.address.port());
            expected.push((format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n"), 2));
        }
        let told: Vec<_> = told
            .borrow()
            .iter()
            .map(|(line, requests)| (line.clone(), requests.len()))
            .collect();
        assert_eq!(told, expected);
        assert_eq!(edge.counters().pool_reused.get(), 0);
    });
}

#[test]
fn a_connection_that_named_a_client_ends_with_it_and_the_client_with_it() {
    run(async {
        let (server, told) = informed().await;
        let mut service = service(&[server]);
        forwarding(&mut service).proxy_protocol = Some(ProxyProtocol::V1);
        let edge = Edge::start(service).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/close", "").await.unwrap().status(), 200);
        assert!(client.at_end().await, "it dials again");
        assert_eq!(
            edge.client().await.get("/", "").await.unwrap().status(),
            200
        );
        assert_eq!(told.borrow().len(), 2);
    });
}

/// A service that other balancers may speak for their clients to, from this network.
async fn behind(network: &str, change: impl FnOnce(&mut Service)) -> (Edge, Told) {
    let (server, told) = informed().await;
    let mut service = service(&[server]);
    forwarding(&mut service).proxy_protocol = Some(ProxyProtocol::V1);
    forwarding(&mut service).headers.mode = HeaderMode::XForwardedFor;
    let from = Prefix::new(network.parse().unwrap(), 8).unwrap();
    service.entrance.proxy_header = Some(Access::new([from], []));
    change(&mut service);
    (Edge::start(service).await, told)
}

fn header(version: ProxyProtocol, peer: &str) -> Vec<u8> {
    let client = ClientAddr {
        peer: peer.parse().unwrap(),
        local: "198.51.100.1:443".parse().unwrap(),
    };
    proxy_header(version, Some(client))
}

#[test]
fn the_address_learnt_is_the_clients_for_servers_and_headers() {
    run(async {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let (edge, told) = behind("127.0.0.0", |_| {}).await;
            let mut client = edge.client().await;
            // In one segment with the request, of which no byte may be lost.
            let first = [
                &header(version, "192.0.2.7:1234")[..],
                b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            ];
            client.send(first.concat()).await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 200);
            let told = told.borrow();
            let (line, requests) = &told[0];
            assert_eq!(line, "PROXY TCP4 192.0.2.7 198.51.100.1 1234 443\r\n");
            assert_eq!(
                requests[0].all("x-forwarded-for"),
                ["192.0.2.7"],
                "{version:?}"
            );
        }
    });
}

#[test]
fn a_balancer_may_speak_for_itself() {
    run(async {
        let (edge, told) = behind("127.0.0.0", |_| {}).await;
        let mut client = edge.client().await;
        client
            .send(proxy_header(ProxyProtocol::V2, None))
            .await
            .unwrap();
        assert_eq!(client.get("/", "").await.unwrap().status(), 200);
        let (from, to) = (local(&client).port(), edge.address.port());
        assert_eq!(
            told.borrow()[0].0,
            format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n")
        );
    });
}

#[test]
fn a_header_is_required_and_only_from_those_who_may_send_it() {
    run(async {
        let (edge, told) = behind("127.0.0.0", |service| {
            service.timeouts.request_head = Duration::from_millis(50);
        })
        .await;
        let mut bare = edge.client().await;
        assert_eq!(bare.get("/", "").await, None);
        let mut silent = edge.client().await;
        assert!(silent.at_end().await);
        let mut broken = edge.client().await;
        broken
            .send("PROXY TCP4 nobody nowhere 1 2\r\n")
            .await
            .unwrap();
        assert_eq!(broken.get("/", "").await, None);
        assert_eq!(edge.counters().errors(Kind::ProxyHeader), 3);
        assert!(told.borrow().is_empty());

        let (edge, told) = behind("10.0.0.0", |_| {}).await;
        let mut stranger = edge.client().await;
        let forged = header(ProxyProtocol::V1, "10.0.0.1:1");
        let _ = stranger.send(forged).await;
        assert!(stranger.at_end().await);
        assert_eq!(edge.counters().errors(Kind::Denied), 1);
        assert!(told.borrow().is_empty());
    });
}

#[test]
fn a_header_where_none_is_asked_for_is_no_request() {
    run(async {
        let (server, _) = informed().await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        client
            .send(header(ProxyProtocol::V1, "10.0.0.1:1"))
            .await
            .unwrap();
        let answer = client.get("/", "").await;
        assert!(answer.is_none_or(|answer| answer.status() == 400));
        assert_eq!(edge.counters().upstream_opened.get(), 0);
    });
}

#[test]
fn lists_and_limits_go_by_the_address_learnt() {
    run(async {
        let denied = Prefix::new("192.0.2.0".parse().unwrap(), 24).unwrap();
        let (edge, _) = behind("127.0.0.0", |service| {
            service.entrance.access = vec![Arc::new(Access::new([], [denied]))];
            let one = std::num::NonZeroU32::new(1);
            service.entrance.connections = Some(ConnectionLimits::new(None, one));
        })
        .await;
        let connect = async |peer: &str| {
            let mut client = edge.client().await;
            client.send(header(ProxyProtocol::V2, peer)).await.unwrap();
            let answer = client.get("/", "").await;
            answer.map(|_| client)
        };
        assert!(connect("192.0.2.9:1").await.is_none());
        assert_eq!(edge.counters().errors(Kind::Denied), 1);
        let first = connect("198.51.100.9:1").await;
        let other = connect("198.51.100.10:1").await;
        assert!(first.is_some() && other.is_some());
        assert!(connect("198.51.100.9:2").await.is_none());
        assert_eq!(edge.counters().errors(Kind::ConnectionLimit), 1);
        drop(first);
        until(|| edge.ended.borrow().len() == 3).await;
        assert!(connect("198.51.100.9:3").await.is_some());
    });
}
