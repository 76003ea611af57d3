//! What whoever watches live sees of requests: each as it ends, where its connection lives, and how many were missed.
//!
//! What is known of a request, and what is never told, is in `trace`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::net::SocketAddr;

use lb_proxy::{BulkThresholds, Feed, Seen, Traced, Watcher};
use support::{Edge, origin, run, service};

/// A server that says what the path says: `/N` is N bytes.
async fn bytes() -> SocketAddr {
    origin(|mut wire, _| async move {
        loop {
            let request = wire.message().await?;
            let path = request.path().split('?').next()?;
            let length = path[1..].parse().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            wire.send(head).await?;
            wire.send(vec![b'x'; length]).await?;
        }
    })
    .await
}

async fn request(watcher: &mut Watcher) -> Traced {
    match watcher.next().await {
        Seen::Request(traced) => Traced::clone(&traced),
        missed @ Seen::Missed(_) => panic!("{missed:?}"),
    }
}

#[test]
fn who_watches_sees_each_request_and_where_its_connection_lives() {
    run(async {
        let mut settings = service(&[bytes().await]);
        settings.bulk = Some(BulkThresholds {
            response: 1000,
            upload: 1000,
            streamed: 1000,
            repeated: 1000,
        });
        let feed = Feed::clone(&settings.feed);
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        client.get("/7", "").await.unwrap();
        let mut watcher = feed.watch();
        let paths = ["/10?secret=1", "/1000", "/20"];
        for path in paths {
            client.get(path, "").await.unwrap();
        }
        let mut seen = Vec::new();
        for _ in paths {
            let traced = request(&mut watcher).await;
            assert!(traced.took_us.is_some() && traced.complete, "{traced:?}");
            let places = (traced.began_on.unwrap(), traced.ended_on.unwrap());
            seen.push((traced.path, traced.body_bytes, traced.bulk, places));
        }
        let line = |path: &str, bytes, bulk: Option<&str>, began: &str, ended: &str| {
            let places = (began.to_owned(), ended.to_owned());
            (path.to_owned(), bytes, bulk.map(str::to_owned), places)
        };
        let expected = [
            line("/10", 10, None, "here", "here"),
            line("/1000", 1000, Some("response"), "here", "away"),
            line("/20", 20, Some("response"), "away", "away"),
        ];
        assert_eq!(seen, expected);
    });
}

#[test]
fn who_watches_too_slowly_is_told_how_many_were_missed() {
    const REQUESTS: u64 = 5000;
    run(async {
        let settings = service(&[bytes().await]);
        let feed = Feed::clone(&settings.feed);
        let edge = Edge::start(settings).await;
        let mut watcher = feed.watch();
        let mut client = edge.client().await;
        for _ in 0..REQUESTS {
            client.get("/1", "").await.unwrap();
        }
        let Seen::Missed(missed) = watcher.next().await else {
            panic!("nothing was missed");
        };
        let mut seen = 0;
        while missed + seen < REQUESTS {
            request(&mut watcher).await;
            seen += 1;
        }
        assert!(missed > 0 && seen > 0, "{missed} missed, {seen} seen");
    });
}
