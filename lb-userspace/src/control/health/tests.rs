//! Probes against real sockets on the loopback, and the monitor against a server that plays a
//! script.
//!
//! Deadlines are far longer than what they wait for, except where running into one is the point.

mod greeting;
mod passive;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lb_config::Get;
use lb_proxy::tls::{UpstreamTls, Verify, upstream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, crypto};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A healthy Exchange server's answer.
const HEALTHY: &str =
    "HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n200 OK<br/>EX1.LAB.TEST\r\n\r\n";

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("bind");
    match listener.local_addr().expect("bound") {
        address @ SocketAddr::V4(_) => (listener, address),
        SocketAddr::V6(_) => panic!("bound to IPv4"),
    }
}

fn get(expect: &str) -> Get {
    Get {
        path: "/owa/healthcheck.htm".parse().expect("path"),
        host: "mail.lab.test".parse().expect("host"),
        expect: expect.to_owned(),
    }
}

/// Reads the head of a request, answers with `pieces`, and gives the head.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, pieces: &[&str]) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    for piece in pieces {
        // The probe may have heard enough.
        if stream.write_all(piece.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    String::from_utf8(head).expect("ASCII")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// What a probe with `expect` says of a server that answers with `pieces` and closes.
async fn said(expect: &str, pieces: &[&str]) -> String {
    let (listener, address) = listen().await;
    let serve = async {
        let (stream, _) = listener.accept().await.expect("accept");
        answer(stream, pieces).await;
    };
    let get = Probe::Http(get(expect));
    let (result, ()) = tokio::join!(probe::probe(&get, address, soon()), serve);
    match result {
        Ok(said) => format!("up: {said}"),
        Err(failure) => format!("down: {failure}"),
    }
}

#[tokio::test]
async fn pages() {
    let unhealthy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 6\r\n\r\n200 OK";
    let moved = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n";
    let cases: &[(&str, &[&str], &str)] = &[
        ("200 OK", &[HEALTHY], "up: 200 OK<br/>EX1.LAB.TEST"),
        ("", &[HEALTHY], "up: status 200"),
        (
            "200 OK",
            &[unhealthy],
            "down: GET: maintenance or Managed Availability says no: status 503 Service Unavailable",
        ),
        ("", &[moved], "down: GET: status 302 Found, expected 200"),
        (
            "200 OK",
            &["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<p>\n</p>!"],
            r"down: GET: the body begins with `<p>\n</`, expected `200 OK`",
        ),
        (
            "200 OK",
            &["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n200"],
            "down: GET: the body begins with `200`, expected `200 OK`",
        ),
        (
            "200 OK",
            &[
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n200\r\n",
                "3\r\n OK\r\n",
            ],
            "up: 200 OK",
        ),
        (
            "",
            &["220 mail.lab.test ESMTP\r\n"],
            "down: GET: invalid HTTP version parsed",
        ),
        (
            "",
            &[],
            "down: GET: connection closed before message completed",
        ),
    ];
    for (expect, pieces, expected) in cases {
        assert_eq!(said(expect, pieces).await, *expected, "{pieces:?}");
    }
}

#[tokio::test]
async fn the_request_names_the_host() {
    let (listener, address) = listen().await;
    let serve = async {
        let (stream, _) = listener.accept().await.expect("accept");
        answer(stream, &[HEALTHY]).await
    };
    let probe = Probe::Http(get("200 OK"));
    let (result, head) = tokio::join!(probe::probe(&probe, address, soon()), serve);
    result.expect("healthy");
    let mut lines: Vec<_> = head.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.remove(0), "GET /owa/healthcheck.htm HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["connection: close", "host: mail.lab.test", "user-agent: lb"]
    );
}

#[tokio::test]
async fn a_body_without_end_is_not_waited_for() {
    let (listener, address) = listen().await;
    let probe = Probe::Http(get("200 OK"));
    let hold = async {
        let (stream, _) = listener.accept().await.expect("accept");
        let mut stream = tokio::io::BufStream::new(stream);
        let endless = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n200 OK and more";
        answer(&mut stream, &[endless]).await;
        // Until the probe hangs up, which it does because it has heard enough.
        stream.read_to_end(&mut Vec::new()).await.ok();
    };
    let (result, ()) = tokio::join!(probe::probe(&probe, address, soon()), hold);
    assert_eq!(result.expect("healthy"), "200 OK and more");
}

/// A peer that answers as soon as it is written to, and resets the connection right after.
#[derive(Default)]
struct Abrupt {
    answer: Vec<u8>,
    asked: bool,
    reader: Option<Waker>,
}

impl AsyncRead for Abrupt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.answer.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buffer.put_slice(&std::mem::take(&mut self.answer));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Abrupt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_arrived_before_a_reset_decides() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    let cases = [
        (format!("{head}200 OK<br/>EX1"), "200 OK<br/>EX1"),
        (
            format!("{head}200"),
            "GET: error reading a body from connection",
        ),
        (
            "HTTP/1.1 503 Busy\r\n\r\n".to_owned(),
            "GET: maintenance or Managed Availability says no: status 503 Service Unavailable",
        ),
        ("HTTP/1.1 200".to_owned(), "GET: connection error"),
    ];
    for (sent, expected) in cases {
        let stream = Abrupt {
            answer: sent.clone().into_bytes(),
            ..Abrupt::default()
        };
        let result = probe::exchange(&get("200 OK"), stream).await;
        assert_eq!(
            result.unwrap_or_else(|failure| failure.to_string()),
            expected,
            "{sent}"
        );
    }
}

#[tokio::test]
async fn connecting_is_enough_for_tcp() {
    let (listener, address) = listen().await;
    let said = probe::probe(&Probe::Tcp, address, soon())
        .await
        .expect("up");
    assert_eq!(said, "connected");
    drop(listener);
    let failure = probe::probe(&Probe::Tcp, address, soon())
        .await
        .expect_err("nobody listens");
    assert!(failure.to_string().starts_with("connect: "), "{failure}");
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    // The kernel accepts on behalf of a listener that nobody serves.
    let (_listener, address) = listen().await;
    let deadline = Instant::now() + Duration::from_secs(1);
    let failure = probe::probe(&Probe::Http(get("")), address, deadline)
        .await
        .expect_err("silent");
    assert_eq!(failure.to_string(), "no answer in time during GET");
}

/// A server's side of TLS for `mail.lab.test`, and the root that has issued its certificate.
fn certified() -> (Arc<ServerConfig>, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority =
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA");
    let key = KeyPair::generate().expect("key");
    let leaf = CertificateParams::new(vec!["mail.lab.test".to_owned()])
        .expect("name")
        .signed_by(&key, &authority)
        .expect("leaf");
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("certificate");
    (Arc::new(server), authority.pem())
}

fn client(root: &str, server_name: &'static str) -> UpstreamTls {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), root).expect("written");
    let verify = Verify::Roots(file.path().to_owned());
    upstream(&verify, server_name.try_into().expect("name")).expect("a root")
}

#[tokio::test]
async fn the_certificate_must_be_the_right_one() {
    let (server, root) = certified();
    let (_, strangers) = certified();
    let cases = [
        (client(&root, "mail.lab.test"), "200 OK<br/>"),
        (
            client(&root, "other.lab.test"),
            "TLS: invalid peer certificate: certificate not valid for",
        ),
        (
            client(&strangers, "mail.lab.test"),
            "TLS: invalid peer certificate: BadSignature",
        ),
    ];
    for (tls, expected) in cases {
        let (listener, address) = listen().await;
        let serve = async {
            let (stream, _) = listener.accept().await.expect("accept");
            if let Ok(stream) = TlsAcceptor::from(Arc::clone(&server)).accept(stream).await {
                answer(stream, &[HEALTHY]).await;
            }
        };
        let probe = Probe::Https(get("200 OK"), tls);
        let (result, ()) = tokio::join!(probe::probe(&probe, address, soon()), serve);
        let said = result.unwrap_or_else(|failure| failure.to_string());
        assert!(said.starts_with(expected), "{said}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_wants_a_proxy_header_gets_one_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let introduction = lb_proxy::proxy_header(lb_proxy::ProxyProtocol::V1, None);
    let door = probe::Door {
        address,
        introduction: &introduction,
    };
    let get = Probe::Http(get(""));
    let hear = async {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut said = vec![0; introduction.len() + 4];
        stream.read_exact(&mut said).await.expect("read");
        said
    };
    let (_, said) = tokio::join!(probe::probe(&get, door, soon()), hear);
    assert_eq!(said, b"PROXY UNKNOWN\r\nGET ");
}

fn target(server: usize, address: SocketAddr, probe: Probe) -> Target {
    let two = NonZeroU8::new(2).expect("not zero");
    let interval = Duration::from_millis(1);
    let timeout = Duration::from_secs(20);
    let schedule = Schedule {
        interval,
        timeout,
        rise: two,
        fall: two,
    };
    Target {
        service: 7,
        server,
        label: format!("test/{server}"),
        address,
        probe,
        schedule,
        proxied: None,
        introduction: Vec::new(),
    }
}

#[tokio::test]
async fn the_monitor_tells_each_change_once() {
    let (listener, address) = listen().await;
    let serve = async {
        // One letter an answer: the first decides, then two in a row do; the last two decide
        // nothing, because the monitor may not have read them when the script ends.
        for letter in "+-+--+-++-+".chars() {
            let (stream, _) = listener.accept().await.expect("accept");
            let sick = "HTTP/1.1 500 Sick\r\ncontent-length: 0\r\n\r\n";
            answer(stream, &[if letter == '+' { HEALTHY } else { sick }]).await;
        }
    };
    let (sender, mut changes) = mpsc::channel(16);
    let probe = Probe::Http(get("200 OK"));
    tokio::select! {
        () = monitor(vec![target(3, address, probe)], sender) => panic!("it has no reason to end"),
        () = serve => {}
    }
    let mut told = Vec::new();
    while let Ok(Change {
        service,
        server,
        health,
    }) = changes.try_recv()
    {
        assert_eq!((service, server), (7, 3));
        told.push((health.up, health.reason));
    }
    let healthy = "200 OK<br/>EX1.LAB.TEST".to_owned();
    let sick = "GET: status 500 Internal Server Error, expected 200".to_owned();
    assert_eq!(
        told,
        [(true, healthy.clone()), (false, sick), (true, healthy)]
    );
}

#[tokio::test]
async fn servers_are_followed_apart_until_nobody_listens() {
    let (_alive, alive_address) = listen().await;
    let (dead, dead_address) = listen().await;
    drop(dead);
    let targets = vec![
        target(0, alive_address, Probe::Tcp),
        target(1, dead_address, Probe::Tcp),
    ];
    let (sender, mut changes) = mpsc::channel(16);
    let listener = async {
        let mut told = Vec::new();
        while told.len() < 2 {
            let Change { server, health, .. } = changes.recv().await.expect("the monitor runs");
            told.push((server, health.up));
        }
        told.sort_unstable();
        told
    };
    let told = tokio::select! {
        () = monitor(targets, sender) => panic!("it has no reason to end"),
        told = listener => told,
    };
    assert_eq!(told, [(0, true), (1, false)]);
}

#[tokio::test]
async fn the_monitor_ends_when_nobody_is_told_and_not_before() {
    let (sender, changes) = mpsc::channel(1);
    tokio::select! {
        biased;
        () = monitor(Vec::new(), sender) => panic!("nothing to probe is no reason to end"),
        () = tokio::task::yield_now() => drop(changes),
    }
    let (_listener, address) = listen().await;
    let (sender, changes) = mpsc::channel(1);
    drop(changes);
    monitor(vec![target(0, address, Probe::Tcp)], sender).await;
}
