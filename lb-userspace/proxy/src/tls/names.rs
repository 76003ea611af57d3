//! Which of a service's certificates a client is shown: by the name that it asks for (SNI, RFC 6066 section 3).
//!
//! Invariant: a name that several certificates have is the first one's; an exact name goes before a wildcard. Nothing
//! here changes: other certificates are another [`Names`].

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Leaf;

/// Certificates by name.
#[derive(Debug)]
pub(super) struct Names {
    keys: Vec<Arc<CertifiedKey>>,
    exact: HashMap<String, usize>,
    /// What `*.` stands before; it stands for one label (RFC 9525 section 6.3).
    below: HashMap<String, usize>,
    strict: bool,
}

/// A name of a certificate that clients don't get for it, because an earlier one has it, too.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shadowed {
    pub(super) name: String,
    pub(super) by: usize,
}

impl Names {
    /// The certificates `keys`; `leaves` says what is in them. Clients that ask for none of their names get the first one,
    /// or with `strict` none.
    pub(super) fn new(keys: Vec<Arc<CertifiedKey>>, leaves: &[Leaf], strict: bool) -> Self {
        let mut names = Self {
            keys,
            exact: HashMap::new(),
            below: HashMap::new(),
            strict,
        };
        for (index, leaf) in leaves.iter().enumerate() {
            for name in &leaf.names {
                let (map, name) = names.place(name);
                map.entry(name.to_owned()).or_insert(index);
            }
        }
        names
    }

    fn place<'a>(&mut self, name: &'a str) -> (&mut HashMap<String, usize>, &'a str) {
        match name.strip_prefix("*.") {
            Some(rest) => (&mut self.below, rest),
            None => (&mut self.exact, name),
        }
    }

    /// Names of the certificate at `index` that are shown for none of its names.
    pub(super) fn shadowed(&self, index: usize, leaf: &Leaf) -> Vec<Shadowed> {
        let owner = |name: &str| match name.strip_prefix("*.") {
            Some(rest) => self.below.get(rest).copied(),
            None => self.exact.get(name).copied(),
        };
        let names = leaf.names.iter().filter_map(|name| {
            let by = owner(name).filter(|&by| by != index)?;
            let name = name.clone();
            Some(Shadowed { name, by })
        });
        names.collect()
    }

    /// Which certificate a client gets that asks for `name`.
    pub(super) fn find(&self, name: Option<&str>) -> Option<usize> {
        let found = name.and_then(|name| {
            let lower;
            let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                lower = name.to_ascii_lowercase();
                &lower
            } else {
                name
            };
            let wild = || self.below.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(wild).copied()
        });
        let default = (!self.strict && !self.keys.is_empty()).then_some(0);
        found.or(default)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.keys.get(self.find(hello.server_name())?).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Fingerprint;

    fn leaf(names: &[&str]) -> Leaf {
        Leaf {
            subject: String::new(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            fingerprint: Fingerprint::of(&Vec::new().into()),
            not_after: 0,
            not_after_text: String::new(),
        }
    }

    fn names(leaves: &[Leaf], strict: bool) -> Names {
        let made = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap_or_else(|error| {
            panic!("{error}");
        });
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let key = key.unwrap_or_else(|error| panic!("{error}"));
        let chain = vec![made.cert.der().clone()];
        let key = CertifiedKey::from_der(chain, key, &crate::tls::provider());
        let key = Arc::new(key.unwrap_or_else(|error| panic!("{error}")));
        Names::new(vec![key; leaves.len()], leaves, strict)
    }

    #[test]
    fn the_most_exact_name_wins_and_then_the_first() {
        let leaves = [
            leaf(&["mail.example.com", "*.example.com"]),
            leaf(&["autodiscover.example.com", "other.example.org"]),
            leaf(&["*.example.com", "*.example.org"]),
        ];
        for strict in [false, true] {
            let names = names(&leaves, strict);
            let default = (!strict).then_some(0);
            for (name, expected) in [
                (Some("mail.example.com"), Some(0)),
                (Some("MAIL.Example.com"), Some(0)),
                (Some("autodiscover.example.com"), Some(1)),
                (Some("any.example.com"), Some(0)),
                (Some("any.example.org"), Some(2)),
                (Some("other.example.org"), Some(1)),
                // One label, no less and no more.
                (Some("example.org"), default),
                (Some("a.b.example.org"), default),
                (Some("stranger"), default),
                (None, default),
            ] {
                assert_eq!(names.find(name), expected, "{name:?} {strict}");
            }
        }
    }

    #[test]
    fn names_that_are_never_asked_of_a_certificate_are_known() {
        let leaves = [
            leaf(&["a.example", "*.example"]),
            leaf(&["a.example", "b.example"]),
            leaf(&["*.example"]),
        ];
        let names = names(&leaves, false);
        let shadowed = |index: usize| {
            let shadowed = names.shadowed(index, &leaves[index]);
            let pairs = shadowed.into_iter().map(|one| (one.name, one.by));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(shadowed(0), []);
        assert_eq!(shadowed(1), [("a.example".to_owned(), 0)]);
        assert_eq!(shadowed(2), [("*.example".to_owned(), 0)]);
    }
}
