//! Routes on the wire: who takes a request, what becomes of a login when requests of one client go different ways.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

mod support;

use std::net::SocketAddr;

use http::StatusCode;
use lb_proxy::{Action, Kind, PathPrefix, Redirect, Respond, Route, RouteCounters, Service, When};
use support::iis::Iis;
use support::{Edge, Wire, origin, run, server, service};

/// A route for paths below `prefix`.
fn route(name: &str, prefix: &str, action: Action) -> Route {
    Route {
        name: name.to_owned(),
        when: When {
            paths: vec![PathPrefix(prefix.to_owned())],
            ..When::default()
        },
        action,
        counters: RouteCounters::default(),
    }
}

/// A service with a route to each address.
fn routed(pairs: &[(&str, SocketAddr)]) -> Service {
    let routes = pairs.iter().map(|&(prefix, address)| {
        let mut one = service(&[address]);
        let action = one.routes.remove(0).action;
        route(prefix, prefix, action)
    });
    let routes = routes.collect();
    Service {
        routes,
        ..service(&[])
    }
}

/// A server that says its name.
async fn named(name: &'static str) -> SocketAddr {
    origin(move |mut wire, _| async move {
        while wire.message().await.is_some() {
            let length = name.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
            wire.send(answer).await?;
        }
        Some(())
    })
    .await
}

const T1: &str = "Authorization: NTLM T1-alice\r\n";
const T3: &str = "Authorization: NTLM T3-alice\r\n";

async fn log_in(client: &mut Wire, path: &str) {
    assert_eq!(client.get(path, T1).await.unwrap().status(), 401);
    assert_eq!(client.get(path, T3).await.unwrap().text(), "alice");
}

#[test]
fn a_path_chooses_the_servers() {
    run(async {
        let (a, b) = (named("a").await, named("b").await);
        let edge = Edge::start(routed(&[("/a", a), ("/b", b)])).await;
        let mut client = edge.client().await;
        for (path, name) in [("/a/x", "a"), ("/b", "b"), ("/A", "a"), ("/b?q=/a", "b")] {
            assert_eq!(client.get(path, "").await.unwrap().text(), name, "{path}");
        }
        assert_eq!(client.get("/c", "").await.unwrap().status(), 404);
        assert_eq!(edge.counters().errors(Kind::NoRoute), 1);
        assert_eq!(client.get("/a/..%2fb", "").await.unwrap().status(), 400);
        assert!(client.at_end().await, "a doubtful request is the last");
        let mut client = edge.client().await;
        assert_eq!(client.get("/a", "").await.unwrap().text(), "a");
        assert_eq!(edge.proxy.service().routes[0].counters.requests.get(), 3);
    });
}

#[test]
fn redirects_and_own_answers_need_no_server() {
    run(async {
        let to_tls = Action::Redirect(Redirect {
            to: "https://{host}{path}".to_owned(),
            status: StatusCode::MOVED_PERMANENTLY,
        });
        let forbidden = Action::Respond(Respond {
            status: StatusCode::FORBIDDEN,
            body: "no\n".to_owned(),
        });
        let mut settings = service(&[]);
        settings.routes = vec![route("no", "/ecp", forbidden), route("tls", "/", to_tls)];
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        let moved = client.get("/owa?x=1", "").await.unwrap();
        assert_eq!(
            (moved.status(), moved.get("location")),
            (301, Some("https://h/owa?x=1"))
        );
        let refused = client.get("/ecp/", "").await.unwrap();
        assert_eq!((refused.status(), refused.text()), (403, "no\n"));
    });
}

/// A5: the client's connection to a server serves all its requests, whichever route they match.
#[test]
fn a_login_holds_for_every_route_to_the_same_server() {
    run(async {
        let (server, iis) = Iis::start().await;
        let edge = Edge::start(routed(&[("/owa", server), ("/ews", server)])).await;
        let mut alice = edge.client().await;
        log_in(&mut alice, "/owa").await;
        assert_eq!(alice.get("/ews", "").await.unwrap().text(), "alice");
        assert_eq!(iis.opened.get(), 1);
    });
}

/// A5: a server that is down for one virtual directory ends the connection there, and only there.
#[test]
fn a_server_down_for_a_route_ends_the_connection_there() {
    run(async {
        let (address, _) = Iis::start().await;
        let edge = Edge::start(routed(&[("/owa", address), ("/ews", address)])).await;
        let mut alice = edge.client().await;
        log_in(&mut alice, "/ews").await;
        server(edge.proxy.service(), 0).set_up(false);
        assert_eq!(alice.get("/ews", "").await.unwrap().text(), "alice");
        assert_eq!(alice.get("/owa", "").await, None);
        assert_eq!(edge.counters().errors(Kind::IdentityLost), 1);
    });
}

/// What is on another server has nothing to do with the login here.
#[test]
fn a_login_is_not_shown_to_other_servers() {
    run(async {
        let ((one, first), (two, second)) = (Iis::start().await, Iis::start().await);
        let edge = Edge::start(routed(&[("/owa", one), ("/app", two)])).await;
        let mut alice = edge.client().await;
        log_in(&mut alice, "/owa").await;
        assert_eq!(alice.get("/app", "").await.unwrap().status(), 401);
        log_in(&mut alice, "/app").await;
        assert_eq!(alice.get("/owa", "").await.unwrap().text(), "alice");
        assert_eq!((first.opened.get(), second.opened.get()), (1, 1));
    });
}
