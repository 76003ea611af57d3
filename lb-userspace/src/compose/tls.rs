//! From the TLS settings of a configuration to those of a proxy, with the files they name read in.

use std::path::Path;
use std::sync::Arc;

use lb_config::{Ciphers, ClientCertificateMode, TlsVersion, Verify};
use lb_proxy::tls::{
    self, Alpn, CertificateFiles, Clients, Error, ServerOptions, ServerTls, UpstreamTls,
};

/// TLS towards clients.
pub(super) fn server_tls(
    tls: &lb_config::Tls,
    alpn: Alpn,
    directory: &Path,
) -> Result<Arc<ServerTls>, Error> {
    let certificates = tls.certificates.iter().map(|files| CertificateFiles {
        certificate: directory.join(&files.certificate),
        key: directory.join(&files.key),
        ocsp: files.ocsp.as_ref().map(|path| directory.join(path)),
    });
    let versions = tls.versions.iter().map(|version| match version {
        TlsVersion::Tls12 => &rustls::version::TLS12,
        TlsVersion::Tls13 => &rustls::version::TLS13,
    });
    let clients = tls.client_certificates.as_ref().map(|clients| Clients {
        ca: directory.join(&clients.ca),
        required: clients.mode == ClientCertificateMode::Required,
        header: clients.header.clone(),
    });
    let ciphers = match &tls.ciphers {
        Ciphers::Default => None,
        Ciphers::Only(ciphers) => Some(ciphers.iter().map(ToString::to_string).collect()),
    };
    ServerTls::load(ServerOptions {
        certificates: certificates.collect(),
        strict_sni: tls.strict_sni,
        versions: versions.collect(),
        ciphers,
        clients,
        alpn,
    })
}

/// TLS towards servers.
pub(super) fn upstream_tls(
    tls: &lb_config::UpstreamTls,
    directory: &Path,
) -> Result<UpstreamTls, Error> {
    let verify = match &tls.verify {
        Verify::Ca(path) => tls::Verify::Roots(directory.join(path)),
        Verify::None => tls::Verify::Nobody,
    };
    tls::upstream(&verify, tls.server_name.clone())
}

#[cfg(test)]
mod tests {
    use lb_config::CipherSuite;

    /// The configuration doesn't know the library, so its list is a copy.
    #[test]
    fn the_ciphers_of_the_configuration_are_those_of_the_library() {
        let known: Vec<_> = CipherSuite::ALL
            .map(CipherSuite::name)
            .map(str::to_owned)
            .into();
        assert_eq!(known, lb_proxy::tls::cipher_names());
    }
}
