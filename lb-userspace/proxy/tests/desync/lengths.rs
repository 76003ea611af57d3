//! `Content-Length` that isn't one number.

use crate::{Case, post};

pub(crate) fn cases() -> Vec<Case> {
    let refused = |name, source, lines: &str| Case::refused(name, source, post(lines, "hello"));
    let passes = |name, source, lines: &str| {
        let hello = post("Content-Length: 5\r\n", "hello");
        Case::passes(name, source, post(lines, "hello"), hello)
    };
    vec![
        refused(
            "two that differ",
            "Linhart 2005; RFC 9112 6.3",
            "Content-Length: 5\r\nContent-Length: 0\r\n",
        ),
        refused(
            "two that differ, the larger last",
            "Linhart 2005",
            "Content-Length: 0\r\nContent-Length: 5\r\n",
        ),
        passes(
            "two that agree: one is passed on",
            "RFC 9110 8.6",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
        ),
        passes(
            "two that agree as numbers",
            "Http11Probe CL-LEADING-ZEROS",
            "Content-Length: 05\r\nContent-Length: 5\r\n",
        ),
        refused(
            "list that agrees",
            "RFC 9110 8.6",
            "Content-Length: 5,5\r\n",
        ),
        refused(
            "list that differs",
            "RFC 9112 6.3",
            "Content-Length: 5, 0\r\n",
        ),
        refused("plus sign", "HTTP Garden", "Content-Length: +5\r\n"),
        refused(
            "minus sign",
            "Http11Probe CL-NEGATIVE",
            "Content-Length: -5\r\n",
        ),
        refused(
            "minus zero",
            "Http11Probe CL-NEGATIVE-ZERO",
            "Content-Length: -0\r\n",
        ),
        refused(
            "hexadecimal",
            "Http11Probe CL-HEX-PREFIX",
            "Content-Length: 0x5\r\n",
        ),
        refused(
            "octal prefix",
            "Http11Probe CL-OCTAL",
            "Content-Length: 0o5\r\n",
        ),
        passes(
            "leading zeros: passed on without",
            "Http11Probe CL-LEADING-ZEROS-OCTAL",
            "Content-Length: 005\r\n",
        ),
        refused(
            "underscore between digits",
            "HTTP Garden",
            "Content-Length: 0_5\r\n",
        ),
        refused(
            "space between digits",
            "Http11Probe CL-INTERNAL-SPACE",
            "Content-Length: 0 5\r\n",
        ),
        refused("decimal point", "RFC 9110 8.6", "Content-Length: 5.0\r\n"),
        refused("exponent", "RFC 9110 8.6", "Content-Length: 5e0\r\n"),
        refused("empty", "HTTP Garden", "Content-Length:\r\n"),
        refused(
            "beyond 64 bits",
            "RFC 9110 8.6",
            "Content-Length: 18446744073709551621\r\n",
        ),
        refused(
            "at 64 bits",
            "RFC 9110 8.6",
            "Content-Length: 18446744073709551615\r\n",
        )
        .gets("431"),
        passes(
            "white space after",
            "Http11Probe CL-TRAILING-SPACE",
            "Content-Length: 5 \t\r\n",
        ),
        passes(
            "white space before",
            "Http11Probe CL-EXTRA-LEADING-SP",
            "Content-Length:  \t 5\r\n",
        ),
        refused(
            "no-break space before",
            "PortSwigger request smuggler",
            "Content-Length: \u{a0}5\r\n",
        ),
        refused("NUL after", "HTTP Garden", "Content-Length: 5\0\r\n"),
        refused(
            "fullwidth digit",
            "HTTP Garden",
            "Content-Length: \u{ef}\u{bc}\u{95}\r\n",
        ),
        refused(
            "space before the colon",
            "CVE-2019-16276; HTTP Garden",
            "Content-Length : 5\r\n",
        ),
        refused(
            "underscore in the name",
            "Http11Probe CL-UNDERSCORE",
            "Content_Length: 5\r\n",
        ),
        refused(
            "with something after the name",
            "Kettle 2019",
            "Content-Length abc: 5\r\n",
        ),
        refused("on the first line, indented", "HTTP Garden", "")
            .sends("POST / HTTP/1.1\r\n\tContent-Length: 5\r\nHost: h\r\n\r\nhello"),
        refused(
            "in a folded line",
            "RFC 9112 5.2",
            "X: x\r\n Content-Length: 5\r\n",
        ),
    ]
}
