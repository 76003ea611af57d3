//! Connections that stop being HTTP: `Upgrade` (RFC 9110 section 7.8) and `CONNECT` (section 9.3.6), where a route allows them.
//!
//! Invariant: bytes are relayed only after the server has said 101 to a request that asked for that very protocol, or
//! 2xx to `CONNECT`; any other response is one like all others, and the client's next bytes are a request. (Proxies
//! that go by the request alone let a client tunnel to a server that has refused: Egorov 2019.) The upstream connection
//! is the client's own from the start and has left [`Pinned`](crate::upstream::Pinned), so no type is left that could
//! send a request on it.
//!
//! Where a route doesn't allow it `Upgrade` is removed like every hop-by-hop header ([`crate::headers`]), and the
//! server answers a plain request.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional};

use crate::headers::{self, BodyPresence};
use crate::record::Record;
use crate::upstream::Upgrading;

/// Which connections may become something else than HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnels {
    /// Protocols that a client may change to, in lower case.
    pub upgrade: Vec<String>,
    /// Whether `CONNECT` is passed on.
    pub connect: bool,
}

/// What a client asks its connection to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Another protocol, spelled as the client did.
    Upgrade(HeaderValue),
    /// A tunnel to a host.
    Connect,
}

impl Asked {
    /// What the request asks for, if it is one thing and allowed. A request with a body isn't asked for more: where the
    /// body ends and the other protocol begins would be for three parties to agree on.
    pub(crate) fn by(head: &request::Parts, body: BodyPresence, allowed: &Tunnels) -> Option<Self> {
        if head.method == Method::CONNECT {
            return allowed.connect.then_some(Self::Connect);
        }
        if allowed.upgrade.is_empty()
            || head.version != Version::HTTP_11
            || body == BodyPresence::Present
            || !headers::names(&head.headers, "upgrade")
        {
            return None;
        }
        let protocol = only(&head.headers)?;
        let is_allowed = allowed
            .upgrade
            .iter()
            .any(|name| is(protocol, name.as_bytes()));
        is_allowed.then(|| Self::Upgrade(protocol.clone()))
    }

    /// Says it to the server, or to the client, once hop-by-hop headers are gone.
    pub(crate) fn say(&self, headers: &mut HeaderMap) {
        if let Self::Upgrade(protocol) = self {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
    }

    /// Whether a response says yes.
    pub(crate) fn is_granted_by<T>(&self, response: &Response<T>) -> bool {
        match self {
            Self::Connect => response.status().is_success(),
            Self::Upgrade(asked) => {
                response.status() == StatusCode::SWITCHING_PROTOCOLS
                    && only(response.headers()).is_some_and(|to| is(to, asked.as_bytes()))
            }
        }
    }
}

/// The value of `Upgrade`, if there is one line.
fn only(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut lines = headers.get_all(UPGRADE).iter();
    lines.next().filter(|_| lines.next().is_none())
}

fn is(value: &HeaderValue, name: &[u8]) -> bool {
    value.as_bytes().eq_ignore_ascii_case(name)
}

/// A tunnel that was granted, until the client's connection has left HTTP as well.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) upstream: Upgrading,
    /// Of the request that opened it.
    pub(crate) record: Record,
}

impl Tunnel {
    /// Relays bytes both ways until both ends have closed, or one broke off; `early` came right after the request. The
    /// end of one direction is passed on, and the other goes on.
    pub(crate) async fn relay<S>(mut self, client: S, early: Bytes) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut client = Metered {
            stream: client,
            received: early.len() as u64,
            sent: 0,
            record: self.record,
        };
        let upgraded = self.upstream.finish().await.map_err(io::Error::other)?;
        let mut upstream = TokioIo::new(upgraded);
        upstream.write_all(&early).await?;
        copy_bidirectional(&mut client, &mut upstream).await?;
        Ok(())
    }
}

/// The client's stream, counted; the count is told when it is dropped, however the tunnel ends.
struct Metered<S> {
    stream: S,
    received: u64,
    sent: u64,
    record: Record,
}

impl<S> Drop for Metered<S> {
    fn drop(&mut self) {
        self.record.tunnelled(self.received, self.sent);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.received += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.sent += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(method: &str, lines: &[(&'static str, &'static str)], body: BodyPresence) -> bool {
        let mut request = Request::builder().method(method).uri("/");
        for &(name, value) in lines {
            request = request.header(name, value);
        }
        let allowed = Tunnels {
            upgrade: vec!["websocket".to_owned()],
            connect: false,
        };
        let (head, ()) = request.body(()).unwrap().into_parts();
        Asked::by(&head, body, &allowed).is_some()
    }

    #[test]
    fn only_a_plain_wish_is_one() {
        use BodyPresence::{Absent, Present};
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
        ];
        assert!(asked("GET", &good, Absent));
        assert!(!asked("GET", &good, Present));
        assert!(
            !asked("GET", &good[1..], Absent),
            "Connection doesn't name it"
        );
        assert!(!asked("CONNECT", &good, Absent));
        for other in [
            "h2c",
            "h2c, websocket",
            "websocket, h2c",
            "websocket/13",
            "",
        ] {
            assert!(
                !asked("GET", &[good[0], ("upgrade", other)], Absent),
                "{other}"
            );
        }
        assert!(!asked(
            "GET",
            &[good[0], good[1], ("upgrade", "h2c")],
            Absent
        ));
    }

    #[test]
    fn only_a_yes_to_what_was_asked_is_one() {
        let websocket = Asked::Upgrade(HeaderValue::from_static("websocket"));
        let response = |status: u16, to: &'static str| {
            Response::builder()
                .status(status)
                .header(UPGRADE, to)
                .body(())
                .unwrap()
        };
        assert!(websocket.is_granted_by(&response(101, "WebSocket")));
        assert!(!websocket.is_granted_by(&response(101, "h2c")));
        assert!(!websocket.is_granted_by(&response(200, "websocket")));
        assert!(!websocket.is_granted_by(&response(426, "websocket")));
        assert!(Asked::Connect.is_granted_by(&response(200, "")));
        assert!(!Asked::Connect.is_granted_by(&response(101, "websocket")));
        assert!(!Asked::Connect.is_granted_by(&response(403, "")));
    }
}
