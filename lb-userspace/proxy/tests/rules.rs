//! Rules and error pages on the wire, and that no rule makes anyone someone else.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, StatusCode};
use lb_proxy::{
    Action, ErrorPages, HeaderRule, Kind, Page, PathPrefix, Piece, Respond, Route, RouteCounters,
    Rules, Service, TargetPart, TargetRule, Template, Variable, When,
};
use regex::bytes::Regex;
use support::iis::Iis;
use support::{Edge, forwarding, nobody, origin, run, server, service};

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

fn set(of: &'static str, pieces: Vec<Piece>) -> HeaderRule {
    HeaderRule::Set {
        name: name(of),
        value: Template(pieces),
    }
}

/// A service to `address` with rules.
fn ruled(address: SocketAddr, rules: Rules) -> Service {
    let mut settings = service(&[address]);
    forwarding(&mut settings).rules = Some(Box::new(rules));
    settings
}

/// Answers each request with its start and lines, and odd headers.
async fn echo() -> SocketAddr {
    origin(|mut wire, _| async move {
        while let Some(request) = wire.message().await {
            let body = format!("{}\n{}", request.start, request.lines.join("\n"));
            let lines = "sERVER: IIS\r\nLocation: http://inside/x\r\nX-Powered-By: a\r\nX-Powered-By: b\r\nSet-Cookie: c=1";
            let length = body.len();
            wire.send(format!(
                "HTTP/1.1 200 OK\r\n{lines}\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
            .await?;
        }
        Some(())
    })
    .await
}

#[test]
fn a_request_is_what_the_rules_make_of_it() {
    let rules = Rules {
        target: vec![
            TargetRule::Prefix {
                from: PathPrefix("/old".to_owned()),
                to: "/new".to_owned(),
            },
            TargetRule::Rewrite {
                part: TargetPart::Query,
                pattern: Regex::new("^a=(.*)$").unwrap(),
                with: "b=$1".to_owned(),
            },
        ],
        request: vec![
            set("host", vec![text("inside:8080")]),
            set("x-real-ip", vec![Piece::Variable(Variable::ClientIp)]),
            set(
                "x-asked",
                vec![
                    Piece::Variable(Variable::Host),
                    text(" "),
                    Piece::Variable(Variable::Path),
                    text(" "),
                    Piece::Variable(Variable::Query),
                ],
            ),
            HeaderRule::Remove { name: name("x-b") },
        ],
        ..Rules::default()
    };
    run(async {
        let edge = Edge::start(ruled(echo().await, rules)).await;
        let mut client = edge.client().await;
        let lines = "x-REAL-ip: 203.0.113.1\r\nX-A: 1\r\nx-B: 2\r\nX-C: 3\r\n";
        let answer = client.get("/OLD/x?a=1", lines).await.unwrap();
        let expected = "GET /new/x?b=1 HTTP/1.1\nHost: inside:8080\nx-REAL-ip: 127.0.0.1\nX-A: 1\nX-C: 3\nX-Asked: h /OLD/x a=1";
        assert_eq!(answer.text(), expected);
        // What a rule makes no target of is the client's mistake, and the connection ends.
        assert_eq!(client.get("/old/%2e./x", "").await.unwrap().status(), 400);
        assert_eq!(edge.counters().errors(Kind::BadRequest), 1);
        assert!(client.at_end().await);
        let mut client = edge.client().await;
        let untouched = client.get("/x", "").await.unwrap();
        assert!(
            untouched
                .text()
                .starts_with("GET /x HTTP/1.1\nHost: inside:8080\n")
        );
    });
}

#[test]
fn a_response_is_what_the_rules_make_of_it() {
    let rules = Rules {
        response: vec![
            HeaderRule::Remove {
                name: name("x-powered-by"),
            },
            HeaderRule::Rewrite {
                name: name("location"),
                pattern: Regex::new("^http://inside/(.*)$").unwrap(),
                with: "https://mail.example/$1".to_owned(),
            },
            set(
                "x-served-by",
                vec![
                    Piece::Variable(Variable::Server),
                    text("/"),
                    Piece::Variable(Variable::Path),
                ],
            ),
            HeaderRule::Add {
                name: name("set-cookie"),
                value: Template(vec![text("d=2")]),
            },
        ],
        ..Rules::default()
    };
    run(async {
        let edge = Edge::start(ruled(echo().await, rules)).await;
        let answer = edge.client().await.get("/owa?x", "").await.unwrap();
        let length = format!("Content-Length: {}", answer.body.len());
        let expected = [
            "sERVER: IIS",
            "Location: https://mail.example/x",
            "Set-Cookie: c=1",
            "Set-Cookie: d=2",
            &length,
            "X-Served-By: server-0//owa",
        ];
        assert_eq!(answer.lines, expected);
    });
}

/// A1, whoever writes the credential: the connection is the client's alone from then on.
#[test]
fn a_credential_that_a_rule_makes_pins() {
    let rules = || Rules {
        request: vec![HeaderRule::Copy {
            from: name("x-token"),
            to: name("authorization"),
        }],
        ..Rules::default()
    };
    run(async {
        let (address, iis) = Iis::start().await;
        let edge = Edge::start(ruled(address, rules())).await;
        let mut alice = edge.client().await;
        let token = "X-Token: Negotiate ONE-alice\r\n";
        assert_eq!(alice.get("/", token).await.unwrap().text(), "alice");
        assert_eq!(edge.counters().upstream_pinned.get(), 1);
        let mut stranger = edge.client().await;
        assert_eq!(stranger.get("/", "").await.unwrap().status(), 401);
        assert_eq!(alice.get("/", "").await.unwrap().text(), "alice");
        assert_eq!(iis.connections(), [0, 1, 0]);
    });
}

/// Rules that hide how a server authenticates from the client don't hide it from us (A2).
#[test]
fn a_challenge_that_a_rule_removes_still_pins() {
    let rules = Rules {
        response: vec![
            HeaderRule::Remove {
                name: name("www-authenticate"),
            },
            HeaderRule::Remove {
                name: name("persistent-auth"),
            },
        ],
        ..Rules::default()
    };
    run(async {
        let (address, _) = Iis::start().await;
        let edge = Edge::start(ruled(address, rules)).await;
        let refused = edge.client().await.get("/", "").await.unwrap();
        assert_eq!(
            (refused.status(), refused.get("www-authenticate")),
            (401, None)
        );
        assert_eq!(edge.counters().upstream_pinned.get(), 1);
    });
}

fn pages(pages: &[(u16, &'static str, &'static str)]) -> ErrorPages {
    let pages = pages.iter().map(|&(status, content_type, body)| {
        let page = Page::new(
            HeaderValue::from_static(content_type),
            body.as_bytes().to_vec(),
        );
        (StatusCode::from_u16(status).unwrap(), page)
    });
    pages.collect()
}

const HTML: &str = "text/html; charset=utf-8";

#[test]
fn what_fails_has_the_page_of_its_route_or_its_service() {
    run(async {
        let mut settings = service(&[nobody().await]);
        settings.error_pages = pages(&[
            (404, HTML, "<p>none"),
            (502, HTML, "<p>the service's"),
            (400, "application/json", "{}"),
        ]);
        forwarding(&mut settings).error_pages = pages(&[(502, HTML, "<p>the route's")]);
        settings.routes[0].when.paths = vec![PathPrefix("/owa".to_owned())];
        let mut other = service(&[nobody().await]).routes.remove(0);
        other.when.paths = vec![PathPrefix("/ews".to_owned())];
        settings.routes.push(other);
        let down = server(&settings, 0);
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        let table = [
            ("/owa", 502, HTML, "<p>the route's"),
            ("/ews", 502, HTML, "<p>the service's"),
            ("/ecp", 404, HTML, "<p>none"),
            ("/owa/..%2fews", 400, "application/json", "{}"),
        ];
        for (path, status, content_type, body) in table {
            let answer = client.get(path, "").await.unwrap();
            assert_eq!((answer.status(), answer.text()), (status, body), "{path}");
            assert_eq!(answer.get("content-type"), Some(content_type), "{path}");
        }
        down.set_up(false);
        let mut client = edge.client().await;
        let bare = client.get("/owa", "").await.unwrap();
        assert_eq!(
            (bare.status(), bare.get("content-type")),
            (503, Some("text/plain"))
        );
    });
}

/// A page is shown for what fails here: what a server or a route says itself stays, and `HEAD` gets no body.
#[test]
fn a_page_replaces_nothing_that_was_said() {
    run(async {
        let server = origin(|mut wire, _| async move {
            while wire.message().await.is_some() {
                wire.send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")
                    .await?;
            }
            Some(())
        })
        .await;
        let mut settings = service(&[server]);
        settings.error_pages = pages(&[
            (503, HTML, "<p>sorry"),
            (403, HTML, "<p>no"),
            (404, HTML, "<p>none"),
        ]);
        settings.routes[0].when.paths = vec![PathPrefix("/owa".to_owned())];
        settings.routes.push(Route {
            name: "no".to_owned(),
            when: When {
                paths: vec![PathPrefix("/ecp".to_owned())],
                ..When::default()
            },
            action: Action::Respond(Respond {
                status: StatusCode::FORBIDDEN,
                body: "mine".to_owned(),
            }),
            counters: RouteCounters::default(),
        });
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/owa", "").await.unwrap().text(), "busy");
        assert_eq!(client.get("/ecp", "").await.unwrap().text(), "mine");
        client
            .send("HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        let head = client.head().await.unwrap();
        assert_eq!(
            (head.status(), head.get("content-length")),
            (404, Some("7"))
        );
        assert_eq!(client.get("/owa", "").await.unwrap().text(), "busy");
    });
}
