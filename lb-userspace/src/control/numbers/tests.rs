//! Who keeps a number, who gets a new one, and which numbers nobody gets.

use std::net::Ipv4Addr;

use lb_ebpf::abi::{Service, mapped};
use lb_ebpf::rewrite::Mode;

use super::*;
use crate::control::DesiredServer;

/// A service at 192.0.2.`address`, with servers 10.0.0.`n`, all of them at port 25.
fn service(address: u8, servers: &[u8]) -> DesiredService {
    let server = |number: &u8| DesiredServer {
        address: (Ipv4Addr::new(10, 0, 0, *number), 25).into(),
        weight: 1,
        up: true,
        next_hop: None,
    };
    DesiredService {
        listen: (Ipv4Addr::new(192, 0, 2, address), 25).into(),
        protocol: 6,
        kind: 1,
        flags: 0,
        moves: false,
        begins_on_stack: false,
        forward: Mode::Nat,
        mss: 0,
        servers: servers.iter().map(server).collect(),
    }
}

fn in_use(services: &[u16], servers: &[u32]) -> InUse {
    InUse {
        services: services.iter().copied().collect(),
        servers: servers.iter().copied().collect(),
    }
}

/// What a daemon with these services and numbers leaves in its maps.
fn left(services: &[DesiredService], numbers: &Numbers) -> Inherited {
    let mut left = Inherited {
        settings: lb_ebpf::abi::Settings::default(),
        services: Vec::new(),
        backends: Vec::new(),
        vlans: Vec::new(),
    };
    let backend = |service, address: SocketAddr| {
        let IpAddr::V4(ip) = address.ip() else {
            unreachable!("IPv4 only");
        };
        Backend {
            address: mapped(ip.octets()),
            port: address.port().to_be_bytes(),
            service,
            ..Backend::default()
        }
    };
    for (service, numbered) in services.iter().zip(&numbers.services) {
        let id = numbered.id;
        let value = Service {
            id,
            ..Service::default()
        };
        left.services
            .push((service.listen, service.protocol, value));
        let servers = numbered.servers.iter().zip(&service.servers);
        let servers = servers.map(|(&index, server)| (index, backend(id, server.address)));
        left.backends.extend(servers);
    }
    let retired = numbers.retired.iter();
    let retired = retired.map(|(&index, &(id, address))| (index, backend(id, address)));
    left.backends.extend(retired);
    left
}

/// The numbers of these services after a daemon with those, in short: `id: [servers]`.
#[track_caller]
fn check(
    before: (&[DesiredService], &Numbers),
    in_use: &InUse,
    now: &[DesiredService],
    expected: &[(u16, &[u32])],
) -> Numbers {
    let before = Before::read(&left(before.0, before.1));
    let now: Vec<_> = now.iter().collect();
    let numbers = Numbers::assign(&before, in_use, &now).unwrap();
    let found = numbers.services.iter();
    let found: Vec<_> = found
        .map(|service| (service.id, service.servers.as_slice()))
        .collect();
    assert_eq!(found, expected);
    numbers
}

fn fresh(services: &[DesiredService]) -> Numbers {
    let services: Vec<_> = services.iter().collect();
    Numbers::assign(&Before::default(), &InUse::default(), &services).unwrap()
}

#[test]
fn what_stands_before_it_in_the_file_changes_nobodys_number() {
    let old = [service(1, &[1, 2]), service(2, &[1])];
    let numbers = fresh(&old);
    // Both have a server 10.0.0.1:25, and each its own number for it.
    let now = [
        service(9, &[9]),
        service(2, &[3, 1]),
        service(1, &[2, 7, 1]),
    ];
    let expected: [(u16, &[u32]); 3] = [(2, &[3]), (1, &[4, 2]), (0, &[1, 5, 0])];
    check((&old, &numbers), &InUse::default(), &now, &expected);
}

#[test]
fn a_number_goes_to_nobody_else_while_flows_have_it() {
    let old = [service(1, &[1, 2, 3])];
    let numbers = fresh(&old);
    // Server 2 leaves with flows, server 3 without.
    let second = [service(1, &[1])];
    let flows = in_use(&[0], &[0, 1]);
    let numbers = check((&old, &numbers), &flows, &second, &[(0, &[0])]);
    let address = (Ipv4Addr::new(10, 0, 0, 2), 25).into();
    assert_eq!(numbers.retired, BTreeMap::from([(1, (0, address))]));

    // The daemon after that still knows whose it is; what nobody has any more is given away.
    let third = [service(1, &[1, 4])];
    let expected: [(u16, &[u32]); 1] = [(0, &[0, 2])];
    let numbers = check((&second, &numbers), &flows, &third, &expected);
    assert!(numbers.retired.contains_key(&1));

    // The server comes back to its own flows.
    let fourth = [service(1, &[4, 2])];
    let expected: [(u16, &[u32]); 1] = [(0, &[2, 1])];
    check((&third, &numbers), &flows, &fourth, &expected);
}

#[test]
fn a_service_that_left_keeps_its_number_from_others_until_its_flows_are_gone() {
    let old = [service(1, &[1])];
    let numbers = fresh(&old);
    let second = [service(2, &[1])];
    // Its program may open a flow while the next daemon starts.
    let numbers = check((&old, &numbers), &InUse::default(), &second, &[(1, &[1])]);
    assert_eq!(numbers.retired, BTreeMap::new());
    let third = [service(2, &[1]), service(3, &[1])];
    let expected: [(u16, &[u32]); 2] = [(1, &[1]), (2, &[2])];
    let flows = in_use(&[0], &[0]);
    check((&second, &numbers), &flows, &third, &expected);
    let expected: [(u16, &[u32]); 2] = [(1, &[1]), (0, &[0])];
    check((&second, &numbers), &InUse::default(), &third, &expected);
}

#[test]
fn numbers_that_run_out_are_refused() {
    let services = [service(1, &[1])];
    let all = in_use(&(0..256).collect::<Vec<_>>(), &[]);
    let refused = Numbers::assign(&Before::default(), &all, &[&services[0]]);
    assert_eq!(refused, Err(Exhausted("services")));
    let all = in_use(&[], &(0..BACKEND_IDS).collect::<Vec<_>>());
    let refused = Numbers::assign(&Before::default(), &all, &[&services[0]]);
    assert_eq!(refused, Err(Exhausted("servers")));
}
