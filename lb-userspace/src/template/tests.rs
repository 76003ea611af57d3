//! What is printed is a good configuration, whatever was asked for.

use clap::Parser;
use lb_config::{Action, Check, Cost, Health, Mode};

use super::*;

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    template: Template,
}

fn print(options: &str) -> anyhow::Result<String> {
    let common = "lb exchange --domain mail.example.com --server 10.0.0.11 --server 10.0.0.12";
    let words = common.split(' ').chain(options.split_whitespace());
    Command::try_parse_from(words).unwrap().template.print()
}

fn read(options: &str) -> lb_config::Config {
    let text = print(options).unwrap();
    lb_config::parse(&text).unwrap_or_else(|errors| panic!("{options}: {errors}\n{text}"))
}

const IPV6: &str = "--listen 2001:db8::10 --server 2001:db8:1::11 --interface eth1";

#[test]
fn every_combination_is_free_of_mistakes() {
    for tls in ["re-encrypt", "offload", "passthrough"] {
        for legacy in ["", "--legacy-loadmaster"] {
            for more in ["", IPV6] {
                let options = format!("--tls {tls} {legacy} {more}");
                let config = read(&options);
                let costs: Vec<_> = config
                    .warnings
                    .iter()
                    .map(lb_config::Warning::cost)
                    .collect();
                let proxied = tls != "passthrough";
                for (cost, expected) in [
                    (Cost::Offload, tls == "offload"),
                    (Cost::Via, proxied && !legacy.is_empty()),
                    (Cost::ShortIdle, proxied && !legacy.is_empty()),
                ] {
                    assert_eq!(costs.contains(&cost), expected, "{options} {cost}");
                }
                if legacy.is_empty() && tls != "offload" {
                    assert_eq!(costs, [], "{options}");
                }
            }
        }
    }
}

#[test]
fn packets_are_forwarded_within_a_family_only() {
    let other = "--listen 2001:db8::10";
    assert_eq!(read(other).services.len(), 2);
    let refused = print(&format!("{other} --tls passthrough")).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("no --server has an address of that of --listen")
    );
}

#[test]
fn each_virtual_directory_has_a_page_and_a_timeout_of_its_own() {
    let config = read("");
    let Mode::Http(http) = &config.services[0].mode else {
        panic!("http")
    };
    let pages: Vec<_> = http
        .routes
        .iter()
        .filter_map(|route| match &route.action {
            Action::Forward(forwarding) => match &forwarding.health {
                Health::Checked {
                    check: Check::Https(get, _),
                    ..
                } => Some((route.name.as_str(), get.path.as_str(), get.expect.as_str())),
                other => panic!("{other:?}"),
            },
            Action::Redirect(_) | Action::Respond(_) => None,
        })
        .collect();
    assert_eq!(pages.len(), VDIRS.len());
    assert!(pages.contains(&("ews", "/ews/healthcheck.htm", "200 OK")));
    assert!(pages.contains(&(
        "activesync",
        "/microsoft-server-activesync/healthcheck.htm",
        "200 OK"
    )));
    let timeouts = http.routes.iter().filter_map(|route| match &route.action {
        Action::Forward(forwarding) => Some(forwarding.response_timeout.as_secs()),
        Action::Redirect(_) | Action::Respond(_) => None,
    });
    assert!(timeouts.max() > Some(3540));
    let root = http.routes.last().unwrap();
    assert_eq!(root.when.whole_paths, ["/"]);
}

#[test]
fn smtp_keeps_the_clients_address() {
    let config = read("");
    let smtp = config
        .services
        .iter()
        .find(|service| service.name.as_str() == "smtp")
        .unwrap();
    let Mode::L4(l4) = &smtp.mode else {
        panic!("l4")
    };
    assert_eq!(
        l4.forward,
        lb_config::Forward::Nat(lb_config::Source::Client)
    );
}
