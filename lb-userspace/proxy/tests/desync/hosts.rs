//! Whose request it is: `Host` and absolute-form.

use crate::Case;

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

pub(crate) fn cases() -> Vec<Case> {
    let get = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let refused = |name, source, lines: &str| Case::refused(name, source, get(lines));
    let absolute = |name, source, target: &str, host: &str| {
        let sent = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Case::passes(name, source, sent, PLAIN)
    };
    vec![
        refused("none", "RFC 9112 3.2", "X: x\r\n"),
        refused(
            "two that differ",
            "RFC 9112 3.2",
            "Host: h\r\nHost: evil\r\n",
        ),
        refused("two that agree", "RFC 9112 3.2", "Host: h\r\nHost: h\r\n"),
        refused(
            "two, one indented",
            "PortSwigger host header attacks",
            "Host: h\r\n Host: evil\r\n",
        ),
        refused(
            "space before the colon",
            "PortSwigger host header attacks",
            "Host : h\r\n",
        ),
        refused(
            "list",
            "Http11Probe MULTIPLE-HOST-COMMA",
            "Host: h, evil\r\n",
        ),
        refused("space inside", "RFC 9112 3.2", "Host: h evil\r\n"),
        refused(
            "with userinfo",
            "Http11Probe HOST-WITH-USERINFO",
            "Host: u@h\r\n",
        ),
        refused(
            "with path",
            "Http11Probe HOST-WITH-PATH",
            "Host: h/evil\r\n",
        ),
        refused(
            "with a port that is no number",
            "PortSwigger host header attacks",
            "Host: h:evil\r\n",
        ),
        refused(
            "with two ports",
            "PortSwigger host header attacks",
            "Host: h:80:evil\r\n",
        ),
        refused("byte over 0x7f", "RFC 3986 3.2.2", "Host: h\u{e9}\r\n"),
        refused(
            "name that resembles it",
            "CGI meta-variables, RFC 3875 4.1.18",
            "Host: h\r\nHost_: evil\r\n",
        ),
        Case::passes(
            "empty: not known",
            "RFC 9112 3.2",
            get("Host:\r\n"),
            get("Host:\r\n"),
        ),
        Case::passes(
            "IPv6 with port",
            "RFC 3986 3.2.2",
            get("Host: [fd00::1]:443\r\n"),
            get("Host: [fd00::1]:443\r\n"),
        ),
        refused("IPv6 that isn't", "RFC 3986 3.2.2", "Host: [fd00::1\r\n"),
        Case::passes(
            "none in HTTP/1.0: not known",
            "RFC 9112 3.2",
            "GET / HTTP/1.0\r\n\r\n",
            get("Host:\r\n"),
        )
        .closes(),
        absolute(
            "absolute-form rules over Host",
            "RFC 9112 3.2.2",
            "http://h/",
            "evil",
        ),
        absolute(
            "absolute-form with userinfo",
            "RFC 9110 4.2.4",
            "http://u:p@h/",
            "evil",
        ),
        absolute(
            "absolute-form without path",
            "RFC 9112 3.2.1",
            "http://h",
            "evil",
        ),
        Case::refused(
            "absolute-form of another scheme",
            "RFC 9112 3.2.2",
            "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        Case::refused(
            "absolute-form without Host",
            "RFC 9112 3.2",
            "GET http://h/ HTTP/1.1\r\n\r\n",
        ),
        Case::refused(
            "absolute-form with a host that isn't one",
            "RFC 9112 3.2.2",
            "GET http://h,evil/ HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
    ]
}
