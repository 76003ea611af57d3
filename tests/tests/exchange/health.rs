//! Health of each directory of each server (rules H1 and H2), and servers that an operator drains.

use std::collections::BTreeSet;

use lb_tests::{
    address::server,
    client::one_leg,
    edge::{Edge, Front},
    pool::Switch,
};

use super::ALICE;

/// Names of the servers that answer for a directory.
fn servers(front: &Front, vdir: &str) -> BTreeSet<String> {
    let page = format!("/{vdir}/healthcheck.htm");
    let answers = (0..12).map(|_| {
        let (status, text) = front.fetch(&[], &page).unwrap();
        let name = text
            .strip_prefix("200 OK<br/>")
            .and_then(|rest| rest.split('.').next());
        name.filter(|_| status == 200).unwrap_or("-").to_owned()
    });
    answers.collect()
}

#[test]
fn a_directory_that_is_ill_takes_no_other_with_it() {
    let edge = Edge::start(2).unwrap();
    let both = || BTreeSet::from(["EX1".to_owned(), "EX2".to_owned()]);
    let second = || BTreeSet::from(["EX2".to_owned()]);
    let first = &edge.world.servers()[0];
    let down = |route: &'static str| {
        move |status: &serde_json::Value| {
            let mut of_route = lb_tests::edge::servers(status)
                .filter(|server| server["route"] == route && server["up"] == false);
            of_route.by_ref().count() == 2
        }
    };

    first.switch(Switch::HealthDown("owa")).unwrap();
    // 200 is not enough: the page has to begin with `200 OK`.
    first.switch(Switch::HealthConfused("oab")).unwrap();
    edge.until("OWA of the first is down in both services", down("owa"))
        .unwrap();
    edge.until("OAB as well", down("oab")).unwrap();
    for front in &edge.fronts {
        assert_eq!(servers(front, "owa"), second(), "{}", front.transport);
        assert_eq!(servers(front, "oab"), second(), "{}", front.transport);
        assert_eq!(servers(front, "ews"), both(), "{}", front.transport);
        assert_eq!(servers(front, "mapi"), both(), "{}", front.transport);
    }
    first.switch(Switch::HealthUp("owa")).unwrap();
    first.switch(Switch::HealthUp("oab")).unwrap();
    edge.until("all are up again", |status| {
        lb_tests::edge::servers(status).all(|server| server["up"] == true)
    })
    .unwrap();
    for front in &edge.fronts {
        assert_eq!(servers(front, "owa"), both(), "{}", front.transport);
    }
}

/// Nothing new for a drained server; who is logged in there stays, on the connection that knows them.
#[test]
fn a_drained_server_keeps_its_logins() {
    let edge = Edge::start(2).unwrap();
    let address = format!("{}:443", server(1));
    let page = "/ews/whoami";
    let open = |front: &Front| {
        let mut connection = front.open().unwrap();
        let (status, text) = connection.page(page, &[&one_leg(&ALICE)]).unwrap();
        assert_eq!(status, 200, "{}", front.transport);
        (server_of(&text), connection)
    };
    for front in &edge.fronts {
        let mut logins: Vec<_> = (0..12).map(|_| open(front)).collect();
        assert!(
            logins.iter().any(|(server, _)| server == "EX1"),
            "{}",
            front.transport
        );
        let (done, told) = edge.lb(&["drain", &front.service(), &address]).unwrap();
        assert!(done, "{told}");
        for _ in 0..12 {
            assert_eq!(open(front).0, "EX2", "{}", front.transport);
        }
        for (server, connection) in &mut logins {
            let (status, text) = connection.page(page, &[]).unwrap();
            assert_eq!(
                (status, server_of(&text)),
                (200, server.clone()),
                "{}",
                front.transport
            );
        }
        let (done, told) = edge.lb(&["undrain", &front.service(), &address]).unwrap();
        assert!(done, "{told}");
        let after: BTreeSet<_> = (0..12).map(|_| open(front).0).collect();
        assert_eq!(after.len(), 2, "{}: {after:?}", front.transport);
    }
}

fn server_of(page: &[u8]) -> String {
    let page: serde_json::Value = serde_json::from_slice(page).unwrap();
    page["server"].as_str().unwrap().to_owned()
}
