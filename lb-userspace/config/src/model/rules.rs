//! Rules: what a route changes in requests and responses.

use http::HeaderName;

use super::PathPrefix;

/// The rules of a route, each list in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Of `request_rules`, those that change the target.
    pub target: Vec<TargetRule>,
    /// Of `request_rules`, those that change headers.
    pub request: Vec<HeaderRule>,
    /// `response_rules`.
    pub response: Vec<HeaderRule>,
}

/// A change of headers. None of them names a header of framing, or one that is for the next hop only.
#[derive(Clone, Debug, PartialEq)]
pub enum HeaderRule {
    /// One line more.
    Add {
        /// Of this name.
        name: HeaderName,
        /// With this value.
        value: Template,
    },
    /// One line in place of all of that name.
    Set {
        /// Of this name.
        name: HeaderName,
        /// With this value.
        value: Template,
    },
    /// No line.
    Remove {
        /// Of this name.
        name: HeaderName,
    },
    /// The lines of one name once more under another, in place of all of that.
    Copy {
        /// What is copied.
        from: HeaderName,
        /// How the copy is called.
        to: HeaderName,
    },
    /// In each line, the first match of a pattern replaced.
    Rewrite {
        /// Lines of this name.
        name: HeaderName,
        /// What is looked for.
        pattern: Pattern,
        /// What stands there instead; `$1` is the pattern's first group.
        with: String,
    },
}

/// A change of the target that a server is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetRule {
    /// Another beginning of the path.
    Prefix {
        /// What it begins with.
        from: PathPrefix,
        /// What it shall begin with; has no `/` at its end.
        to: String,
    },
    /// The first match of a pattern replaced.
    Rewrite {
        /// Where it is looked for.
        part: TargetPart,
        /// What is looked for.
        pattern: Pattern,
        /// What stands there instead; `$1` is the pattern's first group.
        with: String,
    },
}

/// Part of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetPart {
    /// Up to the `?`.
    Path,
    /// What follows the `?`.
    Query,
    /// Both.
    Url,
}

/// A regular expression over bytes, for linear time.
#[derive(Clone, Debug)]
pub struct Pattern(pub(crate) regex::bytes::Regex);

impl Pattern {
    /// Compiled.
    pub fn regex(&self) -> &regex::bytes::Regex {
        &self.0
    }
}

/// Two patterns of the same text are the same.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// A header's value, with variables in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub(crate) Vec<Piece>);

impl Template {
    /// Put together, they are the value.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands; may be in a header's value.
    Text(String),
    /// What it is for each request.
    Variable(Variable),
}

/// What a [`Template`] can say of a request as the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `{client_ip}`.
    ClientIp,
    /// `{client_port}`.
    ClientPort,
    /// `{listen_ip}`: the address that the client connected to.
    ListenIp,
    /// `{listen_port}`.
    ListenPort,
    /// `{scheme}`: `http` or `https`.
    Scheme,
    /// `{sni}`: the name that the client's TLS was made for; may be empty.
    Sni,
    /// `{method}`.
    Method,
    /// `{host}`: `Host`, with its port.
    Host,
    /// `{path}`, without the query.
    Path,
    /// `{query}`; may be empty.
    Query,
    /// `{service}`.
    Service,
    /// `{route}`.
    Route,
    /// `{server}`; only in `response_rules`.
    Server,
}
