//! Extended Protection through a proxy that ends TLS, and what is offered in TLS.

use std::process::Output;

use lb_tests::{
    certs, client,
    edge::{Edge, Front, Setting},
    lab::Namespace,
    world::World,
};

use super::{ALICE, ntlm, strs};

/// With the servers' own certificate in front a login is bound to the right channel; with another one it is bound to a
/// channel that the server knows nothing of, and refused wherever that is looked at.
#[test]
fn the_same_certificate_on_both_sides() {
    let world = World::start_protected(2).unwrap();
    let other = certs::write(&world.directory().join("other")).unwrap();
    let settings = [
        Setting::default(),
        Setting {
            certificate: Some(&other),
            ..Setting::default()
        },
    ];
    let edge = Edge::with(world, &settings).unwrap();
    // Require, Allow, None; for a login that is bound to the channel that its client sees, and for one that is not bound.
    let same = [
        ("/mapi", 200, 401),
        ("/ews", 200, 200),
        ("/autodiscover", 200, 200),
    ];
    let drifted = [
        ("/mapi", 401, 401),
        ("/ews", 401, 200),
        ("/autodiscover", 200, 200),
    ];
    let (first, second) = edge.fronts.split_at(2);
    for (fronts, rows) in [(first, same), (second, drifted)] {
        for front in fronts {
            for (vdir, bound, unbound) in rows {
                let path = format!("{vdir}/whoami");
                let seen = (
                    requests_ntlm(front, &path, "bound"),
                    requests_ntlm(front, &path, "unbound"),
                );
                assert_eq!(seen, (bound, unbound), "{} {path}", front.endpoint.address);
                // curl binds nothing.
                let fetched = front.curl(&strs(&ntlm()), &[&path]).unwrap();
                assert_eq!(
                    fetched[0].status, unbound,
                    "{} {path}",
                    front.endpoint.address
                );
            }
        }
    }
}

/// The drift is named, with the service that has it; and where the operator says that logins are bound, the daemon
/// refuses to start on it.
#[test]
fn a_drifted_certificate_is_named() {
    let world = World::start(1).unwrap();
    let other = certs::write(&world.directory().join("other")).unwrap();
    let drifted = Setting {
        certificate: Some(&other),
        ..Setting::default()
    };
    let edge = Edge::with(world, &[Setting::default(), drifted]).unwrap();
    edge.until("all certificates have been looked at", |status| {
        let mut seen = lb_tests::edge::servers(status).filter(|server| server["route"].is_string());
        seen.all(|server| !server["certificate"].is_null())
    })
    .unwrap();
    let (well, told) = edge.lb(&["doctor"]).unwrap();
    assert!(!well, "{told}");
    let drift: Vec<_> = told
        .lines()
        .filter(|line| line.contains("certificate-drift"))
        .collect();
    for (number, front) in edge.fronts.iter().enumerate() {
        let named = drift
            .iter()
            .any(|line| line.contains(&format!("{}/", front.service())));
        assert_eq!(named, number >= 2, "{}: {told}", front.service());
    }
    let Edge {
        balancer, world, ..
    } = edge;
    balancer.stop().unwrap();

    let bound = Setting {
        lines: "extended_protection = true",
        certificate: Some(&other),
    };
    let (text, _) = lb_tests::edge::configuration(&world, &[bound]).unwrap();
    let mut refused = world.balance(&text).unwrap();
    assert!(!refused.wait().unwrap().success(), "{}", refused.log());
    assert!(refused.log().contains("certificate"), "{}", refused.log());
}

fn requests_ntlm(front: &Front, path: &str, binding: &str) -> u16 {
    let address = front.endpoint.address.to_string();
    let ca = front.ca().display().to_string();
    let arguments = [
        &front.url(path),
        &address,
        &ca,
        ALICE.name,
        ALICE.password,
        binding,
    ];
    client::python("bound_login.py", &arguments).unwrap()
}

/// IIS refuses Windows authentication on HTTP/2 (rule A7).
#[test]
fn http_2_is_not_offered() {
    let edge = Edge::start(1).unwrap();
    for front in &edge.fronts {
        let chosen = |offer: &str| {
            let output = s_client(front, offer);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text
                .lines()
                .find(|line| line.contains("ALPN"))
                .map(str::to_owned);
            line.unwrap_or_else(|| {
                format!("no handshake: {}", String::from_utf8_lossy(&output.stderr))
            })
        };
        assert_eq!(
            chosen("h2,http/1.1"),
            "ALPN protocol: http/1.1",
            "{}",
            front.transport
        );
        let alone = chosen("h2");
        assert!(!alone.contains("h2"), "{}: {alone}", front.transport);
        // The status follows without a space.
        let options = [
            "--http2",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_version} %{http_code}",
        ];
        let page = front.fetch(&options, "/ews/healthcheck.htm").unwrap();
        assert_eq!(page, (200, "1.1 ".to_owned()), "{}", front.transport);
    }
}

fn s_client(front: &Front, offer: &str) -> Output {
    let address = front.endpoint.address.to_string();
    let mut command = Namespace::client().command("openssl");
    command.args([
        "s_client",
        "-connect",
        &address,
        "-servername",
        certs::NAME,
        "-alpn",
        offer,
    ]);
    command.stdin(std::process::Stdio::null()).output().unwrap()
}
