//! Clients that are quiet between two requests, for whom the proxy keeps nothing but the stream: that they can't tell.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::time::Duration;

use lb_proxy::Kind;
use support::{Edge, echo, run, service, until};

#[test]
fn a_head_that_came_in_part_with_the_last_request_is_not_lost() {
    run(async {
        let edge = Edge::start(service(&[echo().await])).await;
        let mut client = edge.client().await;
        for round in 0..3 {
            let first = format!("GET /{round} HTTP/1.1\r\nHost: h\r\n\r\nGET /half");
            client.send(first).await.unwrap();
            let answer = client.message().await.unwrap();
            assert_eq!(answer.text(), format!("/{round}"));
            client.send(" HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            assert_eq!(client.message().await.unwrap().text(), "/half");
        }
    });
}

#[test]
fn such_a_head_has_no_more_time_than_others() {
    run(async {
        let mut settings = service(&[echo().await]);
        settings.timeouts.request_head = Duration::from_millis(200);
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        let first = "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /half";
        client.send(first).await.unwrap();
        assert_eq!(client.message().await.unwrap().text(), "/");
        assert!(client.at_end().await);
        assert_eq!(edge.counters().errors(Kind::RequestHead), 1);
    });
}

#[test]
fn a_head_larger_than_what_a_rest_takes_in_is_whole() {
    run(async {
        let edge = Edge::start(service(&[echo().await])).await;
        let mut client = edge.client().await;
        for size in [1, 3 << 10, 5 << 10, 60 << 10] {
            let path = format!("/{}", "x".repeat(size));
            assert_eq!(client.get(&path, "").await.unwrap().text(), path);
        }
    });
}

#[test]
fn an_end_at_rest_is_in_order_whoever_ends() {
    run(async {
        let edge = Edge::start(service(&[echo().await])).await;
        let (mut one, mut other) = (edge.client().await, edge.client().await);
        for client in [&mut one, &mut other] {
            assert_eq!(client.get("/", "").await.unwrap().text(), "/");
        }
        drop(one);
        until(|| edge.ended.borrow().len() == 1).await;
        edge.proxy.drain();
        assert!(other.at_end().await);
        until(|| edge.ended.borrow().len() == 2).await;
        assert!(edge.ended.borrow().iter().all(Result::is_ok));
    });
}

#[test]
fn a_client_that_wants_no_more_is_not_kept() {
    run(async {
        let edge = Edge::start(service(&[echo().await])).await;
        let mut client = edge.client().await;
        assert_eq!(client.get("/1", "").await.unwrap().text(), "/1");
        let last = client.get("/2", "Connection: close\r\n").await;
        assert_eq!(last.unwrap().text(), "/2");
        assert!(client.at_end().await);
    });
}
