//! Which server gets the next request: weighted round robin over the servers that are up.
//!
//! Invariant: over any run of picks with the same servers up, each gets its share, and picks of a heavy
//! server are spread out instead of bunched. State is per worker; workers don't coordinate.

use std::cell::RefCell;
use std::sync::Arc;

use crate::service::Server;

/// The picker of one worker.
#[derive(Debug)]
pub(crate) struct Balancer {
    servers: Vec<Arc<Server>>,
    /// Credit of each server: grows by its weight at each pick, and pays the total when picked.
    credit: RefCell<Vec<i64>>,
}

impl Balancer {
    pub(crate) fn new(servers: Vec<Arc<Server>>) -> Self {
        let credit = RefCell::new(vec![0; servers.len()]);
        Self { servers, credit }
    }

    /// Index and server of the next pick among those up and not in `tried`.
    pub(crate) fn pick(&self, tried: &[usize]) -> Option<(usize, &Arc<Server>)> {
        let mut credit = self.credit.borrow_mut();
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        let candidates = self.servers.iter().zip(credit.iter_mut()).enumerate();
        for (index, (server, credit)) in candidates {
            if !server.is_up() || tried.contains(&index) {
                continue;
            }
            let weight = i64::from(server.weight().get());
            total += weight;
            *credit += weight;
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((index, *credit));
            }
        }
        let (index, _) = best?;
        if let Some(credit) = credit.get_mut(index) {
            *credit -= total;
        }
        self.servers.get(index).map(|server| (index, server))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn servers(weights: &[u16]) -> Vec<Arc<Server>> {
        let server = |&weight| {
            let weight = NonZeroU16::new(weight).unwrap();
            Arc::new(Server::new("s", ([127, 0, 0, 1], 1).into(), weight))
        };
        weights.iter().map(server).collect()
    }

    fn picks(balancer: &Balancer, tried: &[usize], count: usize) -> Vec<usize> {
        (0..count)
            .filter_map(|_| balancer.pick(tried).map(|(index, _)| index))
            .collect()
    }

    #[test]
    fn shares_follow_weights_and_are_spread() {
        let balancer = Balancer::new(servers(&[5, 1, 1]));
        assert_eq!(picks(&balancer, &[], 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn servers_down_or_tried_are_left_out() {
        let servers = servers(&[1, 1, 1]);
        let balancer = Balancer::new(servers.clone());
        servers[1].set_up(false);
        assert_eq!(picks(&balancer, &[], 4), [0, 2, 0, 2]);
        assert_eq!(picks(&balancer, &[0], 2), [2, 2]);
        assert_eq!(picks(&balancer, &[0, 2], 2), []);
        servers[1].set_up(true);
        assert!(picks(&balancer, &[], 3).contains(&1));
    }
}
