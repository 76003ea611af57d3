//! Each verb by table, targets with what must never come out of them, and what variables stand for.

use http::Request;

use super::*;
use crate::error::Kind;
use crate::route::PathPrefix;

type Lines<'a> = &'a [(&'a str, &'a str)];

fn head(target: &str, lines: Lines<'_>) -> request::Parts {
    let mut request = Request::builder().uri(target);
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect()
}

fn facts(asked: &Asked) -> Facts<'_> {
    Facts {
        client: ClientAddr {
            peer: "[::ffff:192.0.2.9]:51234".parse().unwrap(),
            local: "[2001:db8::1]:443".parse().unwrap(),
        },
        scheme: Scheme::Https,
        server_name: Some("mail.example"),
        asked,
        server: Some("ex1"),
    }
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

fn text(text: &str) -> Template {
    Template(vec![Piece::Text(text.to_owned())])
}

fn regex(pattern: &str) -> Regex {
    regex::bytes::RegexBuilder::new(pattern)
        .unicode(false)
        .build()
        .unwrap()
}

fn rewrite_rule(of: &'static str, pattern: &str, with: &str) -> HeaderRule {
    HeaderRule::Rewrite {
        name: name(of),
        pattern: regex(pattern),
        with: with.to_owned(),
    }
}

/// The headers of a request, after the rules.
fn changed(rules: Vec<HeaderRule>, before: Lines<'_>) -> HeaderMap {
    let mut head = head("/", before);
    let asked = Asked::of(&head);
    let rules = Rules {
        request: rules,
        ..Rules::default()
    };
    rules.on_request(&mut head, facts(&asked)).unwrap();
    head.headers
}

const BEFORE: Lines<'_> = &[
    ("host", "h"),
    ("x-a", "1"),
    ("x-b", "2"),
    ("x-a", "3"),
    ("x-c", "4"),
];

#[test]
fn each_verb_does_what_it_says_and_leaves_the_rest_in_its_place() {
    let check = |rule: HeaderRule, after: Lines<'_>| {
        let shown = format!("{rule:?}");
        assert_eq!(lines(&changed(vec![rule], BEFORE)), after, "{shown}");
    };
    let (host, a1, b, a3, c) = (
        ("host", "h"),
        ("x-a", "1"),
        ("x-b", "2"),
        ("x-a", "3"),
        ("x-c", "4"),
    );
    let (name_, value) = (name("x-a"), text("9"));
    check(
        HeaderRule::Add {
            name: name_.clone(),
            value: value.clone(),
        },
        &[host, a1, a3, ("x-a", "9"), b, c],
    );
    check(
        HeaderRule::Set {
            name: name_.clone(),
            value: value.clone(),
        },
        &[host, ("x-a", "9"), b, c],
    );
    check(
        HeaderRule::Set {
            name: name("x-new"),
            value,
        },
        &[host, a1, a3, b, c, ("x-new", "9")],
    );
    check(
        HeaderRule::Remove {
            name: name_.clone(),
        },
        &[host, b, c],
    );
    check(
        HeaderRule::Copy {
            from: name_.clone(),
            to: name("x-b"),
        },
        &[host, a1, a3, ("x-b", "1"), ("x-b", "3"), c],
    );
    check(
        HeaderRule::Copy {
            from: name("x-none"),
            to: name_,
        },
        &[host, a1, a3, b, c],
    );
    check(
        rewrite_rule("x-a", "^(1)$", "<$1>"),
        &[host, ("x-a", "<1>"), a3, b, c],
    );
    check(rewrite_rule("x-none", "", "x"), &[host, a1, a3, b, c]);
}

#[test]
fn rules_are_done_in_their_order() {
    let rules = vec![
        HeaderRule::Copy {
            from: name("x-b"),
            to: name("x-d"),
        },
        rewrite_rule("x-d", "2", "two"),
        HeaderRule::Remove { name: name("x-b") },
        HeaderRule::Add {
            name: name("x-b"),
            value: text("late"),
        },
    ];
    let headers = changed(rules, &[("x-b", "2")]);
    assert_eq!(lines(&headers), [("x-d", "two"), ("x-b", "late")]);
}

#[test]
fn only_the_first_match_is_replaced_and_bytes_stay_bytes() {
    let mut head = head("/", &[]);
    let value = HeaderValue::from_bytes(b"a \xff a").unwrap();
    head.headers.insert("x-a", value);
    let asked = Asked::of(&head);
    rewrite_rule("x-a", "a (.)", "$1").apply(&mut head.headers, facts(&asked));
    assert_eq!(head.headers["x-a"].as_bytes(), b"\xff a");
}

#[test]
fn variables_stand_for_what_the_client_asked() {
    use Variable as V;
    let asked = Asked::of(&head("/owa/%20?x=1", &[("host", "h:8443")]));
    let table = [
        (V::ClientIp, "192.0.2.9"),
        (V::ClientPort, "51234"),
        (V::ListenIp, "2001:db8::1"),
        (V::ListenPort, "443"),
        (V::Scheme, "https"),
        (V::Sni, "mail.example"),
        (V::Method, "GET"),
        (V::Host, "h:8443"),
        (V::Path, "/owa/%20"),
        (V::Query, "x=1"),
        (V::Server, "ex1"),
    ];
    for (variable, expected) in table {
        let pieces = vec![
            Piece::Text("<".to_owned()),
            Piece::Variable(variable),
            Piece::Text(">".to_owned()),
        ];
        let value = Template(pieces).expand(facts(&asked));
        assert_eq!(value, format!("<{expected}>"), "{variable:?}");
    }
}

#[test]
fn a_value_never_holds_what_no_value_may() {
    let asked = Asked::of(&head("/", &[]));
    let value = text("a\x7f\r\nX-B: c").expand(facts(&asked));
    assert_eq!(value, "a%7F%0D%0AX-B: c");
}

fn prefix(from: &str, to: &str) -> TargetRule {
    TargetRule::Prefix {
        from: PathPrefix(from.to_owned()),
        to: to.to_owned(),
    }
}

fn pattern(part: TargetPart, pattern: &str, with: &str) -> TargetRule {
    TargetRule::Rewrite {
        part,
        pattern: regex(pattern),
        with: with.to_owned(),
    }
}

/// What a target becomes.
fn target(rules: &[TargetRule], before: &str) -> Result<String, Kind> {
    let mut uri = before.parse().unwrap();
    let outcome = target::rewrite(&mut uri, rules);
    outcome
        .map(|()| uri.to_string())
        .map_err(|error| error.kind())
}

#[test]
fn targets_are_rewritten_in_the_part_that_is_meant() {
    use TargetPart::{Path, Query, Url};
    let table = [
        (prefix("/old", "/new"), "/OLD/x?old=/old", "/new/x?old=/old"),
        (prefix("/old", "/new"), "/oldish", "/oldish"),
        (prefix("/old", ""), "/old", "/"),
        (prefix("/old", ""), "/old?q", "/?q"),
        (prefix("/old", ""), "/old/x", "/x"),
        (prefix("/", "/all"), "/x", "/all/x"),
        (prefix("/", "/all"), "/", "/all/"),
        (prefix("/old", "/new"), "*", "*"),
        (
            pattern(Path, "^/u/([^/]+)$", "/users/$1"),
            "/u/7?u=/u/8",
            "/users/7?u=/u/8",
        ),
        (pattern(Path, "x", "y"), "/a?x", "/a?x"),
        (
            pattern(Query, "(^|&)token=[^&]*", ""),
            "/a?token=7&b=1",
            "/a?&b=1",
        ),
        (pattern(Query, "^token=[^&]*$", ""), "/a?token=7", "/a"),
        (pattern(Query, "^", "x"), "/a", "/a"),
        (pattern(Query, "^", "x"), "/a?", "/a?x"),
        (
            pattern(Url, "^/u/(\\d+)(?:\\?(.*))?$", "/user?id=$1&$2"),
            "/u/7?a=b",
            "/user?id=7&a=b",
        ),
        (pattern(Url, "x", "y"), "*", "*"),
    ];
    for (rule, before, after) in table {
        let shown = format!("{rule:?} on {before}");
        assert_eq!(target(&[rule], before), Ok(after.to_owned()), "{shown}");
    }
    let chain = [prefix("/a", "/b"), prefix("/b", "/c")];
    assert_eq!(target(&chain, "/a/x"), Ok("/c/x".to_owned()));
}

/// What a client could do with a rule that its author didn't mean.
#[test]
fn what_a_rule_makes_must_have_one_reading() {
    let strip = || prefix("/app", "");
    let open = || pattern(TargetPart::Path, "^/app/(.*)$", "$1");
    let table = [
        (strip(), "/app//evil.example"),
        (strip(), "/app/../ecp"),
        (strip(), "/app/%2e%2E/ecp"),
        (strip(), "/app/..%2fecp"),
        (strip(), "/app/..%5cecp"),
        (strip(), "/app/..;x=1/ecp"),
        (open(), "/app/x"),
        (open(), "/app/"),
        (pattern(TargetPart::Path, "$", "#x"), "/app"),
        (pattern(TargetPart::Path, "$", " x"), "/app"),
        (pattern(TargetPart::Path, "$", "\r\n"), "/app"),
    ];
    for (rule, before) in table {
        let shown = format!("{rule:?} on {before}");
        assert_eq!(target(&[rule], before), Err(Kind::BadRequest), "{shown}");
    }
    // Not a matter of a rule that doesn't match.
    assert_eq!(target(&[strip()], "/x/../y"), Ok("/x/../y".to_owned()));
    assert_eq!(
        target(&[strip()], "/app/a..b/%20"),
        Ok("/a..b/%20".to_owned())
    );
}
