//! The HTTP side of `lb` on a real kernel: real clients, real NTLM, the article both ways, on both transports.
//!
//! Needs root, curl, the Python of `cargo xtask setup`, and an `lb` with the XDP program inside
//! (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{fs, net::SocketAddrV4, process::Stdio};

use lb_tests::{
    address::{VIP_HTTP, ipv6, server},
    binaries, certs, client,
    lab::Namespace,
    pool::{
        Switch, USERS, User,
        journal::AuthLeg::{First, Later, None as Bare},
    },
    world::{Balancer, World},
};

const ALICE: User = USERS[0];
const VIP: SocketAddrV4 = SocketAddrV4::new(VIP_HTTP, 80);
const PROBE: &str = "http://10.203.1.100/owa/healthcheck.htm";
/// Says whose it is.
const PAGE: &str = "http://10.203.1.100/ecp/healthcheck.htm";
const TRANSPORTS: [&str; 2] = ["af_xdp", "kernel"];

/// An Exchange service on [`VIP`] with the first `servers` servers of the lab.
fn exchange(transport: &str, headers: &str, servers: u8) -> String {
    format!(
        "[[service]]\nname = \"exchange\"\nlisten = \"{VIP}\"\nmode = \"http\"\nprofile = \"exchange\"\n\
         headers = \"{headers}\"\ntransport = \"{transport}\"\nservers = {}\nhealth = {HEALTH}\n",
        addresses(servers, 80),
    )
}

fn addresses(servers: u8, port: u16) -> String {
    let list: Vec<_> = (1..=servers)
        .map(|number| format!("{}:{port}", server(number)))
        .collect();
    format!("{list:?}")
}

/// Short, so that a test needn't wait long; one success is enough, one lost probe is not.
const HEALTH: &str = "{ kind = \"http\", path = \"/owa/healthcheck.htm\", host = \"mail.lab.test\", \
     expect = \"200 OK\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }";

/// An Exchange service with TLS on both sides.
fn balance_tls(world: &World, transport: &str) -> Balancer {
    let files = world.certs();
    let service = format!(
        "[[service]]\nname = \"exchange\"\nlisten = \"{VIP_HTTP}:443\"\nmode = \"http\"\n\
         profile = \"exchange\"\ntransport = \"{transport}\"\n\
         tls = {{ certificate = \"{}\", key = \"{}\" }}\n\
         upstream_tls = {{ ca = \"{}\", server_name = \"{}\" }}\n\
         servers = {}\nhealth = {}\n",
        files.certificate.display(),
        files.key.display(),
        files.ca.display(),
        certs::NAME,
        addresses(2, 443),
        HEALTH.replace("\"http\"", "\"https\""),
    );
    let mut balancer = world.balance(&service).unwrap();
    let url = format!("https://{VIP_HTTP}/owa/healthcheck.htm");
    balancer
        .eventually("the TLS service is open", || {
            let options = ["--cacert", files.ca.to_str().unwrap()];
            Ok(client::curl(&options, std::slice::from_ref(&url))?[0].status == 200)
        })
        .unwrap();
    balancer
}

fn balance(world: &World, services: &str) -> Balancer {
    let mut balancer = world.balance(services).unwrap();
    balancer.until_served(PROBE).unwrap();
    balancer
}

/// Whether the edge's kernel has a listening socket on [`VIP`].
fn kernel_listens() -> bool {
    // Not /proc/net, which shows the namespace of the process and not of the thread.
    let table = Namespace::edge().run(|| fs::read_to_string("/proc/thread-self/net/tcp"));
    // Address and port in the byte order of the machine and of the network, then state 0A, "listen".
    let address = u32::from_ne_bytes(VIP.ip().octets());
    let listening = format!(" {address:08X}:{:04X} 00000000:0000 0A ", VIP.port());
    table.unwrap().unwrap().contains(&listening)
}

#[test]
fn a_transport_is_what_it_is_called() {
    // What is big moves to the kernel, and where a tuple has lived its next connection may begin.
    for (transport, kernel) in [("af_xdp", false), ("kernel", true), ("auto", true)] {
        let world = World::start(1).unwrap();
        let _balancer = balance(&world, &exchange(transport, "none", 1));
        assert_eq!(kernel_listens(), kernel, "{transport}");
    }
}

#[test]
fn large_bodies_arrive_whole() {
    const SIZE: usize = 8_000_000;
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        // TLS, because it fails on a single wrong byte.
        let _balancer = balance_tls(&world, transport);
        let file = world.directory().join("upload");
        fs::write(&file, vec![b'x'; SIZE]).unwrap();
        let upload = format!("@{}", file.display());
        let login = format!("{}:{}", ALICE.name, ALICE.password);
        let ca = world.certs().ca.to_str().unwrap();
        let options = [
            "--cacert",
            ca,
            "--basic",
            "--user",
            &login,
            "--data-binary",
            &upload,
        ];
        let (status, page) =
            client::fetch(&options, &format!("https://{VIP_HTTP}/whoami")).unwrap();
        assert_eq!(status, 200, "{transport}");
        let page: serde_json::Value = serde_json::from_slice(&page).unwrap();
        assert_eq!(page["body_bytes"], SIZE, "{transport}");

        let url = format!("https://{VIP_HTTP}/bench/{SIZE}");
        let (status, page) = client::fetch(&["--cacert", ca], &url).unwrap();
        assert_eq!((status, page.len()), (200, SIZE), "{transport}");
    }
}

#[test]
fn many_connections_at_once() {
    for transport in TRANSPORTS {
        let world = World::start(3).unwrap();
        let balancer = balance(&world, &exchange(transport, "none", 3));
        let options = [
            "--parallel",
            "--parallel-max",
            "60",
            "--header",
            "Connection: close",
        ];
        let urls: Vec<_> = (0..300)
            .map(|n| format!("http://{VIP}/bench/2000?{n}"))
            .collect();
        let fetched = client::curl(&options, &urls).unwrap();
        let good = fetched
            .iter()
            .filter(|fetched| fetched.status == 200)
            .count();
        assert_eq!(good, urls.len(), "{transport}");
        // A client finds a queue with a socket by itself: its SYN, sent again, is hashed anew. None had to.
        assert_eq!(balancer.packets("no_worker").unwrap(), 0, "{transport}");
    }
}

/// Clients over IPv6, servers over both: a proxy translates.
#[test]
fn clients_of_ipv6_are_served() {
    let reasons = [("af_xdp", "to_worker"), ("kernel", "stack_service")];
    for (transport, reason) in reasons {
        let world = World::start(2).unwrap();
        world.lab().speak_ipv6().unwrap();
        let (vip, second) = (ipv6(VIP_HTTP), ipv6(server(2)));
        // Beside the one that listens on IPv4; without a journal, which that one keeps.
        let mut server6 = Namespace::pool(2)
            .spawn(binaries::sibling("lb-pool").unwrap(), |command| {
                command
                    .args(["--name", "EX6", "--http", &format!("[{second}]:80")])
                    .arg("--python")
                    .arg(binaries::python().unwrap())
                    .stdout(Stdio::piped());
            })
            .unwrap();
        server6.wait_for_line("ready").unwrap();
        let service = format!(
            "[[service]]\nname = \"exchange\"\nlisten = \"[{vip}]:80\"\nmode = \"http\"\n\
             profile = \"exchange\"\ntransport = \"{transport}\"\nservers = {:?}\nhealth = {HEALTH}\n",
            [format!("{}:80", server(1)), format!("[{second}]:80")],
        );
        let mut balancer = world.balance(&service).unwrap();
        let page = format!("http://[{vip}]/ecp/healthcheck.htm");
        balancer
            .eventually(
                "both serve",
                || Ok(servers_of(&page, 20)? == ["EX1", "EX6"]),
            )
            .unwrap();

        let urls = vec![format!("http://[{vip}]/whoami"); 3];
        let fetched = client::curl_ntlm(&ALICE, ALICE.password, &urls).unwrap();
        assert!(fetched.iter().all(|one| one.status == 200), "{fetched:?}");
        let url = format!("http://[{vip}]/bench/1000000");
        let (status, body) = client::fetch(&[], &url).unwrap();
        assert_eq!((status, body.len()), (200, 1_000_000), "{transport}");
        assert!(balancer.packets(reason).unwrap() > 100, "{transport}");
    }
}

#[test]
fn one_login_on_one_upstream_connection() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let _balancer = balance(&world, &exchange(transport, "none", 2));
        let urls = vec![format!("http://{VIP}/whoami"); 3];
        let fetched = client::curl_ntlm(&ALICE, ALICE.password, &urls).unwrap();
        let statuses: Vec<u16> = fetched.iter().map(|fetched| fetched.status).collect();
        assert_eq!(statuses, [200, 200, 200], "{transport}");
        let connects: u32 = fetched.iter().map(|fetched| fetched.connects).sum();
        assert_eq!(
            connects, 1,
            "{transport}: the client's connection stays open"
        );

        let seen = world.seen().unwrap();
        assert_eq!(
            seen.connections("/whoami"),
            1,
            "{transport}: upstream connections"
        );
        assert_eq!(
            seen.legs("/whoami"),
            [First, Later, Bare, Bare],
            "{transport}"
        );
        for request in seen.requests("/whoami") {
            for header in ["via", "x-clientside", "x-forwarded-for", "forwarded"] {
                assert_eq!(request.header(header), None, "{transport}");
            }
        }
    }
}

#[test]
fn a_wrong_password_is_refused() {
    let world = World::start(1).unwrap();
    let _balancer = balance(&world, &exchange("auto", "none", 1));
    let urls = [format!("http://{VIP}/whoami")];
    let fetched = client::curl_ntlm(&ALICE, "wrong", &urls).unwrap();
    assert_eq!(fetched[0].status, 401);
}

#[test]
fn the_article_fails_with_via() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let _balancer = balance(&world, &exchange(transport, "x-clientside+via", 2));
        let seen = client::mac_mail(VIP, &ALICE).unwrap();
        assert_eq!(seen, [vec![401, 200], vec![401, 401, 400]], "{transport}");
        let seen = world.seen().unwrap();
        assert!(
            seen.requests("/whoami")
                .all(|request| request.header("via").is_some())
        );
    }
}

#[test]
fn the_article_works_with_the_exchange_profile() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let _balancer = balance(&world, &exchange(transport, "none", 2));
        let seen = client::mac_mail(VIP, &ALICE).unwrap();
        assert_eq!(seen, [vec![401, 200], vec![200], vec![200]], "{transport}");
        let seen = world.seen().unwrap();
        assert_eq!(
            seen.connections("/whoami"),
            1,
            "{transport}: upstream connections"
        );
        assert_eq!(
            seen.legs("/whoami"),
            [First, Later, Bare, Bare],
            "{transport}"
        );
    }
}

#[test]
fn a_via_from_the_client_does_no_harm() {
    let world = World::start(1).unwrap();
    let _balancer = balance(&world, &exchange("auto", "none", 1));
    let user = format!("{}:{}", ALICE.qualified(), ALICE.password);
    let options = [
        "--ntlm",
        "--user",
        &user,
        "--header",
        "Via: 1.1 branch-office",
    ];
    client::curl(&options, &vec![format!("http://{VIP}/whoami"); 2]).unwrap();
    assert_eq!(
        world.seen().unwrap().legs("/whoami"),
        [First, Later, Bare],
        "it was removed"
    );
}

#[test]
fn nobody_is_ever_someone_else() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let _balancer = balance(&world, &exchange(transport, "none", 2));
        let result = client::identities(VIP, 1000, &USERS[..2]).unwrap();
        assert_eq!(result.wrong, Vec::<String>::new(), "{transport}");
        assert_eq!(result.refused, Vec::<String>::new(), "{transport}");
        assert_eq!(result.stranger_served, Vec::<String>::new(), "{transport}");
        assert_eq!((result.requests, result.strangers), (1000, 250));
        // Every login has its own connection to a server, or someone inherited one.
        let seen = world.seen().unwrap();
        let first = |leg: &_| matches!(leg, First | lb_tests::pool::journal::AuthLeg::OneLeg);
        let logins = seen.legs("/whoami").iter().filter(|leg| first(leg)).count();
        assert_eq!(
            logins,
            usize::try_from(result.logins).unwrap(),
            "{transport}"
        );
        assert!(seen.connections("/whoami") >= logins, "{transport}");
    }
}

#[test]
fn a_server_that_says_it_is_ill_leaves_and_returns() {
    let world = World::start(2).unwrap();
    let mut balancer = balance(&world, &exchange("auto", "none", 2));
    both_serve(&mut balancer);
    world.servers()[1]
        .switch(Switch::HealthDown("owa"))
        .unwrap();
    let only_the_first = || Ok(servers_of(PAGE, 20)? == ["EX1"]);
    balancer
        .eventually("only EX1 serves", only_the_first)
        .unwrap();
    world.servers()[1].switch(Switch::HealthUp("owa")).unwrap();
    both_serve(&mut balancer);
}

#[test]
fn a_dead_server_leaves_and_returns() {
    let mut world = World::start(2).unwrap();
    let mut balancer = balance(&world, &exchange("auto", "none", 2));
    both_serve(&mut balancer);
    world.kill_server(2);
    balancer
        .eventually("only EX1 serves", || Ok(servers_of(PAGE, 20)? == ["EX1"]))
        .unwrap();
    world.revive_server(2).unwrap();
    both_serve(&mut balancer);
}

#[test]
fn a_killed_balancer_can_be_started_again() {
    let world = World::start(1).unwrap();
    for _ in 0..2 {
        // Dropped at the end of the round, which kills it without a chance to clean up.
        let _balancer = balance(&world, &exchange("auto", "none", 1));
    }
    let status = balance(&world, &exchange("auto", "none", 1))
        .stop()
        .unwrap();
    assert!(status.success(), "SIGTERM is the normal end: {status}");
}

#[test]
fn without_servers_the_answer_is_503() {
    let mut world = World::start(1).unwrap();
    let mut balancer = balance(&world, &exchange("auto", "none", 1));
    world.kill_server(1);
    balancer
        .eventually("503 without servers", || Ok(client::get(PROBE)?.0 == 503))
        .unwrap();
}

fn both_serve(balancer: &mut Balancer) {
    balancer
        .eventually("both serve", || Ok(servers_of(PAGE, 20)? == ["EX1", "EX2"]))
        .unwrap();
}

/// Names of the servers that answer `requests` requests for this page of theirs on as many connections; `"-"` for a failure.
fn servers_of(url: &str, requests: usize) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for _ in 0..requests {
        let (status, page) = client::get(url)?;
        let name = page
            .strip_prefix("200 OK<br/>")
            .and_then(|rest| rest.split('.').next());
        names.push(name.filter(|_| status == 200).unwrap_or("-").to_owned());
    }
    names.sort();
    names.dedup();
    Ok(names)
}
