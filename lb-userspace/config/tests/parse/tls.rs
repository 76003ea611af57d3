//! TLS towards clients: certificates, versions, ciphers, and what Extended Protection needs.

use std::path::Path;

use lb_config::{
    Action, CipherSuite, Ciphers, ClientCertificateMode, Http, Mode, Tls, TlsVersion, parse,
};

use crate::{GOOD, check};

const TLS: &str = r#"tls = { certificate = "cert.pem", key = "key.pem" }"#;
const UPSTREAM: &str = r#"upstream_tls = { ca = "ca.pem", server_name = "mail.lab.test" }"#;

/// The good file with other `tls`.
fn with(tls: &str) -> String {
    GOOD.replace(TLS, tls)
}

fn http(text: &str) -> Http {
    let config = parse(text).expect("no mistakes");
    match config.services.into_iter().next().expect("one").mode {
        Mode::Http(http) => http,
        Mode::L4(_) | Mode::Tcp(_) => panic!("http"),
    }
}

fn tls(text: &str) -> Tls {
    http(&with(text)).tls.expect("tls")
}

/// The `tls` of line 17 has exactly these mistakes.
#[track_caller]
fn mistakes(tls: &str, expected: &[&str]) {
    let whole: Vec<_> = expected
        .iter()
        .map(|line| {
            let (column, rest) = line.split_once(": ").expect("a column");
            format!(r#"lb.toml:18:{column}: service "exchange": {rest}"#)
        })
        .collect();
    let whole: Vec<_> = whole.iter().map(String::as_str).collect();
    check(&with(tls), &whole);
}

#[test]
fn one_certificate_is_the_short_form_of_a_list() {
    let short = tls(TLS);
    assert_eq!(short.certificates.len(), 1);
    assert_eq!(short.certificates[0].certificate, Path::new("cert.pem"));
    assert_eq!(short.certificates[0].ocsp, None);
    assert_eq!(short.versions, [TlsVersion::Tls12, TlsVersion::Tls13]);
    assert_eq!((short.strict_sni, short.ciphers), (false, Ciphers::Default));
    assert_eq!(short.client_certificates, None);

    let long = tls(
        r#"tls = { strict_sni = true, versions = ["1.3"], ciphers = ["TLS13_AES_128_GCM_SHA256"],
        client_certificates = { ca = "clients.pem", mode = "optional", header = "X-Subject" }, certificates = [
        { certificate = "a.pem", key = "a-key.pem", ocsp = "a.der" }, { certificate = "b.pem", key = "b-key.pem" }] }"#,
    );
    let certificates: Vec<_> = long
        .certificates
        .iter()
        .map(|one| &one.certificate)
        .collect();
    assert_eq!(certificates, [Path::new("a.pem"), Path::new("b.pem")]);
    assert_eq!(
        long.certificates[0].ocsp.as_deref(),
        Some(Path::new("a.der"))
    );
    assert_eq!(
        (long.strict_sni, &long.versions[..]),
        (true, &[TlsVersion::Tls13][..])
    );
    let suite = CipherSuite::named("TLS13_AES_128_GCM_SHA256").expect("known");
    assert_eq!(long.ciphers, Ciphers::Only(vec![suite]));
    let clients = long.client_certificates.expect("asked for");
    assert_eq!(clients.mode, ClientCertificateMode::Optional);
    assert_eq!(clients.header.expect("asked for"), "x-subject");

    let required = tls(
        r#"tls = { certificate = "a.pem", key = "b.pem", ciphers = "default", client_certificates = { ca = "c.pem" } }"#,
    );
    let clients = required.client_certificates.expect("asked for");
    assert_eq!(
        (required.ciphers, clients.mode),
        (Ciphers::Default, ClientCertificateMode::Required)
    );
}

#[test]
fn mistakes_in_certificates_are_named() {
    mistakes(
        r#"tls = { certificate = "a.pem", certificates = [] }"#,
        &[
            r"23: tls.certificate: is one certificate, and `certificates` a list of them; put it into the list",
            r#"47: tls.certificates: is empty; expected a list of tables, such as [{ certificate = "cert.pem", key = "key.pem" }]"#,
        ],
    );
    mistakes(
        r#"tls = { certificates = [{ certificate = "a.pem" }], strict_sni = "yes" }"#,
        &[
            "25: tls.certificates[0].key: missing; add it, the PEM file with the private key",
            "66: tls.strict_sni: expected true or false, found a string",
        ],
    );
    mistakes(
        r#"tls = { certificate = "a.pem", key = "a.pem", client_certificates = { mode = "maybe" } }"#,
        &[
            "69: tls.client_certificates.ca: missing; add it, the PEM file with the root certificates that vouch for clients",
            r#"78: tls.client_certificates.mode: `maybe` is not "required" or "optional""#,
        ],
    );
}

#[test]
fn what_can_not_be_had_is_said_with_what_can() {
    let files = r#"certificate = "a.pem", key = "b.pem""#;
    let all = "TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256, \
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, \
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, \
        TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256";
    let old = "RC4, 3DES, CBC and the like, and so LoadMaster's sets of them, can't be had here: ";
    mistakes(
        &format!(r#"tls = {{ {files}, versions = ["1.1"] }}"#),
        &[
            r#"59: tls.versions[0]: `1.1` is not "1.2" or "1.3": nothing older can be had here, and RFC 8996 forbids it"#,
        ],
    );
    for (found, why) in [
        ("TLS_RSA_WITH_3DES_EDE_CBC_SHA", old),
        ("RC4-MD5", old),
        ("AES128-SHA", old),
        ("TLS_AES_256_GCM_SHA384", ""),
    ] {
        let expected = format!(
            r#"58: tls.ciphers[0]: `{found}` is not "default" or a list of names; {why}there are {all}"#
        );
        let text = format!(r#"tls = {{ {files}, ciphers = ["{found}"] }}"#);
        mistakes(&text, &[&expected]);
    }
    let expected = format!(
        r#"57: tls.ciphers: `Legacy` is not "default" or a list of names; {old}there are {all}"#
    );
    mistakes(
        &format!(r#"tls = {{ {files}, ciphers = "Legacy" }}"#),
        &[&expected],
    );
}

#[test]
fn versions_and_ciphers_must_fit_together() {
    let files = r#"certificate = "a.pem", key = "b.pem""#;
    mistakes(
        &format!(r#"tls = {{ {files}, ciphers = ["TLS13_AES_128_GCM_SHA256"] }}"#),
        &[
            "57: tls.ciphers: none of them is for TLS 1.2, which `versions` allows; add one, or set `versions` without it",
        ],
    );
    mistakes(
        &format!(
            r#"tls = {{ {files}, versions = ["1.2"], ciphers = ["TLS13_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"] }}"#
        ),
        &[
            "77: tls.ciphers: TLS13_AES_128_GCM_SHA256 is for TLS 1.3, which `versions` doesn't allow; remove it, or add the version",
        ],
    );
    mistakes(
        &format!(r#"tls = {{ {files}, versions = ["1.2", "1.2"] }}"#),
        &[
            "66: tls.versions[1]: `1.2` is used already, by service[0].tls.versions[0] in line 18; give each its own",
        ],
    );
}

#[test]
fn extended_protection_needs_tls_on_both_sides() {
    let protected = GOOD.replace(TLS, &format!("{TLS}\nextended_protection = true"));
    let routes = http(&protected).routes;
    assert!(matches!(&routes[0].action, Action::Forward(to) if to.extended_protection));

    // Its check would lack the authority as well.
    let offload = protected
        .replace(UPSTREAM, "")
        .replace(r#"kind = "https", path"#, r#"kind = "http", path"#);
    check(
        &offload,
        &[
            r#"lb.toml:19:23: service "exchange": extended_protection: without upstream_tls, TLS ends here, and servers with Extended Protection refuse every login; add upstream_tls, and give this host and all servers the same certificate"#,
        ],
    );
    check(
        &protected.replace(TLS, ""),
        &[
            r#"lb.toml:19:23: service "exchange": extended_protection: without tls, clients see no certificate, and servers with Extended Protection refuse every login; add tls with the servers' certificate"#,
        ],
    );
    check(
        &GOOD.replace("source = \"client\"", "extended_protection = true"),
        &[
            r#"lb.toml:28:1: service "smtp": extended_protection: is only for mode = "http", and this is mode = "l4", which forwards TLS and HTTP untouched; remove it, or change the other"#,
        ],
    );
}

#[test]
fn a_route_may_be_without_extended_protection() {
    let text = GOOD
        .replace(TLS, &format!("{TLS}\nextended_protection = true"))
        .replace(
            "\n[[service]]\nname = \"smtp\"",
            "\n[[service.route]]\nname = \"oab\"\nextended_protection = false\n[[service.route]]\nname = \"all\"\n\n[[service]]\nname = \"smtp\"",
        );
    let routes = http(&text).routes;
    let protected = routes.iter().map(|route| match &route.action {
        Action::Forward(to) => to.extended_protection,
        other => panic!("{other:?}"),
    });
    assert_eq!(protected.collect::<Vec<_>>(), [false, true]);
}

#[test]
fn http2_is_not_for_servers_that_log_in_connections() {
    let tls = r#"tls = { certificate = "cert.pem", key = "key.pem", http2 = true }"#;
    let plain = with(tls).replace("profile = \"exchange\"", "profile = \"plain\"");
    assert!(http(&plain).tls.expect("tls").http2);
    assert!(!http(GOOD).tls.expect("tls").http2);
    let refusal = "http2 = true is not for servers that log in connections (NTLM, Kerberos): requests of HTTP/2 share one; remove it";
    mistakes(tls, &[&format!("7: tls: {refusal}")]);
    let protected = plain.replace("headers = \"none\"", "extended_protection = true");
    let expected = format!(r#"lb.toml:18:7: service "exchange": tls: {refusal}"#);
    check(&protected, &[&expected]);
}
