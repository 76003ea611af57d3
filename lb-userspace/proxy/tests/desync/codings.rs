//! Both ways of framing at once, and `Transfer-Encoding` in disguise.

use crate::{Case, post};

/// What the server gets of a body that came in chunks, however it was disguised.
pub(crate) const CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
/// An empty body in chunks.
const EMPTY: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
const HELLO: &str = "5\r\nhello\r\n0\r\n\r\n";
const TE: &str = "Transfer-Encoding: chunked\r\n";

pub(crate) fn conflicts() -> Vec<Case> {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let clte = |lines: String| post(&lines, smuggled);
    vec![
        // RFC 9112 section 6.3 lets a server go by Transfer-Encoding alone if it closes the connection afterwards.
        // So what follows the last chunk is never read, and the server gets no Content-Length.
        Case::passes(
            "CL.TE",
            "Kettle 2019; RFC 9112 6.1",
            clte(format!("Content-Length: {}\r\n{TE}", smuggled.len())),
            EMPTY,
        )
        .closes(),
        Case::passes(
            "TE first, then CL",
            "Kettle 2019",
            clte(format!("{TE}Content-Length: {}\r\n", smuggled.len())),
            EMPTY,
        )
        .closes(),
        Case::passes(
            "TE.CL: CL ends inside the first chunk",
            "Kettle 2019",
            post(&format!("Content-Length: 4\r\n{TE}"), HELLO),
            CHUNKED,
        )
        .closes(),
        Case::passes(
            "CL on both sides of TE, differing",
            "HTTP Garden",
            post(
                &format!("Content-Length: 4\r\n{TE}Content-Length: 9\r\n"),
                HELLO,
            ),
            CHUNKED,
        )
        .closes(),
        Case::passes(
            "CL that is no number beside TE",
            "Http11Probe CLTE-SMUGGLED-GET-CL-NON-NUMERIC",
            post(&format!("{TE}Content-Length: N\r\n"), HELLO),
            CHUNKED,
        )
        .closes(),
        Case::refused(
            "CL that is no number before TE",
            "Http11Probe CLTE-SMUGGLED-GET-CL-NON-NUMERIC",
            post(&format!("Content-Length: N\r\n{TE}"), HELLO),
        ),
        Case::passes(
            "CL.TE with Connection: keep-alive",
            "Http11Probe CLTE-CONN-CLOSE",
            clte(format!(
                "Connection: keep-alive\r\nContent-Length: 6\r\n{TE}"
            )),
            EMPTY,
        )
        .closes(),
        Case::passes(
            "CL: 0 and TE on GET (TE.0)",
            "TE.0, 2024",
            format!("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{TE}\r\n{HELLO}"),
            CHUNKED.replace("POST", "GET"),
        )
        .closes(),
        Case::refused(
            "TE in HTTP/1.0",
            "RFC 9112 6.1",
            post(TE, HELLO).replace("1.1", "1.0"),
        ),
        Case::refused(
            "TE and CL in HTTP/1.0 with keep-alive",
            "RFC 9112 6.1",
            post(
                &format!("Connection: keep-alive\r\nContent-Length: 5\r\n{TE}"),
                HELLO,
            )
            .replace("1.1", "1.0"),
        ),
    ]
}

pub(crate) fn obfuscated() -> Vec<Case> {
    let te = |line: &str| post(&format!("Content-Length: 5\r\n{line}\r\n"), HELLO);
    let passes = |name, source, line| Case::passes(name, source, te(line), CHUNKED).closes();
    let refused = |name, source, line| Case::refused(name, source, te(line));
    vec![
        refused("xchunked", "Kettle 2019", "Transfer-Encoding: xchunked"),
        refused(
            "space before the colon",
            "Kettle 2019",
            "Transfer-Encoding : chunked",
        ),
        refused(
            "chunked, then another TE line",
            "Kettle 2019",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        ),
        refused(
            "another TE line, then chunked",
            "Kettle 2019",
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        ),
        refused(
            "chunked on two lines",
            "RFC 9112 6.1",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ),
        // Canonical afterwards: white space around a value isn't part of it.
        passes(
            "tab before the value",
            "Kettle 2019",
            "Transfer-Encoding:\tchunked",
        ),
        passes(
            "white space around the value",
            "RFC 9110 5.5",
            "Transfer-Encoding: \t chunked \t ",
        ),
        passes(
            "no space after the colon",
            "RFC 9112 5",
            "Transfer-Encoding:chunked",
        ),
        // The case of a name stays, as that of all names.
        passes(
            "case of name and value",
            "RFC 9112 7",
            "tRANSFER-eNCODING: CHUNKED",
        )
        .reaches(CHUNKED.replace("Transfer-Encoding", "tRANSFER-eNCODING")),
        refused(
            "space before the name",
            "Kettle 2019",
            " Transfer-Encoding: chunked",
        ),
        refused(
            "value on a folded line",
            "Kettle 2019",
            "Transfer-Encoding:\r\n chunked",
        ),
        refused(
            "value on a line folded with bare LF",
            "PortSwigger request smuggler",
            "Transfer-Encoding:\n chunked",
        ),
        refused(
            "folded end",
            "RFC 9112 5.2",
            "Transfer-Encoding: chunked\r\n , identity",
        ),
        refused(
            "hidden after a bare CR",
            "Kettle 2019",
            "X: x\rTransfer-Encoding: chunked",
        ),
        // A line of its own to us, and written as one.
        passes(
            "hidden after a bare LF",
            "Kettle 2019",
            "X-X: x\nTransfer-Encoding: chunked",
        )
        .reaches(CHUNKED.replace("Transfer", "X-X: x\r\nTransfer")),
        refused(
            "vertical tab before the value",
            "Http11Probe TE-VTAB",
            "Transfer-Encoding: \x0bchunked",
        ),
        refused(
            "form feed before the value",
            "Http11Probe TE-FORMFEED",
            "Transfer-Encoding: \x0cchunked",
        ),
        refused(
            "NUL after the value",
            "Http11Probe TE-NULL",
            "Transfer-Encoding: chunked\0",
        ),
        refused(
            "no-break space before the value",
            "PortSwigger request smuggler",
            "Transfer-Encoding: \u{a0}chunked",
        ),
        refused(
            "byte 0xff after the value",
            "PortSwigger request smuggler",
            "Transfer-Encoding: chunked\u{ff}",
        ),
        refused("quoted", "Kettle 2019", "Transfer-Encoding: \"chunked\""),
        refused("identity", "RFC 2616 3.6", "Transfer-Encoding: identity"),
        refused(
            "chunked, identity",
            "Kettle 2019",
            "Transfer-Encoding: chunked, identity",
        ),
        refused(
            "identity, chunked",
            "Kettle 2019",
            "Transfer-Encoding: identity, chunked",
        ),
        refused(
            "gzip, chunked: would have to be undone",
            "RFC 9112 7",
            "Transfer-Encoding: gzip, chunked",
        ),
        refused(
            "chunked, chunked",
            "RFC 9112 6.1",
            "Transfer-Encoding: chunked, chunked",
        ),
        refused(
            "chunked with a parameter",
            "RFC 9112 7.1",
            "Transfer-Encoding: chunked;x=y",
        ),
        refused(
            "comma before",
            "Http11Probe TE-LEADING-COMMA",
            "Transfer-Encoding: ,chunked",
        ),
        refused(
            "comma after",
            "Http11Probe TE-TRAILING-COMMA",
            "Transfer-Encoding: chunked,",
        ),
        refused("empty", "Http11Probe TE-EMPTY-VALUE", "Transfer-Encoding:"),
        refused(
            "underscore in the name",
            "CGI meta-variables, RFC 3875 4.1.18",
            "Transfer_Encoding: chunked",
        ),
        refused(
            "full stop in the name",
            "PortSwigger request smuggler",
            "Transfer.Encoding: chunked",
        ),
        refused(
            "byte before the name",
            "PortSwigger request smuggler",
            "\u{ff}Transfer-Encoding: chunked",
        ),
    ]
}
