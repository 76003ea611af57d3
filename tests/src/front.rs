//! Our TCP on the edge's front interface without `lb`: the product's XDP program and one socket per rx queue.
//!
//! For tests and benchmarks of `lb-transport` alone, which must not depend on how `lb` composes it. Called inside the
//! edge's namespace. Invariant: exactly the addresses named go to the sockets; everything else passes to the stack.

use std::{env, net::IpAddr, net::SocketAddr, os::fd::AsFd as _, path::PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, MapData, ProgramArray, XskMap},
    programs::{ProgramFd, Xdp, xdp::XdpMode},
};
use lb_ebpf::{
    abi::{
        ABI_VERSION, Interface, SERVICE_FLAG_MOVES, SERVICE_KIND_WORKER, Service, ServiceKey,
        ServiceKey6, Settings,
    },
    flow::{prefilter_bit, prefilter_bit6},
    wire::PROTOCOL_TCP,
};
use lb_xsk::{Socket, SocketConfig};

use crate::{lossy::Lossy, stages};

pub use self::steer::Steer;

mod steer;

/// The interface towards clients.
pub const FRONT: &str = "lb-front";

/// The product's program, loaded and filled; dropping it detaches it.
pub struct Front {
    ebpf: Ebpf,
    /// The kernel empties it when nobody holds it.
    _stages: ProgramArray<MapData>,
}

/// A socket on every rx queue of the front interface.
pub fn sockets() -> Result<Vec<Socket>> {
    let index = lb_xsk::interface_index(FRONT)?;
    (0..lb_xsk::queue_count(FRONT)?)
        .map(|queue| {
            Ok(Socket::bind(&SocketConfig {
                cuts: true,
                ..SocketConfig::new(index, queue)
            })?)
        })
        .collect()
}

impl Front {
    /// Loads the program and tells it to hand these addresses' packets to the sockets.
    pub fn load(addresses: &[SocketAddr], sockets: &[Socket]) -> Result<Self> {
        let object = object()?;
        let mut ebpf =
            Ebpf::load_file(&object).with_context(|| format!("loading {}", object.display()))?;
        let settings = Settings {
            abi_version: ABI_VERSION,
            ..Settings::default()
        };
        array::<Settings>(&mut ebpf, "SETTINGS")?.set(0, settings, 0)?;
        filter(&mut ebpf, addresses)?;
        for address in addresses {
            serve(&mut ebpf, *address)?;
        }
        let index = lb_xsk::interface_index(FRONT)?;
        let interface = Interface {
            xsk_base: 0,
            queues: u32::try_from(sockets.len())?,
        };
        HashMap::try_from(map(&mut ebpf, "INTERFACES")?)?.insert(index, interface, 0)?;
        let mut xsks = XskMap::try_from(map(&mut ebpf, "XSKS")?)?;
        for (slot, socket) in (0..).zip(sockets) {
            xsks.set(slot, socket.as_fd(), 0)?;
        }
        let stages = stages::enter(&mut ebpf)?;
        Ok(Self {
            ebpf,
            _stages: stages,
        })
    }

    /// The map of connections that have moved to the stack; once.
    pub fn steer(&mut self) -> Result<Steer> {
        Steer::take(&mut self.ebpf)
    }

    /// Attaches it in native mode.
    pub fn attach(&mut self) -> Result<()> {
        program(&mut self.ebpf)?
            .attach(FRONT, XdpMode::Driver)
            .with_context(|| format!("attaching to {FRONT}"))?;
        Ok(())
    }

    /// Puts a lossy wire before it, which is attached in its place.
    pub fn stand_behind(&mut self, wire: &mut Lossy) -> Result<()> {
        let next: &ProgramFd = program(&mut self.ebpf)?.fd()?;
        wire.stand_before(next)
    }
}

/// Bits of several addresses may share a word.
fn filter(ebpf: &mut Ebpf, addresses: &[SocketAddr]) -> Result<()> {
    for address in addresses {
        let (word, bit) = match address.ip() {
            IpAddr::V4(ip) => prefilter_bit(ip.octets()),
            IpAddr::V6(ip) => prefilter_bit6(ip.octets()),
        };
        let mut words = array::<u32>(ebpf, "PREFILTER")?;
        let before = words.get(&word, 0)?;
        words.set(word, before | bit, 0)?;
    }
    Ok(())
}

fn serve(ebpf: &mut Ebpf, address: SocketAddr) -> Result<()> {
    let service = Service {
        kind: SERVICE_KIND_WORKER,
        flags: SERVICE_FLAG_MOVES,
        ..Service::default()
    };
    let (port, protocol, zero) = (address.port().to_be_bytes(), PROTOCOL_TCP, 0);
    match address.ip() {
        IpAddr::V4(ip) => {
            let key = ServiceKey {
                address: ip.octets(),
                port,
                protocol,
                zero,
            };
            HashMap::try_from(map(ebpf, "SERVICES")?)?.insert(key, service, 0)?;
        }
        IpAddr::V6(ip) => {
            let key = ServiceKey6 {
                address: ip.octets(),
                port,
                protocol,
                zero,
            };
            HashMap::try_from(map(ebpf, "SERVICES6")?)?.insert(key, service, 0)?;
        }
    }
    Ok(())
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    Ok(ebpf.program_mut("lb_xdp").context("lb_xdp")?.try_into()?)
}

fn array<'a, T: Pod>(ebpf: &'a mut Ebpf, name: &str) -> Result<Array<&'a mut MapData, T>> {
    Ok(Array::try_from(map(ebpf, name)?)?)
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    ebpf.map_mut(name).with_context(|| name.to_owned())
}

fn object() -> Result<PathBuf> {
    env::var_os("LB_XDP_OBJECT").map(PathBuf::from).context(
        "LB_XDP_OBJECT is not set: run this by `cargo xtask`, or set it to the built object",
    )
}
