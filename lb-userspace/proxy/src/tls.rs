//! TLS towards clients and servers, from PEM files; every error names the file and what is wrong with it.
//!
//! Invariant: HTTP/1.1 is the only protocol offered, on both sides, because IIS refuses connection-bound logins
//! on HTTP/2 (`HTTP_1_1_REQUIRED`). `ring` is the only provider of cryptography.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

const HTTP_1_1: &[u8] = b"http/1.1";

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read.
    #[error("can't read {}: {cause}; check the path and who may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file isn't the PEM that is wanted.
    #[error("{} holds no usable {wanted}: {cause}; expected PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        wanted: &'static str,
        /// What the parser says.
        #[source]
        cause: pem::Error,
    },
    /// The key isn't that of the first certificate.
    #[error(
        "the key in {} is not the key of the first certificate in {}; the leaf comes first",
        key.display(), certificate.display()
    )]
    KeyMismatch {
        /// File with the certificates.
        certificate: PathBuf,
        /// File with the key.
        key: PathBuf,
    },
    /// rustls can't use what is otherwise well-formed.
    #[error("{} can't be used for TLS: {cause}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
    /// The provider doesn't support the default versions of TLS.
    #[error("the TLS library offers no usable version: {0}")]
    Versions(#[source] rustls::Error),
}

/// TLS towards clients: `certificate` is a PEM file with the chain, leaf first; `key` one with its private key.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Error> {
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|cause| Error::Pem {
        path: key.to_owned(),
        wanted: "private key",
        cause,
    })?;
    let built = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Versions)?
        .with_no_client_auth()
        .with_single_cert(chain, private);
    let mut config = built.map_err(|cause| match cause {
        rustls::Error::InconsistentKeys(_) => Error::KeyMismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        },
        rustls::Error::InvalidCertificate(_) => Error::Unusable {
            path: certificate.to_owned(),
            cause,
        },
        cause => Error::Unusable {
            path: key.to_owned(),
            cause,
        },
    })?;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(Arc::new(config))
}

/// Who vouches for a server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// PEM file with the root certificates to trust.
    Roots(PathBuf),
    /// Nobody: whoever answers at the address is believed.
    Nobody,
}

/// TLS towards servers.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
}

impl UpstreamTls {
    /// rustls settings for one's own connections to the same servers; the health checker's, for one.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// SNI, and the name that the certificate must be for.
    pub fn server_name(&self) -> &ServerName<'static> {
        &self.server_name
    }
}

/// TLS towards servers that present themselves as `server_name`.
pub fn upstream(verify: &Verify, server_name: ServerName<'static>) -> Result<UpstreamTls, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Versions)?;
    let mut config = match verify {
        Verify::Roots(path) => builder.with_root_certificates(roots(path)?),
        Verify::Nobody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider()))),
    }
    .with_no_client_auth();
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Ok(UpstreamTls {
        config: Arc::new(config),
        server_name,
    })
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|cause| Error::Unusable {
            path: path.to_owned(),
            cause,
        })?;
    }
    Ok(store)
}

/// At least one certificate.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |cause| Error::Pem {
        path: path.to_owned(),
        wanted: "certificate",
        cause,
    };
    let pem = read(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(failed)?;
    if chain.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|cause| Error::Read {
        path: path.to_owned(),
        cause,
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
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
