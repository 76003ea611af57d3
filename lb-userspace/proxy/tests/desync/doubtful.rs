//! Servers that do read a request differently: what they make of it stays between them and the client that sent it.

use std::cell::Cell;
use std::rc::Rc;

use crate::support::{Edge, Wire, origin, run, service, until};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// A server that overlooks bodies (CL.0), and so takes them for requests. The second request of a connection is answered
/// when a third one comes: as late as it takes to be taken for the answer to that.
async fn overlooks_bodies(mut wire: Wire) -> Option<()> {
    let first = wire.head().await?;
    answer(&mut wire, first.path()).await?;
    let second = wire.head().await?;
    wire.head().await?;
    answer(&mut wire, second.path()).await
}

async fn answer(wire: &mut Wire, path: &str) -> Option<()> {
    let length = path.len();
    wire.send(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}"
    ))
    .await
}

#[test]
fn a_server_that_overlooks_a_body_poisons_nobody() {
    for method in ["GET", "OPTIONS", "DELETE"] {
        run(async move {
            let edge =
                Edge::start(service(&[origin(|wire, _| overlooks_bodies(wire)).await])).await;
            let length = SMUGGLED.len();
            let request = format!(
                "{method} /a HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}"
            );
            let mut attacker = edge.client().await;
            attacker.send(request).await.unwrap();
            assert_eq!(attacker.message().await.unwrap().text(), "/a");
            let innocent = edge.client().await.get("/innocent", "").await;
            assert_eq!(innocent.unwrap().text(), "/innocent", "{method}");
            assert_eq!(edge.counters().upstream_opened.get(), 2);
        });
    }
}

/// The same with a method that has bodies, by a server that answers before it has the body.
#[test]
fn a_server_that_answers_early_poisons_nobody() {
    run(async {
        let is_through = Rc::new(Cell::new(false));
        let through = Rc::clone(&is_through);
        let server = origin(move |mut wire, number| {
            let through = Rc::clone(&through);
            async move {
                let first = wire.head().await?;
                answer(&mut wire, first.path()).await?;
                let second = wire.head().await;
                through.set(true);
                wire.head().await?;
                assert_eq!(number, 0);
                answer(&mut wire, second?.path()).await
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let length = SMUGGLED.len();
        let mut attacker = edge.client().await;
        let head = format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        attacker.send(head).await.unwrap();
        assert_eq!(attacker.message().await.unwrap().text(), "/a");
        attacker.send(SMUGGLED).await.unwrap();
        until(|| is_through.get()).await;
        // Time for the connection to become free, if it does.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let innocent = edge.client().await.get("/innocent", "").await;
        assert_eq!(innocent.unwrap().text(), "/innocent");
        assert_eq!(edge.counters().upstream_opened.get(), 2);
    });
}

/// A 204 that announces a body, which comes when the connection has long been free.
#[test]
fn a_late_body_of_a_204_reaches_nobody() {
    run(async {
        let asked = Rc::new(Cell::new(0));
        let asking = Rc::clone(&asked);
        let server = origin(move |mut wire, number| {
            let asking = Rc::clone(&asking);
            async move {
                wire.message().await?;
                asking.set(asking.get() + 1);
                if number == 0 {
                    wire.send("HTTP/1.1 204 No Content\r\nContent-Length: 40\r\n\r\n")
                        .await?;
                    wire.message().await?;
                    return answer(&mut wire, "/late").await;
                }
                answer(&mut wire, "/innocent").await
            }
        })
        .await;
        let edge = Edge::start(service(&[server])).await;
        let mut client = edge.client().await;
        client
            .send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(client.head().await.unwrap().status(), 204);
        until(|| asked.get() == 1).await;
        let innocent = edge.client().await.get("/innocent", "").await;
        assert_eq!(innocent.unwrap().text(), "/innocent");
    });
}
