//! A client's port that is used again while the map still has the connection before for one that has moved.

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use lb_ebpf::abi::{STACK_FLOW_BEGUN, STACK_FLOW_MOVED, StackFlowKey};
use lb_tests::{
    address::{CLIENT, VIP_HTTP},
    client::Connection,
};

use super::{BIG, HTTP, SMALL, fetch, places, start, world};

/// Used again.
const PORT: u16 = 4300;

/// Used once, and after it: engines forget in order, so when none of these is known any more, [`PORT`] has had its turn. There are many because
/// each of two workers must have one.
const LATER: [u16; 16] = [
    4301, 4302, 4303, 4304, 4305, 4306, 4307, 4308, 4309, 4310, 4311, 4312, 4313, 4314, 4315, 4316,
];

#[test]
fn the_next_connection_keeps_its_tuple_until_it_ends() {
    let world = world();
    let mut balancer = start(&world, "handover = { begin = \"af_xdp\" }\n");
    let flows = StackFlows::of_the_newest();
    move_and_end(PORT);
    assert_eq!(flows.get(PORT), Some(STACK_FLOW_MOVED));
    let mut next = Connection::open_from(PORT, HTTP).unwrap();
    fetch(&mut next, SMALL);
    assert_eq!(places(balancer.admin(), "plain"), ["kernel"]);
    assert_eq!(flows.get(PORT), Some(STACK_FLOW_BEGUN));
    LATER.into_iter().for_each(move_and_end);
    balancer
        .eventually("what has moved and ended is forgotten", || {
            Ok(LATER.iter().all(|port| flows.get(*port).is_none()))
        })
        .unwrap();
    assert_eq!(flows.get(PORT), Some(STACK_FLOW_BEGUN));
    fetch(&mut next, SMALL);
    drop(next);
    // Nobody is told of its end, but it is looked for.
    balancer
        .eventually("the tuple is free", || Ok(flows.get(PORT).is_none()))
        .unwrap();
}

/// The daemon closes first, so that the client's port is free at once.
fn move_and_end(port: u16) {
    let mut connection = Connection::open_from(port, HTTP).unwrap();
    connection.get(BIG, &["Connection: close"]).unwrap();
    connection.until_closed().unwrap();
}

/// Map `STACK_FLOWS` of the running daemon.
struct StackFlows(HashMap<MapData, StackFlowKey, u32>);

impl StackFlows {
    fn of_the_newest() -> Self {
        let maps = loaded_maps().map(Result::unwrap);
        let maps = maps.filter(|map| map.name_as_str() == Some("STACK_FLOWS"));
        let newest = maps.map(|map| map.id()).max().unwrap();
        let map = Map::LruHashMap(MapData::from_id(newest).unwrap());
        Self(map.try_into().unwrap())
    }

    /// What is noted of the connection from this port of the client.
    fn get(&self, port: u16) -> Option<u32> {
        let key = StackFlowKey {
            remote: CLIENT.octets(),
            local: VIP_HTTP.octets(),
            remote_port: port.to_be_bytes(),
            local_port: HTTP.port().to_be_bytes(),
        };
        self.0.get(&key, 0).ok()
    }
}
