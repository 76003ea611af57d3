//! Every mode against what it adds, strips and keeps; targets, `Host` and hop-by-hop headers by table.

use http::Request;

use super::*;

const CLIENT: ClientAddr = ClientAddr {
    peer: SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)),
        51234,
    ),
    local: SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)),
        443,
    ),
};

type Lines<'a> = &'a [(&'a str, &'a str)];

fn head(target: &str, lines: Lines<'_>) -> request::Parts {
    let mut request = Request::builder().uri(target);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect()
}

#[test]
fn each_mode_adds_what_it_names() {
    use HeaderMode as M;
    let side = ("x-clientside", "192.0.2.9:51234 -> 198.51.100.1:443");
    let forwarded = ("x-forwarded-for", "192.0.2.9");
    let via = ("via", "1.1 lb");
    let table: [(HeaderMode, Lines<'_>); 7] = [
        (M::LegacyXForwardedFor, &[forwarded]),
        (M::XForwardedForVia, &[forwarded, via]),
        (M::None, &[]),
        (M::XClientSideVia, &[side, via]),
        (M::XClientSide, &[side]),
        (M::XForwardedFor, &[forwarded]),
        (M::Via, &[via]),
    ];
    let claims: Lines<'_> = &[
        ("via", "1.1 liar"),
        ("host", "mail.example"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-proto", "ftp"),
        ("x_forwarded-for", "203.0.113.1"),
        ("x_clientside", "203.0.113.1"),
        ("forwarded", "for=203.0.113.1"),
        ("x-clientside", "203.0.113.1:1 -> 203.0.113.2:2"),
    ];
    for (mode, added) in table {
        let policy = HeaderPolicy {
            mode,
            inbound: Inbound::Strip,
            told: Told::NOTHING,
        };
        let mut head = head("/", claims);
        policy.apply(&mut head, CLIENT, Scheme::Http).unwrap();
        let expected = [&[("host", "mail.example")], added].concat();
        assert_eq!(lines(&head.headers), expected, "{mode:?}");
        assert_eq!(mode.adds_via(), added.contains(&via), "{mode:?}");
    }
}

#[test]
fn a_trusted_proxy_in_front_is_added_to() {
    let policy = HeaderPolicy {
        mode: HeaderMode::XForwardedForVia,
        inbound: Inbound::Keep,
        told: Told::NOTHING,
    };
    let inbound: Lines<'_> = &[
        ("host", "h"),
        ("via", "1.0 a"),
        ("via", "1.1 b"),
        ("x-forwarded-for", "203.0.113.1"),
        ("x-forwarded-proto", "https"),
    ];
    let mut head = head("/", inbound);
    head.version = Version::HTTP_10;
    policy.apply(&mut head, CLIENT, Scheme::Http).unwrap();
    let expected = [
        ("host", "h"),
        ("via", "1.0 a, 1.1 b, 1.0 lb"),
        ("x-forwarded-for", "203.0.113.1, 192.0.2.9"),
        ("x-forwarded-proto", "https"),
    ];
    assert_eq!(lines(&head.headers), expected);
    assert_eq!(head.version, Version::HTTP_11);
}

#[test]
fn hop_by_hop_headers_end_here_and_the_rest_keeps_its_order() {
    let mut head = head(
        "/",
        &[
            ("connection", "keep-alive, X-Hop, host"),
            ("host", "h"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "gone"),
            ("a", "1"),
            ("te", "trailers"),
            ("cookie", "c=1"),
            ("cookie", "d=2"),
            ("upgrade", "websocket"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("z", "2"),
        ],
    );
    HeaderPolicy::exchange()
        .apply(&mut head, CLIENT, Scheme::Http)
        .unwrap();
    let expected = [
        ("host", "h"),
        ("a", "1"),
        ("cookie", "c=1"),
        ("cookie", "d=2"),
        ("z", "2"),
    ];
    assert_eq!(lines(&head.headers), expected);
}

#[test]
fn targets_become_origin_form_and_rule_over_host() {
    let table = [
        ("/owa?x=1", "h", "/owa?x=1", "h"),
        ("*", "h", "*", "h"),
        (
            "http://mail.example/owa?x=1",
            "h",
            "/owa?x=1",
            "mail.example",
        ),
        ("http://u:p@mail.example:81", "h", "/", "mail.example:81"),
    ];
    for (target, host, sent_target, sent_host) in table {
        let mut head = head(target, &[("host", host)]);
        normalize(&mut head).unwrap();
        assert_eq!(head.uri.to_string(), sent_target, "{target}");
        assert_eq!(head.headers[HOST], sent_host, "{target}");
    }
}

#[test]
fn ambiguous_hosts_and_tunnels_are_refused() {
    let apply = |mut head: request::Parts| {
        let outcome = normalize(&mut head);
        outcome.map_err(|error| error.kind())
    };
    let bad = Err(Kind::BadRequest);
    assert_eq!(apply(head("/", &[])), bad);
    assert_eq!(apply(head("/", &[("host", "a"), ("host", "b")])), bad);

    let mut old = head("/", &[]);
    old.version = Version::HTTP_10;
    assert_eq!(apply(old), Ok(()));

    let mut tunnel = head("mail.example:443", &[("host", "mail.example")]);
    tunnel.method = Method::CONNECT;
    assert_eq!(apply(tunnel), Err(Kind::Tunnel));
}

#[test]
fn closing_is_read_from_version_and_connection() {
    let table = [
        (Version::HTTP_11, None, false),
        (Version::HTTP_11, Some("Close"), true),
        (Version::HTTP_11, Some("keep-alive, close"), true),
        (Version::HTTP_10, None, true),
        (Version::HTTP_10, Some("Keep-Alive"), false),
    ];
    for (version, connection, expected) in table {
        let mut headers = HeaderMap::new();
        if let Some(value) = connection {
            headers.insert(CONNECTION, HeaderValue::from_static(value));
        }
        assert_eq!(
            closes(version, &headers),
            expected,
            "{version:?} {connection:?}"
        );
    }
}

/// What a server gets with `told`, by a client on `client`.
fn told(tells: &[Tell], inbound: Inbound, client: ClientAddr, lines: Lines<'_>) -> HeaderMap {
    let policy = HeaderPolicy {
        mode: HeaderMode::None,
        inbound,
        told: tells.iter().copied().collect(),
    };
    let mut head = head("/", lines);
    policy.apply(&mut head, client, Scheme::Https).unwrap();
    head.headers
}

const EVERYTHING: [Tell; 5] = [
    Tell::XForwardedFor,
    Tell::XForwardedProto,
    Tell::XForwardedPort,
    Tell::XForwardedHost,
    Tell::Forwarded,
];

#[test]
fn each_way_to_tell_of_the_client_adds_its_header() {
    let host = ("host", "mail.example");
    let expected = [
        ("x-forwarded-for", "192.0.2.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-host", "mail.example"),
        (
            "forwarded",
            "for=\"192.0.2.9:51234\";by=\"198.51.100.1:443\";host=mail.example;proto=https",
        ),
    ];
    for (tell, line) in EVERYTHING.into_iter().zip(expected) {
        let headers = told(&[tell], Inbound::Strip, CLIENT, &[host]);
        assert_eq!(lines(&headers), [host, line]);
    }
    let all = told(&EVERYTHING, Inbound::Strip, CLIENT, &[host]);
    assert_eq!(lines(&all), [&[host], &expected[..]].concat());
}

#[test]
fn a_mode_and_an_option_that_say_the_same_say_it_once() {
    let policy = HeaderPolicy {
        mode: HeaderMode::LegacyXForwardedFor,
        inbound: Inbound::Strip,
        told: Told::from_iter([Tell::XForwardedFor]),
    };
    let mut head = head("/", &[("x-forwarded-for", "203.0.113.1")]);
    policy.apply(&mut head, CLIENT, Scheme::Http).unwrap();
    assert_eq!(lines(&head.headers), [("x-forwarded-for", "192.0.2.9")]);
}

/// RFC 7239 section 4: brackets, colons and what is no token are quoted.
#[test]
fn forwarded_quotes_what_must_be_quoted() {
    let ipv6 = ClientAddr {
        peer: "[2001:db8::9]:51234".parse().unwrap(),
        local: "[2001:db8:1::1]:443".parse().unwrap(),
    };
    let mapped = ClientAddr {
        peer: "[::ffff:192.0.2.9]:51234".parse().unwrap(),
        local: "[::ffff:198.51.100.1]:443".parse().unwrap(),
    };
    let nodes6 = "for=\"[2001:db8::9]:51234\";by=\"[2001:db8:1::1]:443\"";
    let nodes4 = "for=\"192.0.2.9:51234\";by=\"198.51.100.1:443\"";
    let table = [
        (ipv6, "h", nodes6, ";host=h"),
        (mapped, "h:8443", nodes4, ";host=\"h:8443\""),
        (CLIENT, "[2001:db8::1]", nodes4, ";host=\"[2001:db8::1]\""),
        (CLIENT, "", nodes4, ""),
        // Whoever could leave the quotes would speak for us.
        (
            CLIENT,
            r#"h";for=1.2.3.4;a="\"#,
            nodes4,
            r#";host="h\";for=1.2.3.4;a=\"\\""#,
        ),
    ];
    for (client, host, nodes, rest) in table {
        let headers = told(
            &[Tell::Forwarded],
            Inbound::Strip,
            client,
            &[("host", host)],
        );
        let expected = format!("{nodes}{rest};proto=https");
        assert_eq!(headers[FORWARDED], expected);
    }
}

#[test]
fn what_a_trusted_proxy_said_comes_first_and_once() {
    let inbound: Lines<'_> = &[
        ("host", "h"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "203.0.113.1"),
        ("forwarded", "for=203.0.113.1"),
        ("forwarded", "for=203.0.113.2"),
        ("x-forwarded-host", "public.example"),
    ];
    let headers = told(&EVERYTHING, Inbound::Keep, CLIENT, inbound);
    let ours = "for=\"192.0.2.9:51234\";by=\"198.51.100.1:443\";host=h;proto=https";
    let list = format!("for=203.0.113.1, for=203.0.113.2, {ours}");
    let expected = [
        ("host", "h"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-for", "203.0.113.1, 192.0.2.9"),
        ("forwarded", list.as_str()),
        ("x-forwarded-host", "public.example"),
        ("x-forwarded-port", "443"),
    ];
    assert_eq!(lines(&headers), expected);
}
