//! Rules: each verb, what they may name, and what is said of mistakes.

use http::HeaderName;
use lb_config::{
    Action, HeaderRule, Mode, Piece, Rules, TargetPart, TargetRule, Template, Variable, parse,
};

use crate::check;

/// An HTTP service with this much more, from line 8 on.
fn file(profile: &str, text: &str) -> String {
    format!(
        r#"interfaces = ["eth0"]
[[service]]
name = "web"
listen = "10.203.1.100:80"
mode = "http"
profile = "{profile}"
servers = ["10.203.2.11:80"]
health = {{ kind = "http", path = "/", host = "h" }}
{text}"#
    )
}

fn read(profile: &str, text: &str) -> (Vec<Rules>, Vec<String>) {
    let config = parse(&file(profile, text)).unwrap_or_else(|errors| panic!("{errors}"));
    let warnings = config.warnings.iter().map(ToString::to_string).collect();
    let Mode::Http(http) = &config.services[0].mode else {
        panic!("http")
    };
    let rules = http.routes.iter().map(|route| match &route.action {
        Action::Forward(forwarding) => forwarding.rules.clone(),
        other => panic!("{other:?}"),
    });
    (rules.collect(), warnings)
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

#[test]
fn each_verb_is_read() {
    let (rules, warnings) = read(
        "plain",
        r#"
        request_rules = [
            { add = "X-A", value = "a{client_ip}b{query}" },
            { path_prefix = "/Old/", with = "/New/" },
            { set = "Host", value = "{host}" },
            { remove = "X-B" },
            { copy = "Content-Length", to = "X-Length" },
            { path = "^/u/(.*)$", with = "/users/$1" },
            { rewrite = "X-C", pattern = "^(?P<rest>.*)$", with = "${rest}$$" },
            { query = "^$", with = "a=b" },
            { url = "^/a$", with = "/b?c" },
        ]
        response_rules = [{ set = "X-Served-By", value = "{server}" }]
        "#,
    );
    let Rules {
        target,
        request,
        response,
    } = &rules[0];
    let text = |text: &str| Piece::Text(text.to_owned());
    let HeaderRule::Add { name: added, value } = &request[0] else {
        panic!("{request:?}")
    };
    let pieces = [
        text("a"),
        Piece::Variable(Variable::ClientIp),
        text("b"),
        Piece::Variable(Variable::Query),
    ];
    assert_eq!((added, value.pieces()), (&name("x-a"), &pieces[..]));
    assert!(matches!(&request[1], HeaderRule::Set { name, .. } if name == "host"));
    assert_eq!(request[2], HeaderRule::Remove { name: name("x-b") });
    let copied = HeaderRule::Copy {
        from: name("content-length"),
        to: name("x-length"),
    };
    assert_eq!(request[3], copied);
    assert!(matches!(&request[4], HeaderRule::Rewrite { with, .. } if with == "${rest}$$"));
    assert_eq!(request.len(), 5);

    assert!(
        matches!(&target[0], TargetRule::Prefix { from, to } if from.as_str() == "/old" && to == "/New")
    );
    let parts = target[1..].iter().map(|rule| match rule {
        TargetRule::Rewrite { part, .. } => *part,
        TargetRule::Prefix { .. } => panic!("{target:?}"),
    });
    assert_eq!(
        parts.collect::<Vec<_>>(),
        [TargetPart::Path, TargetPart::Query, TargetPart::Url]
    );
    assert!(
        matches!(&response[..], [HeaderRule::Set { value, .. }] if *value.pieces() == [Piece::Variable(Variable::Server)])
    );
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn every_variable_has_its_word() {
    let words = [
        "client_ip",
        "client_port",
        "listen_ip",
        "listen_port",
        "scheme",
        "sni",
        "method",
        "host",
        "path",
        "query",
        "service",
        "route",
        "server",
    ];
    for word in words {
        let text = format!("response_rules = [{{ set = \"X\", value = \"{{{word}}}\" }}]");
        let (rules, _) = read("plain", &text);
        let HeaderRule::Set { value, .. } = &rules[0].response[0] else {
            panic!("{rules:?}")
        };
        let Template { .. } = value;
        assert!(matches!(value.pieces(), [Piece::Variable(_)]), "{word}");
    }
}

#[test]
fn a_route_has_its_services_rules_or_its_own() {
    let (rules, _) = read(
        "plain",
        r#"
        request_rules = [{ remove = "X-A" }]
        response_rules = [{ remove = "Server" }]
        [[service.route]]
        name = "a"
        [[service.route]]
        name = "b"
        request_rules = []
        "#,
    );
    let sizes: Vec<_> = rules
        .iter()
        .map(|rules| (rules.request.len(), rules.response.len()))
        .collect();
    assert_eq!(sizes, [(1, 1), (0, 1)]);
}

/// The only rule for requests is `rule`, and this is said of it.
#[track_caller]
fn say(rule: &str, expected: &str) {
    let text = format!("request_rules = [{rule}]");
    let expected = format!("lb.toml:9:{expected}");
    check(&file("plain", &text), &[&expected]);
}

#[test]
fn mistakes_in_rules_are_named() {
    say(
        r#"{ value = "x" }"#,
        r#"18: service "web": request_rules[0]: a rule does one thing; expected a table with one of add, set, remove, copy, rewrite, path_prefix, path, query and url, such as { set = "X-Real-IP", value = "{client_ip}" }"#,
    );
    say(
        r#"{ set = "A", remove = "B", value = "x" }"#,
        r#"18: service "web": request_rules[0]: a rule does one thing; expected a table with one of add, set, remove, copy, rewrite, path_prefix, path, query and url, such as { set = "X-Real-IP", value = "{client_ip}" }"#,
    );
    say(
        r#"{ remvoe = "A" }"#,
        r#"20: service "web": request_rules[0].remvoe: unknown key; did you mean `remove`?"#,
    );
    say(
        r#"{ remove = "A", value = "x" }"#,
        r#"34: service "web": request_rules[0].value: is only for another verb, and this is remove; remove it, or change the other"#,
    );
    say(
        r#"{ set = "A" }"#,
        r#"18: service "web": request_rules[0].value: missing; add it, for example value = "{client_ip}""#,
    );
    say(
        r#"{ set = "A B", value = "x" }"#,
        r#"26: service "web": request_rules[0].set: `A B` is not the name of a header, such as "X-Real-IP""#,
    );
}

#[test]
fn mistakes_in_values_and_patterns_are_named() {
    say(
        r#"{ set = "A", value = "x\ny" }"#,
        r#"39: service "web": request_rules[0].value: `x\ny` is not the value of a header"#,
    );
    for value in ["{hots}", "{host", "host}", "{server}"] {
        say(
            &format!(r#"{{ set = "A", value = "{value}" }}"#),
            &format!(
                r#"39: service "web": request_rules[0].value: `{value}` is not a value in which braces hold one of {{client_ip}}, {{client_port}}, {{listen_ip}}, {{listen_port}}, {{scheme}}, {{sni}}, {{method}}, {{host}}, {{path}}, {{query}}, {{service}}, {{route}}"#
            ),
        );
    }
    say(
        r#"{ set = "Host", value = "{path}" }"#,
        r#"42: service "web": request_rules[0].value: `{path}` is not a value in which braces hold one of {sni}, {host}"#,
    );
    say(
        r#"{ set = "Host", value = "a@b" }"#,
        r#"42: service "web": request_rules[0].value: `a@b` is not a host name, with a port or without"#,
    );
    say(
        r#"{ rewrite = "A", pattern = "a(", with = "" }"#,
        r#"45: service "web": request_rules[0].pattern: `a(` is not a regular expression: unclosed group"#,
    );
    say(
        r#"{ rewrite = "A", pattern = "(a{1000}){1000}", with = "" }"#,
        r#"45: service "web": request_rules[0].pattern: `(a{1000}){1000}` is not a regular expression: Compiled regex exceeds size limit of 1048576 bytes."#,
    );
    say(
        r#"{ rewrite = "A", pattern = "(a)", with = "$1x" }"#,
        r#"59: service "web": request_rules[0].with: `$1x` is not a replacement for this pattern, which has no group `1x`; write ${1} if letters follow, and $$ for a $"#,
    );
    say(
        r#"{ path = "a", with = "b?c" }"#,
        r#"39: service "web": request_rules[0].with: `b?c` is not what may stand there: it holds characters that must be %-encoded, or are never allowed"#,
    );
    say(
        r#"{ url = "a", with = "b#c" }"#,
        r#"38: service "web": request_rules[0].with: `b#c` is not what may stand there: it holds characters that must be %-encoded, or are never allowed"#,
    );
    say(
        r#"{ path_prefix = "/a", with = "/b/../c" }"#,
        r#"47: service "web": request_rules[0].with: `/b/../c` is not the beginning of a path, such as "/owa": without %, query, "//", "/./" and "/../""#,
    );
}

/// A rule of one verb on a header; the column and the key of its name.
type Named = fn(&str) -> (String, usize, &'static str);

/// Whoever could say where a message ends, or what it is for, would speak for others.
#[test]
fn framing_and_host_are_out_of_reach() {
    let framing = [
        "Connection",
        "Content-Length",
        "Expect",
        "HTTP2-Settings",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    ];
    let rules: [Named; 5] = [
        |name| (format!("{{ add = {name:?}, value = \"x\" }}"), 26, "add"),
        |name| (format!("{{ set = {name:?}, value = \"x\" }}"), 26, "set"),
        |name| (format!("{{ remove = {name:?} }}"), 29, "remove"),
        |name| (format!("{{ copy = \"X\", to = {name:?} }}"), 37, "to"),
        |name| {
            (
                format!("{{ rewrite = {name:?}, pattern = \"x\", with = \"y\" }}"),
                30,
                "rewrite",
            )
        },
    ];
    for name in framing {
        for rule in rules {
            for list in ["request_rules", "response_rules"] {
                let (text, column, key) = rule(name);
                let column = column + list.len() - "request_rules".len();
                let lower = name.to_ascii_lowercase();
                let expected = format!(
                    "lb.toml:9:{column}: service \"web\": {list}[0].{key}: `{lower}` is not a header that rules may change: it says \
                     where a message ends or is for one connection only (RFC 9110 section 7.6.1), and the proxy writes its own; \
                     remove the rule"
                );
                check(&file("plain", &format!("{list} = [{text}]")), &[&expected]);
            }
        }
    }
    for rule in rules {
        let (text, column, key) = rule("host");
        if key != "set" {
            let expected = format!(
                "lb.toml:9:{column}: service \"web\": request_rules[0].{key}: `host` is not a header that may be missing or there \
                 twice, as Host may not; use {{ set = \"Host\", value = \"…\" }}"
            );
            check(
                &file("plain", &format!("request_rules = [{text}]")),
                &[&expected],
            );
        }
    }
}

/// Where logins hang on a header, a rule must say that it is meant, and is told what it costs.
#[test]
fn on_exchange_what_logins_hang_on_is_changed_by_force_only() {
    let cases = [
        (
            "request_rules",
            "{ remove = \"Authorization\"",
            "remove",
            "NTLM and Kerberos log a connection in",
        ),
        (
            "request_rules",
            "{ copy = \"X\", to = \"authorization\"",
            "to",
            "NTLM and Kerberos log a connection in",
        ),
        (
            "request_rules",
            "{ add = \"Cookie\", value = \"x\"",
            "add",
            "Exchange keeps the login of OWA",
        ),
        (
            "request_rules",
            "{ set = \"Via\", value = \"x\"",
            "set",
            "IIS takes each login of a request with Via",
        ),
        (
            "response_rules",
            "{ set = \"WWW-Authenticate\", value = \"x\"",
            "set",
            "clients learn from this header how",
        ),
        (
            "response_rules",
            "{ remove = \"Persistent-Auth\"",
            "remove",
            "clients learn from this header how",
        ),
        (
            "response_rules",
            "{ rewrite = \"Set-Cookie\", pattern = \"x\", with = \"y\"",
            "rewrite",
            "Exchange keeps the login of OWA",
        ),
    ];
    for (list, rule, key, cost) in cases {
        let at = format!("service \"web\": {list}[0].{key}: {cost}");
        let refused =
            parse(&file("exchange", &format!("{list} = [{rule} }}]"))).expect_err("a mistake");
        let refused = refused.to_string();
        assert!(refused.contains(&at), "{refused}");
        assert!(
            refused.ends_with("; remove the rule, or say force = true in it"),
            "{refused}"
        );

        let (_, warnings) = read("exchange", &format!("{list} = [{rule}, force = true }}]"));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(&at), "{warnings:?}");
        // Elsewhere it is the operator's own business.
        let (_, warnings) = read("plain", &format!("{list} = [{rule} }}]"));
        assert_eq!(warnings, Vec::<String>::new());
    }
    let (_, warnings) = read(
        "exchange",
        "request_rules = [{ remove = \"Via\" }, { set = \"X-A\", value = \"1\" }]",
    );
    assert_eq!(warnings, Vec::<String>::new());
}
