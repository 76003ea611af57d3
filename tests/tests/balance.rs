//! Draining, and what health checks and `lb status` say, with the daemon in front of a pool.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    process::Command,
};

use lb_tests::{
    address::{SNAT, VIP_HTTP, VIP_SMTP, server},
    binaries,
    pool::Switch,
    witness,
    world::{Balancer, World},
};
use serde_json::Value;

const VIP: SocketAddrV4 = SocketAddrV4::new(VIP_HTTP, 80);
const TRANSPORTS: [&str; 2] = ["af_xdp", "kernel"];

/// A first message of NTLM: what follows on its connection belongs to its client.
const LOGIN: &str =
    "Authorization: NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n";

fn exchange(transport: &str) -> String {
    format!(
        "[[service]]\nname = \"exchange\"\nlisten = \"{VIP}\"\nmode = \"http\"\nprofile = \"exchange\"\n\
         transport = \"{transport}\"\nminimum_healthy = 2\nservers = [\"{}:80\", \"{}:80\"]\n\
         health = {{ kind = \"http\", host = \"mail.lab.test\", interval = \"500ms\", rise = 1, fall = 2 }}\n\
         [[service.route]]\nname = \"ews\"\npath = [\"/ews\"]\n\
         [[service.route]]\nname = \"owa\"\npath = [\"/owa\"]\n",
        server(1),
        server(2)
    )
}

/// What `lb` answers.
fn lb(balancer: &Balancer, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(binaries::lb().unwrap());
    command.args(arguments).arg("--admin").arg(balancer.admin());
    let output = command.output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(told).unwrap())
}

fn status(balancer: &Balancer) -> Value {
    let (_, told) = lb(balancer, &["status", "--json"]);
    serde_json::from_str(&told).unwrap_or_default()
}

/// Sends a GET; status and server of the response, and whether the connection goes on.
fn ask(stream: &mut TcpStream, path: &str, lines: &str) -> (u16, String, bool) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: mail.lab.test\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value.to_owned())
    };
    let length = field("content-length").map_or(0, |length| length.parse().unwrap());
    stream.read_exact(&mut vec![0; length]).unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let goes_on = field("connection").as_deref() != Some("close");
    (code, field("x-feserver").unwrap(), goes_on)
}

/// Where new connections go.
fn chosen(path: &str, lines: &str) -> BTreeSet<String> {
    let ask_once = |_| ask(&mut witness::connect(VIP.into()).unwrap(), path, lines).1;
    (0..10).map(ask_once).collect()
}

/// Waits until all servers of the service are up.
fn start(world: &World, services: &str) -> Balancer {
    let mut balancer = world.balance(services).unwrap();
    let admin = balancer.admin().to_owned();
    let all_up = || {
        let mut command = Command::new(binaries::lb()?);
        command.args(["status", "--json", "--admin"]).arg(&admin);
        let status: Value = serde_json::from_slice(&command.output()?.stdout).unwrap_or_default();
        let services = status["services"].as_array().into_iter().flatten();
        let servers: Vec<_> = services
            .flat_map(|service| service["servers"].as_array().cloned().unwrap_or_default())
            .collect();
        let checked =
            |server: &Value| server["up"] == true && server["reason"] != "not checked yet";
        Ok(!servers.is_empty() && servers.iter().all(checked))
    };
    balancer
        .eventually("all servers are checked", all_up)
        .unwrap();
    balancer
}

#[test]
fn drain_takes_no_logins_and_ends_none() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let balancer = start(&world, &exchange(transport));
        let mut alice = witness::connect(VIP.into()).unwrap();
        let (code, home, _) = ask(&mut alice, "/ews/", LOGIN);
        assert_eq!(code, 401);
        let number = if home == "ex1" { 1 } else { 2 };
        let address = format!("{}:80", server(number));
        let other = BTreeSet::from([format!("ex{}", 3 - number)]);

        let (done, told) = lb(&balancer, &["drain", "exchange", &address]);
        assert!(
            done && told.contains("gets no new connections in ews, owa: drained"),
            "{told}"
        );
        for lines in [LOGIN, ""] {
            assert_eq!(chosen("/ews/", lines), other);
            assert_eq!(chosen("/owa/healthcheck.htm", lines), other);
        }
        for _ in 0..3 {
            let again = ask(&mut alice, "/ews/", LOGIN);
            assert_eq!(again, (401, home.clone(), true), "the login goes on");
        }
        let service = &status(&balancer)["services"][0];
        let servers = service["servers"].as_array().unwrap();
        let mut drained = servers
            .iter()
            .filter(|server| server["address"] == *address);
        assert!(drained.all(|server| server["drained"] == true
            && server["in_use"] == 1
            && server["up"] == false));
        let requests = service["routes"][0]["requests"].as_u64().unwrap();
        assert_eq!(requests, 24);

        let both = BTreeSet::from(["ex1".to_owned(), "ex2".to_owned()]);
        let (done, told) = lb(&balancer, &["undrain", "exchange/ews", &address]);
        assert!(
            done && told.contains("takes new connections in ews"),
            "{told}"
        );
        assert_eq!(chosen("/ews/", ""), both);
        assert_eq!(chosen("/owa/healthcheck.htm", ""), other);
        let (done, told) = lb(&balancer, &["drain", "exchange/oab", &address]);
        assert!(
            !done && told.contains("route \"oab\" of service \"exchange\" has no server"),
            "{told}"
        );
    }
}

#[test]
fn status_tells_maintenance_and_greetings() {
    let world = World::start(2).unwrap();
    let smtp = format!(
        "[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n[[service]]\nname = \"smtp\"\n\
         listen = \"{VIP_SMTP}:25\"\nmode = \"l4\"\nservers = [\"{}:25\"]\n\
         health = {{ kind = \"smtp\", interval = \"500ms\" }}\n",
        server(1)
    );
    let mut balancer = start(&world, &format!("{smtp}{}", exchange("kernel")));
    let reason = |balancer: &Balancer, service: usize, server: usize| {
        let status = status(balancer);
        let servers = &status["services"][service]["servers"];
        servers[server]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let greeting = reason(&balancer, 0, 0);
    assert!(greeting.starts_with("220 EX1 "), "{greeting}");
    assert_eq!(
        status(&balancer)["services"][1]["routes"][1]["degraded"],
        false
    );

    // OWA of one server; its EWS stays.
    world.servers()[0]
        .switch(Switch::HealthDown("owa"))
        .unwrap();
    let said = "fewer servers are up than minimum_healthy";
    let log = balancer.log();
    assert!(!log.contains(said));
    let path = world.directory().join("lb.log");
    balancer
        .eventually("it is said that there are too few", || {
            Ok(std::fs::read_to_string(&path)?.contains(said))
        })
        .unwrap();
    let why = reason(&balancer, 1, 2);
    assert_eq!(
        why,
        "GET: maintenance or Managed Availability says no: status 503 Service Unavailable"
    );
    let routes = &status(&balancer)["services"][1]["routes"];
    assert_eq!(
        (&routes[0]["degraded"], &routes[1]["degraded"]),
        (&false.into(), &true.into())
    );
    assert_eq!(
        chosen("/owa/healthcheck.htm", ""),
        BTreeSet::from(["ex2".to_owned()])
    );
    assert_eq!(chosen("/ews/", "").len(), 2);
    assert_eq!(balancer.log().matches(said).count(), 1);
}
