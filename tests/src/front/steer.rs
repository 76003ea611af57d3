//! Maps `STACK_FLOWS` of a loaded program, as an engine sees them; tests lose an entry by it, or make one too early.

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    rc::Rc,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, Pod,
    maps::{HashMap, MapData, MapError},
};
use lb_ebpf::abi::{STACK_FLOW_MOVED, StackFlowKey, StackFlowKey6};
use lb_tcp::FlowKey;
use lb_transport::Steering;

/// Both maps. Clones are of the same ones.
#[derive(Clone)]
pub struct Steer(Rc<Maps>);

struct Maps {
    flows: RefCell<HashMap<MapData, StackFlowKey, u32>>,
    flows6: RefCell<HashMap<MapData, StackFlowKey6, u32>>,
}

/// A key of either.
enum Key {
    V4(StackFlowKey),
    V6(StackFlowKey6),
}

impl Steer {
    /// Takes them out of the loaded program.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self(Rc::new(Maps {
            flows: RefCell::new(take(ebpf, "STACK_FLOWS")?),
            flows6: RefCell::new(take(ebpf, "STACK_FLOWS6")?),
        })))
    }

    /// Whether the connection's packets go to the stack.
    pub fn has(&self, flow: &FlowKey) -> bool {
        match key(flow) {
            Key::V4(key) => self.0.flows.borrow().get(&key, 0).is_ok(),
            Key::V6(key) => self.0.flows6.borrow().get(&key, 0).is_ok(),
        }
    }
}

impl Steering for Steer {
    fn to_stack(&self, flow: &FlowKey) -> io::Result<()> {
        let done = match key(flow) {
            Key::V4(key) => self.0.flows.borrow_mut().insert(key, STACK_FLOW_MOVED, 0),
            Key::V6(key) => self.0.flows6.borrow_mut().insert(key, STACK_FLOW_MOVED, 0),
        };
        done.map_err(io::Error::other)
    }

    fn forget(&self, flow: &FlowKey) {
        let done = match key(flow) {
            Key::V4(key) => self.0.flows.borrow_mut().remove(&key),
            Key::V6(key) => self.0.flows6.borrow_mut().remove(&key),
        };
        // One that was evicted is gone already.
        let gone = matches!(
            done,
            Ok(()) | Err(MapError::KeyNotFound | MapError::SyscallError(_))
        );
        assert!(gone, "{done:?}");
    }
}

fn take<K: Pod>(ebpf: &mut Ebpf, name: &str) -> Result<HashMap<MapData, K, u32>> {
    let map = ebpf.take_map(name).with_context(|| name.to_owned())?;
    Ok(HashMap::try_from(map)?)
}

fn key(flow: &FlowKey) -> Key {
    let ports = [flow.remote, flow.local].map(|end: SocketAddr| end.port().to_be_bytes());
    let [remote_port, local_port] = ports;
    match (flow.remote.ip(), flow.local.ip()) {
        (IpAddr::V4(remote), IpAddr::V4(local)) => Key::V4(StackFlowKey {
            remote: remote.octets(),
            local: local.octets(),
            remote_port,
            local_port,
        }),
        (remote, local) => Key::V6(StackFlowKey6 {
            remote: octets(remote),
            local: octets(local),
            remote_port,
            local_port,
        }),
    }
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
