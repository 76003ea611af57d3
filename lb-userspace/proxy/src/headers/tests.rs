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
        ("forwarded", "for=203.0.113.1"),
        ("x-clientside", "203.0.113.1:1 -> 203.0.113.2:2"),
    ];
    for (mode, added) in table {
        let policy = HeaderPolicy {
            mode,
            inbound: Inbound::Strip,
        };
        let mut head = head("/", claims);
        policy.apply(&mut head, CLIENT).unwrap();
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
    policy.apply(&mut head, CLIENT).unwrap();
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
    HeaderPolicy::exchange().apply(&mut head, CLIENT).unwrap();
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

/// RFC 9112 section 3.2.3: the target of a tunnel stays, and rules over `Host` as well.
#[test]
fn a_tunnel_keeps_its_target() {
    let mut head = head("mail.example:443", &[("host", "other")]);
    head.method = Method::CONNECT;
    normalize(&mut head).unwrap();
    assert_eq!(head.uri.to_string(), "mail.example:443");
    assert_eq!(head.headers[HOST], "mail.example:443");
}

#[test]
fn ambiguous_hosts_are_refused() {
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
