//! Every mode of forwarding on a real kernel with real sockets: both families, TCP and UDP.
//!
//! Needs root and an `lb` with the XDP program inside (`cargo xtask test` builds it). Servers of the tunnels unwrap in
//! userspace (`tests/python/unwrap.py`), because not every kernel has `ipip` and `fou`; what they get from their kernel
//! has passed its checks, outer checksums included.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers as well"
)]

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Stdio,
};

use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use lb_tests::{
    address::{CLIENT, SNAT, VIP_SMTP, ipv6, server},
    binaries,
    lab::Process,
    witness::{self, PORT, Witness},
    world::{Balancer, World},
};

const SERVERS: u8 = 2;

/// A family, as a configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(self, address: std::net::Ipv4Addr) -> IpAddr {
        match self {
            Self::V4 => address.into(),
            Self::V6 => ipv6(address).into(),
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }

    fn service(self) -> SocketAddr {
        SocketAddr::new(self.of(VIP_SMTP), PORT)
    }
}

/// A mode of forwarding, as a configuration asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forward {
    Nat,
    SourceKept,
    Dsr,
    Ipip,
    Gue,
}

impl Forward {
    /// The lines of a service, and what else the file needs.
    fn keys(self, family: Family) -> (&'static str, String) {
        match self {
            Self::Nat => (
                "source = \"nat\"",
                format!(
                    "[nat]\naddresses = [\"{}\"]\nports = \"1024-65535\"\n",
                    family.of(SNAT)
                ),
            ),
            Self::SourceKept => ("source = \"client\"", String::new()),
            Self::Dsr => ("forward = \"dsr\"", String::new()),
            Self::Ipip => ("forward = \"ipip\"", String::new()),
            Self::Gue => ("forward = \"gue\"", String::new()),
        }
    }

    /// What unwraps it, if it is a tunnel.
    fn tunnel(self) -> Option<&'static str> {
        match self {
            Self::Ipip => Some("ipip"),
            Self::Gue => Some("gue"),
            Self::Nat | Self::SourceKept | Self::Dsr => None,
        }
    }
}

/// A lab whose servers are witnesses, and `lb` in front of them.
struct Stage {
    family: Family,
    // Dropped in this order: what has sockets in the network before the network.
    _witnesses: Vec<Witness>,
    _unwrappers: Vec<Process>,
    _client_program: Ebpf,
    balancer: Balancer,
    world: World,
}

impl Stage {
    fn new(family: Family, forward: Forward) -> Self {
        let world = World::start(SERVERS).unwrap();
        if family == Family::V6 {
            world.lab().speak_ipv6().unwrap();
        }
        let mut unwrappers = vec![];
        for number in 1..=SERVERS {
            if !matches!(forward, Forward::Nat | Forward::SourceKept) {
                let address = family.service().ip();
                world.lab().own_virtual_address(number, address).unwrap();
            }
            if let Some(tunnel) = forward.tunnel() {
                unwrappers.push(unwrapper(&world, number, tunnel, family));
            }
        }
        let witnesses = (1..=SERVERS).map(|number| {
            let mut addresses = vec![family.of(server(number))];
            if !matches!(forward, Forward::Nat | Forward::SourceKept) {
                addresses.push(family.service().ip());
            }
            Witness::start(number, &addresses).unwrap()
        });
        let witnesses = witnesses.collect();
        let balancer = world.balance(&configuration(family, forward)).unwrap();
        let mut stage = Self {
            family,
            _witnesses: witnesses,
            _unwrappers: unwrappers,
            _client_program: client_program(&world),
            balancer,
            world,
        };
        let service = family.service();
        stage
            .balancer
            .eventually("the service is served", || {
                Ok(witness::ask(service, b"hello").is_ok())
            })
            .unwrap();
        stage
    }

    /// Connections and datagrams from many ports: they arrive whole, from the address that servers shall see, at all
    /// servers.
    fn check(&self, peer: IpAddr) {
        let service = self.family.service();
        let data: Vec<u8> = (0..100_003_u32).map(|place| (place % 251) as u8).collect();
        let mut servers = BTreeSet::new();
        for _ in 0..12 {
            let seen = witness::ask(service, &data).unwrap();
            assert_eq!((seen.bytes, seen.sum), (data.len(), witness::sum(&data)));
            assert_eq!(seen.peer.ip(), peer);
            servers.insert(seen.server);
        }
        assert_eq!(servers.len(), usize::from(SERVERS), "TCP to all servers");
        servers.clear();
        for _ in 0..12 {
            let socket = witness::datagram_socket(service).unwrap();
            let mut of_flow = BTreeSet::new();
            for length in [0, 1, 700, 1400] {
                let seen = witness::ask_datagram(&socket, service, &data[..length]).unwrap();
                assert_eq!(seen.peer.ip(), peer);
                of_flow.insert(seen.server);
            }
            assert_eq!(of_flow.len(), 1, "a flow stays at its server");
            servers.extend(of_flow);
        }
        assert_eq!(servers.len(), usize::from(SERVERS), "UDP to all servers");
    }

    /// Packets that had the named reason.
    fn counter(&self, reason: &str) -> u64 {
        let output = self
            .world
            .lab()
            .edge()
            .command(binaries::lb().unwrap())
            .args(["status", "--json", "--admin"])
            .arg(self.balancer.admin())
            .output()
            .unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let reasons = status["reasons"].as_array().unwrap();
        let found = reasons.iter().find(|one| one["reason"] == reason);
        // Reasons never given are left out.
        found.map_or(0, |one| one["packets"].as_u64().unwrap())
    }
}

fn configuration(family: Family, forward: Forward) -> String {
    let servers: Vec<_> = (1..=SERVERS)
        .map(|number| SocketAddr::new(family.of(server(number)), PORT).to_string())
        .collect();
    let (keys, mut text) = forward.keys(family);
    for protocol in ["tcp", "udp"] {
        let service = format!(
            "\n[[service]]\nname = \"{protocol}\"\nlisten = \"{}\"\nmode = \"l4\"\nprotocol = \"{protocol}\"\n\
             {keys}\nservers = {servers:?}\nhealth = {{ kind = \"none\" }}\n",
            family.service()
        );
        text.push_str(&service);
    }
    text
}

/// A program that passes everything, on the client's interface: veth throws away what its peer sends by `XDP_TX` (here,
/// error messages) unless it has one, where a network card just sends.
fn client_program(world: &World) -> Ebpf {
    let object = std::env::var_os("LB_XDP_OBJECT").unwrap();
    let object = Path::new(&object).with_file_name("lb-bench-xdp");
    let mut ebpf = Ebpf::load_file(object).unwrap();
    let program: &mut Xdp = ebpf.program_mut("nothing").unwrap().try_into().unwrap();
    program.load().unwrap();
    let attached = world
        .lab()
        .client()
        .run(|| program.attach("lb-eth0", XdpMode::Driver).map(drop));
    attached.unwrap().unwrap();
    ebpf
}

fn unwrapper(world: &World, number: u8, mode: &str, family: Family) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/unwrap.py");
    let python = binaries::python().unwrap();
    let mut process = world
        .lab()
        .pool(number)
        .spawn(python, |command| {
            command
                .arg(script)
                .args([mode, family.version()])
                .stdout(Stdio::piped());
        })
        .unwrap();
    process.wait_for_line("ready").unwrap();
    process
}

#[test]
fn full_nat() {
    for family in [Family::V4, Family::V6] {
        Stage::new(family, Forward::Nat).check(family.of(SNAT));
    }
}

#[test]
fn nat_with_the_source_kept() {
    for family in [Family::V4, Family::V6] {
        Stage::new(family, Forward::SourceKept).check(family.of(CLIENT));
    }
}

#[test]
fn direct_server_return() {
    for family in [Family::V4, Family::V6] {
        Stage::new(family, Forward::Dsr).check(family.of(CLIENT));
    }
}

/// A client that sends full frames learns by the error message that less fits, and its data arrive.
#[test]
fn ip_in_ip() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::new(family, Forward::Ipip);
        stage.check(family.of(CLIENT));
        assert!(stage.counter("too_big") > 0, "{family:?}");
    }
}

#[test]
fn generic_udp_encapsulation() {
    for family in [Family::V4, Family::V6] {
        let stage = Stage::new(family, Forward::Gue);
        stage.check(family.of(CLIENT));
        assert!(stage.counter("too_big") > 0, "{family:?}");
    }
}
