//! What each route takes, and what none may take.

use super::*;

fn prefix(path: &str) -> When {
    When {
        paths: vec![PathPrefix(path.to_owned())],
        ..When::default()
    }
}

fn route(name: &str, when: When) -> Route {
    Route {
        name: name.to_owned(),
        when,
        action: Action::Respond(Respond {
            status: StatusCode::OK,
            body: String::new(),
        }),
        counters: RouteCounters::default(),
    }
}

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// Name of the route, or the kind of error.
fn found(routes: &[Route], head: &request::Parts, server_name: Option<&str>) -> String {
    match find(routes, head, server_name) {
        Ok((_, route)) => route.name.clone(),
        Err(error) => error.kind().to_string(),
    }
}

#[test]
fn a_prefix_ends_at_a_slash() {
    let routes = [route("owa", prefix("/owa")), route("root", prefix("/"))];
    for (target, name) in [
        ("/owa", "owa"),
        ("/OWA/x", "owa"),
        ("/owa?a=/ecp", "owa"),
        ("/owafoo", "root"),
        ("/", "root"),
        ("/ow", "root"),
    ] {
        assert_eq!(
            found(&routes, &head("GET", target, &[]), None),
            name,
            "{target}"
        );
    }
    let only_owa = &routes[..1];
    assert_eq!(found(only_owa, &head("GET", "/ecp", &[]), None), "no-route");
}

#[test]
fn a_whole_path_is_only_itself() {
    let when = When {
        whole_paths: vec!["/".to_owned()],
        ..prefix("/owa")
    };
    let routes = [route("root", when)];
    for (target, name) in [
        ("/", "root"),
        ("/?a=b", "root"),
        ("/owa/x", "root"),
        ("/ecp", "no-route"),
    ] {
        assert_eq!(
            found(&routes, &head("GET", target, &[]), None),
            name,
            "{target}"
        );
    }
}

#[test]
fn a_path_that_servers_may_read_differently_goes_nowhere() {
    let routes = [route("ecp", prefix("/ecp")), route("owa", prefix("/owa"))];
    for target in [
        "/owa/../ecp/x",
        "/owa/%2e%2e/ecp/x",
        "/owa/..%2fecp",
        "/owa/..%5cecp",
        "/owa/..\\ecp",
        "/%65cp/x",
        "//ecp/x",
        "/./ecp",
        "/owa/..;/ecp",
        "/ecp;a=b/x",
    ] {
        assert_eq!(
            found(&routes, &head("GET", target, &[]), None),
            "bad-request",
            "{target}"
        );
    }
    for target in [
        "/owa/%20x",
        "/owa//x",
        "/owa/./x",
        "/owa/a;b=c",
        "/owa/x%2fy",
        "/owa/x/../y",
    ] {
        assert_eq!(
            found(&routes, &head("GET", target, &[]), None),
            "owa",
            "{target}"
        );
    }
}

#[test]
fn hosts_methods_and_headers_narrow_a_route() {
    let routes = [
        route(
            "mail",
            When {
                hosts: vec![
                    HostPattern::Exact("mail.example.com".to_owned()),
                    HostPattern::Below("mail.example.org".to_owned()),
                ],
                ..When::default()
            },
        ),
        route(
            "rpc",
            When {
                methods: vec![Method::from_bytes(b"RPC_IN_DATA").unwrap()],
                ..When::default()
            },
        ),
        route(
            "beta",
            When {
                headers: vec![HeaderEquals {
                    name: HeaderName::from_static("x-group"),
                    value: Some(HeaderValue::from_static("beta")),
                }],
                ..When::default()
            },
        ),
    ];
    for (method, headers, name) in [
        ("GET", ("host", "MAIL.example.com:8443"), "mail"),
        ("GET", ("host", "mail.example.com."), "mail"),
        ("GET", ("host", "a.mail.example.org"), "mail"),
        ("GET", ("host", "a.b.mail.example.org"), "no-route"),
        ("GET", ("host", "mail.example.org"), "no-route"),
        ("RPC_IN_DATA", ("host", "x"), "rpc"),
        ("GET", ("x-group", "Beta"), "beta"),
        ("GET", ("x-group", "alpha"), "no-route"),
    ] {
        let head = head(method, "/", &[headers]);
        assert_eq!(found(&routes, &head, None), name, "{method} {headers:?}");
    }
}

#[test]
fn a_request_for_another_host_than_the_connections_is_misdirected() {
    let when = When {
        hosts: vec![HostPattern::Exact("a.test".to_owned())],
        ..When::default()
    };
    let routes = [route("a", when), route("rest", When::default())];
    let to_a = head("GET", "/", &[("host", "a.test")]);
    assert_eq!(found(&routes, &to_a, None), "a");
    assert_eq!(found(&routes, &to_a, Some("A.test")), "a");
    assert_eq!(found(&routes, &to_a, Some("b.test")), "misdirected");
    // A route for any host has nothing to keep apart.
    let to_c = head("GET", "/", &[("host", "c.test")]);
    assert_eq!(found(&routes, &to_c, Some("b.test")), "rest");
}

#[test]
fn a_redirect_is_filled_in_from_the_request() {
    let to = |to: &str, target: &str| {
        let redirect = Redirect {
            to: to.to_owned(),
            status: StatusCode::FOUND,
        };
        let head = head("GET", target, &[("host", "mail.example.com:80")]);
        redirect
            .location(&head)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        to("https://{host}{path}", "/a?b=c"),
        "https://mail.example.com/a?b=c"
    );
    assert_eq!(to("/owa?{query}#x", "/?b=c"), "/owa?b=c#x");
}
