//! `handover`: defaults, values, and where it has no place.

use std::num::NonZero;

use lb_config::{Begin, Handover, parse};

use crate::check;

fn file(mode: &str, rest: &str) -> String {
    format!(
        "interfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nlisten = \"192.0.2.1:80\"\nmode = \"{mode}\"\n\
         servers = [\"10.0.0.1:80\"]\n{rest}"
    )
}

/// `None` if connections never move, else the four thresholds and where they begin.
fn read(mode: &str, rest: &str) -> Option<([u32; 4], Begin)> {
    let config = parse(&file(mode, rest)).expect("no mistakes");
    let handover = config.services[0].handover();
    handover.map(
        |Handover {
             response,
             upload,
             streamed,
             repeated,
             begin,
         }| {
            (
                [response, upload, streamed, repeated].map(NonZero::get),
                begin,
            )
        },
    )
}

#[test]
fn connections_of_auto_move_unless_told_not_to() {
    let default = Some(([512 << 10, 64 << 10, 512 << 10, 6 << 10], Begin::Adaptive));
    for mode in ["http", "tcp"] {
        assert_eq!(read(mode, ""), default);
        assert_eq!(read(mode, "transport = \"auto\"\nhandover = {}\n"), default);
        assert_eq!(read(mode, "handover = \"off\"\n"), None);
        assert_eq!(read(mode, "transport = \"af_xdp\"\n"), None);
        assert_eq!(read(mode, "transport = \"kernel\"\n"), None);
    }
    assert_eq!(read("l4", "source = \"client\"\n"), None);
}

#[test]
fn thresholds_and_beginnings_are_read() {
    let text = "handover = { response = 4096, upload = 20000, streamed = 1073741824, repeated = 5000, begin = \"kernel\" }\n";
    let expected = Some(([4096, 20000, 1 << 30, 5000], Begin::Kernel));
    assert_eq!(read("http", text), expected);
    let text = "handover = { streamed = 100000, begin = \"af_xdp\" }\n";
    let expected = Some(([512 << 10, 64 << 10, 100_000, 6 << 10], Begin::AfXdp));
    assert_eq!(read("tcp", text), expected);
}

#[test]
fn where_nothing_can_move_it_is_a_mistake() {
    for (transport, why) in [
        (
            "af_xdp",
            "\"af_xdp\", which keeps connections in the workers",
        ),
        (
            "kernel",
            "\"kernel\", where connections are on the kernel anyway",
        ),
    ] {
        for value in ["\"off\"", "{}"] {
            let text = format!("handover = {value}\ntransport = \"{transport}\"\n");
            let expected = format!(
                "lb.toml:7:12: service \"a\": handover: is only for transport = \"auto\", and this is {why}; remove it, or \
                 change the other"
            );
            check(&file("http", &text), &[&expected]);
        }
    }
    check(
        &file("l4", "source = \"client\"\nhandover = \"off\"\n"),
        &[
            r#"lb.toml:8:1: service "a": handover: is only for mode = "http" and mode = "tcp", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
        ],
    );
}

#[test]
fn mistakes_are_named() {
    check(
        &file(
            "http",
            "handover = { response = 4095, upload = 1073741825, streamed = \"64k\", begin = \"auto\" }\n",
        ),
        &[
            r#"lb.toml:7:25: service "a": handover.response: `4095` is not an integer from 4096 to 1073741824"#,
            r#"lb.toml:7:40: service "a": handover.upload: `1073741825` is not an integer from 4096 to 1073741824"#,
            r#"lb.toml:7:63: service "a": handover.streamed: expected an integer without quotes, found a string"#,
            r#"lb.toml:7:78: service "a": handover.begin: `auto` is not "adaptive" or "af_xdp" or "kernel""#,
        ],
    );
    check(
        &file("http", "handover = \"on\"\n"),
        &[r#"lb.toml:7:12: service "a": handover: `on` is not "off", or a table"#],
    );
    check(
        &file("http", "handover = 65536\n"),
        &[
            r#"lb.toml:7:12: service "a": handover: expected "off", or a table such as { response = 65536, begin = "af_xdp" }, found an integer"#,
        ],
    );
    check(
        &file("tcp", "handover = { response = 65536 }\n"),
        &[
            r#"lb.toml:7:14: service "a": handover.response: unknown key; the keys here are streamed, begin"#,
        ],
    );
}
