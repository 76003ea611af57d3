//! Which connections live on the host's stack outlives the daemon: their sockets may be handed to the next one, and their
//! packets must find them there.

use super::{PinDirectory, start};
use aya::maps::{HashMap, Map, MapData};
use aya::programs::loaded_programs;
use lb_ebpf::abi::{STACK_FLOW_MOVED, StackFlowKey, StackFlowKey6};
use lb_tests::{address::server, witness::Witness, world::World};
use std::net::IpAddr;

const KEY: StackFlowKey = StackFlowKey {
    remote: [192, 0, 2, 1],
    local: [10, 203, 1, 100],
    remote_port: [200, 1],
    local_port: [1, 187],
};

const KEY6: StackFlowKey6 = StackFlowKey6 {
    remote: [0xfd; 16],
    local: [0xfc; 16],
    remote_port: [200, 2],
    local_port: [1, 187],
};

/// A pinned map, and its number in the kernel.
fn pinned<K: aya::Pod>(pins: &PinDirectory, name: &str) -> (u32, HashMap<MapData, K, u32>) {
    let map = MapData::from_pin(pins.0.join(name)).unwrap();
    let id = map.info().unwrap().id();
    (id, HashMap::try_from(Map::LruHashMap(map)).unwrap())
}

/// Whether a loaded program of this name uses all of these maps.
fn uses(program: &str, maps: &[u32]) -> bool {
    let mut loaded = loaded_programs().map(Result::unwrap);
    loaded.any(|info| {
        let used = info.map_ids().unwrap().unwrap_or_default();
        info.name_as_str() == Some(program) && maps.iter().all(|id| used.contains(id))
    })
}

#[test]
fn the_next_daemon_knows_which_connections_live_on_the_stack() {
    let world = World::start(1).unwrap();
    let _witness = Witness::start(1, &[IpAddr::from(server(1))]).unwrap();
    let pins = PinDirectory::new("on-the-stack");
    let mut balancer = start(&world, &[1], &pins);
    let (id, mut v4) = pinned(&pins, "stack_flows");
    let (id6, mut v6) = pinned(&pins, "stack_flows6");
    v4.insert(KEY, STACK_FLOW_MOVED, 0).unwrap();
    v6.insert(KEY6, STACK_FLOW_MOVED, 0).unwrap();
    drop((v4, v6));
    balancer.kill().unwrap();
    let _balancer = start(&world, &[1], &pins);
    // Which are of this daemon alone.
    let settings = MapData::from_pin(pins.0.join("settings")).unwrap();
    let settings = settings.info().unwrap().id();
    assert!(uses("lb_xdp_open", &[id, settings]));
    assert!(uses("lb_xdp_open6", &[id6, settings]));
    let (again, v4) = pinned(&pins, "stack_flows");
    let (again6, v6) = pinned(&pins, "stack_flows6");
    assert_eq!((again, again6), (id, id6));
    assert_eq!(v4.get(&KEY, 0).unwrap(), STACK_FLOW_MOVED);
    assert_eq!(v6.get(&KEY6, 0).unwrap(), STACK_FLOW_MOVED);
}
