//! `lb flows` and `lb explain` against a running `lb` with a connection that the test knows all about.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::net::{SocketAddr, SocketAddrV4};
use std::process::Command;

use lb_tests::{
    address::{CLIENT, SNAT, VIP_HTTP, VIP_SMTP, server},
    binaries,
    client::{Connection, Smtp},
    world::{Balancer, World},
};
use serde_json::{Value, json};

const VIP: SocketAddrV4 = SocketAddrV4::new(VIP_SMTP, 25);

fn balance(world: &World) -> Balancer {
    let services = format!(
        "[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n\
         [[service]]\nname = \"smtp\"\nlisten = \"{VIP}\"\nmode = \"l4\"\nsource = \"nat\"\n\
         servers = [\"{}:25\"]\n\
         health = {{ kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }}\n",
        server(1)
    );
    let mut balancer = world.balance(&services).unwrap();
    balancer
        .eventually("SMTP is served", || Ok(Smtp::connect(CLIENT, VIP).is_ok()))
        .unwrap();
    balancer
}

/// Runs `lb` against the daemon's admin socket. No namespace is entered: a Unix socket is a file.
fn ask(balancer: &Balancer, arguments: &[&str]) -> Value {
    let output = Command::new(binaries::lb().unwrap())
        .args(arguments)
        .arg("--json")
        .arg("--admin")
        .arg(balancer.admin())
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn flows(balancer: &Balancer, filter: &[&str]) -> Vec<Value> {
    let answer = ask(balancer, &[&["flows"], filter].concat());
    answer["flows"].as_array().unwrap().clone()
}

fn explain(balancer: &Balancer, from: SocketAddr, to: SocketAddr, more: &[&str]) -> Value {
    let (from, to) = (from.to_string(), to.to_string());
    let tuple = ["explain", "--from", &from, "--to", &to];
    ask(balancer, &[&tuple, more].concat())[0].clone()
}

#[test]
fn a_flow_is_listed_with_both_of_its_tuples_and_found_by_each_filter() {
    let world = World::start(1).unwrap();
    let balancer = balance(&world);
    let mut smtp = Smtp::connect(CLIENT, VIP).unwrap();
    smtp.noop().unwrap();
    let client = smtp.local().to_string();

    let listed = flows(&balancer, &["--client", &client]);
    let [flow] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    let expected = [
        ("client", client.clone()),
        ("listen", VIP.to_string()),
        ("source", smtp.peer().unwrap().to_string()),
        ("server", format!("{}:25", server(1))),
        ("service", "smtp".to_owned()),
        ("state", "established".to_owned()),
    ];
    for (key, value) in expected {
        assert_eq!(flow[key], json!(value), "{key}");
    }
    for key in ["packets_in", "bytes_in", "packets_out", "bytes_out"] {
        assert!(flow[key].as_u64().unwrap() > 0, "{key}: {flow}");
    }

    let has = |filter: [&str; 2]| {
        let found = flows(&balancer, &filter);
        found.iter().any(|flow| flow["client"] == json!(client))
    };
    let ip = server(1).to_string();
    for filter in [
        ["--service", "smtp"],
        ["--server", &ip],
        ["--state", "established"],
    ] {
        assert!(has(filter), "{filter:?}");
    }
    for filter in [
        ["--service", "web"],
        ["--server", "10.203.2.99"],
        ["--state", "half-open"],
    ] {
        assert!(!has(filter), "{filter:?}");
    }
}

#[test]
fn a_connection_that_ends_in_a_worker_is_listed_with_what_its_tcp_knows() {
    let world = World::start(1).unwrap();
    let service = format!(
        "[[service]]\nname = \"exchange\"\nlisten = \"{VIP_HTTP}:80\"\nmode = \"http\"\ntransport = \"af_xdp\"\n\
         servers = [\"{}:80\"]\n\
         health = {{ kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }}\n",
        server(1)
    );
    let mut balancer = world.balance(&service).unwrap();
    let probe = format!("http://{VIP_HTTP}/owa/healthcheck.htm");
    balancer.until_served(&probe).unwrap();
    let mut connection = Connection::open(SocketAddrV4::new(VIP_HTTP, 80)).unwrap();
    let answer = connection.get("/owa/healthcheck.htm", &[]).unwrap();
    assert_eq!(answer, 200);

    let client = CLIENT.to_string();
    let filter = ["--client", &client, "--state", "established"];
    let listed = flows(&balancer, &filter);
    let [flow] = listed.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!(flow["service"], json!("exchange"));
    assert_eq!(flow["forward"], json!("af_xdp"));
    assert_eq!(flow["server"], Value::Null);
    let tcp = &flow["tcp"];
    assert_eq!(tcp["state"], json!("ESTAB"));
    assert_eq!(tcp["unacked"], json!(0), "{tcp}");
    for key in ["rtt_us", "snd_mss", "snd_cwnd", "snd_wnd", "rcv_wnd"] {
        assert!(tcp[key].as_u64().unwrap() > 0, "{key}: {tcp}");
    }
    assert!(flows(&balancer, &["--server", &server(1).to_string()]).is_empty());

    let status = ask(&balancer, &["status"]);
    let counted = |name: &str| {
        let counters = status["tcp"].as_array().unwrap().iter();
        let mut named = counters.filter(|counter| counter["name"] == json!(name));
        named.next().map(|counter| counter["value"].clone())
    };
    assert!(counted("TcpPassiveOpens").unwrap().as_u64().unwrap() >= 2);
    assert_eq!(counted("LbDroppedChecksum"), None, "{status}");
}

#[test]
fn a_list_stops_at_its_limit_and_says_so() {
    let world = World::start(1).unwrap();
    let balancer = balance(&world);
    let _two = [(); 2].map(|()| Smtp::connect(CLIENT, VIP).unwrap());
    let answer = ask(&balancer, &["flows", "--limit", "1"]);
    assert_eq!(answer["flows"].as_array().unwrap().len(), 1);
    assert_eq!(answer["truncated"], json!(true));
    let answer = ask(&balancer, &["flows", "--client", "10.203.1.250"]);
    assert_eq!(answer, json!({ "flows": [], "truncated": false }));
}

#[test]
fn a_packet_of_a_live_connection_is_explained_as_it_is_forwarded() {
    let world = World::start(1).unwrap();
    let balancer = balance(&world);
    let smtp = Smtp::connect(CLIENT, VIP).unwrap();
    let (client, peer) = (smtp.local(), smtp.peer().unwrap());
    let server = format!("{}:25", server(1));

    let outcome = explain(&balancer, client, VIP.into(), &["--flags", "ack"]);
    assert_eq!(outcome["verdict"], "redirect", "{outcome}");
    assert_eq!(outcome["flow"], "known");
    assert_eq!(outcome["service"], "smtp");
    assert_eq!(outcome["server"], json!(server));
    assert_eq!(outcome["leaves"], json!([peer.to_string(), server]));

    let answer = ["--flags", "ack", "--interface", "lb-back"];
    let outcome = explain(&balancer, server.parse().unwrap(), peer, &answer);
    assert_eq!(outcome["verdict"], "redirect", "{outcome}");
    assert_eq!(outcome["server"], json!(server));
    assert_eq!(
        outcome["leaves"],
        json!([VIP.to_string(), client.to_string()])
    );
}

#[test]
fn an_explanation_opens_no_flow_and_moves_no_counter() {
    let world = World::start(1).unwrap();
    let balancer = balance(&world);
    let client: SocketAddr = "10.203.1.77:7777".parse().unwrap();
    let before = ask(&balancer, &["status"])["services"][0]["flows"].clone();

    let outcome = explain(&balancer, client, VIP.into(), &[]);
    assert_eq!(outcome["flow"], "new", "{outcome}");
    // Had the first one opened a flow, this one would belong to it.
    let outcome = explain(&balancer, client, VIP.into(), &["--flags", "ack"]);
    assert_eq!(outcome["verdict"], "pass", "{outcome}");
    assert_eq!(outcome["reason"], "no_flow");
    let outcome = explain(&balancer, client, "10.203.1.9:25".parse().unwrap(), &[]);
    assert_eq!(outcome["reason"], "not_ours");

    assert!(flows(&balancer, &["--client", &client.to_string()]).is_empty());
    assert_eq!(ask(&balancer, &["status"])["services"][0]["flows"], before);
}
