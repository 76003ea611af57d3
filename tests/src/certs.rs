//! Certificates of the lab: one authority and one leaf that every pool server and the load balancer share.
//!
//! Shared, because Exchange wants it so: forms-based cookies are encrypted with it, and Extended Protection binds a
//! login to it, so a load balancer that re-encrypts must present the very certificate of its servers.
//! Not here: anything for production.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::address::VIP_HTTP;

/// The public name of the simulated pool.
pub const NAME: &str = "mail.lab.test";

/// Paths of the files written.
#[derive(Clone, Debug)]
pub struct Files {
    /// The authority's certificate, PEM: what clients trust.
    pub ca: PathBuf,
    /// The leaf certificate, PEM.
    pub certificate: PathBuf,
    /// The leaf's private key, PEM (PKCS #8).
    pub key: PathBuf,
}

/// Generates an authority and a leaf for [`NAME`], its siblings and [`VIP_HTTP`], and writes them to `directory`.
pub fn write(directory: &Path) -> Result<Files> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name
        .push(DnType::CommonName, "lb lab authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let names = [
        NAME,
        "autodiscover.lab.test",
        "*.lab.test",
        &VIP_HTTP.to_string(),
    ];
    let mut leaf = CertificateParams::new(names.map(str::to_owned))?;
    leaf.distinguished_name.push(DnType::CommonName, NAME);
    leaf.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate()?;
    let leaf_certificate = leaf.signed_by(&leaf_key, &issuer)?;

    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let files = Files {
        ca: directory.join("ca.pem"),
        certificate: directory.join("cert.pem"),
        key: directory.join("key.pem"),
    };
    for (path, text) in [
        (&files.ca, ca_certificate.pem()),
        (&files.certificate, leaf_certificate.pem()),
        (&files.key, leaf_key.serialize_pem()),
    ] {
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(files)
}
