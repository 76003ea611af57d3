//! Settings of TLS towards clients.
//!
//! Not here: what the files hold, which whoever opens them checks.

use std::path::PathBuf;

use http::HeaderName;

/// `tls`: what clients are shown and may speak. Relative paths are relative to the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// At least one. Which of them a client is shown depends on the name that it asks for; the first is for those that ask
    /// for none, or for one that is in no certificate.
    pub certificates: Vec<CertificateFiles>,
    /// Clients that ask for no name, or one that is in no certificate, are refused.
    pub strict_sni: bool,
    /// At least one, each once.
    pub versions: Vec<TlsVersion>,
    /// Cipher suites.
    pub ciphers: Ciphers,
    /// What clients must prove; `None` if nothing.
    pub client_certificates: Option<ClientCertificates>,
    /// Clients may speak HTTP/2; never with [`Profile::Exchange`](crate::Profile::Exchange).
    pub http2: bool,
}

/// A certificate and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file with the certificate chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key of the leaf.
    pub key: PathBuf,
    /// DER file with the OCSP response to staple.
    pub ocsp: Option<PathBuf>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    /// As the file calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl std::fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// `ciphers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ciphers {
    /// All that there are; the client chooses.
    Default,
    /// These, the best first, with one for each version at least.
    Only(Vec<CipherSuite>),
}

/// One of the cipher suites that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CipherSuite(&'static str);

impl CipherSuite {
    /// What rustls with *ring* has, in its order of preference: all with forward secrecy and authenticated encryption. That
    /// this is still so is tested where rustls is known.
    pub const ALL: [Self; 9] = [
        Self("TLS13_AES_256_GCM_SHA384"),
        Self("TLS13_AES_128_GCM_SHA256"),
        Self("TLS13_CHACHA20_POLY1305_SHA256"),
        Self("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        Self("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        Self("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        Self("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
        Self("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        Self("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
    ];

    /// The suite of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.0 == name)
    }

    /// As rustls calls it.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// The version that it is for.
    pub fn version(self) -> TlsVersion {
        if self.0.starts_with("TLS13_") {
            TlsVersion::Tls13
        } else {
            TlsVersion::Tls12
        }
    }
}

impl std::fmt::Display for CipherSuite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// `client_certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file with the root certificates that vouch for clients.
    pub ca: PathBuf,
    /// What becomes of a client without one. One with a bad certificate is refused in both modes.
    pub mode: ClientCertificateMode,
    /// In which header servers are told the subject of a client's certificate.
    pub header: Option<HeaderName>,
}

/// `client_certificates.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificateMode {
    /// It is refused.
    Required,
    /// It is served.
    Optional,
}
