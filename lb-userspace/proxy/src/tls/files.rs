//! Reading certificates and keys from files.
//!
//! All files of one reading go through one [`Reader`], which remembers what they held: whether anything is new is a
//! question of content, not of times that a copy or a clock may get wrong.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::{Error, unusable};

/// Hash of all that was read.
pub(super) type Content = [u8; 32];

/// Reads files, and hashes them on the way.
#[derive(Default)]
pub(super) struct Reader(Sha256);

impl Reader {
    /// What all files that were read held.
    pub(super) fn content(self) -> Content {
        self.0.finalize().into()
    }

    pub(super) fn bytes(&mut self, path: &Path) -> Result<Vec<u8>, Error> {
        let bytes = std::fs::read(path).map_err(|cause| Error::Read {
            path: path.to_owned(),
            cause,
        })?;
        // The length keeps the end of one file apart from the start of the next.
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(&bytes);
        Ok(bytes)
    }

    /// At least one certificate.
    pub(super) fn certificates(
        &mut self,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let failed = |cause| Error::Pem {
            path: path.to_owned(),
            wanted: "certificate",
            cause,
        };
        let pem = self.bytes(path)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(failed)?;
        if chain.is_empty() {
            return Err(failed(pem::Error::NoItemsFound));
        }
        Ok(chain)
    }

    pub(super) fn key(&mut self, path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.bytes(path)?).map_err(|cause| Error::Pem {
            path: path.to_owned(),
            wanted: "private key",
            cause,
        })
    }

    pub(super) fn roots(&mut self, path: &Path) -> Result<RootCertStore, Error> {
        let mut store = RootCertStore::empty();
        for certificate in self.certificates(path)? {
            store.add(certificate).map_err(unusable(path))?;
        }
        Ok(store)
    }

    /// An `OCSPResponse` (RFC 6960 section 4.2.1) with `responseStatus` successful: a responder's error would make clients
    /// that insist on a staple give up.
    pub(super) fn ocsp(&mut self, path: &Path) -> Result<Vec<u8>, Error> {
        let der = self.bytes(path)?;
        let body = match der.as_slice() {
            [0x30, short, body @ ..] if *short < 0x80 => body,
            [0x30, 0x81, _, body @ ..]
            | [0x30, 0x82, _, _, body @ ..]
            | [0x30, 0x83, _, _, _, body @ ..] => body,
            _ => &[],
        };
        // ENUMERATED, one byte, 0.
        if body.starts_with(&[0x0a, 0x01, 0x00]) {
            Ok(der)
        } else {
            Err(Error::Ocsp {
                path: path.to_owned(),
            })
        }
    }
}
