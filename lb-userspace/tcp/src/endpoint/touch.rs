//! Reads ahead for a burst of segments.
//!
//! With more connections than a cache holds, a segment finds its flow in memory: a dozen cache lines, each of which is asked for only
//! when the one before has come, since what is looked at next depends on it. The flows of different segments don't depend on each
//! other, so a processor that sees their reads close together waits for all of them once.
//!
//! Only a hint: nothing is changed, and a line that is missed here costs its wait later. Reads and not prefetch instructions, which
//! safe Rust does not have.
//!
//! Deliberately not here: how much is worth reading ahead, which the owner's burst says.

use core::hint::black_box;

use super::flow::Flow;
use super::{Attachment, Endpoint, FlowKey};

/// Flows at most of which the numbers are kept between the passes; more are touched in several turns.
const TURN: usize = 64;

impl<R: Clone, A: Attachment> Endpoint<R, A> {
    /// Brings what [`input`](Self::input) will look at for segments of these flows into the cache. Keys of no flow cost a look
    /// into the index.
    pub fn touch(&self, burst: &[FlowKey]) {
        for keys in burst.chunks(TURN) {
            let mut ids = [None; TURN];
            for (id, key) in ids.iter_mut().zip(keys) {
                let (_, hash) = self.shared.tuple_and_hash(key);
                // Whoever has this hash: to compare keys would be to wait for the flow.
                *id = self.index.find(hash, |_| true);
            }
            for id in ids.into_iter().flatten() {
                let timer = self.wheel.touch(id);
                black_box(
                    self.flows
                        .get(id)
                        .map_or(timer, |flow| flow.touch() ^ timer),
                );
            }
        }
    }
}

impl<R, A> Flow<R, A> {
    /// Reads something of each cache line. Fields of each part, 64 bytes apart at most, since the order of fields is the
    /// compiler's.
    fn touch(&self) -> u64 {
        u64::from(self.key.local.port())
            ^ u64::from(self.key.remote.port())
            ^ u64::from(self.is_in_line)
            ^ self.connection.touch()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use crate::Config;
    use crate::endpoint::tests::{Bench, key};

    #[test]
    fn a_burst_of_any_length_and_of_flows_that_are_not_here_changes_nothing() {
        let mut bench = Bench::new(Config::default());
        let (_, id) = bench.accepted(1);
        bench.accepted(2);
        bench.endpoint.release(id);
        let before = std::format!("{:?}", bench.endpoint);
        let burst: Vec<_> = (0..200).map(key).collect();
        for len in [0, 1, 63, 64, 65, 200] {
            bench.endpoint.touch(&burst[..len]);
        }
        assert_eq!(std::format!("{:?}", bench.endpoint), before);
    }
}
