//! One mistake each: the place in the good file, what stands there instead, and what is said of it.

use crate::{changed, check};

const MISTAKES: &[(&str, &str, &[&str])] = &[
    (
        r#"servers = ["10.203.2.11:443", "#,
        r#"servers = [{ address = "10.203.2.11:443", name = "ex2" }, "#,
        &[
            r#"lb.toml:20:109: service "exchange": servers[1].name: `ex2` is used already, by service[0].servers[0].name in line 20; give each its own"#,
        ],
    ),
    (
        r#"interfaces = ["lb-front", "lb-back"]"#,
        "",
        &[r#"lb.toml:1:1: interfaces: missing; add it, for example interfaces = ["eth0"]"#],
    ),
    (
        r#"["lb-front", "lb-back"]"#,
        "[]",
        &[
            r#"lb.toml:1:14: interfaces: is empty; expected a list of at least one interface, such as ["eth0"]"#,
        ],
    ),
    (
        r#"["lb-front", "lb-back"]"#,
        r#""eth0""#,
        &[
            r#"lb.toml:1:14: interfaces: expected a list of at least one interface, such as ["eth0"], found a string"#,
        ],
    ),
    (
        "lb-back",
        "a name/too:long",
        &[
            r#"lb.toml:1:27: interfaces[1]: `a name/too:long` is not the name of a network interface, such as "eth0""#,
        ],
    ),
    (
        "lb-back",
        "lb-front",
        &[
            "lb.toml:1:27: interfaces[1]: `lb-front` is used already, by interfaces[0] in line 1; give each its own",
        ],
    ),
    (
        "/run/lb/lb.sock",
        "lb.sock",
        &["lb.toml:2:9: admin: `lb.sock` is not an absolute path of at most 107 bytes"],
    ),
    (
        "1_000_000",
        "0",
        &["lb.toml:5:7: flows.max: `0` is not an integer from 1 to 67108864"],
    ),
    (
        "1_000_000",
        "1.5",
        &["lb.toml:5:7: flows.max: expected an integer without quotes, found a float"],
    ),
    (
        "1_000_000",
        "99999999999999999999",
        &["lb.toml:5:7: flows.max: `99999999999999999999` is not an integer from 1 to 67108864"],
    ),
    (
        "max = ",
        "mux = ",
        &["lb.toml:5:1: flows.mux: unknown key; did you mean `max`?"],
    ),
    (
        "10.203.2.100",
        "10.203.2.300",
        &[
            r#"lb.toml:8:14: nat.addresses[0]: `10.203.2.300` is not an address, such as "10.203.2.100" or "fd00:203:2::100""#,
        ],
    ),
    (
        "10.203.2.100",
        "224.0.0.1",
        &["lb.toml:8:14: nat.addresses[0]: `224.0.0.1` is not an address of one host"],
    ),
    (
        r#"["10.203.2.100"]"#,
        r#"["10.203.2.100", "10.203.2.100"]"#,
        &[
            "lb.toml:8:30: nat.addresses[1]: `10.203.2.100` is used already, by nat.addresses[0] in line 8; give each its own",
        ],
    ),
    (
        "addresses =",
        "adresses =",
        &["lb.toml:8:1: nat.adresses: unknown key; did you mean `addresses`?"],
    ),
    (
        "1024-65535",
        "0-65535",
        &[
            r#"lb.toml:9:9: nat.ports: `0-65535` is not a range of ports from 1 to 65535, such as "61000-65535""#,
        ],
    ),
    (
        "1024-65535",
        "2000-1999",
        &[
            r#"lb.toml:9:9: nat.ports: `2000-1999` is not a range of ports from 1 to 65535, such as "61000-65535""#,
        ],
    ),
    (
        "[nat]\naddresses = [\"10.203.2.100\"]\nports = \"1024-65535\"\n",
        "",
        &[
            r#"lb.toml:28:1: service "imap": source: source = "nat" (the default) needs [nat] with IPv4 addresses that are routed to this host; add one, or set source = "client""#,
        ],
    ),
    (
        r#"name = "exchange""#,
        r#"name = "Exchange 1""#,
        &[
            r#"lb.toml:12:8: service "Exchange 1": name: `Exchange 1` is not a name of 1 to 63 characters a-z, 0-9 and -"#,
        ],
    ),
    (
        "name = \"exchange\"\n",
        "",
        &[r#"lb.toml:11:1: service[0]: name: missing; add it, for example name = "exchange""#],
    ),
    (
        r#"name = "imap""#,
        r#"name = "smtp""#,
        &[
            r#"lb.toml:32:8: service "smtp": name: `smtp` is used already, by service[1].name in line 25; give each its own"#,
        ],
    ),
    (
        "10.203.1.101:993",
        "10.203.1.101:25",
        &[
            r#"lb.toml:33:10: service "imap": listen: `10.203.1.101:25` is used already, by service[1].listen in line 26; give each its own"#,
        ],
    ),
    (
        "10.203.1.101:993",
        "0.0.0.0:993",
        &[
            r#"lb.toml:33:10: service "imap": listen: `0.0.0.0:993` is not an address of one host, with a port that is not 0"#,
        ],
    ),
    (
        "10.203.1.101:993",
        "10.203.1.101:0",
        &[
            r#"lb.toml:33:10: service "imap": listen: `10.203.1.101:0` is not an address of one host, with a port that is not 0"#,
        ],
    ),
    (
        "10.203.1.101:993",
        "10.203.1.101",
        &[
            r#"lb.toml:33:10: service "imap": listen: `10.203.1.101` is not an address and a port, such as "10.203.1.100:443" or "[fd00:203:1::100]:443""#,
        ],
    ),
    (
        r#"mode = "http""#,
        r#"mode = "https""#,
        &[r#"lb.toml:14:8: service "exchange": mode: `https` is not "http" or "l4" or "tcp""#],
    ),
    (
        r#"mode = "http""#,
        r#"mode = "l4""#,
        &[
            r#"lb.toml:15:1: service "exchange": profile: is only for mode = "http", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
            r#"lb.toml:16:1: service "exchange": headers: is only for mode = "http", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
            r#"lb.toml:17:1: service "exchange": transport: is only for mode = "http" and mode = "tcp", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
            r#"lb.toml:18:1: service "exchange": tls: is only for mode = "http" and mode = "tcp", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
            r#"lb.toml:19:1: service "exchange": upstream_tls: is only for mode = "http" and mode = "tcp", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
            r#"lb.toml:21:10: service "exchange": health.ca: missing; add it, the PEM file with the root certificate of the servers (or verify = "none")"#,
        ],
    ),
    (
        r#"profile = "exchange""#,
        r#"profile = "exchnage""#,
        &[r#"lb.toml:15:11: service "exchange": profile: `exchnage` is not "exchange" or "plain""#],
    ),
    (
        r#"headers = "none""#,
        r#"headers = "xff""#,
        &[
            r#"lb.toml:16:11: service "exchange": headers: `xff` is not "none" or "x-forwarded-for" or "x-forwarded-for+via" or "x-clientside" or "x-clientside+via" or "via" or "legacy""#,
        ],
    ),
    (
        r#"headers = "none""#,
        r#"header = "none""#,
        &[r#"lb.toml:16:1: service "exchange": header: unknown key; did you mean `headers`?"#],
    ),
    (
        r#"headers = "none""#,
        r#"source = "nat""#,
        &[
            r#"lb.toml:16:1: service "exchange": source: is only for mode = "l4", and this is mode = "http"; remove it, or change the other"#,
        ],
    ),
    (
        r#"transport = "auto""#,
        "transport = true",
        &[
            r#"lb.toml:17:13: service "exchange": transport: expected "auto" or "af_xdp" or "kernel", found a boolean"#,
        ],
    ),
    (
        r#"{ certificate = "cert.pem", key = "key.pem" }"#,
        r#"{ certificate = "" }"#,
        &[
            r#"lb.toml:18:7: service "exchange": tls.key: missing; add it, the PEM file with the private key"#,
            r#"lb.toml:18:23: service "exchange": tls.certificate: `` is not the path of a file"#,
        ],
    ),
    (
        r#"ca = "ca.pem", "#,
        "",
        &[
            r#"lb.toml:19:16: service "exchange": upstream_tls.ca: missing; add it, the PEM file with the root certificate of the servers (or verify = "none")"#,
        ],
    ),
    (
        r#"server_name = "mail.lab.test""#,
        r#"server_name = "mail lab""#,
        &[
            r#"lb.toml:19:47: service "exchange": upstream_tls.server_name: `mail lab` is not a host name, such as "mail.example.com""#,
        ],
    ),
    (
        r#"server_name = "mail.lab.test""#,
        r#"server_name = "mail.lab.test", verify = "none""#,
        &[
            r#"lb.toml:19:73: service "exchange": upstream_tls.verify: with verify = "none" the ca is not used; remove one of the two"#,
        ],
    ),
    (
        r#"ca = "ca.pem""#,
        r#"verify = "yes""#,
        &[r#"lb.toml:19:27: service "exchange": upstream_tls.verify: `yes` is not "none""#],
    ),
    (
        r#""40m""#,
        r#""40""#,
        &[
            r#"lb.toml:22:16: service "exchange": idle_timeout: `40` is not a duration: a whole number with ms, s, m or h, such as "500ms" or "40m""#,
        ],
    ),
    (
        r#""40m""#,
        r#""40d""#,
        &[
            r#"lb.toml:22:16: service "exchange": idle_timeout: `40d` is not a duration: a whole number with ms, s, m or h, such as "500ms" or "40m""#,
        ],
    ),
    (
        r#""40m""#,
        r#""25h""#,
        &[r#"lb.toml:22:16: service "exchange": idle_timeout: `25h` is not from 1s to 24h"#],
    ),
    (
        r#""40m""#,
        "40",
        &[
            r#"lb.toml:22:16: service "exchange": idle_timeout: expected a duration: a whole number with ms, s, m or h, such as "500ms" or "40m", found an integer"#,
        ],
    ),
    (
        r#""40m""#,
        r#""99999999999999999999h""#,
        &[
            r#"lb.toml:22:16: service "exchange": idle_timeout: `99999999999999999999h` is not a duration: a whole number with ms, s, m or h, such as "500ms" or "40m""#,
        ],
    ),
    (
        "weight = 2",
        "weight = 0",
        &[
            r#"lb.toml:20:71: service "exchange": servers[1].weight: 0 drains a server of mode = "l4"; in mode = "http" remove the server instead"#,
        ],
    ),
    (
        "weight = 2",
        "weight = 1001",
        &[
            r#"lb.toml:20:71: service "exchange": servers[1].weight: `1001` is not an integer from 0 to 1000"#,
        ],
    ),
    (
        "10.203.2.12:443",
        "10.203.2.11:443",
        &[
            r#"lb.toml:20:43: service "exchange": servers[1].address: `10.203.2.11:443` is used already, by service[0].servers[0] in line 20; give each its own"#,
        ],
    ),
    (
        r#"address = "10.203.2.12:443", "#,
        "",
        &[
            r#"lb.toml:20:31: service "exchange": servers[1].address: missing; add it, for example address = "10.203.2.11:443""#,
        ],
    ),
    (
        r#"{ address = "10.203.2.12:443", weight = 2, name = "ex2" }"#,
        "7",
        &[
            r#"lb.toml:20:31: service "exchange": servers[1]: expected an address such as "10.203.2.11:443", or a table such as { address = "10.203.2.11:443", weight = 2, name = "ex1" }, found an integer"#,
        ],
    ),
    (
        r#"["10.203.2.11:25"]"#,
        "[]",
        &[
            r#"lb.toml:29:11: service "smtp": servers: is empty; expected a list of at least one server, such as ["10.203.2.11:443"]"#,
        ],
    ),
    (
        r#"servers = ["10.203.2.11:25"]"#,
        "",
        &[
            r#"lb.toml:24:1: service "smtp": servers: missing; add it, for example servers = ["10.203.2.11:443"]"#,
        ],
    ),
    (
        "10.203.2.11:25",
        "10.203.1.100:443",
        &[
            r#"lb.toml:29:12: service "smtp": servers[0]: 10.203.1.100:443 is service[0].listen of this load balancer itself; give the address of a real server"#,
        ],
    ),
    (
        r#""client""#,
        r#""cliant""#,
        &[r#"lb.toml:28:10: service "smtp": source: `cliant` is not "nat" or "client""#],
    ),
    (
        r#"source = "client""#,
        "tls = true",
        &[
            r#"lb.toml:28:1: service "smtp": tls: is only for mode = "http" and mode = "tcp", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
        ],
    ),
    (
        r#"kind = "https""#,
        r#"kind = "tcp""#,
        &[
            r#"lb.toml:21:26: service "exchange": health.path: is only for a kind that reads an answer, such as "https", and this is kind = "tcp"; remove it, or change the other"#,
            r#"lb.toml:21:57: service "exchange": health.host: is only for a kind that reads an answer, such as "https", and this is kind = "tcp"; remove it, or change the other"#,
            r#"lb.toml:21:81: service "exchange": health.expect: is only for a kind that reads an answer, such as "https", and this is kind = "tcp"; remove it, or change the other"#,
        ],
    ),
    (
        r#"kind = "https", path = "/owa/healthcheck.htm", host = "mail.lab.test", expect = "200 OK""#,
        r#"kind = "none""#,
        &[
            r#"lb.toml:21:27: service "exchange": health.interval: is only for a check, and this is kind = "none"; remove it, or change the other"#,
            r#"lb.toml:21:45: service "exchange": health.timeout: is only for a check, and this is kind = "none"; remove it, or change the other"#,
            r#"lb.toml:21:61: service "exchange": health.rise: is only for a check, and this is kind = "none"; remove it, or change the other"#,
            r#"lb.toml:21:71: service "exchange": health.fall: is only for a check, and this is kind = "none"; remove it, or change the other"#,
        ],
    ),
    (
        r#"kind = "https""#,
        r#"kind = "icmp""#,
        &[
            r#"lb.toml:21:19: service "exchange": health.kind: `icmp` is not "tcp" or "http" or "https" or "smtp" or "smtps" or "imap" or "imaps" or "pop" or "pops" or "none""#,
        ],
    ),
    (
        r#"path = "/owa/healthcheck.htm""#,
        r#"path = "owa""#,
        &[
            r#"lb.toml:21:35: service "exchange": health.path: `owa` is not a path that begins with /, such as "/owa/healthcheck.htm""#,
        ],
    ),
    (
        r#"host = "mail.lab.test""#,
        r#"host = "me@mail.lab.test""#,
        &[
            r#"lb.toml:21:66: service "exchange": health.host: `me@mail.lab.test` is not a host name without user name, such as "mail.example.com""#,
        ],
    ),
    (
        r#"timeout = "4s""#,
        r#"timeout = "11s""#,
        &[
            r#"lb.toml:21:130: service "exchange": health.timeout: 11s is longer than the interval of 10s, and probes of one server would overlap; make it shorter, or the interval longer"#,
        ],
    ),
    (
        "rise = 2",
        "rise = 256",
        &[
            r#"lb.toml:21:143: service "exchange": health.rise: `256` is not an integer from 1 to 255"#,
        ],
    ),
    (
        r#"source = "client""#,
        r#"health = { kind = "https" }"#,
        &[
            r#"lb.toml:28:10: service "smtp": health.host: missing; add it, the public name of the service, such as "mail.example.com""#,
            r#"lb.toml:28:10: service "smtp": health.ca: missing; add it, the PEM file with the root certificate of the servers (or verify = "none")"#,
        ],
    ),
    (
        r#"source = "client""#,
        r#"health = { kind = "http", interval = "1ms" }"#,
        &[
            r#"lb.toml:28:10: service "smtp": health.host: missing; add it, the public name of the service, such as "mail.example.com""#,
            r#"lb.toml:28:38: service "smtp": health.interval: `1ms` is not from 100ms to 1h"#,
        ],
    ),
    (
        "[[service]]\nname = \"imap\"",
        "[[servis]]\nname = \"imap\"",
        &["lb.toml:31:3: servis: unknown key; did you mean `service`?"],
    ),
    (
        r#"name = "imap""#,
        r#"name = "imap"#,
        &[r#"lb.toml:32:13: not valid TOML: invalid basic string, expected `"`"#],
    ),
    (
        r#"source = "client""#,
        "source = \"client\"\nsource = \"nat\"",
        &["lb.toml:29:1: not valid TOML: duplicate key: `source`"],
    ),
];

#[test]
fn each_mistake_is_placed_and_explained() {
    for (old, new, expected) in MISTAKES {
        check(&changed(old, new), expected);
    }
}
