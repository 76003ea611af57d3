//! `Expect: 100-continue` as .NET uses it (EWS, mailbox moves), written byte by byte: no library would do it.
//!
//! The first POST has no credentials: the server refuses it before it has the body, without a 100, and the client
//! sends the body all the same, to keep its connection. The second has them: 100, body, 200.

use anyhow::{Context as _, Result, ensure};

use super::{
    Endpoint,
    wire::{Connection, Head},
};
use crate::pool::{User, credential};

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

/// Plays the two POSTs on one connection; `page` is one that says who asks for it.
pub fn expect_continue(endpoint: &Endpoint, page: &str, user: &User) -> Result<Exchange> {
    let mut connection = endpoint.open()?;
    let mut statuses = Vec::new();
    // Whoever takes this body for requests answers a few hundred of them.
    let body = "GET /bench/1 HTTP/1.1\r\nHost: smuggled\r\n\r\n".repeat(500);
    let length = format!("Content-Length: {}", body.len());
    let expect = "Expect: 100-continue";

    connection.send_head("POST", page, &[&length, expect])?;
    let refusal = final_head(&mut connection, &mut statuses)?;
    connection.send(body.as_bytes())?;
    connection.body(&refusal)?;

    let authorization = format!("Authorization: {}", credential::one_leg(user));
    connection.send_head("POST", page, &[&length, expect, &authorization])?;
    let interim = connection.head()?;
    statuses.push(interim.status);
    ensure!(
        interim.status == 100,
        "an answer before the body: {statuses:?}"
    );
    connection.send(body.as_bytes())?;
    let accepted = final_head(&mut connection, &mut statuses)?;
    let content = connection.body(&accepted)?;
    Ok(Exchange {
        statuses,
        schemes: refusal.values("www-authenticate"),
        page: serde_json::from_slice(&content).context("the page of /whoami")?,
    })
}

fn final_head(connection: &mut Connection, statuses: &mut Vec<u16>) -> Result<Head> {
    loop {
        let head = connection.head()?;
        statuses.push(head.status);
        if head.status >= 200 {
            return Ok(head);
        }
    }
}
