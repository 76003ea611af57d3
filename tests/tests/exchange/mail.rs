//! Mail beside the web services: SMTP at layer 4, with a real client.

use lb_tests::{
    address::{CLIENT_EXTRA, VIP_SMTP},
    client::Smtp,
    edge::Edge,
    lab::Namespace,
};

/// Receive connectors go by the client's address, so the server has to see it.
#[test]
fn smtp_servers_see_the_client() {
    let mut edge = Edge::start(2).unwrap();
    let vip = std::net::SocketAddrV4::new(VIP_SMTP, 25);
    edge.balancer
        .eventually("SMTP is served", || {
            Ok(Smtp::connect(lb_tests::address::CLIENT, vip).is_ok())
        })
        .unwrap();
    for last in CLIENT_EXTRA.step_by(3) {
        let source = format!("10.203.1.{last}");
        let output = Namespace::client()
            .command("swaks")
            .args([
                "--server",
                &VIP_SMTP.to_string(),
                "--local-interface",
                &source,
            ])
            .args(["--quit-after", "EHLO", "--timeout", "20"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let banner = text.lines().find(|line| line.contains(" 220 ")).unwrap();
        assert!(banner.contains(&format!("peer={source}:")), "{banner}");
    }
}
