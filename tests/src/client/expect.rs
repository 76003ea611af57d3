//! `Expect: 100-continue` as .NET uses it (EWS, mailbox moves), written byte by byte: no library would do it.
//!
//! The first POST has no credentials: the server refuses it before it has the body, without a 100, and the client
//! sends the body all the same, to keep its connection. The second has them: 100, body, 200.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
};

use anyhow::{Context as _, Result, ensure};

use super::connect;
use crate::{
    address::CLIENT,
    pool::{User, credential},
};

/// What a client got for its two POSTs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Statuses in the order in which they came, 100 among them.
    pub statuses: Vec<u16>,
    /// Values of `WWW-Authenticate` of the first answer, in order.
    pub schemes: Vec<String>,
    /// What `/whoami` said at the end.
    pub page: serde_json::Value,
}

/// Plays the two POSTs on one connection.
pub fn expect_continue(server: SocketAddrV4, user: &User) -> Result<Exchange> {
    let mut stream = connect(CLIENT, server)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut statuses = Vec::new();
    // Whoever takes this body for requests answers a few hundred of them.
    let body = "GET /bench/1 HTTP/1.1\r\nHost: smuggled\r\n\r\n".repeat(500);

    stream.write_all(head(server, body.len(), "").as_bytes())?;
    let refusal = final_head(&mut answers, &mut statuses)?;
    stream.write_all(body.as_bytes())?;
    skip_body(&mut answers, &refusal)?;

    let authorization = format!("Authorization: {}\r\n", credential::one_leg(user));
    stream.write_all(head(server, body.len(), &authorization).as_bytes())?;
    let interim = Head::read(&mut answers)?;
    statuses.push(interim.status);
    ensure!(
        interim.status == 100,
        "an answer before the body: {statuses:?}"
    );
    stream.write_all(body.as_bytes())?;
    let accepted = final_head(&mut answers, &mut statuses)?;
    let page = skip_body(&mut answers, &accepted)?;
    Ok(Exchange {
        statuses,
        schemes: refusal.values("www-authenticate"),
        page: serde_json::from_slice(&page).context("the page of /whoami")?,
    })
}

fn head(server: SocketAddrV4, length: usize, more: &str) -> String {
    format!(
        "POST /whoami HTTP/1.1\r\nHost: {server}\r\nContent-Length: {length}\r\n\
         Expect: 100-continue\r\n{more}\r\n"
    )
}

#[derive(Debug)]
struct Head {
    status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(answers: &mut BufReader<TcpStream>) -> Result<Self> {
        let mut lines = answers.lines();
        let mut next = || {
            lines
                .next()
                .context("the connection was closed")?
                .context("reading")
        };
        let first = next()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("no status line: {first:?}"))?;
        let mut fields = Vec::new();
        loop {
            let line = next()?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(Self { status, fields });
            };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn values(&self, name: &str) -> Vec<String> {
        let of_name = self.fields.iter().filter(|(known, _)| known == name);
        of_name.map(|(_, value)| value.clone()).collect()
    }
}

fn final_head(answers: &mut BufReader<TcpStream>, statuses: &mut Vec<u16>) -> Result<Head> {
    loop {
        let head = Head::read(answers)?;
        statuses.push(head.status);
        if head.status >= 200 {
            return Ok(head);
        }
    }
}

fn skip_body(answers: &mut BufReader<TcpStream>, head: &Head) -> Result<Vec<u8>> {
    let length = head
        .values("content-length")
        .first()
        .context("no length")?
        .parse()?;
    let mut body = vec![0; length];
    answers.read_exact(&mut body).context("reading a body")?;
    Ok(body)
}
