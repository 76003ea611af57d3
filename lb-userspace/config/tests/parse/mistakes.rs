//! Mistakes that take more than one change, and what holds for every text.

use lb_config::parse;
use proptest::prelude::*;

use crate::{GOOD, changed, check};

#[test]
fn five_mistakes_give_five_messages() {
    let text = r#"interfaces = ["lb-front"]

[[service]]
name = "exchange"
listen = "10.203.1.100"
mode = "http"
headres = "none"
servers = ["10.203.2.11:443"]

[[service]]
name = "smtp"
listen = "10.203.1.101:25"
mode = "l4"
source = "client"
servers = [{ address = "10.203.2.11:25", weight = "2" }]

[[service]]
name = "smtp"
listen = "10.203.1.101:25"
mode = "l4"
source = "client"
servers = ["10.203.2.11:25"]
"#;
    check(
        text,
        &[
            r#"lb.toml:5:10: service "exchange": listen: `10.203.1.100` is not an address and a port, such as "10.203.1.100:443" or "[fd00:203:1::100]:443""#,
            r#"lb.toml:7:1: service "exchange": headres: unknown key; did you mean `headers`?"#,
            r#"lb.toml:15:51: service "smtp": servers[0].weight: expected an integer without quotes, found a string"#,
            r#"lb.toml:18:8: service "smtp": name: `smtp` is used already, by service[1].name in line 11; give each its own"#,
            r#"lb.toml:19:10: service "smtp": listen: `10.203.1.101:25` is used already, by service[1].listen in line 12; give each its own"#,
        ],
    );
}

#[test]
fn what_could_be_read_of_a_bad_server_or_service_still_counts() {
    let text = r#"interfaces = ["lb-front"]

[[service]]
name = "smtp"
listen = "10.203.1.101:25"
mode = "l5"
servers = [{ address = "10.203.2.11:25", weight = 1001 }, "10.203.2.11:25"]

[[service]]
name = "smtp"
listen = "10.203.1.101:993"
mode = "l4"
source = "client"
servers = ["10.203.1.101:25"]
"#;
    check(
        text,
        &[
            r#"lb.toml:6:8: service "smtp": mode: `l5` is not "http" or "l4" or "tcp""#,
            r#"lb.toml:7:51: service "smtp": servers[0].weight: `1001` is not an integer from 0 to 1000"#,
            r#"lb.toml:7:59: service "smtp": servers[1]: `10.203.2.11:25` is used already, by service[0].servers[0].address in line 7; give each its own"#,
            r#"lb.toml:10:8: service "smtp": name: `smtp` is used already, by service[0].name in line 4; give each its own"#,
            r#"lb.toml:14:12: service "smtp": servers[0]: 10.203.1.101:25 is service[0].listen of this load balancer itself; give the address of a real server"#,
        ],
    );
}

#[test]
fn programs_get_the_same_by_fields() {
    let errors = parse(&changed("weight = 2", "weight = 0")).expect_err("weight 0");
    let error = errors.iter().next().expect("one error");
    assert_eq!((error.place().line, error.place().column), (20, 71));
    assert_eq!(error.path(), "service[0].servers[1].weight");
    let shown = errors.in_file("conf.d/a.toml").to_string();
    assert!(shown.starts_with("conf.d/a.toml:20:71: "), "{shown}");
}

#[test]
fn columns_count_characters() {
    check(
        "\"ü\" = 1 # only the key after it is wrong\ninterfaces = [\"é\", 7]",
        &[
            "lb.toml:1:1: ü: unknown key; the keys here are interfaces, admin, drain_timeout, af_xdp, flows, nat, service, allow, deny, deny_file",
            "lb.toml:1:1: service: missing; add it, at least one [[service]]",
            r#"lb.toml:2:20: interfaces[1]: expected the name of a network interface, such as "eth0", found an integer"#,
        ],
    );
}

#[test]
fn a_service_within_the_nat_pool_is_a_mistake() {
    let text = changed(r#"["10.203.2.100"]"#, r#"["10.203.1.100"]"#);
    parse(&text).expect("port 443 is not among the ports of the pool");
    check(
        &text.replace("1024-65535", "443-65535"),
        &[
            "lb.toml:8:14: nat.addresses[0]: 10.203.1.100 port 443 is service[0].listen as well: replies of servers could not be told from clients; take another address, or ports outside 443-65535",
        ],
    );
}

#[test]
fn more_than_the_data_plane_holds_is_a_mistake() {
    let service = |index: usize| {
        let port = 1000 + index;
        format!(
            "[[service]]\nname = \"s{index}\"\nlisten = \"10.203.1.1:{port}\"\nmode = \"l4\"\n\
             source = \"client\"\nservers = [\"10.203.2.1:80\"]\n"
        )
    };
    let file = |count| {
        let services: Vec<_> = (0..count).map(service).collect();
        format!("interfaces = [\"eth0\"]\n{}", services.concat())
    };
    parse(&file(lb_config::MAX_SERVICES)).expect("as many as fit");
    check(
        &file(lb_config::MAX_SERVICES + 1),
        &[
            "lb.toml:2:1: service: 65 services are more than the 64 that one host can hold; remove some",
        ],
    );
}

proptest! {
    /// Any text gives a configuration or at least one error, whose places lie within the text.
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        places_are_within(&text)?;
    }

    /// The same near a good file, where more of the reader is reached.
    #[test]
    fn no_damaged_file_panics(
        cut in 0..GOOD.len(),
        length in 0..40_usize,
        filling in "[\\[\\]{}=\"',.#\n a-z0-9ü]{0,8}",
    ) {
        let end = GOOD.len().min(cut + length);
        places_are_within(&format!("{}{filling}{}", &GOOD[..cut], &GOOD[end..]))?;
    }
}

fn places_are_within(text: &str) -> Result<(), TestCaseError> {
    if let Err(errors) = parse(text) {
        prop_assert!(errors.iter().count() > 0);
        let lines = text.matches('\n').count() + 1;
        for error in &errors {
            prop_assert!((1..=lines).contains(&error.place().line), "{}", error);
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }
    Ok(())
}
