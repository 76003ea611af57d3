//! The tuple that userspace notes is the one that the program looks for, and comes back as it went in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use lb_ebpf::abi::STACK_FLOW_BEGUN;
use lb_ebpf::family::{Family, V4, V6};
use lb_tcp::FlowKey;
use lb_transport::Steering as _;

use super::{StackFlow, StackFlows, Tuple, Tuples};

fn flow(remote: &str, local: &str) -> FlowKey {
    let end = |text: &str| text.parse::<SocketAddr>().expect("an address and a port");
    FlowKey {
        local: end(local),
        remote: end(remote),
    }
}

/// Ports as they stand in a segment of the client.
fn ports(remote: u16, local: u16) -> u32 {
    let ([a, b], [c, d]) = (remote.to_be_bytes(), local.to_be_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[test]
fn the_key_is_that_of_the_clients_packets() {
    let addresses = V4::join([192, 0, 2, 7], [198, 51, 100, 25]);
    let expected = V4::stack_flow_key(addresses, ports(50_000, 443));
    for remote in ["192.0.2.7:50000", "[::ffff:192.0.2.7]:50000"] {
        let Ok(Tuple::V4(key)) = Tuple::of(&flow(remote, "198.51.100.25:443")) else {
            panic!("{remote} is IPv4");
        };
        assert_eq!(key, expected);
    }
    let (client, vip) = ("[2001:db8::7]:50000", "[2001:db8:1::25]:443");
    let octets = |text: &str| match text.parse() {
        Ok(SocketAddr::V6(end)) => end.ip().octets(),
        other => panic!("{other:?}"),
    };
    let addresses = V6::join(octets(client), octets(vip));
    let expected = V6::stack_flow_key(addresses, ports(50_000, 443));
    let Ok(Tuple::V6(key)) = Tuple::of(&flow(client, vip)) else {
        panic!("{client} is IPv6");
    };
    assert_eq!(key, expected);
    let mixed = Tuple::of(&flow(client, "198.51.100.25:443")).err();
    assert_eq!(
        mixed.map(|error| error.kind()),
        Some(io::ErrorKind::InvalidInput)
    );
}

/// A map of the kernel's; `None` where we may make none.
fn map<K: Pod>() -> Option<HashMap<MapData, K, u32>> {
    match HashMap::create(16, 0) {
        Ok(map) => Some(map),
        Err(MapError::CreateError { io_error, .. })
            if io_error.kind() == io::ErrorKind::PermissionDenied =>
        {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn each_handle_sees_what_another_has_noted_and_what_the_program_has() {
    let (Some(v4), Some(v6)) = (map(), map()) else {
        return;
    };
    let flows = StackFlows {
        v4: Tuples::of(v4),
        v6: Tuples::of(v6),
        kept: Arc::default(),
    };
    let (old, new) = (
        flow("192.0.2.7:50000", "198.51.100.25:443"),
        flow("[2001:db8::7]:50000", "[2001:db8:1::25]:443"),
    );
    let begun = flow("192.0.2.7:50001", "198.51.100.25:443");
    let of_worker = flows.clone();
    of_worker.to_stack(&old).expect("noted");
    of_worker.to_stack(&new).expect("noted");
    let Ok(Tuple::V4(key)) = Tuple::of(&begun) else {
        panic!("{begun:?} is IPv4");
    };
    flows
        .v4
        .map()
        .insert(key, STACK_FLOW_BEGUN, 0)
        .expect("noted");
    assert!(flows.holds(&key));
    let known = |flows: &StackFlows| {
        let mut all = flows.all().expect("readable");
        all.sort_by_key(|flow| flow.key.remote);
        assert_eq!(flows.count().expect("readable"), all.len());
        all
    };
    let at = |key, began_there| StackFlow { key, began_there };
    let all = [at(old, false), at(begun, true), at(new, false)];
    assert_eq!(known(&flows), all);
    flows.forget(&old);
    // Once more is none too many: the map may have forgotten it by itself.
    flows.forget(&old);
    assert_eq!(known(&of_worker), [at(begun, true), at(new, false)]);
    assert!(!flows.has_kept());
    // The program found a SYN on it.
    of_worker.forget(&begun);
    assert_eq!(known(&flows), [at(begun, true), at(new, false)]);
    assert!(flows.has_kept() && !flows.has_kept());
    flows.release(&begun);
    assert_eq!(known(&flows), [at(new, false)]);
}
