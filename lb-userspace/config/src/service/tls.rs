//! Reads `tls` and `upstream_tls`: files and names of certificates, and what may be spoken.

use crate::error::{Cost, Problem};
use crate::model::{
    CertificateFiles, CipherSuite, Ciphers, ClientCertificateMode, ClientCertificates, Tls,
    TlsVersion, UpstreamTls, Verify,
};
use crate::reader::{Node, Read, Schema, Table, unique};
use crate::value;

pub(super) fn tls(node: &Node<'_>) -> Option<Tls> {
    let expected = "a table, such as { certificate = \"cert.pem\", key = \"key.pem\" }";
    let table = node.table(expected, SCHEMA)?;
    let certificates = certificates(&table);
    let strict_sni = table.optional("strict_sni", false, Node::boolean);
    let versions = table.optional("versions", VERSIONS.map(|(_, v)| v).into(), |node| {
        distinct(node, "a list of \"1.2\" and \"1.3\"", version)
    });
    let ciphers = table.optional("ciphers", Ciphers::Default, ciphers);
    let client_certificates = table.optional("client_certificates", None, |node| {
        client_certificates(node).map(Some)
    });
    let http2 = table.optional("http2", false, Node::boolean);
    let (versions, ciphers) = (versions?, ciphers?);
    check_ciphers(&table, &versions, &ciphers);
    Some(Tls {
        certificates: certificates?,
        strict_sni: strict_sni?,
        versions,
        ciphers,
        client_certificates: client_certificates?,
        http2: http2?,
    })
}

/// Those of `certificates`, or the one whose files stand in `tls` itself.
fn certificates(table: &Table<'_>) -> Option<Vec<CertificateFiles>> {
    let Some(list) = table.get("certificates") else {
        return files(table).map(|one| vec![one]);
    };
    let mut both = false;
    for key in FILES.iter().filter(|key| table.has(key)) {
        let clash = "is one certificate, and `certificates` a list of them; put it into the list";
        table.fail::<()>(key, Problem::Contradiction(clash.to_owned()));
        both = true;
    }
    let expected = "a list of tables, such as [{ certificate = \"cert.pem\", key = \"key.pem\" }]";
    let items = list.list(expected, |node| {
        let expected = "a table, such as { certificate = \"cert.pem\", key = \"key.pem\" }";
        files(&node.table(expected, FILES)?)
    })?;
    let items = items.into_iter().map(|item| item.value).collect();
    (!both).then_some(items)
}

fn files(table: &Table<'_>) -> Option<CertificateFiles> {
    let example = "the PEM file with the certificate chain, leaf first";
    let certificate = table.required("certificate", example, value::file);
    let key = table.required("key", "the PEM file with the private key", value::file);
    let ocsp = table.optional("ocsp", None, |node| value::file(node).map(Some));
    Some(CertificateFiles {
        certificate: certificate?,
        key: key?,
        ocsp: ocsp?,
    })
}

/// The elements of a list, each of which must be there once.
fn distinct<T: Ord + std::fmt::Display>(
    node: &Node<'_>,
    expected: &'static str,
    read: impl Fn(&Node<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let items: Vec<Read<T>> = node.list(expected, |node| read(node))?;
    unique(node.report(), items.iter());
    if items.len() < node.array(expected)?.len() {
        // What is left of a list with mistakes would be blamed for what is not in it.
        return None;
    }
    Some(items.into_iter().map(|item| item.value).collect())
}

fn version(node: &Node<'_>) -> Option<TlsVersion> {
    const OLD: &str = "\"1.2\" or \"1.3\": nothing older can be had here, and RFC 8996 forbids it";
    let text = node.string("\"1.2\" or \"1.3\"", |text| Some(text.to_owned()))?;
    match VERSIONS.into_iter().find(|(name, _)| *name == text) {
        Some((_, version)) => Some(version),
        None => node.bad_value(&text, OLD),
    }
}

fn ciphers(node: &Node<'_>) -> Option<Ciphers> {
    if node.is_string() {
        let text = node.string("a string", |text| Some(text.to_owned()))?;
        return if text == "default" {
            Some(Ciphers::Default)
        } else {
            unknown_cipher(node, &text)
        };
    }
    let expected = "\"default\" or a list of cipher suites";
    distinct(node, expected, cipher).map(Ciphers::Only)
}

fn cipher(node: &Node<'_>) -> Option<CipherSuite> {
    let text = node.string("the name of a cipher suite", |text| Some(text.to_owned()))?;
    CipherSuite::named(&text).or_else(|| unknown_cipher(node, &text))
}

fn unknown_cipher<T>(node: &Node<'_>, found: &str) -> Option<T> {
    let names = CipherSuite::ALL.map(CipherSuite::name).join(", ");
    let upper = found.to_ascii_uppercase();
    let is_old = upper.ends_with("SHA") || OLD_CIPHERS.iter().any(|old| upper.contains(old));
    let why = if is_old {
        "RC4, 3DES, CBC and the like, and so LoadMaster's sets of them, can't be had here: "
    } else {
        ""
    };
    node.bad_value(
        found,
        format!("\"default\" or a list of names; {why}there are {names}"),
    )
}

/// A version without a cipher would fail every handshake in it, at the client's end of the wire.
fn check_ciphers(table: &Table<'_>, versions: &[TlsVersion], ciphers: &Ciphers) {
    let Ciphers::Only(ciphers) = ciphers else {
        return;
    };
    for version in versions {
        if !ciphers.iter().any(|cipher| cipher.version() == *version) {
            let clash = format!(
                "none of them is for TLS {version}, which `versions` allows; add one, or set `versions` without it"
            );
            table.fail::<()>("ciphers", Problem::Contradiction(clash));
        }
    }
    for cipher in ciphers {
        if !versions.contains(&cipher.version()) {
            let clash = format!(
                "{cipher} is for TLS {}, which `versions` doesn't allow; remove it, or add the version",
                cipher.version()
            );
            table.fail::<()>("ciphers", Problem::Contradiction(clash));
        }
    }
}

/// Reports `http2` where it can't be, which is `why`.
pub(super) fn refuse_http2(table: &Table<'_>, tls: Option<&Option<Tls>>, why: &'static str) {
    if tls.is_some_and(|tls| tls.as_ref().is_some_and(|tls| tls.http2)) {
        let clash = format!("http2 = true is not for {why}; remove it");
        table.fail::<()>("tls", Problem::Contradiction(clash));
    }
}

fn client_certificates(node: &Node<'_>) -> Option<ClientCertificates> {
    let expected = "a table, such as { ca = \"clients.pem\", mode = \"required\" }";
    let table = node.table(expected, &["ca", "mode", "header"])?;
    let example = "the PEM file with the root certificates that vouch for clients";
    let ca = table.required("ca", example, value::file);
    let mode = table.optional("mode", ClientCertificateMode::Required, |node| {
        node.choice(&[
            ("required", ClientCertificateMode::Required),
            ("optional", ClientCertificateMode::Optional),
        ])
    });
    let header = table.optional("header", None, |node| {
        let expected = "the name of a header, such as \"X-Client-Subject\"";
        node.string(expected, |text| text.parse().ok().map(Some))
    });
    Some(ClientCertificates {
        ca: ca?,
        mode: mode?,
        header: header?,
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

const FILES: Schema = &["certificate", "key", "ocsp"];
const SCHEMA: Schema = &[
    "certificate",
    "key",
    "ocsp",
    "certificates",
    "strict_sni",
    "versions",
    "ciphers",
    "client_certificates",
    "http2",
];
const VERSIONS: [(&str, TlsVersion); 2] = [
    (TlsVersion::Tls12.name(), TlsVersion::Tls12),
    (TlsVersion::Tls13.name(), TlsVersion::Tls13),
];

/// What gives away that a cipher, or a set of them, is of an older time: words in LoadMaster's and OpenSSL's names.
const OLD_CIPHERS: [&str; 8] = [
    "RC4", "DES", "CBC", "MD5", "NULL", "EXPORT", "LEGACY", "BACKWARD",
];
