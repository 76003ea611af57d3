//! Which server gets a request, as clients and servers see it: cookies, limits, the line, second attempts, draining.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lb_proxy::{
    Cookie, CookieKey, Kind, Passive, Persistence, Queue, Server, Service, Sources, Symptom,
};
use support::iis::Iis;
use support::{Edge, Message, Wire, forwarding, nobody, origin, run, service, until};

const LONG: Duration = Duration::from_mins(1);

/// A server that answers each request with its own name and keeps what it saw.
struct Named {
    address: SocketAddr,
    seen: Rc<RefCell<Vec<Message>>>,
}

impl Named {
    async fn start(name: &'static str) -> Self {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let keep = Rc::clone(&seen);
        let address = origin(move |wire, _| answer(wire, name, Rc::clone(&keep))).await;
        Self { address, seen }
    }

    fn cookies(&self) -> Vec<String> {
        let last = self.seen.borrow().last().cloned().unwrap();
        last.all("cookie").into_iter().map(str::to_owned).collect()
    }
}

async fn answer(mut wire: Wire, name: &str, seen: Rc<RefCell<Vec<Message>>>) -> Option<()> {
    while let Some(request) = wire.message().await {
        seen.borrow_mut().push(request);
        let length = name.len();
        let head = "HTTP/1.1 200 OK\r\nSet-Cookie: own=1\r\nSet-Cookie: own=2";
        wire.send(format!("{head}\r\nContent-Length: {length}\r\n\r\n{name}"))
            .await?;
    }
    Some(())
}

/// Gives the server at `index` of a service that is not yet started a limit.
fn limit(service: &mut Service, index: usize, limit: u32) {
    let servers = &mut forwarding(service).servers;
    let address = servers[index].address();
    let server = Server::new("limited", address, NonZeroU16::MIN);
    servers[index] = Arc::new(server.with_limit(NonZeroU32::new(limit)));
}

fn with_cookie(service: &mut Service) {
    let forwarding = forwarding(service);
    let key = CookieKey([1, 2]);
    let cookie = Cookie::new("lb-server", "", key, &forwarding.servers).unwrap();
    forwarding.balancing.persistence = Some(Persistence::Cookie(cookie));
}

/// Our cookie as a client would send it.
fn our_cookie(response: &Message) -> Option<String> {
    let lines = response.all("set-cookie");
    let line = lines
        .into_iter()
        .find(|line| line.starts_with("lb-server="))?;
    let (pair, attributes) = line.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; HttpOnly");
    Some(pair.to_owned())
}

#[test]
fn a_cookie_brings_a_client_back_to_its_server() {
    run(async {
        let (one, two) = (Named::start("one").await, Named::start("two").await);
        let mut service = service(&[one.address, two.address]);
        with_cookie(&mut service);
        let edge = Edge::start(service).await;
        let mut client = edge.client().await;

        let first = client.get("/", "").await.unwrap();
        let cookie = our_cookie(&first).unwrap();
        assert_eq!(first.all("set-cookie")[..2], ["own=1", "own=2"]);
        assert_eq!(client.get("/", "").await.unwrap().text(), "two");
        for _ in 0..3 {
            let lines = format!("Cookie: a=\"1;2\"; {cookie}; b=2\r\nCookie: c\r\n");
            let again = client.get("/", &lines).await.unwrap();
            assert_eq!(again.text(), first.text());
            assert_eq!(our_cookie(&again), None, "it has one");
            assert_eq!(one.cookies(), ["a=\"1;2\"; b=2", "c"]);
        }
        let lines = format!("Cookie: {cookie}\r\n");
        client.get("/", &lines).await.unwrap();
        assert!(one.cookies().is_empty());

        support::server(edge.proxy.service(), 0).set_up(false);
        let moved = client.get("/", &lines).await.unwrap();
        assert_eq!(moved.text(), "two");
        let moved = our_cookie(&moved).unwrap();
        assert_ne!(moved, cookie);
        support::server(edge.proxy.service(), 0).set_up(true);
        let stays = client.get("/", &format!("Cookie: {moved}\r\n")).await;
        assert_eq!(stays.unwrap().text(), "two");
    });
}

#[test]
fn a_login_goes_before_a_cookie() {
    run(async {
        let (first, one) = Iis::start().await;
        let (second, two) = Iis::start().await;
        let mut service = service(&[first, second]);
        with_cookie(&mut service);
        let edge = Edge::start(service).await;

        let mut stranger = edge.client().await;
        let cookie = our_cookie(&stranger.get("/", "").await.unwrap()).unwrap();
        // The cookie is that of one; the pin is on two, because one is down for a moment.
        let mut client = edge.client().await;
        support::server(edge.proxy.service(), 0).set_up(false);
        let line = "Authorization: Negotiate ONE-alice\r\n";
        let login = client.get("/", line).await.unwrap();
        let pinned_to = our_cookie(&login).unwrap();
        assert_ne!(pinned_to, cookie);
        support::server(edge.proxy.service(), 0).set_up(true);
        let next = client
            .get("/", &format!("Cookie: {cookie}\r\n"))
            .await
            .unwrap();
        assert_eq!((next.status(), next.text()), (200, "alice"));
        assert_eq!(our_cookie(&next), Some(pinned_to));
        assert_eq!(one.seen.borrow().len(), 1);
        let seen = two.seen.borrow();
        assert!(
            seen.iter()
                .all(|(_, request)| request.get("cookie").is_none())
        );
    });
}

#[test]
fn a_source_address_comes_back_to_its_server() {
    run(async {
        let (one, two) = (Named::start("one").await, Named::start("two").await);
        let mut service = service(&[one.address, two.address]);
        forwarding(&mut service).balancing.persistence =
            Some(Persistence::Source(Sources::new(LONG)));
        let edge = Edge::start(service).await;
        let mut first = edge.client().await;
        let server = first.get("/", "").await.unwrap();
        for _ in 0..3 {
            let mut other = edge.client().await;
            let again = other.get("/", "").await.unwrap();
            assert_eq!(again.text(), server.text());
            assert_eq!(our_cookie(&again), None);
        }
    });
}

#[test]
fn a_pinned_connection_holds_its_place_for_life() {
    run(async {
        let (server, iis) = Iis::start().await;
        let mut service = service(&[server]);
        limit(&mut service, 0, 1);
        forwarding(&mut service).balancing.queue = Queue::new(1, LONG);
        let edge = Edge::start(service).await;
        let server = support::server(edge.proxy.service(), 0);

        let mut alice = edge.client().await;
        let login = "Authorization: Negotiate ONE-alice\r\n";
        assert_eq!(alice.get("/", login).await.unwrap().text(), "alice");
        assert_eq!(server.load().in_use(), 1);
        // Bob waits in the line; Carol finds it full.
        let mut bob = edge.client().await;
        bob.send("GET /bob HTTP/1.1\r\nHost: h\r\nAuthorization: Basic bob\r\n\r\n")
            .await
            .unwrap();
        let queue = || forwarding_of(&edge).balancing.queue.waiting();
        until(|| queue() == 1).await;
        let mut carol = edge.client().await;
        let refused = carol.get("/", "").await.unwrap();
        assert_eq!(refused.status(), 503);
        assert_eq!(refused.text(), "All servers of this service are busy.\n");
        assert_eq!(edge.counters().errors(Kind::Busy), 1);
        // The pinned connection needs no other place.
        assert_eq!(alice.get("/", "").await.unwrap().text(), "alice");
        assert_eq!(iis.seen.borrow().len(), 2);
        drop(alice);
        assert_eq!(bob.message().await.unwrap().text(), "bob");
        until(|| server.load().in_use() == 0).await;
        assert_eq!(
            carol
                .get("/", "Authorization: Basic carol\r\n")
                .await
                .unwrap()
                .text(),
            "carol"
        );
    });
}

fn forwarding_of(edge: &Edge) -> &lb_proxy::Forwarding {
    match &edge.proxy.service().routes[0].action {
        lb_proxy::Action::Forward(forwarding) => forwarding,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_goes_away_leaves_the_line() {
    run(async {
        let (server, iis) = Iis::start().await;
        let mut service = service(&[server]);
        limit(&mut service, 0, 1);
        forwarding(&mut service).balancing.queue = Queue::new(1, LONG);
        let edge = Edge::start(service).await;
        let mut alice = edge.client().await;
        let login = "Authorization: Negotiate ONE-alice\r\n";
        alice.get("/", login).await.unwrap();
        let mut bob = edge.client().await;
        bob.send("GET /bob HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        until(|| forwarding_of(&edge).balancing.queue.waiting() == 1).await;
        drop(bob);
        until(|| forwarding_of(&edge).balancing.queue.waiting() == 0).await;
        drop(alice);
        let server = support::server(edge.proxy.service(), 0);
        until(|| server.load().in_use() == 0).await;
        assert_eq!(iis.seen.borrow().len(), 1, "nobody asked for bob");
    });
}

#[test]
fn whoever_waits_too_long_is_told_so() {
    run(async {
        let (server, _) = Iis::start().await;
        let mut service = service(&[server]);
        limit(&mut service, 0, 1);
        forwarding(&mut service).balancing.queue = Queue::new(9, Duration::from_millis(20));
        let edge = Edge::start(service).await;
        let mut alice = edge.client().await;
        let login = "Authorization: Negotiate ONE-alice\r\n";
        alice.get("/", login).await.unwrap();
        let mut bob = edge.client().await;
        assert_eq!(bob.get("/", "").await.unwrap().status(), 503);
        assert_eq!(edge.counters().errors(Kind::QueueTimeout), 1);
    });
}

#[test]
fn a_response_that_is_streaming_holds_its_place() {
    run(async {
        let (more, hold) = tokio::sync::oneshot::channel::<()>();
        let hold = Rc::new(RefCell::new(Some(hold)));
        let address = origin(move |mut wire, _| {
            let hold = Rc::clone(&hold);
            async move {
                wire.message().await?;
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                    .await?;
                let hold = hold.borrow_mut().take()?;
                hold.await.ok()?;
                wire.send("lf").await
            }
        })
        .await;
        let edge = Edge::start(service(&[address])).await;
        let server = support::server(edge.proxy.service(), 0);
        let mut client = edge.client().await;
        client
            .send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        client.head().await.unwrap();
        assert_eq!(client.exactly(2).await.unwrap(), b"ha");
        assert_eq!(server.load().in_use(), 1);
        more.send(()).unwrap();
        assert_eq!(client.exactly(2).await.unwrap(), b"lf");
        until(|| server.load().in_use() == 0).await;
    });
}

#[test]
fn attempts_end_with_the_budget() {
    run(async {
        let (dead, alive) = (nobody().await, Named::start("alive").await);
        // The first pick is the dead one.
        let mut patient = service(&[dead, alive.address]);
        forwarding(&mut patient).balancing.retries = 1;
        let edge = Edge::start(patient).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().text(), "alive");

        let mut strict = service(&[dead, alive.address]);
        forwarding(&mut strict).balancing.retries = 0;
        let edge = Edge::start(strict).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().status(), 502);
        assert_eq!(edge.counters().errors(Kind::Connect), 1);
        let server = support::server(edge.proxy.service(), 0);
        assert_eq!(server.load().in_use(), 0, "its place is given back");
    });
}

/// A request that a server may have seen is not sent again, whatever the budget says.
#[test]
fn what_was_sent_is_never_sent_again() {
    run(async {
        let seen = Rc::new(RefCell::new(0));
        let count = Rc::clone(&seen);
        let rude = origin(move |mut wire, _| {
            let count = Rc::clone(&count);
            async move {
                wire.message().await?;
                *count.borrow_mut() += 1;
                None
            }
        })
        .await;
        let polite = Named::start("polite").await;
        let edge = Edge::start(service(&[rude, polite.address])).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().status(), 502);
        assert_eq!(*seen.borrow(), 1);
        assert!(polite.seen.borrow().is_empty());
    });
}

#[test]
fn a_drained_server_keeps_its_logins_and_gets_nothing_new() {
    run(async {
        let (first, one) = Iis::start().await;
        let (second, two) = Iis::start().await;
        let edge = Edge::start(service(&[first, second])).await;
        let mut alice = edge.client().await;
        let login = "Authorization: Negotiate ONE-alice\r\n";
        alice.get("/", login).await.unwrap();
        support::server(edge.proxy.service(), 0).set_drained(true);
        let mut others = edge.client().await;
        for _ in 0..3 {
            let kept = alice.get("/", "").await.unwrap();
            assert_eq!((kept.text(), kept.get("connection")), ("alice", None));
            others
                .get("/", "Authorization: Basic bob\r\n")
                .await
                .unwrap();
        }
        let mut carol = edge.client().await;
        carol
            .get("/", "Authorization: Negotiate ONE-carol\r\n")
            .await
            .unwrap();
        assert_eq!(one.seen.borrow().len(), 4);
        assert_eq!(two.seen.borrow().len(), 4);
        // Down is another matter: the login can't be used any more.
        support::server(edge.proxy.service(), 0).set_up(false);
        assert!(alice.get("/", "").await.is_none());
    });
}

#[test]
fn requests_that_fail_take_a_server_out() {
    run(async {
        let (dead, alive) = (nobody().await, Named::start("alive").await);
        let mut service = service(&[dead, alive.address]);
        forwarding(&mut service).balancing.passive = Some(Passive {
            failures: NonZeroU32::new(2).unwrap(),
            on: vec![Symptom::Connect],
        });
        let edge = Edge::start(service).await;
        let server = support::server(edge.proxy.service(), 0);
        let mut client = edge.client().await;
        for _ in 0..4 {
            assert_eq!(client.get("/", "").await.unwrap().text(), "alive");
        }
        assert!(server.is_ejected());
        assert!(server.readmit(), "which is what a good probe does");
        assert!(server.is_up());
    });
}

#[test]
fn responses_that_fail_take_a_server_out_if_asked_to() {
    run(async {
        let sick = origin(|mut wire, _| async move {
            while wire.message().await.is_some() {
                wire.send("HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")
                    .await?;
            }
            Some(())
        })
        .await;
        let well = Named::start("well").await;
        let mut service = service(&[sick, well.address]);
        forwarding(&mut service).balancing.passive = Some(Passive {
            failures: NonZeroU32::new(2).unwrap(),
            on: vec![Symptom::Gateway],
        });
        let edge = Edge::start(service).await;
        let mut client = edge.client().await;
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(client.get("/", "").await.unwrap().status());
        }
        assert_eq!(statuses, [503, 200, 503, 200, 200, 200]);
        assert!(support::server(edge.proxy.service(), 0).is_ejected());
    });
}
