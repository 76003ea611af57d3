//! The simulated pool without a load balancer: real clients must find it to be what Exchange is known to be.
//!
//! If one of these fails, the tests of the load balancer prove nothing. Needs root, curl and the Python of
//! `cargo xtask setup`.

mod protocols;

use lb_tests::{
    address::{CLIENT, server},
    certs, client,
    pool::{
        Switch, USERS, User,
        credential::one_leg,
        journal::AuthLeg::{self, First, Later, None as Bare},
    },
    world::{self, World},
};

const ALICE: User = USERS[0];

fn url(path: &str) -> String {
    format!("http://{}{path}", server(1))
}

fn statuses(fetched: &[client::Fetched]) -> Vec<u16> {
    fetched.iter().map(|fetched| fetched.status).collect()
}

#[test]
fn curl_logs_a_connection_in_once() {
    let world = World::start(1).unwrap();
    let urls = vec![url("/whoami"); 3];
    let fetched = client::curl_ntlm(&ALICE, ALICE.password, &urls).unwrap();
    assert_eq!(statuses(&fetched), [200, 200, 200]);
    assert_eq!(
        fetched.iter().map(|fetched| fetched.connects).sum::<u32>(),
        1
    );
    let seen = world.seen().unwrap();
    assert_eq!(seen.connections("/whoami"), 1);
    assert_eq!(seen.legs("/whoami"), [First, Later, Bare, Bare]);
    let users: Vec<_> = seen
        .requests("/whoami")
        .map(|request| request.user.clone())
        .collect();
    let alice = Some(ALICE.qualified());
    assert_eq!(users, [None, alice.clone(), alice.clone(), alice]);
}

#[test]
fn passwords_are_checked() {
    let world = World::start(1).unwrap();
    for (name, password) in [
        ("alice", "wrong"),
        ("alice", ""),
        ("mallory", ALICE.password),
    ] {
        for scheme in ["--ntlm", "--basic"] {
            let user = format!("LAB\\{name}:{password}");
            let fetched = client::curl(&[scheme, "--user", &user], &[url("/whoami")]).unwrap();
            assert_eq!(statuses(&fetched), [401], "{scheme} {user}");
        }
    }
    let served = world
        .seen()
        .unwrap()
        .requests("/whoami")
        .filter(|r| r.user.is_some())
        .count();
    assert_eq!(served, 0);
    // The same clients with the right password, so that it isn't something else that keeps them out.
    let user = format!("{}:{}", ALICE.qualified(), ALICE.password);
    for scheme in ["--ntlm", "--basic"] {
        let fetched = client::curl(&[scheme, "--user", &user], &[url("/whoami")]).unwrap();
        assert_eq!(statuses(&fetched), [200], "{scheme}");
    }
}

#[test]
fn via_makes_a_login_count_once() {
    let world = World::start(1).unwrap();
    let user = format!("{}:{}", ALICE.qualified(), ALICE.password);
    let options = ["--ntlm", "--user", &user, "--header", "Via: 1.1 proxy"];
    let fetched = client::curl(&options, &vec![url("/whoami"); 2]).unwrap();
    assert_eq!(statuses(&fetched), [200, 200], "curl logs in again");
    let legs: Vec<(AuthLeg, u16)> = world
        .seen()
        .unwrap()
        .requests("/whoami")
        .map(|request| (request.leg, request.status))
        .collect();
    let expected = [
        (First, 401),
        (Later, 200),
        (Bare, 401),
        (First, 401),
        (Later, 200),
    ];
    assert_eq!(
        legs, expected,
        "the article's pattern for a client that starts over"
    );
}

#[test]
fn a_login_is_bound_to_its_connection_as_http_sys_does_it() {
    let _world = World::start(1).unwrap();
    let login = format!("Authorization: {}", one_leg(&ALICE));
    let impostor = format!(
        "Authorization: {}",
        one_leg(&User {
            password: "wrong",
            ..ALICE
        })
    );
    let (login, impostor, via) = (login.as_str(), impostor.as_str(), "Via: 1.1 proxy");
    let check = |requests: &[&[&str]], expected: &[u16]| {
        let mut connection = client::Connection::open(world::http(1)).unwrap();
        let statuses: Vec<u16> = requests
            .iter()
            .map(|fields| connection.get("/whoami", fields).unwrap())
            .collect();
        assert_eq!(statuses, expected, "{requests:?}");
    };
    check(&[&[]], &[401]);
    check(&[&[login], &[], &[]], &[200, 200, 200]);
    check(&[&[], &[login], &[]], &[401, 200, 200]);
    check(&[&[impostor], &[]], &[401, 401]);
    check(&[&[login], &[impostor], &[]], &[200, 401, 401]);
    // What a connection remembers is not for requests that come through a proxy, and is then forgotten.
    check(&[&[login], &[via], &[]], &[200, 401, 401]);
    check(&[&[login, via], &[]], &[200, 401]);
    // An NTLM message of type 3 that answers no challenge, and one of type 2, which only servers send.
    check(&[&["Authorization: NTLM TlRMTVNTUAADAAAA"]], &[400]);
    check(&[&["Authorization: NTLM TlRMTVNTUAACAAAA"]], &[400]);
}

#[test]
fn a_client_that_trusts_persistence_is_served() {
    let _world = World::start(1).unwrap();
    let seen = client::mac_mail(world::http(1), &ALICE).unwrap();
    assert_eq!(seen, [vec![401, 200], vec![200], vec![200]]);
}

#[test]
fn identities_stay_apart() {
    let _world = World::start(1).unwrap();
    let result = client::identities(world::http(1), 200, &USERS).unwrap();
    assert_eq!(result.wrong, Vec::<String>::new());
    assert_eq!(result.refused, Vec::<String>::new());
    assert_eq!(result.stranger_served, Vec::<String>::new());
    assert_eq!((result.requests, result.strangers), (200, 50));
}

#[test]
fn a_refusal_comes_before_the_body_and_keeps_the_connection() {
    let world = World::start(1).unwrap();
    let exchange =
        client::expect_continue(&client::Endpoint::plain(world::http(1)), "/whoami", &ALICE)
            .unwrap();
    assert_eq!(exchange.statuses, [401, 100, 200]);
    assert_eq!(exchange.schemes, ["Negotiate", "NTLM"]);
    assert_eq!(exchange.page["user"], ALICE.qualified());
    assert_eq!(
        exchange.page["request"], 2,
        "the unread body was not taken for requests"
    );
    assert_eq!(world.seen().unwrap().connections("/whoami"), 1);
}

#[test]
fn requests_sends_its_body_on_every_leg() {
    let world = World::start(1).unwrap();
    let arguments = [&url("/whoami"), ALICE.name, ALICE.password];
    let seen: Vec<(u16, String, u32)> = client::python("requests_client.py", &arguments).unwrap();
    assert_eq!(seen, vec![(200, ALICE.qualified(), 5); 2]);
    assert_eq!(
        world.seen().unwrap().connections("/whoami"),
        1,
        "401 before the body is harmless"
    );
}

#[test]
fn exchangelib_opens_a_session() {
    let world = World::start(1).unwrap();
    let session = client::exchangelib(server(1), certs::NAME, &world.certs().ca, &ALICE).unwrap();
    assert_eq!((session.inbox, session.items), (0, 0));
    assert_eq!(session.root, "root");
}

#[test]
fn health_pages_follow_their_switch() {
    let world = World::start(1).unwrap();
    let page = |vdir: &str| client::get(&url(&format!("/{vdir}/healthcheck.htm"))).unwrap();
    let well = (200, "200 OK<br/>EX1.LAB.TEST".to_owned());
    assert_eq!(page("owa"), well);
    world.servers()[0]
        .switch(Switch::HealthDown("owa"))
        .unwrap();
    assert_eq!(page("owa").0, 503);
    assert_eq!(page("EWS"), well, "health is per application");
    world.servers()[0].switch(Switch::HealthUp("OWA")).unwrap();
    assert_eq!(page("owa"), well);
    world.servers()[0].switch(Switch::Reset).unwrap();
    assert_eq!(page("owa").0, 0, "no answer");
    world.servers()[0].switch(Switch::Accept).unwrap();
    assert_eq!(page("owa"), well);
}

#[test]
fn smtp_names_its_peer_and_echoes() {
    let _world = World::start(1).unwrap();
    let mut smtp = client::Smtp::connect(CLIENT, world::smtp(1)).unwrap();
    assert_eq!(smtp.server(), Some("EX1"));
    assert_eq!(
        smtp.peer().unwrap(),
        smtp.local(),
        "the edge routes and doesn't translate"
    );
    let data: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(
        smtp.echo(&data).unwrap() == data,
        "4 MB come back unchanged"
    );
}
