//! The peer's window (RFC 9293 §3.10.7.4), and when a segment is worth sending into it (§3.8.6.2.1).

use super::{Ack, SenderSnapshot};
use crate::Seq;

#[derive(Clone, Copy, Debug)]
pub(super) struct PeerWindow {
    /// SND.WND.
    wnd: u32,
    /// Max(SND.WND): what the peer's buffer is taken for.
    max_wnd: u32,
    /// SND.WL1, SND.WL2.
    wl1: Seq,
    wl2: Seq,
    /// Whether the peer has told a window yet.
    known: bool,
}

impl PeerWindow {
    pub(super) const fn new() -> Self {
        Self {
            wnd: 0,
            max_wnd: 0,
            wl1: Seq(0),
            wl2: Seq(0),
            known: false,
        }
    }

    /// With what another engine was told.
    pub(super) fn resumed(snapshot: &SenderSnapshot) -> Self {
        Self {
            wnd: snapshot.wnd,
            max_wnd: snapshot.max_wnd,
            wl1: snapshot.wl1,
            wl2: snapshot.wl2,
            known: true,
        }
    }

    /// SND.WL1 and SND.WL2.
    pub(super) fn told_by(&self) -> (Seq, Seq) {
        (self.wl1, self.wl2)
    }

    /// Takes the window of `ack` unless it is older than the one known; whether it differs.
    ///
    /// RFC 9293 looks at SEG.SEQ first. But a retransmission has an old number and a new acknowledgement; with its window
    /// ignored, SND.UNA would move and SND.WND would not, and so the right edge go further than anyone has told.
    pub(super) fn update(&mut self, ack: &Ack<'_>) -> bool {
        let is_newer =
            self.wl2.precedes(ack.ack) || (self.wl2 == ack.ack && !ack.seq.precedes(self.wl1));
        if self.known && !is_newer {
            return false;
        }
        let differs = !self.known || self.wnd != ack.window;
        self.known = true;
        self.wnd = ack.window;
        self.max_wnd = self.max_wnd.max(ack.window);
        self.wl1 = ack.seq;
        self.wl2 = ack.ack;
        differs
    }

    pub(super) fn wnd(&self) -> u32 {
        self.wnd
    }

    pub(super) fn max_wnd(&self) -> u32 {
        self.max_wnd
    }

    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// U of RFC 9293 §3.8.6.2.1: numbers that may follow `nxt`. Zero if the window was shrunk (which a peer should not do).
    pub(super) fn usable(&self, una: Seq, nxt: Seq) -> u32 {
        self.wnd.saturating_sub(nxt.since(una))
    }

    /// Whether `len` bytes of `waiting` are worth a segment (§3.8.6.2.1, Nagle off): a full one, the last ones, or
    /// half of what the peer ever had room for.
    pub(super) fn is_worth(&self, len: u32, waiting: u32, mss: u32) -> bool {
        len > 0 && (len >= mss || len == waiting || len >= self.max_wnd / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SackBlocks;

    fn update(peer: &mut PeerWindow, seq: u32, ack: u32, window: u32) -> bool {
        peer.update(&Ack {
            ack: Seq(ack),
            seq: Seq(seq),
            window,
            sack: &SackBlocks::default(),
            round_trip: None,
            carries_data: false,
        })
    }

    #[test]
    fn an_older_segment_does_not_bring_back_an_older_window() {
        let mut window = PeerWindow::new();
        assert!(update(&mut window, u32::MAX, 10, 5000));
        assert!(update(&mut window, 1, 10, 4000), "a later SEG.SEQ counts");
        assert!(
            !update(&mut window, u32::MAX, 10, 9000),
            "an earlier one does not"
        );
        assert!(!update(&mut window, 2, 9, 9000), "nor an earlier SEG.ACK");
        assert!(update(&mut window, 1, 10, 0), "the same two do");
        assert_eq!((window.wnd(), window.max_wnd()), (0, 5000));
        assert!(!update(&mut window, 1, 11, 0));
        assert!(
            update(&mut window, u32::MAX, 12, 3000),
            "a retransmission with a new acknowledgement counts"
        );
    }

    #[test]
    fn a_shrunk_window_leaves_no_room() {
        let mut window = PeerWindow::new();
        update(&mut window, 0, 10, 100);
        assert_eq!(window.usable(Seq(10), Seq(60)), 50);
        assert_eq!(window.usable(Seq(10), Seq(200)), 0);
    }

    #[test]
    fn silly_segments_are_not_worth_sending() {
        let mut window = PeerWindow::new();
        update(&mut window, 0, 0, 1000);
        assert!(window.is_worth(1448, 9000, 1448), "a full one");
        assert!(window.is_worth(3, 3, 1448), "the last bytes");
        assert!(window.is_worth(500, 9000, 1448), "half of the window");
        assert!(!window.is_worth(499, 9000, 1448));
        assert!(!window.is_worth(0, 0, 1448));
    }
}
