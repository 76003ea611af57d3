//! Reads `request_rules` and `response_rules`: one verb each, what it is done to, and with what.
//!
//! Invariant: no rule names a header that says how a message is framed or that is for the next hop only, and on a route
//! with `profile = "exchange"` none that logins hang on, unless it says that it is meant. Not here: patterns and values
//! ([`super::template`]).

use http::HeaderName;

use super::template::{self, Variables};
use crate::error::{Cost, Problem};
use crate::model::{HeaderRule, Profile, Rules, TargetPart, TargetRule};
use crate::reader::{Node, Schema, Scope, Table};
use crate::value;

/// Reads both lists of a route, or of its service.
pub(super) fn read(scope: Scope<'_, '_>, profile: Profile) -> Option<Rules> {
    let mut rules = Rules::default();
    let requests = list(scope, "request_rules", |node| {
        let verb = rule(node, &Direction::REQUEST, profile)?;
        match verb {
            Rule::Target(rule) => rules.target.push(rule),
            Rule::Header(rule) => rules.request.push(rule),
        }
        Some(())
    });
    let responses = list(scope, "response_rules", |node| {
        match rule(node, &Direction::RESPONSE, profile)? {
            Rule::Header(rule) => rules.response.push(rule),
            Rule::Target(_) => {}
        }
        Some(())
    });
    requests.and(responses).map(|()| rules)
}

/// Reads each rule of a list, which may be empty: so a route says that it has none of its service's.
fn list(
    scope: Scope<'_, '_>,
    key: &'static str,
    mut read: impl FnMut(&Node<'_>) -> Option<()>,
) -> Option<()> {
    const EXPECTED: &str =
        "a list of rules, such as [{ set = \"X-Real-IP\", value = \"{client_ip}\" }]";
    scope.optional(key, (), |node| {
        let nodes = node.array(EXPECTED)?;
        let done: Vec<_> = nodes.iter().map(&mut read).collect();
        done.into_iter().collect()
    })
}

enum Rule {
    Header(HeaderRule),
    Target(TargetRule),
}

/// What differs between rules for requests and for responses.
struct Direction {
    expected: &'static str,
    verbs: &'static [Verb],
    schema: Schema,
    variables: Variables,
}

/// What a rule does.
struct Verb {
    name: &'static str,
    /// Keys that don't go with it.
    foreign: Schema,
}

const ADD: Verb = Verb {
    name: "add",
    foreign: &["to", "pattern", "with"],
};
const SET: Verb = Verb { name: "set", ..ADD };
const REMOVE: Verb = Verb {
    name: "remove",
    foreign: &["value", "to", "pattern", "with"],
};
const COPY: Verb = Verb {
    name: "copy",
    foreign: &["value", "pattern", "with"],
};
const REWRITE: Verb = Verb {
    name: "rewrite",
    foreign: &["value", "to"],
};
const PATH_PREFIX: Verb = Verb {
    name: "path_prefix",
    foreign: &["value", "to", "pattern", "force"],
};
const PATH: Verb = Verb {
    name: "path",
    ..PATH_PREFIX
};
const QUERY: Verb = Verb {
    name: "query",
    ..PATH_PREFIX
};
const URL: Verb = Verb {
    name: "url",
    ..PATH_PREFIX
};

impl Direction {
    const REQUEST: Self = Self {
        expected: "a table with one of add, set, remove, copy, rewrite, path_prefix, path, query and url, such as \
                   { set = \"X-Real-IP\", value = \"{client_ip}\" }",
        verbs: &[
            ADD,
            SET,
            REMOVE,
            COPY,
            REWRITE,
            PATH_PREFIX,
            PATH,
            QUERY,
            URL,
        ],
        schema: &[
            "add",
            "set",
            "remove",
            "copy",
            "rewrite",
            "path_prefix",
            "path",
            "query",
            "url",
            "value",
            "to",
            "pattern",
            "with",
            "force",
        ],
        variables: Variables::Request,
    };
    const RESPONSE: Self = Self {
        expected: "a table with one of add, set, remove, copy and rewrite, such as \
                   { set = \"X-Frame-Options\", value = \"SAMEORIGIN\" }",
        verbs: &[ADD, SET, REMOVE, COPY, REWRITE],
        schema: &[
            "add", "set", "remove", "copy", "rewrite", "value", "to", "pattern", "with", "force",
        ],
        variables: Variables::Response,
    };
}

fn rule(node: &Node<'_>, direction: &Direction, profile: Profile) -> Option<Rule> {
    let table = node.table(direction.expected, direction.schema)?;
    let mut verbs = direction.verbs.iter().filter(|verb| table.has(verb.name));
    let (Some(verb), None) = (verbs.next(), verbs.next()) else {
        let found = "a rule does one thing".to_owned();
        return node.fail(Problem::Contradiction(format!(
            "{found}; expected {}",
            direction.expected
        )));
    };
    table.misplaced(verb.foreign, "another verb", verb.name);
    // `None` if it was misspelt, which is reported.
    let named = table.get(verb.name)?;
    match verb.name {
        "path_prefix" => prefix(&table, &named).map(Rule::Target),
        "path" => target(&table, &named, TargetPart::Path).map(Rule::Target),
        "query" => target(&table, &named, TargetPart::Query).map(Rule::Target),
        "url" => target(&table, &named, TargetPart::Url).map(Rule::Target),
        _ => {
            let rule = header_rule(&table, &named, verb, direction)?;
            check_identity(&table, verb.name, &rule, profile)?;
            Some(Rule::Header(rule))
        }
    }
}

fn header_rule(
    table: &Table<'_>,
    named: &Node<'_>,
    verb: &Verb,
    direction: &Direction,
) -> Option<HeaderRule> {
    let value = |name: Option<&HeaderName>| {
        let hosts = name == Some(&http::header::HOST);
        let variables = if hosts {
            Variables::Host
        } else {
            direction.variables
        };
        let example = "for example value = \"{client_ip}\"";
        table.required("value", example, |node| template::template(node, variables))
    };
    let changed = |node: &Node<'_>, may_be_host| {
        let name = name(node)?;
        check_name(node, &name, may_be_host).map(|()| name)
    };
    Some(match verb.name {
        "add" => {
            let name = changed(named, HostRule::Forbidden);
            let value = value(name.as_ref());
            HeaderRule::Add {
                name: name?,
                value: value?,
            }
        }
        "set" => {
            let name = changed(named, HostRule::Allowed);
            let value = value(name.as_ref());
            HeaderRule::Set {
                name: name?,
                value: value?,
            }
        }
        "remove" => HeaderRule::Remove {
            name: changed(named, HostRule::Forbidden)?,
        },
        "copy" => {
            let from = name(named);
            let to = table.required("to", "the name of the copy", |node| {
                changed(node, HostRule::Forbidden)
            });
            HeaderRule::Copy {
                from: from?,
                to: to?,
            }
        }
        _ => {
            let name = changed(named, HostRule::Forbidden);
            let example = "for example pattern = \"^http:(.*)$\"";
            let pattern = table.required("pattern", example, template::pattern);
            let with = with(table, |node| {
                template::replacement(node, pattern.as_ref(), template::header_text)
            });
            HeaderRule::Rewrite {
                name: name?,
                pattern: pattern?,
                with: with?,
            }
        }
    })
}

fn with(table: &Table<'_>, read: impl FnOnce(&Node<'_>) -> Option<String>) -> Option<String> {
    table.required(
        "with",
        "for example with = \"https:$1\", where $1 is the first group",
        read,
    )
}

fn prefix(table: &Table<'_>, named: &Node<'_>) -> Option<TargetRule> {
    let from = value::path_prefix(named);
    let to = table.required("with", "for example with = \"/new\"", |node| {
        value::path_prefix(node)?;
        // Of its own case, which the prefix that is looked for has not.
        node.string("a path", |text| Some(text.trim_end_matches('/').to_owned()))
    });
    Some(TargetRule::Prefix {
        from: from?,
        to: to?,
    })
}

fn target(table: &Table<'_>, named: &Node<'_>, part: TargetPart) -> Option<TargetRule> {
    let pattern = template::pattern(named);
    let sound = match part {
        TargetPart::Path => template::path_text,
        TargetPart::Query | TargetPart::Url => template::target_text,
    };
    let with = with(table, |node| {
        template::replacement(node, pattern.as_ref(), sound)
    });
    Some(TargetRule::Rewrite {
        part,
        pattern: pattern?,
        with: with?,
    })
}

fn name(node: &Node<'_>) -> Option<HeaderName> {
    node.string("the name of a header, such as \"X-Real-IP\"", |text| {
        text.parse().ok()
    })
}

/// Whether a rule may give a message another `Host`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HostRule {
    Allowed,
    Forbidden,
}

fn check_name(node: &Node<'_>, name: &HeaderName, host: HostRule) -> Option<()> {
    let reason = if *name == http::header::HOST && host == HostRule::Forbidden {
        "a header that may be missing or there twice, as Host may not; use { set = \"Host\", value = \"…\" }"
    } else if FRAMING.contains(&name.as_str()) {
        "a header that rules may change: it says where a message ends or is for one connection only (RFC 9110 section \
         7.6.1), and the proxy writes its own; remove the rule"
    } else {
        return Some(());
    };
    node.bad_value(name.as_str(), reason)
}

/// On an Exchange route, what logins hang on is changed only if the rule says `force = true`, and not without a warning.
fn check_identity(
    table: &Table<'_>,
    verb: &'static str,
    rule: &HeaderRule,
    profile: Profile,
) -> Option<()> {
    let force = table.optional("force", false, Node::boolean)?;
    let (key, name) = match rule {
        HeaderRule::Copy { to, .. } => ("to", to),
        HeaderRule::Add { name, .. }
        | HeaderRule::Set { name, .. }
        | HeaderRule::Remove { name }
        | HeaderRule::Rewrite { name, .. } => (verb, name),
    };
    // Taking a `Via` away does no harm.
    let is_harmless = matches!(rule, HeaderRule::Remove { name } if name == http::header::VIA);
    let cost = IDENTITY
        .iter()
        .find(|(known, _)| name == known)
        .filter(|_| profile == Profile::Exchange && !is_harmless);
    match (cost, force) {
        (None, _) => Some(()),
        (Some(&(_, cost)), true) => {
            table.warn(key, cost);
            Some(())
        }
        (Some((_, cost)), false) => {
            let clash = format!("{cost}; remove the rule, or say force = true in it");
            table.fail(key, Problem::Contradiction(clash))
        }
    }
}

/// Written by the proxy for each connection, and `Expect`, which asks for an answer of its own. In lower case.
const FRAMING: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

const IDENTITY: [(&str, Cost); 6] = [
    ("authorization", Cost::ChangedCredential),
    ("www-authenticate", Cost::ChangedChallenge),
    ("persistent-auth", Cost::ChangedChallenge),
    ("cookie", Cost::ChangedCookie),
    ("set-cookie", Cost::ChangedCookie),
    ("via", Cost::ViaByRule),
];
