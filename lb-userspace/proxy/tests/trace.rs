//! What an operator sees: one event per request with every decision in it and no secret, live or in the log, and one warning
//! that names the cause when logins don't last.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use lb_proxy::{BulkThresholds, Feed, HeaderMode, HeaderPolicy, Inbound, Seen, Traced, Watcher};
use support::{Edge, forwarding, origin, run, service, until};
use tracing_subscriber::fmt::MakeWriter;

/// Where events go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn lines(&self, containing: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(containing));
        lines.map(str::to_owned).collect()
    }
}

const T1: &str = "TlRMTVNTUAABAAAAB4IIog==";
const T2: &str = "TlRMTVNTUAACAAAAHgAeADg=";
const T3: &str = "TlRMTVNTUAADAAAAGAAYAHo=";

#[test]
fn each_request_is_explained_without_its_secrets() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    run(async {
        let server = origin(|mut wire, _| async move {
            wire.message().await?;
            let challenge = format!("WWW-Authenticate: NTLM {T2}\r\nContent-Length: 0\r\n\r\n");
            wire.send(format!("HTTP/1.1 401 X\r\n{challenge}")).await?;
            for _ in 0..2 {
                wire.message().await?;
                let welcome = "Persistent-Auth: false\r\nContent-Length: 5\r\n\r\nhello";
                wire.send(format!("HTTP/1.1 200 OK\r\n{welcome}")).await?;
            }
            Some(())
        })
        .await;
        let mut settings = service(&[server]);
        forwarding(&mut settings).headers = HeaderPolicy {
            mode: HeaderMode::Via,
            inbound: Inbound::Strip,
            ..HeaderPolicy::exchange()
        };
        settings.bulk = Some(BulkThresholds {
            response: 5,
            upload: 5,
            streamed: 5,
            repeated: 5,
        });
        let edge = Edge::start(settings).await;
        let mut client = edge.client().await;
        for token in [T1, T3, T3] {
            let lines = format!("Authorization: NTLM {token}\r\nCookie: secret\r\n");
            client.get("/ews?secret=1", &lines).await.unwrap();
        }
        until(|| log.lines("lb::request").len() == 3).await;
    });

    let events = log.lines("lb::request");
    let common = "service=\"test\" route=\"all\" client=127.0.0.1:";
    let decisions =
        "method=GET path=\"/ews\" server=\"server-0\" connection=1 pinned=request-credential";
    let expected = [
        "request_leg=ntlm-1 response_leg=ntlm-2 via_in=false via_out=true status=401 body_bytes=0 complete=true",
        "request_leg=ntlm-3 persistent_auth=false via_in=false via_out=true status=200 body_bytes=5 complete=true bulk=\"response\"",
    ];
    for (event, expected) in events.iter().zip(expected) {
        for part in [common, decisions, expected] {
            assert!(event.contains(part), "{event}\nlacks {part}");
        }
    }
    assert!(!events[0].contains("bulk"), "{}", events[0]);
    for secret in ["secret", "TlRM"] {
        assert_eq!(log.lines(secret), Vec::<String>::new());
    }
    let warnings = log.lines("WARN");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("because the header mode adds Via"));
}

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
