//! The sending direction as a value, for another engine or a kernel socket to go on with.
//!
//! What is in flight stays in flight: it was sent, by whom doesn't matter. When it left isn't known any more, so it gives no round trip,
//! as if it had been sent again (Karn's rule). What was sacked is told again by the peer's next acknowledgement.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::Sender;
use super::window::PeerWindow;
use crate::{Env, Seq};

/// The sending direction of a connection whose SYN was acknowledged and whose FIN was not asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SenderSnapshot {
    /// SND.UNA.
    pub(crate) una: Seq,
    /// SND.NXT.
    pub(crate) nxt: Seq,
    /// SND.WND.
    pub(crate) wnd: u32,
    /// MAX.SND.WND.
    pub(crate) max_wnd: u32,
    /// SND.WL1.
    pub(crate) wl1: Seq,
    /// SND.WL2.
    pub(crate) wl2: Seq,
    /// Bytes from SND.UNA on, sent or not.
    pub(crate) queue: Vec<u8>,
    /// MSS that the peer and the way allow, without options.
    pub(crate) mss: u16,
    /// Whether the peer tells what it has by SACK.
    pub(crate) sack: bool,
    /// SRTT, if there was a sample.
    pub(crate) srtt: Option<Duration>,
    /// RTTVAR.
    pub(crate) rttvar: Duration,
    /// Congestion window.
    pub(crate) cwnd: u32,
    /// Slow start threshold, if there was a loss.
    pub(crate) ssthresh: Option<u32>,
}

impl Sender {
    /// The direction as a value. The bytes are copied; [`clear`](Self::clear) gives back their memory.
    pub(crate) fn export(&self) -> SenderSnapshot {
        let mut queue = vec![0; self.queued()];
        self.buffer.copy_to(0, &mut queue);
        let (wl1, wl2) = self.window.told_by();
        SenderSnapshot {
            una: self.una(),
            nxt: self.nxt(),
            wnd: self.window.wnd(),
            max_wnd: self.window.max_wnd(),
            wl1,
            wl2,
            queue,
            mss: self.path_mss,
            sack: self.sack,
            srtt: self.rtt.srtt(),
            rttvar: self.rtt.rttvar(),
            cwnd: self.congestion.cwnd(),
            ssthresh: self.congestion.ssthresh(),
        }
    }

    /// Goes on from a value; none if there is no memory for its bytes, or if more was sent than there is.
    pub(crate) fn import(
        snapshot: &SenderSnapshot,
        overhead: usize,
        env: &mut Env<'_>,
    ) -> Option<Self> {
        let mss = usize::from(snapshot.mss);
        let sent = snapshot.nxt.since(snapshot.una);
        let written = u32::try_from(snapshot.queue.len()).ok()?;
        if sent > written {
            return None;
        }
        let mut sender = Self::new(snapshot.una - 1, mss, false, env);
        sender.negotiated(mss, snapshot.sack, overhead);
        if !sender.buffer.write_whole(0, &snapshot.queue, env.pool) {
            return None;
        }
        sender.end = snapshot.una + written;
        sender.window = PeerWindow::resumed(snapshot);
        if let Some(srtt) = snapshot.srtt {
            sender.rtt.resume(srtt, snapshot.rttvar);
        }
        sender.congestion.resume(snapshot.cwnd, snapshot.ssthresh);
        sender.put_in_flight(sent, env);
        Some(sender)
    }

    /// The first `count` numbers have left.
    fn put_in_flight(&mut self, count: u32, env: &mut Env<'_>) {
        let mss = u32::from(self.mss);
        let mut left = count;
        while left > 0 {
            let len = left.min(mss);
            self.records.push(len, env.now, env.pool);
            left -= len;
        }
        for index in 0..self.records.len() {
            self.records.resend(index, mss, env.now);
        }
        self.arm_retransmit(env);
    }
}
