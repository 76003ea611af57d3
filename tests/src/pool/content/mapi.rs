//! MAPI over HTTP (MS-OXCMAPIHTTP): the shape of its answers, which is what a balancer can spoil.
//!
//! The head comes at once and the body in chunks: `PROCESSING`, then `PENDING` once every `X-PendingPeriod` while the
//! server works or waits, then `DONE`, a few fields and the result. Not here: what is in the result.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;

use super::Visit;
use crate::pool::reply::Reply;

/// Answers a request of the type in `X-RequestType`.
pub(super) async fn answer(mut visit: Visit<'_>) -> Result<Reply> {
    let kind = visit
        .head
        .field("x-requesttype")
        .unwrap_or_default()
        .to_owned();
    let id = visit
        .head
        .field("x-requestid")
        .unwrap_or_default()
        .to_owned();
    let request = visit.whole().await?;
    let period = visit.shared.switches.period();
    let waits = match kind.as_str() {
        "Connect" | "Disconnect" | "Bind" | "Unbind" => 0,
        "Execute" => 1,
        // Nothing ever happens in this mailbox, so the wait is as long as it gets: five minutes with the usual period.
        "NotificationWait" => 10,
        _ => return Ok(Reply::new(400, "").with("X-ResponseCode", "5")),
    };
    let (pieces, reply) = Reply::streamed(None);
    tokio::task::spawn_local(async move {
        let work = async {
            pieces
                .send(Bytes::from_static(b"PROCESSING\r\n"))
                .await
                .ok()?;
            for _ in 0..waits {
                tokio::time::sleep(period).await;
                pieces.send(Bytes::from_static(b"PENDING\r\n")).await.ok()?;
            }
            let elapsed = Duration::as_millis(&period) * waits;
            let end = format!("DONE\r\nX-ResponseCode: 0\r\nX-ElapsedTime: {elapsed}\r\n\r\n");
            // The result: the request, so that whoever sent it can tell it from another's.
            pieces
                .send([end.as_bytes(), &request].concat().into())
                .await
                .ok()
        };
        // Nobody reads any more: that is the client's right.
        let _done: Option<()> = work.await;
    });
    Ok(reply
        .with("Content-Type", "application/mapi-http")
        .with("X-RequestType", kind)
        .with("X-RequestId", id)
        .with("X-ResponseCode", "0")
        .with("X-PendingPeriod", period.as_millis().to_string())
        .with("X-ExpirationInfo", "900000")
        .with("Set-Cookie", "MapiContext=MAPIAAAA; path=/mapi; secure")
        .with("Set-Cookie", "MapiSequence=1-AAAA; path=/mapi; secure"))
}
