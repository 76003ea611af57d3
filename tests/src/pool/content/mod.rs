//! What each path of a pool server answers.
//!
//! | path | answer |
//! |---|---|
//! | `/<vdir>/healthcheck.htm` | anonymous; `200 OK<br/>EX1.LAB.TEST`, or 503 when switched down |
//! | `/bench/<n>` | anonymous; n bytes, at most [`BENCH_MAX`] |
//! | `/<vdir>/odd` | anonymous; 401 whose fields come twice, in odd case and order |
//! | `/whoami`, `/<vdir>/whoami` | JSON: user, server, connection, request, body length, headers received |
//! | `/EWS/Exchange.asmx` | SOAP (`ews`) |
//! | `/Microsoft-Server-ActiveSync` | WBXML, held for as long as asked (`activesync`) |
//! | `/mapi/emsmdb`, `/mapi/nspi` | MAPI over HTTP (`mapi`) |
//! | `/rpc/rpcproxy.dll` | RPC over HTTP (`rpc`) |
//! | `/owa/` | forms login, then a page with a script (`owa`) |
//! | anything else | 404, after authentication, as IIS does |
//!
//! Not here: who may have it (`http`).

mod activesync;
pub(super) mod ews;
mod mapi;
pub(super) mod owa;
pub(super) mod rpc;

use std::{io, sync::LazyLock};

use anyhow::Result;
use bytes::Bytes;
use serde::Serialize;

use super::{
    admin::Health,
    http::{Shared, hold},
    http1::{Body, Head, Wire},
    reply::Reply,
};

/// A request that may have its answer.
#[derive(Debug)]
pub(super) struct Visit<'a> {
    pub(super) shared: &'a Shared,
    pub(super) connection: u64,
    pub(super) request: u64,
    pub(super) user: &'a str,
    pub(super) head: &'a Head,
    pub(super) body: &'a mut Body,
    pub(super) wire: &'a mut Wire,
}

impl Visit<'_> {
    /// All of the body.
    async fn whole(&mut self) -> io::Result<Bytes> {
        self.wire.whole(self.body, LARGEST).await
    }

    /// Holds the answer back, unless the client goes.
    async fn hold(&mut self, time: std::time::Duration) -> io::Result<()> {
        hold(self.wire, time).await
    }
}

/// The answer to a request that needs no credentials.
pub(super) fn anonymous(shared: &Shared, head: &Head) -> Option<Reply> {
    let path = head.path();
    if let Some(length) = path.strip_prefix("/bench/") {
        let length = length
            .parse()
            .ok()
            .filter(|length: &usize| *length <= BENCH_MAX);
        return Some(match length {
            Some(length) => Reply::new(200, BENCH_BODY.slice(..length)),
            None => Reply::new(404, ""),
        });
    }
    let (vdir, page) = path.strip_prefix('/')?.split_once('/')?;
    match page {
        "healthcheck.htm" => Some(match shared.switches.health(vdir) {
            Health::Well => Reply::new(200, format!("200 OK<br/>{}.LAB.TEST", shared.name)),
            Health::Down => Reply::new(503, ""),
            Health::Confused => Reply::new(200, "<title>Runtime Error</title>"),
        }),
        "odd" => Some(odd()),
        _ => None,
    }
}

/// What a proxy that keeps fields in a map by name in lower case can't hand on.
fn odd() -> Reply {
    ODD.iter()
        .fold(Reply::new(401, "odd"), |reply, (name, value)| {
            reply.with(name, *value)
        })
}

/// The fields of the odd page.
pub const ODD: [(&str, &str); 8] = [
    ("Set-COOKIE", "first=1; path=/"),
    ("WWW-Authenticate", "Negotiate"),
    ("x-OWA-Version", "15.2.1544.4"),
    ("set-cookie", "second=2; path=/; HttpOnly"),
    ("Www-authenticate", "NTLM"),
    ("X-Owa-version", "15.2.1544.4"),
    ("WWW-AUTHENTICATE", "Basic realm=\"a, b\""),
    ("Set-COOKIE", "first=1; path=/"),
];

/// The answer to any other.
pub(super) async fn answer(mut visit: Visit<'_>) -> Result<Reply> {
    let path = visit.head.path().to_ascii_lowercase();
    match path.trim_end_matches('/') {
        "/ews/exchange.asmx" => ews::answer(visit).await,
        "/microsoft-server-activesync" => activesync::answer(visit).await,
        "/mapi/emsmdb" | "/mapi/nspi" => mapi::answer(visit).await,
        "/rpc/rpcproxy.dll" => rpc::answer(visit).await,
        "/owa" => Ok(owa::inbox(visit.user)),
        path if path.ends_with("/whoami") => who_am_i(&mut visit).await,
        _ => Ok(Reply::new(404, "")),
    }
}

async fn who_am_i(visit: &mut Visit<'_>) -> Result<Reply> {
    let mut body_bytes = 0;
    while let Some(piece) = visit.wire.piece(visit.body).await? {
        body_bytes += piece.len();
    }
    let answer = serde_json::to_vec(&WhoAmI {
        user: visit.user,
        server: &visit.shared.name,
        connection: visit.connection,
        request: visit.request,
        body_bytes,
        headers: visit.head.fields(),
    })?;
    Ok(Reply::new(200, answer).with("Content-Type", "application/json"))
}

#[derive(Serialize)]
struct WhoAmI<'a> {
    user: &'a str,
    server: &'a str,
    connection: u64,
    request: u64,
    body_bytes: usize,
    headers: &'a [(String, String)],
}

/// Largest body of `/bench/<n>`, in bytes.
const BENCH_MAX: usize = 1 << 24;
/// Allocated and not a constant, which would make the program larger by as much.
static BENCH_BODY: LazyLock<Bytes> = LazyLock::new(|| vec![0; BENCH_MAX].into());

/// Exchange's limit for EWS, in bytes: 64 MiB.
const LARGEST: usize = 67_108_864;
