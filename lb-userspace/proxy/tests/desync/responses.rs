//! Servers that frame their responses in two ways.

use crate::Case;

pub(crate) fn cases() -> Vec<Case> {
    let broken = |name, source, answer| Case::answered(name, source, answer).gets("502");
    let passes = |name, source, answer, client| Case::answered(name, source, answer).gets(client);
    vec![
        broken(
            "CL and TE",
            "RFC 9112 6.3",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        broken(
            "TE and CL",
            "RFC 9112 6.3",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        broken(
            "two CL that differ",
            "RFC 9112 6.3",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
        ),
        passes(
            "two CL that agree: one is passed on",
            "RFC 9110 8.6",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        passes(
            "CL as a list that agrees",
            "RFC 9110 8.6",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        broken(
            "CL with plus sign",
            "RFC 9112 6.3",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        ),
        broken(
            "TE: gzip, chunked: would have to be undone",
            "RFC 9112 7",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        broken(
            "TE: identity",
            "RFC 9112 6.3",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello<close>",
        ),
        broken(
            "TE in HTTP/1.0",
            "RFC 9112 6.1",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        passes(
            "chunk extension and trailer: not passed on",
            "RFC 9112 7.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        passes(
            "204 with a body: not passed on",
            "RFC 9112 6.3",
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 204 No Content\r\n\r\n",
        ),
        passes(
            "304 with a body: not passed on",
            "RFC 9112 6.3",
            "HTTP/1.1 304 Not Modified\r\n\r\nhello",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
        ),
        passes(
            "304 with a length: not passed on",
            "RFC 9110 8.6",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
        ),
        passes(
            "second response unasked: dropped with the connection",
            "Kettle 2022, response queue poisoning",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        passes(
            "bare LF after each line: written with CRLF",
            "RFC 9112 2.2",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        broken(
            "folded line",
            "RFC 9112 5.2",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
        ),
        broken(
            "bare CR in a value",
            "RFC 9112 2.2",
            "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 5\r\n\r\nhello",
        ),
        broken(
            "NUL in a value",
            "RFC 9110 5.5",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        ),
        broken(
            "space before the colon",
            "RFC 9112 5.1",
            "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        ),
        broken("HTTP/0.9", "RFC 9112 2.3", "hello<close>"),
        broken(
            "101 unasked",
            "RFC 9110 15.2.2; Egorov 2019",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        passes(
            "1xx before the response: not passed on unasked",
            "RFC 9110 15.2",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
        passes(
            "no framing: ends with the connection",
            "RFC 9112 6.3",
            "HTTP/1.1 200 OK\r\n\r\nhello<close>",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        broken(
            "ends in its head",
            "RFC 9112 8",
            "HTTP/1.1 200 OK\r\nContent-Le<close>",
        ),
        passes(
            "body shorter than its length",
            "RFC 9112 8",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello<close>",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
        )
        .closes(),
        passes(
            "chunks without end",
            "RFC 9112 8",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n<close>",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        )
        .closes(),
    ]
}
