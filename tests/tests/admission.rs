//! Who is let in, and services of `mode = "tcp"`, on a real kernel with real clients.
//!
//! Needs root, curl, and an `lb` with the XDP program inside (`cargo xtask test` builds it).

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::process::Output;

use lb_tests::{
    address::{CLIENT, CLIENT_EXTRA, EDGE_BACK, VIP_HTTP, VIP_SMTP, server},
    certs,
    client::Smtp,
    lab::Namespace,
    world::{Balancer, World},
};

const TRANSPORTS: [&str; 2] = ["af_xdp", "kernel"];
const HEALTH: &str = "{ kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }";
const VIP: SocketAddrV4 = SocketAddrV4::new(VIP_SMTP, 25);

/// A service that relays SMTP, with more keys.
fn relay(transport: &str, port: u16, more: &str) -> String {
    let servers: Vec<_> = (1..=2)
        .map(|number| format!("{}:25", server(number)))
        .collect();
    format!(
        "[[service]]\nname = \"smtp-{port}\"\nlisten = \"{VIP_SMTP}:{port}\"\nmode = \"tcp\"\ntransport = \"{transport}\"\n\
         servers = {servers:?}\nhealth = {HEALTH}\n{more}\n"
    )
}

/// The second of the client's addresses.
fn other() -> Ipv4Addr {
    let [a, b, c, _] = CLIENT.octets();
    Ipv4Addr::new(a, b, c, *CLIENT_EXTRA.start())
}

fn curl(source: Ipv4Addr, arguments: &[&str]) -> Output {
    let mut command = Namespace::client().command("curl");
    command.args([
        "--silent",
        "--show-error",
        "--connect-timeout",
        "2",
        "--max-time",
        "20",
    ]);
    command.args(["--interface", &source.to_string()]);
    command.args(arguments).output().unwrap()
}

fn until_served(balancer: &mut Balancer) {
    balancer
        .eventually("SMTP is served", || Ok(Smtp::connect(CLIENT, VIP).is_ok()))
        .unwrap();
}

#[test]
fn mail_is_relayed_plain_and_out_of_tls() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let files = world.certs();
        let tls = format!(
            "tls = {{ certificate = \"{}\", key = \"{}\" }}",
            files.certificate.display(),
            files.key.display()
        );
        let services = relay(transport, 25, "") + &relay(transport, 465, &tls);
        let mut balancer = world.balance(&services).unwrap();
        until_served(&mut balancer);

        let mut smtp = Smtp::connect(CLIENT, VIP).unwrap();
        assert_eq!(
            smtp.peer().unwrap().ip(),
            IpAddr::V4(EDGE_BACK),
            "{transport}"
        );
        // Longer than any buffer, and its period is no power of two.
        let data: Vec<u8> = (0..=250).cycle().take(3_000_017).collect();
        assert!(smtp.echo(&data).unwrap() == data, "{transport}");
        smtp.noop().unwrap();
        let mut names: Vec<_> = (0..4)
            .map(|_| {
                Smtp::connect(CLIENT, VIP)
                    .unwrap()
                    .server()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names, ["EX1", "EX2"], "{transport}");

        // A real client, which waits for the server's banner.
        let host = format!("{}:465:{VIP_SMTP}", certs::NAME);
        let ca = files.ca.to_str().unwrap();
        let url = format!("smtps://{}:465", certs::NAME);
        let options = [
            "--verbose",
            "--cacert",
            ca,
            "--resolve",
            &host,
            "--request",
            "NOOP",
            &url,
        ];
        let output = curl(CLIENT, &options);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{transport}: {said}");
        assert!(
            said.contains("< 220 EX") && said.contains("< 250 EX"),
            "{transport}: {said}"
        );
    }
}

#[test]
fn who_is_denied_reaches_no_service_and_the_others_do() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let servers = [format!("{}:80", server(1))];
        let deny = format!("deny = [\"{}\"]", other());
        let services = format!(
            "{deny}\n{}[[service]]\nname = \"http\"\nlisten = \"{VIP_HTTP}:80\"\nmode = \"http\"\ntransport = \"{transport}\"\n\
             servers = {servers:?}\n\
             [[service]]\nname = \"l4\"\nlisten = \"{VIP_SMTP}:2525\"\nmode = \"l4\"\nsource = \"client\"\n\
             servers = [\"{}:25\"]\nhealth = {HEALTH}\n",
            relay(transport, 25, ""),
            server(1),
        );
        let mut balancer = world.balance(&services).unwrap();
        until_served(&mut balancer);
        let page = format!("http://{VIP_HTTP}/owa/healthcheck.htm");
        balancer.until_served(&page).unwrap();
        let l4 = SocketAddrV4::new(VIP_SMTP, 2525);
        balancer
            .eventually(
                "the forwarded one",
                || Ok(Smtp::connect(CLIENT, l4).is_ok()),
            )
            .unwrap();
        assert_eq!(balancer.packets("denied").unwrap(), 0, "{transport}");

        let relayed = format!("telnet://{VIP}");
        let forwarded = format!("telnet://{l4}");
        let mut before = 0;
        for url in [&page, &relayed, &forwarded] {
            let output = curl(other(), &[url]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // 28: nobody answered.
            assert_eq!(output.status.code(), Some(28), "{transport} {url}: {said}");
            let denied = balancer.packets("denied").unwrap();
            assert!(denied > before, "{transport} {url}: dropped by XDP");
            before = denied;
        }
    }
}

/// What XDP can't know, the proxy does: here, that one client has enough connections.
#[test]
fn a_client_has_no_more_connections_than_it_may() {
    for transport in TRANSPORTS {
        let world = World::start(2).unwrap();
        let limits = "limits = { connections_per_client = 2 }";
        let mut balancer = world.balance(&relay(transport, 25, limits)).unwrap();
        until_served(&mut balancer);
        let connect = |source| Smtp::connect(source, VIP);
        let held = (0..2).map(|_| connect(CLIENT).unwrap()).collect::<Vec<_>>();
        assert!(connect(CLIENT).is_err(), "{transport}");
        let mut neighbour = connect(other()).unwrap();
        neighbour.noop().unwrap();
        drop(held);
        balancer
            .eventually("room again", || Ok(connect(CLIENT).is_ok()))
            .unwrap();
    }
}
