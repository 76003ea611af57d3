//! What an `Authorization` header offers: a leg of a handshake, a whole login, or nonsense.
//!
//! Invariant: parsing decides by the token's own bytes, as SSPI does, not by the scheme's name alone.
//! Not here: whether the credential is good (`session`, `acceptor`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
/// The credential of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// No `Authorization` header.
    Absent,
    /// A leg of NTLM, raw or inside SPNEGO.
    Handshake {
        scheme: Scheme,
        leg: Leg,
        token: Vec<u8>,
    },
    /// The stand-in for a Kerberos ticket: a login in one leg that binds to the connection.
    OneLeg { user: String, password: String },
    /// A login for one request.
    Basic { user: String, password: String },
    /// A scheme or token that nobody here understands.
    Malformed,
}

/// Authentication scheme of a handshake, for the answer's `WWW-Authenticate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Negotiate,
    Ntlm,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Ntlm => "NTLM",
        }
    }
}

/// Place of a token in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// NTLM type 1, or an SPNEGO initial token.
    First,
    /// NTLM type 3, or an SPNEGO response token: needs a first leg on the same connection.
    Later,
}

impl Credential {
    /// Reads the credential of a request, the value of its `Authorization`.
    pub(super) fn of(authorization: Option<&str>) -> Self {
        authorization.map_or(Self::Absent, |value| {
            Self::parse(value).unwrap_or(Self::Malformed)
        })
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, token) = value.split_once(' ')?;
        let token = STANDARD.decode(token.trim()).ok()?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "basic" => {
                let (user, password) = user_and_password(&token)?;
                return Some(Self::Basic { user, password });
            }
            "negotiate" => Scheme::Negotiate,
            "ntlm" => Scheme::Ntlm,
            _ => return None,
        };
        if let Some(rest) = token.strip_prefix(ONE_LEG) {
            let (user, password) = user_and_password(rest)?;
            return (scheme == Scheme::Negotiate).then_some(Self::OneLeg { user, password });
        }
        let leg = leg(&token)?;
        Some(Self::Handshake { scheme, leg, token })
    }
}

/// The value of an `Authorization` header that logs `user` in with one leg: a stand-in for a Kerberos service
/// ticket, which needs a domain controller to make. Only its place in the protocol is like Kerberos.
pub fn one_leg(user: &super::User) -> String {
    let token = [
        ONE_LEG,
        format!("{}:{}", user.name, user.password).as_bytes(),
    ]
    .concat();
    format!("Negotiate {}", STANDARD.encode(token))
}

fn user_and_password(bytes: &[u8]) -> Option<(String, String)> {
    let (user, password) = std::str::from_utf8(bytes).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// MS-NLMP §2.2.1: signature, then the message type in little-endian. RFC 4178 §4.2: an initial token begins
/// with the tag of RFC 2743 §3.1 (0x60), a response with context tag 1 (0xa1).
fn leg(token: &[u8]) -> Option<Leg> {
    if let Some(rest) = token.strip_prefix(b"NTLMSSP\0") {
        return match *rest.first_chunk()? {
            [1, 0, 0, 0] => Some(Leg::First),
            [3, 0, 0, 0] => Some(Leg::Later),
            _ => None,
        };
    }
    match *token.first()? {
        0x60 => Some(Leg::First),
        0xa1 => Some(Leg::Later),
        _ => None,
    }
}

const ONE_LEG: &[u8] = b"ONELEG:";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::USERS;

    fn check(value: &str, expected: impl Fn(&Credential) -> bool) {
        let credential = Credential::of(Some(value));
        assert!(
            expected(&credential),
            "{value:?} was read as {credential:?}"
        );
    }

    #[test]
    fn tokens_are_told_apart_by_their_bytes() {
        use Credential::{Basic, Handshake, Malformed, OneLeg};
        let raw =
            |kind: u8| STANDARD.encode([b"NTLMSSP\0".as_slice(), &[kind, 0, 0, 0, 9]].concat());
        let first = |c: &Credential| {
            matches!(
                c,
                Handshake {
                    leg: Leg::First,
                    ..
                }
            )
        };
        let later = |c: &Credential| {
            matches!(
                c,
                Handshake {
                    leg: Leg::Later,
                    ..
                }
            )
        };
        check(&format!("NTLM {}", raw(1)), first);
        check(&format!("negotiate {}", raw(1)), first);
        check(&format!("nTLM {}", raw(3)), later);
        check(
            &format!("Negotiate {}", STANDARD.encode([0x60, 0x48])),
            first,
        );
        check(
            &format!("Negotiate {}", STANDARD.encode([0xa1, 0x48])),
            later,
        );
        check(&format!("NTLM {}", raw(2)), |c| *c == Malformed);
        check("NTLM", |c| *c == Malformed);
        check("NTLM %%%", |c| *c == Malformed);
        check("Bearer abcd", |c| *c == Malformed);
        check(
            "Basic YTpiOmM=",
            |c| matches!(c, Basic { user, password } if user == "a" && password == "b:c"),
        );
        check(
            &one_leg(&USERS[1]),
            |c| matches!(c, OneLeg { user, .. } if user == "bob"),
        );
        assert_eq!(Credential::of(None), Credential::Absent);
    }
}
