//! The long requests of Outlook and phones, byte by byte: RPC over HTTP, MAPI over HTTP, `ActiveSync`'s Ping.
//!
//! There is no Outlook here; this is the shape of what it sends, after the published protocols (MS-RPCH, MS-OXCMAPIHTTP,
//! MS-ASCMD). What comes back is the caller's to judge.

use std::{net::SocketAddrV4, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Connection;
use crate::pool::{User, credential};

/// Where a server or a balancer is, and whose certificates are trusted there; without TLS if none.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Address and port.
    pub address: SocketAddrV4,
    /// File with the authority's certificate.
    pub ca: Option<PathBuf>,
}

impl Endpoint {
    /// One without TLS.
    pub fn plain(address: SocketAddrV4) -> Self {
        Self { address, ca: None }
    }

    /// A connection.
    pub fn open(&self) -> Result<Connection> {
        match &self.ca {
            Some(ca) => Connection::open_tls(self.address, ca),
            None => Connection::open(self.address),
        }
    }
}

/// An `Authorization` line by Basic.
pub fn basic(user: &User) -> String {
    let pair = format!("{}:{}", user.qualified(), user.password);
    format!("Authorization: Basic {}", STANDARD.encode(pair))
}

/// An `Authorization` line that logs the connection in with one leg.
pub fn one_leg(user: &User) -> String {
    format!("Authorization: {}", credential::one_leg(user))
}

/// An RPC connection over HTTP: what is said on one channel comes back on the other.
#[derive(Debug)]
pub struct Rpc {
    inward: Connection,
    outward: Connection,
    window: usize,
}

impl Rpc {
    /// Opens both channels, OUT first as Outlook does, up to the server's CONN/C2. `user` logs in on each.
    pub fn open(endpoint: &Endpoint, user: &User) -> Result<Self> {
        Self::open_sized(endpoint, user, CHANNEL)
    }

    /// The same with an IN channel that declares so many bytes.
    pub fn open_sized(endpoint: &Endpoint, user: &User, bytes: u64) -> Result<Self> {
        let login = basic(user);
        let mut outward = endpoint.open()?;
        let length = format!("Content-Length: {CONN_A1}");
        outward.send_head("RPC_OUT_DATA", PROXY, &[ACCEPT, &length, &login])?;
        outward.send(&opening(CONN_A1))?;
        let head = outward.head()?;
        ensure!(head.status == 200, "the OUT channel: {head:?}");
        // Before the IN channel is there, and long before the answer's end.
        outward.exactly(CONN_A3)?;
        let mut inward = endpoint.open()?;
        let length = format!("Content-Length: {bytes}");
        inward.send_head("RPC_IN_DATA", PROXY, &[ACCEPT, &length, &login])?;
        inward.send(&opening(CONN_B1))?;
        let opened = outward.exactly(CONN_C2)?;
        Ok(Self {
            inward,
            outward,
            window: receive_window(&opened)?,
        })
    }

    /// Says something and waits until it has come back.
    pub fn echo(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        self.inward.send(data)?;
        self.outward.exactly(data.len())
    }

    /// Bytes that can still be said on an IN channel that declared so many.
    pub fn room(bytes: u64) -> Option<u64> {
        bytes.checked_sub(CONN_B1 as u64)
    }

    /// Bytes that the server lets be under way on the IN channel (MS-RPCH 2.2.3.5.1, `ReceiveWindowSize`).
    pub fn window(&self) -> usize {
        self.window
    }

    /// The IN channel and the OUT channel, for two threads.
    pub fn split(self) -> (Connection, Connection) {
        (self.inward, self.outward)
    }

    /// Ends the IN channel; the OUT channel.
    pub fn end_inward(self) -> Connection {
        self.outward
    }
}

/// Sends the tiny request with which Outlook tries a proxy; its status and the size of its answer.
pub fn rpc_echo(connection: &mut Connection, user: &User) -> Result<(u16, usize)> {
    let fields = [ACCEPT, "Content-Length: 4", &basic(user)];
    connection.send_head("RPC_IN_DATA", PROXY, &fields)?;
    connection.send(b"echo")?;
    let head = connection.head()?;
    Ok((head.status, connection.body(&head)?.len()))
}

/// Sends a Ping with this heartbeat; the server answers when it is over.
pub fn send_ping(connection: &mut Connection, user: &User, seconds: u32) -> Result<()> {
    // <Ping><HeartbeatInterval>…</HeartbeatInterval></Ping> in WBXML 1.3.
    let mut body = vec![3, 1, 0x6a, 0, 0, 0x0d, 0x45, 0x48, 3];
    body.extend(seconds.to_string().bytes());
    body.extend([0, 1, 1]);
    let length = format!("Content-Length: {}", body.len());
    let fields = [
        "Content-Type: application/vnd.ms-sync.wbxml",
        "MS-ASProtocolVersion: 16.1",
        &length,
        &basic(user),
    ];
    let target = "/Microsoft-Server-ActiveSync?Cmd=Ping&User=alice&DeviceId=lab&DeviceType=lab";
    connection.send_head("POST", target, &fields)?;
    connection.send(&body)
}

/// The answer to a Ping: nothing has changed.
pub const PING_EXPIRED: [u8; 13] = [3, 1, 0x6a, 0, 0, 0x0d, 0x45, 0x47, 3, b'1', 0, 1, 1];

/// Sends a MAPI request of this type; its result repeats `content`.
pub fn send_mapi(
    connection: &mut Connection,
    kind: &str,
    content: &[u8],
    login: &str,
) -> Result<()> {
    let length = format!("Content-Length: {}", content.len());
    let kind = format!("X-RequestType: {kind}");
    let fields = [
        "Content-Type: application/mapi-http",
        "X-RequestId: {11111111-2222-3333-4444-555555555555}:1",
        "X-ClientInfo: {66666666-7777-8888-9999-000000000000}:1",
        &kind,
        &length,
        login,
    ];
    connection.send_head("POST", "/mapi/emsmdb/?MailboxId=lab@lab.test", &fields)?;
    connection.send(content)
}

/// CONN/A1 or CONN/B1 as far as a server looks: an RTS header, the version, the virtual connection's cookie.
fn opening(length: usize) -> Vec<u8> {
    let mut pdu = vec![5, 0, 20, 3, 0x10, 0, 0, 0];
    pdu.extend(u16::try_from(length).unwrap_or_default().to_le_bytes());
    pdu.resize(20, 0);
    pdu.extend([6, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
    pdu.extend(b"virtual  channel");
    pdu.resize(length, 0);
    pdu
}

/// The second command of CONN/C2, after the version.
fn receive_window(pdu: &[u8]) -> Result<usize> {
    let (kind, size) = (pdu.get(28..32), pdu.get(32..36));
    ensure!(kind == Some(&[0; 4]), "no receive window: {pdu:?}");
    let size = size
        .and_then(|size| size.try_into().ok())
        .context("no size")?;
    Ok(usize::try_from(u32::from_le_bytes(size))?)
}

const PROXY: &str = "/rpc/rpcproxy.dll?mailbox@lab.test:6001";
const ACCEPT: &str = "Accept: application/rpc";
const CHANNEL: u64 = 1 << 30;
const CONN_A1: usize = 76;
const CONN_A3: usize = 28;
const CONN_B1: usize = 104;
const CONN_C2: usize = 44;
