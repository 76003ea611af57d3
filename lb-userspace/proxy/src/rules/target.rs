//! Another target for the server than the client asked for.
//!
//! Invariant: what comes out is origin-form, and has one reading as far as `..` goes: a server that decodes it can't be led
//! out of where the rule puts it. `*` (of `OPTIONS`) is left alone. The query is never changed by a rule for the path.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;
use regex::bytes::Regex;

use crate::error::{Error, Kind};
use crate::route::{self, PathPrefix};

/// A change of the target.
#[derive(Clone, Debug)]
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
        pattern: Regex,
        /// What stands there instead; `$1` is the pattern's first group.
        with: String,
    },
}

/// Part of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetPart {
    /// Up to the `?`.
    Path,
    /// What follows the `?`, if there is one.
    Query,
    /// Both.
    Url,
}

/// Changes the target by each rule in turn.
pub(super) fn rewrite(uri: &mut Uri, rules: &[TargetRule]) -> Result<(), Error> {
    let Some(target) = uri
        .path_and_query()
        .filter(|target| target.path().starts_with('/'))
    else {
        return Ok(());
    };
    let mut rewritten: Option<Vec<u8>> = None;
    for rule in rules {
        let now = rewritten.as_deref().unwrap_or(target.as_str().as_bytes());
        rewritten = rule.apply(now).or(rewritten);
    }
    if let Some(rewritten) = rewritten {
        *uri = Uri::from(checked(rewritten)?);
    }
    Ok(())
}

impl TargetRule {
    /// The target after the rule; `None` if it isn't changed.
    fn apply(&self, target: &[u8]) -> Option<Vec<u8>> {
        let path_end = target.iter().position(|&byte| byte == b'?');
        let (path, query) = target.split_at(path_end.unwrap_or(target.len()));
        match self {
            Self::Prefix { from, to } => {
                let rest = from.rest_of(std::str::from_utf8(path).ok()?)?;
                let slash = if to.is_empty() && rest.is_empty() {
                    "/"
                } else {
                    ""
                };
                Some([to.as_bytes(), rest.as_bytes(), slash.as_bytes(), query].concat())
            }
            Self::Rewrite {
                part: TargetPart::Path,
                pattern,
                with,
            } => Some([&replaced(pattern, path, with)?, query].concat()),
            Self::Rewrite {
                part: TargetPart::Query,
                pattern,
                with,
            } => match replaced(pattern, query.strip_prefix(b"?")?, with)?.as_slice() {
                [] => Some(path.to_vec()),
                query => Some([path, b"?", query].concat()),
            },
            Self::Rewrite {
                part: TargetPart::Url,
                pattern,
                with,
            } => replaced(pattern, target, with),
        }
    }
}

fn replaced(pattern: &Regex, text: &[u8], with: &str) -> Option<Vec<u8>> {
    match pattern.replace(text, with.as_bytes()) {
        Cow::Borrowed(_) => None,
        Cow::Owned(replaced) => Some(replaced),
    }
}

/// What rules made, if it is a target that a server reads as we do.
fn checked(target: Vec<u8>) -> Result<PathAndQuery, Error> {
    let refused = |why: &str| {
        let detail = format!("a rule made the target one {why}");
        Error::new(Kind::BadRequest, detail)
    };
    let size = target.len();
    let parsed = PathAndQuery::from_maybe_shared(bytes::Bytes::from(target))
        .map_err(|error| refused("that is none").because(error))?;
    // The parser cuts off what follows `#`, and versions of it take what doesn't begin with `/`.
    if parsed.as_str().len() != size || !parsed.path().starts_with('/') {
        return Err(refused("that is none"));
    }
    if parsed.path().starts_with("//") {
        return Err(refused("that begins as the name of a host does"));
    }
    if route::climbs(parsed.path()) {
        return Err(refused("that goes up by `..`"));
    }
    Ok(parsed)
}
