//! Nobody is ever someone else: rules A1 to A9 against a server that binds identity to the connection.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::collections::HashMap;

use lb_proxy::{HeaderMode, HeaderPolicy, Inbound, Kind};
use support::iis::Iis;
use support::{Edge, Wire, forwarding, origin, run, service, until};

const T1: &str = "Authorization: NTLM T1-alice\r\n";
const T3: &str = "Authorization: NTLM T3-alice\r\n";

async fn log_in(client: &mut Wire) {
    let challenge = client.get("/", T1).await.unwrap();
    assert_eq!(challenge.status(), 401);
    assert_eq!(challenge.all("www-authenticate"), ["NTLM T2"]);
    let welcome = client.get("/", T3).await.unwrap();
    assert_eq!((welcome.status(), welcome.text()), (200, "alice"));
    assert_eq!(welcome.get("persistent-auth"), Some("true"));
}

/// A1: three requests, one upstream connection, one login.
#[test]
fn a_login_holds_for_the_connection() {
    run(async {
        let (server, iis) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        let mut alice = edge.client().await;
        log_in(&mut alice).await;
        for _ in 0..2 {
            let answer = alice.get("/", "").await.unwrap();
            assert_eq!((answer.status(), answer.text()), (200, "alice"));
        }
        assert_eq!(iis.connections(), [0, 0, 0, 0]);
        assert_eq!(iis.logins.get(), 1);
        assert_eq!(edge.counters().persistent_auth_true.get(), 1);
    });
}

/// A1: the credential gets a connection that carried nobody else's request, although one is idle.
#[test]
fn a_credential_goes_on_a_fresh_connection() {
    for scheme in [
        "NTLM",
        "ntlm",
        "Negotiate",
        "NEGOTIATE",
        "Nego2",
        "Kerberos",
    ] {
        run(async move {
            let (server, iis) = Iis::start().await;
            let edge = Edge::start(service(&[server])).await;
            let basic = "Authorization: Basic bob\r\n";
            edge.client().await.get("/", basic).await.unwrap();
            edge.client().await.get("/", basic).await.unwrap();
            let credential = format!("{basic}Authorization: {scheme} token\r\n");
            edge.client().await.get("/", &credential).await.unwrap();
            assert_eq!(iis.connections(), [0, 0, 1], "{scheme}");
            assert_eq!(edge.counters().pool_reused.get(), 1);
        });
    }
}

/// A2: what the response says pins as well, and takes the connection out of the pool.
#[test]
fn a_challenge_or_persistent_auth_pins_the_connection_it_came_on() {
    for (path, lines, pinned) in [
        ("/", "", 1),
        ("/basic", "", 0),
        ("/", "Authorization: Basic bob\r\n", 0),
    ] {
        run(async move {
            let (server, iis) = Iis::start().await;
            let edge = Edge::start(service(&[server])).await;
            let mut first = edge.client().await;
            first.get(path, lines).await.unwrap();
            assert_eq!(
                edge.counters().upstream_pinned.get(),
                pinned,
                "{path} {lines}"
            );
            // Another client gets the same connection only if it wasn't pinned.
            edge.client().await.get("/basic", "").await.unwrap();
            let second = usize::try_from(pinned).unwrap();
            assert_eq!(iis.connections(), [0, second], "{path} {lines}");
            // The first client goes on where it was.
            first.get("/basic", "").await.unwrap();
            assert_eq!(iis.connections().last(), Some(&0));
        });
    }
}

/// A2: a server that calls the connection authenticated without having been asked.
#[test]
fn persistent_auth_alone_pins() {
    run(async {
        let server = origin(|mut wire, number| async move {
            loop {
                wire.message().await?;
                let answer = format!("Persistent-Auth: true\r\nContent-Length: 1\r\n\r\n{number}");
                wire.send(format!("HTTP/1.1 200 OK\r\n{answer}")).await?;
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let (mut first, mut second) = (edge.client().await, edge.client().await);
        for _ in 0..2 {
            assert_eq!(first.get("/", "").await.unwrap().text(), "0");
            assert_eq!(second.get("/", "").await.unwrap().text(), "1");
        }
    });
}

/// A3: the client's end is the upstream connection's end, also while a response is awaited.
#[test]
fn client_and_upstream_end_together() {
    run(async {
        let (server, iis) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        let mut alice = edge.client().await;
        log_in(&mut alice).await;
        assert_eq!(iis.open.get(), 1);
        drop(alice);
        until(|| iis.open.get() == 0).await;

        let hung = origin(|mut wire, _| async move {
            wire.message().await?;
            assert!(wire.at_end().await);
            std::future::pending().await
        })
        .await;
        let edge = Edge::start(service(&[hung])).await;
        let mut bob = edge.client().await;
        bob.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{T1}\r\n"))
            .await;
        until(|| edge.counters().upstream_pinned.get() == 1).await;
        drop(bob);
        until(|| edge.ended.borrow().len() == 1).await;
    });
}

/// A4: the response is finished, then the client's connection closes; said beforehand if the server said so.
#[test]
fn an_upstream_close_closes_the_client() {
    run(async {
        let (server, iis) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        let mut alice = edge.client().await;
        log_in(&mut alice).await;
        let last = alice.get("/close", "").await.unwrap();
        assert_eq!((last.status(), last.text()), (200, "alice"));
        assert_eq!(last.get("connection"), Some("close"));
        assert!(alice.at_end().await);
        assert_eq!(iis.opened.get(), 1);
    });
}

/// A4: a close without a word closes an idle client, and a request is not replayed elsewhere.
#[test]
fn a_silent_upstream_close_replays_nothing() {
    run(async {
        let server = origin(|mut wire, number| async move {
            assert_eq!(number, 0, "a second connection");
            wire.message().await?;
            let persistent = "Persistent-Auth: true\r\nContent-Length: 0\r\n\r\n";
            wire.send(format!("HTTP/1.1 200 OK\r\n{persistent}"))
                .await?;
            // The second request dies with the connection.
            wire.message().await.map(drop)
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut alice = edge.client().await;
        alice.get("/", T1).await.unwrap();
        let failed = alice.get("/", "").await.unwrap();
        assert_eq!(failed.status(), 502);
        assert_eq!(failed.get("connection"), Some("close"));
        assert!(alice.at_end().await);
        assert_eq!(edge.counters().upstream_opened.get(), 1);
        assert_eq!(edge.counters().errors(Kind::UpstreamBroken), 1);
    });
}

/// A4: a client that is idle when its upstream connection goes learns at once.
#[test]
fn an_idle_client_is_closed_with_its_upstream() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            let persistent = "Persistent-Auth: true\r\nContent-Length: 0\r\n\r\n";
            wire.send(format!("HTTP/1.1 200 OK\r\n{persistent}")).await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut alice = edge.client().await;
        assert_eq!(alice.get("/", T1).await.unwrap().status(), 200);
        assert!(alice.at_end().await);
        until(|| edge.ended.borrow().len() == 1).await;
        assert!(edge.ended.borrow()[0].is_ok());
    });
}

/// A5: a pinned client isn't moved to another server; if its own is down it has to come again.
#[test]
fn a_pinned_client_stays_or_is_disconnected() {
    run(async {
        let (one, _) = Iis::start().await;
        let (two, other) = Iis::start().await;
        let edge = Edge::start(service(&[one, two])).await;
        let first = support::server(edge.proxy.service(), 0);
        let mut alice = edge.client().await;
        log_in(&mut alice).await;
        for _ in 0..4 {
            assert_eq!(alice.get("/", "").await.unwrap().text(), "alice");
        }
        assert_eq!(other.opened.get(), 0);
        first.set_up(false);
        assert_eq!(alice.get("/", "").await, None);
        assert_eq!(edge.counters().errors(Kind::IdentityLost), 1);
        log_in(&mut edge.client().await).await;
        assert_eq!(other.opened.get(), 1);
    });
}

/// A6: requests without such credentials share connections.
#[test]
fn clean_requests_share_connections() {
    run(async {
        let (server, iis) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        for user in ["ann", "ben", "cat"] {
            let line = format!("Authorization: Basic {user}\r\n");
            let answer = edge.client().await.get("/", &line).await.unwrap();
            assert_eq!(answer.text(), user);
        }
        assert_eq!(iis.opened.get(), 1);
        assert_eq!(edge.counters().pool_reused.get(), 2);
        assert_eq!(edge.counters().upstream_pinned.get(), 0);
    });
}

/// A8: several challenges stay several lines, in their order.
#[test]
fn challenges_stay_separate_lines() {
    run(async {
        let (server, _) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        let answer = edge.client().await.get("/", "").await.unwrap();
        assert_eq!(answer.all("www-authenticate"), ["Negotiate", "NTLM"]);
    });
}

/// A9: users by NTLM and by one leg, and a stranger, interleaved over few servers: nobody is ever someone else.
#[test]
fn a_thousand_requests_and_no_wrong_identity() {
    for servers in [1, 2] {
        run(async move {
            let mut addresses = Vec::new();
            for _ in 0..servers {
                addresses.push(Iis::start().await.0);
            }
            let edge = Edge::start(service(&addresses)).await;
            let mut random = Random(servers);
            let mut ntlm: HashMap<&str, Wire> = HashMap::new();
            let (mut right, mut refused) = (0, 0);
            for _ in 0..1000 {
                let user = ["alice", "bob", "carol", "dave"][random.below(4)];
                match random.below(3) {
                    0 => {
                        let line = format!("Authorization: Negotiate ONE-{user}\r\n");
                        let mut client = edge.client().await;
                        assert_eq!(client.get("/", &line).await.unwrap().text(), user);
                        assert_eq!(client.get("/", "").await.unwrap().text(), user);
                        right += 1;
                    }
                    1 => {
                        if !ntlm.contains_key(user) {
                            let mut client = edge.client().await;
                            for leg in ["T1", "T3"] {
                                let line = format!("Authorization: NTLM {leg}-{user}\r\n");
                                client.get("/", &line).await.unwrap();
                            }
                            ntlm.insert(user, client);
                        }
                        let client = ntlm.get_mut(user).unwrap();
                        assert_eq!(client.get("/", "").await.unwrap().text(), user);
                        right += 1;
                    }
                    _ => {
                        let answer = edge.client().await.get("/", "").await.unwrap();
                        assert_eq!((answer.status(), answer.text()), (401, ""));
                        refused += 1;
                    }
                }
            }
            assert_eq!(right + refused, 1000);
            assert!(right > 500 && refused > 200, "{right} {refused}");
        });
    }
}

/// V2: with a `Via` the server ends the login, says so, and it is counted.
#[test]
fn via_ends_logins_and_is_noticed() {
    run(async {
        let (server, iis) = Iis::start().await;
        let mut settings = service(&[server]);
        forwarding(&mut settings).headers = HeaderPolicy {
            mode: HeaderMode::XClientSideVia,
            inbound: Inbound::Strip,
            ..HeaderPolicy::exchange()
        };
        let edge = Edge::start(settings).await;
        let mut alice = edge.client().await;
        alice.get("/", T1).await.unwrap();
        let welcome = alice.get("/", T3).await.unwrap();
        assert_eq!(welcome.get("persistent-auth"), Some("false"));
        assert_eq!(alice.get("/", "").await.unwrap().status(), 401);
        assert_eq!(edge.counters().persistent_auth_false.get(), 1);
        let seen = iis.seen.borrow();
        assert_eq!(seen[0].1.all("via"), ["1.1 lb"]);
        let side = format!("-> {}", edge.address);
        assert!(seen[0].1.get("x-clientside").unwrap().ends_with(&side));
    });
}

/// V1: with the policy of Exchange a client's own `Via` does no harm.
#[test]
fn inbound_via_does_not_end_logins() {
    run(async {
        let (server, iis) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        let mut alice = edge.client().await;
        let via = "Via: 1.1 hotel\r\n";
        alice.get("/", &format!("{via}{T1}")).await.unwrap();
        alice.get("/", &format!("{via}{T3}")).await.unwrap();
        assert_eq!(alice.get("/", via).await.unwrap().text(), "alice");
        assert!(
            iis.seen
                .borrow()
                .iter()
                .all(|(_, r)| r.get("via").is_none())
        );
    });
}

/// Numbers that look random and are the same in each run (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % limit).unwrap()
    }
}
