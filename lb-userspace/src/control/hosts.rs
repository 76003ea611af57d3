//! Several hosts with one configuration: that each chooses the same server for every flow, whatever happened to it before,
//! and that little moves when the servers change.
//!
//! From the text of a file to the server of a packet, by the code of the product: configuration, numbers, writes, and the
//! decision over what was written. Only the kernel is missing between the last two (`tests/tests/prog_run.rs` compares it).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use lb_ebpf::abi::{ABI_VERSION, Backend, RING_SIZE, ServiceKey, Settings};
use lb_ebpf::decide::decide_fully;
use lb_ebpf::fixtures::{HostTables, INGRESS, Segment, World, world};
use lb_ebpf::tcp::Flags;
use lb_ebpf::verdict::Verdict;

use super::reconcile::{Reconciler, Write};
use super::{Before, Controlled, InUse, Numbers};
use crate::dataplane::NextHop;
use crate::{compose, keys};

const FLOWS: u16 = 10_000;
const VIP: [u8; 4] = [192, 0, 2, 1];
const PORT: u16 = 25;

/// Weights by the last octet of the server's address, from one up.
const WEIGHTS: [u16; 10] = [1, 1, 2, 3, 5, 5, 8, 10, 15, 50];

/// The file of a host; servers in this order.
fn file(forward: &str, servers: &[u8], services_before: &str) -> String {
    let server = |&number: &u8| {
        let weight = WEIGHTS[usize::from(number) - 1];
        format!("{{ address = \"10.0.0.{number}:{PORT}\", weight = {weight} }}")
    };
    let servers: Vec<_> = servers.iter().map(server).collect();
    format!(
        "interfaces = [\"eth0\"]\n[flows]\nhash_key = \"correct horse battery staple\"\n{services_before}\n\
         [[service]]\nname = \"smtp\"\nlisten = \"192.0.2.1:{PORT}\"\nmode = \"l4\"\nforward = \"{forward}\"\n\
         servers = [{}]\nhealth = {{ kind = \"none\" }}\n",
        servers.join(", ")
    )
}

const ANOTHER: &str = "[[service]]\nname = \"imap\"\nlisten = \"192.0.2.1:143\"\nmode = \"l4\"\nforward = \"dsr\"\n\
                       servers = [\"10.0.0.3:143\", \"10.0.0.1:143\"]\nhealth = { kind = \"none\" }\n";

/// One host.
struct Host {
    services: Vec<Controlled>,
    reconciler: Reconciler,
    /// What its maps say.
    world: World,
    tick: u32,
}

impl Host {
    /// Just started: it knows the way to no server.
    fn start(text: &str) -> Self {
        let plan = compose::plan(Path::new("lb.toml"), text).unwrap();
        let services = plan.controlled(&vec![None; plan.services.len()]);
        let desired: Vec<_> = services.iter().map(|service| &service.desired).collect();
        let numbers = Numbers::assign(&Before::default(), &InUse::default(), &desired).unwrap();
        let key = plan.config.flows.hash_key.as_ref().unwrap();
        let mut host = Self {
            reconciler: Reconciler::new(numbers),
            services,
            world: World {
                settings: Settings {
                    abi_version: ABI_VERSION,
                    hash_key: keys::derived(key.as_str()),
                    flow_set_mask: 16_383,
                    ..Settings::default()
                },
                services: vec![],
                rings: vec![],
                backends: vec![],
                prefilter: vec![VIP],
                ..world()
            },
            tick: 0,
        };
        host.reconcile();
        host
    }

    /// All servers of the service in this order.
    fn learn_ways(&mut self, order: impl Iterator<Item = u8>) {
        for number in order {
            for service in 0..self.services.len() {
                self.change(service, number, |server| {
                    server.next_hop = Some(hop(number));
                });
            }
        }
    }

    /// Health of a server of the last service.
    fn set_up(&mut self, number: u8, up: bool) {
        let last = self.services.len() - 1;
        self.change(last, number, |server| server.up = up);
    }

    fn change(&mut self, service: usize, number: u8, change: impl Fn(&mut super::DesiredServer)) {
        let servers = self.services[service].desired.servers.iter_mut();
        for server in servers.filter(|server| server.address.ip() == address(number)) {
            change(server);
        }
        self.reconcile();
    }

    fn reconcile(&mut self) {
        for (position, service) in self.services.iter().enumerate() {
            let desired = &service.desired;
            for write in self.reconciler.diff(position, desired, self.tick) {
                apply(&mut self.world, &write);
            }
        }
    }

    /// The server of each of [`FLOWS`] clients' packets, on a host that has no flow yet.
    fn choose(&self, flags: Flags) -> Vec<u8> {
        let tables = HostTables::new(&self.world);
        (0..FLOWS)
            .map(|client| chosen(&tables, client, flags))
            .collect()
    }
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// Servers are on the link, and known by their hardware addresses.
fn hop(number: u8) -> NextHop {
    NextHop {
        link: 2,
        source_mac: [2, 0, 0, 0, 0, 100],
        destination_mac: [2, 0, 0, 0, 1, number],
        neighbour: address(number),
        source: Ipv4Addr::new(10, 0, 0, 100).into(),
        mtu: 1500,
    }
}

fn apply(world: &mut World, write: &Write) {
    match write {
        Write::Backend { index, backend } => {
            let index = usize::try_from(*index).unwrap();
            let length = world.backends.len().max(index + 1);
            world.backends.resize(length, Backend::default());
            world.backends[index] = *backend;
        }
        Write::Ring { first, ring } => {
            let half = *first..*first + RING_SIZE;
            world.rings.retain(|(slot, _)| !half.contains(slot));
            world.rings.extend(half.zip(ring.iter().copied()));
        }
        Write::Service {
            listen, service, ..
        } => {
            let key = ServiceKey {
                address: VIP,
                port: listen.port().to_be_bytes(),
                protocol: 6,
                zero: 0,
            };
            world.services.retain(|(known, _)| *known != key);
            world.services.push((key, *service));
        }
    }
}

fn chosen(tables: &HostTables, client: u16, flags: Flags) -> u8 {
    let [high, low] = client.to_be_bytes();
    let mut frame = Segment {
        macs: ([2, 0, 0, 0, 0, 100], [2, 0, 0, 0, 2, 1]),
        source: ([198, 51, high, low], 1024 + client % 7),
        destination: (VIP, PORT),
        flags,
        ttl: 64,
        payload: vec![],
    }
    .bytes();
    let verdict = decide_fully(&mut frame, tables, INGRESS);
    assert_eq!(verdict, Verdict::Redirect { ifindex: 2 });
    frame[5]
}

#[test]
fn hosts_choose_alike_whatever_happened_before() {
    for forward in ["dsr", "ipip", "gue"] {
        let mut first = Host::start(&file(forward, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], ""));
        first.learn_ways(1..=10);
        // The other one has more to do, its servers in another order, and a past.
        let text = file(forward, &[7, 3, 10, 1, 9, 2, 8, 4, 6, 5], ANOTHER);
        let mut second = Host::start(&text);
        second.learn_ways((1..=10).rev());
        second.tick = 3600;
        second.set_up(4, false);
        second.tick += 60;
        second.set_up(9, false);
        second.set_up(4, true);
        second.tick += 1;
        second.set_up(9, true);

        let opened = first.choose(Flags::SYN);
        assert_eq!(opened, second.choose(Flags::SYN), "{forward}");
        // A host takes over from another in mid-connection, be it long there or just started.
        assert_eq!(opened, second.choose(Flags::ACK), "{forward}");
        assert_eq!(opened, first.choose(Flags::ACK), "{forward}");
    }
}

#[test]
fn shares_follow_weights_and_little_moves_with_a_server() {
    let mut host = Host::start(&file("dsr", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], ""));
    host.learn_ways(1..=10);
    let before = host.choose(Flags::SYN);
    let mut shares = BTreeMap::new();
    for server in &before {
        *shares.entry(*server).or_insert(0.0) += 1.0;
    }
    for (number, weight) in (1..).zip(WEIGHTS) {
        let share = f64::from(weight) / f64::from(WEIGHTS.iter().sum::<u16>());
        let expected = f64::from(FLOWS) * share;
        // Four standard deviations of drawing that many clients: what a perfect ring would be off by.
        let chance = 4.0 * (expected * (1.0 - share)).sqrt();
        let found: f64 = shares[&number];
        assert!(
            (found - expected).abs() <= chance,
            "server {number}: {found}, not {expected}"
        );
    }
    for number in 1..=10 {
        host.tick += 3600;
        host.set_up(number, false);
        let after = host.choose(Flags::SYN);
        assert!(after.iter().all(|server| *server != number));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(b, a)| **b != number && b != a)
            .count();
        assert!(
            moved <= usize::from(FLOWS) / 200,
            "{moved} flows of others have moved with server {number}"
        );
        host.tick += 3600;
        host.set_up(number, true);
        assert_eq!(host.choose(Flags::SYN), before, "all come back");
    }
}
