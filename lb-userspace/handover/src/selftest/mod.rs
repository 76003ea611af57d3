//! Whether a connection of a service could live on the kernel's TCP, asked before one is moved there.
//!
//! A moved connection meets what the host does to packets of the kernel's: reverse path filtering, connection tracking that has not seen
//! it begin, firewall rules. Where one of these drops them the connection hangs, and nothing tells why. So at its start the daemon
//! makes a connection that no peer knows of, a socket in repair, and has the kernel receive one segment for it on the service's interface:
//!
//! ```text
//!  segment ─▶ BPF_PROG_TEST_RUN, live frames ─▶ XDP_PASS ─▶ the interface's receive path ─▶ netfilter, routing ─▶ socket: arrived?
//!  segment ─▶ Reinjector ─▶ netfilter, loopback, netfilter ─▶ socket: arrived as well?
//! ```
//!
//! **Nothing leaves the host.** The segment is an acknowledgement of nothing new, which TCP does not answer; the socket is closed in
//! repair, silently.
//!
//! Limits: a program attached in generic mode sees the segment too, as one without a flow; so there the test runs before it is
//! attached. The segment has no VLAN tag. What happens to packets that the host sends is not tested.

mod kernel;
mod peer;
mod reason;
mod route;

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lb_tcp::{Flags, FlowKey, Header, Seq, Snapshot};

pub use reason::Reason;

use self::kernel::Drops;
use self::peer::Peer;
use crate::error::Step;
use crate::reinject::packet;
use crate::{Options, Reinjector, Repaired, sys};

/// What is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfTest {
    /// The service's address.
    pub listen: SocketAddr,
    /// Where its packets come in.
    pub interface_index: u32,
    /// The same by name.
    pub interface_name: String,
}

/// Segments that are received before the test has failed: the host may be busy.
const TRIES: u32 = 3;

/// How long one is waited for. Usually it has arrived when the call returns that receives it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes a connection in repair and has the kernel receive a segment for it. Takes less than a millisecond where all is well, and
/// `TRIES` times `PATIENCE` where it isn't.
///
/// Blocks for that time.
pub fn run(test: &SelfTest) -> Result<(), Reason> {
    let peer = Peer::choose(test)?;
    let key = FlowKey {
        local: test.listen,
        remote: SocketAddr::new(peer.address, port()),
    };
    let repaired = Repaired::new(&key, &snapshot(), 0, &Options::default())
        .map_err(|error| Reason::of_move(test, error))?;
    receive(test, &repaired, &frame(&peer, &key))?;
    reinject(test, &repaired, &key)
}

/// The kernel receives a segment on the interface.
fn receive(test: &SelfTest, repaired: &Repaired, frame: &[u8]) -> Result<(), Reason> {
    let program = sys::bpf::load_pass().map_err(|error| Reason::of_bpf(error, "loading"))?;
    let before = Drops::read();
    for _ in 0..TRIES {
        sys::bpf::receive(program.as_fd(), test.interface_index, frame)
            .map_err(|error| Reason::of_bpf(error, "running"))?;
        if arrives(test, repaired, 0)? {
            return Ok(());
        }
    }
    Err(Reason::of_drops(test, &before, &Drops::read()))
}

/// The kernel is given a segment that came in the old way.
fn reinject(test: &SelfTest, repaired: &Repaired, key: &FlowKey) -> Result<(), Reason> {
    let reinjector = Reinjector::new().map_err(Reason::of_raw_socket)?;
    let known = segments_in(test, repaired)?;
    for _ in 0..TRIES {
        reinjector
            .inject(key, &acknowledgement(), &[])
            .map_err(|error| Reason::of_injection(test, error))?;
        if arrives(test, repaired, known)? {
            return Ok(());
        }
    }
    Err(Reason::NotReinjected {
        listen: test.listen,
    })
}

/// Waits for more segments than those that are `known`.
fn arrives(test: &SelfTest, repaired: &Repaired, known: u32) -> Result<bool, Reason> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let arrived = segments_in(test, repaired)? > known;
        if arrived || Instant::now() >= deadline {
            return Ok(arrived);
        }
        thread::sleep(PAUSE);
    }
}

fn segments_in(test: &SelfTest, repaired: &Repaired) -> Result<u32, Reason> {
    let segments = repaired.segments_in();
    segments.map_err(|error| Reason::of_move(test, Step::Socket.failed(error)))
}

/// An idle connection. The numbers are always the same: connection tracking may remember the last test.
fn snapshot() -> Snapshot {
    Snapshot {
        una: OURS,
        nxt: OURS,
        wnd: WINDOW.into(),
        max_wnd: WINDOW.into(),
        wl1: THEIRS,
        wl2: OURS,
        send_queue: Vec::new(),
        mss: 1220,
        srtt: None,
        rttvar: Duration::ZERO,
        cwnd: 12_200,
        ssthresh: None,
        rcv_nxt: THEIRS,
        last_ack_sent: THEIRS,
        rcv_edge: THEIRS + u32::from(WINDOW),
        unread: Vec::new(),
        out_of_order: Vec::new(),
        fin: None,
        shifts: None,
        sack: false,
        timestamps: None,
        own_mss: 1220,
    }
}

/// An acknowledgement of nothing new, which TCP does not answer.
fn acknowledgement() -> Header {
    Header {
        seq: THEIRS,
        ack: OURS,
        flags: Flags::ACK,
        window: WINDOW,
        ..Header::default()
    }
}

/// A frame with an acknowledgement of nothing new.
fn frame(peer: &Peer, key: &FlowKey) -> Vec<u8> {
    let ethertype = if key.local.is_ipv4() {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    let packet = packet(key, &acknowledgement(), &[]);
    [&peer.our_link[..], &peer.their_link, &ethertype, &packet].concat()
}

/// A port of the peer's that no test had before, most likely: so that what connection tracking remembers of it is not asked.
fn port() -> u16 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.subsec_micros());
    let range = u32::from(PORTS.1 - PORTS.0);
    PORTS.0 + u16::try_from(micros % range).unwrap_or(0)
}

/// Ports that clients use.
const PORTS: (u16, u16) = (32_768, 60_999);

const OURS: Seq = Seq(1_000_000);
const THEIRS: Seq = Seq(2_000_000);
const WINDOW: u16 = 65_535;
