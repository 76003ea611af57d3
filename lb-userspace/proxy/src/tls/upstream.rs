//! TLS towards servers: who vouches for them, and what they show.
//!
//! Sessions are kept for resumption, for each server and all workers together: servers of one name don't know each other's
//! sessions, and one whose connections are each a client's own (NTLM) has many handshakes. They end with a change of
//! trust: a resumed session is one whose certificate is not looked at again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use super::files::{Content, Reader};
use super::server::Alpn;
use super::{Error, Reload, provider};

/// Who vouches for a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// PEM file with the root certificates to trust.
    Roots(PathBuf),
    /// Nobody: whoever answers at the address is believed.
    Nobody,
}

/// TLS towards servers; a copy is the same thing.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    shared: Arc<Shared>,
    server_name: ServerName<'static>,
}

#[derive(Debug)]
struct Shared {
    verify: Verify,
    alpn: Alpn,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ClientConfig>,
    /// The same with sessions of their own, by server. Locked only while a connection is made.
    servers: Mutex<HashMap<SocketAddr, Arc<ClientConfig>>>,
    content: Content,
}

impl UpstreamTls {
    /// rustls settings in use, for one connection.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.shared.current.load().config)
    }

    /// For a connection to the server at `address`.
    pub fn connector(&self, address: SocketAddr) -> TlsConnector {
        let current = self.shared.current.load();
        let mut servers = current
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let config = servers.entry(address).or_insert_with(|| {
            let mut config = ClientConfig::clone(&current.config);
            config.resumption = Resumption::in_memory_sessions(SESSIONS);
            Arc::new(config)
        });
        TlsConnector::from(Arc::clone(config))
    }

    /// SNI, and the name that the certificate must be for.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

impl Reload for UpstreamTls {
    fn files(&self) -> Vec<PathBuf> {
        match &self.shared.verify {
            Verify::Roots(path) => vec![path.clone()],
            Verify::Nobody => Vec::new(),
        }
    }

    fn reload(&self) -> Result<Option<String>, Error> {
        let loaded = load(&self.shared.verify, self.shared.alpn)?;
        if loaded.content == self.shared.current.load().content {
            return Ok(None);
        }
        self.shared.current.store(Arc::new(loaded));
        Ok(Some("other roots vouch for servers now".to_owned()))
    }
}

/// Names that sessions of one server are kept for; there is only one.
const SESSIONS: usize = 1;

/// TLS towards servers that present themselves as `server_name`, and speak HTTP/1.1 inside.
pub fn upstream(verify: &Verify, server_name: ServerName<'static>) -> Result<UpstreamTls, Error> {
    upstream_with(verify, server_name, Alpn::Http1)
}

/// As [`upstream`], with what is spoken inside.
pub fn upstream_with(
    verify: &Verify,
    server_name: ServerName<'static>,
    alpn: Alpn,
) -> Result<UpstreamTls, Error> {
    let shared = Arc::new(Shared {
        current: ArcSwap::from_pointee(load(verify, alpn)?),
        verify: verify.clone(),
        alpn,
    });
    Ok(UpstreamTls {
        shared,
        server_name,
    })
}

fn load(verify: &Verify, alpn: Alpn) -> Result<Loaded, Error> {
    let mut reader = Reader::default();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Library)?;
    let mut config = match verify {
        Verify::Roots(path) => builder.with_root_certificates(reader.roots(path)?),
        Verify::Nobody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider()))),
    }
    .with_no_client_auth();
    config.alpn_protocols = alpn.protocols();
    Ok(Loaded {
        config: Arc::new(config),
        servers: Mutex::default(),
        content: reader.content(),
    })
}

/// Settings for a look at what a server shows, whoever it is: nothing may be sent to it. Each is a whole handshake, since a
/// resumed session shows what was shown when it began.
pub fn peek() -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider())))
        .with_no_client_auth();
    config.alpn_protocols = Alpn::Http1.protocols();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Believes any certificate, but still wants proof that the peer holds its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
