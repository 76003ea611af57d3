//! What an operator sees: one event per request with every decision in it and no secret, and one warning that names
//! the cause when logins don't last.
//!
//! One test, since a subscriber of one thread is not sure to get the events of a process in which others have none. Those who watch
//! live are in `feed`.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use lb_proxy::{BulkThresholds, HeaderMode, HeaderPolicy, Inbound};
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
