//! The HTTP side of a pool server: what each path answers, and when authentication comes into it.
//!
//! | path | answer |
//! |---|---|
//! | `/<vdir>/healthcheck.htm` | anonymous; `200 OK<br/>EX1.LAB.TEST`, or 503 when switched down |
//! | `/bench/<n>` | anonymous; n bytes, at most [`BENCH_MAX`] |
//! | `/whoami` | JSON: user, server, connection, request, body length, headers received |
//! | `/EWS/Exchange.asmx` | SOAP (`ews`) |
//! | anything else | 404, after authentication, as IIS does |
//!
//! Invariant: a 401 is sent before the request's body is read, and the body is read and thrown away after it, as
//! HTTP.SYS does: a client that sends it anyway keeps its connection, and its half-done handshake.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    sync::LazyLock,
    task::{Context, Poll},
};

use anyhow::{Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_TYPE, VIA, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde::Serialize;

use super::{
    acceptor::Acceptor,
    admin::{Connections, Switches},
    credential::Credential,
    ews,
    journal::{Event, Journal, Request as Record},
    session::{Decision, Login, Route, Session, auth_leg},
};

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) journal: Journal,
    pub(super) acceptor: Acceptor,
    pub(super) switches: Rc<Switches>,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Rc<Shared>,
    id: u64,
    session: Session,
    requests: Cell<u64>,
}

impl Connection {
    pub(super) fn new(shared: Rc<Shared>, id: u64) -> Self {
        Self {
            shared,
            id,
            session: Session::new(id),
            requests: Cell::new(0),
        }
    }

    /// Tells the acceptor that nobody will finish the handshake of this connection.
    pub(super) async fn close(&self) -> Result<()> {
        self.session.close(&self.shared.acceptor).await
    }

    /// Answers one request. An error ends the connection without an answer.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Reply>> {
        self.requests.set(self.requests.get() + 1);
        let switches = &self.shared.switches;
        if switches.connections() == Connections::Reset {
            bail!("switched to resetting connections");
        }
        if !switches.delay().is_zero() {
            tokio::time::sleep(switches.delay()).await;
        }
        let (head, body) = request.into_parts();
        let (user, mut response) = match self.anonymous(head.uri.path()) {
            Some((status, text)) => (None, reply(status, text, Some(body))),
            None => self.authenticated(&head, body).await?,
        };
        response
            .headers_mut()
            .insert("x-feserver", HeaderValue::from_str(&self.shared.name)?);
        self.shared.journal.record(self.id, || {
            Event::Request(Record {
                method: head.method.to_string(),
                path: head.uri.to_string(),
                leg: auth_leg(&Credential::of(&head.headers)),
                user,
                status: response.status().as_u16(),
                headers: pairs(&head.headers),
            })
        })?;
        Ok(response)
    }

    fn anonymous(&self, path: &str) -> Option<(StatusCode, Bytes)> {
        if let Some(length) = path.strip_prefix("/bench/") {
            let length = length
                .parse()
                .ok()
                .filter(|length: &usize| *length <= BENCH_MAX);
            return Some(match length {
                Some(length) => (StatusCode::OK, BENCH_BODY.slice(..length)),
                None => (StatusCode::NOT_FOUND, Bytes::new()),
            });
        }
        let vdir = path.strip_prefix('/')?.strip_suffix("/healthcheck.htm")?;
        Some(if self.shared.switches.is_healthy(vdir) {
            (
                StatusCode::OK,
                format!("200 OK<br/>{}.LAB.TEST", self.shared.name).into(),
            )
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, Bytes::new())
        })
    }

    async fn authenticated(
        &self,
        head: &http::request::Parts,
        body: Incoming,
    ) -> Result<(Option<String>, Response<Reply>)> {
        let route = if head.headers.contains_key(VIA) {
            Route::Proxied
        } else {
            Route::Direct
        };
        let credential = Credential::of(&head.headers);
        match self
            .session
            .decide(credential, route, &self.shared.acceptor)
            .await?
        {
            Decision::Granted { user, login } => {
                let mut response = self.content(head, body, &user).await?;
                announce(login, response.headers_mut())?;
                Ok((Some(user), response))
            }
            Decision::Challenge { scheme, token } => {
                let mut response = reply(StatusCode::UNAUTHORIZED, DENIED, Some(body));
                let value = format!("{} {}", scheme.name(), STANDARD.encode(token));
                response
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, value.try_into()?);
                Ok((None, response))
            }
            Decision::Unauthorized => {
                let mut response = reply(StatusCode::UNAUTHORIZED, DENIED, Some(body));
                for scheme in ["Negotiate", "NTLM"] {
                    let value = HeaderValue::from_static(scheme);
                    response.headers_mut().append(WWW_AUTHENTICATE, value);
                }
                Ok((None, response))
            }
            Decision::BadRequest => Ok((None, reply(StatusCode::BAD_REQUEST, "", Some(body)))),
        }
    }

    async fn content(
        &self,
        head: &http::request::Parts,
        mut body: Incoming,
        user: &str,
    ) -> Result<Response<Reply>> {
        match head.uri.path() {
            "/whoami" => {
                let mut body_bytes = 0;
                while let Some(frame) = body.frame().await {
                    body_bytes += frame?.data_ref().map_or(0, Bytes::len);
                }
                let answer = serde_json::to_vec(&WhoAmI {
                    user,
                    server: &self.shared.name,
                    connection: self.id,
                    request: self.requests.get(),
                    body_bytes,
                    headers: pairs(&head.headers),
                })?;
                Ok(typed(
                    reply(StatusCode::OK, answer, None),
                    "application/json",
                ))
            }
            path if path.eq_ignore_ascii_case("/EWS/Exchange.asmx") => {
                let body = match Limited::new(body, EWS_MAX).collect().await {
                    Ok(body) => body.to_bytes(),
                    Err(error) => bail!("reading a SOAP request: {error}"),
                };
                let (status, text) = ews::answer(&String::from_utf8_lossy(&body));
                let response = reply(StatusCode::from_u16(status)?, text, None);
                Ok(typed(response, "text/xml; charset=utf-8"))
            }
            _ => Ok(reply(StatusCode::NOT_FOUND, "", Some(body))),
        }
    }
}

/// MS-N2HT §2.2: `Persistent-Auth` stands on the final answer of a login and nowhere else.
fn announce(login: Option<Login>, headers: &mut HeaderMap) -> Result<()> {
    let Some(login) = login else {
        return Ok(());
    };
    let persistent = if login.persistent { "true" } else { "false" };
    headers.insert("persistent-auth", HeaderValue::from_static(persistent));
    if let Some((scheme, token)) = login.token {
        let value = format!("{} {}", scheme.name(), STANDARD.encode(token));
        headers.insert(WWW_AUTHENTICATE, value.try_into()?);
    }
    Ok(())
}

#[derive(Serialize)]
struct WhoAmI<'a> {
    user: &'a str,
    server: &'a str,
    connection: u64,
    request: u64,
    body_bytes: usize,
    headers: Vec<(String, String)>,
}

fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn reply(
    status: StatusCode,
    content: impl Into<Bytes>,
    unread: Option<Incoming>,
) -> Response<Reply> {
    let mut response = Response::new(Reply {
        content: Some(content.into()),
        unread,
    });
    *response.status_mut() = status;
    response
}

fn typed(mut response: Response<Reply>, content_type: &'static str) -> Response<Reply> {
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The body of an answer, which also owns the request's body when nobody has read it.
///
/// hyper drops it once the answer is on its way. Only then may the request's body be read: reading it earlier
/// makes hyper send `100 Continue`, and dropping it unread makes hyper close the connection.
#[derive(Debug)]
pub(super) struct Reply {
    content: Option<Bytes>,
    unread: Option<Incoming>,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.content.take().map(|content| Ok(Frame::data(content))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(
            self.content
                .as_ref()
                .map_or(0, |content| content.len() as u64),
        )
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(mut unread) = self.unread.take().filter(|unread| !unread.is_end_stream()) {
            // Ends with the body or with the connection, whichever comes first.
            tokio::task::spawn_local(
                async move { while let Some(Ok(_)) = unread.frame().await {} },
            );
        }
    }
}

const DENIED: &str = "401 - Unauthorized: Access is denied due to invalid credentials.";

/// Largest body of `/bench/<n>`, in bytes.
const BENCH_MAX: usize = 1 << 24;
/// Allocated and not a constant, which would make the program larger by as much.
static BENCH_BODY: LazyLock<Bytes> = LazyLock::new(|| vec![0; BENCH_MAX].into());

/// Exchange's limit for EWS, in bytes: 64 MiB.
const EWS_MAX: usize = 67_108_864;
