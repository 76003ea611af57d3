//! What a client shows in its TLS handshake, and how servers are told whose certificate it has proved to have, in a header of
//! the operator's choice.
//!
//! Invariant: a server that gets the header got it from us. What a client sends under that name is removed, also where
//! it writes `_` for `-`, which CGI and ASP.NET take for the same name.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::headers;
use crate::tls::{Leaf, ServerTls};

/// What a client showed in its TLS handshake.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) server_name: Option<Rc<str>>,
    pub(crate) certificate: Option<Rc<Leaf>>,
}

impl Shown {
    pub(crate) fn on(tls: &rustls::ServerConnection) -> Self {
        let leaf = tls.peer_certificates().and_then(<[_]>::first);
        Self {
            server_name: tls.server_name().map(Rc::from),
            certificate: leaf.and_then(|leaf| Leaf::read(leaf).ok().map(Rc::new)),
        }
    }
}

/// Puts the subject of the client's certificate into `headers`, if that is asked for.
pub(crate) fn tell(tls: Option<&ServerTls>, certificate: Option<&Leaf>, headers: &mut HeaderMap) {
    let Some(name) = tls.and_then(ServerTls::subject_header) else {
        return;
    };
    headers::retain(headers, |other| !is_taken_for(other, name));
    if let Some(leaf) = certificate {
        headers.insert(name, subject(leaf));
    }
}

fn is_taken_for(name: &HeaderName, ours: &HeaderName) -> bool {
    let plain = |byte| if byte == b'_' { b'-' } else { byte };
    let bytes = |name: &HeaderName| name.as_str().bytes().map(plain).collect::<Vec<_>>();
    bytes(name) == bytes(ours)
}

/// The subject, without what would end a header line.
fn subject(leaf: &Leaf) -> HeaderValue {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = leaf.subject.chars().map(clean).collect();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_servers_confuse_are_one() {
        let ours = HeaderName::from_static("x-client-subject");
        for (name, expected) in [
            ("x-client-subject", true),
            ("x_client_subject", true),
            ("x-client_subject", true),
            ("x-client-subject-2", false),
            ("xclientsubject", false),
        ] {
            assert_eq!(
                is_taken_for(&HeaderName::from_static(name), &ours),
                expected,
                "{name}"
            );
        }
    }
}
