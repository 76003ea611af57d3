//! Exchange `ActiveSync`: `Ping` and `Sync` with a heartbeat, held until it is over; nothing ever changes here.
//!
//! Requests and answers are WBXML (MS-ASWBXML), of which only the heartbeat is looked for: an opaque reader would have to
//! know all code pages. Not here: mail, policies, folder hierarchies.

use std::time::Duration;

use anyhow::Result;

use super::Visit;
use crate::pool::reply::Reply;

/// Answers a command, `?Cmd=…`.
pub(super) async fn answer(mut visit: Visit<'_>) -> Result<Reply> {
    if visit.head.method == "OPTIONS" {
        return Ok(Reply::new(200, "")
            .with("MS-ASProtocolVersions", "2.5,12.0,12.1,14.0,14.1,16.0,16.1")
            .with("MS-ASProtocolCommands", "Sync,Ping"));
    }
    let command = command(&visit.head.target).to_owned();
    let request = visit.whole().await?;
    let (element, allowed) = match command.as_str() {
        // MS-ASCMD leaves the range of Ping to the server.
        "Ping" => (PING_HEARTBEAT, 1..=3540),
        "Sync" => (SYNC_HEARTBEAT, 60..=3540),
        _ => return Ok(Reply::new(501, "")),
    };
    let heartbeat = heartbeat(&request, element);
    let body: Vec<u8> = match (command.as_str(), heartbeat) {
        ("Ping", Some(seconds)) if allowed.contains(&seconds) => {
            visit.hold(Duration::from_secs(seconds)).await?;
            ping_status(b'1')
        }
        ("Ping", Some(_)) => ping_status(b'5'),
        // Missing parameters: the server keeps none from earlier.
        ("Ping", None) => ping_status(b'3'),
        (_, Some(seconds)) if allowed.contains(&seconds) => {
            visit.hold(Duration::from_secs(seconds)).await?;
            // MS-ASCMD 2.2.1.21.1: nothing changed, so the answer is empty.
            Vec::new()
        }
        (_, Some(_)) => [WBXML, &[0x45, 0x4e, 0x03, b'1', b'4', 0, 1, 1]].concat(),
        (_, None) => Vec::new(),
    };
    Ok(Reply::new(200, body)
        .with("Content-Type", "application/vnd.ms-sync.wbxml")
        .with("MS-Server-ActiveSync", "15.2"))
}

fn command(target: &str) -> &str {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("Cmd="))
        .unwrap_or_default()
}

/// The seconds in the element with this token: an inline string after it.
fn heartbeat(request: &[u8], element: u8) -> Option<u64> {
    let place = request
        .windows(2)
        .position(|pair| pair == [element, STR_I])?;
    let text = request.get(place + 2..)?;
    let text = text.split(|&byte| byte == 0).next()?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `<Ping><Status>…</Status></Ping>`: 1 the heartbeat is over, 3 parameters are missing, 5 it is out of range.
fn ping_status(status: u8) -> Vec<u8> {
    [
        WBXML,
        &[
            SWITCH_PAGE,
            PING_PAGE,
            0x45,
            0x47,
            STR_I,
            status,
            0,
            END,
            END,
        ],
    ]
    .concat()
}

/// Version 1.3, unknown public identifier, UTF-8, no string table.
const WBXML: &[u8] = &[0x03, 0x01, 0x6a, 0x00];
const SWITCH_PAGE: u8 = 0x00;
const PING_PAGE: u8 = 0x0d;
const STR_I: u8 = 0x03;
const END: u8 = 0x01;
/// `HeartbeatInterval` with content, in the code page of Ping.
const PING_HEARTBEAT: u8 = 0x48;
/// The same in that of `AirSync`.
const SYNC_HEARTBEAT: u8 = 0x69;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heartbeat_is_found() {
        // <Ping><HeartbeatInterval>20</HeartbeatInterval><Folders/></Ping>
        let request = [WBXML, &[0, 0x0d, 0x45, 0x48, 3, b'2', b'0', 0, 1, 0x09, 1]].concat();
        assert_eq!(heartbeat(&request, PING_HEARTBEAT), Some(20));
        assert_eq!(heartbeat(&request, SYNC_HEARTBEAT), None);
        assert_eq!(heartbeat(b"", PING_HEARTBEAT), None);
        assert_eq!(
            command("/Microsoft-Server-ActiveSync?User=a&Cmd=Ping"),
            "Ping"
        );
        assert_eq!(command("/Microsoft-Server-ActiveSync"), "");
    }
}
