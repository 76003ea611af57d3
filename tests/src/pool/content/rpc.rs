//! RPC over HTTP version 2 (MS-RPCH), Outlook Anywhere: two channels that make one connection, and the echo.
//!
//! `RPC_OUT_DATA` sends one PDU (CONN/A1, 76 bytes) and is answered by a body of 1 GiB, which is sent as there is something
//! to say. `RPC_IN_DATA` declares 1 GiB and sends CONN/B1 and then whatever the client has to say; it is answered after
//! that, which most clients never get to. Both name the same virtual connection. What comes in goes out again: an RPC
//! server that echoes. Whoever does send all of it gets the SHA-256 of what the server received last, whose 32 bytes are just
//! those by which the opening PDUs in are longer than those out: so both channels are full.
//! Not here: flow control, recycled channels, RPC.

use std::{cell::RefCell, collections::HashMap, io, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::Visit;
use crate::pool::reply::Reply;

/// OUT channels that wait for their IN channel.
#[derive(Debug, Default)]
pub(in crate::pool) struct Channels(RefCell<HashMap<Vec<u8>, mpsc::Sender<Bytes>>>);

pub(super) async fn answer(visit: Visit<'_>) -> Result<Reply> {
    let length = visit.head.field("content-length");
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    let echo = length <= LONGEST_ECHO;
    match visit.head.method.as_str() {
        "RPC_IN_DATA" | "RPC_OUT_DATA" if echo => {
            Ok(Reply::new(200, rts(ECHO, &[])).with("Content-Type", RPC))
        }
        "RPC_OUT_DATA" => out_channel(visit).await,
        "RPC_IN_DATA" => in_channel(visit).await,
        _ => Ok(Reply::new(405, "")),
    }
}

async fn out_channel(mut visit: Visit<'_>) -> Result<Reply> {
    let opening = visit.whole().await?;
    let cookie = cookie(&opening, CONN_A1)?;
    let (pieces, reply) = Reply::streamed(Some(visit.shared.switches.channel()));
    pieces.send(rts(0, &[TIMEOUT])).await?;
    visit.shared.channels.0.borrow_mut().insert(cookie, pieces);
    Ok(reply.with("Content-Type", RPC))
}

async fn in_channel(mut visit: Visit<'_>) -> Result<Reply> {
    let mut opening = BytesMut::new();
    while opening.len() < CONN_B1 {
        let piece = visit.wire.piece(visit.body).await?;
        opening.extend_from_slice(&piece.context("the channel ended before its first PDU")?);
    }
    let first = opening.split_off(CONN_B1);
    let cookie = cookie(&opening, CONN_B1)?;
    let out = partner(&mut visit, &cookie).await?;
    out.send(rts(0, &[VERSION, WINDOW, TIMEOUT])).await?;
    let mut sum = Sha256::new();
    if !first.is_empty() {
        sum.update(&first);
        out.send(first.freeze()).await?;
    }
    while let Some(piece) = visit.wire.piece(visit.body).await? {
        sum.update(&piece);
        out.send(piece).await?;
    }
    out.send(Bytes::copy_from_slice(&sum.finalize())).await?;
    Ok(Reply::new(200, "").with("Content-Type", RPC))
}

/// The way out of the same virtual connection. Either channel may be opened first.
async fn partner(visit: &mut Visit<'_>, cookie: &[u8]) -> io::Result<mpsc::Sender<Bytes>> {
    for _ in 0..PATIENCE {
        let found = visit.shared.channels.0.borrow_mut().remove(cookie);
        if let Some(out) = found {
            return Ok(out);
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The virtual connection's cookie: the first command after the version, in both opening PDUs.
fn cookie(pdu: &[u8], length: usize) -> Result<Vec<u8>> {
    ensure!(
        pdu.len() == length && pdu.starts_with(&[5, 0, 20]),
        "no opening PDU of {length} bytes, but {}",
        pdu.len()
    );
    Ok(pdu.get(32..48).context("no cookie")?.to_vec())
}

/// An RTS PDU (MS-RPCH 2.2.3.6) with these commands, each a type and a number.
fn rts(flags: u16, commands: &[(u32, u32)]) -> Bytes {
    let mut pdu = vec![5, 0, 20, 3, 0x10, 0, 0, 0];
    let length = u16::try_from(20 + 8 * commands.len()).unwrap_or(u16::MAX);
    pdu.extend(length.to_le_bytes());
    pdu.extend([0; 6]);
    pdu.extend(flags.to_le_bytes());
    pdu.extend(
        u16::try_from(commands.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    for (kind, value) in commands {
        pdu.extend(kind.to_le_bytes());
        pdu.extend(value.to_le_bytes());
    }
    pdu.into()
}

const RPC: &str = "application/rpc";
/// Longest body of an echo request, in bytes.
const LONGEST_ECHO: u64 = 0x10;
const CONN_A1: usize = 76;
const CONN_B1: usize = 104;
const ECHO: u16 = 0x40;
const WINDOW: (u32, u32) = (0, 65_536);
/// Milliseconds after which a silent connection is given up.
const TIMEOUT: (u32, u32) = (2, 120_000);
const VERSION: (u32, u32) = (6, 1);
const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: u32 = 1000;
