//! TLS towards clients and servers, from files; every error names the file and what is wrong with it.
//!
//! Invariant: what is in use was whole and fitted together when it was read. [`ServerTls`] and [`UpstreamTls`] read their
//! files again when told to ([`Reload`]), and what is wrong with them then leaves what is in use as it was. A
//! connection takes what is in use without a lock, and keeps it. `ring` is the only provider of cryptography.
//! Not here: when files have changed, which is for the control plane to see.

mod files;
mod leaf;
mod names;
mod server;
mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls_pki_types::pem;

pub use leaf::{Fingerprint, Leaf};
pub use server::{Alpn, CertificateFiles, Clients, ServerOptions, ServerTls, Shown, cipher_names};
pub use upstream::{UpstreamTls, Verify, peek, upstream, upstream_with};

/// Something that was made from files, and can be made anew from them.
pub trait Reload: std::fmt::Debug + Send + Sync {
    /// The files.
    fn files(&self) -> Vec<PathBuf>;

    /// Reads them, and replaces what is in use if something else came of it. What is new then, for the log; `None` if
    /// nothing is.
    fn reload(&self) -> Result<Option<String>, Error>;
}

impl<T: Reload + ?Sized> Reload for Arc<T> {
    fn files(&self) -> Vec<PathBuf> {
        (**self).files()
    }

    fn reload(&self) -> Result<Option<String>, Error> {
        (**self).reload()
    }
}

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
    /// The leaf is no X.509 certificate.
    #[error("the first certificate in {} is no X.509 certificate: {cause}", path.display())]
    Leaf {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        cause: String,
    },
    /// A file to staple is no answer of an OCSP responder.
    #[error(
        "{} holds no successful OCSP response; expected DER, as `openssl ocsp -respout` writes it",
        path.display()
    )]
    Ocsp {
        /// The file.
        path: PathBuf,
    },
    /// The roots can't vouch for clients.
    #[error("{} can't vouch for clients: {cause}", path.display())]
    Clients {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: rustls::server::VerifierBuilderError,
    },
    /// No such cipher suite.
    #[error("the TLS library has no cipher suite {name}; it has {}", cipher_names().join(", "))]
    Cipher {
        /// What was asked for.
        name: String,
    },
    /// The provider doesn't support what was asked for.
    #[error("the TLS library can't be set up so: {0}")]
    Library(#[source] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(path: &Path) -> impl Fn(rustls::Error) -> Error {
    move |cause| Error::Unusable {
        path: path.to_owned(),
        cause,
    }
}
