//! What goes wrong: servers that are down, dead, slow or rude; clients that are slow or gone; shutting down.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::time::Duration;

use lb_proxy::Kind;
use support::iis::Iis;
use support::{Edge, forwarding, nobody, origin, run, service, until};

#[test]
fn without_a_server_up_the_answer_is_503() {
    run(async {
        let (server, _) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        support::server(edge.proxy.service(), 0).set_up(false);
        let mut client = edge.client().await;
        let answer = client.get("/", "").await.unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.text(), "No server of this service is up.\n");
        assert_eq!(edge.counters().errors(Kind::NoServer), 1);
        assert_eq!(edge.counters().responses(5), Some(1));
        // The connection is as good as before.
        support::server(edge.proxy.service(), 0).set_up(true);
        assert_eq!(client.get("/", "").await.unwrap().status(), 401);
    });
}

/// An answer of ours reaches a client that is still sending, and the body is not taken for a request.
#[test]
fn a_refused_body_is_discarded_within_bounds() {
    run(async {
        let edge = Edge::start(service(&[])).await;
        let mut client = edge.client().await;
        for expect in ["", "Expect: 100-continue\r\n"] {
            let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n";
            client.send(format!("{head}{expect}\r\n")).await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 503);
            client.send(vec![b'x'; 500_000]).await.unwrap();
        }
        assert_eq!(client.get("/", "").await.unwrap().status(), 503);
        assert_eq!(edge.counters().requests.get(), 3);

        // As large as EWS takes, and larger.
        for (size, is_kept) in [(64 << 20, true), (65 << 20, false)] {
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n");
            client.send(head).await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 503);
            client.send(vec![b'x'; size]).await;
            let next = client.get("/", "").await.map(|answer| answer.status());
            assert_eq!(next, is_kept.then_some(503), "{size}");
        }
    });
}

/// The same with a server that answers, closes and leaves the body unread.
#[test]
fn a_body_that_the_server_leaves_unread_is_discarded() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.head().await?;
            let lines = "Connection: close\r\nContent-Length: 0\r\n\r\n";
            wire.send(format!("HTTP/1.1 413 Too Large\r\n{lines}"))
                .await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        for _ in 0..2 {
            let head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n";
            client.send(head).await.unwrap();
            assert_eq!(client.message().await.unwrap().status(), 413);
            client.send(vec![b'x'; 500_000]).await.unwrap();
        }
        assert_eq!(edge.counters().requests.get(), 2);
    });
}

#[test]
fn a_dead_server_is_passed_over_and_only_dead_ones_are_502() {
    run(async {
        let (alive, iis) = Iis::start().await;
        let edge = Edge::start(service(&[nobody().await, alive])).await;
        for credential in [
            "Authorization: Basic bob\r\n",
            "Authorization: Negotiate ONE-bob\r\n",
        ] {
            for _ in 0..2 {
                let answer = edge.client().await.get("/", credential).await.unwrap();
                assert_eq!((answer.status(), answer.text()), (200, "bob"));
            }
        }
        assert_eq!(iis.seen.borrow().len(), 4);

        let edge = Edge::start(service(&[nobody().await, nobody().await])).await;
        let answer = edge.client().await.get("/", "").await.unwrap();
        assert_eq!(answer.status(), 502);
        assert_eq!(edge.counters().errors(Kind::Connect), 1);
    });
}

#[test]
fn a_request_that_was_sent_is_not_sent_again() {
    run(async {
        let rude = origin(|mut wire, _| async move { wire.message().await.map(drop) }).await;
        let (polite, iis) = Iis::start().await;
        let edge = Edge::start(service(&[rude, polite])).await;
        let answer = edge.client().await.get("/", "").await.unwrap();
        assert_eq!(answer.status(), 502);
        assert_eq!(edge.counters().errors(Kind::UpstreamBroken), 1);
        assert_eq!(iis.opened.get(), 0);
    });
}

/// A kept connection that the server has closed meanwhile costs the client nothing.
#[test]
fn a_stale_kept_connection_is_replaced() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        for opened in 1..=20 {
            let answer = edge.client().await.get("/", "").await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(edge.counters().upstream_opened.get(), opened);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_server_that_never_answers_is_504() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            // The proxy lets go of the connection: nobody else may get the answer.
            assert!(wire.at_end().await);
            Some(())
        })
        .await;
        let mut settings = service(&[server]);
        forwarding(&mut settings).timeouts.response_head = Duration::from_millis(50);
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().status(), 504);
        assert_eq!(
            client
                .get("/", "Authorization: NTLM x\r\n")
                .await
                .unwrap()
                .status(),
            504
        );
        assert!(client.at_end().await, "the identity is unknown now");
        assert_eq!(edge.counters().errors(Kind::ResponseTimeout), 2);
    });
}

/// The response's clock starts when the request is complete, and while it runs silence is no offence.
#[test]
fn only_a_complete_request_waits_for_its_response() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
        })
        .await;
        let mut settings = service(&[server]);
        forwarding(&mut settings).timeouts.idle = Duration::from_millis(150);
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await.unwrap().status(), 200);
        assert!(client.at_end().await);
        assert_eq!(edge.counters().errors(Kind::Idle), 1);
    });
}

#[test]
fn a_response_that_breaks_off_breaks_off() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                .await
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/", "").await, None);
        assert_eq!(edge.counters().errors(Kind::UpstreamBroken), 1);
    });
}

#[test]
fn a_response_that_stalls_is_cut_off() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                .await?;
            assert!(wire.at_end().await);
            Some(())
        })
        .await;
        let mut settings = service(&[server]);
        forwarding(&mut settings).timeouts.idle = Duration::from_millis(200);
        let edge = Edge::start(settings).await;
        assert_eq!(edge.client().await.get("/", "").await, None);
        until(|| edge.counters().errors(Kind::Idle) == 1).await;
    });
}

#[test]
fn a_slow_head_is_cut_off_and_an_idle_login_is_not() {
    run(async {
        let (server, _) = Iis::start().await;
        let mut settings = service(&[server]);
        settings.timeouts.request_head = Duration::from_millis(700);
        let edge = Edge::start(settings).await;
        let mut login = edge.client().await;
        login
            .get("/", "Authorization: Negotiate ONE-eve\r\n")
            .await
            .unwrap();

        let mut silent = edge.client().await;
        let mut slow = edge.client().await;
        slow.send("GET / HTT").await.unwrap();
        assert!(silent.at_end().await && slow.at_end().await);
        assert_eq!(edge.counters().errors(Kind::RequestHead), 2);

        assert_eq!(login.get("/", "").await.unwrap().text(), "eve");
        login.send("GET / HTT").await.unwrap();
        assert!(login.at_end().await);
        assert_eq!(edge.counters().errors(Kind::RequestHead), 3);
    });
}

#[test]
fn draining_finishes_what_is_under_way() {
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
                .await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            wire.send("lf").await?;
            wire.message().await.map(drop)
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let (mut idle, mut busy) = (edge.client().await, edge.client().await);
        busy.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        let mut answer = busy.head().await.unwrap();
        edge.proxy.drain();
        assert!(idle.at_end().await);
        busy.body(&mut answer).await.unwrap();
        assert_eq!(answer.text(), "half");
        assert!(busy.at_end().await);
        assert!(edge.client().await.at_end().await);
        until(|| edge.ended.borrow().len() == 3).await;
        assert!(edge.ended.borrow().iter().all(Result::is_ok));
    });
}

#[test]
fn what_is_not_http_is_the_clients_fault() {
    run(async {
        let (server, iis) = Iis::start().await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        client
            .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        client.message().await;
        until(|| edge.counters().errors(Kind::ClientBroken) == 1).await;
        assert_eq!(iis.opened.get(), 0);
    });
}
