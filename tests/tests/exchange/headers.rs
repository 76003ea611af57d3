//! What servers and clients see of each other's header fields (rules V1 to V3, and case, duplicates and order).

use std::collections::BTreeMap;

use lb_tests::{
    edge::{Edge, Setting},
    pool::ODD,
    world::World,
};

use super::{ntlm, strs};

const PAGE: &str = "/ews/whoami";

#[test]
fn nothing_is_added() {
    let edge = Edge::start(1).unwrap();
    let claims = [
        "--header",
        "Via: 1.1 branch-office",
        "--header",
        "X-Forwarded-For: 192.0.2.1",
        "--header",
        "X-ClientSide: 192.0.2.1:1",
        "--header",
        "Forwarded: for=192.0.2.1",
    ];
    for front in &edge.fronts {
        edge.world.forget().unwrap();
        let login = ntlm();
        let options = [&strs(&login)[..], &claims].concat();
        let fetched = front.curl(&options, &[PAGE; 2]).unwrap();
        assert!(fetched.iter().all(|one| one.status == 200), "{fetched:?}");
        let seen = edge.world.seen().unwrap();
        assert_eq!(
            seen.requests(PAGE).count(),
            3,
            "{}: one login",
            front.transport
        );
        for request in seen.requests(PAGE) {
            let names: Vec<_> = request
                .headers
                .iter()
                .map(|(name, _)| name.as_str())
                .collect();
            let allowed = ["host", "authorization", "user-agent", "accept"];
            assert!(
                names.iter().all(|name| allowed.contains(name)),
                "{}: {names:?}",
                front.transport
            );
        }
    }
}

#[test]
fn via_is_counted() {
    let setting = Setting {
        lines: "headers = \"via\"",
        ..Setting::default()
    };
    let edge = Edge::with(World::start(1).unwrap(), &[setting]).unwrap();
    for front in &edge.fronts {
        let before = edge.counter("persistent_auth_false").unwrap();
        let fetched = front.curl(&strs(&ntlm()), &[PAGE; 2]).unwrap();
        assert!(
            fetched.iter().all(|one| one.status == 200),
            "curl logs in again: {fetched:?}"
        );
        let after = edge.counter("persistent_auth_false").unwrap();
        assert_eq!(after - before, 2, "{}", front.transport);
    }
    let log = edge.balancer.log();
    assert!(log.contains("Persistent-Auth"), "it is said as well: {log}");
    for request in edge.world.seen().unwrap().requests(PAGE) {
        assert!(request.header("via").is_some());
    }
}

#[test]
fn fields_arrive_as_they_were_sent() {
    let edge = Edge::start(1).unwrap();
    for front in &edge.fronts {
        edge.world.forget().unwrap();
        let mut connection = front.open().unwrap();
        let sent = [
            "x-ODD-one: 1",
            "COOKIE: a=1",
            "X-Odd-One:  2",
            "Cookie: b=2",
            "x-odd-ONE: 1",
        ];
        connection.send_head("GET", "/ews/odd", &sent).unwrap();
        let head = connection.head().unwrap();
        let expected = ODD.map(|(name, value)| format!("{name}: {value}"));
        let received = by_name(head.lines.iter().map(String::as_str));
        for (name, lines) in by_name(expected.iter().map(String::as_str)) {
            assert_eq!(
                received.get(&name),
                Some(&lines),
                "{}: of {name}",
                front.transport
            );
        }
        let seen = edge.world.seen().unwrap();
        let request = seen.requests("/ews/odd").next().unwrap();
        let received = by_name(request.head.lines());
        for (name, lines) in by_name(sent.iter().copied()) {
            assert_eq!(
                received.get(&name),
                Some(&lines),
                "{}: of {name}",
                front.transport
            );
        }
    }
}

/// Names as they are written and values, of each name in order.
fn by_name<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, Vec<(&'a str, &'a str)>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        all.entry(name.to_ascii_lowercase())
            .or_default()
            .push((name, value.trim()));
    }
    all
}
