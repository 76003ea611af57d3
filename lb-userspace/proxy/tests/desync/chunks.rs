//! Chunks and trailers.

use crate::codings::CHUNKED;
use crate::{Case, post};

const TE: &str = "Transfer-Encoding: chunked\r\n";
/// The head of the request, as the server gets it.
const HEAD: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(crate) fn chunks() -> Vec<Case> {
    let passes = |name, source, body: &str| Case::passes(name, source, post(TE, body), CHUNKED);
    // What comes before the mistake may be on its way already; what the server never gets is the end.
    let refused = |name, source, body: &str| Case::refused(name, source, post(TE, body)).cut(HEAD);
    let after_hello = |name, source, body: &str| {
        Case::refused(name, source, post(TE, body)).cut(format!("{HEAD}5\r\nhello\r\n"))
    };
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    let zeros = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(1000));
    vec![
        passes(
            "extension",
            "RFC 9112 7.1.1",
            "5;name=value\r\nhello\r\n0;x\r\n\r\n",
        ),
        passes(
            "empty extension",
            "Http11Probe CHUNK-BARE-SEMICOLON",
            "5;\r\nhello\r\n0\r\n\r\n",
        ),
        passes(
            "extension with control bytes",
            "Http11Probe CHUNK-EXT-CTRL",
            "5;\0\x01\r\nhello\r\n0\r\n\r\n",
        ),
        passes(
            "extension with a quoted line",
            "Jeppe Bonde Weikop 2025, EXT.TERM",
            "5;x=\"0\"\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "extension with bare LF",
            "Jeppe Bonde Weikop 2025, TERM.EXT",
            "5;x\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "extension with bare CR",
            "Http11Probe CHUNK-EXT-CR",
            "5;x\ry\r\nhello\r\n0\r\n\r\n",
        ),
        refused("extensions of 20,000 bytes", "CVE-2023-39326", &long),
        refused(
            "size ended by bare LF",
            "Http11Probe CHUNK-LF-TERM",
            "5\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "size ended by bare CR",
            "Http11Probe CHUNK-BARE-CR-TERM",
            "5\rhello\r\n0\r\n\r\n",
        ),
        refused(
            "size with 0x",
            "HTTP Garden; CVE-2023-47627",
            "0x5\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "size with underscore",
            "HTTP Garden; CVE-2023-47627",
            "0_5\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "size with plus sign",
            "HTTP Garden",
            "+5\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "size with minus sign",
            "HTTP Garden",
            "-5\r\nhello\r\n0\r\n\r\n",
        ),
        refused("no size", "HTTP Garden", "\r\nhello\r\n0\r\n\r\n"),
        refused(
            "size that is no number",
            "Http11Probe CHUNK-INVALID-SIZE-DESYNC",
            "5g\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "space before the size",
            "Http11Probe CHUNK-LEADING-SP",
            " 5\r\nhello\r\n0\r\n\r\n",
        ),
        passes(
            "white space after the size",
            "Http11Probe CHUNK-SIZE-TRAILING-OWS",
            "5 \t\r\nhello\r\n0\r\n\r\n",
        ),
        refused(
            "second number after the size",
            "RFC 9112 7.1",
            "5 5\r\nhello\r\n0\r\n\r\n",
        ),
        passes("a thousand zeros before the size", "RFC 9112 7.1", &zeros),
        passes(
            "upper case size",
            "RFC 9112 7.1",
            "A\r\nhellohello\r\n0\r\n\r\n",
        )
        .reaches(CHUNKED.replace("5\r\nhello", "A\r\nhellohello")),
        refused(
            "size beyond 64 bits",
            "RFC 9112 7.1",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        after_hello(
            "data longer than its size",
            "Jeppe Bonde Weikop 2025, SPILL",
            "5\r\nhelloXX0\r\n\r\n",
        ),
        after_hello(
            "no CRLF after the data",
            "Http11Probe CHUNK-MISSING-TRAILING-CRLF",
            "5\r\nhello0\r\n\r\n",
        ),
        after_hello(
            "bare LF after the data",
            "Jeppe Bonde Weikop 2025, TERM.SPILL",
            "5\r\nhello\n0\r\n\r\n",
        ),
        after_hello(
            "last chunk ended by bare LF",
            "HTTP Garden",
            "5\r\nhello\r\n0\n\n",
        ),
        after_hello(
            "end without its last LF",
            "RFC 9112 7.1",
            "5\r\nhello\r\n0\r\n\rX",
        ),
        passes(
            "two chunks: their bounds mean nothing",
            "RFC 9112 7.1",
            "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        )
        .reaches(format!("{HEAD}2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")),
        passes(
            "request after the last chunk: the next one",
            "Kettle 2019",
            "5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n",
        )
        .gets("200 200")
        .reaches(format!("{CHUNKED}GET /next HTTP/1.1\r\nHost: h\r\n\r\n")),
    ]
}

pub(crate) fn trailers() -> Vec<Case> {
    // They end here, whatever they are, and so does their announcement.
    let passes = |name, source, field: &str| {
        let (announced, _) = field.split_once(':').unwrap();
        let lines = format!("TE: trailers\r\nTrailer: {announced}\r\n{TE}");
        let body = format!("5\r\nhello\r\n0\r\n{field}\r\n\r\n");
        Case::passes(name, source, post(&lines, &body), CHUNKED)
    };
    let refused = |name, source, end: &str| {
        let sent = post(TE, &format!("5\r\nhello\r\n0\r\n{end}"));
        Case::refused(name, source, sent).cut(format!("{HEAD}5\r\nhello\r\n"))
    };
    vec![
        passes(
            "Content-Length",
            "Http11Probe TRAILER-CL; RFC 9110 6.5.1",
            "Content-Length: 50",
        ),
        passes(
            "Transfer-Encoding",
            "Http11Probe TRAILER-TE",
            "Transfer-Encoding: chunked",
        ),
        passes("Host", "Http11Probe TRAILER-HOST", "Host: evil"),
        passes(
            "Authorization",
            "Http11Probe TRAILER-AUTH",
            "Authorization: Basic YTpi",
        ),
        passes(
            "X-Forwarded-For",
            "RFC 9110 6.5.1",
            "X-Forwarded-For: 127.0.0.1",
        ),
        passes("any other", "RFC 9110 6.5", "X-Check: sum"),
        refused(
            "without colon",
            "RFC 9112 7.1.2",
            "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        ),
        refused("ended by bare CR", "RFC 9112 7.1.2", "X: x\rY: y\r\n\r\n"),
        // Trailers up to the empty line that ends in CRLF, and dropped with the rest of them.
        Case::passes(
            "bare LF in them",
            "Http11Probe CHUNK-LF-TRAILER",
            post(
                TE,
                "5\r\nhello\r\n0\r\nX: x\n\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
            ),
            CHUNKED,
        ),
    ]
}
