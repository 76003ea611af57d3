//! The host's VLAN devices: which of the kernel's links carry which tags on which interface.
//!
//! The kernel stays the owner of VLANs, as of routes: who makes a VLAN device has a VLAN here, and the program knows by
//! its tags which device a frame is of, or must look as if it came from. Called by the control loop only.

use std::collections::HashMap;

use futures_util::TryStreamExt as _;
use lb_ebpf::abi::Vlan;
use lb_ebpf::layout::MAX_TAGS;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo, LinkMessage, VlanProtocol,
};

use super::Resolver;

/// A VLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VlanDevice {
    /// Its kernel index.
    pub(crate) ifindex: u32,
    /// What its frames look like.
    pub(crate) vlan: Vlan,
}

impl Resolver {
    /// All VLAN devices of at most [`MAX_TAGS`] tags.
    pub(crate) async fn vlans(&self) -> Result<Vec<VlanDevice>, rtnetlink::Error> {
        let links: Vec<_> = self.handle.link().get().execute().try_collect().await?;
        let layers: HashMap<u32, Layer> = links
            .iter()
            .filter_map(|link| Some((link.header.index, Layer::of(link)?)))
            .collect();
        let devices = layers.keys().filter_map(|&ifindex| {
            Some(VlanDevice {
                ifindex,
                vlan: stack(&layers, ifindex)?,
            })
        });
        let mut devices: Vec<_> = devices.collect();
        devices.sort_by_key(|device| device.ifindex);
        Ok(devices)
    }
}

/// One VLAN device on another link.
#[derive(Clone, Copy, Debug)]
struct Layer {
    parent: u32,
    /// As it stands in a frame.
    tag: [u8; 4],
}

impl Layer {
    fn of(link: &LinkMessage) -> Option<Self> {
        let mut parent = None;
        let mut tag = None;
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Link(index) => parent = Some(*index),
                LinkAttribute::LinkInfo(infos)
                    if infos.contains(&LinkInfo::Kind(InfoKind::Vlan)) =>
                {
                    tag = infos.iter().find_map(tag_of);
                }
                _ => {}
            }
        }
        Some(Self {
            parent: parent?,
            tag: tag?,
        })
    }
}

fn tag_of(info: &LinkInfo) -> Option<[u8; 4]> {
    let LinkInfo::Data(InfoData::Vlan(attributes)) = info else {
        return None;
    };
    let id = attributes.iter().find_map(|attribute| match attribute {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })?;
    let is_service = attributes
        .iter()
        .any(|attribute| matches!(attribute, InfoVlan::Protocol(VlanProtocol::Ieee8021Ad)));
    let [kind_high, kind_low] = if is_service {
        lb_ebpf::wire::ETHERTYPE_QINQ
    } else {
        lb_ebpf::wire::ETHERTYPE_VLAN
    };
    let [high, low] = id.to_be_bytes();
    Some([kind_high, kind_low, high, low])
}

/// What frames of a device look like: its own tag is the innermost. `None` if there are too many.
fn stack(layers: &HashMap<u32, Layer>, device: u32) -> Option<Vlan> {
    let mut ifindex = device;
    let mut bytes = Vec::new();
    while let Some(layer) = layers.get(&ifindex) {
        if bytes.len() / 4 == MAX_TAGS {
            return None;
        }
        bytes.splice(0..0, layer.tag);
        ifindex = layer.parent;
    }
    let count = u32::try_from(bytes.len() / 4).ok()?;
    bytes.resize(8, 0);
    Some(Vlan {
        ifindex,
        count,
        tags: u64::from_le_bytes(bytes.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::{Layer, stack};
    use std::collections::HashMap;

    const OUTER: [u8; 4] = [0x88, 0xa8, 0, 40];
    const INNER: [u8; 4] = [0x81, 0, 0, 30];

    fn layers() -> HashMap<u32, Layer> {
        let layer = |parent, tag| Layer { parent, tag };
        HashMap::from([
            (10, layer(2, OUTER)),
            (11, layer(10, INNER)),
            (12, layer(11, INNER)),
        ])
    }

    #[test]
    fn tags_are_those_of_the_devices_below() {
        let one = stack(&layers(), 10).unwrap();
        assert_eq!((one.ifindex, one.count), (2, 1));
        assert_eq!(one.tags.to_le_bytes(), [0x88, 0xa8, 0, 40, 0, 0, 0, 0]);
        let two = stack(&layers(), 11).unwrap();
        assert_eq!((two.ifindex, two.count), (2, 2));
        assert_eq!(two.tags.to_le_bytes(), [0x88, 0xa8, 0, 40, 0x81, 0, 0, 30]);
    }

    #[test]
    fn three_tags_are_too_many() {
        assert_eq!(stack(&layers(), 12), None);
    }
}
