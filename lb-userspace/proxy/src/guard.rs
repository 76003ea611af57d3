//! The wire guard: what hyper understands, but another reader of the same bytes might understand differently, goes no
//! further.
//!
//! Request smuggling needs two readers that disagree on where a message ends or whose it is. The defences, in order:
//!
//! 1. **hyper's parser** refuses what has no meaning: bare CR, NUL and control bytes, folded lines, space before a
//!    colon, lengths that aren't digits or that differ, a last coding other than `chunked`, `Transfer-Encoding` in
//!    HTTP/1.0, chunk sizes that overflow or aren't followed by CRLF. It answers 400 and closes.
//! 2. **Nothing is passed on as it came.** Both heads are parsed and written anew, bodies are decoded and framed anew:
//!    bare LF, chunk extensions, leading zeros, a `Content-Length` beside `Transfer-Encoding` can't get through,
//!    because there is no code that would write them.
//! 3. **This module** refuses what survives both: codings that hyper ignores but would have to be undone, header names
//!    that some servers take for framing, methods that differ from known ones by case, targets that don't fit their
//!    method, hosts that aren't one host, expectations that aren't one. After a refusal the connection closes, so that
//!    bytes after a doubtful request are never read as the next one.
//! 4. **Trailers of requests end here** ([`crate::body`]): merged into headers by a server, they would get around the
//!    header policy.
//! 5. **A doubtful exchange is the last on its upstream connection** ([`is_last_exchange`], and any response that is
//!    over before its request): if a server did disagree, no other client gets the rest.
//!
//! The suite `tests/desync` and its table `DESYNC.md` say case by case what becomes of published attacks. Not here:
//! paths ([`crate::route`]) and whose identity a connection has ([`crate::identity`]).

use http::header::{CONTENT_LENGTH, EXPECT, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, request, uri};

use crate::error::{Error, Kind};
use crate::headers::{self, BodyPresence};

/// Refuses a request that could be read in two ways, and leaves one spelling of what can't.
pub(crate) fn check(head: &mut request::Parts, body: BodyPresence) -> Result<(), Error> {
    let refused = |detail: &str| Err(Error::new(Kind::BadRequest, detail));
    if differs_by_case(&head.method) {
        return refused("a method that is another one in upper case (RFC 9110 section 9.1)");
    }
    if !fits(&head.method, &head.uri) {
        return refused("a target that its method doesn't allow (RFC 9112 section 3.2)");
    }
    if body == BodyPresence::Present && forbids_body(&head.method) {
        return refused("a method that has no body, with one (RFC 9110 sections 9.3.6 and 9.3.8)");
    }
    if head
        .headers
        .keys()
        .any(|name| resembles_framing(name.as_str()))
    {
        return refused(
            "a header that could be taken for Content-Length, Transfer-Encoding or Host",
        );
    }
    if !is_plain_chunked(&head.headers) {
        return refused("a Transfer-Encoding other than chunked, once");
    }
    if !is_plain_expectation(&head.headers) {
        return refused("an Expect other than 100-continue, once");
    }
    let named = head.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    if !named.chain(authority(&head.uri)).all(is_host) {
        return refused("a Host that isn't a name or address with or without port");
    }
    canonical_length(&mut head.headers);
    if head.headers.contains_key(TRAILER) {
        // Trailers end here, so nothing is left to announce.
        headers::retain(&mut head.headers, |name| name != TRAILER);
    }
    Ok(())
}

/// Refuses a response that could be read in two ways, and leaves one spelling of what can't.
pub(crate) fn check_response(headers: &mut HeaderMap) -> Result<(), Error> {
    let refused = |detail: &str| Err(Error::new(Kind::UpstreamBroken, detail));
    if !is_plain_chunked(headers) {
        return refused("the server's Transfer-Encoding is other than chunked, once");
    }
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        // RFC 9112 section 6.3: a sign of response splitting, which ought to be handled as an error.
        return refused("the server sent both Transfer-Encoding and Content-Length");
    }
    canonical_length(headers);
    Ok(())
}

/// Whether a connection should carry no further request: because servers are known to overlook the body of such a
/// request (CL.0) and take it for the next one, or because a client that knows that this response has no body might
/// leave bytes of it to the next.
pub(crate) fn is_last_exchange(
    method: &Method,
    body: BodyPresence,
    status: StatusCode,
    response: &HeaderMap,
) -> bool {
    let overlooked = body == BodyPresence::Present
        && [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE].contains(method);
    let length = response.get(CONTENT_LENGTH);
    let claims_body =
        response.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length != "0");
    overlooked || (status == StatusCode::NO_CONTENT && claims_body)
}

/// RFC 9110 section 9.1: methods are case-sensitive. Not for all servers: one that takes `head` for `HEAD` sends a
/// `Content-Length` without body, upon which we would wait for the body.
fn differs_by_case(method: &Method) -> bool {
    KNOWN
        .iter()
        .any(|known| known != method && known.as_str().eq_ignore_ascii_case(method.as_str()))
}

const KNOWN: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::HEAD,
    Method::OPTIONS,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
    Method::TRACE,
    Method::CONNECT,
];

/// Whether a target has the form that its method wants (RFC 9112 section 3.2).
fn fits(method: &Method, target: &Uri) -> bool {
    if method == Method::CONNECT {
        // RFC 9112 section 3.2.3: host and port, and nothing else.
        return target.scheme().is_none()
            && target.path_and_query().is_none()
            && target
                .authority()
                .is_some_and(|to| to.port().is_some() && !to.as_str().contains('@'));
    }
    match (target.scheme(), target.authority()) {
        (None, None) => target.path() != "*" || method == Method::OPTIONS,
        (Some(scheme), Some(_)) => [uri::Scheme::HTTP, uri::Scheme::HTTPS].contains(scheme),
        _ => false,
    }
}

/// Host and port of an absolute target; what comes before `@` goes no further.
fn authority(target: &Uri) -> Option<&[u8]> {
    let authority = target.authority()?.as_str();
    authority.rsplit('@').next().map(str::as_bytes)
}

fn forbids_body(method: &Method) -> bool {
    [Method::TRACE, Method::CONNECT].contains(method)
}

/// `content_length`, `Transfer.Encoding` and the like: servers behind a CGI-like interface can't tell them from the real
/// ones.
fn resembles_framing(name: &str) -> bool {
    ["content-length", "transfer-encoding", "host"]
        .iter()
        .any(|&framing| {
            let letters = |text: &'static str| text.bytes().filter(u8::is_ascii_alphanumeric);
            name != framing
                && name
                    .bytes()
                    .filter(u8::is_ascii_alphanumeric)
                    .eq(letters(framing))
        })
}

/// Whether a message is framed by nothing else than `chunked`, if it is coded at all. We undo no other coding.
fn is_plain_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next().is_none_or(|coding| is(coding, b"chunked"));
    first && codings.next().is_none()
}

/// Whether there is no expectation, or the one that RFC 9110 section 10.1.1 knows. It allows 417 for others.
fn is_plain_expectation(headers: &HeaderMap) -> bool {
    let mut expectations = headers.get_all(EXPECT).iter();
    let first = expectations
        .next()
        .is_none_or(|expected| is(expected, b"100-continue"));
    first && expectations.next().is_none()
}

fn is(value: &HeaderValue, expected: &[u8]) -> bool {
    value.as_bytes().eq_ignore_ascii_case(expected)
}

/// Whether a `Host` is a name or an address with or without port, or nothing (RFC 9110 section 7.2). Of a name's bytes,
/// only those that host names are made of: RFC 3986 would also allow `,` and `;`, which other readers split at.
fn is_host(host: &[u8]) -> bool {
    let is_name_byte = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let is_port = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    if let Some(literal) = host.strip_prefix(b"[") {
        let mut parts = literal.splitn(2, |&b| b == b']');
        let address = parts.next().unwrap_or_default();
        let is_address = std::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        return is_address
            && match parts.next() {
                Some([b':', port @ ..]) => is_port(port),
                Some(rest) => rest.is_empty(),
                None => false,
            };
    }
    let mut parts = host.splitn(2, |&b| b == b':');
    parts.next().unwrap_or_default().iter().all(is_name_byte) && parts.next().is_none_or(is_port)
}

/// One line with a plain number where hyper has read one from several lines, a list or leading zeros.
fn canonical_length(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(first), second) = (lines.next(), lines.next()) else {
        return;
    };
    let bytes = first.as_bytes();
    let is_plain =
        bytes.iter().all(u8::is_ascii_digit) && (bytes.len() == 1 || bytes.first() != Some(&b'0'));
    if is_plain && second.is_none() {
        return;
    }
    let number = bytes
        .split(|&b| b == b',')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let zeros = number
        .iter()
        .take_while(|&&b| b == b'0')
        .count()
        .min(number.len().saturating_sub(1));
    // hyper has made sure that all of them are the same digits.
    if let Some(Ok(length)) = number.get(zeros..).map(HeaderValue::from_bytes) {
        headers.insert(CONTENT_LENGTH, length);
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn hosts_are_one_name_or_address() {
        let good = [
            "",
            "h",
            "mail.example.com",
            "a_b:443",
            "h:",
            "192.0.2.1:80",
            "[fd00::1]",
            "[fd00::1]:443",
        ];
        for host in good {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        let bad = [
            "a,b",
            "a b",
            "u@h",
            "h/x",
            "h:80:80",
            "h:x",
            "[fd00::1",
            "[fd00::1]x",
            "[x]",
            "h\u{e9}",
            "a;b",
            "h#",
            "h?",
        ];
        for host in bad {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn targets_fit_their_methods() {
        let table = [
            ("GET", "/", true),
            ("GET", "http://h/x", true),
            ("GET", "HTTPS://h", true),
            ("GET", "ftp://h/x", false),
            ("GET", "*", false),
            ("GET", "h:443", false),
            ("OPTIONS", "*", true),
            ("CONNECT", "h:443", true),
            ("CONNECT", "h", false),
            ("CONNECT", "u@h:443", false),
            ("CONNECT", "/", false),
            ("CONNECT", "http://h:443/", false),
        ];
        for (method, target, expected) in table {
            let head = Request::builder()
                .method(method)
                .uri(target)
                .body(())
                .unwrap();
            assert_eq!(
                fits(head.method(), head.uri()),
                expected,
                "{method} {target}"
            );
        }
    }

    #[test]
    fn lengths_get_one_spelling() {
        let table: &[(&[&str], &str)] = &[
            (&["5"], "5"),
            (&["0"], "0"),
            (&["00"], "0"),
            (&["0005"], "5"),
            (&["5", "5"], "5"),
            (&["05, 05"], "5"),
            (&["100"], "100"),
        ];
        for &(lines, expected) in table {
            let mut headers = HeaderMap::new();
            for &line in lines {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(line));
            }
            canonical_length(&mut headers);
            let got: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
            assert_eq!(got, [expected], "{lines:?}");
        }
    }

    #[test]
    fn names_that_resemble_framing() {
        for name in [
            "content_length",
            "contentlength",
            "transfer-encoding_",
            "transfer.encoding",
            "host-",
        ] {
            assert!(resembles_framing(name), "{name}");
        }
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "x-host",
            "content-encoding",
            "hosts",
        ] {
            assert!(!resembles_framing(name), "{name}");
        }
    }
}
