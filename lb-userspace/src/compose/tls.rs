//! From the TLS settings of a configuration to those of a proxy, with the files they name read in.

use std::path::Path;
use std::sync::Arc;

use lb_config::{
    Ciphers, ClientCertificateMode, DEFAULT_INTERVAL, DEFAULT_PROBE_TIMEOUT, Health, Mode, Profile,
    TlsVersion, Verify,
};
use lb_proxy::Action;
use lb_proxy::tls::{
    self, Alpn, CertificateFiles, Clients, Error, Reload, ServerOptions, ServerTls, UpstreamTls,
};

use super::{PlannedService, label};
use crate::control::drift::Watch;
use crate::control::health::Probe;

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

/// TLS towards servers that speak HTTP.
pub(super) fn upstream_tls(
    tls: &lb_config::UpstreamTls,
    directory: &Path,
) -> Result<UpstreamTls, Error> {
    upstream_with(tls, Alpn::Http1, directory)
}

/// TLS towards servers.
pub(super) fn upstream_with(
    tls: &lb_config::UpstreamTls,
    alpn: Alpn,
    directory: &Path,
) -> Result<UpstreamTls, Error> {
    let verify = match &tls.verify {
        Verify::Ca(path) => tls::Verify::Roots(directory.join(path)),
        Verify::None => tls::Verify::Nobody,
    };
    tls::upstream_with(&verify, tls.server_name.clone(), alpn)
}

/// What is legal but perhaps not meant.
pub(super) fn warnings(service: &lb_config::Service, planned: &PlannedService) -> Vec<String> {
    let relay = planned.tcp.as_ref().and_then(|tcp| tcp.tls.as_ref());
    let http = planned.http.as_ref().and_then(|http| http.tls.as_ref());
    let Some(tls) = http.or(relay) else {
        return Vec::new();
    };
    let mut warnings = tls.warnings();
    let protected = forwarding(service).filter_map(|to| {
        let upstream = to.upstream_tls.as_ref()?;
        let name = upstream.server_name.to_str();
        let compared = tls.fingerprint_for(&name)?;
        to.extended_protection.then_some((name, compared))
    });
    for (name, compared) in protected {
        for shown in tls.shown() {
            if !shown.staged && shown.leaf.fingerprint != compared {
                warnings.push(format!(
                    "extended_protection: clients that ask for {} see another certificate than that for {name}, with which the \
                     servers' is compared; their logins fail unless a certificate has both names",
                    shown.leaf.title()
                ));
            }
        }
    }
    warnings.dedup();
    let name = &service.name;
    let line = |warning| format!(" service {:?}: tls: {warning}", name.as_str());
    warnings.into_iter().map(line).collect()
}

/// What can be made anew from files.
pub(super) fn reloads(planned: &PlannedService) -> Vec<Box<dyn Reload>> {
    let mut reloads: Vec<Box<dyn Reload>> = Vec::new();
    if let Some(http) = &planned.http {
        reloads.extend(http.tls.iter().map(|tls| Box::new(Arc::clone(tls)) as _));
        let upstream = http.routes.iter().filter_map(|route| match &route.action {
            Action::Forward(to) => to.upstream_tls.clone(),
            Action::Redirect(_) | Action::Respond(_) => None,
        });
        reloads.extend(upstream.map(|tls| Box::new(tls) as _));
    }
    if let Some(tcp) = &planned.tcp {
        reloads.extend(tcp.tls.iter().map(|tls| Box::new(Arc::clone(tls)) as _));
        reloads.extend(
            tcp.upstream_tls
                .iter()
                .map(|tls| Box::new(tls.clone()) as _),
        );
    }
    let probes = planned.probes.iter().filter_map(|probe| match probe {
        Some(Probe::Https(_, tls) | Probe::Greeting(_, Some(tls))) => Some(tls.clone()),
        _ => None,
    });
    reloads.extend(probes.map(|tls| Box::new(tls) as _));
    reloads
}

/// The servers of a service whose certificate must be ours: those of Exchange, and where the configuration says so.
pub(super) fn drift_watches(
    position: usize,
    service: &lb_config::Service,
    planned: &PlannedService,
) -> Vec<Watch> {
    let ours = planned.http.as_ref().and_then(|http| http.tls.as_ref());
    let (Some(ours), Mode::Http(http)) = (ours, &service.mode) else {
        return Vec::new();
    };
    let routes = http.routes.iter().filter_map(|route| match &route.action {
        lb_config::Action::Forward(to) => Some((route, to)),
        lb_config::Action::Redirect(_) | lb_config::Action::Respond(_) => None,
    });
    let mut watches = Vec::new();
    let mut first = 0;
    for (route, to) in routes {
        let is_watched = to.extended_protection || http.profile == Profile::Exchange;
        let schedule = match &to.health {
            Health::Checked { schedule, .. } => (schedule.interval, schedule.timeout),
            Health::Unchecked => (DEFAULT_INTERVAL, DEFAULT_PROBE_TIMEOUT),
        };
        let upstream = to.upstream_tls.as_ref().filter(|_| is_watched);
        if let (Some(upstream), Some(pool)) = (upstream, route.pool()) {
            watches.extend(to.servers.iter().enumerate().map(|(index, server)| Watch {
                service: position,
                server: first + index,
                label: label(service, &pool, server),
                address: server.address,
                name: upstream.server_name.clone(),
                ours: Arc::clone(ours),
                protected: to.extended_protection,
                interval: schedule.0,
                timeout: schedule.1,
            }));
        }
        first += to.servers.len();
    }
    watches
}

fn forwarding(service: &lb_config::Service) -> impl Iterator<Item = &lb_config::Forwarding> {
    let routes = match &service.mode {
        Mode::Http(http) => &http.routes[..],
        Mode::L4(_) | Mode::Tcp(_) => &[],
    };
    routes.iter().filter_map(|route| match &route.action {
        lb_config::Action::Forward(to) => Some(&**to),
        lb_config::Action::Redirect(_) | lb_config::Action::Respond(_) => None,
    })
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
