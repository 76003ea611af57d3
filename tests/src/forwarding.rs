//! A lab with `lb` in front of witnesses, in any mode of forwarding and either family.
//!
//! Servers of the tunnels unwrap in userspace (`python/unwrap.py`), because not every kernel has `ipip` and `fou`; what they
//! get from their kernel has passed its checks, outer checksums included.
//! Invariant: dropping a stage ends what has sockets in the network before the network.
//! Used by `tests/modes.rs` and `tests/manners`.

use std::{
    env,
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};

use crate::{
    address::{CLIENT, SNAT, VIP_SMTP, ipv6, server},
    binaries,
    lab::Process,
    witness::{self, PORT, Witness},
    world::{Balancer, World},
};

/// A family, as a configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The address of this family beside an IPv4 one.
    pub fn of(self, address: Ipv4Addr) -> IpAddr {
        match self {
            Self::V4 => address.into(),
            Self::V6 => ipv6(address).into(),
        }
    }

    /// As programs number it.
    pub fn version(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }

    /// Where the services of [`configuration`] listen.
    pub fn service(self) -> SocketAddr {
        SocketAddr::new(self.of(VIP_SMTP), PORT)
    }
}

/// A mode of forwarding, as a configuration asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Full NAT.
    Nat,
    /// NAT of the destination only.
    SourceKept,
    /// Direct server return.
    Dsr,
    /// A tunnel of IP headers.
    Ipip,
    /// A tunnel of UDP headers.
    Gue,
}

impl Forward {
    /// All modes.
    pub const ALL: [Self; 5] = [
        Self::Nat,
        Self::SourceKept,
        Self::Dsr,
        Self::Ipip,
        Self::Gue,
    ];

    /// The lines of a service, and what else the file needs.
    fn keys(self, family: Family) -> (&'static str, String) {
        match self {
            Self::Nat => ("source = \"nat\"", nat(family, 1024, 65535)),
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

    /// Whether the server answers its client itself.
    fn is_one_way(self) -> bool {
        !matches!(self, Self::Nat | Self::SourceKept)
    }
}

/// The section of source addresses, one with these ports.
pub fn nat(family: Family, first: u16, last: u16) -> String {
    let address = family.of(SNAT);
    format!("[nat]\naddresses = [\"{address}\"]\nports = \"{first}-{last}\"\n")
}

/// A service for TCP and one for UDP at [`Family::service`], of servers that are witnesses.
pub fn configuration(family: Family, forward: Forward, servers: u8) -> String {
    let (keys, mut text) = forward.keys(family);
    for protocol in ["tcp", "udp"] {
        text.push_str(&service(
            protocol,
            protocol,
            family.service(),
            keys,
            (family, servers),
        ));
    }
    text
}

/// A service whose servers, so many of this family, have the port that it has itself.
pub fn service(
    name: &str,
    protocol: &str,
    listen: SocketAddr,
    keys: &str,
    (family, servers): (Family, u8),
) -> String {
    let servers: Vec<_> = (1..=servers)
        .map(|number| SocketAddr::new(family.of(server(number)), listen.port()).to_string())
        .collect();
    let mut text = String::new();
    let _ = write!(
        text,
        "\n[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\nmode = \"l4\"\nprotocol = \"{protocol}\"\n\
         {keys}\nservers = {servers:?}\nhealth = {{ kind = \"none\" }}\n"
    );
    text
}

/// What frames look like on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Without tags.
    Plain,
    /// One tag on the client's side, two on the pool's.
    Tagged,
}

/// A lab whose servers are witnesses, and `lb` in front of them.
#[derive(Debug)]
pub struct Stage {
    family: Family,
    // Dropped in this order: what has sockets in the network before the network.
    _witnesses: Vec<Witness>,
    _unwrappers: Vec<Process>,
    _client_program: Ebpf,
    balancer: Balancer,
    world: World,
}

impl Stage {
    /// With the services of [`configuration`], which are served.
    pub fn start(family: Family, forward: Forward, servers: u8) -> Result<Self> {
        Self::start_on(Links::Plain, family, forward, servers)
    }

    /// As [`start`](Self::start), on links of a kind.
    pub fn start_on(links: Links, family: Family, forward: Forward, servers: u8) -> Result<Self> {
        let text = configuration(family, forward, servers);
        let mut stage = Self::build(links, family, forward, servers, &text)?;
        stage.until_served()?;
        Ok(stage)
    }

    /// Waits until the services of [`configuration`] are served, and with them all others.
    pub fn until_served(&mut self) -> Result<()> {
        let service = self.family.service();
        self.balancer.eventually("the service is served", || {
            Ok(witness::ask(service, b"hello").is_ok())
        })
    }

    /// With other services, for which the caller waits.
    pub fn with(
        family: Family,
        forward: Forward,
        servers: u8,
        configuration: &str,
    ) -> Result<Self> {
        Self::build(Links::Plain, family, forward, servers, configuration)
    }

    fn build(
        links: Links,
        family: Family,
        forward: Forward,
        servers: u8,
        configuration: &str,
    ) -> Result<Self> {
        let world = World::start(servers)?;
        if family == Family::V6 {
            world.lab().speak_ipv6()?;
        }
        if links == Links::Tagged {
            world.lab().enter_vlans(family == Family::V6)?;
        }
        let (mut unwrappers, mut witnesses) = (vec![], vec![]);
        for number in 1..=servers {
            let mut addresses = vec![family.of(server(number))];
            if forward.is_one_way() {
                let address = family.service().ip();
                world.lab().own_virtual_address(number, address)?;
                addresses.push(address);
            }
            if let Some(tunnel) = forward.tunnel() {
                unwrappers.push(unwrapper(&world, number, tunnel, family)?);
            }
            witnesses.push(Witness::start(number, &addresses)?);
        }
        Ok(Self {
            family,
            _witnesses: witnesses,
            _unwrappers: unwrappers,
            _client_program: client_program(&world)?,
            balancer: world.balance(configuration)?,
            world,
        })
    }

    /// The family of its services.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The lab.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The load balancer.
    pub fn balancer(&mut self) -> &mut Balancer {
        &mut self.balancer
    }

    /// Packets that had the named reason.
    pub fn counter(&self, reason: &str) -> Result<u64> {
        self.balancer.packets(reason)
    }
}

/// Connections and datagrams from a client behind one tag to servers behind two, and back; fails if anything arrives that
/// was not sent, or from anyone else. The kernel must have VLAN devices.
pub fn through_vlans(family: Family, forward: Forward) -> Result<()> {
    let data: Vec<u8> = (0..=250).cycle().take(100_003).collect();
    let stage = Stage::start_on(Links::Tagged, family, forward, 2)?;
    let peer = match forward {
        Forward::Nat => family.of(SNAT),
        _ => family.of(CLIENT),
    };
    let service = family.service();
    for _ in 0..4 {
        let seen = witness::ask(service, &data)?;
        let arrived = (seen.bytes, seen.sum, seen.peer.ip());
        let sent = (data.len(), witness::sum(&data), peer);
        ensure!(arrived == sent, "{arrived:?} arrived of {sent:?}");
        let socket = witness::datagram_socket(service)?;
        let seen = witness::ask_datagram(&socket, service, &data[..1000])?;
        ensure!(seen.peer.ip() == peer, "a datagram of {}", seen.peer);
    }
    let forwarded = stage.counter("forwarded")?;
    ensure!(
        forwarded > 100,
        "only {forwarded} packets went through the program"
    );
    Ok(())
}

/// A program that passes everything, on the client's interface: veth throws away what its peer sends by `XDP_TX` (here,
/// error messages) unless it has one, where a network card just sends.
fn client_program(world: &World) -> Result<Ebpf> {
    let object = env::var_os("LB_XDP_OBJECT").context("LB_XDP_OBJECT is not set")?;
    let object = Path::new(&object).with_file_name("lb-bench-xdp");
    let mut ebpf = Ebpf::load_file(object)?;
    let program: &mut Xdp = ebpf.program_mut("nothing").context("nothing")?.try_into()?;
    program.load()?;
    let client = world.lab().client();
    client.run(|| program.attach("lb-eth0", XdpMode::Driver).map(drop))??;
    Ok(ebpf)
}

fn unwrapper(world: &World, number: u8, mode: &str, family: Family) -> Result<Process> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/unwrap.py");
    let python = binaries::python()?;
    let mut process = world.lab().pool(number).spawn(python, |command| {
        command
            .arg(script)
            .args([mode, family.version()])
            .stdout(Stdio::piped());
    })?;
    process.wait_for_line("ready")?;
    Ok(process)
}
