//! The virtual directories of Exchange's front end: what each offers to log in with, and how it guards the login.
//!
//! Invariant: the table is that of captured Exchange 2016 and 2019 servers, and of Microsoft's advice for Extended
//! Protection; tests choose rows of it, they don't change it. Not here: what a directory answers (`content`).

use super::credential::{Credential, Scheme};

/// A virtual directory.
#[derive(Debug)]
pub(super) struct Vdir {
    /// First part of its paths.
    pub(super) name: &'static str,
    /// What a 401 offers, in this order.
    pub(super) offers: &'static [&'static str],
    /// Extended Protection, where it is on.
    pub(super) protection: Protection,
}

/// `extendedProtection tokenChecking` of IIS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// Nothing is checked.
    None,
    /// A login that names its TLS channel must name ours; one that names none is good.
    Allow,
    /// A login must name our TLS channel.
    Require,
}

impl Protection {
    /// As the acceptor is asked for it.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Allow => Some("allow"),
            Self::Require => Some("require"),
        }
    }
}

impl Vdir {
    /// The directory that `path` lies in; what lies in none is like a site without directories.
    pub(super) fn of(path: &str) -> &'static Self {
        let first = path.trim_start_matches('/').split(['/', '?']).next();
        let first = first.unwrap_or_default();
        VDIRS
            .iter()
            .find(|vdir| vdir.name.eq_ignore_ascii_case(first))
            .unwrap_or(&SITE)
    }

    /// Whether it takes this kind of credential.
    pub(super) fn takes(&self, credential: &Credential) -> bool {
        let has = |scheme: &str| self.offers.iter().any(|offer| offer.starts_with(scheme));
        match credential {
            Credential::Absent | Credential::Malformed => true,
            Credential::Handshake { scheme, .. } => has(scheme.name()),
            Credential::OneLeg { .. } => has(Scheme::Negotiate.name()),
            Credential::Basic { .. } => self.name.is_empty() || has("Basic"),
        }
    }
}

const WINDOWS: &[&str] = &["Negotiate", "NTLM"];
const BASIC: &[&str] = &["Basic realm=\"mail.lab.test\""];
const ALL: &[&str] = &["Negotiate", "NTLM", "Basic realm=\"mail.lab.test\""];
const KERBEROS: &[&str] = &["Negotiate"];

const VDIRS: [Vdir; 10] = [
    vdir("owa", BASIC, Protection::Require),
    vdir("ecp", BASIC, Protection::Require),
    vdir("ews", WINDOWS, Protection::Allow),
    vdir("autodiscover", ALL, Protection::None),
    vdir("mapi", WINDOWS, Protection::Require),
    vdir("rpc", ALL, Protection::Require),
    vdir("microsoft-server-activesync", BASIC, Protection::Allow),
    vdir("oab", WINDOWS, Protection::Allow),
    vdir("powershell", KERBEROS, Protection::None),
    vdir("api", WINDOWS, Protection::Require),
];

/// Everything else; takes Basic without offering it.
const SITE: Vdir = vdir("", WINDOWS, Protection::None);

const fn vdir(name: &'static str, offers: &'static [&'static str], protection: Protection) -> Vdir {
    Vdir {
        name,
        offers,
        protection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_in_directories_whatever_their_case() {
        let check = |path: &str, name: &str| assert_eq!(Vdir::of(path).name, name, "{path}");
        check("/EWS/Exchange.asmx", "ews");
        check("/Rpc?a", "rpc");
        check(
            "/Microsoft-Server-ActiveSync?Cmd=Ping",
            "microsoft-server-activesync",
        );
        check("/owafoo", "");
        check("/whoami", "");
        check("/", "");
    }

    #[test]
    fn a_directory_takes_what_it_offers() {
        let basic = Credential::Basic {
            user: String::new(),
            password: String::new(),
        };
        assert!(Vdir::of("/owa/").takes(&basic));
        assert!(!Vdir::of("/ews/").takes(&basic));
        let login = Credential::OneLeg {
            user: String::new(),
            password: String::new(),
        };
        assert!(Vdir::of("/ews/").takes(&login));
        assert!(!Vdir::of("/microsoft-server-activesync").takes(&login));
        assert!(Vdir::of("/owa/").takes(&Credential::Absent));
    }
}
