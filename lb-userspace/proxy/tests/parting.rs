//! A proxy that leaves gives its connections to the next one between two requests, and no client notices.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

mod support;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use lb_proxy::{ClientAddr, Parting, Proxy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use support::iis::Iis;
use support::{Message, Wire, echo, origin, run, service, until};

/// Two proxies: the second one serves what the first one gives back.
struct Pair {
    address: SocketAddr,
    first: Rc<Proxy>,
    second: Rc<Proxy>,
    /// Connections that have changed over.
    passed: Rc<Cell<usize>>,
}

impl Pair {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = || Proxy::new(Arc::new(service(&[server])));
        let (first, second, passed) = (proxy(), proxy(), Rc::<Cell<usize>>::default());
        let ends = (Rc::clone(&first), Rc::clone(&second), Rc::clone(&passed));
        spawn_local(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let client = ClientAddr {
                    peer,
                    local: address,
                };
                let (first, second, passed) = ends.clone();
                spawn_local(async move {
                    let until_left =
                        first.serve_until_left(None, stream, client, Parting::BetweenRequests);
                    if let Some(given) = until_left.await.unwrap() {
                        assert_eq!(given.client, client);
                        passed.set(passed.get() + 1);
                        second
                            .resume(given, Parting::BetweenRequests)
                            .await
                            .unwrap();
                    }
                });
            }
        });
        Self {
            address,
            first,
            second,
            passed,
        }
    }

    async fn client(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).await.unwrap())
    }

    async fn until_passed(&self, connections: usize) {
        until(|| self.passed.get() == connections).await;
    }

    /// Requests that each of them has had.
    fn requests(&self) -> [u64; 2] {
        [&self.first, &self.second].map(|proxy| proxy.service().counters.requests.get())
    }
}

fn says_last(message: &Message) -> bool {
    message.get("connection") == Some("close")
}

#[test]
fn an_idle_connection_changes_over_with_what_was_read_of_its_next_request() {
    run(async {
        let pair = Pair::start(echo().await).await;
        let (mut new, mut idle, mut begun) = (
            pair.client().await,
            pair.client().await,
            pair.client().await,
        );
        for wire in [&mut idle, &mut begun] {
            assert_eq!(wire.get("/one", "").await.unwrap().text(), "/one");
        }
        begun.send("GET /two HTTP/1.1\r\nHo").await.unwrap();
        until(|| pair.first.service().counters.client_connections.get() == 3).await;
        // Has it read the half head? Whether or not, nothing may be lost.
        tokio::task::yield_now().await;
        pair.first.leave();
        pair.until_passed(3).await;
        begun.send("st: h\r\n\r\n").await.unwrap();
        let answer = begun.message().await.unwrap();
        assert_eq!((answer.text(), says_last(&answer)), ("/two", false));
        for wire in [&mut new, &mut idle, &mut begun] {
            assert_eq!(wire.get("/three", "").await.unwrap().text(), "/three");
        }
        assert_eq!(pair.requests(), [2, 4]);
    });
}

#[test]
fn a_response_under_way_is_finished_first() {
    run(async {
        let go_on = Rc::new(Notify::new());
        let told = Rc::clone(&go_on);
        let server = origin(move |mut wire, _| {
            let told = Rc::clone(&told);
            async move {
                loop {
                    wire.message().await?;
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
                        .await?;
                    told.notified().await;
                    wire.send("rest").await?;
                }
            }
        })
        .await;
        let pair = Pair::start(server).await;
        let mut wire = pair.client().await;
        wire.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        let head = wire.head().await.unwrap();
        assert!(!says_last(&head));
        assert_eq!(wire.exactly(4).await.unwrap(), b"half");
        pair.first.leave();
        assert!(wire.silent().await);
        assert_eq!(pair.passed.get(), 0);
        go_on.notify_one();
        assert_eq!(wire.exactly(4).await.unwrap(), b"rest");
        pair.until_passed(1).await;
        go_on.notify_one();
        assert_eq!(wire.get("/", "").await.unwrap().text(), "halfrest");
        assert_eq!(pair.requests(), [1, 1]);
    });
}

/// A login is the state of two connections: it is nobody else's, and ends where its client expects an end.
#[test]
fn a_login_stays_and_is_told_that_its_next_response_is_the_last() {
    run(async {
        let (server, _iis) = Iis::start().await;
        let pair = Pair::start(server).await;
        let (mut known, mut half) = (pair.client().await, pair.client().await);
        for (wire, legs) in [(&mut known, 2), (&mut half, 1)] {
            for (leg, status) in [("T1", 401), ("T3", 200)].into_iter().take(legs) {
                let credential = format!("Authorization: NTLM {leg}-alice\r\n");
                assert_eq!(wire.get("/", &credential).await.unwrap().status(), status);
            }
        }
        pair.first.leave();
        // The login under way goes on as if nothing were, from its beginning if its client likes.
        for (leg, expected) in [("T1", (401, false)), ("T3", (200, true))] {
            let credential = format!("Authorization: NTLM {leg}-alice\r\n");
            let answer = half.get("/", &credential).await.unwrap();
            assert_eq!((answer.status(), says_last(&answer)), expected);
        }
        assert!(half.at_end().await);
        // Nobody closes while the client may be sending.
        assert!(known.silent().await);
        let answer = known.get("/", "").await.unwrap();
        assert_eq!((answer.text(), says_last(&answer)), ("alice", true));
        assert!(known.at_end().await);
        assert_eq!(pair.passed.get(), 0);
    });
}
