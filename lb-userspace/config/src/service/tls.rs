//! Reads `tls` and `upstream_tls`: files and names of certificates.

use crate::error::{Cost, Problem};
use crate::model::{Tls, UpstreamTls, Verify};
use crate::reader::{Node, Table};
use crate::value;

pub(super) fn tls(node: &Node<'_>) -> Option<Tls> {
    let expected = "a table, such as { certificate = \"cert.pem\", key = \"key.pem\" }";
    let table = node.table(expected, &["certificate", "key"])?;
    let example = "the PEM file with the certificate chain, leaf first";
    let certificate = table.required("certificate", example, value::file);
    let key = table.required("key", "the PEM file with the private key", value::file);
    Some(Tls {
        certificate: certificate?,
        key: key?,
    })
}

pub(super) fn upstream_tls(node: &Node<'_>) -> Option<UpstreamTls> {
    let expected = "a table, such as { ca = \"ca.pem\", server_name = \"mail.example.com\" }";
    let table = node.table(expected, &["ca", "server_name", "verify"])?;
    let example = "the name in the servers' certificate, such as \"mail.example.com\"";
    let server_name = table.required("server_name", example, value::server_name);
    let verify = match verify(&table) {
        Trust::Given(verify) => Some(verify),
        Trust::Broken => None,
        Trust::Unsaid => table.fail("ca", MISSING_TRUST),
    };
    Some(UpstreamTls {
        server_name: server_name?,
        verify: verify?,
    })
}

/// What `ca` and `verify` of a table say.
pub(crate) enum Trust {
    Given(Verify),
    /// Reported.
    Broken,
    Unsaid,
}

pub(crate) const MISSING_TRUST: Problem = Problem::Missing {
    example: "the PEM file with the root certificate of the servers (or verify = \"none\")",
};

/// Reads `ca` and `verify`, which exclude each other.
pub(crate) fn verify(table: &Table<'_>) -> Trust {
    let ca = table.get("ca").map(|node| value::file(&node));
    let none = table.get("verify").map(|node| node.choice(&[("none", ())]));
    match (ca, none) {
        (None, None) => Trust::Unsaid,
        (Some(Some(ca)), None) => Trust::Given(Verify::Ca(ca)),
        (None, Some(Some(()))) => {
            table.warn("verify", Cost::Unverified);
            Trust::Given(Verify::None)
        }
        (Some(Some(_)), Some(Some(()))) => {
            let clash = "with verify = \"none\" the ca is not used; remove one of the two";
            table.fail::<()>("verify", Problem::Contradiction(clash.to_owned()));
            Trust::Broken
        }
        _ => Trust::Broken,
    }
}
