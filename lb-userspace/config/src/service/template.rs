//! Reads what rules put into messages: values with variables, patterns, and replacements.
//!
//! Invariant: what comes out can be put into a header or a target without another look, whatever the request says.

use http::HeaderValue;
use http::uri::PathAndQuery;

use crate::model::{Pattern, Piece, Template, Variable};
use crate::reader::Node;

/// Which variables a value may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variables {
    Request,
    Response,
    /// In the value of `Host`: those that are names of hosts.
    Host,
}

impl Variables {
    fn has(self, variable: Variable) -> bool {
        match self {
            Self::Request => variable != Variable::Server,
            Self::Response => true,
            Self::Host => matches!(variable, Variable::Host | Variable::Sni),
        }
    }

    fn expected(self) -> String {
        let names: Vec<_> = NAMES
            .iter()
            .filter(|(_, variable)| self.has(*variable))
            .map(|(name, _)| format!("{{{name}}}"))
            .collect();
        format!("a value in which braces hold one of {}", names.join(", "))
    }
}

pub(super) fn template(node: &Node<'_>, variables: Variables) -> Option<Template> {
    let text = node.string("the value of a header", |text| {
        header_text(text).then(|| text.to_owned())
    })?;
    let Some(pieces) = pieces(&text, variables) else {
        return node.bad_value(&text, variables.expected());
    };
    if variables == Variables::Host && !is_host(&pieces) {
        return node.bad_value(&text, "a host name, with a port or without");
    }
    Some(Template(pieces))
}

/// Whether nothing but a name, an address and a port can come out.
fn is_host(pieces: &[Piece]) -> bool {
    let sound = |piece: &Piece| match piece {
        Piece::Variable(_) => true,
        Piece::Text(text) => text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte)),
    };
    !pieces.is_empty() && pieces.iter().all(sound)
}

/// `None` if a brace holds no variable.
fn pieces(text: &str, variables: Variables) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('{') {
        let (name, after) = from.split_once('}')?;
        let (_, variable) = NAMES.iter().find(|(known, _)| *known == name)?;
        if before.contains('}') || !variables.has(*variable) {
            return None;
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Variable(*variable));
        rest = after;
    }
    if rest.contains('}') {
        return None;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Some(pieces)
}

/// A regular expression. On bytes, so that any header can be looked at; in linear time by the library's promise, and of
/// bounded memory.
pub(super) fn pattern(node: &Node<'_>) -> Option<Pattern> {
    let text = node.string("a regular expression", |text| Some(text.to_owned()))?;
    let built = regex::bytes::RegexBuilder::new(&text)
        .unicode(false)
        .size_limit(PATTERN_SIZE)
        .build();
    match built {
        Ok(regex) => Some(Pattern(regex)),
        Err(error) => {
            // The library draws a picture of several lines, the last of which says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            node.bad_value(&text, format!("a regular expression: {reason}"))
        }
    }
}

/// What stands where a pattern matched. `is_sound` looks at it with something harmless for each group.
pub(super) fn replacement(
    node: &Node<'_>,
    pattern: Option<&Pattern>,
    is_sound: fn(&str) -> bool,
) -> Option<String> {
    let text = node.string(
        "a text, in which $1 is the first group of the pattern",
        |text| Some(text.to_owned()),
    )?;
    let mut sample = String::new();
    let mut rest = text.as_str();
    while let Some((before, from)) = rest.split_once('$') {
        sample.push_str(before);
        if let Some(after) = from.strip_prefix('$') {
            sample.push('$');
            rest = after;
            continue;
        }
        let (group, after) = group(from);
        if pattern.is_some_and(|pattern| !has_group(pattern, group)) {
            let expected = format!(
                "a replacement for this pattern, which has no group `{group}`; write ${{1}} if letters follow, and $$ for a $"
            );
            return node.bad_value(&text, expected);
        }
        sample.push('x');
        rest = after;
    }
    sample.push_str(rest);
    if !is_sound(&sample) {
        return node.bad_value(&text, "what may stand there: it holds characters that must be %-encoded, or are never allowed");
    }
    Some(text)
}

/// The name of the group that a text after `$` begins with, as the library reads it, and what follows.
fn group(from: &str) -> (&str, &str) {
    if let Some((group, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}')) {
        return (group, after);
    }
    let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    from.split_at(end.unwrap_or(from.len()))
}

fn has_group(pattern: &Pattern, group: &str) -> bool {
    let regex = pattern.regex();
    match group.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|name| name == group),
    }
}

/// Whether a text may be in the value of a header.
pub(super) fn header_text(text: &str) -> bool {
    HeaderValue::from_str(text).is_ok()
}

/// Whether a text may be in a path and query.
pub(super) fn target_text(text: &str) -> bool {
    let target = format!("/{text}");
    target.is_ascii()
        && target
            .parse::<PathAndQuery>()
            .is_ok_and(|parsed| parsed.as_str() == target)
}

/// Whether a text may be in a path.
pub(super) fn path_text(text: &str) -> bool {
    !text.contains('?') && target_text(text)
}

/// What a compiled pattern may take; a few hundred words are far from it.
const PATTERN_SIZE: usize = 1 << 20;

const NAMES: [(&str, Variable); 13] = [
    ("client_ip", Variable::ClientIp),
    ("client_port", Variable::ClientPort),
    ("listen_ip", Variable::ListenIp),
    ("listen_port", Variable::ListenPort),
    ("scheme", Variable::Scheme),
    ("sni", Variable::Sni),
    ("method", Variable::Method),
    ("host", Variable::Host),
    ("path", Variable::Path),
    ("query", Variable::Query),
    ("service", Variable::Service),
    ("route", Variable::Route),
    ("server", Variable::Server),
];
