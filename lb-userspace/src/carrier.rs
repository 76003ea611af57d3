//! Which transport carries an HTTP service, and the `AF_XDP` sockets that this needs.
//!
//! `AF_XDP` needs a socket on *every* rx queue of *every* interface: a packet that lands on a queue
//! without one could only be dropped. So either all are bound or none is used, and the reason is
//! kept for the log and `lb status`.

use std::net::SocketAddr;

use anyhow::Context as _;
use lb_config::{Begin, Transport};
use lb_handover::selftest::{self, SelfTest};
use lb_transport::af_xdp::{PortConfig, RxChecksums};
use lb_xsk::{Socket, SocketConfig};

use crate::dataplane::{Link, Resolver};
use crate::worker::Carrier;

/// An interface with all its `AF_XDP` sockets, queue 0 first; none if no service uses `AF_XDP`.
pub(crate) struct Port {
    /// Name.
    pub(crate) name: String,
    /// Kernel index.
    pub(crate) ifindex: u32,
    /// Receive queues.
    pub(crate) queues: u32,
    /// One for each queue, or none.
    pub(crate) sockets: Vec<Socket>,
    /// What an engine must know of the interface.
    pub(crate) config: PortConfig,
    /// Whether super-segments may leave by it.
    cuts: bool,
}

/// Whether another daemon can take the place of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Succession {
    /// Connections move to the kernel then.
    Possible,
    Impossible,
}

/// What was decided.
pub(crate) struct Decision {
    /// Interfaces in the order of the configuration.
    pub(crate) ports: Vec<Port>,
    /// One for each service; `None` for L4.
    pub(crate) carriers: Vec<Option<Chosen>>,
}

/// What was decided for one service.
pub(crate) struct Chosen {
    /// Its transport.
    pub(crate) carrier: Carrier,
    /// Why this one.
    pub(crate) why: String,
    /// Why connections stay where they are that should move to the kernel when they carry bulk; `None` if they do, or need not.
    pub(crate) stays: Option<String>,
}

impl Chosen {
    fn new(carrier: Carrier, why: impl Into<String>) -> Self {
        Self {
            carrier,
            why: why.into(),
            stays: None,
        }
    }
}

impl Decision {
    /// One for each service; `None` for L4.
    pub(crate) fn carriers(&self) -> Vec<Option<Carrier>> {
        let carriers = self.carriers.iter();
        carriers
            .map(|chosen| chosen.as_ref().map(|chosen| chosen.carrier))
            .collect()
    }
}

impl Decision {
    /// Binds the `AF_XDP` sockets again that were given up for a successor; whether there were any.
    pub(crate) fn bind_again(&mut self) -> Result<bool, lb_xsk::Error> {
        let used = |carrier| matches!(carrier, Some(Carrier::AfXdp | Carrier::Both));
        if !self.carriers().into_iter().any(used) {
            return Ok(false);
        }
        bind_all(&mut self.ports)?;
        Ok(true)
    }
}

/// Binds what the services ask for, and decides what `auto` becomes.
pub(crate) async fn decide(
    config: &lb_config::Config,
    resolver: &Resolver,
    succession: Succession,
) -> anyhow::Result<Decision> {
    let mut ports = Vec::new();
    for interface in &config.interfaces {
        ports.push(port(interface.as_str(), resolver).await?);
    }
    let wanted = transports(config).any(|transport| transport != Transport::Kernel);
    let bound = if wanted { bind_all(&mut ports) } else { Ok(()) };
    let carriers = config.services.iter().map(|service| {
        let Some(transport) = service.transport() else {
            return Ok(None);
        };
        let chosen =
            choose(transport, &bound).map(|chosen| may_move(chosen, service, &ports, succession));
        chosen.map(Some).with_context(|| {
            format!(
                "service {:?}: transport = \"af_xdp\"",
                service.name.as_str()
            )
        })
    });
    let carriers = carriers.collect::<anyhow::Result<_>>()?;
    Ok(Decision { ports, carriers })
}

fn transports(config: &lb_config::Config) -> impl Iterator<Item = Transport> {
    config
        .services
        .iter()
        .filter_map(lb_config::Service::transport)
}

fn choose(transport: Transport, bound: &Result<(), lb_xsk::Error>) -> anyhow::Result<Chosen> {
    Ok(match (transport, bound) {
        (Transport::Kernel, _) => Chosen::new(Carrier::Kernel, "as configured"),
        (Transport::AfXdp, Ok(())) => Chosen::new(Carrier::AfXdp, "as configured"),
        (Transport::AfXdp, Err(error)) => anyhow::bail!("{error}"),
        (Transport::Auto, Ok(())) => Chosen::new(
            Carrier::AfXdp,
            "auto: native XDP, and a socket on every rx queue",
        ),
        (Transport::Auto, Err(error)) => {
            Chosen::new(Carrier::Kernel, format!("auto: no AF_XDP: {error}"))
        }
    })
}

/// Lets connections of a service on `AF_XDP` move to the kernel, if they shall and this host can.
fn may_move(
    chosen: Chosen,
    service: &lb_config::Service,
    ports: &[Port],
    succession: Succession,
) -> Chosen {
    let begin = match (chosen.carrier, service.handover(), succession) {
        (Carrier::AfXdp, Some(handover), _) => handover.begin,
        // None moves until the daemon leaves.
        (Carrier::AfXdp, None, Succession::Possible) => Begin::AfXdp,
        _ => return chosen,
    };
    match (self_test(service.listen, ports), begin) {
        (Ok(()), _) => Chosen {
            carrier: Carrier::Both,
            ..chosen
        },
        // It needs no move, but packets that go astray have to be given back, which is part of the test.
        (Err(reason), Begin::Kernel) => Chosen::new(
            Carrier::Kernel,
            format!("auto: connections begin on the kernel, and none can be moved there: {reason}"),
        ),
        (Err(reason), Begin::Adaptive | Begin::AfXdp) => Chosen {
            stays: Some(reason),
            ..chosen
        },
    }
}

/// Whether connections to `listen` can move to the kernel on this host, or why not. Clients come in by the first interface.
fn self_test(listen: SocketAddr, ports: &[Port]) -> Result<(), String> {
    let front = ports.first().ok_or("there is no interface")?;
    let test = SelfTest {
        listen,
        interface_index: front.ifindex,
        interface_name: front.name.clone(),
    };
    selftest::run(&test).map_err(|reason| reason.to_string())
}

async fn port(name: &str, resolver: &Resolver) -> anyhow::Result<Port> {
    let ifindex = lb_xsk::interface_index(name)?;
    let queues = lb_xsk::queue_count(name)?;
    let Link { kind_is_veth, mtu } = resolver
        .link(ifindex)
        .await
        .with_context(|| format!("interface {name}"))?;
    // A local peer of a veth leaves checksums to hardware that isn't there; verifying them would
    // drop every segment. Frames that crossed a wire are verified.
    let rx_checksums = if kind_is_veth {
        RxChecksums::Trust
    } else {
        RxChecksums::Verify
    };
    let config = PortConfig {
        mtu: mtu as usize,
        rx_checksums,
    };
    Ok(Port {
        name: name.to_owned(),
        ifindex,
        queues,
        sockets: Vec::new(),
        config,
        cuts: may_cut(kind_is_veth, queues),
    })
}

/// Whether super-segments may leave by an interface. The packet socket that takes them leaves the choice of the tx queue to the
/// kernel, which goes by the CPU, and with many devices what arrives follows what left: a tap, behind most virtual machines'
/// cards, gives a flow's frames to the queue that its last one came out of, and so do Intel's ATR and aRFS. The client's next
/// segment would then meet another worker, which has no such connection and resets it. Of one queue there is no other, and on a
/// veth the peer chooses.
fn may_cut(kind_is_veth: bool, queues: u32) -> bool {
    kind_is_veth || queues == 1
}

fn bind_all(ports: &mut [Port]) -> Result<(), lb_xsk::Error> {
    let result = ports.iter_mut().try_for_each(|port| {
        for queue in 0..port.queues {
            port.sockets.push(Socket::bind(&SocketConfig {
                cuts: port.cuts,
                ..SocketConfig::new(port.ifindex, queue)
            })?);
        }
        Ok(())
    });
    if result.is_err() {
        // Half of the queues are worth nothing, and their sockets would keep others from binding.
        for port in ports {
            port.sockets.clear();
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn super_segments_leave_only_where_they_move_no_flow_to_another_queue() {
        let check = |kind_is_veth, queues, expected| {
            assert_eq!(may_cut(kind_is_veth, queues), expected, "{queues} queues");
        };
        check(true, 1, true);
        check(true, 4, true);
        check(false, 1, true);
        check(false, 2, false);
    }
}
