//! `expect`, `upgrade` and `connect`: values, inheritance, mistakes.

use lb_config::{Action, Config, Expect, Forwarding, Mode, parse};

use crate::check;

const SERVICE: &str = r#"interfaces = ["eth0"]
[[service]]
name = "web"
listen = "10.203.1.100:80"
mode = "http"
servers = ["10.203.2.11:80"]
"#;

fn routes(text: &str) -> Vec<Forwarding> {
    let Config { services, .. } = parse(&format!("{SERVICE}{text}")).expect("no mistakes");
    let Mode::Http(http) = services.into_iter().next().expect("one").mode else {
        panic!("http")
    };
    let forwarding = |action| match action {
        Action::Forward(forwarding) => *forwarding,
        other => panic!("{other:?}"),
    };
    http.routes
        .into_iter()
        .map(|route| forwarding(route.action))
        .collect()
}

#[test]
fn by_default_expectations_are_forwarded_and_nothing_is_tunnelled() {
    let routes = routes("");
    assert_eq!(routes[0].expect, Expect::Forward);
    assert!(routes[0].tunnels.upgrade.is_empty() && !routes[0].tunnels.connect);
}

#[test]
fn routes_say_otherwise_or_inherit() {
    let routes = routes(
        r#"
        expect = "local"
        upgrade = ["WebSocket"]
        connect = true
        [[service.route]]
        name = "inherits"
        path = ["/a"]
        [[service.route]]
        name = "strip"
        path = ["/b"]
        expect = "strip"
        upgrade = []
        connect = false
        [[service.route]]
        name = "require"
        path = ["/c"]
        expect = "require"
        [[service.route]]
        name = "forward"
        expect = "forward"
        "#,
    );
    let modes: Vec<_> = routes.iter().map(|route| route.expect).collect();
    assert_eq!(
        modes,
        [
            Expect::Local,
            Expect::Strip,
            Expect::Require,
            Expect::Forward
        ]
    );
    let upgrades = |route: &Forwarding| -> Vec<String> {
        route
            .tunnels
            .upgrade
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(upgrades(&routes[0]), ["websocket"]);
    assert!(routes[0].tunnels.connect);
    assert!(upgrades(&routes[1]).is_empty() && !routes[1].tunnels.connect);
}

#[test]
fn mistakes_are_named() {
    check(
        &format!(
            "{SERVICE}expect = \"ignore\"\nupgrade = [\"websocket\", \"h2c\", \"a/1\"]\nconnect = \"yes\"\n"
        ),
        &[
            r#"lb.toml:7:10: service "web": expect: `ignore` is not "forward" or "local" or "strip" or "require""#,
            r#"lb.toml:8:25: service "web": upgrade[1]: `h2c` is not the name of a protocol, such as "websocket"; not "h2c""#,
            r#"lb.toml:8:32: service "web": upgrade[2]: `a/1` is not the name of a protocol, such as "websocket"; not "h2c""#,
            r#"lb.toml:9:11: service "web": connect: expected true or false, found a string"#,
        ],
    );
    check(
        &format!(
            "{SERVICE}[[service.route]]\nname = \"a\"\nconnect = true\nrespond = {{ status = 403 }}\n"
        ),
        &[
            r#"lb.toml:9:1: service "web": route[0].connect: is only for a route that forwards, and this is a route that responds; remove it, or change the other"#,
        ],
    );
}
