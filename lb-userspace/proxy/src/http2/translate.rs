//! From the head of an HTTP/2 request to one of HTTP/1.1 that says the same (RFC 9113 sections 8.2 and 8.3).
//!
//! Invariant: what comes out has one `Host`, an origin-form target (or `*`), at most one `Cookie`, and no value that
//! another reader would trim. What is malformed is refused, never mended. The codec (`h2`) has refused before: upper
//! case and bytes that no name or value may have, connection-specific fields, unknown or repeated pseudo-fields, and it
//! refuses a body whose length isn't the one declared.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Uri, request};

use crate::error::{Error, Kind};
use crate::headers::BodyPresence;

/// Makes `head` read as if it had come in HTTP/1.1, but for its version.
pub(crate) fn to_http1(head: &mut request::Parts, body: BodyPresence) -> Result<(), Error> {
    if head.method == Method::CONNECT {
        return Err(Error::new(Kind::Tunnel, "CONNECT on an HTTP/2 stream"));
    }
    let known = [Scheme::HTTP, Scheme::HTTPS];
    if head
        .uri
        .scheme()
        .is_some_and(|scheme| !known.contains(scheme))
    {
        return refused("a :scheme other than http and https");
    }
    if head.headers.values().any(is_padded) {
        return refused("a field value with white space at an end (RFC 9113 section 8.2.1)");
    }
    let target = target(&head.uri)?;
    let host = host(head)?;
    head.headers = rebuilt(&head.headers, host, cookie(&head.headers)?);
    head.uri = target;
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
    if expects_body && body == BodyPresence::Absent && !head.headers.contains_key(CONTENT_LENGTH) {
        // Here the end of a stream says it; there a server may insist on a length (411).
        head.headers
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(())
}

fn refused<T>(detail: &str) -> Result<T, Error> {
    Err(Error::new(Kind::BadRequest, detail))
}

fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
}

/// `:path`, which is never empty and never a whole URL.
fn target(uri: &Uri) -> Result<Uri, Error> {
    match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') || path.as_str() == "*" => {
            Ok(Uri::from(path.clone()))
        }
        _ => refused("a :path that doesn't begin with / (RFC 9113 section 8.3.1)"),
    }
}

/// `:authority`, which a `Host` beside it must repeat, or else `Host`.
fn host(head: &request::Parts) -> Result<HeaderValue, Error> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match (authority, host, more) {
        (Some(authority), _, _) if authority.contains('@') => {
            refused("an :authority with credentials (RFC 9113 section 8.3.1)")
        }
        (Some(authority), None, None) => {
            HeaderValue::try_from(authority).or_else(|_| refused("an :authority that is no host"))
        }
        (Some(authority), Some(host), None)
            if host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) =>
        {
            Ok(host.clone())
        }
        (None, Some(host), None) if !host.is_empty() => Ok(host.clone()),
        (None, None, _) => refused("neither :authority nor Host"),
        _ => refused("a Host that is not the :authority (RFC 9113 section 8.3.1)"),
    }
}

/// All crumbs as one (RFC 9113 section 8.2.3); `None` if there are none.
fn cookie(headers: &HeaderMap) -> Result<Option<HeaderValue>, Error> {
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.is_empty() {
        return Ok(None);
    }
    match HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        Ok(cookie) => Ok(Some(cookie)),
        Err(_) => refused("cookies that can't be joined"),
    }
}

/// The same fields in their order, `Host` first, as servers and people expect it.
fn rebuilt(headers: &HeaderMap, host: HeaderValue, mut cookie: Option<HeaderValue>) -> HeaderMap {
    let mut all = HeaderMap::with_capacity(headers.len() + 2);
    all.insert(HOST, host);
    for (name, value) in headers {
        if name == COOKIE {
            all.extend(cookie.take().map(|cookie| (COOKIE, cookie)));
        } else if name != HOST {
            all.append(name.clone(), value.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests;
