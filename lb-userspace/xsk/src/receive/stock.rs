//! How many of the rx frames the kernel has: few as long as few are enough, so that the same ones come back while they are in the cache.
//!
//! The kernel fills frames in the order in which it got them, so with all of them on their way each packet would meet memory that
//! was last touched thousands of packets ago, on both CPUs. And packets begin at the same place of each frame: only one of 32 sets of
//! a cache serves them.
//!
//! Invariant: a frame is spare or lent, never both. Deliberately not here: the rings, and what is in a frame.

/// Frames that the kernel has at a quiet time: 5 ms of 100,000 packets a second. Twice as many fill the sets above of 2 MB of cache.
const FEW: u32 = 512;

/// Packets for which all frames stay on their way after a time that wasn't quiet.
const CALM: u32 = 1 << 16;

/// Frames of the rx line that are not with the kernel, and the count of those that are.
#[derive(Debug)]
pub(super) struct Stock {
    /// The one that came last is on top.
    spare: Vec<u64>,
    /// In the fill ring, with the driver, or in the rx ring.
    lent: u32,
    /// How many may be lent at a quiet time.
    few: u32,
    /// Packets until it is quiet again; 0 if it is.
    restless: u32,
}

impl Stock {
    /// Of a line whose frames are all lent, and stay so.
    pub(super) fn all_lent(count: u32) -> Self {
        Self {
            spare: Vec::new(),
            lent: count,
            few: count,
            restless: 0,
        }
    }

    /// From now on, few frames do at a quiet time.
    pub(super) fn economize(&mut self) {
        self.few = self.few.min(FEW);
    }

    /// A packet came, and its frame with it.
    pub(super) fn on_packet(&mut self) {
        self.lent = self.lent.saturating_sub(1);
        self.restless = self.restless.saturating_sub(1);
    }

    /// A frame is free. Whether it is to be lent again; else it is kept.
    pub(super) fn on_free(&mut self, frame: u64) -> bool {
        let lends = self.restless > 0 || self.lent < self.few;
        if lends {
            self.lent += 1;
        } else {
            self.spare.push(frame);
        }
        lends
    }

    /// So many packets wait. If that is half of the few, it is no quiet time, and the next stall may need all frames.
    pub(super) fn on_waiting(&mut self, packets: u32) {
        if packets >= self.few / 2 {
            self.restless = CALM;
        }
    }

    /// A frame to lend that was kept until now.
    pub(super) fn lend(&mut self) -> Option<u64> {
        if self.restless == 0 {
            return None;
        }
        let frame = self.spare.pop()?;
        self.lent += 1;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u32 = 2048;

    /// Receives `packets`, one at a time; how many different frames held them, if the kernel takes them in the order of `fill`.
    fn frames_met(
        stock: &mut Stock,
        fill: &mut std::collections::VecDeque<u64>,
        packets: u32,
    ) -> usize {
        let mut met = std::collections::BTreeSet::new();
        for _ in 0..packets {
            let frame = fill.pop_front().unwrap();
            met.insert(frame);
            stock.on_packet();
            if stock.on_free(frame) {
                fill.push_back(frame);
            }
        }
        met.len()
    }

    #[test]
    fn few_frames_go_round_at_a_quiet_time_and_all_after_a_backlog() {
        let mut stock = Stock::all_lent(COUNT);
        let mut fill = (0..u64::from(COUNT)).collect();
        assert_eq!(frames_met(&mut stock, &mut fill, 3 * COUNT), 2048);
        stock.economize();
        frames_met(&mut stock, &mut fill, COUNT);
        assert_eq!(frames_met(&mut stock, &mut fill, 3 * COUNT), 512);
        stock.on_waiting(255);
        assert_eq!(stock.lend(), None);
        stock.on_waiting(256);
        fill.extend(std::iter::from_fn(|| stock.lend()));
        assert_eq!(fill.len(), 2048);
        frames_met(&mut stock, &mut fill, CALM - 1);
        assert_eq!(fill.len(), 2048, "all stay on their way");
        frames_met(&mut stock, &mut fill, COUNT);
        assert_eq!(frames_met(&mut stock, &mut fill, 3 * COUNT), 512);
        assert_eq!(fill.len() + stock.spare.len(), 2048, "none is lost");
    }

    #[test]
    fn a_line_of_fewer_frames_has_all_of_them_on_their_way() {
        let mut stock = Stock::all_lent(64);
        let mut fill = (0..64).collect();
        stock.economize();
        assert_eq!(frames_met(&mut stock, &mut fill, 640), 64);
        assert!(stock.spare.is_empty());
    }
}
