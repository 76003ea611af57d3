//! `Expect: 100-continue` (rules E1 to E4): in the mode `forward`, the default, the server alone says when a body is wanted.

use lb_tests::{
    client::{self, one_leg},
    edge::{Edge, Setting},
    pool::{Fault, Switch},
    world::World,
};

use super::ALICE;

const PAGE: &str = "/ews/whoami";

/// .NET's sequence: refused before the body, which comes all the same and is no request; then 100, body, 200.
#[test]
fn a_refusal_comes_before_the_body_and_a_100_is_the_servers() {
    let edge = Edge::start(2).unwrap();
    for front in &edge.fronts {
        edge.world.forget().unwrap();
        let exchange = client::expect_continue(&front.endpoint, PAGE, &ALICE).unwrap();
        let transport = front.transport;
        assert_eq!(exchange.statuses, [401, 100, 200], "{transport}");
        assert_eq!(
            exchange.schemes,
            ["Negotiate", "NTLM"],
            "{transport}: lines kept apart"
        );
        assert_eq!(exchange.page["user"], ALICE.qualified(), "{transport}");
        let seen = edge.world.seen().unwrap();
        let smuggled = seen.requests("/bench/1").count();
        assert_eq!(smuggled, 0, "{transport}: a body became a request");
        assert_eq!(seen.requests(PAGE).count(), 2, "{transport}");
    }
}

#[test]
fn a_body_may_come_before_the_100() {
    let edge = Edge::start(1).unwrap();
    for front in &edge.fronts {
        let mut connection = front.open().unwrap();
        for _ in 0..2 {
            let fields = [
                "Content-Length: 5",
                "Expect: 100-continue",
                &one_leg(&ALICE),
            ];
            connection.send_head("POST", PAGE, &fields).unwrap();
            connection.send(b"hello").unwrap();
            let mut head = connection.head().unwrap();
            if head.status == 100 {
                head = connection.head().unwrap();
            }
            assert_eq!(head.status, 200, "{}", front.transport);
            let page: serde_json::Value =
                serde_json::from_slice(&connection.body(&head).unwrap()).unwrap();
            assert_eq!(page["body_bytes"], 5, "{}", front.transport);
        }
    }
}

/// A client that has waited long enough sends its body; the proxy must not wait for the 100 either, nor make one up.
#[test]
fn a_server_may_say_nothing() {
    let edge = Edge::start(1).unwrap();
    let silent = Switch::Fault("ews", Fault::NoContinue);
    edge.world.servers()[0].switch(silent).unwrap();
    for front in &edge.fronts {
        edge.world.forget().unwrap();
        let mut connection = front.open().unwrap();
        let fields = [
            "Content-Length: 5",
            "Expect: 100-continue",
            &one_leg(&ALICE),
        ];
        connection.send_head("POST", PAGE, &fields).unwrap();
        connection.send(b"hello").unwrap();
        let head = connection.head().unwrap();
        assert_eq!(head.status, 200, "{}: without a 100", front.transport);
        connection.body(&head).unwrap();
        assert_eq!(
            connection.get(PAGE, &[]).unwrap(),
            200,
            "{}",
            front.transport
        );
        let expects =
            |request: &lb_tests::pool::journal::Request| request.header("expect").is_some();
        assert!(
            edge.world.seen().unwrap().requests(PAGE).any(expects),
            "{}",
            front.transport
        );
    }
}

/// curl waits a second for its 100.
#[test]
fn curl_gets_its_100() {
    let edge = Edge::start(1).unwrap();
    let file = edge.world.directory().join("body");
    std::fs::write(&file, vec![b'x'; 2_000_000]).unwrap();
    let body = format!("@{}", file.display());
    for front in &edge.fronts {
        let before = edge.counter("continues_relayed").unwrap();
        let login = super::ntlm();
        let options = [
            &super::strs(&login)[..],
            &["--header", "Expect: 100-continue", "--data-binary", &body],
        ];
        let (status, page) = front.fetch(&options.concat(), PAGE).unwrap();
        assert_eq!(status, 200, "{}: {page}", front.transport);
        assert!(
            page.contains("\"body_bytes\":2000000"),
            "{}: {page}",
            front.transport
        );
        let after = edge.counter("continues_relayed").unwrap();
        assert!(after > before, "{}: no 100 was relayed", front.transport);
    }
}

/// A client that waits for its 100, and what the server sees of that, in the other three modes.
#[test]
fn other_modes_are_what_they_are_called() {
    // Whether the client gets a 100 from a server that sends one, from one that doesn't; whether the server is asked.
    let modes = [
        ("expect = \"local\"", true, true, false),
        ("expect = \"strip\"", false, false, false),
        ("expect = \"require\"", true, false, true),
    ];
    let settings = modes.map(|(lines, ..)| Setting {
        lines,
        ..Setting::default()
    });
    let edge = Edge::with(World::start(1).unwrap(), &settings).unwrap();
    let server = &edge.world.servers()[0];
    for (front, (mode, kindly, silently, asked)) in edge
        .fronts
        .iter()
        .zip(modes.iter().flat_map(|mode| [mode, mode]))
    {
        let case = format!("{mode} {}", front.transport);
        for (gets_100, talks) in [(*kindly, true), (*silently, false)] {
            // A server that is asked for a body and never says yes gets none in the mode `require`: nothing to see.
            if *asked && !talks {
                continue;
            }
            let silence = Switch::Fault("ews", Fault::NoContinue);
            let switch = if talks { Switch::Well("ews") } else { silence };
            server.switch(switch).unwrap();
            edge.world.forget().unwrap();
            let mut connection = front.open().unwrap();
            let fields = [
                "Content-Length: 5",
                "Expect: 100-continue",
                &one_leg(&ALICE),
            ];
            connection.send_head("POST", PAGE, &fields).unwrap();
            if gets_100 {
                assert_eq!(connection.head().unwrap().status, 100, "{case}");
            }
            connection.send(b"hello").unwrap();
            let head = connection.head().unwrap();
            assert_eq!(head.status, 200, "{case}");
            connection.body(&head).unwrap();
            let seen = edge.world.seen().unwrap();
            let request = seen.requests(PAGE).next().unwrap();
            assert_eq!(request.header("expect").is_some(), *asked, "{case}");
        }
    }
}
