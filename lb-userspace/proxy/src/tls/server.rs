//! TLS towards clients: several certificates by name, what may be spoken, and what clients must prove.
//!
//! Invariant: a change of certificates is a change of everything, the keys of session tickets included. A session that
//! went on with the old certificate would bind logins to it (RFC 5929: the certificate is that of the session), and a
//! server with Extended Protection that has the new one would refuse them.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderName;
use rustls::crypto::ring::{self, Ticketer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::files::{Content, Reader};
use super::names::Names;
use super::{Error, Fingerprint, Leaf, Reload, unusable};

pub(super) const HTTP_1_1: &[u8] = b"http/1.1";

/// A certificate and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM file with the chain, leaf first.
    pub certificate: PathBuf,
    /// PEM file with the private key of the leaf.
    pub key: PathBuf,
    /// DER file with the OCSP response to staple.
    pub ocsp: Option<PathBuf>,
}

/// What clients must prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM file with the roots that vouch for them.
    pub ca: PathBuf,
    /// Whether one without a certificate is refused.
    pub required: bool,
    /// In which header a server is told the subject of a client's certificate.
    pub header: Option<HeaderName>,
}

/// What is negotiated to be spoken inside (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/1.1 only: IIS refuses connection-bound logins on HTTP/2 (`HTTP_1_1_REQUIRED`).
    Http1,
    /// Nothing: what is inside is not HTTP.
    Nothing,
}

impl Alpn {
    pub(super) fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![HTTP_1_1.to_vec()],
            Self::Nothing => Vec::new(),
        }
    }
}

/// What TLS towards clients is made from.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// At least one; the first that has the name that a client asks for is shown.
    pub certificates: Vec<CertificateFiles>,
    /// Whether clients are refused that ask for no name, or one that no certificate has; else they are shown the first.
    pub strict_sni: bool,
    /// Versions of TLS.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Names of cipher suites ([`cipher_names`]), the best first; all, and the client's choice, if `None`.
    pub ciphers: Option<Vec<String>>,
    /// What clients must prove; nothing if `None`.
    pub clients: Option<Clients>,
    /// What is spoken inside.
    pub alpn: Alpn,
}

impl ServerOptions {
    /// One certificate, and no other wishes.
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            certificates: vec![CertificateFiles {
                certificate: certificate.into(),
                key: key.into(),
                ocsp: None,
            }],
            strict_sni: false,
            versions: rustls::ALL_VERSIONS.to_vec(),
            ciphers: None,
            clients: None,
            alpn: Alpn::Http1,
        }
    }
}

/// The cipher suites that there are, by name.
pub fn cipher_names() -> Vec<String> {
    let suites = ring::ALL_CIPHER_SUITES.iter();
    suites
        .filter_map(|suite| suite.suite().as_str())
        .map(str::to_owned)
        .collect()
}

/// TLS towards clients.
#[derive(Debug)]
pub struct ServerTls {
    options: ServerOptions,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    names: Arc<Names>,
    leaves: Vec<Leaf>,
    content: Content,
}

/// One certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What it says.
    pub leaf: Leaf,
    /// Its file.
    pub file: PathBuf,
    /// Whether no client gets it, because earlier ones have all its names: it waits for its turn.
    pub staged: bool,
    /// Names of it that clients get an earlier certificate for; all if it is staged.
    pub shadowed: Vec<String>,
    /// Whether an OCSP response goes with it.
    pub stapled: bool,
}

impl ServerTls {
    /// Reads the files.
    pub fn load(options: ServerOptions) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::from_pointee(load(&options)?);
        Ok(Arc::new(Self { options, current }))
    }

    /// For the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config())
    }

    /// rustls settings in use.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// The certificates in use, in the order of the options.
    pub fn shown(&self) -> Vec<Shown> {
        let current = self.current.load();
        let certificates = current.leaves.iter().zip(&self.options.certificates);
        let shown = certificates.enumerate().map(|(index, (leaf, files))| {
            let shadowed = current.names.shadowed(index, leaf);
            Shown {
                // One without names is for clients that ask for none, and they get the first one.
                staged: index > 0 && shadowed.len() == leaf.names.len(),
                shadowed: shadowed.into_iter().map(|shadowed| shadowed.name).collect(),
                leaf: leaf.clone(),
                file: files.certificate.clone(),
                stapled: files.ocsp.is_some(),
            }
        });
        shown.collect()
    }

    /// The fingerprint of the certificate that clients get who ask for `name`.
    pub fn fingerprint_for(&self, name: &str) -> Option<Fingerprint> {
        let current = self.current.load();
        let leaf = current.leaves.get(current.names.find(Some(name))?)?;
        Some(leaf.fingerprint)
    }

    /// In which header servers are told whose certificate a client has; `None` if they aren't.
    pub fn subject_header(&self) -> Option<&HeaderName> {
        self.options.clients.as_ref()?.header.as_ref()
    }

    /// What is legal but perhaps not meant: names that several certificates have.
    pub fn warnings(&self) -> Vec<String> {
        let current = self.current.load();
        let file = |index: usize| {
            let files = self.options.certificates.get(index);
            files.map_or("", |files| files.certificate.to_str().unwrap_or_default())
        };
        let mut warnings = Vec::new();
        for (index, leaf) in current.leaves.iter().enumerate() {
            for name in current.names.shadowed(index, leaf) {
                warnings.push(format!(
                    "{} and {} both have the name {}: clients get the first; the other waits for its turn, or has one name too many",
                    file(name.by), file(index), name.name
                ));
            }
        }
        warnings
    }
}

impl Reload for ServerTls {
    fn files(&self) -> Vec<PathBuf> {
        let options = &self.options;
        let mut files = Vec::new();
        for one in &options.certificates {
            files.extend([one.certificate.clone(), one.key.clone()]);
            files.extend(one.ocsp.clone());
        }
        files.extend(options.clients.as_ref().map(|clients| clients.ca.clone()));
        files
    }

    fn reload(&self) -> Result<Option<String>, Error> {
        let loaded = load(&self.options)?;
        if loaded.content == self.current.load().content {
            return Ok(None);
        }
        let certificates = loaded.leaves.iter().map(|leaf| {
            format!(
                "{} {} until {}",
                leaf.title(),
                leaf.fingerprint,
                leaf.not_after_text
            )
        });
        let certificates: Vec<_> = certificates.collect();
        self.current.store(Arc::new(loaded));
        Ok(Some(format!(
            "clients are shown {}",
            certificates.join(", ")
        )))
    }
}

fn load(options: &ServerOptions) -> Result<Loaded, Error> {
    let mut reader = Reader::default();
    let provider = Arc::new(provider(options.ciphers.as_deref())?);
    let mut keys = Vec::new();
    let mut leaves = Vec::new();
    for files in &options.certificates {
        let (key, leaf) = certificate(files, &mut reader, &provider)?;
        keys.push(Arc::new(key));
        leaves.push(leaf);
    }
    let clients = clients(options.clients.as_ref(), &mut reader, &provider)?;
    let names = Arc::new(Names::new(keys, &leaves, options.strict_sni));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&options.versions)
        .map_err(Error::Library)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::clone(&names) as _);
    config.alpn_protocols = options.alpn.protocols();
    config.ticketer = Ticketer::new().map_err(Error::Library)?;
    config.ignore_client_order = options.ciphers.is_some();
    Ok(Loaded {
        config: Arc::new(config),
        names,
        leaves,
        content: reader.content(),
    })
}

/// *ring*, with these cipher suites only.
fn provider(ciphers: Option<&[String]>) -> Result<rustls::crypto::CryptoProvider, Error> {
    let mut provider = ring::default_provider();
    if let Some(names) = ciphers {
        let suite = |name: &String| {
            let mut all = ring::ALL_CIPHER_SUITES.iter().copied();
            all.find(|suite| suite.suite().as_str() == Some(name.as_str()))
                .ok_or_else(|| Error::Cipher { name: name.clone() })
        };
        provider.cipher_suites = names.iter().map(suite).collect::<Result<_, _>>()?;
    }
    Ok(provider)
}

fn certificate(
    files: &CertificateFiles,
    reader: &mut Reader,
    provider: &rustls::crypto::CryptoProvider,
) -> Result<(CertifiedKey, Leaf), Error> {
    let chain = reader.certificates(&files.certificate)?;
    let private = reader.key(&files.key)?;
    let leaf = chain.first().map_or(Err("none".to_owned()), Leaf::read);
    let leaf = leaf.map_err(|cause| Error::Leaf {
        path: files.certificate.clone(),
        cause,
    })?;
    let made = CertifiedKey::from_der(chain, private, provider);
    let mut key = made.map_err(|cause| match cause {
        rustls::Error::InconsistentKeys(_) => Error::KeyMismatch {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
        },
        cause @ rustls::Error::InvalidCertificate(_) => unusable(&files.certificate)(cause),
        cause => unusable(&files.key)(cause),
    })?;
    if let Some(path) = &files.ocsp {
        key.ocsp = Some(reader.ocsp(path)?);
    }
    Ok((key, leaf))
}

fn clients(
    clients: Option<&Clients>,
    reader: &mut Reader,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let Some(Clients { ca, required, .. }) = clients else {
        return Ok(Arc::new(NoClientAuth));
    };
    let roots = Arc::new(reader.roots(ca)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if *required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder.build().map_err(|cause| Error::Clients {
        path: ca.clone(),
        cause,
    })
}
