//! Nobody is ever someone else (rules A1 to A9).

use lb_tests::{
    client::{self, Connection, one_leg},
    edge::{Edge, Front},
    guard::Interrupts,
    pool::{
        Fault, Switch, USERS, User,
        journal::AuthLeg::{First, Later, None as Bare},
    },
    soak::{self, Plan},
};

use super::{ALICE, ntlm, strs};

const PAGE: &str = "/ews/whoami";

#[test]
fn one_login_for_three_pages() {
    let edge = Edge::start(2).unwrap();
    for front in &edge.fronts {
        edge.world.forget().unwrap();
        let fetched = front.curl(&strs(&ntlm()), &[PAGE; 3]).unwrap();
        let transport = front.transport;
        assert!(
            fetched.iter().all(|one| one.status == 200),
            "{transport}: {fetched:?}"
        );
        let connects: u32 = fetched.iter().map(|one| one.connects).sum();
        assert_eq!(connects, 1, "{transport}: the client's connections");
        let seen = edge.world.seen().unwrap();
        assert_eq!(
            seen.connections(PAGE),
            1,
            "{transport}: the servers' connections"
        );
        assert_eq!(seen.legs(PAGE), [First, Later, Bare, Bare], "{transport}");
    }
}

/// Before, while and after Alice is logged in, and right after connections have come back into the pool.
#[test]
fn a_stranger_is_never_served() {
    let edge = Edge::start(2).unwrap();
    for front in &edge.fronts {
        let mut requests = 0;
        for round in 0..50 {
            let mut alice = front.open().unwrap();
            assert_eq!(alice.get(PAGE, &[&one_leg(&ALICE)]).unwrap(), 200);
            let mut passer_by = front.open().unwrap();
            assert_eq!(passer_by.get("/ews/healthcheck.htm", &[]).unwrap(), 200);
            let alice = (round % 2 == 0).then_some(alice);
            for _ in 0..4 {
                let mut stranger = front.open().unwrap();
                for _ in 0..5 {
                    let (status, page) = stranger.page(PAGE, &[]).unwrap();
                    let page = String::from_utf8_lossy(&page);
                    assert_eq!(status, 401, "{}: {page}", front.transport);
                    requests += 1;
                }
            }
            drop(alice);
        }
        assert_eq!(requests, 1000);
    }
}

#[test]
fn one_leg_logins_stay_apart() {
    for servers in [1, 3] {
        let edge = Edge::start(servers).unwrap();
        for front in &edge.fronts {
            let mut users = Users::new(front);
            for _ in 0..1000 {
                users.ask();
            }
        }
    }
}

/// Users who come in any order, on the connection they have or on a new one.
struct Users<'a> {
    front: &'a Front,
    connections: Vec<Option<Connection>>,
    dice: u64,
}

impl<'a> Users<'a> {
    fn new(front: &'a Front) -> Self {
        Self {
            front,
            connections: USERS.map(|_| None).into(),
            dice: 2015,
        }
    }

    /// splitmix64: the same order in every run.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn ask(&mut self) {
        let number = usize::try_from(self.roll(4)).unwrap();
        let (user, again) = (USERS[number], self.roll(5) > 0);
        let kept = self.connections[number].take().filter(|_| again);
        let (mut connection, login) = match kept {
            Some(connection) => (connection, None),
            None => (self.front.open().unwrap(), Some(one_leg(&user))),
        };
        let login: Vec<&str> = login.iter().map(String::as_str).collect();
        let (status, page) = connection.page(PAGE, &login).unwrap();
        assert_eq!(status, 200, "{}: {user:?}", self.front.transport);
        assert_eq!(
            served_as(&page),
            user.qualified(),
            "{}",
            self.front.transport
        );
        self.connections[number] = Some(connection);
    }
}

fn served_as(page: &[u8]) -> String {
    let page: serde_json::Value = serde_json::from_slice(page).unwrap();
    page["user"].as_str().unwrap().to_owned()
}

/// Where the server closes, breaks off or dies, the client's connection ends: on another one it would be nobody.
#[test]
fn a_login_ends_with_its_connection() {
    let mut edge = Edge::start(1).unwrap();
    let fronts = edge.fronts.clone();
    let log_in = |front: &Front, user: &User| {
        let mut connection = front.open().unwrap();
        let (status, page) = connection.page(PAGE, &[&one_leg(user)]).unwrap();
        assert_eq!((status, served_as(&page)), (200, user.qualified()));
        connection
    };
    let fault = |edge: &Edge, fault| {
        let switch = Switch::Fault("ews", fault);
        edge.world.servers()[0].switch(switch).unwrap();
    };
    for front in &fronts {
        fault(&edge, Fault::CloseAfter(2));
        let mut connection = log_in(front, &ALICE);
        assert_eq!(connection.get(PAGE, &[]).unwrap(), 200);
        connection.until_closed().unwrap();

        fault(&edge, Fault::Close);
        let mut connection = front.open().unwrap();
        connection
            .send_head("GET", PAGE, &[&one_leg(&ALICE)])
            .unwrap();
        let head = connection.head().unwrap();
        assert_eq!(head.values("connection"), ["close"], "{}", front.transport);
        connection.body(&head).unwrap();
        connection.until_closed().unwrap();

        for broken in [Fault::Half, Fault::Reset] {
            edge.world.servers()[0].switch(Switch::Well("ews")).unwrap();
            let mut connection = log_in(front, &ALICE);
            fault(&edge, broken);
            let answer = connection.page(PAGE, &[]);
            assert!(
                answer.is_err(),
                "{}: half of an answer: {answer:?}",
                front.transport
            );
            connection.until_closed().unwrap();
        }
        edge.world.servers()[0].switch(Switch::Well("ews")).unwrap();
    }
    let mut logged_in: Vec<_> = fronts.iter().map(|front| log_in(front, &ALICE)).collect();
    edge.world.kill_server(1);
    for connection in &mut logged_in {
        connection.until_closed().unwrap();
    }
}

/// A real client of Windows' habits: its body goes on every leg.
#[test]
fn exchangelib_works_and_hears_of_news() {
    let edge = Edge::start(2).unwrap();
    for server in edge.world.servers() {
        server.switch(Switch::Period(200)).unwrap();
    }
    for front in &edge.fronts {
        let (address, ca) = (front.endpoint.address, front.ca());
        let name = lb_tests::certs::NAME;
        let news = client::exchangelib_news(address, name, &ca, &ALICE, 3).unwrap();
        assert_eq!(news.events, ["NewMailEvent"; 3], "{}", front.transport);
    }
}

/// The short form of `cargo xtask soak identity`, which does 100,000 requests.
#[test]
fn nobody_is_someone_else_whoever_dies() {
    let interrupts = Interrupts::default();
    for transport in ["af_xdp", "kernel"] {
        let plan = Plan {
            requests: 4000,
            seed: 2015,
            transport,
            deaths: 4,
        };
        let found = soak::identity(plan, &interrupts).unwrap();
        println!("{transport}: {found}");
        assert_eq!(found.wrong, Vec::<String>::new(), "{transport}");
        assert_eq!(found.deaths, 4, "{transport}");
        assert!(
            found.served > 2000 && found.refused > 100,
            "{transport}: {found}"
        );
    }
}
