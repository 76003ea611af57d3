//! From a file's text to what a proxy runs on, and files that can't be shown.

use std::fs;
use std::sync::Arc;

use lb_proxy::{Action, Forwarding, Service};

use super::*;
use crate::cli::Failure;
use crate::compose::{Plan, plan};

const FILE: &str = r#"interfaces = ["eth0"]
[[service]]
name = "web"
listen = "10.203.1.100:80"
mode = "http"
servers = ["10.203.2.11:80"]
"#;

fn planned(directory: &Path, rest: &str) -> Result<Plan, Failure> {
    plan(&directory.join("lb.toml"), &format!("{FILE}{rest}"))
}

fn http(plan: &Plan) -> &Arc<Service> {
    plan.services[0].http.as_ref().unwrap()
}

fn forwarding(service: &Service, route: usize) -> &Forwarding {
    match &service.routes[route].action {
        Action::Forward(forwarding) => forwarding,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_service_without_rules_has_none() {
    let plan = planned(Path::new(""), "").unwrap();
    let forwarding = forwarding(http(&plan), 0);
    assert!(forwarding.rules.is_none());
    let policy = HeaderPolicy {
        mode: HeaderMode::XForwardedFor,
        ..HeaderPolicy::exchange()
    };
    assert_eq!(forwarding.headers, policy);
}

#[test]
fn names_that_never_change_are_text_and_the_rest_is_taken_over() {
    let text = r#"
        headers = "none"
        forwarded = ["x-forwarded-proto", "forwarded"]
        inbound = "keep"
        request_rules = [
            { path_prefix = "/A", with = "/B/" },
            { url = "x", with = "y" },
            { set = "X-A", value = "{service}/{route}/{client_ip}" },
            { copy = "X-A", to = "X-B" },
        ]
        response_rules = [{ remove = "Server" }]
        [[service.route]]
        name = "all"
    "#;
    let plan = planned(Path::new(""), text).unwrap();
    let forwarding = forwarding(http(&plan), 0);
    let policy = HeaderPolicy {
        mode: HeaderMode::None,
        inbound: Inbound::Keep,
        told: [Tell::XForwardedProto, Tell::Forwarded]
            .into_iter()
            .collect(),
    };
    assert_eq!(forwarding.headers, policy);

    let Rules {
        target,
        request,
        response,
    } = &**forwarding.rules.as_ref().unwrap();
    let [
        TargetRule::Prefix { from, to },
        TargetRule::Rewrite {
            part,
            pattern,
            with,
        },
    ] = &target[..]
    else {
        panic!("{target:?}")
    };
    assert_eq!((from.0.as_str(), to.as_str()), ("/a", "/B"));
    assert_eq!(
        (*part, pattern.as_str(), with.as_str()),
        (TargetPart::Url, "x", "y")
    );
    let text = |text: &str| Piece::Text(text.to_owned());
    let value = Template(vec![
        text("web"),
        text("/"),
        text("all"),
        text("/"),
        Piece::Variable(Variable::ClientIp),
    ]);
    assert!(matches!(&request[0], HeaderRule::Set { value: found, .. } if *found == value));
    assert!(matches!(&request[1], HeaderRule::Copy { from, to } if from == "x-a" && to == "x-b"));
    assert!(matches!(&response[..], [HeaderRule::Remove { name }] if name == "server"));
}

#[test]
fn hsts_is_written_as_browsers_read_it() {
    let check = |reach, expected: &str| {
        let day = std::time::Duration::from_hours(24);
        let value = hsts(&lb_config::Hsts {
            max_age: day,
            reach,
        });
        assert_eq!(value, expected);
    };
    check(HstsReach::Host, "max-age=86400");
    check(HstsReach::Subdomains, "max-age=86400; includeSubDomains");
    check(
        HstsReach::Preload,
        "max-age=86400; includeSubDomains; preload",
    );
}

#[test]
fn pages_that_can_not_be_shown_are_told_at_the_start_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let largest = usize::try_from(LARGEST_PAGE).unwrap();
    fs::write(directory.path().join("good.html"), vec![b'x'; largest]).unwrap();
    fs::write(directory.path().join("large.html"), vec![b'x'; largest + 1]).unwrap();
    fs::write(directory.path().join("latin.html"), b"caf\xe9").unwrap();

    let table = [
        ("good.html", None),
        ("none.html", Some("check the path")),
        (
            "large.html",
            Some("has more than 262144 bytes; make it smaller"),
        ),
        (
            "latin.html",
            Some("isn't UTF-8 text, as its Content-Type will say; convert it"),
        ),
    ];
    for (file, expected) in table {
        for route in ["", "[[service.route]]\nname = \"a\"\n"] {
            let text = format!("{route}error_pages = {{ 503 = \"{file}\" }}\n");
            let outcome = planned(directory.path(), &text);
            match (outcome, expected) {
                (Ok(_), None) => {}
                (Err(Failure::Config(told)), Some(expected)) => {
                    assert!(told.contains("service \"web\": "), "{told}");
                    assert!(told.contains(file) && told.contains(expected), "{told}");
                }
                (Ok(_), Some(_)) => panic!("{file} was taken"),
                (Err(error), _) => panic!("{file}: {error}"),
            }
        }
    }
}
