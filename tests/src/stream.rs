//! An RPC connection over HTTP to its very end: both channels carry all that they declare, and what passes them leaves nothing
//! behind in the balancer.
//!
//! The client keeps to the window that the server gives it, as RPC does: what it has not heard back is on its way. Without that, a
//! slow reader fills the buffers of TCP before it slows the writer down, and on `af_xdp` they are the daemon's: 4 MiB each way.
//!
//! Invariant: bytes are checked where they arrive. The server hashes what came in and sends it back with the sum behind it; the
//! client compares each byte that comes out, and the sum with its own. Called by `lb-soak stream` with the 1 GiB that Outlook
//! declares, and by `tests/tests/exchange` with less.

use std::{
    fmt,
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    client::{Connection, Rpc},
    edge::{Edge, Front},
    pool::{Switch, USERS},
    resident::{Before, Growth},
    upgrade::origin::{is_right, pattern},
};

/// What a stream cost.
#[derive(Clone, Copy, Debug)]
pub struct Streamed {
    /// Bytes of each channel's body.
    pub bytes: u64,
    /// From the first to the last.
    pub time: Duration,
    /// Memory of the daemon.
    pub growth: Growth,
}

impl fmt::Display for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bytes,
            time,
            growth,
        } = self;
        let mib = bytes >> 20;
        write!(f, "{mib} MiB in and {mib} MiB out in {time:.1?}: {growth}")
    }
}

/// Streams `bytes` each way through a front of an edge with one server.
///
/// What is allocated once and kept is no cost of a stream, and every worker does so at its first ones: short ones come first.
pub fn through(edge: &Edge, front: &Front, bytes: u64) -> Result<Streamed> {
    for _ in 0..WARM_UP {
        stream(edge, front, SHORT)?;
    }
    let before = Before::look(edge.balancer.id())?;
    let started = Instant::now();
    stream(edge, front, bytes)?;
    Ok(Streamed {
        bytes,
        time: started.elapsed(),
        growth: before.growth()?,
    })
}

/// Fails if a byte is lost or wrong, or a channel doesn't end as HTTP has it.
fn stream(edge: &Edge, front: &Front, bytes: u64) -> Result<()> {
    let [server] = edge.world.servers() else {
        anyhow::bail!("one server is enough, and knows both channels");
    };
    server.switch(Switch::Channel(bytes))?;
    let rpc = Rpc::open_sized(&front.endpoint, &USERS[0], bytes)?;
    let room = usize::try_from(Rpc::room(bytes).context("too short for its first PDU")?)?;
    let window = rpc.window();
    let (mut inward, mut outward) = rpc.split();
    let (arrived, arrivals) = mpsc::channel();
    thread::scope(|scope| {
        let said = scope.spawn(move || say(&mut inward, room, window, &arrivals));
        let heard = hear(&mut outward, room, &arrived).context("the OUT channel");
        // Whoever waits for more to arrive waits for nothing.
        drop(arrived);
        let said = said.join().ok().context("the IN channel panicked")?;
        // Which of the two failed first, nobody knows.
        let (said, heard) = match (said, heard) {
            (Ok(said), Ok(heard)) => (said, heard),
            (Err(error), Ok(_)) => return Err(error.context("the IN channel")),
            (Ok(_), Err(error)) => return Err(error),
            (Err(inward), Err(outward)) => {
                return Err(outward.context(format!("the IN channel: {inward:#}")));
            }
        };
        ensure!(heard == said, "the server received something else");
        Ok(())
    })
}

/// Sends all that the IN channel has room for, and reads the answer that comes then; the sum of it.
fn say(
    inward: &mut Connection,
    room: usize,
    window: usize,
    arrivals: &Receiver<usize>,
) -> Result<Vec<u8>> {
    let (mut said, mut heard, mut sum) = (0, 0, Sha256::new());
    while said < room {
        let piece = pattern(said, room - said);
        while said + piece.len() > heard + window {
            heard += arrivals.recv().context("nobody listens any more")?;
        }
        sum.update(piece);
        let sent = inward.send(piece);
        sent.with_context(|| format!("after {said} bytes"))?;
        said += piece.len();
    }
    let status = inward.head()?.status;
    ensure!(status == 200, "it was answered by {status}");
    Ok(sum.finalize().to_vec())
}

/// Reads the OUT channel to its end; the sum that the server has of what it received. Tells what has arrived.
fn hear(outward: &mut Connection, room: usize, arrived: &Sender<usize>) -> Result<Vec<u8>> {
    let mut heard = 0;
    while heard < room {
        let piece = outward.exactly(PIECE.min(room - heard));
        let piece = piece.with_context(|| format!("after {heard} bytes"))?;
        ensure!(is_right(heard, &piece), "wrong bytes after {heard}");
        heard += piece.len();
        // A client that can't say any more has failed, and says so.
        let _ = arrived.send(piece.len());
    }
    outward.exactly(Sha256::output_size())
}

const PIECE: usize = 32 << 10;
const WARM_UP: u32 = 4;
const SHORT: u64 = 8 << 20;
