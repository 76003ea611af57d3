//! One user of the soak: sessions one after the other, each a connection with a login of some kind and some requests.
//!
//! Invariant: what a user does depends on their dice and on what answers come, and on nobody else. A request carries a
//! mark of its own, which the answer repeats, so that an answer to somebody else's request is seen as such.

use std::{rc::Rc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Outcome, Shared, dice::Dice, logins::Logins};
use crate::pool::{User, credential};

/// How a session logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Raw NTLM: two requests.
    Ntlm,
    /// NTLM in SPNEGO.
    Negotiate,
    /// One request, as with a Kerberos ticket.
    OneLeg,
    /// Every request by itself.
    Basic,
    /// Not at all, and pages that need no login.
    Anonymous,
    /// Not at all, and pages that need one.
    Stranger,
}

const KINDS: [(u64, Kind); 6] = [
    (25, Kind::Ntlm),
    (10, Kind::Negotiate),
    (30, Kind::OneLeg),
    (15, Kind::Basic),
    (10, Kind::Anonymous),
    (10, Kind::Stranger),
];

/// Does sessions until enough requests have been made.
pub(super) async fn run(shared: Rc<Shared>, user: User, number: u64) {
    let mut dice = Dice::new(shared.seed ^ (number << 32));
    let mut sessions = 0;
    while shared.wants_more() {
        sessions += 1;
        let kind = pick(&mut dice);
        // All that the session needs of chance is drawn from dice of its own: one that breaks off early doesn't
        // change the next.
        let dice = Dice::new(shared.seed ^ (number << 32) ^ (sessions << 8));
        let mut session = Session {
            shared: &shared,
            user,
            kind,
            dice,
            number: number << 32 | sessions,
            requests: 0,
        };
        if session.run().await.is_err() {
            shared.count(Outcome::Lost);
        }
    }
}

fn pick(dice: &mut Dice) -> Kind {
    let mut roll = dice.roll(100);
    for (share, kind) in KINDS {
        if roll < share {
            return kind;
        }
        roll -= share;
    }
    Kind::Stranger
}

struct Session<'a> {
    shared: &'a Shared,
    user: User,
    kind: Kind,
    dice: Dice,
    number: u64,
    requests: u64,
}

impl Session<'_> {
    /// An error means that the connection was lost, which server deaths excuse.
    async fn run(&mut self) -> Result<()> {
        let stream = timeout(PATIENCE, TcpStream::connect(self.shared.address)).await??;
        stream.set_nodelay(true)?;
        let mut wire = Wire {
            stream,
            received: Vec::new(),
        };
        let mut authorization = self.log_in(&mut wire).await?;
        let requests = 1 + self.dice.roll(20);
        for _ in 0..requests {
            if self.dice.chance(3) {
                return self.abort(&mut wire).await;
            }
            if self.dice.chance(15) {
                self.anonymous(&mut wire).await?;
                continue;
            }
            self.who_am_i(&mut wire, authorization.as_deref()).await?;
            if self.kind == Kind::OneLeg {
                // From now on it is the connection that is known.
                authorization = None;
            }
        }
        Ok(())
    }

    /// The login, as far as it needs requests of its own; what the next request has to carry.
    async fn log_in(&mut self, wire: &mut Wire) -> Result<Option<String>> {
        let scheme = match self.kind {
            Kind::Ntlm => "NTLM",
            Kind::Negotiate => "Negotiate",
            Kind::OneLeg => return Ok(Some(credential::one_leg(&self.user))),
            Kind::Basic => {
                let pair = format!("{}:{}", self.user.qualified(), self.user.password);
                return Ok(Some(format!("Basic {}", STANDARD.encode(pair))));
            }
            Kind::Anonymous | Kind::Stranger => return Ok(None),
        };
        let logins: &Logins = &self.shared.logins;
        let first = logins.first(self.number, &self.user, scheme).await?;
        let first = format!("{scheme} {first}");
        let answer = self.ask(wire, "GET", "/whoami", Some(&first), &[]).await?;
        ensure!(answer.status == 401, "{}", answer.status);
        let challenge = answer.challenge(scheme).context("no challenge")?;
        let last = logins.last(self.number, &challenge).await?;
        let last = format!("{scheme} {last}");
        self.check(wire, Some(&last), &[]).await?;
        Ok(None)
    }

    async fn who_am_i(&mut self, wire: &mut Wire, authorization: Option<&str>) -> Result<()> {
        let size = match self.dice.roll(10) {
            0..6 => 0,
            6..9 => self.dice.roll(2000),
            _ => self.dice.roll(60_000),
        };
        let body = vec![b'x'; usize::try_from(size)?];
        self.check(wire, authorization, &body).await
    }

    /// Asks who we are and compares.
    async fn check(&mut self, wire: &mut Wire, login: Option<&str>, body: &[u8]) -> Result<()> {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let answer = self.ask(wire, method, "/whoami", login, body).await?;
        let known = !matches!(self.kind, Kind::Anonymous | Kind::Stranger);
        match (answer.status, known) {
            (200, _) => {
                let page: Page = serde_json::from_slice(&answer.body).context("a page")?;
                let expected = self.user.qualified();
                if !known {
                    self.fail(&format!("a stranger was served as {}", page.user));
                } else if page.user != expected {
                    self.fail(&format!("{expected} was served as {}", page.user));
                }
                let mark = self.mark();
                if !page
                    .headers
                    .iter()
                    .any(|(name, value)| name == MARK && *value == mark)
                {
                    self.fail("the answer is to another request");
                }
                if page.body_bytes != body.len() {
                    self.fail(&format!(
                        "{} bytes arrived of {}",
                        page.body_bytes,
                        body.len()
                    ));
                }
                self.shared.count(Outcome::Served);
            }
            (401, false) => self.shared.count(Outcome::Refused),
            (401, true) => {
                self.fail("a login was forgotten and the connection not closed");
            }
            // A server died.
            (502..=504, _) => bail!("{}", answer.status),
            (status, _) => self.fail(&format!("status {status}")),
        }
        Ok(())
    }

    /// A page that needs no login, which lets a proxy lend the connection.
    async fn anonymous(&mut self, wire: &mut Wire) -> Result<()> {
        let answer = self.ask(wire, "GET", "/bench/100", None, &[]).await?;
        match answer.status {
            200 if answer.body == [0; 100] => self.shared.count(Outcome::Served),
            502..=504 => bail!("{}", answer.status),
            status => self.fail(&format!("{} bytes, status {status}", answer.body.len())),
        }
        Ok(())
    }

    /// Leaves in the middle of a head, a body or an answer.
    async fn abort(&mut self, wire: &mut Wire) -> Result<()> {
        self.shared.count(Outcome::Aborted);
        let request = match self.dice.roll(3) {
            0 => "GET /whoami HTTP/1.1\r\nHost: x\r\nX-",
            1 => "POST /whoami HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nGET /whoami",
            _ => "GET /bench/3000000 HTTP/1.1\r\nHost: x\r\n\r\n",
        };
        wire.stream.write_all(request.as_bytes()).await?;
        if self.dice.chance(50) {
            drop(timeout(SHORT, wire.stream.read(&mut [0; 1000])).await);
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        wire: &mut Wire,
        method: &str,
        path: &str,
        authorization: Option<&str>,
        body: &[u8],
    ) -> Result<Answer> {
        self.requests += 1;
        self.shared.count(Outcome::Asked);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: mail.lab.test\r\n");
        head.push_str(MARK);
        head.push_str(": ");
        head.push_str(&self.mark());
        if let Some(authorization) = authorization {
            head.push_str("\r\nAuthorization: ");
            head.push_str(authorization);
        }
        if !body.is_empty() {
            head.push_str("\r\nContent-Length: ");
            head.push_str(&body.len().to_string());
        }
        head.push_str("\r\n\r\n");
        let exchange = async {
            wire.stream
                .write_all(&[head.as_bytes(), body].concat())
                .await?;
            wire.answer().await
        };
        timeout(PATIENCE, exchange).await?
    }

    fn mark(&self) -> String {
        format!("{:x}.{}", self.number, self.requests)
    }

    fn fail(&self, what: &str) {
        let (user, kind, mark) = (self.user.name, self.kind, self.mark());
        self.shared
            .fail(format!("{user} by {kind:?}, request {mark}: {what}"));
    }
}

struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// The token that the server sends with `scheme`.
    fn challenge(&self, scheme: &str) -> Option<String> {
        let mut values = self.head.lines().filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("www-authenticate")
                .then_some(value)
        });
        values.find_map(|value| Some(value.strip_prefix(scheme)?.strip_prefix(' ')?.to_owned()))
    }
}

impl Wire {
    async fn answer(&mut self) -> Result<Answer> {
        let end = loop {
            let found = self
                .received
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            match found {
                Some(end) => break end + 4,
                None => self.fill().await?,
            }
        };
        let head = String::from_utf8(self.received.drain(..end).collect())?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then_some(value)
        });
        let length: usize = length.context("no length")?.parse()?;
        while self.received.len() < length {
            self.fill().await?;
        }
        let body = self.received.drain(..length).collect();
        Ok(Answer { status, head, body })
    }

    async fn fill(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.received).await?;
        ensure!(read > 0, "closed");
        Ok(())
    }
}

#[derive(Deserialize)]
struct Page {
    user: String,
    body_bytes: usize,
    headers: Vec<(String, String)>,
}

const MARK: &str = "x-mark";
/// Only turns a hang into a lost session.
const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(20);
