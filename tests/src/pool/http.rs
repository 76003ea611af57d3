//! A connection of a pool server from its first request to its last: who may have an answer, and when bodies are read.
//!
//! Invariant: a 401 is sent before the request's body is read, and the body is read and thrown away after it, as
//! HTTP.SYS does: a client that sends it anyway keeps its connection, and its half-done handshake.
//! Not here: the pages (`content`), how HTTP is read and written (`http1`, `reply`).

use std::{cell::Cell, io, rc::Rc};

use anyhow::{Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    acceptor::Acceptor,
    admin::{Connections, Fault, Switches},
    content::{self, Visit, ews, owa, rpc},
    credential::Credential,
    http1::{Body, Head, Wire},
    journal::{Event, Journal, Request as Record},
    reply::Reply,
    session::{Circumstances, Decision, Login, Route, Session, auth_leg},
    vdir::{Protection, Vdir},
};

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) journal: Journal,
    pub(super) acceptor: Acceptor,
    pub(super) switches: Rc<Switches>,
    pub(super) cookies: owa::Cookies,
    pub(super) channels: rpc::Channels,
    pub(super) mailboxes: ews::Mailboxes,
    /// Extended Protection is on, where the directory has it.
    pub(super) extended_protection: bool,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Plain,
    Tls,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Rc<Shared>,
    id: u64,
    channel: Channel,
    session: Session,
    requests: Cell<u64>,
}

impl Connection {
    pub(super) fn new(shared: Rc<Shared>, id: u64, channel: Channel) -> Self {
        Self {
            shared,
            id,
            channel,
            session: Session::new(id),
            requests: Cell::new(0),
        }
    }

    /// Its number, counted from 1 by each server.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Tells the acceptor that nobody will finish the handshake of this connection.
    pub(super) async fn close(&self) -> Result<()> {
        self.session.close(&self.shared.acceptor).await
    }

    /// Answers requests until one of the two ends the connection.
    pub(super) async fn serve(&self, wire: &mut Wire) -> Result<()> {
        while let Some((head, mut body)) = wire.head().await? {
            if self.answer(wire, &head, &mut body).await? == After::Close {
                return Ok(wire.close().await?);
            }
            wire.drain(&mut body).await?;
        }
        Ok(())
    }

    /// Answers one request. An error ends the connection without an answer.
    async fn answer(&self, wire: &mut Wire, head: &Head, body: &mut Body) -> Result<After> {
        self.requests.set(self.requests.get() + 1);
        let switches = &self.shared.switches;
        if switches.connections() == Connections::Reset {
            bail!("switched to resetting connections");
        }
        if !switches.delay().is_zero() {
            hold(wire, switches.delay()).await?;
        }
        if let Some(reply) = content::anonymous(&self.shared, head) {
            let reply = self.finish(head, None, reply)?;
            reply.send(wire, head).await?;
            return Ok(After::of(head));
        }
        let fault = switches.fault(head.path());
        match fault {
            Some(Fault::Delay(delay)) => hold(wire, delay).await?,
            Some(Fault::NoContinue) => body.expect_nothing(),
            Some(Fault::Silent) => {
                self.record(head, None, 0)?;
                wire.closed().await;
                bail!("switched to silence");
            }
            _ => {}
        }
        let (user, reply) = match fault {
            Some(Fault::Status(status)) => (None, Reply::new(status, "")),
            _ if owa::is_logon(head.path()) => (
                None,
                owa::logon(&self.shared.cookies, head, body, wire).await?,
            ),
            _ => self.authenticated(wire, head, body).await?,
        };
        let mut reply = self.finish(head, user, reply)?;
        match fault {
            Some(Fault::Break(how)) => {
                reply.send_broken(wire, how).await?;
                return Ok(After::Close);
            }
            Some(Fault::Close) => reply = reply.with("Connection", "close"),
            _ => {}
        }
        reply.send(wire, head).await?;
        Ok(match fault {
            Some(Fault::Close) => After::Close,
            Some(Fault::CloseAfter(answers)) if self.requests.get() >= answers => After::Close,
            _ => After::of(head),
        })
    }

    /// What every answer has; and the journal's line, before the answer leaves.
    fn finish(&self, head: &Head, user: Option<String>, reply: Reply) -> Result<Reply> {
        let mut reply = reply.with("X-FEServer", &self.shared.name);
        if head.closes() {
            reply = reply.with("Connection", "close");
        }
        self.record(head, user, reply.status)?;
        Ok(reply)
    }

    fn record(&self, head: &Head, user: Option<String>, status: u16) -> Result<()> {
        self.shared.journal.record(self.id, || {
            Event::Request(Record {
                method: head.method.clone(),
                path: head.target.clone(),
                leg: auth_leg(&Credential::of(head.field("authorization"))),
                user,
                status,
                headers: head.fields().to_vec(),
                head: head.text.clone(),
            })
        })
    }

    async fn authenticated(
        &self,
        wire: &mut Wire,
        head: &Head,
        body: &mut Body,
    ) -> Result<(Option<String>, Reply)> {
        let vdir = Vdir::of(head.path());
        let credential = Credential::of(head.field("authorization"));
        let decision = if !vdir.takes(&credential) {
            Decision::Unauthorized
        } else if let Some(user) = self.by_cookie(head, &credential) {
            Decision::Granted { user, login: None }
        } else if credential == Credential::Absent && owa::has_forms(vdir) {
            return Ok((None, owa::log_on(&head.target, 0)));
        } else {
            self.session
                .decide(
                    credential,
                    self.circumstances(head, vdir),
                    &self.shared.acceptor,
                )
                .await?
        };
        match decision {
            Decision::Granted { user, login } => {
                let visit = Visit {
                    shared: &self.shared,
                    connection: self.id,
                    request: self.requests.get(),
                    user: &user,
                    head,
                    body,
                    wire,
                };
                let reply = announce(login, content::answer(visit).await?);
                Ok((Some(user), reply))
            }
            Decision::Challenge { scheme, token } => {
                let value = format!("{} {}", scheme.name(), STANDARD.encode(token));
                Ok((
                    None,
                    Reply::new(401, DENIED).with("WWW-Authenticate", value),
                ))
            }
            Decision::Unauthorized => {
                let offers = vdir
                    .offers
                    .iter()
                    .fold(Reply::new(401, DENIED), |reply, offer| {
                        reply.with("WWW-Authenticate", *offer)
                    });
                Ok((None, offers))
            }
            Decision::BadRequest => Ok((None, Reply::new(400, ""))),
        }
    }

    fn by_cookie(&self, head: &Head, credential: &Credential) -> Option<String> {
        if *credential != Credential::Absent || !owa::has_forms(Vdir::of(head.path())) {
            return None;
        }
        self.shared.cookies.user(head)
    }

    fn circumstances(&self, head: &Head, vdir: &Vdir) -> Circumstances {
        let protection = match (self.shared.extended_protection, self.channel) {
            (false, _) => Protection::None,
            // Without TLS there is no channel to bind to; what needs one has none.
            (true, Channel::Plain) if vdir.protection == Protection::Allow => Protection::None,
            (true, _) => vdir.protection,
        };
        let route = if head.field("via").is_some() {
            Route::Proxied
        } else {
            Route::Direct
        };
        Circumstances { route, protection }
    }
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Next,
    Close,
}

impl After {
    fn of(head: &Head) -> Self {
        if head.closes() {
            Self::Close
        } else {
            Self::Next
        }
    }
}

/// Holds the answer back, unless the client goes.
pub(super) async fn hold(wire: &mut Wire, time: std::time::Duration) -> io::Result<()> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = wire.closed() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// MS-N2HT §2.2: `Persistent-Auth` stands on the final answer of a login and nowhere else.
fn announce(login: Option<Login>, reply: Reply) -> Reply {
    let Some(login) = login else {
        return reply;
    };
    let persistent = if login.persistent { "true" } else { "false" };
    let reply = reply.with("Persistent-Auth", persistent);
    match login.token {
        Some((scheme, token)) => {
            let value = format!("{} {}", scheme.name(), STANDARD.encode(token));
            reply.with("WWW-Authenticate", value)
        }
        None => reply,
    }
}

const DENIED: &str = "401 - Unauthorized: Access is denied due to invalid credentials.";
