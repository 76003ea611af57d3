//! What a client is shown and may speak: certificates by name, their change, versions, ciphers, staples, and what
//! clients must prove. Handshakes are real; the client is rustls with a verifier that notes what it sees.

#![allow(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use lb_proxy::tls::{
    Alpn, CertificateFiles, Clients, Error, Fingerprint, Reload, ServerOptions, ServerTls,
};
use lb_proxy::{ClientAddr, Proxy, Service};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use support::{Message, origin, run, service};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsConnector;

/// A directory of certificates.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a self-signed certificate `title` for `names`, and its key.
    fn make(&self, title: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, title);
        let key = KeyPair::generate().unwrap();
        let files = CertificateFiles {
            certificate: self.path(&format!("{title}.pem")),
            key: self.path(&format!("{title}.key")),
            ocsp: None,
        };
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

fn options(certificates: &[&CertificateFiles]) -> ServerOptions {
    let mut options = ServerOptions::new("", "");
    options.certificates = certificates.iter().map(|&files| files.clone()).collect();
    options
}

fn fingerprint(path: &Path) -> Fingerprint {
    Fingerprint::of(&certificate(path))
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    rustls_pki_types::pem::PemObject::from_pem_file(path).unwrap()
}

/// A client's way of looking.
#[derive(Debug, Default)]
struct Eyes {
    shown: Mutex<Option<Fingerprint>>,
    staple: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Eyes {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        staple: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap() = Some(Fingerprint::of(leaf));
        *self.staple.lock().unwrap() = staple.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A client's settings.
fn client(versions: &[&'static rustls::SupportedProtocolVersion]) -> (ClientConfig, Arc<Eyes>) {
    let eyes = Arc::new(Eyes::default());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&eyes) as _)
        .with_no_client_auth();
    (config, eyes)
}

/// A handshake in memory; both ends, or what the first to fail says.
fn shake(
    server: &ServerTls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(server.config())?;
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

/// What a client is shown who asks for `name`; an address asks for none.
fn shown(server: &ServerTls, name: &str) -> Result<Fingerprint, rustls::Error> {
    let (config, eyes) = client(rustls::ALL_VERSIONS);
    shake(server, &Arc::new(config), name)?;
    let shown = eyes.shown.lock().unwrap();
    Ok(shown.unwrap())
}

#[test]
fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let files = Files::new();
    let mail = files.make("mail", &["mail.example", "*.mail.example"]);
    let web = files.make("web", &["web.example", "*.example"]);
    for strict in [false, true] {
        let mut options = options(&[&mail, &web]);
        options.strict_sni = strict;
        let server = ServerTls::load(options).unwrap();
        for (name, expected) in [
            ("mail.example", &mail),
            ("a.mail.example", &mail),
            ("web.example", &web),
            ("other.example", &web),
        ] {
            let expected = fingerprint(&expected.certificate);
            assert_eq!(shown(&server, name), Ok(expected), "{name} {strict}");
            assert_eq!(server.fingerprint_for(name), Some(expected));
        }
        for stranger in ["other.test", "192.0.2.1"] {
            let got = shown(&server, stranger);
            if strict {
                assert!(got.is_err(), "{stranger}: {got:?}");
            } else {
                assert_eq!(got, Ok(fingerprint(&mail.certificate)), "{stranger}");
            }
        }
    }
}

#[test]
fn a_certificate_that_waits_for_its_turn_is_known_as_staged() {
    let files = Files::new();
    let now = files.make("now", &["mail.example"]);
    let next = files.make("next", &["mail.example"]);
    let more = files.make("more", &["mail.example", "more.example"]);
    let server = ServerTls::load(options(&[&now, &next, &more])).unwrap();
    let staged: Vec<_> = server.shown().iter().map(|shown| shown.staged).collect();
    assert_eq!(staged, [false, true, false]);
    let warnings = server.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, file) in warnings.iter().zip(["next.pem", "more.pem"]) {
        let told = ["now.pem", file, "mail.example"];
        assert!(told.iter().all(|part| warning.contains(part)), "{warning}");
    }
}

#[test]
fn new_files_are_taken_whole_or_not_at_all() {
    let files = Files::new();
    let mail = files.make("mail", &["mail.example"]);
    let next = files.make("next", &["mail.example"]);
    let server = ServerTls::load(options(&[&mail])).unwrap();
    let old = fingerprint(&mail.certificate);
    assert_eq!(server.reload().unwrap(), None, "nothing is new");

    // The certificate comes first, and its key a moment later.
    std::fs::copy(&next.certificate, &mail.certificate).unwrap();
    let mismatch = server.reload();
    assert!(
        matches!(mismatch, Err(Error::KeyMismatch { .. })),
        "{mismatch:?}"
    );
    assert_eq!(shown(&server, "mail.example"), Ok(old));
    std::fs::copy(&next.key, &mail.key).unwrap();
    let said = server.reload().unwrap().unwrap();
    let new = fingerprint(&next.certificate);
    assert!(said.contains(&new.to_string()), "{said}");
    assert_eq!(shown(&server, "mail.example"), Ok(new));

    // Half a file, and none.
    let whole = std::fs::read(&mail.certificate).unwrap();
    std::fs::write(&mail.certificate, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(server.reload(), Err(Error::Pem { .. })));
    std::fs::remove_file(&mail.certificate).unwrap();
    assert!(matches!(server.reload(), Err(Error::Read { .. })));
    assert_eq!(shown(&server, "mail.example"), Ok(new));
    std::fs::write(&mail.certificate, &whole).unwrap();
    assert_eq!(server.reload().unwrap(), None, "as before");
}

#[test]
fn sessions_are_resumed_until_the_certificate_changes() {
    let files = Files::new();
    let mail = files.make("mail", &["mail.example"]);
    let next = files.make("next", &["mail.example"]);
    for version in rustls::ALL_VERSIONS {
        let server = ServerTls::load(options(&[&mail])).unwrap();
        let (config, _) = client(&[*version]);
        let config = Arc::new(config);
        let kind = || {
            let (client, _) = shake(&server, &config, "mail.example").unwrap();
            client.handshake_kind().unwrap()
        };
        assert_eq!(kind(), HandshakeKind::Full, "{version:?}");
        assert_eq!(kind(), HandshakeKind::Resumed, "{version:?}");

        let before = (
            std::fs::read(&mail.certificate).unwrap(),
            std::fs::read(&mail.key).unwrap(),
        );
        std::fs::copy(&next.certificate, &mail.certificate).unwrap();
        std::fs::copy(&next.key, &mail.key).unwrap();
        server.reload().unwrap().unwrap();
        assert_eq!(kind(), HandshakeKind::Full, "{version:?}");
        std::fs::write(&mail.certificate, before.0).unwrap();
        std::fs::write(&mail.key, before.1).unwrap();
    }
}

#[test]
fn only_what_is_allowed_is_spoken() {
    let files = Files::new();
    let mail = files.make("mail", &["mail.example"]);
    let (tls12, tls13) = (&rustls::version::TLS12, &rustls::version::TLS13);
    for (allowed, refused) in [(tls12, tls13), (tls13, tls12)] {
        let mut options = options(&[&mail]);
        options.versions = vec![allowed];
        let server = ServerTls::load(options).unwrap();
        let with = |version| shake(&server, &Arc::new(client(&[version]).0), "mail.example");
        assert_eq!(
            with(allowed).unwrap().0.protocol_version(),
            Some(allowed.version)
        );
        assert!(with(refused).is_err());
    }

    let suites = [
        "TLS13_CHACHA20_POLY1305_SHA256",
        "TLS13_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ];
    let mut options = options(&[&mail]);
    options.ciphers = Some(suites.map(str::to_owned).into());
    let server = ServerTls::load(options.clone()).unwrap();
    // The client would rather have AES 256, and then AES 128.
    for (version, expected) in [(tls13, suites[0]), (tls12, suites[2])] {
        let ends = shake(&server, &Arc::new(client(&[version]).0), "mail.example").unwrap();
        let suite = ends.0.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(suite.as_str(), Some(expected));
    }
    options.ciphers = Some(vec!["TLS_RSA_WITH_RC4_128_MD5".to_owned()]);
    let error = ServerTls::load(options).unwrap_err().to_string();
    for part in ["TLS_RSA_WITH_RC4_128_MD5", suites[0]] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_is_not_http_has_no_alpn() {
    let files = Files::new();
    let mail = files.make("mail", &["mail.example"]);
    let mut options = options(&[&mail]);
    options.alpn = Alpn::Nothing;
    let server = ServerTls::load(options).unwrap();
    let (mut config, _) = client(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"imap".to_vec()];
    let (client, _) = shake(&server, &Arc::new(config), "mail.example").unwrap();
    assert_eq!(client.alpn_protocol(), None);
}

/// The outside of an OCSP response, which is all that a proxy looks at: status successful, and some bytes.
const STAPLE: &[u8] = &[0x30, 0x07, 0x0a, 0x01, 0x00, 0xa0, 0x02, 0x30, 0x00];
/// `tryLater`.
const TRY_LATER: &[u8] = &[0x30, 0x03, 0x0a, 0x01, 0x03];

#[test]
fn a_staple_is_shown_and_renewed() {
    let files = Files::new();
    let mut mail = files.make("mail", &["mail.example"]);
    let path = files.path("mail.ocsp");
    mail.ocsp = Some(path.clone());
    let told = ServerTls::load(options(&[&mail])).unwrap_err();
    assert!(matches!(told, Error::Read { .. }), "{told}");
    std::fs::write(&path, STAPLE).unwrap();
    let server = ServerTls::load(options(&[&mail])).unwrap();
    assert!(server.shown()[0].stapled);
    let staple = || {
        let (config, eyes) = client(rustls::ALL_VERSIONS);
        shake(&server, &Arc::new(config), "mail.example").unwrap();
        let staple = eyes.staple.lock().unwrap();
        staple.clone()
    };
    assert_eq!(staple(), STAPLE);

    for bad in [TRY_LATER, b"-----BEGIN OCSP", b""] {
        std::fs::write(&path, bad).unwrap();
        let told = server.reload().unwrap_err();
        assert!(matches!(told, Error::Ocsp { .. }), "{told}");
        assert_eq!(staple(), STAPLE);
    }
    let other = [STAPLE, &[0]].concat();
    std::fs::write(&path, &other).unwrap();
    server.reload().unwrap().unwrap();
    assert_eq!(staple(), other);
}

/// A client with a certificate of its own.
fn client_with(files: &CertificateFiles) -> ClientConfig {
    let chain = vec![certificate(&files.certificate)];
    let key: PrivateKeyDer<'_> =
        rustls_pki_types::pem::PemObject::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Eyes::default()))
        .with_client_auth_cert(chain, key)
        .unwrap()
}

#[test]
fn clients_prove_themselves_if_they_must() {
    let files = Files::new();
    let (mail, known) = (
        files.make("mail", &["mail.example"]),
        files.make("known", &["known.example"]),
    );
    let stranger = files.make("stranger", &["stranger.example"]);
    for required in [true, false] {
        let mut options = options(&[&mail]);
        options.clients = Some(Clients {
            ca: known.certificate.clone(),
            required,
            header: None,
        });
        let server = ServerTls::load(options).unwrap();
        let with = |config| shake(&server, &Arc::new(config), "mail.example");
        let (_, end) = with(client_with(&known)).unwrap();
        let seen = end.peer_certificates().unwrap();
        assert_eq!(Fingerprint::of(&seen[0]), fingerprint(&known.certificate));
        assert!(with(client_with(&stranger)).is_err(), "{required}");
        let nobody = with(client(rustls::ALL_VERSIONS).0);
        assert_eq!(nobody.is_ok(), !required);

        // Another root, and the one who was known isn't any more.
        std::fs::copy(&known.certificate, files.path("kept")).unwrap();
        std::fs::copy(&stranger.certificate, &known.certificate).unwrap();
        server.reload().unwrap().unwrap();
        assert!(with(client_with(&stranger)).is_ok(), "{required}");
        std::fs::copy(files.path("kept"), &known.certificate).unwrap();
    }
}

/// The request that a server gets of a client that sends `lines`.
async fn forwarded(tls: Arc<ServerTls>, config: ClientConfig, lines: &str) -> Message {
    let (tell, told) = std::sync::mpsc::channel();
    let address = origin(move |mut wire, _| {
        let tell = tell.clone();
        async move {
            tell.send(wire.message().await?).ok()?;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
        }
    })
    .await;
    let mut settings: Service = service(&[address]);
    settings.tls = Some(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    let proxy = Proxy::new(Arc::new(settings));
    spawn_local(async move {
        let (stream, peer) = listener.accept().await.unwrap();
        proxy.serve(stream, ClientAddr { peer, local }).await
    });
    let tcp = TcpStream::connect(local).await.unwrap();
    let name = ServerName::try_from("mail.example").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, tcp).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    told.try_recv().unwrap()
}

#[test]
fn servers_are_told_whose_certificate_a_client_has_by_us_alone() {
    let files = Files::new();
    let (mail, known) = (
        files.make("mail", &["mail.example"]),
        files.make("known", &["known.example"]),
    );
    let mut options = options(&[&mail]);
    options.clients = Some(Clients {
        ca: known.certificate.clone(),
        required: false,
        header: Some(http::HeaderName::from_static("x-subject")),
    });
    let server = ServerTls::load(options).unwrap();
    let lies =
        "X-Subject: CN=admin\r\nX_Subject: CN=admin\r\nX-Subject: CN=root\r\nX-Other: kept\r\n";
    run(async move {
        let certified = forwarded(Arc::clone(&server), client_with(&known), lies).await;
        assert_eq!(certified.all("x-subject"), ["CN=known"]);
        assert_eq!(certified.all("x_subject"), [""; 0]);
        assert_eq!(certified.get("x-other"), Some("kept"));
        let nobody = forwarded(server, client(rustls::ALL_VERSIONS).0, lies).await;
        assert_eq!(nobody.all("x-subject"), [""; 0]);
        assert_eq!(nobody.all("x_subject"), [""; 0]);
    });
}
