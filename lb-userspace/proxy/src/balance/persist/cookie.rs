//! A cookie of ours that names a client's server.
//!
//! Its value is a keyed hash of the server's address: it tells nobody what it names, stays the same as long as the key does,
//! and is the same for all routes and workers. No server ever sees it, and no other cookie is changed by a byte. It decides
//! about nothing but the server, so a forged one is worth no more than another try.

use std::hash::Hasher as _;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::balance::Server;
use crate::headers;

/// What names are hashed with.
#[derive(Clone, Copy)]
pub struct CookieKey(pub [u64; 2]);

/// The cookie of one route.
#[derive(Debug)]
pub struct Cookie {
    name: String,
    /// Of each server, in the route's order: the value, and the line that sets it.
    servers: Vec<(String, HeaderValue)>,
}

impl Cookie {
    /// A cookie called `name`, which must be a token (RFC 6265 section 4.1.1), with `attributes` such as `; Secure`.
    /// `None` if it isn't one.
    pub fn new(
        name: &str,
        attributes: &str,
        key: CookieKey,
        servers: &[Arc<Server>],
    ) -> Option<Self> {
        let servers = servers.iter().map(|server| {
            let value = value(key, server);
            let line = format!("{name}={value}; Path=/; HttpOnly{attributes}");
            let line = HeaderValue::try_from(line).ok()?;
            Some((value, line))
        });
        Some(Self {
            name: name.to_owned(),
            servers: servers.collect::<Option<_>>()?,
        })
    }

    /// Takes the cookie out of a request. The server that it names, if it is one of the route's.
    pub(in super::super) fn take(&self, headers: &mut HeaderMap) -> Option<usize> {
        let lines = headers.get_all(COOKIE).iter();
        let mut found = None;
        let mut present = false;
        for value in lines.flat_map(|line| self.values(line.as_bytes())) {
            present = true;
            let known = || self.servers.iter().position(|(v, _)| v.as_bytes() == value);
            found = found.or_else(known);
        }
        if present {
            headers::edit_lines(headers, &COOKIE, |line| self.without(line));
        }
        found
    }

    /// The line that sets the cookie to the server at `index`.
    pub(in super::super) fn line(&self, index: usize) -> Option<HeaderValue> {
        Some(self.servers.get(index)?.1.clone())
    }

    /// The values that a `Cookie` line gives to ours.
    fn values<'a>(&'a self, line: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        line.split(|&b| b == b';')
            .filter_map(|pair| self.is_ours(pair))
    }

    /// The value, if a pair is ours.
    fn is_ours<'a>(&self, pair: &'a [u8]) -> Option<&'a [u8]> {
        let rest = pair.trim_ascii().strip_prefix(self.name.as_bytes())?;
        rest.strip_prefix(b"=")
    }

    /// The line without our pair, and without the space that parted it from its neighbour; `None` if nothing is left.
    fn without(&self, line: &HeaderValue) -> Option<HeaderValue> {
        let bytes = line.as_bytes();
        if self.values(bytes).next().is_none() {
            return Some(line.clone());
        }
        let pairs = bytes.split(|&b| b == b';');
        let kept: Vec<_> = pairs.filter(|pair| self.is_ours(pair).is_none()).collect();
        let line = kept.join(&b';');
        // Ours may have been the first; then the second's space begins the line.
        HeaderValue::from_bytes(line.trim_ascii_start())
            .ok()
            .filter(|line| !line.is_empty())
    }
}

fn value(key: CookieKey, server: &Server) -> String {
    let CookieKey([k0, k1]) = key;
    let mut hasher = SipHasher24::new_with_keys(k0, k1);
    hasher.write(server.address().to_string().as_bytes());
    format!("{:032x}", hasher.finish128().as_u128())
}

/// Never the key itself: settings are printed.
impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn cookie() -> Cookie {
        let server = |port| {
            let address = ([127, 0, 0, 1], port).into();
            Arc::new(Server::new("s", address, NonZeroU16::MIN))
        };
        let servers = [server(1), server(2)];
        Cookie::new("lb-server", "; Secure", CookieKey([1, 2]), &servers).unwrap()
    }

    fn value_of(cookie: &Cookie, index: usize) -> String {
        cookie.servers[index].0.clone()
    }

    #[test]
    fn the_line_names_no_server_and_is_for_us_alone() {
        let cookie = cookie();
        let line = cookie.line(1).unwrap();
        let expected = format!(
            "lb-server={}; Path=/; HttpOnly; Secure",
            value_of(&cookie, 1)
        );
        assert_eq!(line, expected);
        assert_ne!(value_of(&cookie, 0), value_of(&cookie, 1));
        assert_eq!(cookie.line(2), None);
    }

    #[test]
    fn ours_is_taken_out_and_the_others_stay_as_they_are() {
        let cookie = cookie();
        let ours = format!("lb-server={}", value_of(&cookie, 1));
        let foreign = "lb-server=0123".to_owned();
        // Lines in, the server found, lines out.
        let table: &[(&[&str], Option<usize>, &[&str])] = &[
            (&["a=1; b=2"], None, &["a=1; b=2"]),
            (&[&ours], Some(1), &[]),
            (&[&format!("a=1; {ours}; b=2")], Some(1), &["a=1; b=2"]),
            (
                &[&format!("{ours}; a=1;b=\"x y\"")],
                Some(1),
                &["a=1;b=\"x y\""],
            ),
            (&[&format!("a=1;  c ;{ours}")], Some(1), &["a=1;  c "]),
            (&["a=1", &ours, "b=2"], Some(1), &["a=1", "b=2"]),
            (&[&foreign], None, &[]),
            (&[&format!("{foreign}; {ours}; a=1")], Some(1), &["a=1"]),
            (
                &["xlb-server=1; lb-server2=3"],
                None,
                &["xlb-server=1; lb-server2=3"],
            ),
            (&["a=lb-server=1"], None, &["a=lb-server=1"]),
        ];
        for (lines, found, left) in table {
            let mut headers = HeaderMap::new();
            headers.append("a", HeaderValue::from_static("first"));
            for line in *lines {
                headers.append(COOKIE, HeaderValue::from_str(line).unwrap());
            }
            headers.append("z", HeaderValue::from_static("last"));
            assert_eq!(cookie.take(&mut headers), *found, "{lines:?}");
            let cookies: Vec<_> = headers.get_all(COOKIE).iter().collect();
            assert_eq!(cookies, *left, "{lines:?}");
            let order: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
            let expected: &[&str] = if left.is_empty() {
                &["a", "z"]
            } else {
                &["a", "cookie", "z"]
            };
            assert_eq!(order, expected, "{lines:?}");
        }
    }

    #[test]
    fn the_value_hangs_on_the_key() {
        let server = Server::new("s", ([127, 0, 0, 1], 1).into(), NonZeroU16::MIN);
        assert_ne!(
            value(CookieKey([1, 2]), &server),
            value(CookieKey([1, 3]), &server)
        );
        assert_eq!(value(CookieKey([1, 2]), &server).len(), 32);
    }
}
