//! Recognises credentials that authenticate a TCP connection instead of a request.
//!
//! NTLM and, with `authPersistNonNTLM` as Exchange sets it, Kerberos leave their identity on the connection that
//! carried them: whoever sends on it next is that user. So such a connection belongs to one client for ever.
//! Invariant: in doubt a header counts as such a credential, because a needless pin costs a connection and a
//! missing one gives away a mailbox. Not here: what pinning does, which is [`crate::upstream`].

use std::fmt;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// MS-N2HT 2.2: whether the authentication just completed holds for the connection.
const PERSISTENT_AUTH: HeaderName = HeaderName::from_static("persistent-auth");

/// Why an upstream connection belongs to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PinReason {
    /// The client's request carries a credential that authenticates the connection.
    Credential,
    /// The server offers to authenticate the connection, and the client's next request may accept.
    Challenge,
    /// The server says that the connection is authenticated.
    PersistentAuth,
    /// The server was told by a PROXY header whom the connection is for.
    ProxyHeader,
    /// The connection is to become something else than HTTP.
    Tunnel,
}

impl PinReason {
    /// The reason that lies in a request, before it is sent: a one-leg Kerberos login is answered with 200
    /// and no challenge, so no response would ever tell.
    pub(crate) fn of_request(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(AUTHORIZATION)
            .iter()
            .any(names_connection_scheme)
            .then_some(Self::Credential)
    }

    /// The reason that lies in a response.
    pub(crate) fn of_response(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if status == StatusCode::UNAUTHORIZED && offers_connection_scheme(headers) {
            return Some(Self::Challenge);
        }
        (persistent_auth(headers) == Some(PersistentAuth::True)).then_some(Self::PersistentAuth)
    }
}

impl fmt::Display for PinReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential => "request-credential",
            Self::Challenge => "401-challenge",
            Self::PersistentAuth => "persistent-auth",
            Self::ProxyHeader => "proxy-header",
            Self::Tunnel => "tunnel",
        })
    }
}

/// Schemes that authenticate the connection (RFC 4559; `Nego2` and `Kerberos` are other names of Windows).
const CONNECTION_SCHEMES: [&[u8]; 4] = [b"ntlm", b"negotiate", b"nego2", b"kerberos"];

/// Any word of the value counts, not only the first: servers differ in how they read a list of credentials.
fn names_connection_scheme(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|byte| matches!(byte, b' ' | b'\t' | b','))
        .any(|word| {
            CONNECTION_SCHEMES
                .iter()
                .any(|scheme| word.eq_ignore_ascii_case(scheme))
        })
}

/// By prefix, so that a server's variants (`NTLM2`, `Nego2`, `NegoExtender`) count as well.
fn offers_connection_scheme(headers: &HeaderMap) -> bool {
    let starts = |word: &[u8], prefix: &[u8]| {
        word.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    headers.get_all(WWW_AUTHENTICATE).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| matches!(byte, b' ' | b'\t' | b','))
            .any(|word| starts(word, b"ntlm") || starts(word, b"nego") || starts(word, b"kerberos"))
    })
}

/// The value of `Persistent-Auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PersistentAuth {
    True,
    False,
}

impl fmt::Display for PersistentAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::True => "true",
            Self::False => "false",
        })
    }
}

/// What the server says of the authentication just completed; `None` if nothing, or nothing known.
pub(crate) fn persistent_auth(headers: &HeaderMap) -> Option<PersistentAuth> {
    let value = headers.get(PERSISTENT_AUTH)?.as_bytes();
    if value.eq_ignore_ascii_case(b"true") {
        Some(PersistentAuth::True)
    } else if value.eq_ignore_ascii_case(b"false") {
        Some(PersistentAuth::False)
    } else {
        None
    }
}

/// What a token is, by its first bytes; for traces, which never show the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// NTLM message 1, from the client (MS-NLMP 2.2.1.1).
    NtlmNegotiate,
    /// NTLM message 2, from the server.
    NtlmChallenge,
    /// NTLM message 3, from the client.
    NtlmAuthenticate,
    /// First SPNEGO or Kerberos token (RFC 2743 section 3.1, tag 0x60).
    SpnegoInit,
    /// A later SPNEGO token (RFC 4178 section 4.2.2, tag 0xa1).
    SpnegoResponse,
    /// A token of a connection scheme that is none of the above.
    Opaque,
    /// Any other scheme: Basic, Bearer and the like.
    PerRequest,
}

impl Leg {
    /// The leg that a request carries.
    pub(crate) fn of_request(headers: &HeaderMap) -> Option<Self> {
        headers.get(AUTHORIZATION).map(Self::of_value)
    }

    /// The leg that a response carries: the first challenge with a token.
    pub(crate) fn of_response(headers: &HeaderMap) -> Option<Self> {
        headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .map(Self::of_value)
            .find(|leg| !matches!(leg, Self::Opaque | Self::PerRequest))
    }

    fn of_value(value: &HeaderValue) -> Self {
        if !names_connection_scheme(value) {
            return Self::PerRequest;
        }
        let mut words = value.as_bytes().split(|&byte| byte == b' ');
        let token = words.nth(1).unwrap_or_default();
        // Base64 of "NTLMSSP\0" is "TlRMTVNTUA" and two bits more; the message type follows as a
        // little-endian u32, of which the next characters hold the first byte.
        match token {
            [
                b'T',
                b'l',
                b'R',
                b'M',
                b'T',
                b'V',
                b'N',
                b'T',
                b'U',
                b'A',
                b'A',
                kind,
                ..,
            ] => match kind {
                b'B' => Self::NtlmNegotiate,
                b'C' => Self::NtlmChallenge,
                b'D' => Self::NtlmAuthenticate,
                _ => Self::Opaque,
            },
            // 0x60 is 011000 00, the second character of the pair depends on the length that follows.
            [b'Y', b'A'..=b'P', ..] => Self::SpnegoInit,
            // 0xa1 is 101000 01.
            [b'o', b'Q'..=b'Z' | b'a'..=b'f', ..] => Self::SpnegoResponse,
            _ => Self::Opaque,
        }
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NtlmNegotiate => "ntlm-1",
            Self::NtlmChallenge => "ntlm-2",
            Self::NtlmAuthenticate => "ntlm-3",
            Self::SpnegoInit => "spnego-init",
            Self::SpnegoResponse => "spnego-response",
            Self::Opaque => "opaque",
            Self::PerRequest => "per-request",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Lines<'a> = &'a [(&'static str, &'a str)];

    fn headers(lines: Lines<'_>) -> HeaderMap {
        let mut map = HeaderMap::new();
        for &(name, value) in lines {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn requests_that_pin() {
        let table: &[(&[&str], bool)] = &[
            (&[], false),
            (&["Basic dXNlcjpwdw=="], false),
            (&["Bearer eyJ0eXAi"], false),
            (&["NTLM TlRMTVNTUAABAAAA"], true),
            (&["ntlm abc"], true),
            (&["NEGOTIATE YIIabc"], true),
            (&["Nego2 abc"], true),
            (&["kerberos abc"], true),
            (&["Negotiate\tYIIabc"], true),
            (&["Negotiate"], true),
            (&["Basic dXNlcg==", "NTLM abc"], true),
            (&["Basic dXNlcg==, Negotiate abc"], true),
            (&["NTLMish abc"], false),
        ];
        for &(values, pins) in table {
            let lines: Vec<_> = values.iter().map(|&v| ("authorization", v)).collect();
            let reason = PinReason::of_request(&headers(&lines));
            assert_eq!(reason, pins.then_some(PinReason::Credential), "{values:?}");
        }
    }

    #[test]
    fn responses_that_pin() {
        use PinReason::{Challenge, PersistentAuth};
        let www = "www-authenticate";
        let table: [(u16, Lines<'_>, Option<PinReason>); 9] = [
            (401, &[], None),
            (401, &[(www, "Basic realm=\"x\"")], None),
            (401, &[(www, "Basic"), (www, "ntlm")], Some(Challenge)),
            (401, &[(www, "Negotiate abc")], Some(Challenge)),
            (401, &[(www, "Basic realm=x, NTLM")], Some(Challenge)),
            (401, &[(www, "NegoExtender")], Some(Challenge)),
            (200, &[(www, "Negotiate final-token")], None),
            (200, &[("persistent-auth", "TRUE")], Some(PersistentAuth)),
            (200, &[("persistent-auth", "false")], None),
        ];
        for (status, lines, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            let reason = PinReason::of_response(status, &headers(lines));
            assert_eq!(reason, expected, "{status} {lines:?}");
        }
    }

    #[test]
    fn legs_are_told_apart_by_their_first_bytes() {
        // Tokens as real clients and servers begin them: NTLMSSP messages 1 to 3; 60 48, 60 82 (SPNEGO
        // init with short and long length); a1 81, a1 15 (SPNEGO response).
        let table = [
            ("NTLM TlRMTVNTUAABAAAAB4IIog==", Leg::NtlmNegotiate),
            ("NTLM TlRMTVNTUAACAAAAHgAeADg=", Leg::NtlmChallenge),
            ("NTLM TlRMTVNTUAADAAAAGAAYAHo=", Leg::NtlmAuthenticate),
            ("Negotiate TlRMTVNTUAABAAAAB4IIog==", Leg::NtlmNegotiate),
            ("Negotiate YEgGBisGAQUFAqA+MDygDjAM", Leg::SpnegoInit),
            ("Negotiate YIIFCwYGKwYBBQUCoIIE", Leg::SpnegoInit),
            ("Negotiate oYGQMIGNoAMKAQGh", Leg::SpnegoResponse),
            ("Negotiate oRUwE6ADCgEBoQwG", Leg::SpnegoResponse),
            ("Negotiate", Leg::Opaque),
            ("NTLM alice-1", Leg::Opaque),
            ("Basic dXNlcjpwdw==", Leg::PerRequest),
        ];
        for (value, leg) in table {
            let map = headers(&[("authorization", value)]);
            assert_eq!(Leg::of_request(&map), Some(leg), "{value}");
        }
    }
}
