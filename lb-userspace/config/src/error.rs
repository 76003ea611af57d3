//! Mistakes and warnings, each with its place in the file and what to do about it.
//!
//! Invariant: [`Errors`] is never empty and is sorted by place. Every message says what was found
//! and what is expected, on one line, without the file's name, which this crate does not know: see
//! [`Errors::in_file`]. Not here: finding mistakes ([`crate::reader`] and its callers do).

use std::fmt;

/// A position in the configuration text; the default is its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl Place {
    /// Where byte `offset` of `text` is; the end of `text` if it lies beyond, the start of the
    /// character if it lies inside one.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The way from the root of the file to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path {
    /// For programs: `service[1].servers[0]`.
    pub(crate) dotted: String,
    /// For people: `service "smtp": servers[0]`.
    pub(crate) label: String,
}

impl Path {
    /// The path of `key` in the table at this path.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self {
            dotted: append(&self.dotted, ".", key),
            label: append_label(&self.label, key),
        }
    }

    /// The path of element `index` of the array at this path.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self {
            dotted: format!("{}[{index}]", self.dotted),
            label: format!("{}[{index}]", self.label),
        }
    }

    /// The same path, that people read as `subject`, for example `service "smtp"`.
    pub(crate) fn labelled(&self, subject: String) -> Self {
        Self {
            dotted: self.dotted.clone(),
            label: subject + ":",
        }
    }
}

fn append(path: &str, separator: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}{separator}{key}")
    }
}

fn append_label(label: &str, key: &str) -> String {
    append(label, if label.ends_with(':') { " " } else { "." }, key)
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub(crate) place: Place,
    pub(crate) path: Path,
    pub(crate) problem: Problem,
}

impl Error {
    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Dotted path of the key, such as `service[1].servers[0]`; empty for a syntax error.
    pub fn path(&self) -> &str {
        &self.path.dotted
    }

    /// What is wrong, what is expected and what to do.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, self.place, &self.path, &self.problem)
    }
}

impl std::error::Error for Error {}

/// What can be wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is not TOML, so nothing else could be checked.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// No such key in this table.
    #[error("unknown key; {}", did_you_mean(nearest.as_ref(), known))]
    UnknownKey {
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
        /// All keys that the table can have.
        known: Vec<&'static str>,
    },
    /// The key is right, but not for this kind of service or check.
    #[error("is only for {only_for}, and this is {here}; remove it, or change the other")]
    Misplaced {
        /// The setting that the key belongs to.
        only_for: &'static str,
        /// The setting found.
        here: &'static str,
    },
    /// A string where a number should be, or the like.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What should be here, with an example.
        expected: String,
        /// The TOML type that is here.
        found: &'static str,
    },
    /// The right type, but not a value that makes sense.
    #[error("`{found}` is not {expected}")]
    BadValue {
        /// The value in the file.
        found: String,
        /// What should be here.
        expected: String,
    },
    /// A required key is not there.
    #[error("missing; add it, {example}")]
    Missing {
        /// A line that would do, or what the value is.
        example: &'static str,
    },
    /// A list without elements.
    #[error("is empty; expected {0}")]
    Empty(&'static str),
    /// More elements than the data plane has room for.
    #[error("{found} {what} are more than the {limit} that one host can hold; remove some")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there can be.
        limit: usize,
    },
    /// Two things that must differ do not.
    #[error("`{value}` is used already, by {path} in line {line}; give each its own")]
    Duplicate {
        /// The value that stands there twice.
        value: String,
        /// Dotted path of the first.
        path: String,
        /// Line of the first.
        line: usize,
    },
    /// Each value is right, but not with the others.
    #[error("{0}")]
    Contradiction(String),
}

fn did_you_mean(nearest: Option<&&str>, known: &[&str]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the keys here are {}", known.join(", ")),
    }
}

/// All mistakes of a file, in the order of the file; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// The errors in the order of the file.
    pub(crate) fn new(mut errors: Vec<Error>) -> Self {
        errors.sort_by_key(Error::place);
        Self(errors)
    }

    /// The mistakes in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Error> {
        self.0.iter()
    }

    /// One line for each mistake, without a newline at the end, such as
    /// `lb.toml:12:9: service "smtp": listen: …`.
    pub fn in_file<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        Lines {
            file,
            items: &self.0,
        }
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Error;
    type IntoIter = std::slice::Iter<'a, Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// As [`Errors::in_file`], with the usual name of the file.
impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.in_file("lb.toml").fmt(f)
    }
}

impl std::error::Error for Errors {}

struct Lines<'a> {
    file: &'a str,
    items: &'a [Error],
}

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.items.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{item}", self.file)?;
        }
        Ok(())
    }
}

/// Something legal that will cost the operator more than it may seem to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub(crate) place: Place,
    pub(crate) path: Path,
    pub(crate) cost: Cost,
}

impl Warning {
    /// Where it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Dotted path of the key, such as `service[0].headers`.
    pub fn path(&self) -> &str {
        &self.path.dotted
    }

    /// What it costs.
    pub fn cost(&self) -> Cost {
        self.cost
    }
}

/// `12:9: service "exchange": headers: …`.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_line(f, self.place, &self.path, &self.cost)
    }
}

/// What a legal setting costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cost {
    /// `Via` on an Exchange service (HTTP.SYS, "credential caching"; MS-N2HT 2.2).
    #[error(
        "adds Via: IIS then takes each login for one request only and answers Persistent-Auth: \
         false, and clients that trust an NTLM connection (Mac Mail) end in 401 or 400; use \
         headers = \"none\" or \"x-forwarded-for\""
    )]
    Via,
    /// TLS in front, none behind, on an Exchange service.
    #[error(
        "without upstream_tls, TLS ends here: servers with Extended Protection (the default since \
         Exchange 2019 CU14) then refuse every NTLM and Kerberos login; add upstream_tls, and give \
         this host and all servers the same certificate"
    )]
    Offload,
    /// `verify = "none"`.
    #[error("any certificate is accepted, and so anyone on the path can be the server; use ca")]
    Unverified,
    /// An Exchange service without an HTTP check.
    #[error(
        "only an HTTP check sees what Managed Availability says: a server in maintenance still \
         accepts connections; use kind = \"https\" with path = \"/owa/healthcheck.htm\" and \
         expect = \"200 OK\""
    )]
    BlindCheck,
    /// `kind = "none"`.
    #[error("a dead server keeps its share of the connections; use kind = \"tcp\"")]
    Unchecked,
    /// `protocol = "udp"` without a check.
    #[error(
        "no check can be made of UDP itself, so a dead server keeps its share; add health.kind = \"tcp\" if \
         the servers listen on TCP at the same port, or kind = \"none\" to say that this is meant"
    )]
    UncheckedDatagrams,
    /// An Exchange service that cuts connections before Exchange does.
    #[error(
        "less than 30m: Exchange keeps quiet connections (ActiveSync, EWS streaming) that long, and \
         cutting them first makes clients reconnect and log in again; leave it at 40m"
    )]
    ShortIdle,
    /// A limit below what Exchange itself takes.
    #[error(
        "body is less than Exchange takes here (owa, ecp 35000000; ews 67108864; mapi, rpc 2147483648; others 30000000): \
         what its users may send is refused before it gets there; raise it, or give the routes limits of their own"
    )]
    SmallBody,
    /// `[nat]` in a file where nobody uses it.
    #[error("no service has mode = \"l4\" with source = \"nat\", so these addresses are not used")]
    UnusedNat,
    /// `inbound = "keep"` on an Exchange service.
    #[error(
        "whoever can connect here chooses the address that servers see, and a Via that comes in ends NTLM and Kerberos \
         logins after one request; only for a service that none but a trusted proxy can reach"
    )]
    KeptVia,
    /// `inbound = "keep"` elsewhere.
    #[error(
        "whoever can connect here chooses the address that servers see; only for a service that none but a trusted \
         proxy can reach"
    )]
    KeptClaims,
    /// A forced rule on `Authorization` of an Exchange service.
    #[error(
        "NTLM and Kerberos log a connection in by several Authorization in a row, none of which means anything changed: \
         users are asked for their password for ever"
    )]
    ChangedCredential,
    /// A forced rule on `WWW-Authenticate` or `Persistent-Auth` of an Exchange service.
    #[error(
        "clients learn from this header how to log in and whether a login lasts: Outlook and Mac Mail end in a password \
         prompt or in 401 when it is not Exchange's own"
    )]
    ChangedChallenge,
    /// A forced rule on `Cookie` or `Set-Cookie` of an Exchange service.
    #[error(
        "Exchange keeps the login of OWA (cadata) and the session of MAPI (MapiContext, MapiSequence) in cookies: \
         users are logged out, and Outlook starts its session anew"
    )]
    ChangedCookie,
    /// A forced rule that makes a `Via` on an Exchange service.
    #[error(
        "IIS takes each login of a request with Via for that request only and answers Persistent-Auth: false, and \
         clients that trust an NTLM connection (Mac Mail) end in 401 or 400"
    )]
    ViaByRule,
    /// `queue` of a route whose servers never are full.
    #[error(
        "nobody will ever wait, because no server of the route has max_connections; add that to the servers, or \
         remove queue"
    )]
    UnusedQueue,
}

fn write_line(
    f: &mut fmt::Formatter<'_>,
    place: Place,
    path: &Path,
    message: &dyn fmt::Display,
) -> fmt::Result {
    let label = path.label.trim_end_matches(':');
    let separator = if label.is_empty() { "" } else { ": " };
    write!(f, "{place}: {label}{separator}{message}")
}
