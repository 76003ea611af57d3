//! What a configuration says of connections that move to the kernel's TCP: when, how many, and where they begin.

use std::num::NonZeroU32;
use std::sync::Arc;

use lb_config::{AfXdp, Begin, Handover};
use lb_proxy::BulkThresholds;
use lb_transport::af_xdp::{EngineConfig, MoveLimits};

use super::Plan;
use crate::budget;
use crate::control::begin;
use crate::worker::Carrier;

/// From where on a connection is to move.
pub(super) fn bulk(handover: Handover) -> BulkThresholds {
    let bytes = |bytes: NonZeroU32| u64::from(bytes.get());
    BulkThresholds {
        response: bytes(handover.response),
        upload: bytes(handover.upload),
        streamed: bytes(handover.streamed),
        repeated: bytes(handover.repeated),
    }
}

impl Plan {
    /// Rules of the TCP of each of so many workers.
    pub(crate) fn engine(&self, workers: u32) -> EngineConfig {
        let AfXdp {
            connections,
            memory_mib,
            spin,
            moves_per_second,
            moved_connections,
        } = self.config.af_xdp;
        // What can't be read is as good as the usual limit of a service.
        let files = budget::open_files().unwrap_or(1024);
        let moved = budget::moved_connections(moved_connections, files, workers);
        let mut engine = EngineConfig {
            spin,
            moves: Some(MoveLimits {
                per_second: moves_per_second.get(),
                connections: usize::try_from(moved).unwrap_or(usize::MAX),
            }),
            ..EngineConfig::default()
        };
        engine.tcp.max_flows = usize::try_from(connections.get()).unwrap_or(usize::MAX);
        engine.tcp.memory = usize::try_from(memory_mib).map_or(usize::MAX, |mib| mib << 20);
        engine
    }

    /// The services whose connections move and may begin on the workers.
    pub(crate) fn beginning(&self, carriers: &[Option<Carrier>]) -> Vec<begin::Service> {
        let services = self.config.services.iter().zip(&self.services);
        let mut beginning = Vec::new();
        for (position, ((service, planned), carrier)) in services.zip(carriers).enumerate() {
            let begin = service.handover().map(|handover| handover.begin);
            let tally = (begin == Some(Begin::Adaptive)).then(|| Arc::clone(&planned.tally));
            if *carrier == Some(Carrier::Both) && begin != Some(Begin::Kernel) {
                beginning.push(begin::Service {
                    position,
                    name: service.name.as_str().to_owned(),
                    listen: service.listen,
                    tally,
                });
            }
        }
        beginning
    }

    /// What moving connections would want and the process hasn't got.
    pub(super) fn few_files(&self) -> Option<String> {
        let mut services = self.config.services.iter();
        if !services.any(|service| service.handover().is_some()) {
            return None;
        }
        let files = budget::open_files().ok()?;
        budget::warning(&self.config.af_xdp, files, self.workers())
    }

    /// How many workers there will be. An interface that isn't there yet counts as one of one queue.
    fn workers(&self) -> u32 {
        let interfaces = self.config.interfaces.iter();
        let queues = interfaces.map(|name| lb_xsk::queue_count(name.as_str()).unwrap_or(1));
        queues.max().unwrap_or(1)
    }
}
