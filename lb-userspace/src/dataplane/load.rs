//! Loading and attaching. Called once at start, by `run`.

use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{EbpfError, EbpfLoader};
use lb_ebpf::abi::{MAX_SERVICES, RING_SIZE, RING_SLOTS};
use lb_ebpf::family::V6;
use lb_ebpf::flow::FlowSet;
use lb_ebpf::verdict::Stage;

use super::Dataplane;
use super::maps::{MapAccessError, Maps};
use super::pin::{self, Inherited, PinError, Pins};

/// The object that `cargo xtask build-ebpf` made, embedded by `build.rs`; empty when this binary
/// was built without one.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-xdp"));

/// Name of the program inside the object that is attached; the others are entered from it.
const PROGRAM: &str = "lb_xdp";

/// Entries of a flow set, and flow-table entries of one flow (forward and reverse).
const WAYS: u64 = 4;
const ENTRIES_PER_FLOW: u64 = 2;

/// Map sizes that depend on the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizing {
    /// Flows that must fit.
    pub(crate) flows: u32,
    /// As `flows`, over IPv6; 0 if no service of mode "l4" has an IPv6 address.
    pub(crate) flows6: u32,
    /// Services of the configuration.
    pub(crate) services: u32,
}

impl Sizing {
    /// Sets of the flow table: a power of two, filled to at most one half by the configured flows,
    /// because a 4-way set that is half full on average refuses about one flow in 200 and a fuller
    /// one soon refuses many more.
    pub(crate) fn flow_sets(self) -> u32 {
        sets_for(self.flows)
    }

    /// As [`flow_sets`](Self::flow_sets), of the IPv6 table.
    pub(crate) fn flow6_sets(self) -> u32 {
        sets_for(self.flows6)
    }

    /// Elements that hold all Maglev rings: two rings for each service.
    pub(super) fn ring_elements(self) -> u32 {
        (self.services.clamp(1, MAX_SERVICES) * 2 * RING_SIZE).div_ceil(RING_SLOTS)
    }

    /// Memory of the flow tables, in bytes. It is all taken at the start.
    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.flow_sets()) * size_of::<FlowSet>() as u64
            + u64::from(self.flow6_sets()) * size_of::<FlowSet<V6>>() as u64
    }
}

fn sets_for(flows: u32) -> u32 {
    let entries = u64::from(flows.max(1)) * ENTRIES_PER_FLOW * 2;
    let sets = (entries / WAYS).max(1).next_power_of_two();
    u32::try_from(sets).unwrap_or(1 << 31)
}

/// Why the data plane could not be brought up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// This binary carries no XDP object.
    #[error(
        "this lb was built without its XDP program: run `cargo xtask build-ebpf`, then build lb again"
    )]
    NoObject,
    /// The kernel or aya refused the object.
    #[error("loading the XDP program: {0}")]
    Load(#[source] EbpfError),
    /// The verifier or the kernel refused the program.
    #[error(
        "loading the XDP program: {0} (lb needs Linux 6.1 or newer, and root or CAP_BPF with CAP_NET_ADMIN)"
    )]
    Program(#[source] ProgramError),
    /// A map is not as this binary expects.
    #[error(transparent)]
    Maps(#[from] MapAccessError),
    /// What shall outlive the daemon can't.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// There is no such interface.
    #[error("interface {0}: {1}; `ip link` lists those that there are")]
    NoInterface(String, lb_xsk::Error),
    /// Native XDP is not possible on an interface.
    #[error(
        "attaching native XDP to interface {interface}: {source}; the driver must support native \
         XDP and no other XDP program may be attached (`ip link show {interface}`)"
    )]
    Attach {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: ProgramError,
    },
}

impl Dataplane {
    /// Loads the program and sizes its maps. Nothing is attached yet, and with empty maps the
    /// program passes every packet.
    pub(crate) fn load(sizing: Sizing, pins: Option<Pins>) -> Result<Self, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NoObject);
        }
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("FLOWS", sizing.flow_sets())
            .map_max_entries("FLOWS6", sizing.flow6_sets())
            .map_max_entries("RINGS", sizing.ring_elements());
        if let Some(pins) = &pins {
            pins.require_sizes([sizing.flow_sets(), sizing.flow6_sets()])?;
            // Tables that are there are taken, and not looked at: that is what `require_sizes` is for.
            loader
                .map_pin_path("FLOWS", pins.path(pin::FLOWS))
                .map_pin_path("FLOWS6", pins.path(pin::FLOWS6))
                .map_pin_path("STACK_FLOWS", pins.path(pin::STACK_FLOWS))
                .map_pin_path("STACK_FLOWS6", pins.path(pin::STACK_FLOWS6));
            for (map, name) in pin::RENEWED {
                loader.map_pin_path(map, pins.waiting(name));
            }
        }
        let mut ebpf = loader.load(OBJECT).map_err(LoadError::Load)?;
        let mut maps = Maps::take(&mut ebpf, sizing)?;
        for stage in Stage::ALL {
            let program = program(&mut ebpf, stage.program())?;
            program.load().map_err(LoadError::Program)?;
            maps.enter(*stage, program.fd().map_err(LoadError::Program)?)?;
        }
        Ok(Self {
            maps,
            ebpf,
            pins,
            pinned: Vec::new(),
        })
    }

    /// Attaches the program to an interface in native mode, unless an earlier daemon's program is there, which
    /// [`take_over`](Self::take_over) replaces. Generic mode is never used: it sees packets after the stack has built and
    /// perhaps merged them.
    pub(crate) fn attach(&mut self, interface: &str) -> Result<(), LoadError> {
        if self.inherited().is_some() {
            return Ok(());
        }
        self.attach_now(interface)
    }

    fn attach_now(&mut self, interface: &str) -> Result<(), LoadError> {
        let refused = |source| LoadError::Attach {
            interface: interface.to_owned(),
            source,
        };
        let program = program(&mut self.ebpf, PROGRAM)?;
        let link = program
            .attach(interface, XdpMode::Driver)
            .map_err(refused)?;
        if let Some(pins) = &self.pins {
            let link = program.take_link(link).map_err(refused)?;
            self.pinned.push(pins.keep(link, ifindex(interface)?)?);
        }
        Ok(())
    }

    /// When all maps are filled: makes this data plane the one that outlives the daemon, and puts its program in the
    /// place of an earlier one's.
    pub(crate) fn take_over<'a>(
        &mut self,
        interfaces: impl Iterator<Item = &'a str>,
    ) -> Result<(), LoadError> {
        let Some(pins) = &mut self.pins else {
            return Ok(());
        };
        pins.commit()?;
        // Else the links are this daemon's own already.
        let inherited = pins.inherited().is_some();
        for interface in interfaces.filter(|_| inherited) {
            let program = program(&mut self.ebpf, PROGRAM)?;
            let replaced = match &self.pins {
                Some(pins) => pins.replace(program, ifindex(interface)?)?,
                None => false,
            };
            if !replaced {
                self.attach_now(interface)?;
            }
        }
        self.pins.as_ref().map_or(Ok(()), |pins| Ok(pins.finish()?))
    }

    /// When the daemon before this one has fallen silent: looks at what it has left.
    pub(crate) fn look_again(&mut self) -> Result<(), LoadError> {
        self.pins
            .as_mut()
            .map_or(Ok(()), |pins| Ok(pins.look_again()?))
    }

    /// Puts this daemon's program back into the links, when a successor has failed that had put its own there.
    pub(crate) fn take_back<'a>(
        &mut self,
        interfaces: impl Iterator<Item = &'a str>,
    ) -> Result<(), LoadError> {
        for interface in interfaces {
            let program = program(&mut self.ebpf, PROGRAM)?;
            if let Some(pins) = &self.pins {
                pins.replace(program, ifindex(interface)?)?;
            }
        }
        Ok(())
    }

    /// What the daemon before this one left, whose flows this one has taken over.
    pub(crate) fn inherited(&self) -> Option<&Inherited> {
        self.pins.as_ref()?.inherited()
    }

    /// Fails if flows were taken over that other keys have placed.
    pub(crate) fn require_keys(&self, keys: &[u64]) -> Result<(), PinError> {
        self.pins
            .as_ref()
            .map_or(Ok(()), |pins| pins.require_keys(keys))
    }

    /// That the flows which were taken over can't be kept, and what to do about it.
    pub(crate) fn incompatible(&self, why: &(impl std::error::Error + Sync)) -> anyhow::Error {
        match &self.pins {
            Some(pins) => pins.incompatible(why.to_string()).into(),
            None => anyhow::anyhow!("{why}"),
        }
    }

    /// Starts copying the program's rare log records into `tracing`; the task ends with the runtime.
    pub(crate) fn spawn_logger(&mut self) {
        match aya_log::EbpfLogger::init(&mut self.ebpf) {
            Ok(logger) => {
                tokio::task::spawn_local(drain_log(logger));
            }
            Err(error) => tracing::warn!(%error, "the XDP program's log can't be read"),
        }
    }
}

/// Reads the log once a second. It is for rare events, so that a wake-up for each would be no gain, and
/// the 128 KiB ring holds more than a second's worth of them.
async fn drain_log(mut logger: aya_log::EbpfLogger<&'static dyn log::Log>) {
    let mut seconds = tokio::time::interval(std::time::Duration::from_secs(1));
    loop {
        seconds.tick().await;
        logger.flush();
    }
}

/// The kernel's number of an interface of this network namespace.
fn ifindex(interface: &str) -> Result<u32, LoadError> {
    lb_xsk::interface_index(interface)
        .map_err(|error| LoadError::NoInterface(interface.to_owned(), error))
}

fn program<'a>(ebpf: &'a mut aya::Ebpf, name: &'static str) -> Result<&'a mut Xdp, LoadError> {
    let program = ebpf
        .program_mut(name)
        .ok_or(MapAccessError::Missing(name))?;
    program.try_into().map_err(LoadError::Program)
}

#[cfg(test)]
mod tests {
    use super::sets_for;

    #[test]
    fn flow_table_is_at_most_half_full_and_a_power_of_two() {
        for flows in [0, 1, 3, 1000, 65_536, 1_000_000, 10_000_000] {
            let sets = sets_for(flows);
            assert!(sets.is_power_of_two(), "{flows}");
            assert!(
                u64::from(sets) * 4 >= u64::from(flows) * 4,
                "{flows} flows, {sets} sets"
            );
        }
    }
}
