//! Long, large and broken exchanges with a server of the pool, without a load balancer.

use std::fs;

use lb_tests::{
    certs,
    client::{self, Endpoint, PING_EXPIRED, Rpc},
    pool::{Fault, ODD, Server, Settings, Switch},
    world::{self, World},
};

use super::ALICE;

fn plain() -> Endpoint {
    Endpoint::plain(world::http(1))
}

fn tls(world: &World) -> Endpoint {
    Endpoint {
        address: world::https(1),
        ca: Some(world.certs().ca.clone()),
    }
}

#[test]
fn rpc_echoes_while_both_requests_go_on() {
    let world = World::start(1).unwrap();
    let mut rpc = Rpc::open(&tls(&world), &ALICE).unwrap();
    for size in [1, 4, 1000, 100_000] {
        let data = vec![7; size];
        assert!(rpc.echo(&data).unwrap() == data, "{size} bytes");
    }
    let mut out = rpc.end_inward();
    out.until_closed().unwrap();
    let echo = client::rpc_echo(&mut plain().open().unwrap(), &ALICE).unwrap();
    assert_eq!(echo, (200, 20), "MS-RPCH: an RTS PDU without commands");
}

#[test]
fn a_ping_is_answered_when_its_heartbeat_is_over() {
    let _world = World::start(1).unwrap();
    let mut phone = plain().open().unwrap();
    for (seconds, status) in [(1, b'1'), (3600, b'5')] {
        client::send_ping(&mut phone, &ALICE, seconds).unwrap();
        let head = phone.head().unwrap();
        assert_eq!(head.status, 200);
        let mut expected = PING_EXPIRED;
        expected[9] = status;
        assert_eq!(phone.body(&head).unwrap(), expected, "{seconds} s");
    }
    let status = phone.get("/Microsoft-Server-ActiveSync", &[]).unwrap();
    assert_eq!(status, 401, "Basic is for one request");
}

#[test]
fn mapi_says_that_it_is_at_work() {
    let world = World::start(1).unwrap();
    world.servers()[0].switch(Switch::Period(20)).unwrap();
    let mut outlook = plain().open().unwrap();
    let login = client::one_leg(&ALICE);
    let kinds = [("Connect", 0), ("Execute", 1), ("NotificationWait", 10)];
    for (kind, pending) in kinds {
        client::send_mapi(&mut outlook, kind, b"content", &login).unwrap();
        let head = outlook.head().unwrap();
        assert_eq!(head.values("x-pendingperiod"), ["20"], "{kind}");
        let mut chunks = Vec::new();
        while let Some(chunk) = outlook.chunk().unwrap() {
            chunks.push(String::from_utf8(chunk).unwrap());
        }
        assert_eq!(chunks[0], "PROCESSING\r\n", "{kind}");
        assert_eq!(chunks[1..=pending], vec!["PENDING\r\n"; pending], "{kind}");
        assert!(chunks[pending + 1].starts_with("DONE\r\n"), "{kind}");
        assert!(chunks[pending + 1].ends_with("\r\n\r\ncontent"), "{kind}");
    }
}

#[test]
fn exchangelib_creates_an_item_and_hears_of_news() {
    let world = World::start(1).unwrap();
    world.servers()[0].switch(Switch::Period(100)).unwrap();
    let ca = &world.certs().ca;
    let news = client::exchangelib_news(world::https(1), certs::NAME, ca, &ALICE, 3).unwrap();
    assert_eq!(news.subjects, ["a & b"]);
    assert_eq!(news.events, ["NewMailEvent"; 3]);
}

#[test]
fn a_browser_is_sent_to_the_form_and_back() {
    let world = World::start(1).unwrap();
    let (ca, jar) = (world.certs().ca.clone(), world.directory().join("cookies"));
    let options = [
        "--cacert",
        ca.to_str().unwrap(),
        "--cookie-jar",
        jar.to_str().unwrap(),
        "--cookie",
        jar.to_str().unwrap(),
        "--location",
        "--resolve",
        &format!("{}:443:{}", certs::NAME, world::https(1).ip()),
    ];
    let url = |path: &str| format!("https://{}{path}", certs::NAME);
    let text = |options: &[&str], path: &str| {
        let (status, page) = client::fetch(options, &url(path)).unwrap();
        (status, String::from_utf8(page).unwrap())
    };
    assert!(text(&options, "/owa/").1.contains("logonForm"));
    let sign_in = |password: &str| {
        let form = format!("username=LAB%5Calice&password={password}");
        text(
            &[&options[..], &["--data", &form]].concat(),
            "/owa/auth.owa",
        )
        .1
    };
    assert!(sign_in("wrong").contains("logonForm"));
    assert!(sign_in(ALICE.password).contains("Inbox - LAB\\alice"));
    let (status, page) = text(&options, "/owa/whoami");
    assert_eq!(status, 200);
    assert!(page.contains("alice"), "the cookie is enough: {page}");
    let forged = ["--cookie", "cadata=TEFCXGFsaWNl.0000000000000000"];
    let forged = [&forged[..], &options[..2], &options[6..]].concat();
    assert!(text(&forged, "/owa/whoami").1.contains("logonForm"));
}

#[test]
fn extended_protection_is_what_microsoft_says() {
    let mut world = World::start(1).unwrap();
    world.kill_server(1);
    let _server = Server::start(Settings {
        number: 1,
        journal: None,
        tls: Some(world.certs()),
        extended_protection: true,
    })
    .unwrap();
    let ca = world.certs().ca.to_str().unwrap().to_owned();
    let url = |path: &str| format!("https://{}{path}", certs::NAME);
    let at = world::https(1).to_string();
    // With requests-ntlm, which binds its logins to the channel or not; curl never does.
    let requests = |path: &str, binds: &str| -> u16 {
        let arguments = [&url(path), &at, &ca, ALICE.name, ALICE.password, binds];
        client::python("bound_login.py", &arguments).unwrap()
    };
    let login = format!("{}:{}", ALICE.qualified(), ALICE.password);
    let resolve = format!("{}:443:{}", certs::NAME, world::https(1).ip());
    let curl = |path: &str| {
        let options = [
            "--ntlm",
            "--user",
            &login,
            "--cacert",
            &ca,
            "--resolve",
            &resolve,
        ];
        client::curl(&options, &[url(path)]).unwrap()[0].status
    };
    // Require, Allow, None.
    for (path, unbound) in [
        ("/mapi/whoami", 401),
        ("/ews/whoami", 200),
        ("/autodiscover/whoami", 200),
    ] {
        assert_eq!(requests(path, "bound"), 200, "{path}");
        assert_eq!(requests(path, "unbound"), unbound, "{path}");
        assert_eq!(curl(path), unbound, "{path}");
    }
    // Bound to another channel: right nowhere but where nobody looks.
    let other = certs::write(&world.directory().join("other")).unwrap();
    let other = fs::canonicalize(other.certificate).unwrap();
    for (path, status) in [
        ("/mapi/whoami", 401),
        ("/ews/whoami", 401),
        ("/autodiscover/whoami", 200),
    ] {
        assert_eq!(requests(path, other.to_str().unwrap()), status, "{path}");
    }
}

#[test]
fn fields_come_in_odd_case_and_order() {
    let world = World::start(1).unwrap();
    let mut connection = plain().open().unwrap();
    connection
        .send_head("GET", "/ews/odd", &["x-ODD: 1", "X-Odd: 2"])
        .unwrap();
    let head = connection.head().unwrap();
    let odd = ODD.map(|(name, value)| format!("{name}: {value}"));
    assert_eq!(head.lines[..odd.len()], odd);
    let seen = world.seen().unwrap();
    let request = seen.requests("/ews/odd").next().unwrap();
    let expected = format!(
        "GET /ews/odd HTTP/1.1\r\nHost: {}\r\nx-ODD: 1\r\nX-Odd: 2\r\n\r\n",
        world::http(1)
    );
    assert_eq!(request.head, expected);
}

#[test]
fn directories_fail_one_by_one() {
    let world = World::start(1).unwrap();
    let server = &world.servers()[0];
    let login = client::one_leg(&ALICE);
    let ask = |path: &str| {
        let mut connection = plain().open().unwrap();
        let status = connection.page(path, &[&login]).map(|page| page.0);
        (status, connection)
    };
    let fail = |fault| server.switch(Switch::Fault("ews", fault)).unwrap();

    fail(Fault::Status(500));
    assert_eq!(ask("/EWS/whoami").0.unwrap(), 500);
    assert_eq!(ask("/oab/whoami").0.unwrap(), 200, "one directory alone");
    fail(Fault::Half);
    assert!(ask("/EWS/whoami").0.is_err());
    fail(Fault::Reset);
    let (status, mut connection) = ask("/EWS/whoami");
    assert!(status.is_err());
    connection.until_closed().unwrap();
    fail(Fault::Close);
    let (status, mut connection) = ask("/EWS/whoami");
    assert_eq!(status.unwrap(), 200);
    connection.until_closed().unwrap();
    fail(Fault::CloseAfter(2));
    let (status, mut connection) = ask("/EWS/whoami");
    assert_eq!(status.unwrap(), 200);
    assert_eq!(connection.get("/EWS/whoami", &[]).unwrap(), 200);
    connection.until_closed().unwrap();
    fail(Fault::Delay(1));
    assert_eq!(ask("/EWS/whoami").0.unwrap(), 200);

    fail(Fault::Silent);
    let mut connection = plain().open().unwrap();
    connection
        .send_head("GET", "/ews/whoami", &[&login])
        .unwrap();
    world::eventually("it was heard", || {
        Ok(world
            .seen()?
            .requests("/ews/whoami")
            .any(|request| request.status == 0))
    })
    .unwrap();
    server.switch(Switch::Well("ews")).unwrap();
    assert_eq!(ask("/EWS/whoami").0.unwrap(), 200);
}
