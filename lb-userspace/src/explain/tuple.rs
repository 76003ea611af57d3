//! Source and destination of a frame, whatever stands before its headers, and the flow that they lead to.
//!
//! For showing, so that it says something of frames too which the packet path does not look into. Not here: what becomes
//! of a packet.

use std::net::SocketAddr;

use lb_ebpf::decide::{Shared as _, Tables, locate_ipv4, locate_ipv6};
use lb_ebpf::family::{V4, V6};
use lb_ebpf::flow::{Key, Table};
use lb_ebpf::layout::Layout;
use lb_ebpf::wire::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Eth, Ethertype, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Tag, Udp,
};

use crate::dataplane::Trial;
use crate::flows::{Addressed, tuple};

/// The tuple of a frame; ports are zero where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tuple {
    V4(Key<V4>),
    V6(Key<V6>),
}

impl Tuple {
    /// Of a frame with an IP header, behind tags or not; of a tunnel, of the outer header.
    pub(super) fn of(frame: &impl Packet) -> Option<Self> {
        for network in (Eth::LEN..).step_by(Tag::LEN).take(3) {
            let Ethertype(ethertype) = frame.header(network - size_of::<Ethertype>())?;
            match *ethertype {
                ETHERTYPE_IPV4 => {
                    return key(frame, network, locate_ipv4(frame).ok()).map(Self::V4);
                }
                ETHERTYPE_IPV6 => {
                    return key(frame, network, locate_ipv6(frame).ok()).map(Self::V6);
                }
                _ => {}
            }
        }
        None
    }

    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        match self {
            Self::V4(key) => tuple(key),
            Self::V6(key) => tuple(key),
        }
    }

    /// Service and server of the flow that it is of, by number.
    pub(super) fn server(&self, trial: &Trial<'_>) -> Option<(u8, u16)> {
        match self {
            Self::V4(key) => server(trial, key),
            Self::V6(key) => server(trial, key),
        }
    }
}

fn key<F: Addressed>(
    frame: &impl Packet,
    network: usize,
    layout: Option<Layout>,
) -> Option<Key<F>> {
    let ip = frame.header::<F::Header>(network)?;
    // The same place in both protocols.
    let ports = layout
        .filter(Layout::has_transport)
        .filter(|layout| matches!(layout.protocol, PROTOCOL_TCP | PROTOCOL_UDP))
        .and_then(|layout| frame.header::<Udp>(layout.transport))
        .map_or([0; 4], |header| header.ports);
    Some(Key {
        addresses: F::addresses(ip),
        ports: u32::from_ne_bytes(ports),
        protocol: layout.map_or(F::protocol(ip), |layout| layout.protocol),
    })
}

fn server<F: Addressed>(trial: &Trial<'_>, key: &Key<F>) -> Option<(u8, u16)>
where
    for<'a> Trial<'a>: Tables<F>,
{
    let found = Table::new(trial, trial.settings()?).find(key)?;
    let flow = found.entry.snapshot()?;
    Some((flow.service, flow.backend))
}

#[cfg(test)]
mod tests {
    use super::Tuple;

    /// A SYN from 10.0.0.1:4096 to 10.0.0.2:25, with `options` in its IPv4 header, behind `tags`.
    fn frame(tags: &[[u8; 4]], options: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(tags.concat());
        frame.extend([8, 0]);
        let words = u8::try_from(5 + options.len() / 4).unwrap();
        let length = u8::try_from(40 + options.len()).unwrap();
        frame.extend([0x40 | words, 0, 0, length, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend(options);
        frame.extend([
            0x10, 0, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
        ]);
        frame
    }

    #[test]
    fn tags_and_options_are_looked_behind() {
        let expected = (
            "10.0.0.1:4096".parse().unwrap(),
            "10.0.0.2:25".parse().unwrap(),
        );
        let (outer, inner) = ([0x88, 0xa8, 0, 40], [0x81, 0, 0, 20]);
        for tags in [&[][..], &[inner], &[outer, inner]] {
            for options in [&[][..], &[1, 1, 1, 0]] {
                let tuple = Tuple::of(&frame(tags, options)).unwrap();
                assert_eq!(tuple.ends(), expected, "{tags:?} {options:?}");
            }
        }
        assert_eq!(Tuple::of(&vec![0; 60]), None);
    }
}
