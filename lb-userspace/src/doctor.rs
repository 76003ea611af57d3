//! `lb doctor`: what is wrong with a running daemon and its servers, and what to do about it.
//!
//! Everything is in the [`Status`] already; this is who reads it. Invariant: what is *wrong* needs an operator, and gives
//! exit code 1; a *note* is something to know, such as what a legal setting costs. Not here: looking at servers, which
//! the daemon does all the time.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::admin::{CertificateStatus, HandoverStatus, ServerStatus, ServiceStatus, Status};
use crate::control::drift;

/// Days before its end from which a certificate is wrong.
pub(crate) const EXPIRY_DAYS: i64 = 14;

/// What `lb doctor --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Diagnosis {
    /// How many things were looked at.
    pub(crate) checks: usize,
    /// What is not as it should be.
    pub(crate) findings: Vec<Finding>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) verdict: Verdict,
    /// What was looked at: `certificate-drift`, `certificate-expiry`, `certificate-files`, `persistent-auth`, `health`, `handover`,
    /// `configuration`.
    pub(crate) check: String,
    /// Of what: a service, or `service/server`.
    pub(crate) subject: String,
    /// What was found.
    pub(crate) detail: String,
    /// What to do; empty if the detail says it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) remedy: String,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// An operator has to do something.
    Wrong,
    /// To know.
    Note,
}

impl Diagnosis {
    /// How many things are wrong.
    pub(crate) fn wrong(&self) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.verdict == Verdict::Wrong)
            .count()
    }

    fn check(&mut self, finding: Option<Finding>) {
        self.checks += 1;
        self.findings.extend(finding);
    }
}

/// Looks through a status; `warnings` is what the configuration costs.
pub(crate) fn diagnose(status: &Status, warnings: &[String]) -> Diagnosis {
    let mut diagnosis = Diagnosis {
        checks: 0,
        findings: Vec::new(),
    };
    for service in &status.services {
        for certificate in &service.certificates {
            diagnosis.check(expiry(service, certificate));
        }
        for problem in &service.file_problems {
            let remedy = "lb goes on with what it has; the files are read again when they change";
            diagnosis.check(Some(Finding {
                remedy: remedy.to_owned(),
                ..finding(Verdict::Wrong, "certificate-files", &service.name, problem)
            }));
        }
        for server in &service.servers {
            let label = label(service, server);
            diagnosis.check(health(&label, server));
            if server.certificate.is_some() {
                diagnosis.check(certificate_drift(&label, server));
            }
        }
        if let Some(handover) = &service.handover {
            diagnosis.check(moves(service, handover));
        }
        if !service.http.is_empty() {
            diagnosis.check(persistent_auth(service));
        }
    }
    for warning in warnings {
        let note = finding(Verdict::Note, "configuration", "lb.toml", warning);
        diagnosis.check(Some(note));
    }
    diagnosis
}

fn finding(verdict: Verdict, check: &str, subject: &str, detail: &str) -> Finding {
    Finding {
        verdict,
        check: check.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
        remedy: String::new(),
    }
}

fn label(service: &ServiceStatus, server: &ServerStatus) -> String {
    match &server.route {
        Some(route) => format!("{}/{route}/{}", service.name, server.name),
        None => format!("{}/{}", service.name, server.name),
    }
}

fn expiry(service: &ServiceStatus, certificate: &CertificateStatus) -> Option<Finding> {
    if certificate.days_left >= EXPIRY_DAYS {
        return None;
    }
    let CertificateStatus {
        title,
        file,
        not_after,
        ..
    } = certificate;
    let ends = if certificate.days_left < 0 {
        "ended"
    } else {
        "ends"
    };
    let detail = format!("{title} in {file} {ends} at {not_after}");
    let remedy = "renew it, on the servers as well if they have Extended Protection; lb reads the files again by itself";
    Some(Finding {
        remedy: remedy.to_owned(),
        ..finding(Verdict::Wrong, "certificate-expiry", &service.name, &detail)
    })
}

fn certificate_drift(label: &str, server: &ServerStatus) -> Option<Finding> {
    let seen = server.certificate.as_ref()?;
    let (verdict, remedy) = match seen.state.as_str() {
        "same" => return None,
        "differs" => (Verdict::Wrong, drift::REMEDY),
        "staged" => (Verdict::Wrong, drift::REMEDY_STAGED),
        _ => (Verdict::Note, ""),
    };
    Some(Finding {
        remedy: remedy.to_owned(),
        ..finding(verdict, "certificate-drift", label, &seen.detail)
    })
}

fn health(label: &str, server: &ServerStatus) -> Option<Finding> {
    (!server.up).then(|| finding(Verdict::Wrong, "health", label, &server.reason))
}

fn moves(service: &ServiceStatus, handover: &HandoverStatus) -> Option<Finding> {
    let reason = handover.unfit.as_ref()?;
    let detail = format!(
        "big connections stay on af_xdp, where they are slower, because they can't move to the kernel's TCP: {reason}"
    );
    let remedy = "see to that and start lb again, or say handover = \"off\", or transport = \"kernel\" if most connections are big";
    Some(Finding {
        remedy: remedy.to_owned(),
        ..finding(Verdict::Note, "handover", &service.name, &detail)
    })
}

fn persistent_auth(service: &ServiceStatus) -> Option<Finding> {
    let mut counters = service.http.iter();
    let count = counters.find(|counter| counter.name == "persistent_auth_false")?;
    if count.value == 0 {
        return None;
    }
    let detail = format!(
        "{} responses said Persistent-Auth: false: the server ends logins after one request, and clients that trust theirs to last \
         fail with 401 or 400",
        count.value
    );
    let remedy =
        "take a header mode without Via, and look for another proxy on either side that adds one";
    Some(Finding {
        remedy: remedy.to_owned(),
        ..finding(Verdict::Wrong, "persistent-auth", &service.name, &detail)
    })
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in &self.findings {
            let Finding {
                verdict,
                check,
                subject,
                detail,
                remedy,
            } = found;
            let verdict = match verdict {
                Verdict::Wrong => "WRONG",
                Verdict::Note => "note ",
            };
            writeln!(f, "{verdict} {check} {subject}: {detail}")?;
            if !remedy.is_empty() {
                writeln!(f, "      {remedy}")?;
            }
        }
        let (checks, wrong) = (self.checks, self.wrong());
        writeln!(f, "{checks} checks, {wrong} found something wrong")
    }
}

#[cfg(test)]
mod tests;
