//! Who is asked in which order: persistence, ranks, limits, the line, slow starts and servers that fail.

use std::num::{NonZeroU16, NonZeroU32};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::advance;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn server(number: u8) -> Server {
    let address = ([10, 0, 0, number], 443).into();
    Server::new(format!("s{number}"), address, NonZeroU16::MIN)
}

fn limited(number: u8, limit: u32) -> Server {
    server(number).with_limit(NonZeroU32::new(limit))
}

/// The servers, and a worker's picker of them.
fn pool(servers: Vec<Server>) -> (Vec<Arc<Server>>, Balancer) {
    let servers: Vec<_> = servers.into_iter().map(Arc::new).collect();
    let balancer = Balancer::new(&servers);
    (servers, balancer)
}

fn ask(rules: &Balancing, client: IpAddr) -> Ask {
    Balancer::ask(rules, client, &mut HeaderMap::new())
}

/// Polls once; whoever is woken is polled again by hand.
fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    future.as_mut().poll(&mut context)
}

/// Whom the next requests go to, each of which is over before the next.
fn picks(balancer: &Balancer, rules: &Balancing, count: usize) -> Vec<usize> {
    let pick = |_| match balancer.look(rules, &ask(rules, CLIENT)) {
        Found::Place(slot) => Some(slot.index()),
        Found::Full | Found::Nobody => None,
    };
    (0..count).filter_map(pick).collect()
}

#[test]
fn who_is_down_drained_or_tried_is_left_out() {
    let (servers, balancer) = pool(vec![server(1), server(2), server(3)]);
    let rules = Balancing::default();
    servers[1].set_up(false);
    assert_eq!(picks(&balancer, &rules, 4), [0, 2, 0, 2]);
    servers[0].set_drained(true);
    assert_eq!(picks(&balancer, &rules, 2), [2, 2]);
    let mut asked = ask(&rules, CLIENT);
    assert!(asked.failed(Some(2)));
    assert!(matches!(balancer.look(&rules, &asked), Found::Nobody));
    servers[0].set_drained(false);
    servers[1].set_up(true);
    let mut all = picks(&balancer, &rules, 3);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
}

#[test]
fn backups_are_asked_when_no_primary_is_up() {
    let (servers, balancer) = pool(vec![limited(1, 1), server(2).with_role(Role::Backup)]);
    let rules = Balancing::default();
    assert_eq!(picks(&balancer, &rules, 3), [0, 0, 0]);
    // A primary that is full is up.
    let held = balancer.look(&rules, &ask(&rules, CLIENT));
    assert!(matches!(&held, Found::Place(slot) if slot.index() == 0));
    assert!(matches!(
        balancer.look(&rules, &ask(&rules, CLIENT)),
        Found::Full
    ));
    servers[0].set_up(false);
    assert_eq!(picks(&balancer, &rules, 2), [1, 1]);
    servers[0].set_up(true);
    drop(held);
    assert_eq!(picks(&balancer, &rules, 2), [0, 0]);
    // What could not be connected to is as good as down, for this request.
    let mut asked = ask(&rules, CLIENT);
    asked.failed(Some(0));
    assert!(matches!(balancer.look(&rules, &asked), Found::Place(slot) if slot.index() == 1));
}

#[test]
fn a_place_is_taken_for_as_long_as_it_is_held_on_all_workers_and_routes() {
    let load = Arc::new(Load::default());
    let shared = || limited(1, 2).with_load(Arc::clone(&load));
    let rules = Balancing::default();
    // Two routes; and two workers of the first.
    let (servers, first) = pool(vec![shared()]);
    let second = Balancer::new(&servers);
    let (_, other_route) = pool(vec![shared()]);
    let place = |balancer: &Balancer| match balancer.look(&rules, &ask(&rules, CLIENT)) {
        Found::Place(slot) => Some(slot),
        Found::Full | Found::Nobody => None,
    };
    let held = (place(&first).unwrap(), place(&other_route).unwrap());
    assert_eq!(load.in_use(), 2);
    assert!(place(&second).is_none());
    drop(held);
    assert_eq!(load.in_use(), 0);
    assert!(place(&second).is_some());
}

#[test]
fn least_connections_sees_what_other_workers_do() {
    let (servers, first) = pool(vec![server(1), server(2)]);
    let second = Balancer::new(&servers);
    let rules = Balancing {
        method: Method::LeastConnections,
        ..Balancing::default()
    };
    let Found::Place(held) = first.look(&rules, &ask(&rules, CLIENT)) else {
        panic!("idle");
    };
    let other = 1 - held.index();
    assert_eq!(picks(&second, &rules, 3), [other; 3]);
}

#[test]
fn a_header_is_hashed_and_without_it_the_client() {
    let (_, balancer) = pool((1..=8).map(server).collect());
    let rules = Balancing {
        method: Method::HeaderHash(http::HeaderName::from_static("x-group")),
        ..Balancing::default()
    };
    let chosen = |client: u8, value: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert("x-group", HeaderValue::from_static(value));
        }
        let asked = Balancer::ask(&rules, [192, 0, 2, client].into(), &mut headers);
        match balancer.look(&rules, &asked) {
            Found::Place(slot) => slot.index(),
            Found::Full | Found::Nobody => panic!("up"),
        }
    };
    let of_a = chosen(1, Some("a"));
    assert!((2..20).all(|client| chosen(client, Some("a")) == of_a));
    assert!(
        ["b", "c", "d", "e"]
            .iter()
            .any(|value| chosen(1, Some(value)) != of_a)
    );
    let of_client = chosen(1, None);
    assert!((0..3).all(|_| chosen(1, None) == of_client));
    assert!((2..20).any(|client| chosen(client, None) != of_client));
}

#[tokio::test(start_paused = true)]
async fn a_client_stays_where_it_was_until_that_is_down() {
    let (servers, balancer) = pool(vec![server(1), server(2), server(3)]);
    let rules = Balancing {
        persistence: Some(Persistence::Source(Sources::new(Duration::from_hours(1)))),
        ..Balancing::default()
    };
    let other_worker = Balancer::new(&servers);
    let [first] = picks(&balancer, &rules, 1)[..] else {
        panic!("up");
    };
    assert_eq!(picks(&balancer, &rules, 3), [first; 3]);
    assert_eq!(picks(&other_worker, &rules, 3), [first; 3]);
    servers[first].set_drained(true);
    let [second] = picks(&balancer, &rules, 1)[..] else {
        panic!("up");
    };
    assert_ne!(second, first);
    // And there it stays, whatever becomes of the first.
    servers[first].set_drained(false);
    assert_eq!(picks(&other_worker, &rules, 3), [second; 3]);
    // Others are spread all the same.
    let found = |last: u8| balancer.look(&rules, &ask(&rules, [192, 0, 2, last].into()));
    let mut others: Vec<_> = (2..8)
        .filter_map(|last| match found(last) {
            Found::Place(slot) => Some(slot.index()),
            _ => None,
        })
        .collect();
    others.sort_unstable();
    others.dedup();
    assert_eq!(others, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_full_server_sends_its_client_elsewhere() {
    let (_, balancer) = pool(vec![limited(1, 1), limited(2, 1)]);
    let rules = Balancing {
        persistence: Some(Persistence::Source(Sources::new(Duration::from_hours(1)))),
        ..Balancing::default()
    };
    let first = balancer.place(&rules, &ask(&rules, CLIENT)).await.unwrap();
    let second = balancer.place(&rules, &ask(&rules, CLIENT)).await.unwrap();
    assert_ne!(first.index(), second.index());
    let third = balancer.place(&rules, &ask(&rules, CLIENT)).await;
    assert_eq!(third.unwrap_err().kind(), Kind::Busy);
}

#[tokio::test(start_paused = true)]
async fn the_line_is_served_in_order() {
    let (_, balancer) = pool(vec![limited(1, 1)]);
    let rules = Balancing {
        queue: Queue::new(2, Duration::from_secs(5)),
        ..Balancing::default()
    };
    let asked = || ask(&rules, CLIENT);
    let (one, two, three, four) = (asked(), asked(), asked(), asked());
    let held = balancer.place(&rules, &one).await.unwrap();
    let mut first = Box::pin(balancer.place(&rules, &two));
    let mut second = Box::pin(balancer.place(&rules, &three));
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut second).is_pending());
    assert_eq!(rules.queue.waiting(), 2);
    let refused = balancer.place(&rules, &four).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Busy);

    drop(held);
    // Who comes now comes after those who wait, although there is room.
    assert_eq!(
        balancer.place(&rules, &four).await.unwrap_err().kind(),
        Kind::Busy
    );
    assert!(poll(&mut second).is_pending());
    let Poll::Ready(Ok(held)) = poll(&mut first) else {
        panic!("it is the first's turn");
    };
    // A client that goes away leaves the line.
    drop(second);
    assert_eq!(rules.queue.waiting(), 0);
    let mut last = Box::pin(balancer.place(&rules, &four));
    assert!(poll(&mut last).is_pending());
    drop(held);
    assert!(matches!(poll(&mut last), Poll::Ready(Ok(_))));
    assert_eq!(rules.queue.queued.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_longer_than_told() {
    let (_, balancer) = pool(vec![limited(1, 1)]);
    let rules = Balancing {
        queue: Queue::new(2, Duration::from_secs(5)),
        ..Balancing::default()
    };
    let one = ask(&rules, CLIENT);
    let _held = balancer.place(&rules, &one).await.unwrap();
    let start = tokio::time::Instant::now();
    let late = balancer.place(&rules, &one).await;
    assert_eq!(late.unwrap_err().kind(), Kind::QueueTimeout);
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(rules.queue.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_serves_the_line() {
    let (servers, balancer) = pool(vec![limited(1, 1), limited(2, 1)]);
    let rules = Balancing {
        queue: Queue::new(2, Duration::from_mins(1)),
        ..Balancing::default()
    };
    servers[1].set_up(false);
    let one = ask(&rules, CLIENT);
    let _held = balancer.place(&rules, &one).await.unwrap();
    let mut waits = Box::pin(balancer.place(&rules, &one));
    assert!(poll(&mut waits).is_pending());
    servers[1].set_up(true);
    assert!(matches!(poll(&mut waits), Poll::Ready(Ok(slot)) if slot.index() == 1));
    // And if all go, whoever waits is told at once.
    let _held = balancer.place(&rules, &one).await;
    servers[1].set_up(false);
    let mut waits = Box::pin(balancer.place(&rules, &one));
    assert!(poll(&mut waits).is_pending());
    servers[0].set_up(false);
    let Poll::Ready(Err(error)) = poll(&mut waits) else {
        panic!("nobody is up");
    };
    assert_eq!(error.kind(), Kind::NoServer);
}

#[tokio::test(start_paused = true)]
async fn the_share_of_a_server_that_came_back_grows() {
    let (servers, balancer) = pool(vec![server(1), server(2)]);
    let rules = Balancing {
        slow_start: Some(Duration::from_secs(30)),
        ..Balancing::default()
    };
    let share = || {
        let picks = picks(&balancer, &rules, 1000);
        picks.iter().filter(|&&index| index == 1).count()
    };
    assert_eq!(share(), 500, "none of them came back");
    advance(Duration::from_secs(100)).await;
    servers[1].set_up(false);
    servers[1].set_up(true);
    assert!(share() < 10, "{}", share());
    advance(Duration::from_secs(10)).await;
    // A third of the weight beside a whole one.
    assert!(share().abs_diff(250) < 5, "{}", share());
    advance(Duration::from_secs(20)).await;
    assert_eq!(share(), 500);
}

fn error(kind: Kind) -> Error {
    Error::new(kind, "")
}

#[test]
fn failures_in_a_row_take_a_server_out_until_a_good_probe() {
    let (servers, balancer) = pool(vec![server(1), server(2)]);
    let rules = Balancing {
        passive: Some(Passive {
            failures: NonZeroU32::new(3).unwrap(),
            on: vec![Symptom::Connect],
        }),
        ..Balancing::default()
    };
    let bad = &servers[0];
    let connect = error(Kind::Connect);
    for _ in 0..5 {
        rules.failed(bad, &connect);
        rules.failed(bad, &connect);
        rules.connected(bad);
        // What isn't asked for, or isn't the server's fault, doesn't count.
        rules.failed(bad, &error(Kind::UpstreamBroken));
        rules.failed(bad, &error(Kind::ClientBroken));
    }
    assert!(bad.is_up(), "never three in a row");
    for _ in 0..3 {
        rules.failed(bad, &connect);
    }
    assert!(bad.is_ejected() && !bad.is_up() && bad.is_healthy());
    assert_eq!(picks(&balancer, &rules, 2), [1, 1]);
    // Without anybody else it is better than nothing.
    servers[1].set_up(false);
    assert_eq!(picks(&balancer, &rules, 1), [0]);
    assert!(bad.readmit());
    assert!(bad.is_up() && !bad.readmit());
}

#[test]
fn what_counts_as_a_failure_is_chosen() {
    use Symptom::{Connect, Gateway, Reset, Timeout};
    let failing = |on: &[Symptom], fail: &dyn Fn(&Balancing, &Server)| {
        let rules = Balancing {
            passive: Some(Passive {
                failures: NonZeroU32::new(2).unwrap(),
                on: on.to_vec(),
            }),
            ..Balancing::default()
        };
        let server = server(1);
        for _ in 0..2 {
            // New connections that prove nothing.
            rules.connected(&server);
            fail(&rules, &server);
        }
        server.is_ejected()
    };
    let reset: &dyn Fn(&Balancing, &Server) = &|rules, server| {
        rules.failed(server, &error(Kind::UpstreamBroken));
    };
    let late: &dyn Fn(&Balancing, &Server) = &|rules, server| {
        rules.failed(server, &error(Kind::ResponseTimeout));
    };
    assert!(failing(&[Connect, Reset], reset));
    assert!(!failing(&[Connect, Timeout], reset));
    assert!(failing(&[Timeout], late));
    for (status, counts) in [
        (502, true),
        (503, true),
        (504, true),
        (500, false),
        (401, false),
        (404, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer: &dyn Fn(&Balancing, &Server) = &|rules, server| rules.responded(server, status);
        assert_eq!(failing(&[Gateway], answer), counts, "{status}");
        assert!(!failing(&[Connect], answer), "{status}");
    }
}

#[test]
fn attempts_are_counted() {
    let rules = Balancing {
        retries: 2,
        ..Balancing::default()
    };
    let mut asked = ask(&rules, CLIENT);
    assert!(asked.failed(Some(0)));
    assert!(asked.failed(None));
    assert!(!asked.failed(Some(1)));
}
