//! SMTP on layer 4, twice: the server sees the client where its address is kept, and the balancer with full NAT.

use std::net::{IpAddr, SocketAddrV4};

use anyhow::{Result, ensure};

use super::{Stage, say};
use crate::{
    address::{CLIENT, SNAT, VIP_SMTP, server},
    client::Smtp,
    world::World,
};

const KEPT: SocketAddrV4 = SocketAddrV4::new(VIP_SMTP, 25);
const TRANSLATED: SocketAddrV4 = SocketAddrV4::new(VIP_SMTP, 2525);

pub(super) fn play(stage: &mut Stage<'_>, world: &World) -> Result<()> {
    stage.step("SMTP on layer 4: packets never leave the kernel")?;
    let servers: Vec<String> = world
        .servers()
        .iter()
        .map(|known| format!("{}:25", server(known.number())))
        .collect();
    let service = |name: &str, listen, source: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\nmode = \"l4\"\nsource = \"{source}\"\n\
             servers = {servers:?}\n\
             health = {{ kind = \"tcp\", interval = \"1s\", timeout = \"1s\", rise = 1, fall = 2 }}\n"
        )
    };
    let mut balancer = world.balance(&format!(
        "[nat]\naddresses = [\"{SNAT}\"]\nports = \"1024-65535\"\n\n{}\n{}",
        service("smtp", KEPT, "client"),
        service("smtp-nat", TRANSLATED, "nat"),
    ))?;
    for (what, address, wanted) in [
        (
            "source = \"client\": the server sees the client",
            KEPT,
            CLIENT,
        ),
        (
            "source = \"nat\": the server sees the balancer",
            TRANSLATED,
            SNAT,
        ),
    ] {
        balancer.eventually("SMTP is served", || {
            Ok(Smtp::connect(CLIENT, address).is_ok())
        })?;
        let mut smtp = Smtp::connect(CLIENT, address)?;
        let peer = smtp.peer()?;
        say(&format!(
            "220 {} peer={peer}, to a client at {}",
            smtp.server().unwrap_or_default(),
            smtp.local(),
        ));
        stage.outcome(what, &peer.ip(), &IpAddr::V4(wanted));
        let back = smtp.echo(&MESSAGE)?;
        stage.outcome(
            "a message of 100,000 bytes comes back unchanged",
            &(back == MESSAGE),
            &true,
        );
    }
    let status = balancer.stop()?;
    ensure!(status.success(), "lb didn't end well: {status}");
    Ok(())
}

static MESSAGE: [u8; 100_000] = [b'm'; 100_000];
