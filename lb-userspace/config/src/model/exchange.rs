//! How the exchange of a request and its response is relayed, beyond headers: expectations and tunnels.

use std::fmt;

use http::HeaderValue;

/// `expect`: what becomes of `Expect: 100-continue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The server gets it, and the client gets the server's 100.
    Forward,
    /// The client gets a 100 at once, and the server doesn't see the header.
    Local,
    /// Nobody gets anything.
    Strip,
    /// As `Forward`, and no body is taken before the server's 100 or its response.
    Require,
}

/// One of `upgrade`: a protocol that a connection may change to, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UpgradeTo(pub(crate) String);

impl UpgradeTo {
    /// As in `Upgrade`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name of RFC 9110 section 16.7, without version; `h2c` would get around all that `lb` does with requests.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let is_token_byte =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'+');
        let is_name = !text.is_empty() && text.bytes().all(is_token_byte);
        let name = text.to_ascii_lowercase();
        (is_name && name != "h2c" && HeaderValue::from_str(&name).is_ok()).then_some(Self(name))
    }
}

impl fmt::Display for UpgradeTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `upgrade` and `connect`: which connections may become something else than HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// Protocols that a client may change to; without them `Upgrade` is removed.
    pub upgrade: Vec<UpgradeTo>,
    /// Whether `CONNECT` is passed on.
    pub connect: bool,
}
