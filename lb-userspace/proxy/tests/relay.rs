//! `mode = "tcp"` on the wire: who speaks first, how connections end, and what is between the two sides.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_proxy::tls::{self, Alpn, ServerOptions, ServerTls};
use lb_proxy::{
    Access, Balancing, Bulk, BulkThresholds, Carriage, ClientAddr, ClientTimeouts, Counter,
    Counters, Entrance, Kind, Method, Prefix, ProxyProtocol, Relay, RelayService, Server,
    proxy_header,
};
use rustls_pki_types::ServerName;
use support::{Carrier, Told, nobody, origin, run, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

fn service(addresses: &[SocketAddr]) -> RelayService {
    let server = |address: &SocketAddr| {
        Arc::new(Server::new(address.to_string(), *address, NonZeroU16::MIN))
    };
    RelayService {
        name: "mail".to_owned(),
        tls: None,
        entrance: Entrance::default(),
        timeouts: ClientTimeouts::default(),
        servers: addresses.iter().map(server).collect(),
        balancing: Balancing::default(),
        upstream_tls: None,
        proxy_protocol: None,
        connect_timeout: Duration::from_secs(5),
        counters: Arc::new(Counters::default()),
        bytes_in: Counter::default(),
        bytes_out: Counter::default(),
        bulk: None,
    }
}

/// A relay that accepts connections.
struct Edge {
    address: SocketAddr,
    relay: Rc<Relay>,
    told: Told,
}

impl Edge {
    async fn start(service: RelayService) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Relay::new(Arc::new(service));
        let told = Told::default();
        let (accepting, tell) = (Rc::clone(&relay), Rc::clone(&told));
        spawn_local(async move {
            for number in 0.. {
                let Ok((stream, peer)) = listener.accept().await else {
                    return;
                };
                let told = Rc::clone(&tell);
                let carrier: Rc<dyn Carriage> = Rc::new(Carrier { number, told });
                let client = ClientAddr {
                    peer,
                    local: address,
                };
                spawn_local(Rc::clone(&accepting).serve_on(Some(carrier), stream, client));
            }
        });
        Self {
            address,
            relay,
            told,
        }
    }

    async fn client(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn errors(&self, kind: Kind) -> u64 {
        self.relay.service().counters.errors(kind)
    }
}

/// A server that speaks first and then says everything back; at the client's end it says goodbye.
async fn mail(name: &'static str) -> SocketAddr {
    origin(move |wire, _| async move {
        let mut stream = wire.0.into_inner();
        stream
            .write_all(format!("220 {name}\r\n").as_bytes())
            .await
            .ok()?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.ok()?;
        write.write_all(b"221 bye\r\n").await.ok()?;
        write.shutdown().await.ok()
    })
    .await
}

async fn line(stream: &mut TcpStream) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn the_server_speaks_first_and_a_half_closed_connection_gets_its_answer() {
    run(async {
        let edge = Edge::start(service(&[mail("ex1").await])).await;
        let mut client = edge.client().await;
        assert_eq!(line(&mut client).await, "220 ex1\r\n");
        client.write_all(b"NOOP\r\n").await.unwrap();
        assert_eq!(line(&mut client).await, "NOOP\r\n");
        client.shutdown().await.unwrap();
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "221 bye\r\n");
        let service = edge.relay.service();
        until(|| service.bytes_out.get() == 9 + 6 + 9).await;
        assert_eq!(service.bytes_in.get(), 6);
        assert_eq!(service.counters.upstream_opened.get(), 1);
    });
}

#[test]
fn large_data_crosses_unchanged_and_in_both_directions() {
    run(async {
        let edge = Edge::start(service(&[mail("ex1").await])).await;
        let mut client = edge.client().await;
        line(&mut client).await;
        let data: Vec<u8> = (0..3_000_017_u32)
            .map(|place| (place % 251) as u8)
            .collect();
        let (mut read, mut write) = client.split();
        let sending = async {
            write.write_all(&data).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let ((), received) = tokio::join!(sending, read.read_to_end(&mut got));
        received.unwrap();
        assert!(got == [&data[..], b"221 bye\r\n"].concat());
    });
}

/// Both directions together, because either is bulk for whoever carries the connection.
#[test]
fn who_carries_a_connection_is_told_once_enough_has_passed() {
    run(async {
        let mut service = service(&[mail("ex1").await]);
        service.bulk = Some(BulkThresholds {
            response: 1,
            upload: 1,
            streamed: 50_000,
            repeated: 1,
        });
        let edge = Edge::start(service).await;
        // With the greeting, the echo and the goodbye, 49,998 and 50,000 bytes.
        for (length, expected) in [(24_990, 0), (24_991, 1)] {
            let mut client = edge.client().await;
            line(&mut client).await;
            client.write_all(&vec![b'x'; length]).await.unwrap();
            let mut echo = vec![0; length];
            client.read_exact(&mut echo).await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert_eq!(edge.told.borrow().len(), expected, "{length}");
        }
        let told = edge.told.borrow();
        assert!(
            matches!(told[..], [(1, Bulk::Streamed(50_000))]),
            "{told:?}"
        );
    });
}

#[test]
fn connections_are_spread_and_a_dead_server_is_passed_over() {
    run(async {
        let (first, second) = (mail("ex1").await, mail("ex2").await);
        let edge = Edge::start(service(&[first, nobody().await, second])).await;
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(line(&mut edge.client().await).await);
        }
        names.sort();
        assert_eq!(names.first().unwrap(), "220 ex1\r\n");
        assert_eq!(names.last().unwrap(), "220 ex2\r\n");

        let edge = Edge::start(service(&[nobody().await])).await;
        assert_eq!(edge.client().await.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(edge.errors(Kind::Connect), 1);
    });
}

#[test]
fn the_least_used_server_gets_the_next_connection() {
    run(async {
        let mut service = service(&[mail("ex1").await, mail("ex2").await]);
        service.balancing.method = Method::LeastConnections;
        let edge = Edge::start(service).await;
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut client = edge.client().await;
            held.push((line(&mut client).await, client));
        }
        let of = |name: &str| {
            held.iter()
                .filter(|(banner, _)| banner.contains(name))
                .count()
        };
        assert_eq!((of("ex1"), of("ex2")), (2, 2));
        // Those of ex1 end; it gets the next two.
        held.retain(|(banner, _)| banner.contains("ex2"));
        let first = Arc::clone(&edge.relay.service().servers[0]);
        until(|| first.load().in_use() == 0).await;
        for _ in 0..2 {
            let mut client = edge.client().await;
            assert_eq!(line(&mut client).await, "220 ex1\r\n");
            held.push((String::new(), client));
        }
    });
}

/// Both sides have TLS of their own, and the client names its protocol.
#[test]
fn tls_ends_here_and_begins_anew() {
    run(async {
        let dir = tempfile::TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(["mail.example".to_owned()]).unwrap();
        let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let name = ServerName::try_from("mail.example").unwrap();
        let mut options = ServerOptions::new(&certificate, &key);
        options.alpn = Alpn::Nothing;
        let mine = ServerTls::load(options).unwrap();
        let roots = tls::Verify::Roots(certificate);
        let theirs = tls::upstream_with(&roots, name.clone(), Alpn::Nothing).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let acceptor = mine.acceptor();
        spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.write_all(b"220 ex1\r\n").await.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).await.unwrap();
            stream
                .write_all(said.to_uppercase().as_bytes())
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut service = service(&[server]);
        service.tls = Some(mine);
        service.upstream_tls = Some(theirs.clone());
        let edge = Edge::start(service).await;

        let mut config = rustls::ClientConfig::clone(&theirs.config());
        config.alpn_protocols = vec![b"imap".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, edge.client().await).await.unwrap();
        let mut banner = [0; 9];
        stream.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"220 ex1\r\n");
        stream.write_all(b"quit\r\n").await.unwrap();
        // Half-closed by close_notify, in TLS on both sides.
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "QUIT\r\n");

        let mut plain = edge.client().await;
        plain.write_all(b"EHLO h\r\n").await.unwrap();
        until(|| edge.errors(Kind::ClientTls) == 1).await;
    });
}

#[test]
fn silence_ends_a_connection() {
    run(async {
        let mut service = service(&[mail("ex1").await]);
        service.timeouts.idle = Duration::from_millis(50);
        let edge = Edge::start(service).await;
        let mut client = edge.client().await;
        line(&mut client).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(edge.errors(Kind::Idle), 1);
    });
}

#[test]
fn a_client_that_breaks_off_leaves_no_connection_behind() {
    run(async {
        let edge = Edge::start(service(&[mail("ex1").await])).await;
        let mut client = edge.client().await;
        line(&mut client).await;
        let server = Arc::clone(&edge.relay.service().servers[0]);
        assert_eq!(server.load().in_use(), 1);
        // With a reset, for there is something left to read.
        client.write_all(b"x").await.unwrap();
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        until(|| server.load().in_use() == 0).await;
        assert_eq!(edge.errors(Kind::ClientBroken), 1);
    });
}

#[test]
fn servers_are_told_whom_a_connection_is_for() {
    run(async {
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            let mut service = service(&[mail("ex1").await]);
            service.proxy_protocol = Some(version);
            let edge = Edge::start(service).await;
            let mut client = edge.client().await;
            line(&mut client).await;
            let expected = proxy_header(
                version,
                Some(ClientAddr {
                    peer: client.local_addr().unwrap(),
                    local: edge.address,
                }),
            );
            let mut told = vec![0; expected.len()];
            client.read_exact(&mut told).await.unwrap();
            assert_eq!(told, expected, "{version:?}");
        }
    });
}

#[test]
fn another_balancer_says_whom_it_speaks_for_and_lists_go_by_that() {
    run(async {
        let mut service = service(&[mail("ex1").await]);
        let network = |text: &str| Prefix::new(text.parse().unwrap(), 8).unwrap();
        service.entrance = Entrance {
            access: vec![Arc::new(Access::new([], [network("192.0.2.0")]))],
            proxy_header: Some(Access::new([network("127.0.0.0")], [])),
            connections: None,
        };
        service.proxy_protocol = Some(ProxyProtocol::V1);
        let edge = Edge::start(service).await;
        let connect = async |peer: &str| {
            let mut client = edge.client().await;
            let speaks_for = ClientAddr {
                peer: peer.parse().unwrap(),
                local: "198.51.100.1:25".parse().unwrap(),
            };
            let header = proxy_header(ProxyProtocol::V2, Some(speaks_for));
            client.write_all(&header).await.unwrap();
            client
        };
        let mut client = connect("198.51.100.7:1234").await;
        assert_eq!(line(&mut client).await, "220 ex1\r\n");
        assert_eq!(
            line(&mut client).await,
            "PROXY TCP4 198.51.100.7 198.51.100.1 1234 25\r\n"
        );
        let mut denied = connect("192.0.2.7:1").await;
        assert_eq!(denied.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(edge.errors(Kind::Denied), 1);
    });
}

#[test]
fn a_connection_that_waits_for_a_server_does_not_outlive_a_drain() {
    run(async {
        let mut service = service(&[mail("ex1").await]);
        service.balancing.queue = lb_proxy::Queue::new(10, Duration::from_hours(1));
        let limited = Server::new("ex1", service.servers[0].address(), NonZeroU16::MIN);
        service.servers = vec![Arc::new(limited.with_limit(std::num::NonZeroU32::new(1)))];
        let edge = Edge::start(service).await;
        let mut held = edge.client().await;
        line(&mut held).await;
        let mut waiting = edge.client().await;
        until(|| edge.relay.service().balancing.queue.waiting() == 1).await;
        edge.relay.drain();
        assert_eq!(waiting.read(&mut [0]).await.unwrap(), 0);
        held.write_all(b"NOOP\r\n").await.unwrap();
        assert_eq!(
            line(&mut held).await,
            "NOOP\r\n",
            "what has a server goes on"
        );
    });
}
