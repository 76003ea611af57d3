//! TLS on both sides with certificates made on the spot, and what is said of files that can't be used.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use lb_proxy::tls::{self, Reload, ServerOptions, ServerTls, UpstreamTls, Verify};
use lb_proxy::{ClientAddr, Kind, Proxy, Service};
use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use support::{Edge, forwarding, run, service, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const NAME: &str = "mail.example";

/// Files with a self-signed certificate for [`NAME`] and its key.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn make(dir: &Path, prefix: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let (certificate, key) = (
            dir.join(format!("{prefix}-cert.pem")),
            dir.join(format!("{prefix}-key.pem")),
        );
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        Self { certificate, key }
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from(NAME).unwrap()
}

/// TLS towards clients with one certificate.
fn server(files: &Files) -> Arc<ServerTls> {
    ServerTls::load(ServerOptions::new(&files.certificate, &files.key)).unwrap()
}

/// A server that answers one request per connection with the ALPN protocol of that connection.
async fn tls_origin(files: &Files) -> std::net::SocketAddr {
    let config = server(files).config();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            spawn_local(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                while stream.read_u8().await.ok()? != b'\n' {}
                let alpn = String::from_utf8(stream.get_ref().1.alpn_protocol()?.to_vec()).ok()?;
                let length = alpn.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{alpn}");
                stream.write_all(answer.as_bytes()).await.ok()
            });
        }
    });
    address
}

/// The body that a TLS client gets who offers `alpn`, or why the handshake fails.
async fn fetch(service: Service, trusted: &Files, alpn: &[&[u8]]) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    let proxy = Proxy::new(Arc::new(service));
    spawn_local(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        proxy.serve(stream, ClientAddr { peer, local }).await
    });
    let settings = tls::upstream(&Verify::Roots(trusted.certificate.clone()), name()).unwrap();
    let mut config = rustls::ClientConfig::clone(&settings.config());
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let tcp = TcpStream::connect(local).await.unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name(), tcp);
    let mut stream = connecting.await.map_err(|error| error.to_string())?;
    let request = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Ok(answer.rsplit("\r\n").next().unwrap().to_owned())
}

#[test]
fn both_sides_speak_tls_and_http_1_1_only() {
    let dir = TempDir::new().unwrap();
    let (front, back) = (
        Files::make(dir.path(), "front"),
        Files::make(dir.path(), "back"),
    );
    for (alpn, expected) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], Ok("http/1.1")),
        (&[], Ok("http/1.1")),
        (&[b"h2"], Err("no_application_protocol")),
    ] {
        run(async {
            let mut settings = service(&[tls_origin(&back).await]);
            settings.tls = Some(server(&front));
            let verify = Verify::Roots(back.certificate.clone());
            forwarding(&mut settings).upstream_tls = Some(tls::upstream(&verify, name()).unwrap());
            let got = fetch(settings, &front, alpn).await;
            match expected {
                Ok(body) => assert_eq!(got.as_deref(), Ok(body)),
                Err(_) => assert!(got.unwrap_err().contains("NoApplicationProtocol")),
            }
        });
    }
}

#[test]
fn a_server_must_prove_itself_unless_nobody_asks() {
    let dir = TempDir::new().unwrap();
    let (back, other) = (
        Files::make(dir.path(), "back"),
        Files::make(dir.path(), "other"),
    );
    let trusts = |files: &Files| Verify::Roots(files.certificate.clone());
    let stranger = || ServerName::try_from("other.example").unwrap();
    for (verify, name, expected) in [
        (trusts(&back), name(), 200),
        (trusts(&other), name(), 502),
        (trusts(&back), stranger(), 502),
        (Verify::Nobody, stranger(), 200),
    ] {
        run(async {
            let mut settings = service(&[tls_origin(&back).await]);
            forwarding(&mut settings).upstream_tls = Some(tls::upstream(&verify, name).unwrap());
            let edge = Edge::start(settings).await;
            let answer = edge.client().await.get("/", "").await.unwrap();
            assert_eq!(answer.status(), expected, "{verify:?}");
        });
    }
}

/// A server that greets, so that a client gets its session tickets.
async fn greeter(files: &Files) -> std::net::SocketAddr {
    let tls = server(files);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = tls.acceptor().accept(stream).await.unwrap();
            stream.write_all(b"!").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

/// The kind of handshake of a connection to `address`.
async fn handshake(tls: &UpstreamTls, address: std::net::SocketAddr) -> HandshakeKind {
    let tcp = TcpStream::connect(address).await.unwrap();
    let connecting = tls.connector(address).connect(name(), tcp);
    let mut stream = connecting.await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    stream.get_ref().1.handshake_kind().unwrap()
}

#[test]
fn each_server_has_its_sessions_until_others_are_trusted() {
    let dir = TempDir::new().unwrap();
    let back = Files::make(dir.path(), "back");
    let roots = dir.path().join("roots.pem");
    std::fs::copy(&back.certificate, &roots).unwrap();
    let upstream = tls::upstream(&Verify::Roots(roots.clone()), name()).unwrap();
    run(async move {
        // Of one name, and with ticket keys of their own, as servers of a pool have them.
        let servers = [greeter(&back).await, greeter(&back).await];
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            for server in servers {
                assert_eq!(handshake(&upstream, server).await, expected);
            }
        }
        let more = std::fs::read_to_string(&back.certificate).unwrap();
        std::fs::write(&roots, more.repeat(2)).unwrap();
        assert!(upstream.reload().unwrap().is_some());
        assert_eq!(handshake(&upstream, servers[0]).await, HandshakeKind::Full);
    });
}

#[test]
fn a_client_that_speaks_no_tls_is_counted() {
    let dir = TempDir::new().unwrap();
    let front = Files::make(dir.path(), "front");
    run(async {
        let mut settings = service(&[]);
        settings.tls = Some(server(&front));
        let edge = Edge::start(settings).await;
        edge.client().await.get("/", "").await;
        until(|| edge.counters().errors(Kind::ClientTls) == 1).await;
    });
}

#[test]
fn unusable_files_are_named_with_what_is_wrong() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (Files::make(dir.path(), "a"), Files::make(dir.path(), "b"));
    let (empty, missing) = (dir.path().join("empty.pem"), dir.path().join("missing.pem"));
    std::fs::write(&empty, "").unwrap();
    let table: [(&Path, &Path, &[&str]); 6] = [
        (&missing, &a.key, &["can't read", "missing.pem"]),
        (&a.certificate, &missing, &["can't read", "missing.pem"]),
        (&empty, &a.key, &["empty.pem", "no usable certificate"]),
        (
            &a.certificate,
            &empty,
            &["empty.pem", "no usable private key"],
        ),
        (&a.key, &a.key, &["a-key.pem", "no usable certificate"]),
        (
            &a.certificate,
            &b.key,
            &["b-key.pem", "not the key", "a-cert.pem"],
        ),
    ];
    for (certificate, key, expected) in table {
        let options = ServerOptions::new(certificate, key);
        let error = ServerTls::load(options).unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
    let error = tls::upstream(&Verify::Roots(missing), name()).unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
}
