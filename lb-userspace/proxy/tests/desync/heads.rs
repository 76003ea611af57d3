//! Header lines, what `Connection` names, and `Expect`.

use crate::{Case, post};

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

pub(crate) fn lines() -> Vec<Case> {
    let refused = |name, source, lines: &str| Case::refused(name, source, get(lines));
    let many = "X: x\r\n".repeat(101);
    vec![
        refused("folded line", "RFC 9112 5.2", "X: a\r\n b\r\n"),
        refused("folded with a tab", "RFC 9112 5.2", "X: a\r\n\tb\r\n"),
        refused("white space before the first line", "RFC 9112 2.2", "")
            .sends("GET / HTTP/1.1\r\n Host: h\r\n\r\n"),
        refused(
            "line of white space",
            "Http11Probe WHITESPACE-ONLY-LINE",
            " \r\nX: x\r\n",
        ),
        refused("space before the colon", "RFC 9112 5.1", "X : x\r\n"),
        refused(
            "tab before the colon",
            "Http11Probe TAB-IN-NAME",
            "X\t: x\r\n",
        ),
        refused(
            "no colon",
            "Http11Probe HEADER-NO-COLON",
            "GET /smuggled HTTP/1.1\r\n",
        ),
        refused("no name", "Http11Probe EMPTY-HEADER-NAME", ": x\r\n"),
        refused("bare CR in the value", "HTTP Garden", "X: a\rb\r\n"),
        refused("NUL in the value", "HTTP Garden", "X: a\0b\r\n"),
        refused("control byte in the value", "RFC 9110 5.5", "X: a\x01b\r\n"),
        refused("delete byte in the value", "RFC 9110 5.5", "X: a\x7fb\r\n"),
        refused("NUL in the name", "HTTP Garden", "X\0: x\r\n"),
        refused(
            "byte over 0x7f in the name",
            "HTTP Garden",
            "\u{ef}foo: x\r\n",
        ),
        refused("bracket in the name", "RFC 9110 5.6.2", "X[a]: x\r\n"),
        // Read as lines, as RFC 9112 section 2.2 allows, and written with CRLF.
        Case::passes(
            "bare LF after each line",
            "Http11Probe BARE-LF-HEADER",
            "GET / HTTP/1.1\nHost: h\n\n",
            PLAIN,
        ),
        Case::passes(
            "bare LF ends the head",
            "HTTP Garden",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            PLAIN,
        ),
        refused("CR CR LF ends a line", "HTTP Garden", "X: x\r\r\n"),
        refused("bare CR ends the head", "HTTP Garden", "\rX: x\r\n"),
        refused(
            "LF in the middle of a value: a line without colon",
            "HTTP Garden",
            "X: a\nb\r\n",
        ),
        Case::passes(
            "bytes over 0x7f in the value: opaque",
            "RFC 9110 5.5",
            get("X: \u{e9}\u{ff}\r\n"),
            get("X: \u{e9}\u{ff}\r\n"),
        ),
        refused("101 lines", "Http11Probe MANY-HEADERS", &many).gets("431"),
        refused(
            "line of a megabyte",
            "Http11Probe LONG-HEADER-VALUE",
            &format!("X: {}\r\n", "x".repeat(1 << 20)),
        )
        .gets("431"),
        refused(
            "line of a megabyte without end",
            "Http11Probe LONG-HEADER-NAME",
            "",
        )
        .sends(format!("GET / HTTP/1.1\r\nX{}", "x".repeat(1 << 20)))
        .gets("431"),
    ]
}

pub(crate) fn hop_by_hop() -> Vec<Case> {
    let hello = |lines: &str| post(&format!("{lines}Content-Length: 5\r\n"), "hello");
    vec![
        Case::passes(
            "Connection: Content-Length doesn't take the length away",
            "Davison 2019, hop-by-hop abuse",
            hello("Connection: Content-Length\r\n"),
            hello(""),
        ),
        Case::passes(
            "Connection: Transfer-Encoding doesn't take the framing away",
            "Davison 2019",
            post(
                "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n0\r\n\r\n",
            ),
            crate::codings::CHUNKED,
        ),
        Case::passes(
            "Connection: Host doesn't take the host away",
            "Davison 2019",
            get("Connection: Host\r\n"),
            PLAIN,
        ),
        Case::passes(
            "what Connection names ends here",
            "RFC 9110 7.6.1",
            get("Connection: X-A\r\nX-A: 1\r\nX-B: 2\r\n"),
            get("X-B: 2\r\n"),
        ),
        Case::passes(
            "Connection: close, keep-alive closes",
            "RFC 9112 9.3",
            get("Connection: close\r\nConnection: keep-alive\r\n"),
            PLAIN,
        )
        .closes(),
        Case::passes(
            "TE and Keep-Alive end here",
            "RFC 9110 7.6.1",
            get("TE: trailers, gzip\r\nKeep-Alive: timeout=5\r\n"),
            PLAIN,
        ),
        Case::passes(
            "Upgrade: h2c ends here",
            "Bishop Fox 2020, h2c smuggling",
            get(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
            ),
            PLAIN,
        ),
        Case::passes(
            "Upgrade: websocket ends here unless the route allows it",
            "Egorov 2019, WebSocket smuggling",
            get("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\n"),
            get("Sec-WebSocket-Version: 777\r\n"),
        ),
        Case::passes(
            "Proxy-Connection ends here",
            "RFC 9110 7.6.1",
            get("Proxy-Connection: keep-alive\r\n"),
            PLAIN,
        ),
        Case::passes(
            "X-Forwarded-*, Forwarded and Via of the client end here",
            "RFC 7239 8.1",
            get(
                "X-Forwarded-For: 1\r\nX-Forwarded-Host: evil\r\nForwarded: for=1\r\nVia: 1.1 x\r\n",
            ),
            PLAIN,
        ),
    ]
}

pub(crate) fn expectations() -> Vec<Case> {
    let expecting = |lines: &str| post(&format!("{lines}Content-Length: 5\r\n"), "hello");
    vec![
        Case::passes(
            "100-continue with the body at once",
            "RFC 9110 10.1.1",
            expecting("Expect: 100-continue\r\n"),
            expecting("Expect: 100-continue\r\n"),
        ),
        Case::passes(
            "any case of the value: passed on as it is",
            "RFC 9110 10.1.1",
            expecting("Expect: 100-Continue\r\n"),
            expecting("Expect: 100-Continue\r\n"),
        ),
        Case::refused(
            "y 100-continue",
            "Kettle 2025, Expect-based desync",
            expecting("Expect: y 100-continue\r\n"),
        ),
        Case::refused(
            "100-continue in a list",
            "Kettle 2025",
            expecting("Expect: 100-continue, x\r\n"),
        ),
        Case::refused(
            "100-continue on two lines",
            "Kettle 2025",
            expecting("Expect: 100-continue\r\nExpect: 100-continue\r\n"),
        ),
        Case::refused(
            "unknown",
            "Http11Probe EXPECT-UNKNOWN",
            expecting("Expect: 200-ok\r\n"),
        ),
        Case::passes(
            "100-continue without a body: removed",
            "Kettle 2025, 0.CL by Expect",
            get("Expect: 100-continue\r\n"),
            PLAIN,
        ),
        Case::passes(
            "100-continue in HTTP/1.0: removed",
            "RFC 9110 10.1.1",
            expecting("Expect: 100-continue\r\n").replace("1.1", "1.0"),
            expecting(""),
        )
        .closes(),
        Case::refused(
            "100-continue on a folded line",
            "PortSwigger request smuggler",
            expecting("Expect:\r\n 100-continue\r\n"),
        ),
    ]
}
