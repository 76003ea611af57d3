//! Request lines, methods, and what follows a request.

use crate::{Case, post};

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

fn line(line: &str) -> String {
    format!("{line}\r\nHost: h\r\n\r\n")
}

pub(crate) fn request_lines() -> Vec<Case> {
    let refused = |name, source, text: &str| Case::refused(name, source, line(text));
    vec![
        refused(
            "two spaces before the target",
            "RFC 9112 3",
            "GET  / HTTP/1.1",
        ),
        refused(
            "two spaces after the target",
            "RFC 9112 3",
            "GET /  HTTP/1.1",
        ),
        refused(
            "tab for a space",
            "Http11Probe REQUEST-LINE-TAB",
            "GET\t/ HTTP/1.1",
        ),
        refused("space in the target", "RFC 9112 3.2", "GET /a b HTTP/1.1"),
        refused("space before the method", "RFC 9112 2.2", " GET / HTTP/1.1"),
        refused(
            "space after the version",
            "Http11Probe VERSION-WHITESPACE",
            "GET / HTTP/1.1 ",
        ),
        refused("bare LF for a space", "HTTP Garden", "GET /\nHTTP/1.1"),
        refused(
            "bare CR after the version",
            "HTTP Garden",
            "GET / HTTP/1.1\rX: x",
        ),
        Case::refused("HTTP/0.9", "HTTP Garden", "GET /\r\n"),
        Case::refused(
            "HTTP/0.9 with a request behind it",
            "Http11Probe HTTP09-REQUEST",
            "GET /\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        refused("HTTP/1.2", "RFC 9112 2.3", "GET / HTTP/1.2"),
        refused("HTTP/1.10", "HTTP Garden", "GET / HTTP/1.10"),
        refused(
            "HTTP/01.1",
            "Http11Probe VERSION-LEADING-ZEROS",
            "GET / HTTP/01.1",
        ),
        refused(
            "HTTP/1",
            "Http11Probe VERSION-MISSING-MINOR",
            "GET / HTTP/1",
        ),
        refused("HTTP/2.0", "RFC 9112 2.3", "GET / HTTP/2.0"),
        refused("http/1.1", "Http11Probe VERSION-CASE", "GET / http/1.1"),
        refused("HTP/1.1", "RFC 9112 2.3", "GET / HTP/1.1"),
        Case::refused(
            "preface of HTTP/2",
            "RFC 9113 3.4",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
        .gets(""),
        Case::passes(
            "empty lines before",
            "RFC 9112 2.2",
            format!("\r\n\n\r\n{PLAIN}"),
            PLAIN,
        ),
        // Not part of a target, and cut off: the server gets the path before it.
        Case::passes(
            "fragment in the target",
            "Http11Probe FRAGMENT-IN-TARGET",
            line("GET /a#/../b HTTP/1.1"),
            line("GET /a HTTP/1.1"),
        ),
        refused(
            "NUL in the target",
            "Http11Probe NUL-IN-URL",
            "GET /\0 HTTP/1.1",
        ),
        refused(
            "control byte in the target",
            "RFC 9112 3.2",
            "GET /\x01 HTTP/1.1",
        ),
        refused(
            "overlong UTF-8 in the target",
            "Http11Probe URL-OVERLONG-UTF8",
            "GET /\u{c0}\u{af} HTTP/1.1",
        ),
        Case::passes(
            "encoded CRLF: stays encoded",
            "Http11Probe URL-PERCENT-CRLF",
            line("GET /%0d%0aX:%20x HTTP/1.1"),
            line("GET /%0d%0aX:%20x HTTP/1.1"),
        ),
        refused("no target", "Http11Probe MISSING-TARGET", "GET HTTP/1.1"),
        refused("target without slash", "RFC 9112 3.2.1", "GET a HTTP/1.1"),
        refused(
            "* for GET",
            "Http11Probe ASTERISK-WITH-GET",
            "GET * HTTP/1.1",
        ),
        refused(
            "authority-form for GET",
            "RFC 9112 3.2.3",
            "GET h:443 HTTP/1.1",
        ),
        Case::passes(
            "OPTIONS *",
            "RFC 9112 3.2.4",
            line("OPTIONS * HTTP/1.1"),
            line("OPTIONS * HTTP/1.1"),
        ),
        Case::passes(
            "path that begins with //",
            "RFC 9112 3.2.1",
            line("GET //evil/x HTTP/1.1"),
            line("GET //evil/x HTTP/1.1"),
        ),
        refused(
            "target of 70,000 bytes",
            "Http11Probe LONG-URL",
            &format!("GET /{} HTTP/1.1", "x".repeat(70_000)),
        )
        .gets("414"),
    ]
}

pub(crate) fn methods() -> Vec<Case> {
    let refused = |name, source, text: &str| Case::refused(name, source, line(text));
    vec![
        refused("get", "Http11Probe METHOD-CASE", "get / HTTP/1.1"),
        refused(
            "head: a server that takes it for HEAD sends no body",
            "Http11Probe METHOD-CASE",
            "hEAD / HTTP/1.1",
        ),
        Case::passes(
            "unknown method",
            "RFC 9110 9.1",
            line("RPC_OUT_DATA / HTTP/1.1"),
            line("RPC_OUT_DATA / HTTP/1.1"),
        ),
        refused(
            "method with brackets",
            "HTTP Garden",
            "G=\":<>(e),[T];?\" / HTTP/1.1",
        ),
        refused(
            "method of a tunnel",
            "RFC 9110 9.3.6",
            "CONNECT h:443 HTTP/1.1",
        )
        .gets("501"),
        refused("tunnel to a path", "RFC 9112 3.2.3", "CONNECT / HTTP/1.1"),
        Case::passes(
            "TRACE",
            "RFC 9110 9.3.8",
            line("TRACE / HTTP/1.1"),
            line("TRACE / HTTP/1.1"),
        ),
        Case::refused(
            "TRACE with a body",
            "Http11Probe TRACE-WITH-BODY",
            post("Content-Length: 5\r\n", "hello").replace("POST", "TRACE"),
        ),
        Case::refused(
            "CONNECT with a body",
            "RFC 9110 9.3.6",
            post("Content-Length: 5\r\n", "hello").replace("POST /", "CONNECT h:1"),
        ),
    ]
}

/// In each of these the bytes after the request's head look like a request.
pub(crate) fn pipelines() -> Vec<Case> {
    let inner = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let with_body = |method: &str| {
        let length = format!("Content-Length: {}\r\n", inner.len());
        post(&length, inner).replace("POST", method)
    };
    let twice = format!("{PLAIN}{}", line("GET /second HTTP/1.1"));
    let body =
        |name, source, method| Case::passes(name, source, with_body(method), with_body(method));
    vec![
        Case::passes(
            "two requests at once are two",
            "RFC 9112 9.3.2",
            twice.clone(),
            twice,
        )
        .gets("200 200"),
        Case::refused(
            "request after one that was refused",
            "Kettle 2022",
            format!("{}{PLAIN}", line("GET * HTTP/1.1")),
        ),
        Case::refused(
            "request after one that hyper refused",
            "Kettle 2022",
            format!("{}{PLAIN}", line("GET  / HTTP/1.1")),
        ),
        Case::refused(
            "request after a refused tunnel",
            "Kettle 2022",
            format!("{}{PLAIN}", line("CONNECT h:1 HTTP/1.1")),
        )
        .gets("501"),
        // Passed on, on a connection that is not used again.
        body(
            "GET with a body (CL.0)",
            "Kettle 2022, CL.0; Http11Probe GET-CL-BODY-DESYNC",
            "GET",
        ),
        body("DELETE with a body", "Kettle 2022, CL.0", "DELETE"),
        body(
            "OPTIONS with a body",
            "Http11Probe OPTIONS-CL-BODY-DESYNC",
            "OPTIONS",
        ),
        body("POST with a body", "Kettle 2022, CL.0", "POST"),
        Case::passes(
            "HEAD with a body",
            "Http11Probe HEAD-CL-BODY",
            with_body("HEAD"),
            with_body("HEAD"),
        )
        .gets("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"),
        Case::passes(
            "POST without length: no body (0.CL)",
            "Kettle 2025, 0.CL",
            format!("POST / HTTP/1.1\r\nHost: h\r\n\r\n{inner}"),
            format!("POST / HTTP/1.1\r\nHost: h\r\n\r\n{inner}"),
        )
        .gets("200 200"),
        Case::passes(
            "HTTP/1.0: nothing after it is read",
            "RFC 9112 9.3",
            format!("GET / HTTP/1.0\r\nHost: h\r\n\r\n{inner}"),
            PLAIN,
        )
        .closes(),
    ]
}
