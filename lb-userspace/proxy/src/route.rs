//! Which of a service's routes takes a request: by host, path, method and headers.
//!
//! Invariant: a request is forwarded only if every way in which a server may read its path leads to the same route.
//! Servers decode `%65`, turn `\` into `/` and go up at `..`, each in its own way; whoever could say `/owa/..%2fecp` and
//! be taken for `/owa` would get around what the configuration says of `/ecp`. The path itself is never changed.
//! Not here: what a route does with its requests.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request};

use crate::counters::Counter;
use crate::error::{Error, Kind};
use crate::service::Forwarding;

/// Some of a service's requests, and what becomes of them.
#[derive(Debug)]
pub struct Route {
    /// Name in logs.
    pub name: String,
    /// Which requests.
    pub when: When,
    /// What becomes of them.
    pub action: Action,
    /// What is counted.
    pub counters: RouteCounters,
}

/// The counters of one route, over all workers.
#[derive(Debug, Default)]
pub struct RouteCounters {
    /// Requests that it took.
    pub requests: Counter,
}

/// What a request must be like: for each list that isn't empty, one of it; of `headers`, all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Names in `Host`, without port.
    pub hosts: Vec<HostPattern>,
    /// Beginnings of the path.
    pub paths: Vec<PathPrefix>,
    /// Whole paths in lower case, beside the beginnings.
    pub whole_paths: Vec<String>,
    /// Methods.
    pub methods: Vec<Method>,
    /// Header lines.
    pub headers: Vec<HeaderEquals>,
}

/// A host name in lower case, or all names one label below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// This name.
    Exact(String),
    /// Names with one label before this one.
    Below(String),
}

/// The beginning of a path, in lower case, without a `/` at its end unless it is `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(pub String);

/// A header line that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEquals {
    /// Name.
    pub name: HeaderName,
    /// All of the value, compared without regard to case; `None` if any will do.
    pub value: Option<HeaderValue>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Action {
    /// A server answers it.
    Forward(Box<Forwarding>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// The client gets this answer.
    Respond(Respond),
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `Location`, in which `{host}`, `{path}` (with the query) and `{query}` stand for those of the request.
    pub to: String,
    /// A status of the class 3xx.
    pub status: StatusCode,
}

/// An answer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// Status.
    pub status: StatusCode,
    /// Plain text.
    pub body: String,
}

/// The route that takes a [normal](crate::headers::normalize) request that came on a TLS connection made for `server_name`.
pub(crate) fn find<'a>(
    routes: &'a [Route],
    head: &request::Parts,
    server_name: Option<&str>,
) -> Result<(usize, &'a Route), Error> {
    let host = host(&head.headers);
    let path = head.uri.path();
    let lookup = |path: &str| {
        let mut routes = routes.iter().enumerate();
        routes.find(|(_, route)| route.when.matches(head, host, path))
    };
    let found = lookup(path);
    if let Some(decoded) = decoded(path)
        && lookup(&decoded).map(|(at, _)| at) != found.map(|(at, _)| at)
    {
        let detail =
            "a path that belongs to one route as it stands and to another once it is decoded";
        return Err(Error::new(Kind::BadRequest, detail));
    }
    let Some((at, route)) = found else {
        return Err(Error::new(Kind::NoRoute, "no route matches the request"));
    };
    let is_other = |name: &str| !name.eq_ignore_ascii_case(host);
    if !route.when.hosts.is_empty() && server_name.is_some_and(is_other) {
        let detail = "the request's host isn't the one that the TLS connection was made for";
        return Err(Error::new(Kind::Misdirected, detail));
    }
    Ok((at, route))
}

/// The host of a request, without port and without a dot at the end; empty if it is not known.
pub(crate) fn host(headers: &HeaderMap) -> &str {
    let value = headers.get(HOST).and_then(|value| value.to_str().ok());
    let value = value.unwrap_or_default();
    let end = match value.rfind(']') {
        Some(bracket) => bracket + 1,
        None => value.find(':').unwrap_or(value.len()),
    };
    let host = value.get(..end).unwrap_or_default();
    host.strip_suffix('.').unwrap_or(host)
}

impl When {
    fn matches(&self, head: &request::Parts, host: &str, path: &str) -> bool {
        let one = |is_empty: bool, found: bool| is_empty || found;
        one(
            self.hosts.is_empty(),
            self.hosts.iter().any(|pattern| pattern.matches(host)),
        ) && one(
            self.paths.is_empty() && self.whole_paths.is_empty(),
            self.paths.iter().any(|prefix| prefix.matches(path))
                || self
                    .whole_paths
                    .iter()
                    .any(|whole| whole.eq_ignore_ascii_case(path)),
        ) && one(self.methods.is_empty(), self.methods.contains(&head.method))
            && self
                .headers
                .iter()
                .all(|header| header.is_in(&head.headers))
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => name.eq_ignore_ascii_case(host),
            Self::Below(name) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && name.eq_ignore_ascii_case(rest)),
        }
    }
}

impl PathPrefix {
    fn matches(&self, path: &str) -> bool {
        self.rest_of(path).is_some()
    }

    /// What follows it in `path`: nothing, or what begins with a `/`. `None` if the path doesn't begin with it.
    pub(crate) fn rest_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        let prefix = self.0.strip_suffix('/').unwrap_or(&self.0);
        let (start, rest) = path.split_at_checked(prefix.len())?;
        let ends_here = rest.is_empty() || rest.starts_with('/');
        (ends_here && start.eq_ignore_ascii_case(prefix)).then_some(rest)
    }
}

impl HeaderEquals {
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        match &self.value {
            None => values.next().is_some(),
            Some(wanted) => {
                values.any(|value| value.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
            }
        }
    }
}

/// The path as the most lenient of servers would read it; `None` if there is only one way to read it.
fn decoded(path: &str) -> Option<String> {
    let is_plain = !path.contains(['%', '\\', ';']) && !path.contains("//") && !path.contains("/.");
    if is_plain {
        return None;
    }
    let bytes = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    let text = String::from_utf8_lossy(&bytes).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        // A parameter of a segment (RFC 3986 section 3.3) is none of its name for servers that know them.
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

/// Whether a server that decodes the path may go up by `..` in it.
pub(crate) fn climbs(path: &str) -> bool {
    if !path.contains(['%', '.']) {
        return false;
    }
    let bytes = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    let mut segments = bytes.split(|byte| matches!(byte, b'/' | b'\\'));
    segments.any(|segment| segment.split(|&byte| byte == b';').next() == Some(b".."))
}

impl Redirect {
    /// `Location` for a request.
    pub(crate) fn location(&self, head: &request::Parts) -> Result<HeaderValue, Error> {
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let mut rest = self.to.as_str();
        let mut text = String::with_capacity(self.to.len() + target.len());
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            text.push_str(before);
            let (name, after) = from.split_once('}').unwrap_or((from, ""));
            text.push_str(&match name {
                "{host" => Cow::Borrowed(host(&head.headers)),
                "{path" => Cow::Borrowed(target),
                "{query" => Cow::Borrowed(head.uri.query().unwrap_or_default()),
                other => Cow::Owned(format!("{other}}}")),
            });
            rest = after;
        }
        text.push_str(rest);
        HeaderValue::try_from(text)
            .map_err(|error| Error::new(Kind::BadRequest, "no way to say where to").because(error))
    }
}

#[cfg(test)]
mod tests;
