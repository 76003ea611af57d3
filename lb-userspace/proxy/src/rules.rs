//! Rules of an operator: what a route changes in requests before a server gets them, and in responses before a client does.
//!
//! Invariant: rules change what a message says, never where it ends, which connection it goes on or which route it is of.
//! They run after the route was chosen and after the header policy, so that what a client claims of itself is gone. If they
//! leave a credential that authenticates connections, the caller pins as for the client's own ([`crate::exchange`]). Which
//! headers a rule may name is checked by whoever builds it; those of framing must not be among them.
//!
//! Costs nothing where there are none. Patterns are matched in linear time, and each rule replaces one match at most.

mod target;
mod template;

use http::header::{Entry, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, request};
use regex::bytes::Regex;

use crate::error::Error;
use crate::headers::{self, Scheme};
use crate::service::ClientAddr;

pub use target::{TargetPart, TargetRule};
pub use template::{Piece, Template, Variable};

/// The rules of a route. A clone has its own room to match patterns in: each worker takes one, and none waits for another.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Changes of the target.
    pub target: Vec<TargetRule>,
    /// Changes of a request's headers.
    pub request: Vec<HeaderRule>,
    /// Changes of a server's response's headers.
    pub response: Vec<HeaderRule>,
}

/// A change of headers.
#[derive(Clone, Debug)]
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
    /// The lines of one name once more under another, in place of all of that, if there are any.
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
        pattern: Regex,
        /// What stands there instead; `$1` is the pattern's first group.
        with: String,
    },
}

/// What a client asked for, before any rule: what variables stand for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    uri: Uri,
    method: Method,
    host: Option<HeaderValue>,
}

impl Asked {
    pub(crate) fn of(head: &request::Parts) -> Self {
        Self {
            uri: head.uri.clone(),
            method: head.method.clone(),
            host: head.headers.get(HOST).cloned(),
        }
    }
}

/// What variables are looked up in.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) client: ClientAddr,
    pub(crate) scheme: Scheme,
    /// SNI.
    pub(crate) server_name: Option<&'a str>,
    pub(crate) asked: &'a Asked,
    /// Who answered; nobody yet when a request is changed.
    pub(crate) server: Option<&'a str>,
}

impl Rules {
    /// Changes a request.
    pub(crate) fn on_request(
        &self,
        head: &mut request::Parts,
        facts: Facts<'_>,
    ) -> Result<(), Error> {
        target::rewrite(&mut head.uri, &self.target)?;
        for rule in &self.request {
            rule.apply(&mut head.headers, facts);
        }
        Ok(())
    }

    /// Changes a server's response.
    pub(crate) fn on_response(&self, headers: &mut HeaderMap, facts: Facts<'_>) {
        for rule in &self.response {
            rule.apply(headers, facts);
        }
    }
}

impl HeaderRule {
    fn apply(&self, headers: &mut HeaderMap, facts: Facts<'_>) {
        match self {
            Self::Add { name, value } => {
                headers.append(name.clone(), value.expand(facts));
            }
            Self::Set { name, value } => {
                headers.insert(name.clone(), value.expand(facts));
            }
            Self::Remove { name } => headers::retain(headers, |other| other != name),
            Self::Copy { from, to } => copy(headers, from, to),
            Self::Rewrite {
                name,
                pattern,
                with,
            } => {
                if let Entry::Occupied(mut lines) = headers.entry(name) {
                    for line in lines.iter_mut() {
                        rewrite(line, pattern, with);
                    }
                }
            }
        }
    }
}

fn copy(headers: &mut HeaderMap, from: &HeaderName, to: &HeaderName) {
    let lines: Vec<HeaderValue> = headers.get_all(from).iter().cloned().collect();
    let mut lines = lines.into_iter();
    if let Some(first) = lines.next() {
        headers.insert(to.clone(), first);
        for line in lines {
            headers.append(to.clone(), line);
        }
    }
}

fn rewrite(line: &mut HeaderValue, pattern: &Regex, with: &str) {
    let rewritten = pattern.replace(line.as_bytes(), with.as_bytes());
    if let std::borrow::Cow::Owned(rewritten) = rewritten {
        *line = template::value(&rewritten);
    }
}

#[cfg(test)]
mod tests;
